//! The stream that is running, for the line about the whole.

use std::time::Duration;

use super::rate::Rate;
use crate::text::{clock, size};

/// A session of the run, as `kainstall2`.
#[derive(Debug)]
pub(super) struct Session {
    name: String,
    what: String,
    started: Duration,
    expected_bytes: Option<u64>,
    sent_bytes: u64,
    content_bytes: u64,
    rate: Rate,
}

impl Session {
    /// One that begins at `started`.
    pub(super) fn new(name: &str, what: &str, started: Duration, expected_bytes: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            started,
            expected_bytes,
            sent_bytes: 0,
            content_bytes: 0,
            rate: Rate::default(),
        }
    }

    /// How far it is.
    pub(super) fn progress(&mut self, at: Duration, sent_bytes: u64, content_bytes: u64) {
        (self.sent_bytes, self.content_bytes) = (sent_bytes, content_bytes);
        self.rate.sample(at, content_bytes);
    }

    /// (Done, all) in bytes of content, where all is known.
    pub(super) fn share(&self) -> Option<(u64, u64)> {
        self.expected_bytes
            .map(|expected| (self.content_bytes.min(expected), expected))
    }

    /// What is sent, how much, how fast, and the time left.
    pub(super) fn text(&self, at: Duration) -> String {
        let mut line = format!("{}: {}", self.name, self.what);
        if self.sent_bytes == 0 {
            return line;
        }
        let rate = self.rate.per_second();
        line += &format!(", {}", size(self.content_bytes));
        if let Some(expected) = self.expected_bytes {
            line += &format!(" of about {}", size(expected));
        }
        if self.sent_bytes != self.content_bytes {
            line += &format!(" ({} sent)", size(self.sent_bytes));
        }
        line += &format!(", {}/s", size(rate));
        let left = self
            .expected_bytes
            .map(|expected| expected.saturating_sub(self.content_bytes));
        match left.and_then(|left| left.checked_div(rate)) {
            Some(left) => line += &format!(", {} left", clock(Duration::from_secs(left))),
            None => line += &format!(", {} so far", clock(at.saturating_sub(self.started))),
        }
        line
    }
}
