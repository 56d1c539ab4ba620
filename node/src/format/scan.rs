//! Finds the ends of records and fields in delimited text, 64 bytes at a time.
//!
//! Each block becomes bit masks of its quotes, delimiters and line ends; a running exclusive-or over the quotes tells
//! what stands between quotes (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", section 3.1.1). Most blocks have
//! no quotes and stand between none: they need less. Where a quote stands that RFC 4180 does not allow, the scan ends before
//! that record, and a reader that looks at each byte takes it over.

use fearless_simd::{Level, Simd, SimdBase as _, SimdMask as _, dispatch, u8x64};

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
    /// Ends of fields, if they were asked for. Those that no record points to mean nothing.
    marks: Vec<u32>,
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
fn masks<S: Simd>(simd: S, block: &[u8; BLOCK], dialect: Dialect) -> Masks {
    let bytes = u8x64::load_array_ref(simd, block);
    let mask_of = |wanted: u8| bytes.simd_eq(wanted).to_bitmask();
    Masks {
        quote: dialect.quote.map_or(0, mask_of),
        delimiter: mask_of(dialect.delimiter),
        newline: mask_of(b'\n'),
        carriage_return: mask_of(b'\r'),
    }
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

/// What the blocks before tell of the next one.
struct Before {
    /// All ones between quotes.
    between: u64,
    /// The byte before could stand before a field; it was a closing quote; it was a carriage return.
    may_open: u64,
    closed: u64,
    returned: u64,
}

/// What was found in a block, up to what is irregular.
struct Looked {
    /// Ends of fields, and those of them that end a line.
    stops: u64,
    ends: u64,
    /// Line ends between quotes.
    hidden: u64,
    irregular: bool,
}

impl Before {
    /// Looks at the next block, of which the bytes of `valid` count.
    #[inline(always)]
    fn look(&mut self, masks: Masks, valid: u64) -> Looked {
        let Masks { quote, delimiter, newline, carriage_return } = masks;
        // No quotes, here or open, and no carriage return: nothing can be hidden or irregular.
        if (quote | carriage_return | self.between | self.closed | self.returned) == 0 {
            let (stops, ends) = ((delimiter | newline) & valid, newline & valid);
            self.may_open = stops >> 63;
            return Looked { stops, ends, hidden: 0, irregular: false };
        }
        let quote = quote & valid;
        let inside = prefix_xor(quote) ^ self.between;
        let outside = !inside & valid;
        let (opens, closes) = (quote & inside, quote & !inside);
        let hidden = newline & inside & valid;
        let (delimiter, newline) = (delimiter & outside, newline & outside);
        let returns = carriage_return & outside & !closes;
        // A quote opens only where a field begins, or as the second of two.
        let may_open_here = ((delimiter | newline | closes) << 1) | self.may_open;
        let misplaced = opens & !may_open_here;
        // After a closing quote comes a delimiter, a line end, or the second quote of two.
        let after_close = ((closes << 1) | self.closed) & valid & !(delimiter | newline | opens | returns);
        // After a carriage return comes a line feed.
        let after_return = ((returns << 1) | self.returned) & valid & !newline;
        let irregular = misplaced | after_close | after_return;
        let usable = up_to_first(irregular);
        self.between = if inside >> 63 == 1 { u64::MAX } else { 0 };
        self.may_open = (delimiter | newline | closes) >> 63;
        self.closed = closes >> 63;
        self.returned = returns >> 63;
        Looked { stops: (delimiter | newline) & usable, ends: newline & usable, hidden, irregular: irregular != 0 }
    }
}

/// Bits below the lowest one of `bits`; all, if there is none.
#[inline(always)]
fn up_to_first(bits: u64) -> u64 {
    !bits & bits.wrapping_sub(1)
}

impl Scan {
    /// Finds the records of `text`, which begins where a record does. With `MARKS`, the ends of fields, too.
    ///
    /// A text holds less than 4 GiB.
    pub fn run<const MARKS: bool>(&mut self, text: &[u8], dialect: Dialect) -> Ended {
        // Compiled once for each set of instructions, and chosen by the processor.
        dispatch!(Level::new(), simd => self.run_with::<_, MARKS>(simd, text, dialect))
    }

    #[inline(always)]
    fn run_with<S: Simd, const MARKS: bool>(&mut self, simd: S, text: &[u8], dialect: Dialect) -> Ended {
        self.records.clear();
        let mut before = Before { between: 0, may_open: 1, closed: 0, returned: 0 };
        let mut start = 0_u32;
        // Ends of fields: up to the current block, and up to the record at `start`.
        let (mut stops_before, mut first_mark) = (0_u32, 0_u32);
        // Line ends outside, those between quotes, and how many of these come before the last one outside.
        let (mut lines, mut hidden_lines, mut hidden_before_end) = (0_u64, 0_u64, 0_u64);
        let mut ended = Ended::Text;
        for (number, block) in text.chunks(BLOCK).enumerate() {
            let mut padded = [0; BLOCK];
            let (block, valid) = match block.first_chunk::<BLOCK>() {
                Some(block) => (block, u64::MAX),
                None => {
                    padded[..block.len()].copy_from_slice(block);
                    (&padded, (1 << block.len()) - 1)
                }
            };
            let Looked { stops, ends, hidden, irregular } = before.look(masks(simd, block, dialect), valid);
            let offset = (number * BLOCK) as u32;
            if MARKS {
                self.write_marks(stops, stops_before, offset);
            }
            let mut left = ends;
            while left != 0 {
                let end = offset + left.trailing_zeros() + 1;
                let through = left ^ (left - 1);
                let next_mark = stops_before + (stops & through).count_ones();
                let is_blank = end - start == 1 || (end - start == 2 && text[start as usize] == b'\r');
                if !is_blank {
                    self.records.push(Found { start, end, fields: next_mark - first_mark, first_mark });
                }
                (start, first_mark) = (end, next_mark);
                left &= left - 1;
            }
            lines += u64::from(ends.count_ones());
            stops_before += stops.count_ones();
            if (hidden | hidden_lines) != 0 {
                if ends != 0 {
                    let before = hidden & (u64::MAX >> ends.leading_zeros());
                    hidden_before_end = hidden_lines + u64::from(before.count_ones());
                }
                hidden_lines += u64::from(hidden.count_ones());
            }
            if irregular {
                ended = Ended::Irregular;
                break;
            }
        }
        (self.end, self.lines) = (start as usize, lines + hidden_before_end);
        ended
    }

    /// Notes the ends of fields of a block, after as many as there were before it.
    #[inline(always)]
    fn write_marks(&mut self, mut stops: u64, stops_before: u32, offset: u32) {
        let begin = stops_before as usize;
        if self.marks.len() < begin + BLOCK {
            self.marks.resize((begin + BLOCK).next_power_of_two(), 0);
        }
        let Some(marks) = self.marks[begin..].first_chunk_mut::<BLOCK>() else { return };
        // By eights, without asking for each whether it is the last: what is too much is written over.
        for eight in marks.chunks_exact_mut(8).take((stops.count_ones() as usize).div_ceil(8)) {
            for mark in eight {
                *mark = offset.wrapping_add(stops.trailing_zeros());
                stops &= stops.wrapping_sub(1);
            }
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
        // What a processor does that knows least.
        let mut slow = Scan::default();
        let least = dispatch!(Level::baseline(), simd => slow.run_with::<_, true>(simd, text.as_bytes(), CSV));
        assert_eq!((least, shape(&slow), slow.end, slow.lines), (ended, shape(&scan), scan.end, scan.lines));
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
