//! Frames that go up a data connection: acknowledgements and farewells, sealed and counted.

use super::receipt::{MAX_RECEIPTS, RECEIPT_LEN, Receipt, Receipts};
use crate::auth::{SHORT_MAC_LEN, is_same_mac, short_mac};
use crate::ids::StreamOffset;
use crate::wire::{Fields, WireError};

/// Bytes of every frame that goes up.
pub const UP_LEN: usize = UP_BODY + SHORT_MAC_LEN;

const OWN_LEN: usize = 32;
const UP_BODY: usize = OWN_LEN + MAX_RECEIPTS * RECEIPT_LEN;

/// A successor's word to its predecessor about itself, with the receipts of those after it that go further up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Everything before this has arrived and is verified.
    pub received: StreamOffset,
    /// Everything before this was used by its consumer.
    pub consumed: StreamOffset,
    /// The first byte that it still has for others.
    pub retained_from: StreamOffset,
    /// Proved words of the sender and its descendants to nodes further up, and to the receiver of this.
    pub receipts: Receipts,
    /// The end has arrived.
    pub ended: bool,
    /// The end has arrived at the sender and at every descendant of it.
    pub tail_ended: bool,
}

/// Why a successor closes the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Goodbye {
    /// The stream is complete, or the server ended it.
    Done = 1,
    /// Its own consumer failed; nothing is wrong with the link.
    ConsumerFailed = 2,
    /// The run was aborted.
    Aborted = 3,
    /// It was told to use another predecessor.
    Relinked = 4,
    /// A block did not verify: the sender forwards damaged data.
    BadBlock = 5,
}

/// A frame that goes up.
#[expect(
    clippy::large_enum_variant,
    reason = "it lies on the stack while it is made or read, and all but one of a link are of the large kind"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpFrame {
    /// How far it is.
    Ack(Ack),
    /// It closes the link.
    Goodbye(Goodbye),
}

impl UpFrame {
    fn body(&self) -> [u8; UP_BODY] {
        let mut bytes = [0; UP_BODY];
        match self {
            Self::Ack(ack) => {
                bytes[0] = 1;
                bytes[1] = u8::from(ack.ended) | u8::from(ack.tail_ended) << 1;
                let offsets = [ack.received.0, ack.consumed.0, ack.retained_from.0];
                for (place, offset) in bytes[8..].chunks_exact_mut(8).zip(offsets) {
                    place.copy_from_slice(&offset.to_le_bytes());
                }
                let places = bytes[OWN_LEN..].chunks_exact_mut(RECEIPT_LEN);
                for (place, receipt) in places.zip(ack.receipts.places()) {
                    place.copy_from_slice(&receipt.as_ref().map_or([0; RECEIPT_LEN], Receipt::encode));
                }
            }
            Self::Goodbye(why) => {
                bytes[0] = 2;
                bytes[4..8].copy_from_slice(&(*why as u32).to_le_bytes());
            }
        }
        bytes
    }

    fn decode(bytes: &[u8; UP_BODY]) -> Result<Self, WireError> {
        let mut fields = Fields::new("acknowledgement", bytes);
        let (kind, flags) = (fields.u8()?, fields.u8()?);
        fields.u16()?;
        let code = fields.u32()?;
        match (kind, code) {
            (1, _) => Ok(Self::Ack(Ack {
                received: StreamOffset(fields.u64()?),
                consumed: StreamOffset(fields.u64()?),
                retained_from: StreamOffset(fields.u64()?),
                receipts: receipts(&mut fields)?,
                ended: flags & 1 != 0,
                tail_ended: flags & 2 != 0,
            })),
            (2, 1) => Ok(Self::Goodbye(Goodbye::Done)),
            (2, 2) => Ok(Self::Goodbye(Goodbye::ConsumerFailed)),
            (2, 3) => Ok(Self::Goodbye(Goodbye::Aborted)),
            (2, 4) => Ok(Self::Goodbye(Goodbye::Relinked)),
            (2, 5) => Ok(Self::Goodbye(Goodbye::BadBlock)),
            _ => Err(WireError::malformed(
                "acknowledgement",
                format_args!("kind {kind}, code {code}"),
            )),
        }
    }
}

fn receipts(fields: &mut Fields<'_>) -> Result<Receipts, WireError> {
    let mut receipts = [None; MAX_RECEIPTS];
    for place in &mut receipts {
        *place = Receipt::decode(fields)?;
    }
    Ok(receipts.into_iter().flatten().collect())
}

/// Seals frames that go up: the MAC covers a count that is not sent, so none can be repeated, dropped or reordered.
#[derive(Debug)]
pub struct UpSealer {
    key: [u8; 32],
    count: u64,
}

impl UpSealer {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self { key, count: 0 }
    }

    /// The next frame's bytes: the body, and 16 of MAC.
    pub fn seal(&mut self, frame: &UpFrame) -> [u8; UP_LEN] {
        let body = frame.body();
        let proof = short_mac(&self.key, &[&self.count.to_le_bytes(), &body]);
        self.count += 1;
        let mut bytes = [0; UP_LEN];
        bytes[..UP_BODY].copy_from_slice(&body);
        bytes[UP_BODY..].copy_from_slice(&proof);
        bytes
    }
}

/// Opens what the successor's [`UpSealer`] sealed.
#[derive(Debug)]
pub struct UpOpener {
    key: [u8; 32],
    count: u64,
}

impl UpOpener {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self { key, count: 0 }
    }

    /// Checks and decodes the next frame.
    ///
    /// # Errors
    /// [`WireError`]: close the link.
    pub fn open(&mut self, bytes: &[u8; UP_LEN]) -> Result<UpFrame, WireError> {
        let mut fields = Fields::new("acknowledgement", bytes);
        let body: [u8; UP_BODY] = fields.take()?;
        let claimed = fields.take()?;
        let proof = short_mac(&self.key, &[&self.count.to_le_bytes(), &body]);
        if !is_same_mac(proof, claimed) {
            return Err(WireError::Proof {
                what: "acknowledgement",
            });
        }
        self.count += 1;
        UpFrame::decode(&body)
    }
}
