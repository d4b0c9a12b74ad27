//! Lines of a file as text, whatever their bytes are: a Latin-1 letter in a comment is no reason to pass over
//! a file.

/// A line with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    /// Its bytes are no UTF-8: each of them is one character of the text.
    is_bytes: bool,
}

impl Line {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                text: text.to_owned(),
                is_bytes: false,
            },
            Err(_) => Self {
                text: bytes.iter().map(|byte| char::from(*byte)).collect(),
                is_bytes: true,
            },
        }
    }

    /// Returns the line, with its end.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the bytes of a changed text of this line.
    pub(crate) fn bytes_of(&self, text: &str) -> Vec<u8> {
        if !self.is_bytes {
            return text.as_bytes().to_vec();
        }
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u8::try_from(u32::from(c)) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(c.to_string().as_bytes()),
            }
        }
        bytes
    }
}

/// Returns the lines of a file; a line that ends in a backslash is joined with the next where `joins` says
/// so.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Line> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(Line::new)
        .collect()
}

/// A file that is being rewritten line by line, with the lines to report.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) bytes: Vec<u8>,
    pub(crate) changes: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Rewritten {
    /// Takes the next line over, changed or not.
    pub(crate) fn push(&mut self, line: &Line, new: &str) {
        if new != line.text {
            self.changes.push(if new.trim().is_empty() {
                format!("{} removed", line.text.trim())
            } else {
                format!("{} becomes {}", line.text.trim(), new.trim())
            });
        }
        self.bytes.extend(line.bytes_of(new));
    }

    /// Takes the next line out of effect. The warning says why.
    pub(crate) fn comment_out(&mut self, line: &Line, why: String) {
        self.push(line, &format!("{LEFT_OUT}{}", line.text));
        self.warnings.push(why);
    }
}

/// The mark before a line that has no meaning in the clone.
pub(crate) const LEFT_OUT: &str = "# ka: not in this clone: ";

/// A comment, as most files write them.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back_as_they_went() {
        let bytes: Vec<u8> = (0..=255).collect();
        let all: Vec<u8> = lines(&bytes)
            .iter()
            .flat_map(|line| line.bytes_of(line.text()))
            .collect();
        assert_eq!(all, bytes);
    }
}
