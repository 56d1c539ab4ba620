//! One copy attempt, from the first byte of a file to the last report.
//!
//! A thread of its own reads, decompresses, cuts and compresses ([`cut`]); the async side sends blocks and reports each
//! chunk when its blob is committed. A bounded channel between them holds the thread back when the network is slow.
//!
//! What if the process dies right here? Uncommitted blocks are nothing to anybody. A blob that is committed and not
//! yet reported is never named by an ingest command: the next attempt stages the same records under its own name.

use crate::{
    format::{DelimitedText, Format, FormatError, Place},
    read::{Roots, SourceFile, Window},
    stage::{self, ChunkEncoder, PIECES_WAITING_MAX, Piece, UploadEnded},
};
use ferry_common::{
    failure::{Code, Failure, Fault, Retry},
    id::ChunkNumber,
    staging, storage,
    unit::{AttemptKey, Chunk, CopyWork, Counters},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes of records that are gathered before they go to the compressor.
const GATHER_BYTES: usize = 256 << 10;

/// How long an upload may go on after its attempt was stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What an attempt has done so far, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    read: Arc<AtomicU64>,
    written: AtomicU64,
    staged: AtomicU64,
    rows: AtomicU64,
}

impl Progress {
    /// The counters now.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            data_read_bytes: self.read.load(Ordering::Relaxed),
            data_written_bytes: self.written.load(Ordering::Relaxed),
            staged_bytes: self.staged.load(Ordering::Relaxed),
            rows_read: self.rows.load(Ordering::Relaxed),
            rows_skipped: 0,
        }
    }
}

/// How an attempt ended well.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) counters: Counters,
    pub(crate) chunks: u32,
    pub(crate) columns: Vec<String>,
}

/// Copies one file. `staged` hears of each chunk once its blob is committed.
///
/// `None`: the attempt was stopped.
pub(crate) async fn copy<F: Future<Output = ()>>(
    key: &AttemptKey,
    work: CopyWork,
    roots: Roots,
    progress: Arc<Progress>,
    stop: &CancellationToken,
    staged: impl FnMut(Chunk) -> F,
) -> Result<Option<Copied>, Failure> {
    let storage = storage::open(&work.staging)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let cutter = {
        let (key, progress, stop) = (key.clone(), progress.clone(), stop.clone());
        tokio::task::spawn_blocking(move || cut(&key, &work, &roots, &progress, &stop, sender))
    };
    // After a stop, what is under way may end in good order: a commit that is cut off leaves a blob that nobody knows.
    let stopped_for_long = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    let uploaded = tokio::select! {
        result = stage::upload(&*storage, receiver, staged) => result,
        () = stopped_for_long => Ok(()),
    };
    // The thread ends by itself: its channel is closed or its stop is set.
    let cut = match cutter.await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => return Err(Failure::internal(e.to_string())),
    };
    if stop.is_cancelled() {
        return Ok(None);
    }
    uploaded?;
    match cut {
        Ok(copied) => Ok(Some(copied)),
        Err(CutError::Failed(failure)) => Err(failure),
        Err(CutError::Ended(_)) => Err(Failure::internal("the upload ended without a reason")),
    }
}

#[derive(Debug)]
enum CutError {
    Failed(Failure),
    Ended(UploadEnded),
}

impl From<Failure> for CutError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<UploadEnded> for CutError {
    fn from(ended: UploadEnded) -> Self {
        Self::Ended(ended)
    }
}

/// Reads the file and cuts it into chunks, on the calling thread.
fn cut(
    key: &AttemptKey,
    work: &CopyWork,
    roots: &Roots,
    progress: &Progress,
    stop: &CancellationToken,
    pieces: mpsc::Sender<Piece>,
) -> Result<Copied, CutError> {
    let file = SourceFile::open(roots, &work.file, progress.read.clone()).map_err(Failure::from)?;
    let mut format = Format::new(&work.source.format);
    let mut window = Window::new(file);
    let columns = read_header(&mut window, &mut format, work)?;

    let resume = &work.resume;
    if resume.next_chunk > 0 {
        window.jump(Place { byte: resume.source_offset_bytes, line: resume.source_lines + 1 })?;
        progress.rows.store(resume.rows, Ordering::Relaxed);
    }
    let mut cutter = Cutter::new(key, work, &format, progress, pieces);
    let mut gathered = Vec::with_capacity(2 * GATHER_BYTES);
    loop {
        if stop.is_cancelled() {
            return Err(UploadEnded.into());
        }
        let Some((record, at)) = window.next(&mut format)? else { break };
        let before = gathered.len();
        format.stage(record, at, &mut gathered).map_err(|e| e.judged(&work.file.path))?;
        let bytes = (gathered.len() - before) as u64;
        if !cutter.has_room_for(bytes) {
            cutter.write(&gathered[..before])?;
            gathered.drain(..before);
            window.file().check_unchanged(&work.file).map_err(Failure::from)?;
            cutter.end_chunk(at)?;
        }
        cutter.count(bytes);
        if gathered.len() >= GATHER_BYTES {
            cutter.write(&gathered)?;
            gathered.clear();
        }
    }
    cutter.write(&gathered)?;
    // What was read must have been the version listed, or rows of two versions mix.
    window.file().check_unchanged(&work.file).map_err(Failure::from)?;
    if cutter.rows > 0 {
        cutter.end_chunk(window.place())?;
    }
    Ok(Copied { counters: progress.counters(), chunks: cutter.number, columns })
}

/// Reads the header row, if there is one, and holds it against the mapping before anything is staged.
fn read_header(window: &mut Window, format: &mut Format, work: &CopyWork) -> Result<Vec<String>, Failure> {
    let settings = &work.source.format;
    if !matches!(format, Format::Delimited(_)) {
        return Ok(Vec::new());
    }
    let mut columns = Vec::new();
    if settings.has_header() {
        let header = window.next(format)?.map(|(record, at)| (record.to_vec(), at));
        if let (Some((record, at)), Format::Delimited(text)) = (header, &*format) {
            let read = text.header(&record, at).and_then(|names| check_header(&names, work).map(|()| names));
            columns = read.map_err(|e| e.judged(&work.file.path))?;
        }
    }
    if let Format::Delimited(text) = format
        && settings.is_strict()
    {
        expect_width(text, &columns, work.fields_expected);
    }
    Ok(columns)
}

/// With a header, its width holds; without, the width that the mapping was made for, or that of the first record.
fn expect_width(text: &mut DelimitedText, columns: &[String], fields_expected: u32) {
    let width = if columns.is_empty() { fields_expected } else { columns.len() as u32 };
    text.expect_fields(Some(width).filter(|w| *w > 0));
}

fn check_header(columns: &[String], work: &CopyWork) -> Result<(), FormatError> {
    let error = |why: String| Err(FormatError::Header { why });
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = columns.iter().find(|c| !seen.insert(*c)) {
        return error(format!("header row names column {twice:?} twice"));
    }
    let has = columns.join(", ");
    if let Some(missing) = work.columns_required.iter().find(|c| !columns.contains(c)) {
        return error(format!("header row lacks column {missing:?} that the mapping names; it has: {has}"));
    }
    if !work.columns_known.is_empty()
        && let Some(unknown) = columns.iter().find(|c| !work.columns_known.contains(c))
    {
        return error(format!(
            "header row has column {unknown:?} that the table and the other files do not have; known are: {}. \
             Is this file without a header row? Else list the columns to copy in sink.mapping.columns",
            work.columns_known.join(", ")
        ));
    }
    Ok(())
}

/// Gathers records into chunks and hands these over.
struct Cutter<'a> {
    key: &'a AttemptKey,
    work: &'a CopyWork,
    extension: &'static str,
    progress: &'a Progress,
    pieces: mpsc::Sender<Piece>,
    encoder: Option<ChunkEncoder>,
    /// Number of the current chunk.
    number: u32,
    /// Bytes and records of the current chunk.
    bytes: u64,
    rows: u64,
    rows_before: u64,
}

impl<'a> Cutter<'a> {
    fn new(
        key: &'a AttemptKey,
        work: &'a CopyWork,
        format: &Format,
        progress: &'a Progress,
        pieces: mpsc::Sender<Piece>,
    ) -> Self {
        Self {
            key,
            work,
            extension: format.extension(),
            progress,
            pieces,
            encoder: None,
            number: work.resume.next_chunk,
            bytes: 0,
            rows: 0,
            rows_before: work.resume.rows,
        }
    }

    /// A record of this size still belongs to the current chunk. A chunk has at least one record.
    fn has_room_for(&self, bytes: u64) -> bool {
        self.rows == 0 || self.bytes + bytes <= self.work.chunk_bytes_max
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.rows += 1;
        self.progress.rows.fetch_add(1, Ordering::Relaxed);
        self.progress.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An earlier attempt has staged this chunk: it is cut, so that the next begins where it must, and not sent.
    fn is_accepted(&self) -> bool {
        self.work.resume.accepted_chunks.contains(&ChunkNumber(self.number))
    }

    fn blob(&self) -> String {
        staging::blob_name(&self.key.run, self.key.unit, self.key.attempt, ChunkNumber(self.number), self.extension)
    }

    /// Adds bytes of records to the current chunk.
    fn write(&mut self, bytes: &[u8]) -> Result<(), UploadEnded> {
        if bytes.is_empty() || self.is_accepted() {
            return Ok(());
        }
        if self.encoder.is_none() {
            self.pieces.blocking_send(Piece::ChunkBegin(self.blob())).map_err(|_| UploadEnded)?;
            self.encoder = Some(ChunkEncoder::new(self.pieces.clone(), self.work.gzip_level));
        }
        match &mut self.encoder {
            Some(encoder) => encoder.write(bytes),
            None => Ok(()),
        }
    }

    /// Ends the current chunk before the record at `next`.
    fn end_chunk(&mut self, next: Place) -> Result<(), UploadEnded> {
        if let Some(encoder) = self.encoder.take() {
            let (staged_bytes, crc32) = encoder.finish()?;
            self.progress.staged.fetch_add(staged_bytes, Ordering::Relaxed);
            let chunk = Chunk {
                number: ChunkNumber(self.number),
                blob: self.blob(),
                raw_bytes: self.bytes,
                staged_bytes,
                rows: self.rows,
                source_end_bytes: next.byte,
                rows_end: self.rows_before + self.rows,
                source_lines_end: next.line - 1,
                crc32,
            };
            self.pieces.blocking_send(Piece::ChunkEnd(chunk)).map_err(|_| UploadEnded)?;
        }
        self.rows_before += self.rows;
        self.number += 1;
        self.bytes = 0;
        self.rows = 0;
        Ok(())
    }
}

/// The failure of an attempt that panicked.
pub(crate) fn panicked(path: &str) -> Failure {
    let message = format!("the attempt at {path} panicked; this is a bug in ferry, see the node's log");
    Failure::new(Code::AttemptPanicked, Fault::Runtime, Retry::Backoff, message)
}

#[cfg(test)]
mod tests;
