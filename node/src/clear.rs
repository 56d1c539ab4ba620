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
    if !fs::metadata(&work.folder_path).is_ok_and(|about| about.is_dir()) {
        let message = format!("source.folderPath {} does not exist on this node", work.folder_path);
        return Err(Failure::new(Code::FolderMissing, Fault::Source, Retry::Backoff, message));
    }
    let mut ends: Vec<Result<FileEnd, Stuck>> = Vec::with_capacity(work.files.len());
    for file in &work.files {
        if stop.is_cancelled() {
            return Ok(None);
        }
        ends.push(end_of(file, work.move_to.as_deref(), roots));
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
                *end = end_of(file, work.move_to.as_deref(), roots);
            }
        }
    }
    Ok(Some(ends.into_iter().map(|end| end.unwrap_or_else(|stuck| FileEnd::Failed(stuck.why))).collect()))
}

/// Why a file stays where it is.
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

/// Deletes or moves one file, if it is the one that was loaded.
fn end_of(file: &FileVersion, move_to: Option<&str>, roots: &Roots) -> Result<FileEnd, Stuck> {
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
    let about = match fs::symlink_metadata(&here) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(FileEnd::Gone),
        other => other.map_err(|e| Stuck::of("cannot be looked at", &e))?,
    };
    if about.file_type().is_symlink() {
        return Err(Stuck::for_good("is a symbolic link: its file has another name, which ferry does not change"));
    }
    if let Some(what) = difference(file, &about) {
        return Ok(FileEnd::Changed(what));
    }
    match move_to {
        None => match fs::remove_file(&here) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(FileEnd::Gone),
            other => other.map(|()| FileEnd::Done).map_err(|e| Stuck::of("cannot be deleted", &e)),
        },
        Some(target) => move_below(target, &file.relative_path, &here, about.dev(), roots).map(|()| FileEnd::Done),
    }
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

/// Moves a file below `target`, under its path below the source's folder. Nothing there is overwritten.
fn move_below(target: &str, relative: &str, here: &Path, device: u64, roots: &Roots) -> Result<(), Stuck> {
    let relative = Path::new(relative);
    let name = relative.file_name().filter(|_| relative.components().all(|c| matches!(c, Component::Normal(_))));
    let Some(name) = name else {
        return Err(Stuck::for_good(format!("its path below source.folderPath leads out of {target}")));
    };
    let wanted = Path::new(target).join(relative);
    let folder = folder_for(wanted.parent().unwrap_or(Path::new(target)), roots)?;
    if folder.device().map_err(|e| Stuck::of("the folder to move to cannot be looked at", &e))? != device {
        return Err(Stuck::for_good(format!(
            "{target} (source.moveFilesAfterCompletion) lies on another file system: ferry renames, and copies nothing there; name a \
             folder of the source's own"
        )));
    }
    let (place, keeper) = reserve(&folder, name)?;
    let source = fs::symlink_metadata(here).map_err(|e| Stuck::of("cannot be looked at", &e))?;
    let Err(error) = fs::rename(here, &place) else { return Ok(()) };
    // A server may have done it and its answer may be lost: then what stands there is the file, and there is no other.
    match fs::symlink_metadata(&place) {
        Ok(there) if is_same(&there, &source) => return Ok(()),
        Ok(there) if is_same(&there, &keeper) && there.len() == 0 => drop(fs::remove_file(&place)),
        _ => {}
    }
    Err(Stuck::of("cannot be moved", &error))
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// A folder below an allowed root, made if it is not there.
fn folder_for(folder: &Path, roots: &Roots) -> Result<Folder, Stuck> {
    let Some(text) = folder.to_str() else { return Err(Stuck::for_good("the folder to move to is not valid UTF-8")) };
    match roots.open_folder(text) {
        Err(ReadError::Missing { .. }) => {}
        other => return Ok(other?),
    }
    // What is there of it must lie inside, links followed, before more is made there.
    let there = folder.ancestors().find(|part| fs::symlink_metadata(part).is_ok()).and_then(Path::to_str);
    roots.resolve(there.unwrap_or("/"))?;
    fs::create_dir_all(folder).map_err(|e| Stuck::of("the folder to move to cannot be made", &e))?;
    Ok(roots.open_folder(text)?)
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
