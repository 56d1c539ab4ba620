//! Gathers staged records into chunks and hands these to the compressor.
//!
//! Where a chunk ends follows from the records and the settings alone: every attempt at a unit cuts the same chunks.

use crate::{
    compress::{Ended, Message, Messages},
    convert::date_of,
    progress::Progress,
    quarantine,
    record::{BadRow, Batch, Place, Run},
};
use bytes::Bytes;
use ferry_common::{
    failure::{Code, Failure, Fault, Retry},
    id::ChunkNumber,
    plan::StagedFormat,
    staging,
    unit::{AttemptKey, Chunk, CopyWork, FileRows},
};
use std::sync::atomic::Ordering;

/// Chunks that changes of the day may make of one unit. Each is a blob and a command.
const DAYS_MAX: u32 = 1_000;

/// Why cutting ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutError {
    /// The file or the settings.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The other half is gone: it failed, or the attempt was stopped.
    #[error("the upload has ended")]
    Ended,
}

impl From<Failure> for CutError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Ended> for CutError {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

/// What was cut in all.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) chunks: u32,
    /// Rows of files whose last ones are in no chunk, because they were left out.
    pub(crate) files: Vec<FileRows>,
    pub(crate) quarantine: Option<String>,
}

/// Gathers records into chunks.
pub(crate) struct Cutter<'a> {
    key: &'a AttemptKey,
    work: &'a CopyWork,
    format: StagedFormat,
    progress: &'a Progress,
    messages: Messages,
    /// Number of the current chunk.
    number: u32,
    /// Its blob has begun.
    is_open: bool,
    /// Staged bytes and rows of the current chunk, and rows left out since the chunk before.
    bytes: u64,
    rows: u64,
    skipped: u64,
    /// Rows read and left out up to the current chunk.
    rows_before: u64,
    skipped_before: u64,
    /// The quarantine of the current chunk has begun.
    quarantine: Option<String>,
    /// File that is read: its number in the unit and its path.
    file: u32,
    path: String,
    /// Rows of files in the current chunk; kept for units of several files.
    files: Vec<FileRows>,
    keeps_files: bool,
    /// The current file is the last of `files`.
    has_entry: bool,
    /// Fields of the records in the current chunk.
    width: u32,
    created: Option<String>,
    day: Option<i32>,
    day_changes: u32,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(
        key: &'a AttemptKey,
        work: &'a CopyWork,
        format: StagedFormat,
        progress: &'a Progress,
        messages: Messages,
    ) -> Self {
        let resume = &work.resume;
        progress.rows.store(resume.rows, Ordering::Relaxed);
        progress.skipped.store(resume.rows_skipped, Ordering::Relaxed);
        Self {
            key,
            work,
            format,
            progress,
            messages,
            number: resume.next_chunk,
            is_open: false,
            bytes: 0,
            rows: 0,
            skipped: 0,
            rows_before: resume.rows,
            skipped_before: resume.rows_skipped,
            quarantine: None,
            file: 0,
            path: String::new(),
            files: Vec::new(),
            keeps_files: false,
            has_entry: false,
            width: 0,
            created: None,
            day: None,
            day_changes: 0,
        }
    }

    /// A file begins. `created` is the date that its rows get.
    pub(crate) fn begin_file(
        &mut self,
        number: u32,
        relative_path: &str,
        is_one_of_several: bool,
        created: Option<String>,
    ) -> Result<(), CutError> {
        (self.file, self.path) = (number, relative_path.to_owned());
        self.keeps_files |= is_one_of_several;
        self.has_entry = false;
        if created != self.created && self.work.creation_time.as_ref().is_some_and(|t| t.column.is_none()) {
            self.end_chunk(Place::START)?;
            self.created = created;
        }
        // A file without rows is told of as well.
        self.file_rows();
        Ok(())
    }

    /// Rows of the current file in the current chunk, where they are kept.
    fn file_rows(&mut self) -> Option<&mut FileRows> {
        if self.keeps_files && !self.has_entry {
            self.files.push(FileRows { relative_path: self.path.clone(), rows: 0, skipped: 0 });
            self.has_entry = true;
        }
        self.files.last_mut()
    }

    /// Takes records up. `check` is asked before a chunk ends: the file must still be the version that was listed.
    pub(crate) fn take(&mut self, batch: &Batch, check: impl Fn() -> Result<(), Failure>) -> Result<(), CutError> {
        if batch.width != self.width {
            // Azure Data Explorer refuses a blob whose records differ in width.
            if self.rows > 0 {
                check()?;
                self.end_chunk(batch.start)?;
            }
            self.width = batch.width;
        }
        if let Some(run) = batch.as_one()
            && self.bytes + run.bytes() <= self.work.settings.chunk_bytes_max()
        {
            return Ok(self.take_run(batch, run)?);
        }
        let (mut rows_taken, mut bytes_taken) = (0_u64, 0_u64);
        let mut run: Option<Run> = None;
        let mut source_end = 0;
        let mut bad = batch.bad.iter().peekable();
        for (number, record) in batch.records.iter().enumerate() {
            while let Some(row) = bad.next_if(|row| row.before as usize <= number) {
                self.leave_out(row)?;
                source_end = row.source_end;
            }
            let bytes = u64::from(record.end - record.start);
            let is_other_day = batch.days.get(number).is_some_and(|day| self.day.is_some_and(|d| d != *day));
            let has_room = self.rows == 0 || self.bytes + bytes <= self.work.settings.chunk_bytes_max();
            if !has_room || is_other_day {
                self.send(batch, run.take())?;
                check()?;
                self.day_changes += u32::from(is_other_day);
                if self.day_changes > DAYS_MAX {
                    return Err(self.too_many_days().into());
                }
                self.end_chunk(batch.place_at(source_end))?;
            }
            if let Some(day) = batch.days.get(number) {
                self.set_day(*day);
            }
            let longer = run.and_then(|run| run.and(record));
            if longer.is_none() {
                self.send(batch, run)?;
            }
            run = Some(longer.unwrap_or(Run::of(record)));
            let rows = u64::from(record.rows);
            self.count(bytes, rows);
            rows_taken += rows;
            bytes_taken += bytes;
            source_end = record.source_end;
        }
        self.send(batch, run)?;
        for row in bad {
            self.leave_out(row)?;
        }
        self.progress.rows.fetch_add(rows_taken, Ordering::Relaxed);
        self.progress.written.fetch_add(bytes_taken, Ordering::Relaxed);
        Ok(())
    }

    /// Takes up a whole batch that has room in the current chunk.
    fn take_run(&mut self, batch: &Batch, run: Run) -> Result<(), Ended> {
        self.send(batch, Some(run))?;
        self.count(run.bytes(), run.rows);
        self.progress.rows.fetch_add(run.rows, Ordering::Relaxed);
        self.progress.written.fetch_add(run.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Counts what comes into the current chunk.
    fn count(&mut self, bytes: u64, rows: u64) {
        self.bytes += bytes;
        self.rows += rows;
        if let Some(file) = self.file_rows() {
            file.rows += rows;
        }
    }

    fn set_day(&mut self, day: i32) {
        if self.day != Some(day) {
            self.day = Some(day);
            self.created = date_of(day).map(|date| format!("{date}T00:00:00Z"));
        }
    }

    fn too_many_days(&self) -> Failure {
        let message = format!(
            "{}: the date of sink.creationTime changes more than {DAYS_MAX} times; a chunk holds one day alone, so the file \
             must be sorted by it",
            self.path
        );
        Failure::new(Code::SettingsInvalid, Fault::Source, Retry::Never, message)
    }

    /// An earlier attempt has staged this chunk: it is cut, so that the next begins where it must, and not sent.
    fn is_accepted(&self) -> bool {
        self.work.resume.accepted_chunks.contains(&ChunkNumber(self.number))
    }

    fn blob(&self) -> String {
        let extension = staging::extension(self.format, self.work.settings.compression);
        staging::blob_name(&self.key.run, self.key.unit, self.key.attempt, ChunkNumber(self.number), extension)
    }

    fn send(&mut self, batch: &Batch, run: Option<Run>) -> Result<(), Ended> {
        match run {
            Some(run) => self.write(batch.bytes(run.is_rewritten, run.start, run.end)),
            None => Ok(()),
        }
    }

    /// Adds bytes of records to the current chunk.
    fn write(&mut self, bytes: Bytes) -> Result<(), Ended> {
        if bytes.is_empty() || self.is_accepted() {
            return Ok(());
        }
        if !self.is_open {
            self.messages.send(Message::ChunkBegin(self.blob()))?;
            self.is_open = true;
        }
        self.messages.send(Message::Data(bytes))
    }

    fn leave_out(&mut self, row: &BadRow) -> Result<(), CutError> {
        self.skipped += 1;
        self.progress.rows.fetch_add(1, Ordering::Relaxed);
        self.progress.skipped.fetch_add(1, Ordering::Relaxed);
        if let Some(file) = self.file_rows() {
            file.rows += 1;
            file.skipped += 1;
        }
        if let Some(max) = self.work.settings.skip_rows_max
            && self.skipped_before + self.skipped > max
        {
            let message = format!(
                "{}: more than settings.skipRowsMax {max} rows do not fit; the last of them: {}",
                self.path, row.error
            );
            return Err(Failure::new(Code::TooManyRowsSkipped, Fault::Source, Retry::Never, message).into());
        }
        if self.is_accepted() {
            return Ok(());
        }
        if self.quarantine.is_none() {
            let name =
                staging::quarantine_name(&self.key.run, self.key.unit, self.key.attempt, ChunkNumber(self.number));
            self.messages.send(Message::QuarantineBegin(name.clone()))?;
            self.messages.send(Message::Quarantine(Bytes::from_static(quarantine::HEADER)))?;
            self.quarantine = Some(name);
        }
        self.messages.send(Message::Quarantine(quarantine::line(&self.path, row).into()))?;
        Ok(())
    }

    /// Ends the current chunk before the record at `next`. Without a row it is none yet.
    pub(crate) fn end_chunk(&mut self, next: Place) -> Result<(), Ended> {
        if self.rows == 0 {
            return Ok(());
        }
        let rows_end = self.rows_before + self.rows + self.skipped;
        let skipped_end = self.skipped_before + self.skipped;
        let quarantine = self.end_quarantine()?;
        // A file whose rows are yet to come belongs to the next chunk.
        let next_file = self.files.pop_if(|f| self.has_entry && f.rows == 0);
        if self.is_open {
            let chunk = Chunk {
                number: ChunkNumber(self.number),
                blob: self.blob(),
                raw_bytes: self.bytes,
                // Filled in where the blob is made.
                staged_bytes: 0,
                crc32: 0,
                rows: self.rows,
                source_end_bytes: next.byte,
                rows_end,
                source_lines_end: next.line - 1,
                file_end: self.file,
                skipped_end,
                quarantine,
                created: self.created.clone(),
                files: if self.keeps_files { std::mem::take(&mut self.files) } else { Vec::new() },
            };
            self.messages.send(Message::ChunkEnd(Box::new(chunk)))?;
            self.is_open = false;
        }
        self.files.clear();
        self.has_entry = next_file.is_some();
        self.files.extend(next_file);
        (self.rows_before, self.skipped_before) = (rows_end, skipped_end);
        (self.bytes, self.rows, self.skipped) = (0, 0, 0);
        self.number += 1;
        Ok(())
    }

    fn end_quarantine(&mut self) -> Result<Option<String>, Ended> {
        let name = self.quarantine.take();
        if name.is_some() {
            self.messages.send(Message::QuarantineEnd)?;
        }
        Ok(name)
    }

    /// Stages a blob that is no run of records: `write` hands its bytes to the sink and returns its rows.
    pub(crate) fn whole_blob(
        &mut self,
        next: Place,
        write: impl FnOnce(&mut BlobSink<'_>) -> Result<u64, Failure>,
    ) -> Result<(), CutError> {
        if self.is_accepted() {
            let mut nowhere = BlobSink { messages: None, buffer: Vec::new(), bytes: 0, has_ended: false };
            self.rows = write(&mut nowhere)?;
            self.bytes = nowhere.bytes;
        } else {
            self.messages.send(Message::ChunkBegin(self.blob()))?;
            self.is_open = true;
            let mut sink = BlobSink { messages: Some(&self.messages), buffer: Vec::new(), bytes: 0, has_ended: false };
            let written = write(&mut sink);
            if sink.has_ended {
                return Err(CutError::Ended);
            }
            let rows = written?;
            sink.send()?;
            (self.bytes, self.rows) = (sink.bytes, rows);
        }
        self.progress.rows.fetch_add(self.rows, Ordering::Relaxed);
        self.progress.written.fetch_add(self.bytes, Ordering::Relaxed);
        Ok(self.end_chunk(next)?)
    }

    /// Blobs hold Parquet: they are whole files, not runs of records.
    pub(crate) fn stages_parquet(&self) -> bool {
        self.format == StagedFormat::Parquet
    }

    /// Number of the next chunk.
    pub(crate) fn next_chunk(&self) -> u32 {
        self.number
    }

    /// Ends the unit behind its last record.
    pub(crate) fn finish(mut self, end: Place) -> Result<Cut, CutError> {
        self.end_chunk(end)?;
        let quarantine = self.end_quarantine()?;
        Ok(Cut { chunks: self.number, files: self.files, quarantine })
    }
}

/// Takes the bytes of a whole blob.
pub(crate) struct BlobSink<'a> {
    messages: Option<&'a Messages>,
    buffer: Vec<u8>,
    bytes: u64,
    has_ended: bool,
}

impl BlobSink<'_> {
    fn send(&mut self) -> Result<(), Ended> {
        let buffer = std::mem::take(&mut self.buffer);
        match self.messages {
            Some(messages) if !buffer.is_empty() => messages.send(Message::Data(buffer.into())),
            _ => Ok(()),
        }
    }
}

impl std::io::Write for BlobSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        /// Bytes that go on together.
        const PIECE: usize = 1 << 20;
        self.bytes += bytes.len() as u64;
        if self.messages.is_some() {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() >= PIECE && self.send().is_err() {
                self.has_ended = true;
                return Err(std::io::Error::other("the upload has ended"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
