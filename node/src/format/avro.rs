//! Apache Avro object container files.
//!
//! Blocks are taken apart here, and only the records in them are left to the library: a file that is cut off, a block
//! with too few records, and a part that ends inside a block must not pass for the end of the file.
//!
//! Source: Apache Avro 1.12 specification, "Object Container Files".

use super::{
    FormatError,
    columns::{BATCH_ROWS, ColumnReader, ColumnSettings, StoredFile, Wanted},
};
use crate::{convert::scalar_of, read::ReadError};
use arrow::{
    datatypes::{Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
};
use arrow_avro::{
    compression::CompressionCodec,
    errors::AvroError,
    reader::{Decoder, DecoderMode, HeaderInfo, ReaderBuilder, read_header_info},
    schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore},
};
use ferry_common::{
    failure::Failure,
    scalar::ScalarType,
    unit::{FileRange, SampleColumn},
};
use std::{
    fs::File,
    io::{self, BufRead, Read},
    sync::{Arc, atomic::AtomicU64},
};

/// Largest block, as stored and decompressed. Writers make blocks of some 64 KiB; a hundred times that is common, too.
const BLOCK_BYTES_MAX: u64 = 512 << 20;
/// Bytes of records that are decoded at once, about.
const DECODED_BYTES: usize = 4 << 20;
/// Bytes that are read from a file at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes that are looked through at once for the end of a block.
const LOOK_BYTES: u64 = 1 << 20;
/// A block's end, which the file's header tells.
const SYNC_BYTES: usize = 16;
/// The only schema in the library's store.
const SCHEMA: Fingerprint = Fingerprint::Id(0);

/// What is wrong with a file, or with the reading of it.
enum Trouble {
    Io(io::Error),
    Format(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AvroError> for Trouble {
    fn from(error: AvroError) -> Self {
        match error {
            AvroError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(error) => Self::Io(*error),
                Err(cause) => Self::Format(cause.to_string()),
            },
            other => Self::Format(other.to_string()),
        }
    }
}

impl From<ArrowError> for Trouble {
    fn from(error: ArrowError) -> Self {
        Self::Format(error.to_string())
    }
}

/// What a file's header says.
struct Header {
    info: HeaderInfo,
    codec: Option<CompressionCodec>,
    schema: AvroSchema,
    /// As Arrow has it.
    fields: SchemaRef,
}

impl Header {
    fn read(input: impl BufRead) -> Result<Self, Trouble> {
        let info = read_header_info(input)?;
        let codec = info.compression()?;
        let schema = info.writer_schema()?;
        let decoder = decoder_of(&schema)?;
        let fields = with_uuids(&decoder.schema(), &schema);
        Ok(Self { info, codec, schema, fields })
    }

    fn names(&self) -> Vec<String> {
        self.fields.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// A decoder of records, one after the other, with nothing between them.
fn decoder_of(schema: &AvroSchema) -> Result<Decoder, Trouble> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(SCHEMA, schema.clone())?;
    let builder = ReaderBuilder::new()
        .with_batch_size(BATCH_ROWS)
        .with_decoder_mode(DecoderMode::UnframedDatum)
        .with_writer_schema_store(store)
        .with_active_fingerprint(SCHEMA);
    Ok(builder.build_decoder()?)
}

/// Marks the fields that Avro's schema calls UUIDs, for Arrow sees sixteen bytes.
fn with_uuids(fields: &Schema, schema: &AvroSchema) -> SchemaRef {
    let schema: serde_json::Value = serde_json::from_str(&schema.json_string).unwrap_or_default();
    let is_uuid = |of: &serde_json::Value| of.get("logicalType").and_then(|t| t.as_str()) == Some("uuid");
    let marked = fields.fields().iter().enumerate().map(|(at, field)| -> FieldRef {
        let of = &schema["fields"][at]["type"];
        if is_uuid(of) || of.as_array().is_some_and(|branches| branches.iter().any(is_uuid)) {
            let mut field = Field::clone(field);
            field.metadata_mut().insert("logicalType", "uuid");
            return Arc::new(field);
        }
        field.clone()
    });
    Arc::new(Schema::new(marked.collect::<Vec<_>>()))
}

/// A reader of a file's rows. Errors of the input are judged by `judge`.
pub fn reader<'r>(
    mut input: Box<dyn BufRead + 'r>,
    settings: &ColumnSettings<'_>,
    judge: &'r dyn Fn(io::Error) -> Failure,
) -> Result<ColumnReader<'r>, Failure> {
    let header = Header::read(&mut input).map_err(|trouble| match trouble {
        Trouble::Io(error) => judge(error),
        Trouble::Format(why) => no_avro(&why).judged(&settings.path),
    })?;
    let at = header.info.header_len();
    Ok(columns(&header, input, at, None, settings)?.judging_by(judge))
}

/// A reader of the rows in a part of a file, which begins and ends where blocks do. A part that begins before the first
/// block begins with it.
pub fn part(
    file: &File,
    stored: Arc<AtomicU64>,
    settings: &ColumnSettings<'_>,
    range: FileRange,
) -> Result<ColumnReader<'static>, Failure> {
    let file = StoredFile::new(file, &settings.path, stored)?;
    let header = header_of(&file)?;
    let start = range.start.max(header.info.header_len());
    let input = file.buffered(start, file.bytes(), READ_BYTES);
    columns(&header, Box::new(input), start, Some(range.end), settings)
}

fn header_of(file: &StoredFile) -> Result<Header, Failure> {
    Header::read(file.buffered(0, file.bytes(), READ_BYTES)).map_err(|trouble| match trouble {
        Trouble::Io(error) => file.failure(error.to_string()),
        Trouble::Format(why) => no_avro(&why).judged(file.path()),
    })
}

fn no_avro(why: &str) -> FormatError {
    FormatError::NotTheFormat { why: format!("the file cannot be read as Avro: {why}") }
}

fn columns<'r>(
    header: &Header,
    input: Box<dyn BufRead + 'r>,
    at: u64,
    end: Option<u64>,
    settings: &ColumnSettings<'_>,
) -> Result<ColumnReader<'r>, Failure> {
    let wanted = Wanted::of(&header.names(), settings).map_err(|e| settings.failure(&e))?;
    let decoder = decoder_of(&header.schema).map_err(|trouble| match trouble {
        Trouble::Io(error) => no_avro(&error.to_string()).judged(&settings.path),
        Trouble::Format(why) => no_avro(&why).judged(&settings.path),
    })?;
    let fields: Vec<FieldRef> = wanted.columns.iter().map(|at| header.fields.fields()[*at].clone()).collect();
    let batches = Blocks {
        input,
        at,
        end,
        codec: header.codec,
        sync: header.info.sync(),
        decoder,
        columns: wanted.columns.clone(),
        block: Block::default(),
        decoded_bytes: 0,
        skipped: settings.first_row,
        dropped: 0,
        is_done: false,
    };
    ColumnReader::new("Avro", Arc::new(Schema::new(fields)), Box::new(batches), wanted, settings)
}

/// A file's columns, with the types of the table's columns that are made for them. Reads the header.
pub fn sample(input: impl BufRead, path: &str) -> Result<Vec<SampleColumn>, Failure> {
    let header = Header::read(input).map_err(|trouble| match trouble {
        Trouble::Io(source) if source.raw_os_error().is_some() => {
            ReadError::Io { path: path.to_owned(), byte: 0, source }.into()
        }
        Trouble::Io(error) => no_avro(&error.to_string()).judged(path),
        Trouble::Format(why) => no_avro(&why).judged(path),
    })?;
    let kind = |field: &FieldRef| match field.metadata().get("logicalType").map(String::as_str) {
        Some("uuid") => ScalarType::Guid,
        _ => scalar_of(field.data_type()),
    };
    let fields = header.fields.fields().iter();
    Ok(fields
        .map(|f| SampleColumn {
            name: f.name().clone(),
            kind: kind(f).to_string(),
            is_added: false,
            reads_as: Vec::new(),
        })
        .collect())
}

/// The block that is being decoded.
#[derive(Default)]
struct Block {
    /// Where it begins in the file.
    start: u64,
    records: Vec<u8>,
    /// How far they were decoded.
    at: usize,
    count: u64,
    left: u64,
}

/// The records of a file's blocks, as batches.
struct Blocks<'r> {
    input: Box<dyn BufRead + 'r>,
    /// Where the input stands in the file.
    at: u64,
    /// The part ends here.
    end: Option<u64>,
    codec: Option<CompressionCodec>,
    sync: [u8; SYNC_BYTES],
    decoder: Decoder,
    columns: Vec<usize>,
    block: Block,
    /// Bytes of the records that the decoder holds.
    decoded_bytes: usize,
    /// Rows that are still to be passed over, from the next block on.
    skipped: u64,
    /// Rows at the front of what the decoder holds that are passed over.
    dropped: usize,
    is_done: bool,
}

impl Iterator for Blocks<'_> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let batch = self.batch();
        self.is_done = !matches!(batch, Ok(Some(_)));
        batch.transpose()
    }
}

fn format_error(why: String) -> ArrowError {
    ArrowError::AvroError(why)
}

impl Blocks<'_> {
    fn batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            let is_full = self.decoder.batch_is_full() || self.decoded_bytes >= DECODED_BYTES;
            if is_full || (self.block.left == 0 && !self.next_block()?) {
                self.decoded_bytes = 0;
                let Some(batch) = self.decoder.flush()? else { return Ok(None) };
                let passed = self.dropped.min(batch.num_rows());
                self.dropped -= passed;
                return Ok(Some(batch.slice(passed, batch.num_rows() - passed).project(&self.columns)?));
            }
            self.decode()?;
        }
    }

    /// Decodes records of the block until the decoder is full.
    fn decode(&mut self) -> Result<(), ArrowError> {
        let Self { block, decoder, decoded_bytes, .. } = self;
        while block.left > 0 && !decoder.batch_is_full() && *decoded_bytes < DECODED_BYTES {
            let read = decoder.decode(&block.records[block.at..]).map_err(|e| {
                let number = block.count - block.left + 1;
                format_error(format!("record {number} of the block at byte {}: {e}", block.start))
            })?;
            block.at += read;
            *decoded_bytes += read;
            block.left -= 1;
        }
        let rest = block.records.len() - block.at;
        if block.left == 0 && rest > 0 {
            let Block { start, count, .. } = block;
            return Err(format_error(format!("the block at byte {start} has {rest} bytes behind its {count} records")));
        }
        Ok(())
    }

    /// Reads the next block. False at the end.
    fn next_block(&mut self) -> Result<bool, ArrowError> {
        loop {
            let is_end = match self.end {
                Some(end) if self.at > end => {
                    return Err(ArrowError::ExternalError(Box::new(FormatError::SplitInsideRecord { byte: end })));
                }
                Some(end) => self.at == end,
                None => is_at_end(&mut self.input)?,
            };
            if is_end {
                return Ok(false);
            }
            let start = self.at;
            let cut_off = || format_error(format!("the file ends inside the block at byte {start}"));
            let count = self.number(start)?;
            let bytes = self.number(start)?;
            if bytes > BLOCK_BYTES_MAX {
                let why = format!("has {bytes} bytes, and {BLOCK_BYTES_MAX} are the most that are read");
                return Err(format_error(format!("the block at byte {start} {why}")));
            }
            self.at += bytes + SYNC_BYTES as u64;
            if self.skipped > 0 && count <= self.skipped {
                // Passed over as it is.
                self.skipped -= count;
                if io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())? < bytes {
                    return Err(cut_off());
                }
                self.check_sync(start)?;
                continue;
            }
            let stored = taken(&mut self.input, bytes)?.ok_or_else(cut_off)?;
            self.check_sync(start)?;
            let records = match self.codec {
                None => stored,
                Some(codec) => decompressed(codec, &stored)
                    .map_err(|e| format_error(format!("the block at byte {start} cannot be decompressed: {e}")))?,
            };
            if count == 0 && records.is_empty() {
                continue;
            }
            // As long as rows are passed over, the decoder is empty: the block's first rows are those that are left.
            self.dropped += usize::try_from(std::mem::take(&mut self.skipped)).unwrap_or(usize::MAX);
            self.block = Block { start, records, at: 0, count, left: count };
            if count == 0 {
                // Tells of the bytes that no record has.
                self.decode()?;
            }
            return Ok(true);
        }
    }

    /// Reads a number at the head of the block at `start`.
    fn number(&mut self, start: u64) -> Result<u64, ArrowError> {
        match read_long(&mut self.input)? {
            Number::Is(value, bytes) if value >= 0 => {
                self.at += bytes;
                Ok(value.unsigned_abs())
            }
            Number::Is(..) | Number::Malformed => {
                Err(format_error(format!("the block at byte {start} does not begin with two counts")))
            }
            Number::CutOff => Err(format_error(format!("the file ends inside the block at byte {start}"))),
        }
    }

    /// Reads the marker at the end of the block at `start`.
    fn check_sync(&mut self, start: u64) -> Result<(), ArrowError> {
        match taken(&mut self.input, SYNC_BYTES as u64)? {
            Some(sync) if sync == self.sync => Ok(()),
            Some(_) => Err(format_error(format!("the block at byte {start} does not end in the file's sync marker"))),
            None => Err(format_error(format!("the file ends inside the block at byte {start}"))),
        }
    }
}

fn is_at_end(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            filled => return filled.map(<[u8]>::is_empty),
        }
    }
}

/// Exactly so many bytes; `None` if the input ends before.
fn taken(input: &mut impl BufRead, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    input.by_ref().take(bytes).read_to_end(&mut out)?;
    Ok((out.len() as u64 == bytes).then_some(out))
}

/// What stands where a number is expected.
enum Number {
    /// A number, and how many bytes it takes.
    Is(i64, u64),
    CutOff,
    Malformed,
}

/// Reads a number as Avro writes it.
fn read_long(input: &mut impl BufRead) -> io::Result<Number> {
    let mut value = 0_u64;
    for at in 0..10 {
        let Some(byte) = taken(input, 1)?.and_then(|bytes| bytes.first().copied()) else { return Ok(Number::CutOff) };
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            // The lowest bit is the sign.
            return Ok(Number::Is((value >> 1) as i64 ^ -((value & 1) as i64), at + 1));
        }
    }
    Ok(Number::Malformed)
}

/// A block's records. Fails if they are too many bytes.
fn decompressed(codec: CompressionCodec, stored: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        CompressionCodec::Deflate => bounded(flate2::read::DeflateDecoder::new(stored)),
        CompressionCodec::Snappy => unsnapped(stored),
        CompressionCodec::ZStandard => bounded(zstd::stream::read::Decoder::with_buffer(stored)?),
        CompressionCodec::Bzip2 => bounded(bzip2::bufread::MultiBzDecoder::new(stored)),
        CompressionCodec::Xz => bounded(lzma_rust2::XzReader::new_mem_limit(stored, true, 256 << 10)),
    }
}

fn bounded(decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    decoder.take(BLOCK_BYTES_MAX + 1).read_to_end(&mut records)?;
    if records.len() as u64 > BLOCK_BYTES_MAX {
        return Err(too_large());
    }
    Ok(records)
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it holds more than {BLOCK_BYTES_MAX} bytes"))
}

/// Snappy's block format, with the CRC-32 of the content behind it.
fn unsnapped(stored: &[u8]) -> io::Result<Vec<u8>> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some((packed, sum)) = stored.split_last_chunk::<4>() else { return Err(damaged("it is too short".to_owned())) };
    let length = snap::raw::decompress_len(packed).map_err(|e| damaged(e.to_string()))?;
    if length as u64 > BLOCK_BYTES_MAX {
        return Err(too_large());
    }
    let records = snap::raw::Decoder::new().decompress_vec(packed).map_err(|e| damaged(e.to_string()))?;
    if crc32fast::hash(&records) != u32::from_be_bytes(*sum) {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    Ok(records)
}

/// Where parts of about `part_bytes` may begin: exact starts of blocks, ascending, the first block's left out.
///
/// A sync marker tells where a block ends. Chance may put the same sixteen bytes into a record; so what follows must
/// look like a block, too, and end in a marker itself.
pub fn split_points(file: &File, path: &str, part_bytes: u64) -> Result<Vec<u64>, Failure> {
    let file = StoredFile::new(file, path, Arc::default())?;
    let header = header_of(&file)?;
    let (first, sync) = (header.info.header_len(), header.info.sync());
    let failed = |e: io::Error| file.failure(format!("the file cannot be read as Avro: {e}"));
    let mut points: Vec<u64> = Vec::new();
    let mut wanted = part_bytes.max(1);
    while wanted.saturating_add(part_bytes / 2) < file.bytes() {
        let from = wanted.max(points.last().copied().unwrap_or(first) + 1);
        match block_start(&file, from, &sync).map_err(failed)? {
            Some(start) => {
                points.push(start);
                // A block may be larger than a part.
                wanted = start.max(wanted);
            }
            None => break,
        }
        wanted = wanted.saturating_add(part_bytes.max(1));
    }
    Ok(points)
}

/// The first block that begins at `from` or behind it; `None` if none does.
fn block_start(file: &StoredFile, from: u64, sync: &[u8; SYNC_BYTES]) -> io::Result<Option<u64>> {
    let finder = memchr::memmem::Finder::new(sync);
    // The marker may have begun before.
    let mut at = from.saturating_sub(SYNC_BYTES as u64);
    while at + (SYNC_BYTES as u64) < file.bytes() {
        let length = LOOK_BYTES.min(file.bytes() - at);
        let text = file.exactly(at, length as usize)?;
        for found in finder.find_iter(&text) {
            let start = at + (found + SYNC_BYTES) as u64;
            if start >= from && start < file.bytes() && begins_block(file, start, sync)? {
                return Ok(Some(start));
            }
        }
        if at + length >= file.bytes() {
            break;
        }
        at += length - (SYNC_BYTES as u64 - 1);
    }
    Ok(None)
}

fn begins_block(file: &StoredFile, start: u64, sync: &[u8; SYNC_BYTES]) -> io::Result<bool> {
    let mut input = file.buffered(start, file.bytes(), 32);
    let Number::Is(0.., first) = read_long(&mut input)? else { return Ok(false) };
    let Number::Is(bytes @ 0.., second) = read_long(&mut input)? else { return Ok(false) };
    let end = start.checked_add(first + second).and_then(|at| at.checked_add_signed(bytes));
    let Some(end) = end.filter(|end| end.checked_add(SYNC_BYTES as u64).is_some_and(|e| e <= file.bytes())) else {
        return Ok(false);
    };
    Ok(file.exactly(end, SYNC_BYTES)? == sync.as_slice())
}

#[cfg(test)]
mod tests;
