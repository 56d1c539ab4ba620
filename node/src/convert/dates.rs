//! Dates as people write them: formats of .NET, as Data Factory's settings have them, and the forms of mail headers.

use jiff::{civil, tz::Offset};

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Year {
        digits: usize,
    },
    /// Digits, or the English name when there are three or four letters.
    Month {
        letters: usize,
    },
    Day {
        digits: usize,
    },
    /// The English name, which tells nothing new.
    Weekday {
        letters: usize,
    },
    Hour {
        digits: usize,
        of_twelve: bool,
    },
    Minute {
        digits: usize,
    },
    Second {
        digits: usize,
    },
    /// `f`: exactly so many digits; `F`: at most.
    Fraction {
        digits: usize,
        exact: bool,
    },
    HalfOfDay,
    /// `Z`, `+02:00`, or nothing.
    Zone,
    Literal(char),
}

/// A custom format of .NET (its documentation, "Custom date and time format strings"), such as `dd/MM/yyyy HH:mm:ss`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateFormat(Vec<Token>);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What was read so far.
struct Parts {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    offset: Option<Offset>,
}

impl DateFormat {
    /// Reads a format. `Err` names what it does not know.
    pub fn parse(format: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = format.chars().peekable();
        while let Some(c) = rest.next() {
            let mut count = 1;
            if "yMdHhmsfFtzK".contains(c) {
                while rest.next_if_eq(&c).is_some() {
                    count += 1;
                }
            }
            tokens.push(match c {
                'y' if matches!(count, 2 | 4) => Token::Year { digits: count },
                'M' if count <= 4 => Token::Month { letters: count },
                'd' if count <= 2 => Token::Day { digits: count },
                'd' if count <= 4 => Token::Weekday { letters: count },
                'H' if count <= 2 => Token::Hour { digits: count, of_twelve: false },
                'h' if count <= 2 => Token::Hour { digits: count, of_twelve: true },
                'm' if count <= 2 => Token::Minute { digits: count },
                's' if count <= 2 => Token::Second { digits: count },
                'f' | 'F' if count <= 7 => Token::Fraction { digits: count, exact: c == 'f' },
                't' if count == 2 => Token::HalfOfDay,
                'z' if count <= 3 => Token::Zone,
                'K' if count == 1 => Token::Zone,
                '\'' | '"' => {
                    loop {
                        match rest.next() {
                            Some(end) if end == c => break,
                            Some(literal) => tokens.push(Token::Literal(literal)),
                            None => return Err(format!("date format {format:?}: a quote is left open")),
                        }
                    }
                    continue;
                }
                '\\' => Token::Literal(rest.next().ok_or_else(|| format!("date format {format:?} ends in \\"))?),
                other if other.is_ascii_alphabetic() => {
                    return Err(format!("date format {format:?}: {:?} is not known", c.to_string().repeat(count)));
                }
                literal => Token::Literal(literal),
            });
        }
        Ok(Self(tokens))
    }

    /// Reads a date of this format; the result is in the form that the cluster reads, `None` if it does not fit.
    pub fn read(&self, text: &str) -> Option<String> {
        let mut parts = Parts {
            year: 1,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            nanosecond: 0,
            afternoon: None,
            offset: None,
        };
        let mut rest = text;
        for token in &self.0 {
            rest = parts.take(token, rest)?;
        }
        if rest.is_empty() { parts.written() } else { None }
    }
}

/// Takes digits off the front: exactly so many if `digits` is above 1, else one or two.
fn number(text: &str, digits: usize) -> Option<(i32, &str)> {
    let found = text.bytes().take(digits.max(2)).take_while(u8::is_ascii_digit).count();
    if found == 0 || (digits > 1 && found != digits) {
        return None;
    }
    Some((text[..found].parse().ok()?, &text[found..]))
}

/// Takes an English name off the front, whole or of three letters.
fn name<'t>(text: &'t str, names: &[&str], letters: usize) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(at, name)| {
        let name = if letters == 3 { &name[..3] } else { name };
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (at, &text[name.len()..]))
    })
}

impl Parts {
    fn take<'t>(&mut self, token: &Token, text: &'t str) -> Option<&'t str> {
        let small = |(n, rest): (i32, &'t str)| Some((i8::try_from(n).ok()?, rest));
        let rest;
        match token {
            Token::Year { digits } => {
                let (year, after) = number(text, *digits)?;
                // .NET's rule: two digits mean 1950 to 2049.
                let year = if *digits == 2 { year + if year < 50 { 2000 } else { 1900 } } else { year };
                (self.year, rest) = (i16::try_from(year).ok()?, after);
            }
            Token::Month { letters: letters @ 3.. } => {
                let (month, after) = name(text, &MONTHS, *letters)?;
                (self.month, rest) = (month as i8 + 1, after);
            }
            Token::Month { letters } => (self.month, rest) = small(number(text, *letters)?)?,
            Token::Day { digits } => (self.day, rest) = small(number(text, *digits)?)?,
            Token::Weekday { letters } => rest = name(text, &WEEKDAYS, *letters)?.1,
            Token::Hour { digits, of_twelve } => {
                (self.hour, rest) = small(number(text, *digits)?)?;
                if *of_twelve && !(1..=12).contains(&self.hour) {
                    return None;
                }
            }
            Token::Minute { digits } => (self.minute, rest) = small(number(text, *digits)?)?,
            Token::Second { digits } => (self.second, rest) = small(number(text, *digits)?)?,
            Token::Fraction { digits, exact } => {
                let found = text.bytes().take(*digits).take_while(u8::is_ascii_digit).count();
                if *exact && found != *digits {
                    return None;
                }
                if found > 0 {
                    let scale = 10_i32.pow(9 - found as u32);
                    self.nanosecond = text[..found].parse::<i32>().ok()? * scale;
                }
                rest = &text[found..];
            }
            Token::HalfOfDay => {
                let half = text.get(..2)?;
                self.afternoon = match () {
                    () if half.eq_ignore_ascii_case("am") => Some(false),
                    () if half.eq_ignore_ascii_case("pm") => Some(true),
                    () => return None,
                };
                rest = &text[2..];
            }
            Token::Zone => rest = self.take_zone(text)?,
            Token::Literal(literal) => rest = text.strip_prefix(*literal)?,
        }
        Some(rest)
    }

    fn take_zone<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix(['Z', 'z']) {
            self.offset = Some(Offset::UTC);
            return Some(rest);
        }
        let Some(rest) = text.strip_prefix(['+', '-']) else { return Some(text) };
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let (hours, rest) = number(rest, 2)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let (minutes, rest) = if rest.is_empty() { (0, rest) } else { number(rest, 2)? };
        self.offset = Some(Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?);
        Some(rest)
    }

    fn written(&self) -> Option<String> {
        let hour = match self.afternoon {
            Some(false) if self.hour == 12 => 0,
            Some(true) if self.hour < 12 => self.hour + 12,
            _ => self.hour,
        };
        let time =
            civil::DateTime::new(self.year, self.month, self.day, hour, self.minute, self.second, self.nanosecond)
                .ok()?;
        (1..=9999).contains(&self.year).then_some(())?;
        Some(match self.offset {
            Some(offset) => offset.to_timestamp(time).ok()?.to_string(),
            None => format!("{time}Z"),
        })
    }
}

/// Reads forms beside ISO 8601 that the cluster reads: RFC 822 and RFC 850 (Kusto documentation, "The datetime data type").
pub fn read_other_form(text: &str) -> Option<String> {
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text) {
        return Some(zoned.timestamp().to_string());
    }
    // RFC 850: `Saturday, 08-Nov-14 15:05:02 UTC`.
    let (_, rest) = text.split_once(", ")?;
    let (time, zone) = rest.rsplit_once(' ')?;
    if !matches!(zone, "UTC" | "GMT") {
        return None;
    }
    DateFormat::parse("dd-MMM-yy HH:mm:ss").ok()?.read(time)
}

/// The day of a date, counted from 1970-01-01; `None` if the text is no date.
pub fn day_of(text: &[u8], format: Option<&DateFormat>) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let read = match format {
        Some(format) => format.read(text)?,
        None if text.as_bytes().get(4) == Some(&b'-') => text.to_owned(),
        None => read_other_form(text)?,
    };
    let date: civil::Date = read.get(..10)?.parse().ok()?;
    Some(date.since(civil::date(1970, 1, 1)).ok()?.get_days())
}

/// A day that [`day_of`] counted, as a date.
pub fn date_of(day: i32) -> Option<civil::Date> {
    civil::date(1970, 1, 1).checked_add(jiff::Span::new().try_days(day).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_a_format_are_read() {
        for (format, text, expected) in [
            ("dd/MM/yyyy", "02/01/2026", Some("2026-01-02T00:00:00Z")),
            ("dd/MM/yyyy", "32/01/2026", None),
            ("dd/MM/yyyy", "2/1/2026", None),
            ("d/M/yyyy H:mm", "2/1/2026 3:04", Some("2026-01-02T03:04:00Z")),
            ("MM/dd/yyyy hh:mm:ss tt", "01/02/2026 12:04:05 AM", Some("2026-01-02T00:04:05Z")),
            ("M/d/yyyy h:mm:ss tt", "1/2/2026 3:04:05 PM", Some("2026-01-02T15:04:05Z")),
            ("yyyyMMddHHmmss", "20260102030405", Some("2026-01-02T03:04:05Z")),
            ("yyyy-MM-dd'T'HH:mm:ss.fff", "2026-01-02T03:04:05.678", Some("2026-01-02T03:04:05.678Z")),
            ("yyyy-MM-dd HH:mm:ss.FFFFFFF", "2026-01-02 03:04:05.5", Some("2026-01-02T03:04:05.5Z")),
            ("yyyy-MM-dd HH:mmzzz", "2026-01-02 03:04+02:00", Some("2026-01-02T01:04:00Z")),
            ("dd MMM yyyy", "02 jan 2026", Some("2026-01-02T00:00:00Z")),
            ("dddd, d MMMM yyyy", "Friday, 2 January 2026", Some("2026-01-02T00:00:00Z")),
            ("dd.MM.yy", "02.01.49", Some("2049-01-02T00:00:00Z")),
            ("dd/MM/yyyy", "02/01/2026 x", None),
        ] {
            assert_eq!(DateFormat::parse(format).unwrap().read(text).as_deref(), expected, "{format} {text}");
        }
        for bad in ["yyy", "xx", "'open", "ttt"] {
            assert!(DateFormat::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forms_of_mail_headers_are_read() {
        assert_eq!(read_other_form("Sat, 08 Nov 2014 15:05:02 GMT").as_deref(), Some("2014-11-08T15:05:02Z"));
        assert_eq!(read_other_form("Saturday, 08-Nov-14 15:05:02 UTC").as_deref(), Some("2014-11-08T15:05:02Z"));
        assert_eq!(read_other_form("tomorrow"), None);
    }
}
