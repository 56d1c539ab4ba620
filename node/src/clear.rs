//! Deletes or moves files of the source that are loaded, one page of them. Only below allowed roots, and only what is still the
//! version that was loaded: anything else is left where it is.
//!
//! A page may be done again, after a crash or by another node: what is gone is done.

use crate::read::{Folder, ReadError, Roots, version_of};
use ferry_common::{
    failure::{Code, Failure, Fault, Retry},
    unit::{ClearWork, FileEnd, FileVersion},
};
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Tries at a file whose failure may pass.
const TRIES_MAX: u32 = 3;
/// Wait before files that failed are tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Files of one name that a folder may have: `a.csv`, `a-1.csv`, and so on.
const SUFFIX_MAX: u32 = 1_000;
/// Ends of names that stand after the one that says what the file is.
const PACKINGS: [&str; 11] = ["gz", "gzip", "bz2", "zst", "zstd", "xz", "lz4", "sz", "snappy", "deflate", "z"];

/// What became of each file, in order; `None` if it was stopped. Runs on the calling thread.
pub(crate) fn clear(
    work: &ClearWork,
    roots: &Roots,
    stop: &CancellationToken,
) -> Result<Option<Vec<FileEnd>>, Failure> {
    // On a node that does not see the source each file would be gone.
    let Some(source) = fs::canonicalize(&work.folder_path).ok().filter(|real| real.is_dir()) else {
        let message = format!("source.folderPath {} does not exist on this node", work.folder_path);
        return Err(Failure::new(Code::FolderMissing, Fault::Source, Retry::Backoff, message));
    };
    let target = work.move_to.as_deref().map(|folder| Target::new(folder, &work.folder_path, source));
    let mut ends: Vec<Result<FileEnd, Stuck>> = Vec::with_capacity(work.files.len());
    for file in &work.files {
        if stop.is_cancelled() {
            return Ok(None);
        }
        ends.push(end_of(file, target.as_ref(), roots));
    }
    for _ in 1..TRIES_MAX {
        if !ends.iter().any(|end| matches!(end, Err(Stuck { may_pass: true, .. }))) {
            break;
        }
        std::thread::sleep(RETRY_WAIT);
        for (file, end) in work.files.iter().zip(&mut ends) {
            if stop.is_cancelled() {
                return Ok(None);
            }
            if matches!(end, Err(Stuck { may_pass: true, .. })) {
                *end = end_of(file, target.as_ref(), roots);
            }
        }
    }
    Ok(Some(ends.into_iter().map(|end| end.unwrap_or_else(|stuck| FileEnd::Failed(stuck.why))).collect()))
}

/// Why a file stays where it is.
#[derive(Debug)]
struct Stuck {
    why: String,
    /// Another try may help.
    may_pass: bool,
}

impl Stuck {
    fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: false }
    }

    fn of(what: &str, error: &io::Error) -> Self {
        let may_pass = !matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::CrossesDevices
        );
        Self { why: format!("{what}: {error}"), may_pass }
    }
}

impl From<ReadError> for Stuck {
    fn from(error: ReadError) -> Self {
        let may_pass = matches!(error, ReadError::Io { .. });
        Self { why: ferry_common::failure::with_causes(&error), may_pass }
    }
}

/// Where files are moved to.
struct Target<'w> {
    folder: &'w str,
    /// Nothing is moved below this: the next run would load it again. `None` where the activity itself names a folder there,
    /// which it does not read.
    source: Option<PathBuf>,
}

impl<'w> Target<'w> {
    /// `source`: the source's folder, links followed.
    fn new(folder: &'w str, folder_path: &str, source: PathBuf) -> Self {
        let is_named = Path::new(folder).starts_with(folder_path);
        Self { folder, source: (!is_named).then_some(source) }
    }

    /// A folder of it, which must lie below an allowed root. Made if it is not there.
    fn open(&self, folder: &Path, roots: &Roots) -> Result<Folder, Stuck> {
        let Some(text) = folder.to_str() else {
            return Err(Stuck::for_good("the folder to move to is not valid UTF-8"));
        };
        match roots.open_folder(text) {
            Err(ReadError::Missing { .. }) => {}
            other => return Ok(other?),
        }
        // What is there of it must lie inside, and not in the source, links followed, before more is made there.
        let there = folder.ancestors().find(|part| fs::symlink_metadata(part).is_ok()).and_then(Path::to_str);
        let real = roots.resolve(there.unwrap_or("/"))?;
        if self.is_in_source(&real) {
            return Err(self.leads_back());
        }
        fs::create_dir_all(folder).map_err(|e| Stuck::of("the folder to move to cannot be made", &e))?;
        Ok(roots.open_folder(text)?)
    }

    fn is_in_source(&self, real: &Path) -> bool {
        self.source.as_ref().is_some_and(|source| real.starts_with(source))
    }

    fn leads_back(&self) -> Stuck {
        Stuck::for_good(format!(
            "{} (source.moveFilesAfterCompletion) leads back into source.folderPath through a link, and the next run would load \
             the file again; name a folder beside it",
            self.folder
        ))
    }
}

/// Deletes or moves one file, if it is the one that was loaded.
///
/// Between the last look at it and the call that deletes it lies nothing else, and one look at the new name where it is moved:
/// one or two round trips on a network share. What is written there in that moment goes with it, as no file system deletes by
/// version; and a client that is told not to ask on opening (`nocto`) sees what it remembers.
fn end_of(file: &FileVersion, target: Option<&Target<'_>>, roots: &Roots) -> Result<FileEnd, Stuck> {
    let path = Path::new(&file.path);
    let (Some(parent), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
        return Err(Stuck::for_good("is no path of a file"));
    };
    // What is opened stays that folder, whatever becomes of its path.
    let folder = match roots.open_folder(parent) {
        Err(ReadError::Missing { .. }) => return Ok(FileEnd::Gone),
        other => other?,
    };
    let here = folder.at(name);
    let about = match look(file, &here)? {
        Found::Loaded(about) => about,
        Found::Other(end) => return Ok(end),
    };
    match target {
        None => match fs::remove_file(&here) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(FileEnd::Gone),
            other => other.map(|()| FileEnd::Done).map_err(|e| Stuck::of("cannot be deleted", &e)),
        },
        Some(target) => move_below(target, file, &folder, &here, about.dev(), roots),
    }
}

/// What stands at a file's place.
enum Found {
    /// The version that was loaded.
    Loaded(fs::Metadata),
    /// Something else, or nothing: it stays so.
    Other(FileEnd),
}

/// Looks at what is there now, and lets go of it again.
fn look(file: &FileVersion, here: &Path) -> Result<Found, Stuck> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let listed = match fs::symlink_metadata(here) {
        Err(e) if gone(&e) => return Ok(Found::Other(FileEnd::Gone)),
        other => other.map_err(|e| Stuck::of("cannot be looked at", &e))?,
    };
    if listed.file_type().is_symlink() {
        return Err(Stuck::for_good("is a symbolic link: its file has another name, which ferry does not change"));
    }
    // Opening anything else may wait for whoever is at its other end.
    if !listed.is_file() {
        return Ok(Found::Other(FileEnd::Changed("it is no file any more".to_owned())));
    }
    // A client of NFS keeps attributes for a while, and asks for them anew when a file is opened. The handle is closed at once:
    // with it open, the client would rename a deleted file to `.nfs...` instead.
    let about = match fs::File::open(here).and_then(|opened| opened.metadata()) {
        Err(e) if gone(&e) => return Ok(Found::Other(FileEnd::Gone)),
        other => other.map_err(|e| Stuck::of("cannot be opened, to see whether it is what was loaded", &e))?,
    };
    Ok(match difference(file, &about) {
        Some(what) => Found::Other(FileEnd::Changed(what)),
        None => Found::Loaded(about),
    })
}

/// What tells the file from the one that was loaded.
fn difference(loaded: &FileVersion, about: &fs::Metadata) -> Option<String> {
    let now = version_of(String::new(), String::new(), about);
    if now.size_bytes != loaded.size_bytes {
        Some(format!("it had {} bytes and has {}", loaded.size_bytes, now.size_bytes))
    } else if now.modified_ns != loaded.modified_ns {
        Some("it was written again".to_owned())
    } else if now.etag != loaded.etag {
        Some("it was replaced".to_owned())
    } else {
        None
    }
}

/// Moves a file of the folder `own` below `target`, under its path below the source's folder. Nothing there is overwritten, and
/// nothing is moved to where the source is read.
fn move_below(
    target: &Target<'_>,
    file: &FileVersion,
    own: &Folder,
    here: &Path,
    device: u64,
    roots: &Roots,
) -> Result<FileEnd, Stuck> {
    let relative = Path::new(&file.relative_path);
    let name = relative.file_name().filter(|_| relative.components().all(|c| matches!(c, Component::Normal(_))));
    let Some(name) = name else {
        return Err(Stuck::for_good(format!("its path below source.folderPath leads out of {}", target.folder)));
    };
    let wanted = Path::new(target.folder).join(relative);
    let folder = target.open(wanted.parent().unwrap_or(Path::new(target.folder)), roots)?;
    let unseen = |e: io::Error| Stuck::of("the folder to move to cannot be looked at", &e);
    let real = folder.path().map_err(unseen)?;
    if target.is_in_source(&real) || real == own.path().map_err(unseen)? {
        return Err(target.leads_back());
    }
    if folder.device().map_err(unseen)? != device {
        return Err(Stuck::for_good(format!(
            "{} (source.moveFilesAfterCompletion) lies on another file system: ferry renames, and copies nothing there; name a \
             folder of the source's own",
            target.folder
        )));
    }
    let (place, keeper) = reserve(&folder, name)?;
    // Folders may have been made since it was looked at.
    let end = match look(file, here) {
        Ok(Found::Loaded(source)) => return rename(here, &source, &place, &keeper).map(|()| FileEnd::Done),
        Ok(Found::Other(end)) => Ok(end),
        Err(stuck) => Err(stuck),
    };
    give_up(&place, &keeper);
    end
}

/// Renames a file to a name that is reserved for it, unless somebody has written there since: a moment is left in which that
/// goes unseen.
fn rename(here: &Path, source: &fs::Metadata, place: &Path, keeper: &fs::Metadata) -> Result<(), Stuck> {
    let there = fs::symlink_metadata(place).map_err(|e| Stuck::of("the name to move to cannot be looked at", &e))?;
    if !is_empty_keeper(&there, keeper) {
        return Err(Stuck { why: "somebody else wrote to the name to move to".to_owned(), may_pass: true });
    }
    let Err(error) = fs::rename(here, place) else { return Ok(()) };
    // A server may have done it and its answer may be lost: then what stands there is the file, and there is no other.
    match fs::symlink_metadata(place) {
        Ok(there) if is_same(&there, source) => return Ok(()),
        _ => give_up(place, keeper),
    }
    Err(Stuck::of("cannot be moved", &error))
}

/// Frees a reserved name, if it still is one.
fn give_up(place: &Path, keeper: &fs::Metadata) {
    if fs::symlink_metadata(place).is_ok_and(|there| is_empty_keeper(&there, keeper)) {
        drop(fs::remove_file(place));
    }
}

fn is_empty_keeper(there: &fs::Metadata, keeper: &fs::Metadata) -> bool {
    is_same(there, keeper) && there.len() == 0
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Takes a name in the folder that nobody has, by an empty file: whoever else moves a file there takes another.
/// Returns its path and what the empty file is known by.
fn reserve(folder: &Folder, name: &OsStr) -> Result<(PathBuf, fs::Metadata), Stuck> {
    for number in 0..SUFFIX_MAX {
        let place = folder.at(&numbered(name, number));
        match fs::OpenOptions::new().write(true).create_new(true).open(&place) {
            Ok(file) => {
                let keeper = file.metadata().map_err(|e| Stuck::of("the folder to move to cannot be looked at", &e))?;
                return Ok((place, keeper));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Stuck::of("the folder to move to cannot be written to", &e)),
        }
    }
    Err(Stuck::for_good(format!("the folder to move to has {SUFFIX_MAX} files of its name already")))
}

/// The name with a number before what says what the file is: `a-1.csv`, `a-1.csv.gz`.
fn numbered(name: &OsStr, number: u32) -> OsString {
    let Some(text) = name.to_str().filter(|_| number > 0) else { return name.to_owned() };
    let dot_in = |text: &str| text.rfind('.').filter(|at| *at > 0);
    let last = dot_in(text);
    let is_packed = last.is_some_and(|at| PACKINGS.contains(&text[at + 1..].to_ascii_lowercase().as_str()));
    let at = last.filter(|_| is_packed).and_then(|at| dot_in(&text[..at])).or(last).unwrap_or(text.len());
    format!("{}-{number}{}", &text[..at], &text[at..]).into()
}

#[cfg(test)]
mod tests;
