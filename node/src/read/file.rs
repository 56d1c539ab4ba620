//! One source file: pinned to its version, unpacked on the way.

use super::{
    ReadError, Roots,
    codec::{Decoder, Packing, packing_of},
    expansion::{BombError, Expansion},
};
use ferry_common::{
    activity::{Format, FormatType},
    failure::Failure,
    unit::FileVersion,
};
use std::{
    fs,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes that are read from a packed file at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes at the front of a file that tell how it is packed.
const HEAD_BYTES: usize = 512;

/// The version of a file, from its metadata.
pub fn version_of(path: String, relative_path: String, metadata: &fs::Metadata) -> FileVersion {
    let modified_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    FileVersion {
        etag: format!("{:x}-{:x}-{modified_ns:x}", metadata.ino(), metadata.len()),
        path,
        relative_path,
        size_bytes: metadata.len(),
        modified_ns,
    }
}

/// A file read from an offset on. The bytes are counted, so that others can watch.
pub struct FileReader {
    file: fs::File,
    offset: u64,
    count: Arc<AtomicU64>,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.offset = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.offset)
    }
}

/// An open source file.
pub struct SourceFile {
    handle: fs::File,
    path: String,
    packing: Packing,
    /// Bytes read of the file as stored.
    stored: Arc<AtomicU64>,
    /// Bytes read of this file and no other, to find bombs by.
    own: Arc<AtomicU64>,
}

/// The format packs its own content.
pub fn holds_own_packing(kind: FormatType) -> bool {
    matches!(kind, FormatType::Parquet | FormatType::Avro | FormatType::Orc | FormatType::Excel)
}

impl SourceFile {
    /// Opens the file of that version below an allowed root. `stored` counts the bytes read of it.
    pub fn open(
        roots: &Roots,
        version: &FileVersion,
        format: &Format,
        stored: Arc<AtomicU64>,
    ) -> Result<Self, ReadError> {
        let path = version.path.clone();
        let handle = roots.open(&path)?;
        let file = Self { handle, path, packing: Packing::NONE, stored, own: Arc::default() };
        file.check_unchanged(version)?;
        let mut head = [0; HEAD_BYTES];
        let filled = read_up_to(&file.handle, &mut head).map_err(|e| ReadError::opening(&file.path, e))?;
        if filled == 0 {
            return Ok(file);
        }
        let packing = packing_of(
            &file.path,
            &head[..filled],
            format.compression.as_ref().map(|c| c.kind),
            holds_own_packing(format.kind),
        );
        let packing = packing.map_err(|why| ReadError::Packing { path: file.path.clone(), why })?;
        if format.kind.is_text()
            && packing == Packing::NONE
            && let Some(other) = binary_format(&head[..filled])
        {
            let why = format!("the settings say {:?}, but the content is {other}", format.kind);
            return Err(ReadError::Packing { path: file.path, why });
        }
        Ok(Self { packing, ..file })
    }

    /// The path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it is packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// The file itself, for formats that find their way by themselves.
    pub fn handle(&self) -> &fs::File {
        &self.handle
    }

    /// Counts the bytes read of the file as stored.
    pub fn stored(&self) -> Arc<AtomicU64> {
        self.stored.clone()
    }

    /// The file as stored, from `offset` on.
    pub fn reader_at(&self, offset: u64) -> Result<FileReader, ReadError> {
        let file = self.handle.try_clone().map_err(|e| ReadError::opening(&self.path, e))?;
        Ok(FileReader { file, offset, count: self.stored.clone() })
    }

    /// The file without its outer codec, from its start.
    pub fn unpacked(&self) -> Result<Box<dyn Read + Send>, ReadError> {
        let raw = Both { inner: self.reader_at(0)?, count: self.own.clone() };
        let Some(codec) = self.packing.codec else { return Ok(Box::new(raw)) };
        let decoded = Decoder::new(codec, BufReader::with_capacity(READ_BYTES, raw));
        let decoded = decoded.map_err(|e| self.judged(e))?;
        Ok(Box::new(Expansion::new(decoded, self.own.clone())))
    }

    /// Judges an error that came in reading.
    pub fn judged(&self, source: io::Error) -> ReadError {
        let (path, byte) = (self.path.clone(), self.own.load(Ordering::Relaxed));
        if let Some(bomb) = BombError::of(&source) {
            return ReadError::Bomb { path, what: bomb.to_string() };
        }
        if let Some(bad) = source.get_ref().and_then(|e| e.downcast_ref::<super::encoding::BadEncoding>()) {
            return ReadError::Encoding { path, what: bad.to_string() };
        }
        // An error of the system has a number; a decompressor's has none.
        if source.raw_os_error().is_none() && self.packing != Packing::NONE {
            return ReadError::Corrupt { path, byte, source };
        }
        ReadError::Io { path, byte, source }
    }

    /// Judges an error that came in reading, as a failure.
    pub fn failure(&self, source: io::Error) -> Failure {
        self.judged(source).into()
    }

    /// Fails with [`ReadError::Changed`] if the file is no longer the version listed.
    pub fn check_unchanged(&self, version: &FileVersion) -> Result<(), ReadError> {
        let failed = |e| ReadError::opening(&self.path, e);
        let open = self.handle.metadata().map_err(failed)?;
        // The path may lead to another file by now.
        let named = match fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(ReadError::Changed { path: self.path.clone(), what: "it was deleted".to_owned() });
            }
            other => other.map_err(failed)?,
        };
        for metadata in [&open, &named] {
            let now = version_of(String::new(), String::new(), metadata);
            let what = if now.size_bytes != version.size_bytes {
                format!("it had {} bytes and has {}", version.size_bytes, now.size_bytes)
            } else if now.modified_ns != version.modified_ns {
                "it was written again".to_owned()
            } else if now.etag != version.etag {
                "it was replaced".to_owned()
            } else {
                continue;
            };
            return Err(ReadError::Changed { path: self.path.clone(), what });
        }
        Ok(())
    }
}

/// The format that content surely has which no text begins like.
fn binary_format(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'P', b'A', b'R', b'1', ..] => Some("Parquet"),
        [b'O', b'b', b'j', 1, ..] => Some("Avro"),
        [b'O', b'R', b'C', 0..=8 | 11 | 12 | 14..=31, ..] => Some("ORC"),
        _ => None,
    }
}

/// Counts a second time.
struct Both<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Both<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads the head of a file.
fn read_up_to(file: &fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
