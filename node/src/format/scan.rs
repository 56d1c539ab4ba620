//! Finds the ends of records and fields in delimited text, 64 bytes at a time.
//!
//! Each block becomes bit masks of its quotes, delimiters and line ends; a running exclusive-or over the quotes tells
//! what stands between quotes (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", section 3.1.1). Where a
//! quote stands that RFC 4180 does not allow, the scan ends before that record, and a reader that looks at each byte
//! takes it over.

use wide::u8x16;

/// Bytes of a block.
const BLOCK: usize = 64;

/// What the scan looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Byte between fields.
    pub delimiter: u8,
    /// Byte around fields.
    pub quote: Option<u8>,
}

/// One record that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it begins.
    pub start: u32,
    /// Where the next one begins: after its line end.
    pub end: u32,
    /// Its fields.
    pub fields: u32,
    /// The first of its marks. It has as many as fields: each is the byte just after a field.
    pub first_mark: u32,
}

/// Why a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The text ended. What comes after the last record found is not complete.
    Text,
    /// The record after the last one found is not as RFC 4180 has it, or has a carriage return by itself.
    Irregular,
}

/// The records of a text. Kept from scan to scan for its memory.
#[derive(Debug, Default)]
pub struct Scan {
    /// Records found, in order, empty lines left out.
    pub records: Vec<Found>,
    /// Ends of fields, if they were asked for.
    pub marks: Vec<u32>,
    /// Where the text after the last complete line begins, and the line ends before it.
    end: usize,
    lines: u64,
}

struct Masks {
    quote: u64,
    delimiter: u64,
    newline: u64,
    carriage_return: u64,
}

#[inline(always)]
fn masks(block: &[u8; BLOCK], dialect: Dialect) -> Masks {
    let mut masks = Masks { quote: 0, delimiter: 0, newline: 0, carriage_return: 0 };
    let quote = u8x16::splat(dialect.quote.unwrap_or(0));
    let delimiter = u8x16::splat(dialect.delimiter);
    let (newline, carriage_return) = (u8x16::splat(b'\n'), u8x16::splat(b'\r'));
    for part in 0..4 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&block[part * 16..part * 16 + 16]);
        let bytes = u8x16::new(bytes);
        let shift = part * 16;
        let mask_of = |wanted: u8x16| u64::from(bytes.simd_eq(wanted).to_bitmask()) << shift;
        masks.quote |= mask_of(quote);
        masks.delimiter |= mask_of(delimiter);
        masks.newline |= mask_of(newline);
        masks.carriage_return |= mask_of(carriage_return);
    }
    if dialect.quote.is_none() {
        masks.quote = 0;
    }
    masks
}

/// Each bit becomes the exclusive-or of itself and all below.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}

/// Bits below `at`.
#[inline(always)]
fn below(at: u32) -> u64 {
    (1 << at) - 1
}

impl Scan {
    /// Finds the records of `text`, which begins where a record does. With `MARKS`, the ends of fields, too.
    ///
    /// A text holds less than 4 GiB.
    pub fn run<const MARKS: bool>(&mut self, text: &[u8], dialect: Dialect) -> Ended {
        self.records.clear();
        self.marks.clear();
        self.lines = 0;
        // What the blocks before tell of the next one: all ones between quotes; the byte before could stand before a
        // field; it was a closing quote; it was a carriage return.
        let (mut between, mut may_open, mut closed, mut returned) = (0_u64, 1_u64, 0_u64, 0_u64);
        let (mut start, mut fields, mut first_mark) = (0_u32, 0_u32, 0_u32);
        let mut lines = 0_u64;
        let mut base = 0_usize;
        while base < text.len() {
            let mut padded = [0; BLOCK];
            let left = text.len() - base;
            let (block, valid) = match text[base..].first_chunk::<BLOCK>() {
                Some(block) => (block, u64::MAX),
                None => {
                    padded[..left].copy_from_slice(&text[base..]);
                    (&padded, below(left as u32))
                }
            };
            let Masks { quote, delimiter, newline, carriage_return } = masks(block, dialect);
            let quote = quote & valid;
            let inside = prefix_xor(quote) ^ between;
            let outside = !inside & valid;
            let (opens, closes) = (quote & inside, quote & !inside);
            // Line ends between quotes.
            let mut hidden = newline & inside & valid;
            let (delimiter, newline) = (delimiter & outside, newline & outside);
            let returns = carriage_return & outside & !closes;
            // A quote opens only where a field begins, or as the second of two.
            let may_open_here = ((delimiter | newline | closes) << 1) | may_open;
            let misplaced = opens & !may_open_here;
            // After a closing quote comes a delimiter, a line end, or the second quote of two.
            let after_close = ((closes << 1) | closed) & valid & !(delimiter | newline | opens | returns);
            // After a carriage return comes a line feed.
            let after_return = ((returns << 1) | returned) & valid & !newline;
            let irregular = misplaced | after_close | after_return;
            let usable = if irregular == 0 { u64::MAX } else { below(irregular.trailing_zeros()) };

            let mut ends = newline & usable;
            let mut delimiters = delimiter & usable;
            let offset = base as u32;
            while ends != 0 {
                let at = ends.trailing_zeros();
                let before = delimiters & below(at);
                fields += before.count_ones() + 1;
                if MARKS {
                    self.push_marks(before, offset);
                    self.marks.push(offset + at);
                }
                delimiters &= !below(at);
                if hidden != 0 {
                    lines += u64::from((hidden & below(at)).count_ones());
                    hidden &= !below(at);
                }
                lines += 1;
                self.lines = lines;
                let end = offset + at + 1;
                let is_blank = end - start == 1 || (end - start == 2 && text[start as usize] == b'\r');
                if is_blank {
                    self.marks.truncate(first_mark as usize);
                } else {
                    self.records.push(Found { start, end, fields, first_mark });
                }
                first_mark = self.marks.len() as u32;
                start = end;
                fields = 0;
                ends &= ends - 1;
            }
            fields += delimiters.count_ones();
            if MARKS {
                self.push_marks(delimiters, offset);
            }
            if irregular != 0 {
                self.end = start as usize;
                return Ended::Irregular;
            }
            lines += u64::from(hidden.count_ones());
            between = if inside >> 63 == 1 { u64::MAX } else { 0 };
            may_open = (delimiter | newline | closes) >> 63;
            closed = closes >> 63;
            returned = returns >> 63;
            base += BLOCK;
        }
        self.end = start as usize;
        Ended::Text
    }

    #[inline(always)]
    fn push_marks(&mut self, mut bits: u64, offset: u32) {
        while bits != 0 {
            self.marks.push(offset + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }

    /// Where the text after the last record or empty line begins.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Line ends before [`Self::end`].
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The field that ends at a record's mark: its bytes, quotes and all, without the line end.
    #[inline(always)]
    pub fn field<'t>(&self, text: &'t [u8], record: &Found, index: u32) -> &'t [u8] {
        let mark = (record.first_mark + index) as usize;
        let start = if index == 0 { record.start } else { self.marks[mark - 1] + 1 };
        let field = &text[start as usize..self.marks[mark] as usize];
        if index + 1 == record.fields { field.strip_suffix(b"\r").unwrap_or(field) } else { field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };

    fn scanned(text: &str) -> (Vec<Vec<String>>, Ended, usize) {
        let mut scan = Scan::default();
        let ended = scan.run::<true>(text.as_bytes(), CSV);
        let mut plain = Scan::default();
        assert_eq!(plain.run::<false>(text.as_bytes(), CSV), ended);
        let shape = |s: &Scan| s.records.iter().map(|r| (r.start, r.end, r.fields)).collect::<Vec<_>>();
        assert_eq!(shape(&plain), shape(&scan));
        let field = |r: &Found, n| String::from_utf8(scan.field(text.as_bytes(), r, n).to_vec()).unwrap();
        assert_eq!(scan.lines() as usize, text[..scan.end()].matches('\n').count());
        let rows = scan.records.iter().map(|r| (0..r.fields).map(|n| field(r, n)).collect()).collect();
        (rows, ended, scan.end())
    }

    #[test]
    fn regular_text_is_taken_apart_wherever_blocks_end() {
        for pad in 0..130 {
            let head = "x".repeat(pad);
            let text = format!("{head},1\r\n\"a\nb\",\"c\"\"d\"\n\n\r\n,\n\"\",e\nrest");
            let (rows, ended, end) = scanned(&text);
            let expected: Vec<Vec<&str>> =
                vec![vec![&head, "1"], vec!["\"a\nb\"", "\"c\"\"d\""], vec!["", ""], vec!["\"\"", "e"]];
            assert_eq!(rows, expected, "{pad}");
            assert_eq!((ended, &text[end..]), (Ended::Text, "rest"));
        }
    }

    #[test]
    fn irregular_records_end_the_scan_before_them() {
        for bad in ["5\" disk,x\n", "\"a\"b,c\n", "a\rb,c\n", "a,b\r1\n", "a,\"b\" \n"] {
            for pad in 0..130 {
                let text = format!("{},1\n2,3\n{bad}4,5\n", "x".repeat(pad));
                let (rows, ended, end) = scanned(&text);
                assert_eq!((rows.len(), ended), (2, Ended::Irregular), "{bad:?} {pad}");
                assert!(text[end..].starts_with(bad));
            }
        }
    }

    #[test]
    fn a_quote_left_open_hides_the_rest() {
        let (rows, ended, end) = scanned("1,2\n\"a,b\nc,d\n");
        assert_eq!((rows.len(), ended, end), (1, Ended::Text, 4));
    }

    #[test]
    fn without_quotes_a_quote_means_itself() {
        let mut scan = Scan::default();
        let text = b"5\" disk\tx\n\"\ty\n";
        assert_eq!(scan.run::<true>(text, Dialect { delimiter: b'\t', quote: None }), Ended::Text);
        assert_eq!(scan.records.len(), 2);
        assert_eq!(scan.field(text, &scan.records[0], 0), b"5\" disk");
    }
}
