//! The operator's terminal: standard error, if standing lines can be drawn there.

use std::io::{self, Write as _};

use ka_view::{ERASE_BELOW, TerminalView, Verbosity, can_draw_on, colour_for, size_of_stderr};

/// True if standing lines can be drawn on standard error. A terminal that cannot move its cursor, or is not
/// known to, would not show them and gets plain lines. Such are `TERM=dumb`, and no `TERM`: a serial line,
/// `su -`, an editor's shell.
pub(crate) fn can_draw() -> bool {
    can_draw_on(&io::stderr(), &terminal_name())
}

/// Returns the view that draws standing lines.
pub(crate) fn terminal_view(verbosity: Verbosity) -> TerminalView<io::Stderr> {
    let no_color = std::env::var("NO_COLOR").ok();
    let colour = colour_for(&terminal_name(), no_color.as_deref());
    TerminalView::new(io::stderr(), colour, verbosity, size_of_stderr)
}

/// Writes a text over the standing lines, which their view draws again below it. A closed terminal takes no
/// output.
pub(crate) fn write_over(text: &str) {
    let erase = if can_draw() { ERASE_BELOW } else { "" };
    io::stderr().write_all(format!("{erase}{text}").as_bytes()).ok();
}

fn terminal_name() -> String {
    std::env::var("TERM").unwrap_or_default()
}
