//! Sizes and times as people write them: `64M`, `1.5T`, `2s`, `1h30m`. They are the same on every command
//! line and in desc files.
//!
//! ```
//! use std::time::Duration;
//!
//! assert_eq!(ka_units::size("64M", 1), Ok(64 << 20));
//! assert_eq!(ka_units::time("1h30m", Duration::from_secs(1)), Ok(Duration::from_secs(5400)));
//! assert_eq!(ka_units::size_text(16 << 30), "16G");
//! ```

mod number;
mod size;
mod time;

pub use number::scaled;
pub use size::{SizeError, size, size_text};
pub use time::{TimeError, time, time_text};
