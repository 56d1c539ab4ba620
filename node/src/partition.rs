//! What a file's path says about its rows: `key=value` folders, and the date in a path.

use jiff::civil::DateTime;
use std::collections::HashSet;

/// The folder value that Hive writes for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The `key=value` folders of a relative path, in their order, percent-decoded. The file's own name is none.
///
/// Hive's folder for null gives an empty value.
pub fn partitions(relative_path: &str) -> Vec<(String, String)> {
    let Some((folders, _)) = relative_path.rsplit_once('/') else { return Vec::new() };
    folders
        .split('/')
        .filter_map(|folder| folder.split_once('='))
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| {
            let value = if value == HIVE_NULL { String::new() } else { percent_decoded(value) };
            (percent_decoded(key), value)
        })
        .collect()
}

/// Text with `%41` as `A`. What is no escape stays, and so does all of a text that would not be UTF-8.
fn percent_decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// Year, month, day, hour, minute and second, as far as they are known.
type Parts = [Option<u16>; 6];

/// Tokens of a pattern, in the order of [`Parts`].
const TOKENS: [&str; 6] = ["yyyy", "MM", "dd", "HH", "mm", "ss"];

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This text.
    Literal(String),
    /// The digits of this part.
    Part(usize),
    /// Anything without a slash.
    Any,
    /// Anything.
    Deep,
    /// Any folders, or none.
    Folders,
}

/// A path pattern that says where a path has its date.
///
/// `{yyyy}`, `{MM}`, `{dd}`, `{HH}`, `{mm}` and `{ss}` stand for digits, four for the year and two for others; `*` for
/// anything within a folder or file name, `**` for anything, and `**/` also for no folder at all. All else stands for
/// itself. A token may come twice, in a folder and in the file name, and must then have the same digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatePattern {
    pieces: Vec<Piece>,
}

impl DatePattern {
    /// Reads a pattern. Fails with what is wrong: an unknown token, a lone brace, or no year.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = pattern.trim_start_matches('/');
        let mut is_folder_start = true;
        while let Some(first) = rest.chars().next() {
            let (piece, length) = match first {
                '{' => {
                    let end = rest.find('}').ok_or_else(|| format!("pattern `{pattern}` has a `{{` without a `}}`"))?;
                    let token = &rest[1..end];
                    let part = TOKENS.iter().position(|known| *known == token).ok_or_else(|| {
                        format!(
                            "pattern `{pattern}` has the unknown token `{{{token}}}`; tokens are {}",
                            TOKENS.join(", ")
                        )
                    })?;
                    (Piece::Part(part), end + 1)
                }
                '}' => return Err(format!("pattern `{pattern}` has a `}}` without a `{{`")),
                '*' if rest.starts_with("**/") && is_folder_start => (Piece::Folders, 3),
                '*' if rest.starts_with("**") => (Piece::Deep, 2),
                '*' => (Piece::Any, 1),
                letter => {
                    literal.push(letter);
                    is_folder_start = letter == '/';
                    rest = &rest[letter.len_utf8()..];
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            is_folder_start = piece == Piece::Folders;
            pieces.push(piece);
            rest = &rest[length..];
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if !pieces.contains(&Piece::Part(0)) {
            return Err(format!("pattern `{pattern}` has no {{yyyy}}"));
        }
        Ok(Self { pieces })
    }

    /// The date in a path; `None` where the path does not match, or its digits are no date.
    ///
    /// Month and day are 1 and times are 0 where the pattern has no token for them. Where a path can be read in several
    /// ways, `*` and `**` are as short as they can be, from the left.
    pub fn date_of(&self, relative_path: &str) -> Option<DateTime> {
        let path = relative_path.trim_start_matches('/');
        Search { pieces: &self.pieces, path, dead: HashSet::new() }.date_from(0, 0, Parts::default())
    }
}

/// One search through a path.
struct Search<'a> {
    pieces: &'a [Piece],
    path: &'a str,
    /// Where the search stood before, in vain: piece, byte and parts.
    dead: HashSet<(usize, usize, Parts)>,
}

impl Search<'_> {
    /// The date, when the pieces from `piece` on match the path from `at` on.
    fn date_from(&mut self, piece: usize, at: usize, parts: Parts) -> Option<DateTime> {
        if !self.dead.insert((piece, at, parts)) {
            return None;
        }
        let path = self.path;
        let rest = &path[at..];
        let pieces = self.pieces;
        match pieces.get(piece) {
            None if rest.is_empty() => date(parts),
            None => None,
            Some(Piece::Literal(text)) => {
                if !rest.starts_with(text.as_str()) {
                    return None;
                }
                self.date_from(piece + 1, at + text.len(), parts)
            }
            Some(Piece::Part(part)) => {
                let width = TOKENS[*part].len();
                let digits = rest.get(..width).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
                let number = digits.parse::<u16>().ok()?;
                let mut parts = parts;
                if parts[*part].replace(number).is_some_and(|before| before != number) {
                    return None;
                }
                self.date_from(piece + 1, at + width, parts)
            }
            Some(Piece::Any) => {
                let stop = rest.find('/').map_or(path.len(), |slash| at + slash);
                let mut ends = (at..=stop).filter(|end| path.is_char_boundary(*end));
                ends.find_map(|end| self.date_from(piece + 1, end, parts))
            }
            Some(Piece::Deep) => {
                let mut ends = (at..=path.len()).filter(|end| path.is_char_boundary(*end));
                ends.find_map(|end| self.date_from(piece + 1, end, parts))
            }
            Some(Piece::Folders) => {
                let slashes = rest.match_indices('/').map(|(slash, _)| at + slash + 1);
                let mut ends = std::iter::once(at).chain(slashes);
                ends.find_map(|end| self.date_from(piece + 1, end, parts))
            }
        }
    }
}

fn date(parts: Parts) -> Option<DateTime> {
    let [year, month, day, hour, minute, second] = parts;
    let year = i16::try_from(year?).ok().filter(|year| *year > 0)?;
    let part = |found: Option<u16>, missing: u16| i8::try_from(found.unwrap_or(missing)).ok();
    DateTime::new(year, part(month, 1)?, part(day, 1)?, part(hour, 0)?, part(minute, 0)?, part(second, 0)?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_an_equals_sign_are_partitions() {
        for (path, expected) in [
            ("year=2026/month=01/a.csv", vec![("year", "2026"), ("month", "01")]),
            ("data/country=DE/x/city=Bonn/a.csv", vec![("country", "DE"), ("city", "Bonn")]),
            ("a.csv", vec![]),
            ("k=v.csv", vec![]),
            ("k=v/k=w.csv", vec![("k", "v")]),
            ("k=/a.csv", vec![("k", "")]),
            ("=v/a.csv", vec![]),
            ("k=a=b/a.csv", vec![("k", "a=b")]),
            ("k=__HIVE_DEFAULT_PARTITION__/a.csv", vec![("k", "")]),
            ("city=S%C3%A3o%20Paulo/a.csv", vec![("city", "São Paulo")]),
            ("at=10%3A30/a.csv", vec![("at", "10:30")]),
            ("a%2Fb=c%2Fd/a.csv", vec![("a/b", "c/d")]),
            ("k=50%/a.csv", vec![("k", "50%")]),
            ("k=%zz%+1%/a.csv", vec![("k", "%zz%+1%")]),
            ("k=%ff/a.csv", vec![("k", "%ff")]),
            ("k=%e4ö/a.csv", vec![("k", "%e4ö")]),
            ("/k=v/a.csv", vec![("k", "v")]),
            ("k=1/k=2/a.csv", vec![("k", "1"), ("k", "2")]),
            ("k=v/", vec![("k", "v")]),
            ("", vec![]),
        ] {
            let found = partitions(path);
            let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn dates_are_read_where_the_pattern_says() {
        for (pattern, path, expected) in [
            ("**/{yyyy}/{MM}/{dd}/*", "a/b/2026/01/02/x.csv", Some("2026-01-02T00:00:00")),
            ("**/{yyyy}/{MM}/{dd}/*", "2026/01/02/x.csv", Some("2026-01-02T00:00:00")),
            ("**/{yyyy}/{MM}/{dd}/*", "/2026/01/02/x.csv", Some("2026-01-02T00:00:00")),
            ("**/{yyyy}/{MM}/{dd}/*", "a2026/01/02/x.csv", None),
            ("**/{yyyy}/{MM}/{dd}/*", "2026/01/02/b/x.csv", None),
            ("**/{yyyy}/{MM}/{dd}/**", "2026/01/02/b/x.csv", Some("2026-01-02T00:00:00")),
            ("/{yyyy}/{MM}/**", "2026/11/x.csv", Some("2026-11-01T00:00:00")),
            ("a/**/{yyyy}.csv", "a/2026.csv", Some("2026-01-01T00:00:00")),
            ("a/**/{yyyy}.csv", "a/b/c/2026.csv", Some("2026-01-01T00:00:00")),
            ("**{yyyy}.csv", "a/b2026.csv", Some("2026-01-01T00:00:00")),
            ("sales_{yyyy}{MM}{dd}T{HH}*.csv", "sales_20260102T03.csv", Some("2026-01-02T03:00:00")),
            ("sales_{yyyy}{MM}{dd}T{HH}*.csv", "sales_20260102T0304-1.csv", Some("2026-01-02T03:00:00")),
            ("sales_{yyyy}{MM}{dd}T{HH}*.csv", "a/sales_20260102T03.csv", None),
            ("sales_{yyyy}{MM}{dd}T{HH}*.csv", "sales_20260102T03/x.csv", None),
            ("sales_{yyyy}{MM}{dd}T{HH}*.csv", "Sales_20260102T03.csv", None),
            ("{yyyy}-{MM}-{dd}T{HH}{mm}{ss}.gz", "2026-12-31T235958.gz", Some("2026-12-31T23:59:58")),
            ("{yyyy}-{MM}-{dd}T{HH}{mm}{ss}.gz", "2026-12-31T235958.gzip", None),
            // No date.
            ("{yyyy}-{MM}-{dd}", "2026-02-29", None),
            ("{yyyy}-{MM}-{dd}", "2024-02-29", Some("2024-02-29T00:00:00")),
            ("{yyyy}-{MM}-{dd}", "2026-13-01", None),
            ("{yyyy}-{MM}-{dd}", "2026-00-01", None),
            ("{yyyy}-{MM}-{dd}", "0000-01-01", None),
            ("{yyyy}-{HH}", "2026-24", None),
            ("{yyyy}-{ss}", "2026-60", None),
            ("{yyyy}-{MM}", "2026-1", None),
            ("{yyyy}-{MM}", "2026-+1", None),
            ("{yyyy}", "２０２６", None),
            // A token twice.
            ("{yyyy}/{MM}/x_{yyyy}{MM}{dd}.csv", "2026/01/x_20260102.csv", Some("2026-01-02T00:00:00")),
            ("{yyyy}/{MM}/x_{yyyy}{MM}{dd}.csv", "2026/01/x_20260202.csv", None),
            // Several ways to read a path.
            ("*{yyyy}{MM}{dd}*", "id12345678-20260102.csv", Some("2026-01-02T00:00:00")),
            ("*{yyyy}*", "20252026", Some("2025-01-01T00:00:00")),
            ("**/{yyyy}/{MM}/*", "2024/01/2025/02/x", Some("2025-02-01T00:00:00")),
            ("year={yyyy}/*", "year=2026/ä.csv", Some("2026-01-01T00:00:00")),
            ("*_{yyyy}.csv", "größe_2026.csv", Some("2026-01-01T00:00:00")),
        ] {
            let found = DatePattern::parse(pattern).unwrap().date_of(path).map(|date| date.to_string());
            assert_eq!(found.as_deref(), expected, "{pattern} of {path}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let pattern = DatePattern::parse(&format!("{}{{yyyy}}x", "*a".repeat(12))).unwrap();
        assert_eq!(pattern.date_of(&"a".repeat(200)), None);
    }

    #[test]
    fn bad_patterns_are_told() {
        for (pattern, why) in [
            ("{yyyy}/{MM", "a `{` without a `}`"),
            ("{yyyy}/MM}", "a `}` without a `{`"),
            ("{yyyy}/{DD}", "unknown token `{DD}`"),
            ("{}", "unknown token `{}`"),
            ("*/{MM}/{dd}", "no {yyyy}"),
            ("", "no {yyyy}"),
        ] {
            let error = DatePattern::parse(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }
}
