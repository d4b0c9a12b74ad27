//! Events of a run and how they are shown.
//!
//! What: the event a node sends while it works ([`event`]), what operators had it run ([`exec`]), the plan and the report it hands in ([`report`]),
//! what the server tells its user about the run ([`run`], [`summary`]), and three views of that: one line a
//! node on a terminal, plain lines for a log, JSON lines for machines ([`view`]).
//!
//! What not: no socket and no clock. Nothing here opens a stream to print to: each view is given its
//! writer (or, for the terminal, its draw target) by the binary.
//!
//! Issue 2, sections 4 (steps with events) and 8 (what a user sees); `docs/events.md` is the JSON schema.

mod board;
pub mod boot;
pub mod erasing;
pub mod event;
pub mod exec;
pub mod option;
pub mod proof;
pub mod report;
pub mod run;
pub mod slow;
pub mod spool;
pub mod ssh;
pub mod summary;
pub mod text;
pub mod view;
