//! A line of the screen: pieces of text, each with its tone, measured in columns of a terminal.

use console::{measure_text_width, truncate_str};

/// The tone of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Normal text.
    Plain,
    /// Text that stands out.
    Strong,
    /// Good news.
    Good,
    /// News that the operator should look at.
    Warning,
    /// A failure.
    Bad,
}

impl Tone {
    /// Returns the parameters of "select graphic rendition" (ECMA-48, 8.3.117).
    const fn rendition(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

/// The use of colours on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Colours and bold type.
    On,
    /// Text only (`NO_COLOR`).
    Off,
}

/// One line of the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// Returns a line in one tone.
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self::default().with(tone, text)
    }

    /// Returns the line with more text behind it.
    pub(crate) fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.pieces.push((tone, text.into()));
        self
    }

    /// Returns its width in columns.
    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| measure_text_width(text)).sum()
    }

    /// Returns the line cut to this many columns. An ellipsis stands for the rest.
    pub(crate) fn cut(self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        let mut pieces = Vec::new();
        for (tone, text) in self.pieces {
            let head = truncate_str(&text, left, "");
            left -= measure_text_width(&head);
            let is_cut = head.len() < text.len();
            let end = if is_cut && columns > 0 { "…" } else { "" };
            pieces.push((tone, format!("{head}{end}")));
            if is_cut {
                break;
            }
        }
        Self { pieces }
    }

    /// Returns the line as it is written to a terminal.
    pub(crate) fn painted(&self, colour: Colour) -> String {
        let paint = |(tone, text): &(Tone, String)| match tone.rendition() {
            Some(rendition) if colour == Colour::On => format!("\x1b[{rendition}m{text}\x1b[0m"),
            _ => text.clone(),
        };
        self.pieces.iter().map(paint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Colour, Line, Tone};

    #[test]
    fn a_line_is_cut_by_columns_and_not_by_bytes() {
        let line = || Line::new(Tone::Bad, "größe").with(Tone::Plain, " 漢字漢字");
        assert_eq!(line().width(), 14);
        for (columns, text) in [
            (14, "größe 漢字漢字"),
            (13, "größe 漢字漢…"),
            (10, "größe 漢…"),
            (6, "größe…"),
            (3, "gr…"),
        ] {
            let cut = line().cut(columns);
            assert_eq!(cut.painted(Colour::Off), text);
            assert!(cut.width() <= columns, "{text}");
        }
    }

    #[test]
    fn tones_are_colours_where_they_are_wanted_only() {
        let line = Line::new(Tone::Bad, "FAILED").with(Tone::Plain, " n1");
        assert_eq!(line.painted(Colour::On), "\x1b[1;31mFAILED\x1b[0m n1");
        assert_eq!(line.painted(Colour::Off), "FAILED n1");
    }
}
