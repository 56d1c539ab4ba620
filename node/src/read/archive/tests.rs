use super::*;
use std::io::Write as _;

/// Made with `zip -P`.
const ENCRYPTED_ZIP: &str = concat!(
    "504b03040a000900000046af765dd454b9ee180000000c00000006001c00696e2e63737655540900037465036b7465036b75",
    "780b000104000000000400000000588e413d9b4d39d87fd2d429e8fe5524727d3465ba173064504b0708d454b9ee18000000",
    "0c000000504b01021e030a000900000046af765dd454b9ee180000000c000000060018000000000001000000a48100000000",
    "696e2e63737655540500037465036b75780b000104000000000400000000504b050600000000010001004c00000068000000",
    "0000",
);
/// Made with Python's `zipfile` on a pipe: the sizes stand behind the data.
const ZIP_WITH_DESCRIPTOR: &str = concat!(
    "504b03041400080008008318225800000000000000000000000006000000696e2e637376cb4cd1c94bcc4de532d449a42a06",
    "00504b07086f4a08c30f00000058000000504b01021403140008000800831822586f4a08c30f000000580000000600000000",
    "00000000000000800100000000696e2e637376504b0506000000000100010034000000430000000000",
);

type Seen = Vec<(u32, String, Vec<u8>)>;

fn from_hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn tar_input(bytes: &[u8]) -> Input<'_> {
    Input::Tar(Box::new(bytes))
}

fn zip_input(bytes: &[u8]) -> Input<'_> {
    Input::Zip(Box::new(io::Cursor::new(bytes)))
}

fn walked(input: Input<'_>, first: u32) -> Result<(Walk, Seen), ArchiveError<io::Error>> {
    let mut seen = Vec::new();
    let walk = each_member::<io::Error>(input, first, &mut |member, mut reader| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        assert_eq!(member.bytes, bytes.len() as u64);
        seen.push((member.index, member.name, bytes));
        Ok(())
    })?;
    Ok((walk, seen))
}

/// Walks, but reads only the first byte of each member.
fn tasted(input: Input<'_>) -> Result<Walk, ArchiveError<io::Error>> {
    each_member::<io::Error>(input, 0, &mut |_, mut reader| reader.read_exact(&mut [0]))
}

fn of_type(kind: EntryType, bytes: &[u8]) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header
}

fn add(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, bytes: &[u8]) {
    tar.append_data(&mut of_type(kind, bytes), name, bytes).unwrap();
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        add(&mut tar, EntryType::Regular, name, bytes);
    }
    tar.into_inner().unwrap()
}

fn zip_of(members: &[(&str, CompressionMethod, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, method, bytes) in members {
        let options = zip::write::SimpleFileOptions::default().compression_method(*method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn two_stored() -> Vec<u8> {
    let method = CompressionMethod::Stored;
    zip_of(&[("a.csv", method, b"1,a\n"), ("b.csv", method, b"2,b\n")])
}

/// Where `needle` stands in `bytes`.
fn places_of(needle: &[u8], bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|place| bytes[*place..].starts_with(needle)).collect()
}

#[test]
fn regular_files_of_a_tar_come_in_order_and_the_rest_is_passed_over() {
    let long_name = format!("folder/{}.csv", "x".repeat(200));
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "folder/", b"");
    add(&mut tar, EntryType::Regular, "./b.csv", b"1,a\n");
    tar.append_link(&mut of_type(EntryType::Symlink, b""), "link.csv", "b.csv").unwrap();
    add(&mut tar, EntryType::Regular, "folder/.DS_Store", b"icons");
    add(&mut tar, EntryType::Regular, "._b.csv", b"attributes");
    add(&mut tar, EntryType::Fifo, "pipe", b"");
    add(&mut tar, EntryType::Regular, &long_name, &b"2,b\n".repeat(1_000));
    tar.append_pax_extensions([("comment", &b"any"[..])]).unwrap();
    add(&mut tar, EntryType::Regular, "a.csv.gz", b"");
    let bytes = tar.into_inner().unwrap();

    let (walk, seen) = walked(tar_input(&bytes), 0).unwrap();
    assert_eq!(walk, Walk { members: 3, skipped: 2 });
    let expected = [
        (0, "b.csv".to_owned(), b"1,a\n".to_vec()),
        (1, long_name, b"2,b\n".repeat(1_000)),
        (2, "a.csv.gz".to_owned(), Vec::new()),
    ];
    assert_eq!(seen, expected);

    let (walk, seen) = walked(tar_input(&bytes), 1).unwrap();
    assert_eq!((walk.members, seen), (3, expected[1..].to_vec()));
}

#[test]
fn an_empty_tar_has_no_members() {
    assert_eq!(walked(tar_input(&[0; 10_240]), 0).unwrap(), (Walk::default(), Vec::new()));
}

#[test]
fn a_tar_without_magic_is_read() {
    let mut header = tar::Header::new_old();
    header.set_size(4);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "a.csv", &b"1,a\n"[..]).unwrap();
    let (_, seen) = walked(tar_input(&tar.into_inner().unwrap()), 0).unwrap();
    assert_eq!(seen, [(0, "a.csv".to_owned(), b"1,a\n".to_vec())]);
}

#[test]
fn a_cut_tar_is_told_wherever_the_cut_is() {
    let bytes = tar_of(&[("a.csv", b"1,a\n"), ("b.csv", &b"2,b\n".repeat(300)), ("empty", b"")]);
    // The mark at its end is two blocks, and the second of them says nothing.
    for place in 0..bytes.len() - 512 {
        assert!(walked(tar_input(&bytes[..place]), 0).is_err(), "a cut at byte {place} is not told");
        assert!(walked(tar_input(&bytes[..place]), 3).is_err(), "a cut at byte {place} is passed over");
    }
}

#[test]
fn a_second_tar_behind_the_first_is_not_lost_in_silence() {
    let one = tar_of(&[("a.csv", b"1,a\n")]);
    let error = walked(tar_input(&[&one[..], &one[..]].concat()), 0).unwrap_err();
    assert!(error.to_string().contains("follows the end"), "{error}");
    let padded = [&one[..], &[0; 7 * 512]].concat();
    assert_eq!(walked(tar_input(&padded), 0).unwrap().0.members, 1);
}

#[test]
fn entries_of_a_tar_that_may_hold_rows_are_not_passed_over() {
    let mut sparse = tar::Builder::new(Vec::new());
    sparse.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
    add(&mut sparse, EntryType::Regular, "holes.csv", b"1,a\n");
    let mut continued = tar::Builder::new(Vec::new());
    add(&mut continued, EntryType::new(b'M'), "part.csv", b"1,a\n");
    for (tar, name, what) in [(sparse, "holes.csv", "a sparse file"), (continued, "part.csv", "an unknown type")] {
        let error = walked(tar_input(&tar.into_inner().unwrap()), 0).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(what), "{error}");
    }
}

#[test]
fn headers_of_a_tar_are_bounded() {
    let mut header = of_type(EntryType::XHeader, b"");
    header.set_size(2 << 20);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "header", io::repeat(b' ').take(2 << 20)).unwrap();
    add(&mut tar, EntryType::Regular, "a.csv", b"1,a\n");
    let error = walked(tar_input(&tar.into_inner().unwrap()), 0).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn what_the_visitor_leaves_is_read_for_it() {
    let bytes = tar_of(&[("a.csv", &b"1,a\n".repeat(1_000)), ("b.csv", b"2,b\n")]);
    assert_eq!(tasted(tar_input(&bytes)).unwrap().members, 2);
    let error = tasted(tar_input(&bytes[..1_000])).unwrap_err();
    assert!(matches!(error, ArchiveError::DamagedMember { name, .. } if name == "a.csv"));
    assert_eq!(tasted(zip_input(&two_stored())).unwrap().members, 2);
}

#[test]
fn the_visitor_may_stop() {
    for input in [tar_input(&tar_of(&[("a.csv", b"1,a\n")])), zip_input(&two_stored())] {
        let result = each_member::<&str>(input, 0, &mut |_, _| Err("enough"));
        assert!(matches!(result, Err(ArchiveError::Stopped("enough"))));
    }
}

#[test]
fn regular_files_of_a_zip_come_in_order_and_the_rest_is_passed_over() {
    use CompressionMethod as M;
    let rows = b"2,b\n".repeat(1_000);
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = |method| zip::write::SimpleFileOptions::default().compression_method(method);
    zip.add_directory("folder/", options(M::Stored)).unwrap();
    let methods = [("z.csv", M::Stored), ("folder/y.csv", M::Deflated), ("x.csv", M::Bzip2), ("w.csv", M::Zstd)];
    for (name, method) in methods {
        zip.start_file(name, options(method)).unwrap();
        zip.write_all(&rows).unwrap();
        zip.start_file(format!("__MACOSX/._{}", name.replace('/', "_")), options(method)).unwrap();
        zip.write_all(b"attributes").unwrap();
    }
    zip.add_symlink("link.csv", "z.csv", options(M::Stored)).unwrap();
    let bytes = zip.finish().unwrap().into_inner();

    let (walk, seen) = walked(zip_input(&bytes), 0).unwrap();
    assert_eq!(walk, Walk { members: 4, skipped: 1 });
    let names: Vec<_> = seen.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["z.csv", "folder/y.csv", "x.csv", "w.csv"]);
    assert!(seen.iter().all(|(_, _, content)| *content == rows));

    let (walk, seen) = walked(zip_input(&bytes), 3).unwrap();
    assert_eq!((walk.members, seen.len(), seen[0].0), (4, 1, 3));
}

#[test]
fn an_empty_zip_has_no_members() {
    assert_eq!(walked(zip_input(&zip_of(&[])), 0).unwrap(), (Walk::default(), Vec::new()));
}

#[test]
fn sizes_may_stand_behind_the_data() {
    let (_, seen) = walked(zip_input(&from_hex(ZIP_WITH_DESCRIPTOR)), 0).unwrap();
    let rows = [&b"id,name\n"[..], &b"1,a\n".repeat(20)].concat();
    assert_eq!(seen, [(0, "in.csv".to_owned(), rows)]);
}

#[test]
fn a_cut_zip_is_told_wherever_the_cut_is() {
    let bytes = zip_of(&[
        ("a.csv", CompressionMethod::Stored, b"1,a\n"),
        ("b.csv", CompressionMethod::Deflated, &b"2,b\n".repeat(300)),
    ]);
    for place in 0..bytes.len() {
        assert!(walked(zip_input(&bytes[..place]), 0).is_err(), "a cut at byte {place} is not told");
    }
}

#[test]
fn a_wrong_checksum_is_told_even_to_a_visitor_that_reads_little() {
    let mut bytes = two_stored();
    let place = places_of(b"1,a\n", &bytes)[0];
    bytes[place + 2] = b'z';
    assert!(matches!(walked(zip_input(&bytes), 0), Err(ArchiveError::Stopped(_))));
    let error = tasted(zip_input(&bytes)).unwrap_err();
    assert!(matches!(error, ArchiveError::DamagedMember { name, .. } if name == "a.csv"));
    // Who does not ask for the member does not pay for it.
    assert_eq!(walked(zip_input(&bytes), 1).unwrap().1.len(), 1);
}

#[test]
fn an_encrypted_member_is_an_error_with_its_name() {
    let error = walked(zip_input(&from_hex(ENCRYPTED_ZIP)), 0).unwrap_err();
    assert_eq!(error.to_string(), "member in.csv of the archive is encrypted, which ferry does not read");
}

#[test]
fn an_unknown_method_is_an_error_with_its_name() {
    for (number, told) in [(9_u16, "Deflate64 (method 9)"), (14, "Lzma (method 14)"), (77, "(method 77)")] {
        let mut bytes = zip_of(&[("a.csv", CompressionMethod::Deflated, b"1,a\n")]);
        for (magic, offset) in [(b"PK\x03\x04", 8), (&ZIP_HEADER_MAGIC, 10)] {
            let place = places_of(magic, &bytes)[0] + offset;
            bytes[place..place + 2].copy_from_slice(&number.to_le_bytes());
        }
        let error = walked(zip_input(&bytes), 0).unwrap_err().to_string();
        assert!(error.contains("a.csv") && error.contains(told), "{error}");
    }
}

#[test]
fn a_zip_that_hides_members_is_an_error() {
    let mut same_name = two_stored();
    for place in places_of(b"b.csv", &same_name) {
        same_name[place] = b'a';
    }
    let mut same_bytes = two_stored();
    let second = places_of(&ZIP_HEADER_MAGIC, &same_bytes)[1];
    same_bytes[second + 42..second + 46].fill(0);
    let mut counts_one = two_stored();
    let end = counts_one.len() - 22;
    (counts_one[end + 8], counts_one[end + 10]) = (1, 1);
    let mut counts_none = two_stored();
    (counts_none[end + 8], counts_none[end + 10]) = (0, 0);
    for (bytes, told) in [
        (same_name, "the same name"),
        (same_bytes, "share the same bytes"),
        (counts_one, "more members than it counts"),
        (counts_none, "more members than it counts"),
    ] {
        let error = walked(zip_input(&bytes), 0).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
