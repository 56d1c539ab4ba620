//! One record as values, and values as RFC 4180 has them.

/// The values of one record. Kept from record to record for its memory.
#[derive(Debug, Default, Clone)]
pub struct Row {
    text: Vec<u8>,
    /// Where each value ends; `true`: it is null.
    ends: Vec<(u32, bool)>,
}

impl Row {
    /// Forgets the values.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Adds a value.
    pub fn push(&mut self, value: &[u8]) {
        self.text.extend_from_slice(value);
        self.end_value();
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        self.ends.push((self.text.len() as u32, true));
    }

    /// Adds a byte to the value that is being made.
    pub fn push_byte(&mut self, byte: u8) {
        self.text.push(byte);
    }

    /// Adds bytes to the value that is being made.
    pub fn push_part(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    /// The value that is being made, so far.
    pub fn part(&self) -> &[u8] {
        &self.text[self.ends.last().map_or(0, |e| e.0 as usize)..]
    }

    /// Ends the value that is being made.
    pub fn end_value(&mut self) {
        self.ends.push((self.text.len() as u32, false));
    }

    /// Makes the last value null.
    pub fn null_last(&mut self) {
        if let Some(last) = self.ends.last_mut() {
            last.1 = true;
        }
    }

    /// Values of the record.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The record has no value.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A value; `None` if it is null or there is none.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (end, is_null) = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        (!is_null).then(|| &self.text[start as usize..end as usize])
    }

    /// The values as text, nulls as empty ones.
    pub fn texts(&self) -> Vec<String> {
        (0..self.len())
            .map(|at| self.get(at).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default())
            .collect()
    }
}

/// Writes one value as RFC 4180 has it.
pub fn write_field(value: &[u8], out: &mut Vec<u8>) {
    let is_plain = value.first().is_none_or(|b| *b != b' ')
        && value.last().is_none_or(|b| *b != b' ')
        && !value.iter().any(|b| matches!(b, b',' | b'"' | b'\r' | b'\n'));
    if is_plain {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'"', rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(b'"');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
