//! The members of an archive, one after the other, as streams.
//!
//! A member's name is a label: nothing is ever written under it. An archive that is cut off, or that holds more than
//! its reader can deliver, is an error, never a shorter archive.

use std::{
    cell::Cell,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
    sync::Arc,
};
use tar::EntryType;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions, read::ZipArchiveMetadata};

/// Bytes of headers that a tar may have before one member: long names and extended attributes.
const TAR_HEADERS_BYTES_MAX: usize = 1 << 20;
/// Bytes of the fixed part of a header in a zip's directory.
const ZIP_HEADER_BYTES: usize = 46;
/// How a header in a zip's directory begins.
const ZIP_HEADER_MAGIC: [u8; 4] = *b"PK\x01\x02";

/// What can be read from any place.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// An archive to walk through.
pub enum Input<'r> {
    /// A tar from its first byte, decompressed.
    Tar(Box<dyn Read + 'r>),
    /// A zip; its directory stands at its end.
    Zip(Box<dyn ReadSeek + 'r>),
}

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its place among the regular files, from 0.
    pub index: u32,
    /// Its name as the archive has it, without a leading `./`.
    pub name: String,
    /// Its length; for a member that holds compressed data, the length of that data.
    pub bytes: u64,
}

/// What an archive had in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Walk {
    /// Regular files, those before the first one asked for included.
    pub members: u32,
    /// Links, devices and pipes, which were left out.
    pub skipped: u32,
}

/// Is handed each member and its bytes.
pub type Visitor<'v, E> = dyn FnMut(Member, Box<dyn Read + '_>) -> Result<(), E> + 'v;

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError<E> {
    /// Damaged, cut off, or not to be read by the system; the latter has the system's number of the error.
    #[error("the archive cannot be read to its end: {source}")]
    Damaged {
        /// What was found.
        source: io::Error,
    },
    /// The same, inside one member.
    #[error("member {name} of the archive cannot be read to its end: {source}")]
    DamagedMember {
        /// The member.
        name: String,
        /// What was found.
        source: io::Error,
    },
    /// A member in a form that is not read.
    #[error("member {name} of the archive is {what}, which ferry does not read")]
    Unread {
        /// The member.
        name: String,
        /// Its form.
        what: String,
    },
    /// The visitor's own error.
    #[error("{0}")]
    Stopped(E),
}

/// Hands each regular file to `on`, in the archive's order, from the one with the index `first` on.
///
/// Folders, and what macOS adds on its own, are passed over. So are links and special entries, but they are counted.
/// A member of which `on` has read something is read to its end afterwards, so that its length and checksum are
/// verified; end the walk early by an error. A member's own compression, as in `a.csv.gz`, is left to the caller.
pub fn each_member<E>(input: Input<'_>, first: u32, on: &mut Visitor<'_, E>) -> Result<Walk, ArchiveError<E>> {
    match input {
        Input::Tar(tape) => each_tar_member(tape, first, on),
        Input::Zip(file) => each_zip_member(file, first, on),
    }
}

fn each_tar_member<E>(tape: Box<dyn Read + '_>, first: u32, on: &mut Visitor<'_, E>) -> Result<Walk, ArchiveError<E>> {
    let damaged = |source: io::Error| -> ArchiveError<E> { ArchiveError::Damaged { source } };
    let watch = Rc::new(Watch::default());
    let mut tar = tar::Archive::new(Tape { inner: tape, watch: watch.clone() });
    let mut walk = Walk::default();
    let mut entries = tar.entries().map_err(damaged)?;
    loop {
        watch.headers_bytes_left.set(Some(TAR_HEADERS_BYTES_MAX));
        let next = entries.next();
        watch.headers_bytes_left.set(None);
        let Some(entry) = next else { break };
        let mut entry = entry.map_err(damaged)?;
        let name = label(&entry.path_bytes());
        let kind = tar_kind(&mut entry, &name)
            .map_err(|what| ArchiveError::Unread { name: name.clone(), what: what.to_owned() })?;
        let bytes = entry.size();
        let mut reader = MemberReader::new(entry, bytes);
        match kind {
            Kind::Nothing => {}
            Kind::Special => walk.skipped += 1,
            Kind::Regular => {
                let member = Member { index: walk.members, name: name.clone(), bytes };
                walk.members += 1;
                if member.index >= first {
                    on(member, Box::new(&mut reader)).map_err(ArchiveError::Stopped)?;
                }
            }
        }
        // The next header stands behind the last byte of this entry.
        reader.finish().map_err(|source| ArchiveError::DamagedMember { name, source })?;
    }
    if watch.is_at_end.get() {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the mark at the end of the tar is missing");
        return Err(damaged(source));
    }
    check_rest(tar.into_inner()).map_err(damaged)?;
    Ok(walk)
}

/// What an entry of an archive is to us.
enum Kind {
    Regular,
    /// A link, a device or a pipe.
    Special,
    /// A folder, or a note about the archive.
    Nothing,
}

fn tar_kind<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str) -> Result<Kind, &'static str> {
    match entry.header().entry_type() {
        EntryType::Directory | EntryType::XGlobalHeader => Ok(Kind::Nothing),
        EntryType::Link | EntryType::Symlink | EntryType::Char | EntryType::Block | EntryType::Fifo => {
            Ok(Kind::Special)
        }
        // The oldest tars mark a folder by its name only.
        EntryType::Regular if entry.size() == 0 && name.ends_with('/') => Ok(Kind::Nothing),
        EntryType::Regular | EntryType::Continuous if is_hidden(name) => Ok(Kind::Nothing),
        EntryType::Regular | EntryType::Continuous if !is_sparse(entry) => Ok(Kind::Regular),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Err("a sparse file"),
        // The label of a volume.
        other if other.as_byte() == b'V' => Ok(Kind::Nothing),
        // It may hold rows, so it is not passed over.
        _ => Err("an entry of an unknown type"),
    }
}

/// Whether the extended header says that the member's data is a map of holes and pieces.
fn is_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> bool {
    let extensions = entry.pax_extensions().ok().flatten();
    extensions.into_iter().flatten().flatten().any(|one| one.key_bytes().starts_with(b"GNU.sparse."))
}

/// What is seen of a tar as it passes by.
#[derive(Default)]
struct Watch {
    /// Set while headers are read: what they may still take.
    headers_bytes_left: Cell<Option<usize>>,
    /// Whether the input has ended.
    is_at_end: Cell<bool>,
}

/// The input of a tar.
struct Tape<'r> {
    inner: Box<dyn Read + 'r>,
    watch: Rc<Watch>,
}

impl Read for Tape<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.watch.headers_bytes_left.get();
        let allowed = left.map_or(buffer.len(), |left| left.min(buffer.len()));
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the headers of a member are too long"));
        }
        let count = read_on(&mut self.inner, &mut buffer[..allowed])?;
        if count == 0 && allowed > 0 {
            self.watch.is_at_end.set(true);
        }
        self.watch.headers_bytes_left.set(left.map(|left| left - count));
        Ok(count)
    }
}

/// Reads what stands behind the mark at the end of a tar: padding, or an archive that nobody would have read.
fn check_rest(mut tape: impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match tape.read(&mut buffer)? {
            0 => return Ok(()),
            count if buffer[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "more data follows the end of the tar")),
        }
    }
}

fn each_zip_member<E>(
    mut file: Box<dyn ReadSeek + '_>,
    first: u32,
    on: &mut Visitor<'_, E>,
) -> Result<Walk, ArchiveError<E>> {
    let damaged = |source: io::Error| -> ArchiveError<E> { ArchiveError::Damaged { source } };
    let directory = zip_directory(&mut file).map_err(damaged)?;
    let mut walk = Walk::default();
    for place in 0..directory.len() {
        let entry = directory.entry(place).map_err(|e| damaged(io_error(e)))?;
        let name = entry.name().map_or_else(|_| label(entry.name_raw()), |name| label(name.as_bytes()));
        if entry.is_dir() || is_hidden(&name) {
            continue;
        }
        if is_special(entry.unix_mode()) {
            walk.skipped += 1;
            continue;
        }
        let member = Member { index: walk.members, name: name.clone(), bytes: entry.size() };
        walk.members += 1;
        if member.index < first {
            continue;
        }
        if entry.encrypted() {
            return Err(ArchiveError::Unread { name, what: "encrypted".to_owned() });
        }
        if let Some(what) = unread_method(entry.compression()) {
            return Err(ArchiveError::Unread { name, what });
        }
        let reader = match entry.with_reader(&mut file, ZipReadOptions::new()) {
            Ok(reader) => reader,
            Err(e) => return Err(ArchiveError::DamagedMember { name, source: io_error(e) }),
        };
        let mut reader = MemberReader::new(reader, member.bytes);
        on(member, Box::new(&mut reader)).map_err(ArchiveError::Stopped)?;
        if reader.is_begun {
            reader.finish().map_err(|source| ArchiveError::DamagedMember { name, source })?;
        }
    }
    Ok(walk)
}

/// Reads the directory of a zip, and refuses one that does not name each member once.
fn zip_directory(file: &mut (impl Read + Seek)) -> io::Result<Arc<ZipArchiveMetadata>> {
    let refused = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut zip = ZipArchive::new(&mut *file).map_err(io_error)?;
    if zip.has_duplicate_names() {
        return Err(refused("several members of the zip have the same name"));
    }
    if zip.has_overlapping_files().map_err(io_error)? {
        return Err(refused("members of the zip share the same bytes"));
    }
    let (directory, is_shifted) = (zip.metadata(), zip.offset() > 0);
    drop(zip);
    let goes_on = match directory.len().checked_sub(1) {
        Some(last) => directory_goes_on(file, directory.entry(last).map_err(io_error)?.central_header_start())?,
        // The directory begins where the shift says, so its headers would stand before its start.
        None => is_shifted,
    };
    if goes_on {
        return Err(refused("the directory of the zip has more members than it counts"));
    }
    Ok(directory)
}

/// Whether another header follows the last one that was counted, at `last`. Old writers count only to 65,535.
fn directory_goes_on(file: &mut (impl Read + Seek), last: u64) -> io::Result<bool> {
    let mut header = [0; ZIP_HEADER_BYTES];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut header)?;
    let length_at = |at: usize| i64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    // The name, the extra field and the comment.
    file.seek(SeekFrom::Current(length_at(28) + length_at(30) + length_at(32)))?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    Ok(magic == ZIP_HEADER_MAGIC)
}

/// Whether a mode of Unix says that an entry is neither a regular file nor a folder.
fn is_special(mode: Option<u32>) -> bool {
    const TYPE: u32 = 0o170_000;
    const FOLDER: u32 = 0o040_000;
    const REGULAR: u32 = 0o100_000;
    !matches!(mode.unwrap_or(0) & TYPE, 0 | FOLDER | REGULAR)
}

/// How a member is compressed, if that is not read.
fn unread_method(method: CompressionMethod) -> Option<String> {
    use CompressionMethod as M;
    if matches!(method, M::Stored | M::Deflated | M::Bzip2 | M::Zstd) {
        return None;
    }
    #[expect(deprecated, reason = "nothing else tells the number")]
    let number = method.to_u16();
    Some(format!("compressed with {method} (method {number})"))
}

fn io_error(error: zip::result::ZipError) -> io::Error {
    match error {
        zip::result::ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// A name for people and for patterns.
fn label(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.strip_prefix("./").unwrap_or(&name).to_owned()
}

/// Whether it is one of the entries that macOS adds: icons, attributes, the state of its windows.
fn is_hidden(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    name.split('/').any(|part| part == "__MACOSX") || file == ".DS_Store" || file.starts_with("._")
}

fn read_on(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A member's data, which must be exactly as long as the archive says.
struct MemberReader<R> {
    inner: R,
    bytes: u64,
    given: u64,
    is_begun: bool,
}

impl<R: Read> MemberReader<R> {
    fn new(inner: R, bytes: u64) -> Self {
        Self { inner, bytes, given: 0, is_begun: false }
    }

    /// Reads what the visitor left, so that nothing of it stays unverified.
    fn finish(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }
}

impl<R: Read> Read for MemberReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.is_begun = true;
        let count = read_on(&mut self.inner, buffer)?;
        self.given += count as u64;
        if self.given > self.bytes || (count == 0 && self.given < self.bytes) {
            let what = format!("it should have {} bytes and has {}", self.bytes, self.given);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
