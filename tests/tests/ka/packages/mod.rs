//! The packages as `cargo xtask package` makes them: their contents, and systems that get, upgrade and
//! lose them.

mod contents;
mod lifecycle;
mod repository;
mod sysvinit;
