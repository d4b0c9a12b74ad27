//! Three views of a run: one screen for a terminal ([`TerminalView`]), plain lines for a log ([`PlainView`]),
//! and JSON lines for machines ([`JsonView`]). Each view gets every event, and a tick now and then while
//! nothing happens. It writes only to the writer that the program gave it.

mod board;
mod drawer;
mod group;
mod json;
mod line;
mod plain;
mod screen;
mod spool;
mod styled;
mod terminal;

use std::io;
use std::time::Duration;

pub use drawer::ERASE_BELOW;
pub use json::JsonView;
pub use line::{event_line, prepared_lines};
pub use plain::{PlainView, Verbosity};
pub use screen::Size;
pub use styled::Colour;
pub use terminal::{TerminalView, can_draw_on, colour_for, size_of_stderr};

use ka_report::run::RunEvent;

/// A view that shows a run.
pub trait View: Send {
    /// Shows an event that happened `at` this long after the run began.
    ///
    /// # Errors
    /// The errors of the writer.
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()>;

    /// Shows that time passes, `at` this long after the run began. It is called several times a second while
    /// nothing happens.
    ///
    /// # Errors
    /// The errors of the writer.
    fn tick(&mut self, _at: Duration) -> io::Result<()> {
        Ok(())
    }
}
