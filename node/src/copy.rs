//! One copy attempt, from the first byte of a file to the last report.
//!
//! Three stages run side by side: one thread reads, unpacks, cuts and checks ([`cut`]); one compresses
//! ([`crate::compress`]); the async side sends blocks and reports each chunk when its blob is committed. Bounded channels
//! between them hold the threads back when the network is slow.
//!
//! What if the process dies right here? Uncommitted blocks are nothing to anybody. A blob that is committed and not
//! yet reported is never named by an ingest command: the next attempt stages the same records under its own name.

use crate::{
    buffers::Pool,
    compress,
    convert::FileFacts,
    cut::{Cut, CutError, Cutter},
    format::{self, Head, Input, Reader},
    partition::DatePattern,
    progress::Progress,
    read::{self, Archive, ArchiveError, ArchiveInput, Packing, Roots, SourceFile, window_buffers},
    record::{Batch, FormatError, Place},
    stage::{self, PIECES_WAITING_MAX, Staging},
};
use ferry_common::{
    failure::{Code, Failure, Fault, Retry},
    plan::StagedFormat,
    unit::{AttemptKey, Chunk, CopyWork, Counters, FileRows, FileVersion, Scope},
};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long an upload may go on after its attempt was stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How an attempt ended well.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) counters: Counters,
    pub(crate) chunks: u32,
    pub(crate) files: Vec<FileRows>,
    pub(crate) quarantine: Option<String>,
}

/// Copies what a unit covers. `staged` hears of each chunk once its blob is committed.
///
/// `None`: the attempt was stopped.
pub(crate) async fn copy<F: Future<Output = ()>>(
    key: &AttemptKey,
    work: CopyWork,
    roots: Roots,
    staging: &Staging,
    progress: Arc<Progress>,
    stop: &CancellationToken,
    staged: impl FnMut(Chunk) -> F,
) -> Result<Option<Copied>, Failure> {
    let (pieces, received) = mpsc::channel(PIECES_WAITING_MAX);
    let (messages, to_compress) = compress::channel();
    let format = work.plan.staged_format(work.source.format.kind);
    let compressor = {
        let compression = match format {
            // It holds its own compression.
            StagedFormat::Parquet => ferry_common::activity::StagedCompression::None,
            StagedFormat::Csv | StagedFormat::Json => work.settings.compression,
        };
        let (level, staged) = (work.settings.compression_level, progress.staged.clone());
        tokio::task::spawn_blocking(move || compress::compress(&to_compress, &pieces, compression, level, &staged))
    };
    let cutter = {
        let (key, progress, stop) = (key.clone(), progress.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            let cutter = Cutter::new(&key, &work, format, &progress, messages);
            cut(&work, &roots, &progress, &stop, cutter)
        })
    };
    // After a stop, what is under way may end in good order: a commit that is cut off leaves a blob that nobody knows.
    let stopped_for_long = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    let uploaded = tokio::select! {
        result = stage::upload(staging, &progress.meters, received, staged) => result,
        () = stopped_for_long => Ok(()),
    };
    // The threads end by themselves: their channels are closed or their stop is set.
    let cut = ended(cutter.await)?;
    let compressed = ended(compressor.await)?;
    if stop.is_cancelled() {
        return Ok(None);
    }
    uploaded?;
    match (cut, compressed) {
        (Ok(Cut { chunks, files, quarantine }), Ok(())) => {
            Ok(Some(Copied { counters: progress.counters(), chunks, files, quarantine }))
        }
        (Err(CutError::Failed(failure)), _) => Err(failure),
        _ => Err(Failure::internal("the upload ended without a reason")),
    }
}

/// What a thread gave; its panic goes on here.
fn ended<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, Failure> {
    match result {
        Ok(value) => Ok(value),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Failure::internal(e.to_string())),
    }
}

/// Reads what the unit covers and cuts it into chunks, on the calling thread.
fn cut(
    work: &CopyWork,
    roots: &Roots,
    progress: &Progress,
    stop: &CancellationToken,
    cutter: Cutter<'_>,
) -> Result<Cut, CutError> {
    let creation = work.creation_time.as_ref().and_then(|t| t.path_pattern.as_deref());
    let creation = creation.map(DatePattern::parse).transpose();
    let creation = creation.map_err(|why| Failure::settings(Code::SettingsInvalid, why))?;
    let mut copying = Copying { work, stop, cutter, pool: window_buffers(), creation, end: Place::START };
    let files: &[FileVersion] = match &work.scope {
        Scope::Pack(files) => files,
        Scope::File | Scope::Range(_) => std::slice::from_ref(&work.file),
    };
    let is_pack = matches!(work.scope, Scope::Pack(_));
    for (number, version) in (0..).zip(files) {
        if number < work.resume.file && is_pack {
            continue;
        }
        let file =
            SourceFile::open(roots, version, &work.source.format, progress.read.clone()).map_err(Failure::from)?;
        copying.copy_file(&file, version, number, is_pack)?;
        // What was read must have been the version listed, or rows of two versions mix.
        file.check_unchanged(version).map_err(Failure::from)?;
    }
    copying.cutter.finish(copying.end)
}

struct Copying<'a> {
    work: &'a CopyWork,
    stop: &'a CancellationToken,
    cutter: Cutter<'a>,
    pool: Pool,
    creation: Option<DatePattern>,
    /// Behind the last record of the last file.
    end: Place,
}

/// An archive's member as a file.
struct Logical<'r> {
    input: Input<'r>,
    /// Its number in the unit.
    number: u32,
    /// Its path, for messages.
    label: String,
    relative_path: String,
    is_one_of_several: bool,
}

impl Copying<'_> {
    /// Copies one file, or each member of an archive.
    fn copy_file(
        &mut self,
        file: &SourceFile,
        version: &FileVersion,
        number: u32,
        is_pack: bool,
    ) -> Result<(), CutError> {
        let judge = |e: io::Error| file.failure(e);
        let check = || file.check_unchanged(version).map_err(Failure::from);
        let packing = file.packing();
        let Some(archive) = packing.archive else {
            let input = if packing == Packing::NONE {
                Input::File(file)
            } else {
                Input::Stream(file.unpacked().map_err(Failure::from)?)
            };
            let label = match &self.work.scope {
                Scope::Range(range) if range.number > 0 => format!(
                    "{} (part {} of {}, lines counted from its start at byte {})",
                    version.path,
                    range.number + 1,
                    range.count,
                    range.start
                ),
                _ => version.path.clone(),
            };
            let logical = Logical {
                input,
                number,
                label,
                relative_path: version.relative_path.clone(),
                is_one_of_several: is_pack,
            };
            return self.copy_logical(logical, Some(file), &judge, &check);
        };
        if is_pack {
            let why = "it is an archive by its content and is not named like one; set settings.packSmallFiles: false";
            return Err(FormatError::NotTheFormat { why: why.to_owned() }.judged(&version.path).into());
        }
        let archive = match archive {
            Archive::Tar => ArchiveInput::Tar(file.unpacked().map_err(Failure::from)?),
            Archive::Zip => ArchiveInput::Zip(Box::new(file.reader_at(0).map_err(Failure::from)?)),
        };
        let first = if self.work.resume.next_chunk > 0 { self.work.resume.file } else { 0 };
        let result = read::each_member(archive, first, &mut |member, reader| {
            let label = format!("{}/{}", version.path, member.name);
            let relative_path = format!("{}/{}", version.relative_path, member.name);
            let input = Input::Stream(read::unpacked_member(reader, &label, &self.work.source.format, &judge)?);
            let logical = Logical { input, number: member.index, label, relative_path, is_one_of_several: true };
            self.copy_logical(logical, None, &judge, &check)
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(archive_failed(file, error)),
        }
    }

    /// Copies the records of one file or member.
    fn copy_logical(
        &mut self,
        logical: Logical<'_>,
        file: Option<&SourceFile>,
        judge: &dyn Fn(io::Error) -> Failure,
        check: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), CutError> {
        let Logical { input, number, label, relative_path, is_one_of_several } = logical;
        let work = self.work;
        let created = match &self.creation {
            Some(pattern) => Some(self.created(pattern, &relative_path, &label)?),
            None => None,
        };
        self.cutter.begin_file(number, &relative_path, is_one_of_several, created)?;
        let facts = FileFacts::of(&work.source, &relative_path);
        let resume = &work.resume;
        let from = if number == resume.file && resume.next_chunk > 0 {
            Place { byte: resume.source_offset_bytes, line: resume.source_lines + 1 }
        } else {
            Place::START
        };
        let range = match &work.scope {
            Scope::Range(range) => Some(*range),
            Scope::File | Scope::Pack(_) => None,
        };
        if self.cutter.stages_parquet() {
            let Some(file) = file.filter(|f| f.packing() == Packing::NONE) else {
                return Err(format::needs_a_plain_file("a Parquet file", &label).into());
            };
            return self.copy_parquet(file, &label, &facts, range, check);
        }
        let mut reader = format::open(Head {
            input,
            label,
            format: &work.source.format,
            plan: &work.plan,
            settings: &work.settings,
            creation_time: work.creation_time.as_ref(),
            facts,
            range,
            from,
            pool: self.pool.clone(),
            judge,
        })?;
        self.end = from;
        self.copy_records(&mut reader, check)
    }

    fn copy_records(
        &mut self,
        reader: &mut Reader<'_>,
        check: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), CutError> {
        let mut batch = Batch::default();
        loop {
            if self.stop.is_cancelled() {
                return Err(CutError::Ended);
            }
            batch.clear();
            if !reader.next(&mut batch)? {
                return Ok(());
            }
            self.cutter.take(&batch, check)?;
            self.end = batch.end();
        }
    }

    /// Stages Parquet as it is, whole or by its row groups.
    fn copy_parquet(
        &mut self,
        file: &SourceFile,
        label: &str,
        facts: &FileFacts,
        range: Option<ferry_common::unit::FileRange>,
        check: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), CutError> {
        let (work, settings) = (self.work, &self.work.settings);
        let as_is = format::ParquetAsIs::open(
            file.handle(),
            file.stored(),
            label,
            &work.plan,
            facts,
            settings.check_values,
            range,
        )?;
        for (number, piece) in (0..).zip(as_is.pieces(settings.chunk_bytes_max())) {
            if self.stop.is_cancelled() {
                return Err(CutError::Ended);
            }
            if number < self.cutter.next_chunk() {
                continue;
            }
            check()?;
            let end = Place { byte: piece.end as u64, line: piece.end as u64 + 1 };
            self.cutter.whole_blob(end, |sink| as_is.write_piece(&piece, sink))?;
            self.end = end;
        }
        Ok(())
    }

    fn created(&self, pattern: &DatePattern, relative_path: &str, label: &str) -> Result<String, Failure> {
        match pattern.date_of(relative_path) {
            Some(time) => Ok(format!("{time}Z")),
            None => {
                let text = self.work.creation_time.as_ref().and_then(|t| t.path_pattern.as_deref()).unwrap_or_default();
                let message = format!("{label}: its path has no date as sink.creationTime.pathPattern {text:?} says");
                Err(Failure::new(Code::SettingsInvalid, Fault::Settings, Retry::Never, message))
            }
        }
    }
}

/// Judges the end of a walk through an archive.
fn archive_failed(file: &SourceFile, error: ArchiveError<CutError>) -> CutError {
    match error {
        ArchiveError::Stopped(error) => error,
        ArchiveError::Damaged { source } => file.failure(source).into(),
        ArchiveError::DamagedMember { name, source } => {
            let failure = file.failure(source);
            let message = format!("member {name}: {}", failure.message);
            Failure { message, ..failure }.into()
        }
        error @ ArchiveError::Unread { .. } => {
            FormatError::NotTheFormat { why: error.to_string() }.judged(file.path()).into()
        }
    }
}

/// The failure of an attempt that panicked.
pub(crate) fn panicked(path: &str) -> Failure {
    let message = format!("the attempt at {path} panicked; this is a bug in ferry, see the node's log");
    Failure::new(Code::AttemptPanicked, Fault::Runtime, Retry::Backoff, message)
}

#[cfg(test)]
mod tests;
