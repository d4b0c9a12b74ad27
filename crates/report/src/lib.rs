//! Events of a run, plans, reports and summaries, with their texts.
//!
//! A node sends events while it works ([`event`]), and reports the commands that operators ran on it
//! ([`exec`]). It also sends its plan and its report ([`report`]). The server tells its user about the run
//! ([`run`], [`summary`]). `docs/events.md` is the JSON schema.
//!
//! Not here: sockets, clocks, signatures, and the views of events (`ka_view`).

pub mod approval;
pub mod boot;
pub mod erasing;
pub mod event;
pub mod exec;
pub mod node;
pub mod report;
pub mod run;
pub mod slow;
pub mod spool;
pub mod ssh;
pub mod summary;
pub mod text;
