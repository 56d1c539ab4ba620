//! One source file: pinned to its version, read from front to back, decompressed on the way.

use super::{ReadError, Roots};
use ferry_common::unit::FileVersion;
use flate2::read::MultiGzDecoder;
use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes that are read from the file at once.
const READ_BYTES: usize = 1 << 20;
/// How a gzip file begins (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The mark that some programs put before UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

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

/// A reader that counts. The count is shared, so that others can watch it.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Raw = io::BufReader<Counted<fs::File>>;

enum Decoder {
    Plain(Raw),
    Gzip(Box<MultiGzDecoder<Raw>>),
}

/// An open source file.
pub struct SourceFile {
    /// The same open file once more, to look at its metadata.
    handle: fs::File,
    path: String,
    decoder: Decoder,
    /// Bytes read of the file as stored.
    stored: Arc<AtomicU64>,
}

impl SourceFile {
    /// Opens the file of that version below an allowed root. `stored` counts the bytes read of it.
    ///
    /// Plain and gzip are told apart by content; a name in `.gz` promises gzip.
    pub fn open(roots: &Roots, version: &FileVersion, stored: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let path = version.path.clone();
        let failed = |e| ReadError::opening(&path, e);
        let handle = roots.open(&path)?;
        let file = Self { decoder: raw_decoder(&handle, stored.clone()).map_err(failed)?, handle, path, stored };
        file.check_unchanged(version)?;
        file.with_decompression(version)
    }

    fn with_decompression(mut self, version: &FileVersion) -> Result<Self, ReadError> {
        let mut head = [0; 2];
        let filled = read_up_to(&self.handle, &mut head).map_err(|e| ReadError::opening(&self.path, e))?;
        let is_gzip = filled == 2 && head == GZIP_MAGIC;
        if is_gzip {
            if let Decoder::Plain(raw) = self.decoder {
                self.decoder = Decoder::Gzip(Box::new(MultiGzDecoder::new(raw)));
            }
        } else if version.size_bytes > 0 && self.path.ends_with(".gz") {
            let source = io::Error::new(io::ErrorKind::InvalidData, "the name says gzip, the content does not");
            return Err(ReadError::Corrupt { path: self.path, byte: 0, source });
        }
        Ok(self)
    }

    /// The path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads decompressed bytes; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            let result = match &mut self.decoder {
                Decoder::Plain(raw) => raw.read(buffer),
                Decoder::Gzip(gzip) => gzip.read(buffer),
            };
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.judged(source)),
                Ok(read) => return Ok(read),
            }
        }
    }

    fn judged(&self, source: io::Error) -> ReadError {
        let (path, byte) = (self.path.clone(), self.stored.load(Ordering::Relaxed));
        match &self.decoder {
            // An error of the system has a number; the decompressor's has none.
            Decoder::Gzip(_) if source.raw_os_error().is_none() => ReadError::Corrupt { path, byte, source },
            _ => ReadError::Io { path, byte, source },
        }
    }

    /// Goes on to `offset` of the decompressed bytes, of which `position` were read. Returns whether it could jump;
    /// where not, the caller reads on and throws away.
    pub fn jump(&mut self, offset: u64) -> Result<bool, ReadError> {
        match &mut self.decoder {
            Decoder::Gzip(_) => Ok(false),
            Decoder::Plain(raw) => {
                raw.seek(SeekFrom::Start(offset)).map_err(|source| ReadError::Io {
                    path: self.path.clone(),
                    byte: offset,
                    source,
                })?;
                Ok(true)
            }
        }
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

impl Seek for Counted<fs::File> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn raw_decoder(handle: &fs::File, stored: Arc<AtomicU64>) -> io::Result<Decoder> {
    let counted = Counted { inner: handle.try_clone()?, count: stored };
    Ok(Decoder::Plain(io::BufReader::with_capacity(READ_BYTES, counted)))
}

/// Reads the head of a file without moving its position.
fn read_up_to(file: &fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
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

/// Length of the byte order mark at the start of decompressed text: 0 or 3.
pub(super) fn byte_order_mark(text: &[u8]) -> usize {
    if text.starts_with(&BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
}
