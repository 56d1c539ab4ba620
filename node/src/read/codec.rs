//! What a file is packed in, and its unpacking: told by the name, checked by the content, streamed within bounds.
//!
//! It never takes a name's word against the content. Input that is cut off is an error, never an early end.

use bzip2::bufread::MultiBzDecoder;
use ferry_common::activity::CompressionType;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use lzma_rust2::XzReader;
use std::{
    error::Error,
    hash::Hasher as _,
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use twox_hash::XxHash32;

/// Bytes at the start of a file that tell what it is packed in: one header of a tar.
pub const HEAD_BYTES: usize = 512;
/// Decompressed bytes allowed for each compressed byte. Deflate reaches 1,032; rows of data stay far below it.
pub const RATIO_MAX: u64 = 2_000;
/// Decompressed bytes that are allowed whatever the ratio: long runs of one byte are not a bomb yet.
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// Memory that one xz block may ask for. `xz -9` asks for 65 MiB.
const XZ_MEMORY_MAX_KIB: u32 = 256 << 10;
/// The largest window of a zstd frame, as a power of two: 128 MiB, what `zstd --long` writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How one stream of bytes is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 1950 (zlib), or RFC 1951 bare.
    Deflate,
    /// One stream or several.
    Bzip2,
    /// RFC 8878, one frame or several.
    Zstd,
    /// One stream or several.
    Xz,
    /// The frame format, one frame or several; not the legacy one.
    Lz4,
    /// The framing format; not Hadoop's own.
    Snappy,
}

/// How several files are kept in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// With a directory at its end; each member is compressed by itself.
    Zip,
    /// One member after the other.
    Tar,
}

/// What a file is packed in: the outer codec, and the archive inside it. Neither means that it is read as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packing {
    /// The outer codec.
    pub codec: Option<Codec>,
    /// The archive, below the codec if there is one.
    pub archive: Option<Archive>,
}

impl Packing {
    /// Read as it is.
    pub const NONE: Self = Self { codec: None, archive: None };

    const fn codec(codec: Codec) -> Self {
        Self { codec: Some(codec), archive: None }
    }

    const fn archive(archive: Archive) -> Self {
        Self { codec: None, archive: Some(archive) }
    }

    const fn tar_in(codec: Codec) -> Self {
        Self { codec: Some(codec), archive: Some(Archive::Tar) }
    }

    /// Whether a file that begins with `head` can be packed like this. Only the outer layer can be seen.
    fn agrees_with(self, head: &[u8]) -> bool {
        match (self.codec, self.archive) {
            (Some(codec), _) => codec.can_begin(head),
            (None, Some(archive)) => archive.can_begin(head),
            (None, None) => true,
        }
    }

    /// The outer layer, for messages.
    fn outer_name(self) -> &'static str {
        match (self.codec, self.archive) {
            (Some(codec), _) => codec.name(),
            (None, Some(archive)) => archive.name(),
            (None, None) => "none that ferry knows",
        }
    }
}

/// The packing that the settings name.
fn packing_asked(kind: CompressionType) -> Packing {
    use CompressionType as C;
    match kind {
        C::None => Packing::NONE,
        C::Gzip => Packing::codec(Codec::Gzip),
        C::Deflate => Packing::codec(Codec::Deflate),
        C::Bzip2 => Packing::codec(Codec::Bzip2),
        C::Zstd => Packing::codec(Codec::Zstd),
        C::Xz => Packing::codec(Codec::Xz),
        C::Lz4 => Packing::codec(Codec::Lz4),
        C::Snappy => Packing::codec(Codec::Snappy),
        C::Zip => Packing::archive(Archive::Zip),
        C::Tar => Packing::archive(Archive::Tar),
        C::TarGzip => Packing::tar_in(Codec::Gzip),
    }
}

/// What the end of a name promises; the longer ending stands before the shorter one that it ends in.
const ENDINGS: &[(&str, Packing)] = &[
    (".tar.gz", Packing::tar_in(Codec::Gzip)),
    (".tar.gzip", Packing::tar_in(Codec::Gzip)),
    (".tgz", Packing::tar_in(Codec::Gzip)),
    (".tar.bz2", Packing::tar_in(Codec::Bzip2)),
    (".tbz2", Packing::tar_in(Codec::Bzip2)),
    (".tbz", Packing::tar_in(Codec::Bzip2)),
    (".tar.zst", Packing::tar_in(Codec::Zstd)),
    (".tar.zstd", Packing::tar_in(Codec::Zstd)),
    (".tzst", Packing::tar_in(Codec::Zstd)),
    (".tar.xz", Packing::tar_in(Codec::Xz)),
    (".txz", Packing::tar_in(Codec::Xz)),
    (".tar.lz4", Packing::tar_in(Codec::Lz4)),
    (".tlz4", Packing::tar_in(Codec::Lz4)),
    (".tar.sz", Packing::tar_in(Codec::Snappy)),
    (".tar.snappy", Packing::tar_in(Codec::Snappy)),
    (".tar.deflate", Packing::tar_in(Codec::Deflate)),
    (".gz", Packing::codec(Codec::Gzip)),
    (".gzip", Packing::codec(Codec::Gzip)),
    (".deflate", Packing::codec(Codec::Deflate)),
    (".zlib", Packing::codec(Codec::Deflate)),
    (".zz", Packing::codec(Codec::Deflate)),
    (".bz2", Packing::codec(Codec::Bzip2)),
    (".bzip2", Packing::codec(Codec::Bzip2)),
    (".zst", Packing::codec(Codec::Zstd)),
    (".zstd", Packing::codec(Codec::Zstd)),
    (".xz", Packing::codec(Codec::Xz)),
    (".lz4", Packing::codec(Codec::Lz4)),
    (".sz", Packing::codec(Codec::Snappy)),
    (".snappy", Packing::codec(Codec::Snappy)),
    (".zip", Packing::archive(Archive::Zip)),
    (".tar", Packing::archive(Archive::Tar)),
];

/// Ends of the names of formats that hold their own compression; some of them are a zip by content.
const CONTAINER_ENDINGS: &[&str] = &[".xlsx", ".xlsm", ".xlsb", ".ods", ".parquet", ".orc", ".avro"];

/// What the file at `path` is packed in. `head` is its first [`HEAD_BYTES`] bytes, or all of it if it is shorter.
///
/// The settings come first, then the end of the name, then the content. What the settings or the name promise must
/// be in the content; where not, the error says what was promised and what was found. The content alone decides
/// nothing if the format holds its own compression, by its name or because `is_container_format` says so. An empty
/// file is packed in nothing.
pub fn packing_of(
    path: &str,
    head: &[u8],
    asked: Option<CompressionType>,
    is_container_format: bool,
) -> Result<Packing, String> {
    if head.is_empty() {
        return Ok(Packing::NONE);
    }
    if let Some(asked) = asked {
        let packing = packing_asked(asked);
        return checked(packing, head, || format!("the settings say {}", packing.outer_name()));
    }
    let path = path.to_ascii_lowercase();
    if let Some((ending, packing)) = ENDINGS.iter().find(|(ending, _)| path.ends_with(ending)) {
        return checked(*packing, head, || format!("the name ends in {ending}"));
    }
    let is_container = is_container_format || CONTAINER_ENDINGS.iter().any(|ending| path.ends_with(ending));
    Ok(if is_container { Packing::NONE } else { packing_by_content(head) })
}

fn checked(packing: Packing, head: &[u8], promise: impl FnOnce() -> String) -> Result<Packing, String> {
    if packing.agrees_with(head) {
        return Ok(packing);
    }
    let hint = match packing.codec {
        Some(Codec::Snappy) => " (only snappy's framing format is read, not the one of Hadoop)",
        Some(Codec::Lz4) => " (only lz4's frame format is read, not the legacy one or the one of Hadoop)",
        _ => "",
    };
    Err(format!("{}, but the content is {}{hint}", promise(), packing_by_content(head).outer_name()))
}

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
const BZIP2_MAGIC: &[u8] = b"BZh";
/// How the first block of bzip2 begins behind the magic and a digit, and how an empty stream ends there.
const BZIP2_NEXT: [&[u8]; 2] = [&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59], &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const LZ4_MAGIC: u32 = 0x184d_2204;
const SNAPPY_MAGIC: &[u8] = &[0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y'];
/// A first member, and an archive without any.
const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// Frames that hold no data; zstd and lz4 share their magic numbers.
const SKIPPABLE_MAGICS: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// What begins with `head`, as far as a magic number says so without doubt.
fn packing_by_content(head: &[u8]) -> Packing {
    // The magic of bzip2 is three letters, which a text may begin with.
    let next = head.get(4..).unwrap_or_default();
    if Codec::Bzip2.can_begin(head) && BZIP2_NEXT.iter().any(|magic| next.starts_with(magic)) {
        return Packing::codec(Codec::Bzip2);
    }
    if is_skippable(head) {
        return Packing::NONE; // zstd or lz4: only a name tells
    }
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Xz, Codec::Lz4, Codec::Snappy] {
        if codec.can_begin(head) {
            return Packing::codec(codec);
        }
    }
    if Archive::Zip.can_begin(head) {
        return Packing::archive(Archive::Zip);
    }
    if is_tar(head) { Packing::archive(Archive::Tar) } else { Packing::NONE }
}

impl Codec {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
        }
    }

    fn can_begin(self, head: &[u8]) -> bool {
        match self {
            Self::Gzip => head.starts_with(GZIP_MAGIC),
            // It has no sure magic number: anything may be deflate that is nothing else.
            Self::Deflate => packing_by_content(head) == Packing::NONE,
            Self::Bzip2 => head.starts_with(BZIP2_MAGIC),
            Self::Zstd => head.starts_with(ZSTD_MAGIC) || is_skippable(head),
            Self::Xz => head.starts_with(XZ_MAGIC),
            Self::Lz4 => head.starts_with(&LZ4_MAGIC.to_le_bytes()) || is_skippable(head),
            Self::Snappy => head.starts_with(SNAPPY_MAGIC),
        }
    }
}

impl Archive {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    fn can_begin(self, head: &[u8]) -> bool {
        match self {
            Self::Zip => ZIP_MAGICS.iter().any(|magic| head.starts_with(magic)),
            // The oldest tars have a checksum but no magic, and an empty one is all zeros.
            Self::Tar => has_tar_checksum(head) || (head.len() == HEAD_BYTES && head.iter().all(|byte| *byte == 0)),
        }
    }
}

fn is_skippable(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|magic| SKIPPABLE_MAGICS.contains(&u32::from_le_bytes(*magic)))
}

/// Whether a file, or what came out of a decoder, begins like a tar: by its magic and the checksum of its header.
pub fn is_tar(head: &[u8]) -> bool {
    head.get(257..262).is_some_and(|magic| magic == b"ustar") && has_tar_checksum(head)
}

/// A header of a tar holds the sum of its own bytes, in octal, summed with spaces in the sum's place.
fn has_tar_checksum(head: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(header) = head.get(..HEAD_BYTES) else { return false };
    let digits = header[SUM].iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(*byte));
    let stored = digits.fold(None::<u32>, |sum, digit| Some(sum.unwrap_or(0) * 8 + u32::from(digit - b'0')));
    let counted = header.iter().enumerate().map(|(at, byte)| if SUM.contains(&at) { b' ' } else { *byte });
    let sum: u32 = counted.map(u32::from).sum();
    stored == Some(sum)
}

/// Opens a decoder that may move to another thread; otherwise as [`Decoder::new`].
pub fn decoder<'r>(codec: Codec, raw: Box<dyn BufRead + Send + 'r>) -> io::Result<Box<dyn Read + Send + 'r>> {
    Ok(Box::new(Decoder::new(codec, raw)?))
}

/// Decompresses everything that `raw` holds: all members, streams or frames, one after the other.
///
/// Bytes behind the end that begin no further one are an error, and so is input that is cut off. Only a cut that
/// falls exactly between two of them cannot be told; for snappy that is between two chunks, for nothing marks its end.
pub struct Decoder<R: BufRead>(Inner<R>);

/// The input, with two bytes of it read already.
type Peeked<R> = io::Chain<io::Cursor<[u8; 2]>, R>;

enum Inner<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zlib(Box<ZlibDecoder<Peeked<R>>>),
    BareDeflate(Box<DeflateDecoder<Peeked<R>>>),
    Bzip2(Box<MultiBzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    Xz(Box<XzReader<R>>),
    Lz4(Box<Lz4Frames<R>>),
    Snappy(Box<snap::read::FrameDecoder<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Opens a decoder. Reads of `raw` what it needs to begin, and fails if that is nothing.
    pub fn new(codec: Codec, mut raw: R) -> io::Result<Self> {
        if is_at_end(&mut raw)? {
            return Err(cut_off("there is nothing to decompress"));
        }
        Ok(Self(match codec {
            Codec::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(raw))),
            Codec::Deflate => {
                let first: [u8; 2] = exact(&mut raw)?;
                let peeked = io::Cursor::new(first).chain(raw);
                if is_zlib_header(first) {
                    Inner::Zlib(Box::new(ZlibDecoder::new(peeked)))
                } else {
                    Inner::BareDeflate(Box::new(DeflateDecoder::new(peeked)))
                }
            }
            Codec::Bzip2 => Inner::Bzip2(Box::new(MultiBzDecoder::new(raw))),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Inner::Zstd(Box::new(decoder))
            }
            Codec::Xz => Inner::Xz(Box::new(XzReader::new_mem_limit(raw, true, XZ_MEMORY_MAX_KIB))),
            Codec::Lz4 => Inner::Lz4(Box::new(Lz4Frames::new(raw))),
            Codec::Snappy => Inner::Snappy(Box::new(snap::read::FrameDecoder::new(raw))),
        }))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Some decoders would take a read of nothing for the end of a block.
        if buffer.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zlib(decoder) => match decoder.read(buffer)? {
                0 => nothing_follows(decoder.get_mut()),
                read => Ok(read),
            },
            Inner::BareDeflate(decoder) => match decoder.read(buffer)? {
                0 => nothing_follows(decoder.get_mut()),
                read => Ok(read),
            },
            Inner::Bzip2(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Xz(decoder) => decoder.read(buffer),
            Inner::Lz4(decoder) => decoder.read(buffer),
            Inner::Snappy(decoder) => decoder.read(buffer),
        }
    }
}

/// Whether two bytes begin zlib: method 8, a window of at most 32 KiB, no dictionary, and their checksum. A bare
/// stream would have to begin with a stored block whose padding is not zero.
///
/// Source: RFC 1950, 2.2.
fn is_zlib_header([method, flags]: [u8; 2]) -> bool {
    let is_checked = u16::from_be_bytes([method, flags]).is_multiple_of(31);
    method & 0x0f == 8 && method >> 4 <= 7 && flags & 0x20 == 0 && is_checked
}

/// The end of a stream that nothing may follow.
fn nothing_follows(raw: &mut impl BufRead) -> io::Result<usize> {
    if is_at_end(raw)? { Ok(0) } else { Err(damaged("bytes follow the end of the deflate stream")) }
}

fn is_at_end(raw: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match raw.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            filled => return filled.map(<[u8]>::is_empty),
        }
    }
}

fn exact<const N: usize>(raw: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    raw.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(what: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// Set in the size of a block that is stored as it is.
const LZ4_AS_IT_IS: u32 = 1 << 31;
/// How far back a block may refer to the ones before it.
const LZ4_HISTORY_BYTES: usize = 64 << 10;

/// The frames of an lz4 file.
///
/// The frame reader of the crate takes a cut between two blocks for the end of the file, and ends after one frame.
/// Here every read inside a frame is exact, and only the start of a frame may find the end of the input.
///
/// Source: lz4, doc/lz4_Frame_format.md.
struct Lz4Frames<R> {
    raw: R,
    /// The frame that is read; between two frames, none.
    frame: Option<Lz4Frame>,
    /// A block as stored.
    stored: Vec<u8>,
    /// As long as a block of this frame may be. Its first `filled` bytes are the block, decompressed; `given` of them
    /// were handed out.
    block: Vec<u8>,
    given: usize,
    filled: usize,
    /// What came before the block, for frames whose blocks refer to it.
    history: Vec<u8>,
}

/// What the header of a frame says, and what was read of it.
struct Lz4Frame {
    has_linked_blocks: bool,
    has_block_checksums: bool,
    block_bytes_max: usize,
    /// The length that the header states.
    content_bytes: Option<u64>,
    /// Present if the frame ends in a checksum of its content.
    content_hash: Option<XxHash32>,
    /// Decompressed bytes so far.
    bytes: u64,
}

impl<R: BufRead> Lz4Frames<R> {
    fn new(raw: R) -> Self {
        Self { raw, frame: None, stored: Vec::new(), block: Vec::new(), given: 0, filled: 0, history: Vec::new() }
    }

    /// Goes on by one block, or by the edge of one frame. False where the input ends between two frames.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(frame) = &mut self.frame else { return self.next_frame() };
        let size = u32::from_le_bytes(exact(&mut self.raw)?);
        if size == 0 {
            frame.check_end(&mut self.raw)?;
            self.frame = None;
            return Ok(true);
        }
        let stored_bytes = (size & !LZ4_AS_IT_IS) as usize;
        if stored_bytes > frame.block_bytes_max {
            return Err(damaged("an lz4 block is longer than its frame allows"));
        }
        let is_compressed = size & LZ4_AS_IT_IS == 0;
        let target = if is_compressed { &mut self.stored } else { &mut self.block };
        if target.len() < stored_bytes {
            target.resize(stored_bytes, 0);
        }
        let stored = &mut target[..stored_bytes];
        self.raw.read_exact(stored)?;
        if frame.has_block_checksums && exact::<4>(&mut self.raw)? != XxHash32::oneshot(0, stored).to_le_bytes() {
            return Err(damaged("the checksum of an lz4 block is wrong"));
        }
        let length = if is_compressed {
            let stored = &self.stored[..stored_bytes];
            lz4_flex::block::decompress_into_with_dict(stored, &mut self.block, &self.history).map_err(damaged)?
        } else {
            stored_bytes
        };
        let block = &self.block[..length];
        frame.bytes += length as u64;
        if let Some(hash) = &mut frame.content_hash {
            hash.write(block);
        }
        if frame.has_linked_blocks {
            remember(&mut self.history, block);
        }
        (self.given, self.filled) = (0, length);
        Ok(true)
    }

    fn next_frame(&mut self) -> io::Result<bool> {
        if is_at_end(&mut self.raw)? {
            return Ok(false);
        }
        let magic = u32::from_le_bytes(exact(&mut self.raw)?);
        if magic == LZ4_MAGIC {
            let frame = Lz4Frame::read(&mut self.raw)?;
            self.history.clear();
            self.block.resize(frame.block_bytes_max, 0);
            self.frame = Some(frame);
        } else if SKIPPABLE_MAGICS.contains(&magic) {
            let length = u64::from(u32::from_le_bytes(exact(&mut self.raw)?));
            if io::copy(&mut self.raw.by_ref().take(length), &mut io::sink())? < length {
                return Err(cut_off("the file ends inside an lz4 frame"));
            }
        } else {
            return Err(damaged("what follows is no lz4 frame"));
        }
        Ok(true)
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.filled {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let ready = &self.block[self.given..self.filled];
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.given += count;
        Ok(count)
    }
}

impl Lz4Frame {
    /// Reads the header behind the magic number.
    fn read(raw: &mut impl Read) -> io::Result<Self> {
        let [flags, block_size] = exact(raw)?;
        if flags >> 6 != 1 || flags & 0b10 != 0 || block_size & 0b1000_1111 != 0 {
            return Err(damaged("the header of an lz4 frame is of an unknown version"));
        }
        if flags & 1 != 0 {
            return Err(damaged("the lz4 frame needs a dictionary"));
        }
        let mut header = vec![flags, block_size];
        let mut content_bytes = None;
        if flags & 0b1000 != 0 {
            let bytes: [u8; 8] = exact(raw)?;
            header.extend_from_slice(&bytes);
            content_bytes = Some(u64::from_le_bytes(bytes));
        }
        let [checksum] = exact(raw)?;
        if checksum != XxHash32::oneshot(0, &header).to_le_bytes()[1] {
            return Err(damaged("the checksum of an lz4 frame's header is wrong"));
        }
        let block_bytes_max = match block_size >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(damaged("the block size of an lz4 frame is unknown")),
        };
        Ok(Self {
            has_linked_blocks: flags & 0b10_0000 == 0,
            has_block_checksums: flags & 0b1_0000 != 0,
            block_bytes_max,
            content_bytes,
            content_hash: (flags & 0b100 != 0).then(|| XxHash32::with_seed(0)),
            bytes: 0,
        })
    }

    /// Reads what stands behind the end mark.
    fn check_end(&self, raw: &mut impl Read) -> io::Result<()> {
        if self.content_bytes.is_some_and(|stated| stated != self.bytes) {
            return Err(damaged("an lz4 frame is not as long as its header states"));
        }
        if let Some(hash) = &self.content_hash
            && exact::<4>(raw)? != hash.finish_32().to_le_bytes()
        {
            return Err(damaged("the checksum of an lz4 frame is wrong"));
        }
        Ok(())
    }
}

/// Appends a block to the history and keeps as much of it as a later block may refer to.
fn remember(history: &mut Vec<u8>, block: &[u8]) {
    let kept = &block[block.len().saturating_sub(LZ4_HISTORY_BYTES)..];
    let too_many = (history.len() + kept.len()).saturating_sub(LZ4_HISTORY_BYTES);
    history.drain(..too_many);
    history.extend_from_slice(kept);
}

/// A file whose few bytes become so many that it must be a decompression bomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{read} compressed bytes became {written} bytes, more than ferry unpacks of them")]
pub struct BombError {
    /// Compressed bytes read.
    pub read: u64,
    /// Decompressed bytes that came of them.
    pub written: u64,
}

impl BombError {
    /// The bomb that an error of [`Expansion`] tells of.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Reads from a decoder until its output is out of proportion to its input; then it fails with [`BombError`].
///
/// Allowed are the compressed bytes read so far times the ratio, plus 64 MiB.
pub struct Expansion<R> {
    inner: R,
    /// Compressed bytes read, counted where they are read.
    compressed: Arc<AtomicU64>,
    written: u64,
    ratio_max: u64,
}

impl<R> Expansion<R> {
    /// Watches `inner`, whose input is counted by `compressed`. The ratio is [`RATIO_MAX`].
    pub fn new(inner: R, compressed: Arc<AtomicU64>) -> Self {
        Self { inner, compressed, written: 0, ratio_max: RATIO_MAX }
    }
}

impl<R: Read> Read for Expansion<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.written += count as u64;
        let read = self.compressed.load(Ordering::Relaxed);
        if self.written > read.saturating_mul(self.ratio_max).saturating_add(RATIO_FREE_BYTES) {
            return Err(damaged(BombError { read, written: self.written }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
    use std::io::Write as _;

    const CODECS: [Codec; 7] =
        [Codec::Gzip, Codec::Deflate, Codec::Bzip2, Codec::Zstd, Codec::Xz, Codec::Lz4, Codec::Snappy];

    /// Made with `lz4 -9 -BD -B4 -BX --content-size` of 12,000 lines `1,abc`: two blocks, the second refers to the
    /// first, and there is every kind of checksum.
    const LZ4_OF_THE_TOOL: &str = concat!(
        "04224d185c40401901000000000011100100006f312c6162630a0600ffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe2500a312c6162f9307f5d230000000f",
        "0600ffffffffffffffffffffffffffffffffffffffffffffffffff41502c6162630a464e8f3d000000004b8921d4",
    );
    /// Made with `xz --check=sha256` of two lines.
    const XZ_OF_THE_TOOL: &str = concat!(
        "fd377a585a00000ae1fb0ca10200210116000000742fe5a3010007312c610a322c620a0007db83519611422325223f749e77",
        "a8dd9f6308e8f1840443d53b94ca61daaad000013808e281c239189b4b9a01000000000a595a",
    );
    /// Made with `xz`; then its header was changed to ask for a dictionary of 1 GiB.
    const XZ_OF_1_GIB: &str = concat!(
        "fd377a585a0000016922de3602002101240000005e1fc7f9010007312c610a322c620a00a9742b7100011c0844602ac89042",
        "990d010000000001595a",
    );
    /// Made with `zstd`; then its header was changed to ask for a window of 1 GiB.
    const ZSTD_OF_1_GIB: &str = "28b52ffd04a0410000312c610a322c620ac4149a93";

    fn from_hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn rows(count: u32) -> Vec<u8> {
        (0..count).flat_map(|row| format!("{row},name {},{}\n", row * 7919 % 1009, row % 97).into_bytes()).collect()
    }

    fn packed(codec: Codec, data: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Zstd => zstd::stream::encode_all(data, 3).unwrap(),
            Codec::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Lz4 => packed_as_lz4(data, FrameInfo::new()),
            Codec::Snappy if data.is_empty() => SNAPPY_MAGIC.to_vec(),
            Codec::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(data).unwrap();
                encoder.flush().unwrap();
                encoder.get_ref().clone()
            }
        }
    }

    fn packed_as_lz4(data: &[u8], info: FrameInfo) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn packed_as_bare_deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(codec: Codec, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        decoder(codec, Box::new(packed))?.read_to_end(&mut data)?;
        Ok(data)
    }

    /// Fails the test if input that ends at any of these places is taken for whole.
    fn assert_cuts_are_told(case: &str, codec: Codec, packed: &[u8], places: impl IntoIterator<Item = usize>) {
        for place in places {
            let result = unpacked(codec, &packed[..place]);
            assert!(result.is_err(), "{case}: a cut at byte {place} of {} is not told", packed.len());
        }
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        for data in [&b""[..], &b"1,a\n"[..], &rows(20_000)[..]] {
            for codec in CODECS {
                let packed = packed(codec, data);
                assert_eq!(unpacked(codec, &packed).unwrap(), data, "{codec:?} of {} bytes", data.len());
            }
            assert_eq!(unpacked(Codec::Deflate, &packed_as_bare_deflate(data)).unwrap(), data);
        }
        assert_eq!(unpacked(Codec::Xz, &from_hex(XZ_OF_THE_TOOL)).unwrap(), b"1,a\n2,b\n");
    }

    #[test]
    fn input_may_come_byte_by_byte() {
        let data = rows(300);
        for codec in CODECS {
            let packed = packed(codec, &data);
            let mut trickle = Decoder::new(codec, io::BufReader::with_capacity(1, &packed[..])).unwrap();
            let mut unpacked = Vec::new();
            trickle.read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, data, "{codec:?}");
        }
    }

    #[test]
    fn a_read_of_nothing_ends_nothing() {
        let data = rows(300);
        for codec in CODECS {
            let packed = packed(codec, &data);
            let mut decoder = Decoder::new(codec, &packed[..]).unwrap();
            let mut unpacked = vec![0; 10];
            decoder.read_exact(&mut unpacked).unwrap();
            assert_eq!(decoder.read(&mut []).unwrap(), 0);
            decoder.read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, data, "{codec:?}");
        }
    }

    #[test]
    fn several_members_are_one_content() {
        for codec in CODECS.into_iter().filter(|codec| *codec != Codec::Deflate) {
            let (first, second) = (rows(5_000), rows(10));
            let joined = [packed(codec, &first), packed(codec, b""), packed(codec, &second)].concat();
            assert_eq!(unpacked(codec, &joined).unwrap(), [first, second].concat(), "{codec:?}");
        }
    }

    #[test]
    fn a_cut_is_an_error() {
        // Below 64 KiB, so that snappy has one chunk.
        let data = rows(2_000);
        for codec in CODECS {
            let packed = packed(codec, &data);
            let tenths = (0..10).map(|tenth| packed.len() * tenth / 10);
            let edges = [1, 2, 3, 4, 5, 7, packed.len() - 8, packed.len() - 4, packed.len() - 1];
            assert_cuts_are_told(codec.name(), codec, &packed, tenths.chain(edges));
        }
        let packed = packed_as_bare_deflate(&data);
        assert_cuts_are_told("bare deflate", Codec::Deflate, &packed, (0..10).map(|tenth| packed.len() * tenth / 10));
    }

    #[test]
    fn a_cut_in_the_second_member_is_an_error() {
        for codec in [Codec::Gzip, Codec::Bzip2, Codec::Zstd, Codec::Xz, Codec::Lz4] {
            let first = packed(codec, &rows(100));
            let both = [first.clone(), packed(codec, &rows(200))].concat();
            let places = [first.len() + 1, first.len() + 4, first.len() + 5, first.len() + 12, both.len() - 1];
            assert_cuts_are_told(codec.name(), codec, &both, places);
        }
    }

    #[test]
    fn small_files_of_the_tools_are_told_cut_at_every_byte() {
        for (case, codec, digits) in [("lz4", Codec::Lz4, LZ4_OF_THE_TOOL), ("xz", Codec::Xz, XZ_OF_THE_TOOL)] {
            let packed = from_hex(digits);
            assert_cuts_are_told(case, codec, &packed, 0..packed.len());
        }
    }

    #[test]
    fn bytes_behind_the_end_are_an_error() {
        for codec in CODECS {
            let packed = [packed(codec, &rows(10)), b"more and more".to_vec()].concat();
            assert!(unpacked(codec, &packed).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn every_kind_of_lz4_frame_is_read() {
        let data = rows(20_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
                for is_checked in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(is_checked)
                        .content_checksum(is_checked)
                        .content_size(is_checked.then_some(data.len() as u64));
                    let packed = packed_as_lz4(&data, info.clone());
                    assert_eq!(unpacked(Codec::Lz4, &packed).unwrap(), data, "{info:?}");
                }
            }
        }
        assert_eq!(unpacked(Codec::Lz4, &from_hex(LZ4_OF_THE_TOOL)).unwrap(), b"1,abc\n".repeat(12_000));
    }

    #[test]
    fn a_cut_between_two_lz4_blocks_is_an_error() {
        let data = rows(20_000);
        let info = FrameInfo::new().block_size(BlockSize::Max64KB);
        let packed = packed_as_lz4(&data, info);
        let mut place = 7; // behind the header
        let mut blocks = 0;
        loop {
            assert_cuts_are_told("lz4", Codec::Lz4, &packed, [place]);
            let size = u32::from_le_bytes(*packed[place..].first_chunk().unwrap()) & !LZ4_AS_IT_IS;
            if size == 0 {
                break;
            }
            place += 4 + size as usize;
            blocks += 1;
        }
        assert!(blocks > 3);
    }

    #[test]
    fn any_change_of_a_checked_lz4_frame_is_an_error() {
        let packed = from_hex(LZ4_OF_THE_TOOL);
        for place in 0..packed.len() {
            let mut changed = packed.clone();
            changed[place] ^= 1;
            assert!(unpacked(Codec::Lz4, &changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn frames_without_data_are_skipped() {
        let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"notes"].concat();
        for codec in [Codec::Zstd, Codec::Lz4] {
            let data = rows(10);
            let joined = [skippable.clone(), packed(codec, &data), skippable.clone()].concat();
            assert_eq!(unpacked(codec, &joined).unwrap(), data, "{codec:?}");
            assert_cuts_are_told(codec.name(), codec, &joined, [2, 6, 10, joined.len() - 1, joined.len() - 6]);
        }
    }

    #[test]
    fn a_file_may_not_ask_for_more_memory_than_allowed() {
        let error = unpacked(Codec::Xz, &from_hex(XZ_OF_1_GIB)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(unpacked(Codec::Zstd, &from_hex(ZSTD_OF_1_GIB)).is_err());
    }

    #[test]
    fn a_bomb_is_told_before_it_is_unpacked() {
        let zeros = packed(Codec::Gzip, &vec![0; 70 << 20]);
        let compressed = Arc::new(AtomicU64::new(zeros.len() as u64));
        let open = || Expansion::new(Decoder::new(Codec::Gzip, &zeros[..]).unwrap(), compressed.clone());
        assert_eq!(io::copy(&mut open(), &mut io::sink()).unwrap(), 70 << 20);

        let error = io::copy(&mut Expansion { ratio_max: 1, ..open() }, &mut io::sink()).unwrap_err();
        let bomb = BombError::of(&error).unwrap();
        assert_eq!(bomb.read, zeros.len() as u64);
        assert!(bomb.written > 64 << 20 && bomb.written < 66 << 20, "{bomb}");
    }

    #[test]
    fn the_allowance_grows_with_what_was_read() {
        let compressed = Arc::new(AtomicU64::new(1_000));
        let mut endless = Expansion::new(io::repeat(b'x'), compressed);
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        let error = loop {
            match endless.read(&mut buffer) {
                Ok(count) => total += count as u64,
                Err(e) => break e,
            }
        };
        let allowed = (64 << 20) + 1_000 * RATIO_MAX;
        assert!(total <= allowed && total + (1 << 16) > allowed);
        assert_eq!(BombError::of(&error).unwrap().read, 1_000);
    }

    fn tar_head() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        tar.append_data(&mut header, "a.csv", &b"1,a\n"[..]).unwrap();
        let mut bytes = tar.into_inner().unwrap();
        bytes.truncate(HEAD_BYTES);
        bytes
    }

    #[test]
    fn the_name_the_settings_and_the_content_tell_the_packing() {
        let [gzip, bzip2, zstd, xz, lz4, snappy] =
            [Codec::Gzip, Codec::Bzip2, Codec::Zstd, Codec::Xz, Codec::Lz4, Codec::Snappy]
                .map(|codec| packed(codec, b"1,a\n"));
        let deflate = packed(Codec::Deflate, b"1,a\n");
        let (tar, zip, text) = (tar_head(), b"PK\x03\x04 and so on".to_vec(), b"BZh,1\n".to_vec());
        let zeros = vec![0; HEAD_BYTES];
        let of = |codec| Ok(Packing::codec(codec));
        let error = |text: &str| Err(text.to_owned());
        for (case, path, head, asked, expected) in [
            ("a name", "a.csv.gz", &gzip, None, of(Codec::Gzip)),
            ("a name in capitals", "A.CSV.GZ", &gzip, None, of(Codec::Gzip)),
            ("bzip2", "a.bz2", &bzip2, None, of(Codec::Bzip2)),
            ("zstd", "a.zst", &zstd, None, of(Codec::Zstd)),
            ("xz", "a.xz", &xz, None, of(Codec::Xz)),
            ("lz4", "a.lz4", &lz4, None, of(Codec::Lz4)),
            ("snappy", "a.snappy", &snappy, None, of(Codec::Snappy)),
            ("deflate", "a.deflate", &deflate, None, of(Codec::Deflate)),
            ("zip", "a.zip", &zip, None, Ok(Packing::archive(Archive::Zip))),
            ("tar", "a.tar", &tar, None, Ok(Packing::archive(Archive::Tar))),
            ("an empty tar", "a.tar", &zeros, None, Ok(Packing::archive(Archive::Tar))),
            ("a tar in gzip", "a.tgz", &gzip, None, Ok(Packing::tar_in(Codec::Gzip))),
            ("a tar in xz", "a.tar.xz", &xz, None, Ok(Packing::tar_in(Codec::Xz))),
            ("no telling name, gzip", "a", &gzip, None, of(Codec::Gzip)),
            ("no telling name, bzip2", "a", &bzip2, None, of(Codec::Bzip2)),
            ("no telling name, zstd", "a.csv", &zstd, None, of(Codec::Zstd)),
            ("no telling name, xz", "a", &xz, None, of(Codec::Xz)),
            ("no telling name, lz4", "a", &lz4, None, of(Codec::Lz4)),
            ("no telling name, snappy", "a", &snappy, None, of(Codec::Snappy)),
            ("no telling name, zip", "a", &zip, None, Ok(Packing::archive(Archive::Zip))),
            ("no telling name, tar", "a", &tar, None, Ok(Packing::archive(Archive::Tar))),
            ("no telling name, zeros are no tar", "a", &zeros, None, Ok(Packing::NONE)),
            ("a text that begins like bzip2", "a.csv", &text, None, Ok(Packing::NONE)),
            ("a workbook is a zip, but not to us", "a.XLSX", &zip, None, Ok(Packing::NONE)),
            ("a workbook in gzip", "a.xlsx.gz", &gzip, None, of(Codec::Gzip)),
            ("parquet names its inner codec", "a.snappy.parquet", &text, None, Ok(Packing::NONE)),
            ("nothing in it", "a.gz", &Vec::new(), None, Ok(Packing::NONE)),
            ("settings before the name", "a.csv", &gzip, Some(CompressionType::Gzip), of(Codec::Gzip)),
            ("nothing asked", "a.csv.gz", &gzip, Some(CompressionType::None), Ok(Packing::NONE)),
            ("a tar in gzip asked", "a", &gzip, Some(CompressionType::TarGzip), Ok(Packing::tar_in(Codec::Gzip))),
            ("deflate has no magic", "a", &text, Some(CompressionType::Deflate), of(Codec::Deflate)),
            ("zip, not gzip", "a.gz", &zip, None, error("the name ends in .gz, but the content is zip")),
            (
                "text, not zip",
                "a.zip",
                &text,
                None,
                error("the name ends in .zip, but the content is none that ferry knows"),
            ),
            ("gzip, not tar", "a.tar", &gzip, None, error("the name ends in .tar, but the content is gzip")),
            ("tar, not tar.gz", "a.tar.gz", &tar, None, error("the name ends in .tar.gz, but the content is tar")),
            (
                "xz asked",
                "a.gz",
                &gzip,
                Some(CompressionType::Xz),
                error("the settings say xz, but the content is gzip"),
            ),
            (
                "deflate asked",
                "a",
                &gzip,
                Some(CompressionType::Deflate),
                error("the settings say deflate, but the content is gzip"),
            ),
        ] {
            assert_eq!(packing_of(path, head, asked, false), expected, "{case}");
        }
        assert_eq!(packing_of("a", &zip, None, true), Ok(Packing::NONE));
        assert_eq!(packing_of("a.zip", &zip, None, true), Ok(Packing::archive(Archive::Zip)));
        let hadoop = packing_of("part-0.snappy", &text, None, false).unwrap_err();
        assert!(hadoop.contains("Hadoop"), "{hadoop}");
        assert!(is_tar(&tar) && !is_tar(&zeros) && !is_tar(&gzip));
    }
}
