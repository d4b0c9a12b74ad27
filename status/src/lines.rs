//! Output of several nodes on one screen: whole lines, each with its node in front.

use ka_proto::text::marked_lines;

use crate::args::Target;

/// Returns a line of a node for the screen, as one text. In one write, no other node's line can cut it.
pub(crate) fn named(node: &Target, line: &str) -> String {
    let lines = marked_lines(line).into_iter();
    lines.map(|line| format!("{}> {line}\n", node.shown)).collect()
}

/// Longest line of a command's output, in bytes. A longer one goes on in the next line.
const MAX_LINE: usize = 8 << 10;

/// Splitter of output in pieces into lines. It never holds more than one line.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece, and passes each complete line to `say`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut say: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                if self.0.len() + part.len() > MAX_LINE {
                    self.end(&mut say);
                }
                self.0.extend_from_slice(part);
            }
            if self.0.pop_if(|last| *last == b'\n').is_some() {
                say(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }

    /// Passes the rest to `say`.
    pub(crate) fn end(&mut self, mut say: impl FnMut(&str)) {
        if !self.0.is_empty() {
            say(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn pieces_become_whole_lines() {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in ["ab", "c\nd", "\n\nlast"] {
            lines.push(piece.as_bytes(), |line| said.push(line.to_owned()));
        }
        lines.end(|line| said.push(line.to_owned()));
        assert_eq!(said, ["abc", "d", "", "last"]);
    }

    #[test]
    fn output_without_a_line_end_is_shown_in_parts_and_not_kept() {
        let (mut lines, mut said) = (Lines::default(), 0);
        for _ in 0..1000 {
            lines.push(&[b'x'; 1000], |line| said += line.len());
            assert!(lines.0.len() <= super::MAX_LINE);
        }
        lines.end(|line| said += line.len());
        assert_eq!(said, 1_000_000);
    }
}
