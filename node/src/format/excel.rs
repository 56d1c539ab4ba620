//! Excel workbooks: the cells of one sheet, as text.
//!
//! A workbook cannot be read as a stream: its parts lie in any order and share their strings. So the sheet is held in
//! memory, and both the file and its cells have a limit.

use calamine::{
    Data, ExcelDateTime, Ods, OdsError, Reader, Sheet, SheetType, Xls, XlsError, Xlsb, XlsbError, Xlsx, XlsxError,
};
use jiff::{SignedDuration, civil::DateTime};
use std::{
    fmt::{self, Display},
    io::{self, Read, Seek, SeekFrom},
};

/// Largest file, in bytes.
pub const WORKBOOK_BYTES_MAX: u64 = 256 << 20;

/// Most memory for the cells of a sheet, in bytes.
const CELLS_BYTES_MAX: usize = 1 << 30;

/// Rows and columns of a sheet. Source: Excel specifications and limits.
const ROWS_MAX: u32 = 1_048_576;
const COLUMNS_MAX: u32 = 16_384;

/// First bytes of a compound file: a workbook of Excel 97 to 2003, or an encrypted one of any version.
const COMPOUND_FILE: [u8; 8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

/// What is wrong with a workbook or a cell.
#[derive(Debug, thiserror::Error)]
pub enum ExcelError {
    /// The file cannot be read.
    #[error("reading the workbook failed")]
    Read(#[from] io::Error),
    /// Too large.
    #[error("workbook of {bytes} bytes exceeds {WORKBOOK_BYTES_MAX} bytes; it has to fit in memory")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Encrypted.
    #[error("workbook is encrypted with a password")]
    Encrypted,
    /// Another kind of file, or a damaged one.
    #[error("file is not a workbook (.xlsx, .xlsb, .xls or .ods): {why}")]
    NotAWorkbook {
        /// What the reader said.
        why: String,
    },
    /// No such sheet.
    #[error("workbook has no sheet {wanted}; its sheets are {sheets}")]
    SheetMissing {
        /// The sheet asked for.
        wanted: String,
        /// Those that there are.
        sheets: String,
    },
    /// A sheet is damaged, or has what the reader does not know.
    #[error("sheet {sheet} cannot be read after {after}: {why}")]
    Damaged {
        /// Its name.
        sheet: String,
        /// The last cell that was read.
        after: String,
        /// What the reader said.
        why: String,
    },
    /// Too many cells.
    #[error("cells of sheet {sheet} exceed {CELLS_BYTES_MAX} bytes of memory; a range can leave cells out")]
    TooManyCells {
        /// Its name.
        sheet: String,
    },
    /// A cell whose value is an error.
    #[error("cell {at} is the error {text}")]
    ErrorCell {
        /// Sheet and cell, such as `Sheet1!C7`.
        at: String,
        /// The error, such as `#DIV/0!`.
        text: String,
    },
    /// A cell with a date that is none.
    #[error("cell {at} has no possible date: day number {number}")]
    NoDate {
        /// Sheet and cell, such as `Sheet1!C7`.
        at: String,
        /// The number that the cell shows as a date.
        number: String,
    },
    /// No such row.
    #[error("sheet has {rows} rows, so none at {index}")]
    RowMissing {
        /// The row asked for, from 0.
        index: usize,
        /// How many there are.
        rows: usize,
    },
}

/// A sheet of a workbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SheetChoice {
    /// The sheet at this place among the worksheets, hidden ones included, from 0.
    Index(usize),
    /// The sheet of this name. Another case will do, as in Excel.
    Name(String),
}

impl Default for SheetChoice {
    fn default() -> Self {
        Self::Index(0)
    }
}

impl Display for SheetChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "at index {index}"),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// Part of a sheet. Rows and columns count from 0; a missing bound is where the cells with a value begin or end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CellRange {
    /// First row.
    pub first_row: Option<u32>,
    /// First column.
    pub first_column: Option<u32>,
    /// Last row, itself included.
    pub last_row: Option<u32>,
    /// Last column, itself included.
    pub last_column: Option<u32>,
}

impl CellRange {
    /// Reads a range: `B2:D100`, `A3:F` without a last row, `A3` without a last row and column, or `A:F`.
    ///
    /// Fails with what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("range `{text}` {why}; a range looks like B2:D100, A3:F or A3");
        let (first, last) = text.split_once(':').unwrap_or((text, ""));
        let (first_column, first_row) = corner(first).ok_or_else(|| wrong("does not begin with a cell"))?;
        let (last_column, last_row) = corner(last).ok_or_else(|| wrong("does not end with a cell"))?;
        if first_column.is_none() && first_row.is_none() {
            return Err(wrong("names no cell"));
        }
        let is_backward = |first: Option<u32>, last: Option<u32>| first.zip(last).is_some_and(|(a, b)| b < a);
        if is_backward(first_column, last_column) || is_backward(first_row, last_row) {
            return Err(wrong("ends before it begins"));
        }
        Ok(Self { first_row, first_column, last_row, last_column })
    }

    fn contains(&self, row: u32, column: u32) -> bool {
        self.first_row.is_none_or(|first| row >= first)
            && self.last_row.is_none_or(|last| row <= last)
            && self.first_column.is_none_or(|first| column >= first)
            && self.last_column.is_none_or(|last| column <= last)
    }
}

/// Column and row of `C7`, `C`, `7` or nothing, from 0; `None` for anything else.
fn corner(text: &str) -> Option<(Option<u32>, Option<u32>)> {
    let text = text.trim().replace('$', "");
    let digits_at = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let (letters, digits) = text.split_at(digits_at);
    if letters.len() > 3 || digits.len() > 7 || !letters.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let number = letters.bytes().fold(0, |sum, b| sum * 26 + u32::from(b.to_ascii_uppercase() - b'A') + 1);
    let column = if letters.is_empty() { None } else { Some(number - 1) };
    let row = if digits.is_empty() { None } else { Some(digits.parse::<u32>().ok()?.checked_sub(1)?) };
    let is_on_sheet = column.is_none_or(|column| column < COLUMNS_MAX) && row.is_none_or(|row| row < ROWS_MAX);
    is_on_sheet.then_some((column, row))
}

/// A cell's name, such as `C7`.
fn cell_name(row: u32, column: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = u64::from(column) + 1;
    while rest > 0 {
        letters.push(char::from(b'A' + ((rest - 1) % 26) as u8));
        rest = (rest - 1) / 26;
    }
    letters.iter().rev().collect::<String>() + &(u64::from(row) + 1).to_string()
}

/// What to read of a workbook.
#[derive(Debug, Clone, Default)]
pub struct ExcelOptions {
    /// The sheet; the first one by default.
    pub sheet: SheetChoice,
    /// The part of the sheet; by default all cells, from the first row and column with a value on.
    pub range: CellRange,
}

/// The rows of one sheet.
#[derive(Debug)]
pub struct ExcelRows {
    sheet: String,
    /// In the order of rows, then columns.
    cells: Vec<Cell>,
    first_row: u32,
    rows: usize,
    first_column: u32,
    columns: usize,
}

impl ExcelRows {
    /// Reads one sheet of the workbook in `reader`, whatever its format.
    pub fn open(mut reader: impl Read + Seek, options: &ExcelOptions) -> Result<Self, ExcelError> {
        let bytes = reader.seek(SeekFrom::End(0))?;
        if bytes > WORKBOOK_BYTES_MAX {
            return Err(ExcelError::TooLarge { bytes });
        }
        reader.rewind()?;
        let mut signature = Vec::new();
        reader.by_ref().take(8).read_to_end(&mut signature)?;
        reader.rewind()?;
        if signature == COMPOUND_FILE {
            open_compound(&mut reader, options)
        } else if signature.starts_with(b"PK") {
            open_zip(&mut reader, options)
        } else {
            Err(not_a_workbook("it is neither a zip archive nor a compound file"))
        }
    }

    /// The sheet's name.
    pub fn sheet(&self) -> &str {
        &self.sheet
    }

    /// Rows up to the last one with a value. A cell whose text is empty has none.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values of a row, from 0; as many in every row. `None` for an empty cell.
    ///
    /// Numbers are the shortest text that reads back the same; a formula has the value that the workbook holds for it.
    /// Dates are `2026-01-02T03:04:05`, times of day and durations `03:04:05.5`, and from 24 hours on `1.06:00:00`, as
    /// Azure Data Explorer writes a `timespan`.
    ///
    /// Fails when one of its cells is an error or a date that is none.
    pub fn row(&self, index: usize) -> Result<Vec<Option<String>>, ExcelError> {
        if index >= self.rows {
            return Err(ExcelError::RowMissing { index, rows: self.rows });
        }
        let row = self.first_row + index as u32;
        let from = self.cells.partition_point(|cell| cell.row < row);
        let mut values = vec![None; self.columns];
        for cell in self.cells[from..].iter().take_while(|cell| cell.row == row) {
            // Cells with an empty text may stand beyond the last column. Of two for one place the later counts.
            let column = cell.column.checked_sub(self.first_column).map(|column| column as usize);
            let Some(value) = column.and_then(|column| values.get_mut(column)) else { continue };
            let at = || format!("{}!{}", self.sheet, cell_name(cell.row, cell.column));
            *value = match &cell.value {
                Value::Text(text) => Some(text.to_string()),
                Value::Error(text) => return Err(ExcelError::ErrorCell { at: at(), text: text.to_string() }),
                Value::NoDate(number) => return Err(ExcelError::NoDate { at: at(), number: number.to_string() }),
            };
        }
        Ok(values)
    }
}

#[derive(Debug)]
struct Cell {
    row: u32,
    column: u32,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(Box<str>),
    /// An error, such as `#DIV/0!`.
    Error(Box<str>),
    /// A number that is shown as a date, and is none.
    NoDate(Box<str>),
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) | Self::NoDate(text) => text,
        }
    }
}

fn not_a_workbook(why: impl Display) -> ExcelError {
    ExcelError::NotAWorkbook { why: why.to_string() }
}

fn open_compound<R: Read + Seek>(reader: &mut R, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    let why = match Xls::new(&mut *reader) {
        Ok(book) => return read_xls(book, options),
        Err(XlsError::Password) => return Err(ExcelError::Encrypted),
        Err(error) => error.to_string(),
    };
    // An encrypted .xlsx or .xlsb is a compound file too.
    match Xlsx::new(reader) {
        Err(XlsxError::Password) => Err(ExcelError::Encrypted),
        _ => Err(not_a_workbook(why)),
    }
}

/// Finds out which of the zipped formats this is: each reader looks for parts that only its own format has.
fn open_zip<R: Read + Seek>(reader: &mut R, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    match Ods::new(&mut *reader) {
        Ok(book) => return read_ods(book, options),
        Err(OdsError::FileNotFound("mimetype")) => {}
        Err(OdsError::Password) => return Err(ExcelError::Encrypted),
        Err(error) => return Err(not_a_workbook(error)),
    }
    match Xlsb::new(&mut *reader) {
        Ok(book) => return read_xlsb(book, options),
        Err(XlsbError::FileNotFound(_)) => {}
        Err(error) => return Err(not_a_workbook(error)),
    }
    match Xlsx::new(reader) {
        Ok(book) => read_xlsx(book, options),
        Err(error) => Err(not_a_workbook(error)),
    }
}

fn read_xlsx<R: Read + Seek>(mut book: Xlsx<R>, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    let mut cells = Cells::new(book.sheets_metadata(), options)?;
    let sheet = cells.sheet.clone();
    let mut reader = book.worksheet_cells_reader(&sheet).map_err(|e| cells.damaged(e))?;
    while let Some(cell) = reader.next_cell().map_err(|e| cells.damaged(e))? {
        cells.push(cell.get_position(), value_of(cell.get_value().clone().into()))?;
    }
    Ok(cells.into_rows())
}

fn read_xlsb<R: Read + Seek>(mut book: Xlsb<R>, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    let mut cells = Cells::new(book.sheets_metadata(), options)?;
    let sheet = cells.sheet.clone();
    let mut reader = book.worksheet_cells_reader(&sheet).map_err(|e| cells.damaged(e))?;
    while let Some(cell) = reader.next_cell().map_err(|e| cells.damaged(e))? {
        cells.push(cell.get_position(), value_of(cell.get_value().clone().into()))?;
    }
    drop(reader);
    // The reader passes over a formula whose value is an error, so these are the formulas without a value.
    cells.sort();
    let mut errors = Vec::new();
    let mut reader = book.worksheet_cells_reader(&sheet).map_err(|e| cells.damaged(e))?;
    loop {
        match reader.next_formula() {
            Ok(Some(cell)) => errors.extend(Some(cell.get_position()).filter(|at| !cells.has(*at))),
            Ok(None) => break,
            Err(XlsbError::Io(error)) => return Err(cells.damaged(error)),
            // What the reader does not understand of a formula does not touch its value.
            Err(_) => {}
        }
    }
    for at in errors {
        cells.push(at, Some(Value::Error("of its formula".into())))?;
    }
    Ok(cells.into_rows())
}

fn read_xls<R: Read + Seek>(mut book: Xls<R>, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    let mut cells = Cells::new(book.sheets_metadata(), options)?;
    let range = book.worksheet_range(&cells.sheet).map_err(|e| cells.damaged(e))?;
    let (first_row, first_column) = range.start().unwrap_or_default();
    for (row, column, data) in range.used_cells() {
        cells.push((first_row + row as u32, first_column + column as u32), value_of(data.clone()))?;
    }
    Ok(cells.into_rows())
}

fn read_ods<R: Read + Seek>(mut book: Ods<R>, options: &ExcelOptions) -> Result<ExcelRows, ExcelError> {
    let mut cells = Cells::new(book.sheets_metadata(), options)?;
    let range = book.worksheet_range(&cells.sheet).map_err(|e| cells.damaged(e))?;
    let formulas = book.worksheet_formula(&cells.sheet).map_err(|e| cells.damaged(e))?;
    let (first_row, first_column) = range.start().unwrap_or_default();
    for (row, column, data) in range.used_cells() {
        let at = (first_row + row as u32, first_column + column as u32);
        let value = match data {
            // OpenDocument has no errors: a formula's error is its text.
            Data::String(text) if is_error_text(text) && formulas.get_value(at).is_some_and(|f| !f.is_empty()) => {
                Some(Value::Error(text.as_str().into()))
            }
            data => value_of(data.clone()),
        };
        cells.push(at, value)?;
    }
    Ok(cells.into_rows())
}

/// Whether this is how LibreOffice shows an error.
fn is_error_text(text: &str) -> bool {
    matches!(text, "#DIV/0!" | "#N/A" | "#NAME?" | "#NULL!" | "#NUM!" | "#REF!" | "#VALUE!")
        || text.strip_prefix("Err:").is_some_and(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()))
}

/// Gathers the cells of a sheet.
struct Cells {
    sheet: String,
    range: CellRange,
    cells: Vec<Cell>,
    /// Memory they take.
    bytes: usize,
    /// The cell that came last.
    last: Option<(u32, u32)>,
}

impl Cells {
    /// Chooses the sheet.
    fn new(sheets: &[Sheet], options: &ExcelOptions) -> Result<Self, ExcelError> {
        let names = || sheets.iter().filter(|sheet| sheet.typ == SheetType::WorkSheet).map(|sheet| sheet.name.as_str());
        let found = match &options.sheet {
            SheetChoice::Index(index) => names().nth(*index),
            SheetChoice::Name(wanted) => names()
                .find(|name| name == wanted)
                .or_else(|| names().find(|name| name.to_lowercase() == wanted.to_lowercase())),
        };
        let Some(sheet) = found else {
            let sheets = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(ExcelError::SheetMissing { wanted: options.sheet.to_string(), sheets });
        };
        Ok(Self { sheet: sheet.to_owned(), range: options.range, cells: Vec::new(), bytes: 0, last: None })
    }

    fn push(&mut self, (row, column): (u32, u32), value: Option<Value>) -> Result<(), ExcelError> {
        if row >= ROWS_MAX || column >= COLUMNS_MAX {
            return Err(self.damaged("a cell lies beyond the last row or column of a sheet"));
        }
        self.last = Some((row, column));
        let Some(value) = value.filter(|_| self.range.contains(row, column)) else { return Ok(()) };
        self.bytes += size_of::<Cell>() + value.text().len();
        if self.bytes > CELLS_BYTES_MAX {
            return Err(ExcelError::TooManyCells { sheet: self.sheet.clone() });
        }
        self.cells.push(Cell { row, column, value });
        Ok(())
    }

    /// Cells may come in any order; those of one place stay in the order in which they came.
    fn sort(&mut self) {
        self.cells.sort_by_key(|cell| (cell.row, cell.column));
    }

    /// Whether the sorted cells have one at this place.
    fn has(&self, at: (u32, u32)) -> bool {
        self.cells.binary_search_by_key(&at, |cell| (cell.row, cell.column)).is_ok()
    }

    fn damaged(&self, why: impl Display) -> ExcelError {
        let after =
            self.last.map_or("its start".to_owned(), |(row, column)| format!("cell {}", cell_name(row, column)));
        ExcelError::Damaged { sheet: self.sheet.clone(), after, why: why.to_string() }
    }

    fn into_rows(mut self) -> ExcelRows {
        self.sort();
        let filled = || self.cells.iter().filter(|cell| !cell.value.text().is_empty());
        let first_row = self.range.first_row.or_else(|| filled().map(|cell| cell.row).min()).unwrap_or_default();
        let first_column =
            self.range.first_column.or_else(|| filled().map(|cell| cell.column).min()).unwrap_or_default();
        let rows = filled().map(|cell| cell.row).max().map_or(0, |last| last - first_row + 1);
        let last_column = self.range.last_column.or_else(|| filled().map(|cell| cell.column).max());
        let columns = last_column.map_or(0, |last| last - first_column + 1);
        ExcelRows {
            sheet: self.sheet,
            first_row,
            rows: rows as usize,
            first_column,
            columns: columns as usize,
            cells: self.cells,
        }
    }
}

/// A cell's value; `None` for an empty cell.
fn value_of(data: Data) -> Option<Value> {
    let text = match data {
        Data::Empty => return None,
        Data::Int(number) => number.to_string(),
        Data::Float(number) => number_text(number),
        Data::String(text) => text,
        Data::Bool(is_true) => is_true.to_string(),
        Data::DateTime(moment) => match moment_text(moment) {
            Some(text) => text,
            None => return Some(Value::NoDate(number_text(moment.as_f64()).into())),
        },
        Data::DateTimeIso(text) => iso_date_text(text),
        Data::DurationIso(text) => match text.parse::<SignedDuration>() {
            Ok(duration) => duration_text(duration.as_nanos() / 100),
            Err(_) => text,
        },
        Data::Error(error) => return Some(Value::Error(error.to_string().into())),
    };
    Some(Value::Text(text.into()))
}

/// The shortest text that reads back as the same number.
fn number_text(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".to_owned()
    } else if size.is_finite() && !(1e-7..1e21).contains(&size) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}

/// A day number as text; `None` where it is no date.
///
/// Source: Excel counts days from 1 January 1900, or 1904, and takes 29 February 1900, day 60, for a day.
fn moment_text(moment: ExcelDateTime) -> Option<String> {
    let days = moment.as_f64();
    let ticks = || (days * 86_400_000.0).round() as i128 * 10_000;
    if moment.is_duration() {
        // A timespan of Azure Data Explorer has 64 bits of ticks.
        return (days.abs() < 10_000_000.0).then(|| duration_text(ticks()));
    }
    // The reader below would take what lies outside for the first or the last day.
    if !(0.0..2_958_466.0).contains(&days) {
        return None;
    }
    if days < 1.0 {
        return Some(duration_text(ticks()));
    }
    let (year, month, day, hour, minute, second, millisecond) = moment.to_ymd_hms_milli();
    let year = i16::try_from(year).ok()?;
    let nanosecond = i32::from(millisecond) * 1_000_000;
    let date = DateTime::new(year, month as i8, day as i8, hour as i8, minute as i8, second as i8, nanosecond).ok()?;
    Some(date.to_string())
}

/// An ISO 8601 date with its time, also where it had none; text with an offset from UTC stays as it is.
fn iso_date_text(text: String) -> String {
    let has_offset = text.split_once('T').is_some_and(|(_, time)| time.contains(['+', '-', 'Z', 'z', '[']));
    match text.parse::<DateTime>() {
        Ok(date) if !has_offset && date.subsec_nanosecond() % 100 == 0 => date.to_string(),
        // Azure Data Explorer knows seven digits.
        Ok(date) if !has_offset => format!("{date:.7}"),
        _ => text,
    }
}

/// A time of day or a duration of so many times 100 nanoseconds.
fn duration_text(ticks: i128) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    let (seconds, fraction) = (ticks.unsigned_abs() / 10_000_000, ticks.unsigned_abs() % 10_000_000);
    let days = match seconds / 86_400 {
        0 => String::new(),
        days => format!("{days}."),
    };
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:07}") };
    format!("{sign}{days}{hour:02}:{minute:02}:{second:02}{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests;
