//! Frames that go up a data connection: acknowledgements and farewells, sealed and counted.

use super::receipt::{MAX_RECEIPTS, RECEIPT_LEN, Receipt, Receipts};
use crate::auth::{SHORT_MAC_LEN, is_same_mac, short_mac};
use crate::ids::StreamOffset;
use crate::wire::{Fields, WireError};

/// Bytes of every frame that goes up.
pub const UP_LEN: usize = UP_BODY + SHORT_MAC_LEN;

const OWN_LEN: usize = 32;
/// Flags of an acknowledgement.
const ENDED: u8 = 1;
const TAIL_ENDED: u8 = 2;
const STANDBY: u8 = 4;
const UP_BODY: usize = OWN_LEN + MAX_RECEIPTS * RECEIPT_LEN;

/// A successor's report to its predecessor about itself, with the receipts of the nodes after it that go
/// further up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Offset up to which all data has arrived and is verified.
    pub received: StreamOffset,
    /// Offset up to which its consumer has used all data.
    pub consumed: StreamOffset,
    /// Offset of the first byte that it still has for others.
    pub retained_from: StreamOffset,
    /// Proved reports of the sender and its descendants to nodes further up, and to the receiver of this.
    pub receipts: Receipts,
    /// True if the end has arrived.
    pub ended: bool,
    /// True if the end has arrived at the sender and at every descendant of it.
    pub tail_ended: bool,
    /// True if the sender gets the stream from the multicast group. Its predecessor sends only signs of life.
    pub standby: bool,
}

/// A reason of a successor to close the link itself.
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
    /// Progress of the successor.
    Ack(Ack),
    /// The successor closes the link.
    Goodbye(Goodbye),
}

impl UpFrame {
    fn body(&self) -> [u8; UP_BODY] {
        let mut bytes = [0; UP_BODY];
        match self {
            Self::Ack(ack) => {
                bytes[0] = 1;
                bytes[1] = [ack.ended, ack.tail_ended, ack.standby]
                    .into_iter()
                    .zip([ENDED, TAIL_ENDED, STANDBY])
                    .fold(0, |flags, (is_set, flag)| flags | (u8::from(is_set) * flag));
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
                ended: flags & ENDED != 0,
                tail_ended: flags & TAIL_ENDED != 0,
                standby: flags & STANDBY != 0,
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

/// Sealer of the frames that go up. The MAC covers a count that is not sent, so no frame can be repeated,
/// dropped or reordered.
#[derive(Debug)]
pub struct UpSealer {
    key: [u8; 32],
    count: u64,
}

impl UpSealer {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self { key, count: 0 }
    }

    /// Returns the next frame's bytes: the body, and 16 of MAC.
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

/// Opener of the frames that the successor's [`UpSealer`] sealed.
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
