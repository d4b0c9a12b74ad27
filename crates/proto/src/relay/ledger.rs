//! The ledger: the proved progress of nodes further down, and the receipts that go further up.

use crate::ids::{NodeId, StreamOffset};
use crate::limits::MAX_TOLERANCE;
use crate::link::{Receipt, ReceiptKey, ReceiptKeys, Receipts};

/// A node below that is not the successor, with its proved progress.
#[derive(Debug)]
struct Below {
    key: ReceiptKey,
    received: Option<StreamOffset>,
    ended: bool,
}

/// The receipts that a relay gives, takes and passes on.
#[derive(Debug)]
pub(super) struct Ledger {
    me: NodeId,
    above: Vec<ReceiptKey>,
    below: Vec<Below>,
    /// Receipts for others, as the successor sent them last.
    passing: Receipts,
}

impl Ledger {
    pub(super) fn new(me: NodeId, keys: &ReceiptKeys) -> Self {
        let mut ledger = Self {
            me,
            above: Vec::new(),
            below: Vec::new(),
            passing: Receipts::default(),
        };
        ledger.name(keys);
        ledger
    }

    /// Sets the nodes that are near enough now. The progress of nodes that stay is kept.
    pub(super) fn name(&mut self, keys: &ReceiptKeys) {
        let nearest = |keys: &[ReceiptKey]| keys.iter().take(MAX_TOLERANCE).copied().collect::<Vec<_>>();
        self.above = nearest(&keys.above);
        let below = nearest(&keys.below).into_iter().map(|key| {
            let (received, ended) = match self.known(key.node) {
                Some((received, ended)) => (Some(received), ended),
                None => (None, false),
            };
            Below { key, received, ended }
        });
        self.below = below.collect();
    }

    /// Returns the progress that this node has proved, and true if it has the end.
    pub(super) fn known(&self, node: NodeId) -> Option<(StreamOffset, bool)> {
        let below = self.below.iter().find(|below| below.key.node == node)?;
        Some((below.received?, below.ended))
    }

    /// Takes the receipts of an acknowledgement. A receipt without a proof does not count, nor does one that
    /// takes an earlier report back.
    pub(super) fn take(&mut self, receipts: &Receipts) {
        let me = self.me;
        for receipt in receipts.iter().filter(|receipt| receipt.to == me) {
            let of = |below: &&mut Below| below.key.node == receipt.from;
            let Some(below) = self.below.iter_mut().find(of) else {
                continue;
            };
            let says_more = (Some(receipt.received), receipt.ended) > (below.received, below.ended);
            if says_more && receipt.is_proved(&below.key.key) {
                below.received = below.received.max(Some(receipt.received));
                below.ended |= receipt.ended;
            }
        }
        self.passing = receipts
            .iter()
            .filter(|receipt| receipt.to != me)
            .copied()
            .collect();
    }

    /// Returns the first byte that one of the nodes may still miss. `None` if there is no node below the
    /// successor. A node that has proved nothing yet may miss all data here.
    pub(super) fn needed_from(&self, retained_from: StreamOffset) -> Option<StreamOffset> {
        let received = |below: &Below| below.received.unwrap_or(retained_from);
        self.below.iter().map(received).min()
    }

    pub(super) fn all_have_the_end(&self) -> bool {
        self.below.iter().all(|below| below.ended)
    }

    /// Returns the own receipts without their proofs, and those of others that go up with them.
    pub(super) fn draft(&self, received: StreamOffset, ended: bool) -> Receipts {
        self.with_own(|key| Receipt::unproved(self.me, key.node, received, ended))
    }

    /// Returns the receipts that go up with an acknowledgement.
    pub(super) fn give(&self, received: StreamOffset, ended: bool) -> Receipts {
        self.with_own(|key| Receipt::new(self.me, key, received, ended))
    }

    fn with_own(&self, own: impl Fn(&ReceiptKey) -> Receipt) -> Receipts {
        let own = self.above.iter().map(own);
        own.chain(self.passing.iter().copied()).collect()
    }
}

/// Returns the number of bytes that `new` vouches for beyond `old`, for the node that moved furthest. `None`
/// if it tells of a node that `old` did not.
pub(super) fn growth(old: &Receipts, new: &Receipts) -> Option<u64> {
    let mut most = 0;
    for receipt in new.iter() {
        let same = |old: &&Receipt| (old.from, old.to) == (receipt.from, receipt.to);
        let before = old.iter().find(same)?;
        if receipt.ended && !before.ended {
            return None;
        }
        most = most.max(receipt.received.since(before.received));
    }
    Some(most)
}
