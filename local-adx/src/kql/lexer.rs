//! Text to tokens.

use crate::error::AdxError;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name, keyword or type.
    Ident(String),
    /// A name in brackets: `['odd name']`.
    Quoted(String),
    /// A string literal; adjacent ones are joined.
    Text(String),
    /// A whole number.
    Long(i64),
    /// A number with a fraction.
    Real(f64),
    /// A time span such as `1h`, in ticks.
    Timespan(i64),
    /// A literal whose inside is no expression: type and raw text, such as `datetime(2026-01-01)`.
    Typed(String, String),
    /// A guid that stands bare, as commands have it.
    Guid(String),
    /// Punctuation or an operator.
    Sign(&'static str),
}

const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "=~", "!~", "..", "<|", "=>", "(", ")", "[", "]", "{", "}", ",", "|", ";", ":", ".", "=",
    "<", ">", "+", "-", "*", "/", "%", "!", "~",
];

/// Types whose literals hold raw text.
const RAW_LITERALS: &[&str] = &["datetime", "date", "timespan", "time", "guid", "dynamic"];

fn ticks_per(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" | "day" | "days" => 864e9,
        "h" | "hour" | "hours" => 36e9,
        "m" | "min" | "minute" | "minutes" => 6e8,
        "s" | "sec" | "second" | "seconds" => 1e7,
        "ms" | "millisecond" | "milliseconds" => 1e4,
        "microsecond" | "microseconds" => 10.0,
        "tick" | "ticks" => 1.0,
        _ => return None,
    })
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

/// The tokens of a text.
pub fn tokens(text: &str) -> Result<Vec<Token>, AdxError> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, what: &str) -> Result<T, AdxError> {
        Err(AdxError::syntax(format!("Syntax error: {what} at position {} of the text", self.at)))
    }

    fn next(&mut self) -> Result<bool, AdxError> {
        let skipped = self.rest().len() - self.rest().trim_start().len();
        self.at += skipped;
        if self.rest().starts_with("//") {
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            return Ok(true);
        }
        let Some(c) = self.rest().chars().next() else { return Ok(false) };
        match c {
            'h' | 'H' if matches!(self.rest().as_bytes().get(1), Some(b'\'' | b'"' | b'@')) => {
                self.at += 1;
                self.string()?;
            }
            '\'' | '"' | '@' => self.string()?,
            '[' if matches!(self.rest()[1..].trim_start().chars().next(), Some('\'' | '"'))
                && !matches!(self.tokens.last(), Some(Token::Ident(_) | Token::Quoted(_) | Token::Sign(")" | "]"))) =>
            {
                self.bracketed()?;
            }
            '[' if matches!(self.rest()[1..].trim_start().chars().next(), Some('\'' | '"')) && self.after_keyword() => {
                self.bracketed()?;
            }
            c if c.is_ascii_digit() => self.number()?,
            c if c.is_alphabetic() || c == '_' || c == '$' => self.word()?,
            _ => {
                let Some(sign) = SIGNS.iter().find(|s| self.rest().starts_with(**s)) else {
                    return self.fail(&format!("unexpected {c:?}"));
                };
                self.at += sign.len();
                self.tokens.push(Token::Sign(sign));
            }
        }
        Ok(true)
    }

    /// The last token is a word after which a name stands, not an index.
    fn after_keyword(&self) -> bool {
        const KEYWORDS: &[&str] = &[
            "table",
            "tables",
            "by",
            "where",
            "project",
            "extend",
            "into",
            "database",
            "and",
            "or",
            "summarize",
            "sort",
            "top",
            "distinct",
            "in",
            "away",
            "drop",
            "order",
        ];
        matches!(self.tokens.last(), Some(Token::Ident(word)) if KEYWORDS.contains(&word.as_str()))
    }

    fn bracketed(&mut self) -> Result<(), AdxError> {
        self.at += 1;
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.string()?;
        let Some(Token::Text(name)) = self.tokens.pop() else { return self.fail("a name is missing") };
        self.at += self.rest().len() - self.rest().trim_start().len();
        if !self.rest().starts_with(']') {
            return self.fail("']' is missing");
        }
        self.at += 1;
        self.tokens.push(Token::Quoted(name));
        Ok(())
    }

    fn string(&mut self) -> Result<(), AdxError> {
        let verbatim = self.rest().starts_with('@');
        if verbatim {
            self.at += 1;
        }
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return self.fail("a quote is missing");
        };
        self.at += 1;
        let mut value = String::new();
        let mut chars = self.rest().char_indices();
        let end = loop {
            let Some((at, c)) = chars.next() else { return self.fail("a string is not closed") };
            match c {
                c if c == quote => {
                    if verbatim && self.rest()[at + 1..].starts_with(quote) {
                        value.push(quote);
                        chars.next();
                        continue;
                    }
                    break at + 1;
                }
                '\\' if !verbatim => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((at, 'u')) => {
                        let code = self.rest().get(at + 1..at + 5).and_then(|h| u32::from_str_radix(h, 16).ok());
                        let Some(c) = code.and_then(char::from_u32) else { return self.fail("a bad \\u escape") };
                        value.push(c);
                        chars.nth(3);
                    }
                    Some((_, other)) => value.push(other),
                    None => return self.fail("a string is not closed"),
                },
                '\n' | '\r' => return self.fail("a line end inside a string"),
                c => value.push(c),
            }
        };
        self.at += end;
        match self.tokens.as_mut_slice() {
            // In commands a mapping's name stands before its text.
            [.., Token::Ident(word), Token::Text(_)] if word.as_str() == "mapping" => {
                self.tokens.push(Token::Text(value))
            }
            [.., Token::Text(before)] => before.push_str(&value),
            _ => self.tokens.push(Token::Text(value)),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), AdxError> {
        if let Some(guid) = self.rest().get(..36).filter(|t| uuid::Uuid::try_parse(t).is_ok()) {
            self.tokens.push(Token::Guid(guid.to_lowercase()));
            self.at += 36;
            return Ok(());
        }
        let rest = self.rest().as_bytes();
        let mut end = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let mut is_real = false;
        if rest.get(end) == Some(&b'.') && rest.get(end + 1).is_some_and(u8::is_ascii_digit) {
            is_real = true;
            end += 1 + rest[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let digits = rest[end + 1 + sign..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 {
                is_real = true;
                end += 1 + sign + digits;
            }
        }
        let text = &self.rest()[..end];
        let unit_len = rest[end..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let unit = &self.rest()[end..end + unit_len];
        let token = match (ticks_per(unit), text.parse::<f64>()) {
            (Some(ticks), Ok(number)) => Token::Timespan((number * ticks).round() as i64),
            _ if unit_len > 0 => return self.fail("a number runs into a word"),
            (None, Ok(number)) if is_real => Token::Real(number),
            _ => match text.parse() {
                Ok(number) => Token::Long(number),
                Err(_) => return self.fail("a number is too large"),
            },
        };
        self.at += end + unit_len;
        self.tokens.push(token);
        Ok(())
    }

    fn word(&mut self) -> Result<(), AdxError> {
        if let Some(guid) = self.rest().get(..36).filter(|t| uuid::Uuid::try_parse(t).is_ok()) {
            self.tokens.push(Token::Guid(guid.to_lowercase()));
            self.at += 36;
            return Ok(());
        }
        let end =
            self.rest().find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(self.rest().len());
        let word = self.rest()[..end].to_owned();
        self.at += end;
        if RAW_LITERALS.contains(&word.as_str()) && self.rest().starts_with('(') {
            let Some(length) = closing(self.rest()) else { return self.fail("')' is missing") };
            let raw = self.rest()[1..length].trim().to_owned();
            self.at += length + 1;
            self.tokens.push(Token::Typed(word, raw));
        } else {
            self.tokens.push(Token::Ident(word));
        }
        Ok(())
    }
}

/// Where the parenthesis that opens `text` is closed, strings passed over.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}
