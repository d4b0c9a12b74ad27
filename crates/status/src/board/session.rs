//! The stream that is running, for the line about the whole.

use std::time::Duration;

use super::rate::Rate;
use crate::text::{clock, size};

/// The node that is furthest behind in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// Bytes of the stream that it has written.
    pub(super) written_bytes: u64,
    /// Bytes of the stream that it writes in a second.
    pub(super) per_second: u64,
}

/// `value` in the ratio of `part` to `whole`; `value` itself where there is no whole.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return value;
    }
    let scaled = u128::from(value) * u128::from(part) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

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

    /// (Done, all) in bytes of content, where all is known: what the last node has of it.
    pub(super) fn share(&self, last: Option<Last>) -> Option<(u64, u64)> {
        let expected = self.expected_bytes?;
        let has = last.map_or(self.content_bytes, |last| {
            scaled(self.content_bytes, last.written_bytes, self.sent_bytes)
        });
        Some((has.min(self.content_bytes).min(expected), expected))
    }

    /// Seconds until the last node has everything: its rate may be less than that of the golden node, and it has what others
    /// have sent it.
    fn left_secs(&self, last: Option<Last>) -> Option<u64> {
        let expected = self.expected_bytes?;
        let golden = expected
            .saturating_sub(self.content_bytes)
            .checked_div(self.rate.per_second());
        // As many bytes of the stream as the rest of the content will take.
        let stream_bytes = scaled(
            self.sent_bytes,
            expected.max(self.content_bytes),
            self.content_bytes,
        );
        let of_last = last.and_then(|last| {
            let left = stream_bytes.saturating_sub(last.written_bytes);
            left.checked_div(last.per_second)
        });
        golden.into_iter().chain(of_last).max()
    }

    /// What is sent, how much, how fast, and the time left.
    pub(super) fn text(&self, at: Duration, last: Option<Last>) -> String {
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
        match self.left_secs(last) {
            Some(left) => line += &format!(", {} left", clock(Duration::from_secs(left))),
            None => line += &format!(", {} so far", clock(at.saturating_sub(self.started))),
        }
        line
    }
}
