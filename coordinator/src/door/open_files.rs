//! How many files and connections the system lets this program have open at once.

use super::listen::CONNECTIONS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the coordinator opens itself: the store, what it dials, its libraries.
const OWN_FILES: u64 = 808;
/// Both ports full, and its own files. With fewer, `accept` fails before the ports are full.
const OPEN_FILES_MIN: u64 = 2 * CONNECTIONS_MAX as u64 + OWN_FILES;

/// Raises this process' soft limit of open files to the hard one, as any process may, and logs what it is then. Many systems set the soft
/// one to 1,024 for the sake of programs that use `select`; nothing here does.
///
/// A refusal is logged, and nothing else: a sandbox may forbid the call, and what it set is what it wants.
pub fn raise_open_files() {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before != wanted
        && let Err(e) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!("the soft limit of open files cannot be raised: {e}");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    tracing::info!(open_files_max = limit, "limit of open files");
    if limit < OPEN_FILES_MIN {
        tracing::warn!(
            "no more than {limit} files and connections may be open at once; with both ports full {OPEN_FILES_MIN} are needed. \
             Raise the hard limit: LimitNOFILE of the unit, or the limit of the container"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let lower = before.maximum.unwrap_or(4_096).min(4_096);
        setrlimit(Resource::Nofile, Rlimit { current: Some(lower), maximum: before.maximum }).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
