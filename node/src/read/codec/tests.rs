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
    Decoder::new(codec, packed)?.read_to_end(&mut data)?;
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
        ("xz asked", "a.gz", &gzip, Some(CompressionType::Xz), error("the settings say xz, but the content is gzip")),
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
