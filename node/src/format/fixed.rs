//! Fixed width text: where in a line each column stands.

/// A column of fixed width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedColumn {
    /// Its name.
    pub name: String,
    /// Its width, in characters.
    pub width: usize,
    /// How many characters of the line stand before it; `None` where it follows the column named before it.
    pub start: Option<usize>,
}

/// What is wrong with the columns or a line. Lengths are in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FixedError {
    /// No columns.
    #[error("fixed width text needs at least one column")]
    NoColumns,
    /// No width.
    #[error("column `{column}` has a width of 0")]
    ZeroWidth {
        /// Its name.
        column: String,
    },
    /// The last column is missing.
    #[error("line has {found} characters where the last column begins after {expected}")]
    TooShort {
        /// Characters before the last column.
        expected: usize,
        /// Characters of the line.
        found: usize,
    },
    /// Text after the last column.
    #[error("line has {found} characters where the columns end after {expected}")]
    TooLong {
        /// Characters up to the end of the last column.
        expected: usize,
        /// Characters of the line.
        found: usize,
    },
}

/// The columns of a fixed width text.
///
/// Widths count Unicode scalar values. Columns may leave gaps, whose text is ignored, and may overlap.
#[derive(Debug, Clone)]
pub struct FixedWidth {
    columns: Vec<Span>,
    /// Greatest start of a column.
    last_start: usize,
    /// Greatest end of a column.
    end: usize,
}

#[derive(Debug, Clone)]
struct Span {
    name: String,
    start: usize,
    end: usize,
}

impl FixedWidth {
    /// The layout of `columns`. Fails without columns, or with one that has no width.
    pub fn new(columns: Vec<FixedColumn>) -> Result<Self, FixedError> {
        let mut spans: Vec<Span> = Vec::with_capacity(columns.len());
        for column in columns {
            if column.width == 0 {
                return Err(FixedError::ZeroWidth { column: column.name });
            }
            let start = column.start.unwrap_or_else(|| spans.last().map_or(0, |before| before.end));
            spans.push(Span { name: column.name, start, end: start.saturating_add(column.width) });
        }
        let last_start = spans.iter().map(|span| span.start).max().ok_or(FixedError::NoColumns)?;
        let end = spans.iter().map(|span| span.end).max().unwrap_or(last_start);
        Ok(Self { columns: spans, last_start, end })
    }

    /// Names of the columns, in the order of their values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|span| span.name.as_str())
    }

    /// The value of each column, without blanks at both ends. A line end is no part of the line.
    ///
    /// A line may end within the last column, or where it begins. Fails when it ends earlier, and when more than blanks
    /// follow the last column.
    pub fn split<'a>(&self, line: &'a str) -> Result<Vec<&'a str>, FixedError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let offsets: Option<Vec<usize>> = (!line.is_ascii()).then(|| line.char_indices().map(|(at, _)| at).collect());
        let found = offsets.as_ref().map_or(line.len(), Vec::len);
        let offset = |characters: usize| match &offsets {
            Some(offsets) => offsets.get(characters).copied().unwrap_or(line.len()),
            None => characters.min(line.len()),
        };
        if found < self.last_start {
            return Err(FixedError::TooShort { expected: self.last_start, found });
        }
        if !line[offset(self.end)..].bytes().all(|b| b == b' ') {
            return Err(FixedError::TooLong { expected: self.end, found });
        }
        Ok(self.columns.iter().map(|span| line[offset(span.start)..offset(span.end)].trim_matches(' ')).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(columns: &[(usize, Option<usize>)]) -> Result<FixedWidth, FixedError> {
        let column = |(index, (width, start)): (usize, &(usize, Option<usize>))| FixedColumn {
            name: format!("c{index}"),
            width: *width,
            start: *start,
        };
        FixedWidth::new(columns.iter().enumerate().map(column).collect())
    }

    #[test]
    fn columns_are_cut_by_characters() {
        let follow: &[(usize, Option<usize>)] = &[(3, None), (2, None), (4, None)];
        for (case, columns, line, expected) in [
            ("as wide as the columns", follow, "abc12wxyz", Ok(vec!["abc", "12", "wxyz"])),
            ("a line end", follow, "abc12wxyz\r\n", Ok(vec!["abc", "12", "wxyz"])),
            ("padding is taken away", follow, " a  1 x y", Ok(vec!["a", "1", "x y"])),
            ("tabs are no padding", follow, "\tb 12wxyz", Ok(vec!["\tb", "12", "wxyz"])),
            ("blanks alone", follow, "         ", Ok(vec!["", "", ""])),
            ("a line that ends in the last column", follow, "abc12w", Ok(vec!["abc", "12", "w"])),
            ("a line that ends before the last column", follow, "abc12", Ok(vec!["abc", "12", ""])),
            ("a line that is too short", follow, "abc1", Err(FixedError::TooShort { expected: 5, found: 4 })),
            ("an empty line", follow, "\n", Err(FixedError::TooShort { expected: 5, found: 0 })),
            ("blanks behind", follow, "abc12wxyz   \n", Ok(vec!["abc", "12", "wxyz"])),
            ("text behind", follow, "abc12wxyz !", Err(FixedError::TooLong { expected: 9, found: 11 })),
            ("letters beyond ASCII", follow, "äöü€€日本語!", Ok(vec!["äöü", "€€", "日本語!"])),
            ("a short line beyond ASCII", follow, "äöü€€日", Ok(vec!["äöü", "€€", "日"])),
            ("too short beyond ASCII", follow, "äöü€", Err(FixedError::TooShort { expected: 5, found: 4 })),
            ("text behind, beyond ASCII", follow, "äöü€€日本語!!", Err(FixedError::TooLong { expected: 9, found: 10 })),
            ("a gap", &[(2, None), (2, Some(4))][..], "ab--cd", Ok(vec!["ab", "cd"])),
            ("after a gap", &[(2, Some(1)), (2, None)][..], "-abcd", Ok(vec!["ab", "cd"])),
            ("in another order", &[(2, Some(4)), (4, Some(0))][..], "abcdef", Ok(vec!["ef", "abcd"])),
            ("overlapping", &[(4, Some(0)), (2, Some(1))][..], "abcd", Ok(vec!["abcd", "bc"])),
            ("one column without an end", &[(usize::MAX, Some(2))][..], "--rest", Ok(vec!["rest"])),
        ] {
            assert_eq!(layout(columns).unwrap().split(line), expected, "{case}");
        }
    }

    #[test]
    fn names_come_in_the_order_of_values() {
        let layout = layout(&[(2, Some(4)), (4, Some(0))]).unwrap();
        assert_eq!(layout.names().collect::<Vec<_>>(), ["c0", "c1"]);
    }

    #[test]
    fn bad_columns_are_told() {
        assert_eq!(layout(&[]).unwrap_err(), FixedError::NoColumns);
        assert_eq!(layout(&[(1, None), (0, None)]).unwrap_err(), FixedError::ZeroWidth { column: "c1".to_owned() });
    }
}
