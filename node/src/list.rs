//! One list attempt: pages of file versions below allowed roots, then a sample of columns and types.
//!
//! Memory is bounded: a page is handed over before the next is gathered, and the sample reads a few files' heads.
//! Links are not followed but for the folder itself: a link inside the folder would list a file twice.

use crate::{
    convert::{Added, FileFacts},
    format::{self, Input, split_points},
    infer::Sample,
    read::{
        Archive, ArchiveError, ArchiveInput, Packing, ReadError, Roots, SourceFile, each_member, unpacked_member,
        version_of,
    },
};
use ferry_common::{
    activity::Source,
    failure::{Code, Failure, Fault, Retry},
    pattern::PathPattern,
    unit::{FileRange, FileVersion, ListPage, SampleColumn},
};
use std::{
    fs, io,
    io::{BufRead as _, Read as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

/// Records of one file that the sample sees.
const SAMPLE_RECORDS_MAX: usize = 1_000;
/// Bytes of paths on one page, so that a few pages fit into one message however long the paths are.
const PAGE_PATH_BYTES_MAX: usize = 1 << 20;
/// Longest line of a file list.
const LIST_LINE_BYTES_MAX: u64 = 16 << 10;

/// Lists `source` and hands pages to `pages`; the last one carries the sample. Runs on the calling thread.
pub(crate) fn list(
    source: &Source,
    roots: &Roots,
    page_files_max: u32,
    sample_files_max: u32,
    split_bytes: u64,
    stop: &CancellationToken,
    pages: mpsc::Sender<ListPage>,
) -> Result<(), Failure> {
    let mut listing = Listing::new(source, roots, page_files_max, sample_files_max, split_bytes, stop, pages)?;
    if let Some(name) = &source.file_name {
        listing.add_named(name, "source.fileName")?;
    } else if let Some(list) = &source.file_list_path {
        listing.add_listed(list)?;
    } else {
        listing.walk()?;
    }
    listing.finish()
}

fn none_matched(source: &Source, found: u64, unfinished: u64) -> Failure {
    let pattern = source.wildcard_file_name.as_deref().unwrap_or("*");
    let left_out = match unfinished {
        0 => String::new(),
        _ => format!(", of which {unfinished} are too young or not marked as complete"),
    };
    let message = format!(
        "no file below {} matches {pattern:?} and the other filters; the folder has {found} files{left_out}; with \
         source.allowNoFiles: true such a run succeeds",
        source.folder_path
    );
    Failure::new(Code::NoFilesMatched, Fault::Source, Retry::Never, message)
}

fn pattern(text: &str, key: &str) -> Result<PathPattern, Failure> {
    PathPattern::new(text).map_err(|why| Failure::settings(Code::SettingsInvalid, format!("{key} {why}")))
}

struct Listing<'a> {
    source: &'a Source,
    roots: &'a Roots,
    folder: PathBuf,
    wanted: Option<PathPattern>,
    unwanted: Vec<PathPattern>,
    page_files_max: usize,
    sample_files_max: usize,
    /// Files larger than this are cut into parts; 0: none are.
    split_bytes: u64,
    stop: &'a CancellationToken,
    pages: mpsc::Sender<ListPage>,
    page: Vec<FileVersion>,
    splits: Vec<(u32, Vec<FileRange>)>,
    page_bytes: usize,
    page_number: u32,
    sampled: Vec<FileVersion>,
    /// Files that were modified later are left out, if any are.
    settled_before_ns: Option<i128>,
    /// Files that are too young, or not said to be complete.
    unfinished: u64,
    /// Files found, and files that passed the filters.
    found: u64,
    listed: u64,
    links_skipped: u64,
}

impl<'a> Listing<'a> {
    fn new(
        source: &'a Source,
        roots: &'a Roots,
        page_files_max: u32,
        sample_files_max: u32,
        split_bytes: u64,
        stop: &'a CancellationToken,
        pages: mpsc::Sender<ListPage>,
    ) -> Result<Self, Failure> {
        let folder = match roots.resolve(&source.folder_path) {
            // A node may be allowed one file and not its folder; the file is checked by itself.
            _ if source.file_name.is_some() => PathBuf::from(&source.folder_path),
            Err(ReadError::Missing { path }) => {
                let message = format!("source.folderPath {path} does not exist on this node");
                return Err(Failure::new(Code::FolderMissing, Fault::Source, Retry::Never, message));
            }
            other => other?,
        };
        if source.file_name.is_none() && !folder.is_dir() {
            let message = format!(
                "source.folderPath {} is a file; give its folder, and its name as fileName",
                source.folder_path
            );
            return Err(Failure::settings(Code::FolderMissing, message));
        }
        let age = source.minimum_age().map_err(|why| Failure::settings(Code::SettingsInvalid, why))?;
        let now_ns = jiff::Timestamp::now().as_nanosecond();
        let wanted = source.wildcard_file_name.as_deref().map(|p| pattern(p, "source.wildcardFileName"));
        let unwanted = source.exclude.iter().map(|p| pattern(p, "source.exclude"));
        Ok(Self {
            source,
            roots,
            folder,
            wanted: wanted.transpose()?,
            unwanted: unwanted.collect::<Result<_, _>>()?,
            page_files_max: page_files_max.max(1) as usize,
            sample_files_max: sample_files_max as usize,
            split_bytes,
            stop,
            pages,
            page: Vec::new(),
            splits: Vec::new(),
            page_bytes: 0,
            page_number: 0,
            sampled: Vec::new(),
            settled_before_ns: (!age.is_zero()).then(|| now_ns.saturating_sub_unsigned(age.as_nanos())),
            unfinished: 0,
            found: 0,
            listed: 0,
            links_skipped: 0,
        })
    }

    fn walk(&mut self) -> Result<(), Failure> {
        let depth = if self.source.recursive { usize::MAX } else { 1 };
        for entry in WalkDir::new(&self.folder).min_depth(1).max_depth(depth) {
            self.check_stop()?;
            let entry = entry.map_err(|e| self.walk_failure(&e))?;
            let path = entry.path().to_owned();
            let relative = path.strip_prefix(&self.folder).unwrap_or(&path);
            if entry.file_type().is_symlink() {
                self.see_link(&path, relative)?;
            } else if entry.file_type().is_file() {
                self.found += 1;
                if self.is_wanted(relative) {
                    let metadata = entry.metadata().map_err(|e| self.walk_failure(&e))?;
                    self.add(&path, relative, &metadata)?;
                }
            }
        }
        Ok(())
    }

    /// A link that leads out of the allowed roots is refused; one inside is left out, since its file has a name of its
    /// own.
    fn see_link(&mut self, path: &Path, relative: &Path) -> Result<(), Failure> {
        let leads_to_folder = path.is_dir();
        if leads_to_folder || self.is_wanted(relative) {
            match self.roots.resolve(&path.to_string_lossy()) {
                Err(e @ ReadError::NotAllowed { .. }) => return Err(e.into()),
                // A dangling link leads nowhere.
                Ok(_) | Err(_) => self.links_skipped += 1,
            }
        }
        Ok(())
    }

    fn is_wanted(&self, relative: &Path) -> bool {
        !self.is_marker(relative)
            && self.wanted.as_ref().is_none_or(|p| p.matches(relative))
            && !self.unwanted.iter().any(|p| p.matches(relative))
    }

    /// The file says of others that they are complete.
    fn is_marker(&self, relative: &Path) -> bool {
        let Some(marker) = &self.source.done_marker else { return false };
        let name = relative.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if marker.starts_with('.') { name.ends_with(marker.as_str()) } else { name == marker }
    }

    /// Whoever writes the file has said that it is complete, where that is asked for.
    fn is_done(&self, path: &Path) -> bool {
        let Some(marker) = &self.source.done_marker else { return true };
        if !marker.starts_with('.') {
            return path.with_file_name(marker).is_file();
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(marker);
        path.with_file_name(name).is_file()
    }

    /// A file that the settings name, not a pattern.
    fn add_named(&mut self, name: &str, key: &str) -> Result<(), Failure> {
        self.check_stop()?;
        // `a.csv` and `./a.csv` are one file.
        let name: PathBuf = Path::new(name).components().filter(|part| *part != Component::CurDir).collect();
        let path = self.folder.join(&name);
        let text = unicode(&path)?;
        let real = match self.roots.resolve(&text) {
            Err(ReadError::Missing { path }) => {
                let message = format!("{key} names {path}, which does not exist on this node");
                return Err(Failure::new(Code::FileMissing, Fault::Source, Retry::Never, message));
            }
            other => other?,
        };
        let metadata = fs::metadata(&real).map_err(|e| self.io_failure(&real, &e))?;
        if !metadata.is_file() {
            return Err(Failure::settings(Code::FileMissing, format!("{key} names {text}, which is no file")));
        }
        self.found += 1;
        self.add(&path, &name, &metadata)
    }

    fn add_listed(&mut self, list: &str) -> Result<(), Failure> {
        let path = self.folder.join(list);
        let file = self.roots.open(&unicode(&path)?).map_err(|e| match e {
            ReadError::Missing { path } => Failure::settings(
                Code::FileListInvalid,
                format!("source.fileListPath {path} does not exist on this node"),
            ),
            other => other.into(),
        })?;
        let mut lines = io::BufReader::new(file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = lines
                .by_ref()
                .take(LIST_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|e| self.io_failure(&path, &e))?;
            if read == 0 {
                break;
            }
            let bad = |why: &str| {
                Failure::settings(Code::FileListInvalid, format!("{}: line {number} {why}", path.display()))
            };
            if read as u64 == LIST_LINE_BYTES_MAX && !line.ends_with(b"\n") {
                return Err(bad("is too long for a path"));
            }
            let name = std::str::from_utf8(&line).map_err(|_| bad("is not UTF-8"))?.trim();
            if !name.is_empty() {
                self.add_named(name, &format!("{} line {number}", path.display()))?;
            }
        }
        if self.found == 0 {
            return Err(Failure::settings(Code::FileListInvalid, format!("{} names no file", path.display())));
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, relative: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
        let version = version_of(unicode(path)?, unicode(relative)?, metadata);
        let modified = i128::from(version.modified_ns);
        let starts = self.source.modified_datetime_start.is_none_or(|t| modified >= t.as_nanosecond());
        let ends = self.source.modified_datetime_end.is_none_or(|t| modified < t.as_nanosecond());
        // A list of files is taken as it is, as Data Factory takes it.
        if self.source.file_list_path.is_none() && !(starts && ends) {
            return Ok(());
        }
        if self.settled_before_ns.is_some_and(|before| modified > before) || !self.is_done(path) {
            self.unfinished += 1;
            return Ok(());
        }
        self.listed += 1;
        if self.sampled.len() < self.sample_files_max && version.size_bytes > 0 {
            self.sampled.push(version.clone());
        }
        if self.split_bytes > 0 && version.size_bytes > self.split_bytes + self.split_bytes / 2 {
            self.split(&version)?;
        }
        self.page_bytes += version.path.len() + version.relative_path.len();
        self.page.push(version);
        if self.page.len() >= self.page_files_max || self.page_bytes >= PAGE_PATH_BYTES_MAX {
            self.send(false, Vec::new(), Vec::new())?;
        }
        Ok(())
    }

    fn split(&mut self, version: &FileVersion) -> Result<(), Failure> {
        let file = SourceFile::open(self.roots, version, &self.source.format, Arc::default())?;
        if file.packing() == Packing::NONE {
            let ranges = split_points(&file, &self.source.format, version.size_bytes, self.split_bytes)?;
            if !ranges.is_empty() {
                self.splits.push((self.page.len() as u32, ranges));
            }
        }
        Ok(())
    }

    fn send(&mut self, last: bool, sample: Vec<SampleColumn>, warnings: Vec<String>) -> Result<(), Failure> {
        let files = std::mem::take(&mut self.page);
        self.page_bytes = 0;
        let splits = std::mem::take(&mut self.splits);
        let page = ListPage { number: self.page_number, files, splits, last, sample, warnings, trial: None };
        self.page_number += 1;
        self.pages.blocking_send(page).map_err(|_| stopped())
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.listed == 0 && !self.source.allow_no_files {
            return Err(none_matched(self.source, self.found, self.unfinished));
        }
        let mut sample = Sample::default();
        let (mut is_sampled, mut unread) = (false, None);
        for version in std::mem::take(&mut self.sampled) {
            self.check_stop()?;
            match sample_file(self.source, self.roots, &version, &mut sample) {
                Ok(()) => is_sampled = true,
                // The copy tells what is wrong with a file; the others still tell their columns.
                Err(failure) if failure.fault == Fault::Source => drop(unread.get_or_insert(failure)),
                Err(failure) => return Err(failure),
            }
        }
        if let Some(failure) = unread.filter(|_| !is_sampled) {
            return Err(failure);
        }
        let mut warnings = Vec::new();
        if self.links_skipped > 0 {
            warnings.push(format!(
                "{} symbolic links below {} were left out; their files are copied under their own names only",
                self.links_skipped, self.source.folder_path
            ));
        }
        if self.unfinished > 0 {
            warnings.push(format!(
                "{} files were left out: they are younger than source.minimumAge, or not marked as source.doneMarker says",
                self.unfinished
            ));
        }
        if self.listed == 0 {
            warnings.push("no file matched, and nothing was copied".to_owned());
        }
        self.send(true, sample.columns(), warnings)
    }

    fn check_stop(&self) -> Result<(), Failure> {
        if self.stop.is_cancelled() { Err(stopped()) } else { Ok(()) }
    }

    fn walk_failure(&self, error: &walkdir::Error) -> Failure {
        let path = error.path().unwrap_or(&self.folder).to_owned();
        match error.io_error() {
            Some(e) => self.io_failure(&path, e),
            None => Failure::new(Code::SourceReadFailed, Fault::Source, Retry::Never, error.to_string()),
        }
    }

    fn io_failure(&self, path: &Path, error: &io::Error) -> Failure {
        let (code, retry) = match error.kind() {
            io::ErrorKind::PermissionDenied => (Code::FileForbidden, Retry::Never),
            io::ErrorKind::NotFound => (Code::FileMissing, Retry::Backoff),
            _ => (Code::SourceReadFailed, Retry::Backoff),
        };
        Failure::new(code, Fault::Source, retry, format!("listing {}: {error}", path.display()))
    }
}

fn stopped() -> Failure {
    Failure::internal("the listing was stopped")
}

fn unicode(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("{}: the path is not valid UTF-8; rename the file", path.display());
        Failure::new(Code::PathNotUnicode, Fault::Source, Retry::Never, message)
    })
}

/// Adds the first records of one file to the sample; of an archive, those of its first member.
fn sample_file(source: &Source, roots: &Roots, version: &FileVersion, sample: &mut Sample) -> Result<(), Failure> {
    let file = SourceFile::open(roots, version, &source.format, Arc::default())?;
    let judge = |e: io::Error| file.failure(e);
    let packing = file.packing();
    let facts = FileFacts::of(source, &version.relative_path);
    for (name, value) in &facts.added {
        match value {
            Added::Text(text) => sample.see_added(name, text),
            Added::Column(_) => sample.see_added(name, ""),
        }
    }
    let input = match packing.archive {
        None if packing == Packing::NONE => Input::File(&file),
        None => Input::Stream(file.unpacked()?),
        Some(archive) => return sample_archive(source, &file, archive, &judge, sample),
    };
    format::sample(input, &version.path, &source.format, SAMPLE_RECORDS_MAX, &judge, sample)
}

fn sample_archive(
    source: &Source,
    file: &SourceFile,
    archive: Archive,
    judge: &dyn Fn(io::Error) -> Failure,
    sample: &mut Sample,
) -> Result<(), Failure> {
    /// The walk has seen enough.
    struct Enough(Option<Failure>);
    let input = match archive {
        Archive::Tar => ArchiveInput::Tar(file.unpacked()?),
        Archive::Zip => ArchiveInput::Zip(Box::new(file.reader_at(0)?)),
    };
    let walked = each_member(input, 0, &mut |member, reader| {
        let label = format!("{}/{}", file.path(), member.name);
        let done = unpacked_member(reader, &label, &source.format, judge).and_then(|reader| {
            format::sample(Input::Stream(reader), &label, &source.format, SAMPLE_RECORDS_MAX, judge, sample)
        });
        Err(Enough(done.err()))
    });
    match walked {
        Err(ArchiveError::Stopped(Enough(Some(failure)))) => Err(failure),
        // What is wrong with an archive, the copy tells.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
