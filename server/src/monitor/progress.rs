//! The running stream, as the monitor knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ka_report::run::{NodeProgress, RunEvent};
use ka_tree::Progress;

/// Progress of the running stream on the server's side. The feed writes it, the monitor reads it.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    /// Bytes given to the chain.
    pub(crate) sent: AtomicU64,
    /// Content that the tree reader has read. It stays zero for a stream without a tree (`-e`).
    pub(crate) content: Progress,
}

/// The running stream: the feed's progress, and each node's.
#[derive(Debug)]
pub(super) struct RunningStream {
    feed: Arc<FeedProgress>,
    expected_bytes: Option<u64>,
    nodes: Vec<NodeProgress>,
}

/// The bytes of a stream that the golden node has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// Bytes given to the chain.
    pub(super) bytes: u64,
    /// Bytes of content in them.
    pub(super) content: u64,
    /// Bytes of all content, if they are known.
    pub(super) expected: Option<u64>,
}

impl RunningStream {
    /// Returns a stream that begins.
    pub(super) const fn new(feed: Arc<FeedProgress>, expected_bytes: Option<u64>) -> Self {
        Self {
            feed,
            expected_bytes,
            nodes: Vec::new(),
        }
    }

    /// Takes in the progress of a node.
    pub(super) fn note(&mut self, progress: NodeProgress) {
        match self.nodes.iter_mut().find(|node| node.id == progress.id) {
            Some(node) => *node = progress,
            None => self.nodes.push(progress),
        }
    }

    /// Returns the bytes sent.
    pub(super) fn sent(&self) -> Sent {
        let (bytes, content) = (self.feed.sent.load(Ordering::Relaxed), self.feed.content.bytes());
        Sent {
            bytes,
            content: if content == 0 { bytes } else { content },
            expected: self.expected_bytes,
        }
    }

    /// Returns the progress of all, for the views.
    pub(super) fn event(&self) -> RunEvent {
        let sent = self.sent();
        RunEvent::Progress {
            sent_bytes: sent.bytes,
            content_bytes: sent.content,
            nodes: self.nodes.clone(),
        }
    }
}
