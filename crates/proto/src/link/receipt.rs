//! Receipts. A node proves its progress to a node above it that is not its neighbour.
//!
//! A node keeps data that nodes further down may still ask for. It hears of them through its successor, which
//! could claim anything. So each of them proves its progress to each node that keeps data for it, under a key
//! that the server gives to these two alone. The nodes between pass receipts on and cannot make one.
//! Specification: `docs/protocol.md`, "Data connection".

use serde::{Deserialize, Serialize};

use crate::auth::{SHORT_MAC_LEN, is_same_mac, short_mac};
use crate::ids::{NodeId, StreamOffset};
use crate::limits::MAX_TOLERANCE;
use crate::wire::{Fields, WireError};

/// Most receipts in one acknowledgement: the sender's own, and those of its first, second and third
/// descendant that have further to go.
pub const MAX_RECEIPTS: usize = MAX_TOLERANCE + MAX_TOLERANCE * (MAX_TOLERANCE + 1) / 2;

/// Bytes of a receipt.
pub(super) const RECEIPT_LEN: usize = 32;

/// The highest bit of the offset. It is set if the end has arrived.
const ENDED: u64 = 1 << 63;

/// The key between two nodes of a stream that are not neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// Number of the other node.
    pub node: NodeId,
    /// The key that these two nodes share.
    pub key: [u8; 32],
}

impl std::fmt::Debug for ReceiptKey {
    /// Writes everything but the key, which must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiptKey({})", self.node)
    }
}

/// The nodes to which a node gives receipts, and those from which it takes them. There are as many each way
/// as lost nodes are tolerated, the neighbours left out, the nearest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptKeys {
    /// The nodes above, which keep data that this node may miss.
    pub above: Vec<ReceiptKey>,
    /// The nodes below, for which this node keeps data that they may miss.
    pub below: Vec<ReceiptKey>,
}

/// A node's report of its progress to a node above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The node that reports.
    pub from: NodeId,
    /// The node that it is for.
    pub to: NodeId,
    /// Offset up to which all data has arrived at `from` and is verified.
    pub received: StreamOffset,
    /// True if the end has arrived there.
    pub ended: bool,
    proof: [u8; SHORT_MAC_LEN],
}

impl Receipt {
    /// Makes the receipt of `from` for the node of this key.
    #[must_use]
    pub fn new(from: NodeId, key: &ReceiptKey, received: StreamOffset, ended: bool) -> Self {
        let receipt = Self::unproved(from, key.node, received, ended);
        Self {
            proof: receipt.prove(&key.key),
            ..receipt
        }
    }

    /// Returns a receipt without a proof, to be compared with others.
    pub(crate) const fn unproved(from: NodeId, to: NodeId, received: StreamOffset, ended: bool) -> Self {
        Self {
            from,
            to,
            received,
            ended,
            proof: [0; SHORT_MAC_LEN],
        }
    }

    /// Returns true if its sender knew the key, which belongs to these two nodes in this stream. Takes
    /// constant time.
    #[must_use]
    pub fn is_proved(&self, key: &[u8; 32]) -> bool {
        is_same_mac(self.prove(key), self.proof)
    }

    fn prove(&self, key: &[u8; 32]) -> [u8; SHORT_MAC_LEN] {
        short_mac(key, &[&self.word().to_le_bytes()])
    }

    const fn word(&self) -> u64 {
        let ended = if self.ended { ENDED } else { 0 };
        self.received.0 & !ENDED | ended
    }

    pub(super) fn encode(&self) -> [u8; RECEIPT_LEN] {
        let mut bytes = [0; RECEIPT_LEN];
        bytes[..4].copy_from_slice(&self.from.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.to.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.word().to_le_bytes());
        bytes[16..].copy_from_slice(&self.proof);
        bytes
    }

    /// Decodes the next receipt. Returns `None` if the place is empty, because the head gives no receipts.
    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Option<Self>, WireError> {
        let (from, to) = (NodeId(fields.u32()?), NodeId(fields.u32()?));
        let word = fields.u64()?;
        let receipt = Self {
            from,
            to,
            received: StreamOffset(word & !ENDED),
            ended: word & ENDED != 0,
            proof: fields.take()?,
        };
        Ok((from != NodeId::SERVER).then_some(receipt))
    }
}

/// The receipts of one acknowledgement. Those that do not fit are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipts {
    all: [Option<Receipt>; MAX_RECEIPTS],
}

impl Receipts {
    /// Returns its receipts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.all.iter().flatten()
    }

    pub(super) const fn places(&self) -> &[Option<Receipt>; MAX_RECEIPTS] {
        &self.all
    }
}

impl FromIterator<Receipt> for Receipts {
    fn from_iter<T: IntoIterator<Item = Receipt>>(receipts: T) -> Self {
        let mut all = [None; MAX_RECEIPTS];
        for (place, receipt) in all.iter_mut().zip(receipts) {
            *place = Some(receipt);
        }
        Self { all }
    }
}
