//! Lines that stand at the foot of a terminal while other lines scroll by above them.
//!
//! Between two drawings the cursor rests on an empty row *above* the standing lines. So everything below the
//! cursor is ours, even if the terminal has wrapped it after a change of its size. One "erase below"
//! (ECMA-48, 8.3.39) removes all of it. The operator's typing appears in a row of its own, and a program that
//! dies leaves a terminal in order.

use std::io::{self, Write};

use crate::screen::Size;
use crate::styled::{Colour, Line};

/// Sequence that erases the row of the cursor and all rows below. Any other output to the terminal begins
/// with it while a [`crate::TerminalView`] draws there.
pub const ERASE_BELOW: &str = "\r\x1b[J";

/// The occasion of a drawing of the standing lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Draws only if something has changed.
    Changes,
    /// Draws always: the terminal has another size.
    Anew,
    /// Draws always, because other output may have erased the lines, and around the text that is being typed
    /// on a terminal of this size.
    BesideTyping(Size),
}

/// A drawer of standing lines on a terminal.
#[derive(Debug)]
pub(crate) struct Drawer<W> {
    out: W,
    colour: Colour,
    standing: Vec<Line>,
}

impl<W: Write> Drawer<W> {
    /// Returns a drawer without standing lines.
    pub(crate) fn new(out: W, colour: Colour) -> Self {
        Self {
            out,
            colour,
            standing: Vec::new(),
        }
    }

    /// Lets `passing` scroll by, and draws `standing` below. Everything is written at once.
    ///
    /// # Errors
    /// The errors of the writer.
    pub(crate) fn draw(&mut self, passing: &[Line], standing: Vec<Line>, draw: Draw) -> io::Result<()> {
        if passing.is_empty() && standing == self.standing && draw == Draw::Changes {
            return Ok(());
        }
        let beside = match draw {
            Draw::BesideTyping(size) => self.beside_typing(passing, &standing, size),
            Draw::Changes | Draw::Anew => None,
        };
        let text = beside.unwrap_or_else(|| self.over_everything(passing, &standing));
        self.standing = standing;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Returns a drawing that first erases the row of the cursor and all rows below.
    fn over_everything(&self, passing: &[Line], standing: &[Line]) -> String {
        let mut text = String::from(ERASE_BELOW);
        for line in passing {
            text += &format!("{}\r\n", line.painted(self.colour));
        }
        if !standing.is_empty() {
            text += &format!("\r\n{}\r\x1b[{}A", self.painted(standing), standing.len());
        }
        text
    }

    /// Returns a drawing that keeps the row of the cursor, with the text typed there and the cursor's column.
    /// `None` if the terminal is too small for it, or if nothing is drawn.
    ///
    /// "Index" (ESC D) and "cursor up" keep the column. They make room below, and the terminal scrolls as far
    /// as it must. Then "insert line" moves the typed row down, and the passing lines take the rows above it.
    fn beside_typing(&self, passing: &[Line], standing: &[Line], size: Size) -> Option<String> {
        let rows_of = |line: &Line| line.width().div_ceil(size.columns.max(1)).max(1);
        let above: usize = passing.iter().map(rows_of).sum();
        let room = above + standing.len();
        if room == 0 || room >= size.rows {
            return None;
        }
        let mut text = format!("{}\x1b[{room}A\x1b7\r\n\x1b[J\x1b8", "\x1bD".repeat(room));
        if above > 0 {
            text += &format!("\x1b7\r\x1b[{above}L{}\x1b8\x1b[{above}B", self.painted(passing));
        }
        if !standing.is_empty() {
            text += &format!("\x1b7\r\n{}\x1b8", self.painted(standing));
        }
        Some(text)
    }

    fn painted(&self, lines: &[Line]) -> String {
        let painted: Vec<String> = lines.iter().map(|line| line.painted(self.colour)).collect();
        painted.join("\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Draw, Drawer};
    use crate::screen::Size;
    use crate::styled::{Colour, Line, Tone};

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::new(Tone::Plain, *text)).collect()
    }

    #[test]
    fn the_cursor_rests_above_the_standing_lines_and_what_has_not_changed_is_not_drawn() {
        let mut out = Vec::new();
        let mut drawer = Drawer::new(&mut out, Colour::Off);
        drawer
            .draw(&lines(&["joined"]), lines(&["a", "b"]), Draw::Changes)
            .unwrap();
        drawer.draw(&[], lines(&["a", "b"]), Draw::Changes).unwrap();
        let beside = Draw::BesideTyping(Size {
            columns: 10,
            rows: 24,
        });
        drawer.draw(&[], lines(&["c"]), beside).unwrap();
        drawer
            .draw(&lines(&["longer than a row"]), lines(&["c"]), beside)
            .unwrap();
        drawer.draw(&[], lines(&["c"]), Draw::Anew).unwrap();
        drawer.draw(&[], Vec::new(), Draw::Changes).unwrap();
        drop(drawer);
        let expected = concat!(
            "\r\x1b[Jjoined\r\n\r\na\r\nb\r\x1b[2A",
            "\x1bD\x1b[1A\x1b7\r\n\x1b[J\x1b8\x1b7\r\nc\x1b8",
            "\x1bD\x1bD\x1bD\x1b[3A\x1b7\r\n\x1b[J\x1b8\x1b7\r\x1b[2Llonger than a row\x1b8\x1b[2B\x1b7\r\nc\x1b8",
            "\r\x1b[J\r\nc\r\x1b[1A",
            "\r\x1b[J",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
