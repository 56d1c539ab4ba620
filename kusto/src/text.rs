//! Names and literals in command text. What comes from outside is always quoted.

/// An entity name, quoted: `['name']`.
pub fn name(name: &str) -> String {
    format!("[{}]", string(name))
}

/// A string literal: `'text'` with backslash escapes.
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A string literal that the service keeps out of its logs: `h'text'`.
pub fn secret_string(text: &str) -> String {
    format!("h{}", string(text))
}

/// A command's text with every `h'...'` blanked, for logs and messages.
pub fn without_secrets(command: &str) -> String {
    let mut out = String::with_capacity(command.len());
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c != '\'' && c != '"' {
            continue;
        }
        // A literal, plain or behind an `h` that ends no longer word.
        let mut before = out.chars().rev().skip(1);
        let is_secret = matches!(before.next(), Some('h' | 'H')) && !before.next().is_some_and(char::is_alphanumeric);
        if is_secret {
            out.push_str("***");
        }
        while let Some(inner) = chars.next() {
            let escaped = if inner == '\\' { chars.next() } else { None };
            if !is_secret || inner == c {
                out.push(inner);
                out.extend(escaped);
            }
            if inner == c {
                break;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_leave_its_quotes() {
        assert_eq!(name("T'] | x"), r"['T\'] | x']");
        assert_eq!(string("a\\b'c\nd\u{1}"), r"'a\\b\'c\nd\u0001'");
    }

    #[test]
    fn secrets_are_blanked() {
        let command = r"x (h'https://a/b?sig=S\'1', h'/p') with (tags='h')";
        assert_eq!(without_secrets(command), "x (h'***', h'***') with (tags='h')");
    }
}
