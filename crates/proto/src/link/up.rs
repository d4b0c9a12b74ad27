//! Frames that go up a data connection: acknowledgements and farewells, sealed and counted.

use crate::auth::mac;
use crate::ids::StreamOffset;
use crate::limits::MAX_TOLERANCE;
use crate::wire::{Fields, WireError};

/// Bytes of every frame that goes up.
pub const UP_LEN: usize = 80;

const UP_BODY: usize = 64;
const NO_OFFSET: u64 = u64::MAX;

/// What a successor tells its predecessor about itself and everyone after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Everything before this has arrived and is verified.
    pub received: StreamOffset,
    /// Everything before this was used by its consumer.
    pub consumed: StreamOffset,
    /// Everything before this has arrived at the sender and at every descendant of it.
    pub tail: StreamOffset,
    /// The first byte that it still has for others.
    pub retained_from: StreamOffset,
    /// `received` of its first, second and third descendant, as far as there are any.
    pub below: [Option<StreamOffset>; MAX_TOLERANCE],
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
                let [first, second, third] = ack
                    .below
                    .map(|offset| offset.map_or(NO_OFFSET, |offset| offset.0));
                let offsets = [
                    ack.received.0,
                    ack.consumed.0,
                    ack.tail.0,
                    ack.retained_from.0,
                    first,
                    second,
                    third,
                ];
                for (place, offset) in bytes[8..].chunks_exact_mut(8).zip(offsets) {
                    place.copy_from_slice(&offset.to_le_bytes());
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
                tail: StreamOffset(fields.u64()?),
                retained_from: StreamOffset(fields.u64()?),
                below: [
                    offset(fields.u64()?),
                    offset(fields.u64()?),
                    offset(fields.u64()?),
                ],
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

const fn offset(raw: u64) -> Option<StreamOffset> {
    if raw == NO_OFFSET {
        None
    } else {
        Some(StreamOffset(raw))
    }
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

    /// The next frame's bytes: 64 of body, 16 of MAC.
    pub fn seal(&mut self, frame: &UpFrame) -> [u8; UP_LEN] {
        let body = frame.body();
        let proof = mac(&self.key, &[&self.count.to_le_bytes(), &body]);
        self.count += 1;
        let mut bytes = [0; UP_LEN];
        bytes[..UP_BODY].copy_from_slice(&body);
        bytes[UP_BODY..].copy_from_slice(&proof.as_bytes()[..UP_LEN - UP_BODY]);
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
        let claimed: [u8; UP_LEN - UP_BODY] = fields.take()?;
        let proof = mac(&self.key, &[&self.count.to_le_bytes(), &body]);
        // Compares all 16 bytes whatever they are: the time taken must not tell how many were right.
        let different = proof
            .as_bytes()
            .iter()
            .zip(claimed)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        if different != 0 {
            return Err(WireError::Proof {
                what: "acknowledgement",
            });
        }
        self.count += 1;
        UpFrame::decode(&body)
    }
}
