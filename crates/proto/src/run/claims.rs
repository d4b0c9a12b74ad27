//! Two connections that claim to be one node.
//!
//! A machine that lost power comes again while its old connection still looks alive. An impostor may also
//! claim a place that another node holds. The server tells them apart by asking the holder: a holder that
//! answers stays. A claim waits for the answer as long as a link may be silent, and no longer.

use super::{ConnId, Duration, IpAddr, Join, NodeId, SocketAddr, limits};

/// A proved Join for a place that another node has.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) conn: ConnId,
    pub(super) join: Join,
    pub(super) local: IpAddr,
    pub(super) remote: SocketAddr,
    pub(super) holder: NodeId,
    pub(super) since: Duration,
}

/// The claims that wait for the holder's answer.
#[derive(Debug)]
pub(super) struct Claims {
    open: Vec<Claim>,
    patience: Duration,
}

impl Claims {
    /// Returns no claims yet. `link_silence` is the time that a link may be silent. A claim waits that long,
    /// but less than a node waits for the answer to its Join.
    pub(super) fn new(link_silence: Duration) -> Self {
        Self {
            open: Vec::new(),
            patience: link_silence.min(limits::JOIN_TIMEOUT / 2),
        }
    }

    /// Returns true if a holder that was last heard at `heard` has been silent for too long.
    pub(super) fn is_silent(&self, now: Duration, heard: Duration) -> bool {
        now >= heard + self.patience
    }

    /// Keeps a claim.
    ///
    /// # Errors
    /// The claim, if there are too many. A holder of the secret may claim, but must not make the server keep
    /// more claims than all nodes together.
    pub(super) fn add(&mut self, claim: Claim) -> Result<(), Box<Claim>> {
        if self.open.len() >= limits::MAX_NODES {
            return Err(Box::new(claim));
        }
        self.open.push(claim);
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes out the claims to a place whose holder has answered the ping of this number, so it lives.
    pub(super) fn take_refuted(&mut self, holder: NodeId, number: u64) -> Vec<Claim> {
        self.take(|claim| {
            claim.holder == holder && number >= u64::try_from(claim.since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Takes out the claims whose holder is gone, or has not answered in time.
    pub(super) fn take_settled(
        &mut self,
        now: Duration,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Vec<Claim> {
        let patience = self.patience;
        self.take(|claim| now >= claim.since + patience || !is_connected(claim.holder))
    }

    pub(super) fn take_all(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.open)
    }

    fn take(&mut self, is_taken: impl Fn(&Claim) -> bool) -> Vec<Claim> {
        let (taken, open) = self.take_all().into_iter().partition(is_taken);
        self.open = open;
        taken
    }

    /// Returns the time at which the first claim must be settled.
    pub(super) fn due(&self) -> Option<Duration> {
        let first = self.open.iter().map(|claim| claim.since).min();
        first.map(|since| since + self.patience)
    }

    /// Forgets the claim of a connection that has closed.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.open.retain(|claim| claim.conn != conn);
    }
}
