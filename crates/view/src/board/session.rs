//! The running stream, for the line about the whole run.

use std::time::Duration;

use super::flow::Flow;
use super::rate::Rate;
use ka_report::text::{clock, size};

/// The node that is furthest behind in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// Bytes of the stream that it has written.
    pub(super) written_bytes: u64,
    /// Bytes of the stream that it writes in a second.
    pub(super) per_second: u64,
}

/// Returns `value` in the ratio of `part` to `whole`, and `value` itself if `whole` is zero.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return value;
    }
    let scaled = u128::from(value) * u128::from(part) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// A session of the run, such as `kainstall2`.
#[derive(Debug)]
pub(super) struct Session {
    name: String,
    what: String,
    started: Duration,
    expected_bytes: Option<u64>,
    sent_bytes: u64,
    content_bytes: u64,
    rate: Rate,
    /// Rate at which the last node takes the content.
    last_rate: Rate,
}

impl Session {
    /// Returns a session that begins at `started`.
    pub(super) fn new(name: &str, what: &str, started: Duration, expected_bytes: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            started,
            expected_bytes,
            sent_bytes: 0,
            content_bytes: 0,
            rate: Rate::default(),
            last_rate: Rate::default(),
        }
    }

    /// Sets the progress: bytes sent, and bytes of content in them.
    pub(super) fn progress(
        &mut self,
        at: Duration,
        (sent_bytes, content_bytes): (u64, u64),
        last: Option<Last>,
    ) {
        (self.sent_bytes, self.content_bytes) = (sent_bytes, content_bytes);
        self.rate.sample(at, content_bytes);
        self.last_rate.sample(at, self.has(last));
    }

    /// True if data flows.
    pub(super) fn has_begun(&self) -> bool {
        self.sent_bytes > 0
    }

    /// Returns `kainstall2: sending the tree`.
    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.name, self.what)
    }

    /// Returns the bytes of content that the last node has.
    fn has(&self, last: Option<Last>) -> u64 {
        let has = last.map_or(self.content_bytes, |last| {
            scaled(self.content_bytes, last.written_bytes, self.sent_bytes)
        });
        has.min(self.content_bytes)
            .min(self.expected_bytes.unwrap_or(u64::MAX))
    }

    /// Returns the figures of the stream for the last node. `None` before data flows.
    pub(super) fn flow(&self, at: Duration, last: Option<Last>) -> Option<Flow> {
        let has = self.has(last);
        self.has_begun().then(|| Flow {
            percent: self
                .expected_bytes
                .map(|all| scaled(100, has, all).min(if has < all { 99 } else { 100 })),
            left: self.left_secs(last).map(Duration::from_secs),
            is_of_data: false,
            elapsed: at.saturating_sub(self.started),
            per_second: Some(self.last_rate.per_second()),
            bytes: Some((has, self.expected_bytes)),
        })
    }

    /// Returns the seconds until the last node has everything. Its rate may be lower than the golden node's,
    /// and it gets its data from other nodes.
    fn left_secs(&self, last: Option<Last>) -> Option<u64> {
        let expected = self.expected_bytes?;
        let golden = expected
            .saturating_sub(self.content_bytes)
            .checked_div(self.rate.per_second());
        // Bytes of the stream that the rest of the content will take.
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

    /// Returns the content's name, size, rate and the time left.
    pub(super) fn text(&self, at: Duration, last: Option<Last>) -> String {
        let mut line = self.title();
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
