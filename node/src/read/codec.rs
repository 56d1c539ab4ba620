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
};
use twox_hash::XxHash32;

/// Bytes at the start of a file that tell what it is packed in: one header of a tar.
pub const HEAD_BYTES: usize = 512;
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
fn is_tar(head: &[u8]) -> bool {
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

#[cfg(test)]
mod tests;
