use super::*;
use calamine::ExcelDateTimeType;
use std::io::Cursor;

/// A zip archive of these files, none of them compressed.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (name, text) in files {
        let offset = archive.len() as u32;
        let mut about = Vec::<u8>::new();
        // Version, flags, method, time, date (1 January 1980).
        for number in [20_u16, 0, 0, 0, 0x21] {
            about.extend(number.to_le_bytes());
        }
        for number in [crc32fast::hash(text.as_bytes()), text.len() as u32, text.len() as u32] {
            about.extend(number.to_le_bytes());
        }
        for number in [name.len() as u16, 0] {
            about.extend(number.to_le_bytes());
        }
        archive.extend(b"PK\x03\x04");
        archive.extend(&about);
        archive.extend(name.as_bytes());
        archive.extend(text.as_bytes());
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        // Comment, disk, attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let offset = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    for number in [files.len() as u16; 2] {
        archive.extend(number.to_le_bytes());
    }
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// An .xlsx of sheets, each with a name and the XML of its rows. Styles 1 and 2 are a date and a duration.
fn xlsx(sheets: &[(&str, &str)]) -> Vec<u8> {
    const TYPES: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = format!("<Relationship Id='r' Type='{TYPES}/officeDocument' Target='xl/workbook.xml'/>");
    let package = format!("<Relationships>{package}</Relationships>");
    let (mut list, mut relations, mut parts) = (String::new(), String::new(), Vec::new());
    for (index, (name, rows)) in sheets.iter().enumerate() {
        list += &format!("<sheet name='{name}' sheetId='{index}' r:id='s{index}'/>");
        let kind = if rows.is_empty() { "chartsheet" } else { "worksheet" };
        relations += &format!("<Relationship Id='s{index}' Type='{TYPES}/{kind}' Target='sheet{index}.xml'/>");
        let part = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
        parts.push((format!("xl/sheet{index}.xml"), part));
    }
    let book = format!("<workbook><sheets>{list}</sheets></workbook>");
    let relations = format!("<Relationships>{relations}</Relationships>");
    let styles = "<styleSheet><cellXfs><xf numFmtId='0'/><xf numFmtId='22'/><xf numFmtId='46'/></cellXfs></styleSheet>";
    let mut files = vec![
        ("_rels/.rels", package.as_str()),
        ("xl/workbook.xml", book.as_str()),
        ("xl/_rels/workbook.xml.rels", relations.as_str()),
        ("xl/styles.xml", styles),
        ("xl/sharedStrings.xml", "<sst><si><t>shared</t></si></sst>"),
    ];
    files.extend(parts.iter().map(|(path, part)| (path.as_str(), part.as_str())));
    zip(&files)
}

/// An .ods with one sheet of these rows.
fn ods(rows: &str, manifest: &str) -> Vec<u8> {
    let content = format!(
        "<office:document-content><office:body><office:spreadsheet><table:table table:name=\"Tabelle1\">{rows}\
         </table:table></office:spreadsheet></office:body></office:document-content>"
    );
    zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", manifest),
        ("content.xml", content.as_str()),
    ])
}

fn open(file: &[u8], sheet: SheetChoice, range: &str) -> Result<ExcelRows, ExcelError> {
    let range = if range.is_empty() { CellRange::default() } else { CellRange::parse(range).unwrap() };
    ExcelRows::open(Cursor::new(file), &ExcelOptions { sheet, range })
}

/// All rows, `~` for null, commas between values.
fn rows(file: &[u8], range: &str) -> Vec<String> {
    let rows = open(file, SheetChoice::default(), range).unwrap();
    let text = |row: Vec<Option<String>>| row.into_iter().map(|v| v.unwrap_or("~".to_owned())).collect::<Vec<_>>();
    (0..rows.rows()).map(|index| text(rows.row(index).unwrap()).join(",")).collect()
}

/// Rows of cells: one for each letter of `shape`, none for a dot.
fn letters(shape: &[&str]) -> String {
    let mut xml = String::new();
    for (row, letters) in shape.iter().enumerate() {
        xml += "<row>";
        for (column, letter) in letters.chars().enumerate().filter(|(_, letter)| *letter != '.') {
            xml += &format!("<c r='{}' t='str'><v>{letter}</v></c>", cell_name(row as u32, column as u32));
        }
        xml += "</row>";
    }
    xml
}

#[test]
fn cells_become_text() {
    for (case, cell, expected) in [
        ("a whole number", "<c r='A1'><v>3</v></c>", "3"),
        ("a number written with a point", "<c r='A1'><v>3.0</v></c>", "3"),
        ("a fraction", "<c r='A1'><v>0.1</v></c>", "0.1"),
        ("a number as Excel keeps it", "<c r='A1'><v>0.30000000000000004</v></c>", "0.30000000000000004"),
        ("a long number", "<c r='A1'><v>12345678901234567890</v></c>", "12345678901234567000"),
        ("a large number", "<c r='A1'><v>1E+300</v></c>", "1e300"),
        ("a small number", "<c r='A1'><v>-1.5E-10</v></c>", "-1.5e-10"),
        ("minus zero", "<c r='A1'><v>-0</v></c>", "0"),
        ("text", "<c r='A1' t='str'><v> a &amp; b </v></c>", " a & b "),
        ("text in its cell", "<c r='A1' t='inlineStr'><is><t>x</t></is></c>", "x"),
        ("shared text", "<c r='A1' t='s'><v>0</v></c>", "shared"),
        ("true", "<c r='A1' t='b'><v>1</v></c>", "true"),
        ("false", "<c r='A1' t='b'><v>0</v></c>", "false"),
        ("a formula has its last value", "<c r='A1'><f>1+1</f><v>2</v></c>", "2"),
        ("a date", "<c r='A1' s='1'><v>46024</v></c>", "2026-01-02T00:00:00"),
        ("a date and a time", "<c r='A1' s='1'><v>46024.127835648149</v></c>", "2026-01-02T03:04:05"),
        ("a date and milliseconds", "<c r='A1' s='1'><v>45943.541</v></c>", "2025-10-13T12:59:02.4"),
        ("a time", "<c r='A1' s='1'><v>0.25</v></c>", "06:00:00"),
        ("a duration", "<c r='A1' s='2'><v>0.0000578703703703704</v></c>", "00:00:05"),
        ("a long duration", "<c r='A1' s='2'><v>1.25</v></c>", "1.06:00:00"),
        ("a negative duration", "<c r='A1' s='2'><v>-0.5</v></c>", "-12:00:00"),
        ("a date as text", "<c r='A1' t='d'><v>2026-01-02</v></c>", "2026-01-02T00:00:00"),
    ] {
        assert_eq!(rows(&xlsx(&[("S", &format!("<row r='1'>{cell}</row>"))]), ""), [expected], "{case}");
    }
}

#[test]
fn day_numbers_are_dates_or_none() {
    for (days, is_duration, is_1904, expected) in [
        (1.0, false, false, Some("1900-01-01T00:00:00")),
        (59.0, false, false, Some("1900-02-28T00:00:00")),
        (60.0, false, false, None),
        (61.0, false, false, Some("1900-03-01T00:00:00")),
        (1.0, false, true, Some("1904-01-02T00:00:00")),
        (46024.999999999, false, false, Some("2026-01-03T00:00:00")),
        (2_958_465.5, false, false, Some("9999-12-31T12:00:00")),
        (2_958_466.0, false, false, None),
        (-1.0, false, false, None),
        (f64::NAN, false, false, None),
        (0.0, false, false, Some("00:00:00")),
        (0.0, true, false, Some("00:00:00")),
        (400.0, true, false, Some("400.00:00:00")),
        (1e9, true, false, None),
        (f64::NAN, true, false, None),
    ] {
        let kind = if is_duration { ExcelDateTimeType::TimeDelta } else { ExcelDateTimeType::DateTime };
        let found = moment_text(ExcelDateTime::new(days, kind, is_1904));
        assert_eq!(found.as_deref(), expected, "{days}, {is_duration}, {is_1904}");
    }
}

#[test]
fn iso_text_is_made_alike() {
    for (text, expected) in [
        ("2026-01-02", "2026-01-02T00:00:00"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05.500000000", "2026-01-02T03:04:05.5"),
        ("2026-01-02T03:04:05.123456789", "2026-01-02T03:04:05.1234567"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05-08:00", "2026-01-02T03:04:05-08:00"),
        ("soon", "soon"),
    ] {
        assert_eq!(iso_date_text(text.to_owned()), expected);
    }
    for (text, expected) in
        [("PT03H04M05S", "03:04:05"), ("PT30H00M00.500000000S", "1.06:00:00.5"), ("-PT1H", "-01:00:00"), ("x", "x")]
    {
        assert_eq!(value_of(Data::DurationIso(text.to_owned())), Some(Value::Text(expected.into())));
    }
}

#[test]
fn a_range_bounds_rows_and_columns() {
    let file = xlsx(&[("S", &letters(&["......", ".ab...", "......", ".c.d..", "..e...", "......"]))]);
    for (case, range, expected) in [
        ("all cells with a value", "", vec!["a,b,~", "~,~,~", "c,~,d", "~,e,~"]),
        ("from a cell on", "A1", vec!["~,~,~,~", "~,a,b,~", "~,~,~,~", "~,c,~,d", "~,~,e,~"]),
        ("a fixed range", "B2:C4", vec!["a,b", "~,~", "c,~"]),
        ("empty rows at the end of a fixed range", "B2:C3", vec!["a,b"]),
        ("columns beyond the last value", "C4:F5", vec!["~,d,~,~", "e,~,~,~"]),
        ("without a last row", "B2:C", vec!["a,b", "~,~", "c,~", "~,e"]),
        ("columns alone", "C:D", vec!["b,~", "~,~", "~,d", "e,~"]),
        ("rows alone", "4:5", vec!["c,~,d", "~,e,~"]),
        ("one cell", "C2:C2", vec!["b"]),
        ("dollars and small letters", "$b$2:c2", vec!["a,b"]),
        ("nothing there", "F6:G9", vec![]),
        ("a start beyond all cells", "Z9", vec![]),
    ] {
        assert_eq!(rows(&file, range), expected, "{case}");
    }
    let none = open(&file, SheetChoice::default(), "Z9").unwrap();
    assert!(matches!(none.row(0), Err(ExcelError::RowMissing { index: 0, rows: 0 })));
}

#[test]
fn empty_texts_end_no_table() {
    let cells = "<row><c r='A1' t='str'><v>x</v></c><c r='B1' t='str'><f>A2</f><v></v></c></row>\
                 <row><c r='A2' t='str'><f>B2</f><v></v></c></row><row><c r='A3' s='1'/></row>";
    assert_eq!(rows(&xlsx(&[("S", cells)]), ""), ["x"]);
    let file = xlsx(&[("S", cells)]);
    let rows = open(&file, SheetChoice::default(), "A1:C1").unwrap();
    assert_eq!(rows.row(0).unwrap(), [Some("x".to_owned()), Some(String::new()), None]);
}

#[test]
fn cells_may_lack_names_and_order() {
    let cells = "<row><c><v>1</v></c><c><v>2</v></c></row><row r='4'><c r='B4'><v>4</v></c></row>\
                 <row r='3'><c r='A3'><v>3</v></c></row>";
    assert_eq!(rows(&xlsx(&[("S", cells)]), ""), ["1,2", "~,~", "3,~", "~,4"]);
}

#[test]
fn ranges_are_read_or_refused() {
    let range = |first: (u32, u32), last_row, last_column| {
        Ok(CellRange { first_row: Some(first.0), first_column: Some(first.1), last_row, last_column })
    };
    for (text, expected) in [
        ("A1", range((0, 0), None, None)),
        ("A3:", range((2, 0), None, None)),
        ("A3:F", range((2, 0), None, Some(5))),
        ("AA10:XFD1048576", range((9, 26), Some(1_048_575), Some(16_383))),
        (" b2 : d100 ", range((1, 1), Some(99), Some(3))),
    ] {
        assert_eq!(CellRange::parse(text), expected, "{text}");
    }
    for (text, why) in [
        ("", "names no cell"),
        (":F5", "names no cell"),
        ("A0", "does not begin"),
        ("XFE1", "does not begin"),
        ("A1048577", "does not begin"),
        ("S!A1", "does not begin"),
        ("A1B", "does not begin"),
        ("A1:B2:C3", "does not end"),
        ("A1:Ä", "does not end"),
        ("C1:B2", "ends before it begins"),
        ("A3:B2", "ends before it begins"),
    ] {
        let error = CellRange::parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn cells_have_names() {
    for (row, column, name) in
        [(0, 0, "A1"), (6, 2, "C7"), (0, 25, "Z1"), (0, 26, "AA1"), (1_048_575, 16_383, "XFD1048576")]
    {
        assert_eq!(cell_name(row, column), name);
    }
}

#[test]
fn a_sheet_is_chosen_by_place_or_name() {
    let sheet = |text: &str| format!("<row><c t='str'><v>{text}</v></c></row>");
    let file = xlsx(&[("Chart", ""), ("One", &sheet("1")), ("Größe &amp; 2", &sheet("2")), ("one more", &sheet("3"))]);
    for (choice, expected) in [
        (SheetChoice::default(), "1"),
        (SheetChoice::Index(2), "3"),
        (SheetChoice::Name("One".to_owned()), "1"),
        (SheetChoice::Name("GRÖSSE & 2".to_owned()), ""),
        (SheetChoice::Name("GRÖßE & 2".to_owned()), "2"),
        (SheetChoice::Name("ONE MORE".to_owned()), "3"),
        (SheetChoice::Index(3), ""),
        (SheetChoice::Name("Chart".to_owned()), ""),
    ] {
        match open(&file, choice.clone(), "") {
            Ok(rows) => assert_eq!(rows.row(0).unwrap(), [Some(expected.to_owned())], "{choice}"),
            Err(ExcelError::SheetMissing { wanted, sheets }) => {
                assert_eq!((expected, wanted), ("", choice.to_string()));
                assert_eq!(sheets, "`One`, `Größe & 2`, `one more`");
            }
            Err(error) => panic!("{choice}: {error}"),
        }
    }
}

#[test]
fn an_error_is_told_with_its_cell_and_spares_other_rows() {
    let cells = "<row><c r='A1'><v>1</v></c></row>\
                 <row><c r='A2'><v>1</v></c><c r='C2' t='e'><f>1/0</f><v>#DIV/0!</v></c></row>\
                 <row><c r='A3' s='1'><v>60</v></c></row><row><c r='B4' s='1'><v>-2.5</v></c></row>";
    let rows = open(&xlsx(&[("Sheet1", cells)]), SheetChoice::default(), "").unwrap();
    assert_eq!(rows.rows(), 4);
    assert_eq!(rows.row(0).unwrap(), [Some("1".to_owned()), None, None]);
    for (index, said) in [
        (1, "cell Sheet1!C2 is the error #DIV/0!"),
        (2, "cell Sheet1!A3 has no possible date: day number 60"),
        (3, "cell Sheet1!B4 has no possible date: day number -2.5"),
    ] {
        assert_eq!(rows.row(index).unwrap_err().to_string(), said);
    }
}

#[test]
fn what_the_reader_does_not_know_is_told_with_its_sheet() {
    let cells = "<row><c r='A1'><v>1</v></c><c r='B1' t='e'><v>#NEW!</v></c></row>";
    let error = open(&xlsx(&[("Sheet1", cells)]), SheetChoice::default(), "").unwrap_err();
    assert!(matches!(&error, ExcelError::Damaged { sheet, after, .. } if sheet == "Sheet1" && after == "cell A1"));
    assert!(error.to_string().contains("#NEW!"), "{error}");
}

#[test]
fn an_ods_is_read_too() {
    let rows_xml = "<table:table-row table:number-rows-repeated=\"2\"><table:table-cell/></table:table-row>\
        <table:table-row>\
        <table:table-cell office:value-type=\"string\"><text:p>a</text:p></table:table-cell>\
        <table:table-cell office:value-type=\"float\" office:value=\"3\"><text:p>3.00</text:p></table:table-cell>\
        <table:table-cell office:value-type=\"boolean\" office:boolean-value=\"true\"/>\
        <table:table-cell office:value-type=\"date\" office:date-value=\"2026-01-02\"/>\
        <table:table-cell office:value-type=\"time\" office:time-value=\"PT03H04M05S\"/>\
        </table:table-row>\
        <table:table-row><table:table-cell/>\
        <table:table-cell office:value-type=\"string\"><text:p>#N/A</text:p></table:table-cell></table:table-row>\
        <table:table-row><table:table-cell/><table:table-cell table:formula=\"of:=1/0\" \
        office:value-type=\"string\" office:string-value=\"\" calcext:value-type=\"error\"><text:p>#DIV/0!</text:p>\
        </table:table-cell></table:table-row>";
    let manifest = "<manifest:manifest><manifest:file-entry manifest:full-path=\"/\"/></manifest:manifest>";
    let rows = open(&ods(rows_xml, manifest), SheetChoice::Name("tabelle1".to_owned()), "").unwrap();
    let text = |index| rows.row(index).map(|row| row.into_iter().map(|v| v.unwrap_or_default()).collect::<Vec<_>>());
    assert_eq!(rows.rows(), 3);
    assert_eq!(text(0).unwrap(), ["a", "3", "true", "2026-01-02T00:00:00", "03:04:05"]);
    assert_eq!(text(1).unwrap(), ["", "#N/A", "", "", ""]);
    assert_eq!(text(2).unwrap_err().to_string(), "cell Tabelle1!B5 is the error #DIV/0!");

    let manifest = "<manifest:manifest><manifest:file-entry><manifest:encryption-data/></manifest:file-entry>\
                    </manifest:manifest>";
    let error = open(&ods(rows_xml, manifest), SheetChoice::default(), "").unwrap_err();
    assert!(matches!(error, ExcelError::Encrypted), "{error}");
}

/// A compound file with one empty stream of this name: header, allocation table, directory.
fn compound(stream: &str) -> Vec<u8> {
    let mut file = vec![0_u8; 1536];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &COMPOUND_FILE);
    put(24, &[0x3E, 0, 3, 0, 0xFE, 0xFF, 9, 0, 6, 0]);
    put(44, &[1, 0, 0, 0, 1, 0, 0, 0]);
    put(57, &[0x10]);
    put(60, &[0xFE, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]);
    put(80, &[0xFF; 432]);
    put(512, &[0xFF; 512]);
    put(512, &[0xFD, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF]);
    for (entry, name) in ["Root Entry", stream].iter().enumerate() {
        for (index, letter) in name.bytes().enumerate() {
            put(1024 + entry * 128 + index * 2, &[letter]);
        }
        put(1024 + entry * 128 + 64, &[(name.len() * 2 + 2) as u8]);
        put(1024 + entry * 128 + 116, &[0xFE, 0xFF, 0xFF, 0xFF]);
    }
    file
}

#[test]
fn other_files_are_refused() {
    let error = open(&compound("EncryptedPackage"), SheetChoice::default(), "").unwrap_err();
    assert!(matches!(error, ExcelError::Encrypted), "{error}");
    let document = "application/vnd.oasis.opendocument.text-and-more-than-that";
    for (case, file) in [
        ("nothing", Vec::new()),
        ("text", b"a,b\n1,2\n".to_vec()),
        ("a web page called .xls", b"<html><table></table></html>".to_vec()),
        ("another compound file", compound("WordDocument")),
        ("another zip archive", zip(&[("a.csv", "1,2")])),
        ("another OpenDocument", zip(&[("mimetype", document), ("content.xml", "<a/>")])),
        ("half a workbook", xlsx(&[("S", "<row/>")])[..400].to_vec()),
    ] {
        let error = open(&file, SheetChoice::default(), "").unwrap_err();
        assert!(matches!(error, ExcelError::NotAWorkbook { .. }), "{case}: {error}");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    struct Large;
    impl Read for Large {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("it is read")
        }
    }
    impl Seek for Large {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(WORKBOOK_BYTES_MAX + 1)
        }
    }
    let error = ExcelRows::open(Large, &ExcelOptions::default()).unwrap_err();
    assert!(matches!(error, ExcelError::TooLarge { bytes } if bytes == WORKBOOK_BYTES_MAX + 1), "{error}");
}
