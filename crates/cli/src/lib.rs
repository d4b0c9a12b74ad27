//! The front door of every program. It has one parser, one help style, one manual page and completion
//! generator, one error printer and one set of exit codes.
//!
//! A program declares its options with clap's derive and hands the type to [`parse()`]. It prints with
//! [`say`] and [`print()`], which a closed terminal or pipe cannot end in disorder. [`EndRequests`] tells a second
//! press of Ctrl-C from an echo of the first.
//!
//! ```
//! use clap::Parser;
//! use ka_cli::Answer;
//!
//! /// Copy a disk.
//! #[derive(Debug, Parser)]
//! #[command(name = "ka-copy", version)]
//! struct Options {
//!     /// Disk to read
//!     #[arg(long)]
//!     disk: String,
//! }
//!
//! let options: Options = ka_cli::parse(["ka-copy", "--disk", "sda"])?;
//! assert_eq!(options.disk, "sda");
//!
//! let wrong = ka_cli::parse::<Options>(["ka-copy", "--dsk", "sda"]);
//! let text = "unexpected argument '--dsk' found; did you mean --disk?; see ka-copy --help";
//! assert_eq!(wrong.unwrap_err(), Answer::Wrong(text.into()));
//! # Ok::<(), Answer>(())
//! ```

mod answer;
mod complete;
mod end_requests;
mod error;
mod manual;
mod output;
mod parse;
pub mod size;
pub mod time;

/// The exit codes of every program but `ka-status exec`, which passes on the command's own.
pub mod exit {
    /// All requested work is done.
    pub const DONE: u8 = 0;
    /// Nothing was done: a check failed before anything was written.
    pub const NOTHING_DONE: u8 = 1;
    /// The command line is wrong.
    pub const WRONG_USAGE: u8 = 2;
    /// The program failed after it had begun to write.
    pub const FAILED: u8 = 3;
}

pub use answer::Answer;
pub use end_requests::EndRequests;
pub use error::{error_line, error_text, fail};
pub use output::{feed, log_libraries, print, say, write};
pub use parse::parse;
