//! Ways to show a run. Each view gets every event and a tick about once a second, and writes only through what
//! it was given.

mod json;
mod line;
mod plain;
mod terminal;

use std::io;
use std::time::Duration;

pub use json::JsonView;
pub use line::{event_line, prepared_lines};
pub use plain::{PlainView, Verbosity};
pub use terminal::TerminalView;

use crate::run::RunEvent;

/// Something that shows a run.
pub trait View: Send {
    /// Shows an event that happened `at` this long after the run began.
    ///
    /// # Errors
    /// Those of the writer.
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()>;
}
