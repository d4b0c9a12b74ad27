//! The pump's two links: to the predecessor, which it makes itself, and to the successor, which comes.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ka_proto::StreamOffset;
use ka_proto::control::Peer;
use ka_proto::link::{Goodbye, UpFrame};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::stream::downstream::Downstream;
use crate::stream::link::{Dial, LinkTarget, connect};
use crate::stream::upstream::Upstream;

/// At the end, how long to wait for the predecessor to take the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(1);

/// The link to the predecessor, and the attempt to make it.
///
/// Connecting runs on tokio; its result comes back through the inbox with the attempt's number. Results of an
/// attempt that was given up meanwhile are not taken.
#[derive(Debug)]
pub(super) struct PredecessorLink {
    link: Option<Upstream>,
    peer: Option<Peer>,
    connecting: Option<JoinHandle<()>>,
    attempt: u64,
    local: Option<IpAddr>,
    runtime: Handle,
}

impl PredecessorLink {
    /// Returns no link yet. Connections are made from `local`, if it is given, by tasks of `runtime`.
    pub(super) const fn new(local: Option<IpAddr>, runtime: Handle) -> Self {
        Self {
            link: None,
            peer: None,
            connecting: None,
            attempt: 0,
            local,
            runtime,
        }
    }

    /// Begins to connect to `peer`, to go on at `resume_from`.
    pub(super) fn connect(&mut self, target: &LinkTarget, peer: Peer, resume_from: StreamOffset) {
        self.give_up_attempt();
        self.peer = Some(peer);
        let dial = Dial {
            node: peer.node,
            addr: peer.addr,
            local: self.local,
            resume_from,
            attempt: self.attempt,
        };
        self.connecting = Some(self.runtime.spawn(connect(target.clone(), dial)));
    }

    /// A connection that is being made must not be let in any more: the head of a branch takes one, and ends
    /// with it.
    pub(super) fn give_up_attempt(&mut self) {
        self.attempt += 1;
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }

    /// True when `attempt` is the one whose result counts.
    pub(super) const fn is_current(&self, attempt: u64) -> bool {
        self.attempt == attempt
    }

    /// The link stands.
    pub(super) fn set(&mut self, link: Upstream) {
        self.link = Some(link);
    }

    pub(super) const fn link(&self) -> Option<&Upstream> {
        self.link.as_ref()
    }

    pub(super) const fn link_mut(&mut self) -> Option<&mut Upstream> {
        self.link.as_mut()
    }

    /// Returns the node that blocks are taken from now.
    pub(super) const fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Closes the link.
    pub(super) fn close(&mut self) {
        self.link = None;
    }

    /// Closes the link with a farewell, as far as the socket takes it at once. False when there was none.
    pub(super) fn say_goodbye(&mut self, why: Goodbye) -> bool {
        let Some(mut link) = self.link.take() else {
            return false;
        };
        link.push_up(&UpFrame::Goodbye(why));
        link.flush_up().ok();
        true
    }

    /// Lets the predecessor read the last acknowledgement: closing with blocks unread would reset the
    /// connection under it. Blocks for a second at most.
    pub(super) fn linger(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        let Some(mut link) = self.link.take() else {
            return;
        };
        while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
            match link.linger(rest) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return log_farewell(&error),
            }
        }
    }
}

fn log_farewell(error: &io::Error) {
    tracing::debug!(%error, "closing the link to the predecessor");
}

/// The link to the successor, and one that came before its time.
#[derive(Debug, Default)]
pub(super) struct SuccessorLink {
    link: Option<Downstream>,
    early: Option<(Box<Downstream>, StreamOffset)>,
}

impl SuccessorLink {
    /// The link stands.
    pub(super) fn set(&mut self, link: Downstream) {
        self.link = Some(link);
    }

    pub(super) const fn link(&self) -> Option<&Downstream> {
        self.link.as_ref()
    }

    pub(super) const fn link_mut(&mut self) -> Option<&mut Downstream> {
        self.link.as_mut()
    }

    /// Closes the link.
    pub(super) fn close(&mut self) {
        self.link = None;
    }

    /// Keeps a successor that was named to the listener, and of which the machine has not heard yet. It gives
    /// up by itself when it hears nothing.
    pub(super) fn keep_early(&mut self, link: Box<Downstream>, resume_from: StreamOffset) {
        self.early = Some((link, resume_from));
    }

    /// Returns the successor that came before its time.
    pub(super) const fn take_early(&mut self) -> Option<(Box<Downstream>, StreamOffset)> {
        self.early.take()
    }
}
