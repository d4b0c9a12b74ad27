//! Opening a data connection between two neighbours of the chain, and the frames that go up it.
//!
//! The successor connects and speaks first; the predecessor stays silent until the greeting's MAC holds, so a
//! stranger learns nothing. Both sides add a fresh nonce, so neither greeting nor answer can be replayed, and the
//! frames that go up are keyed to this one connection and counted. Blocks go down ([`crate::block`]).
//! Not here: sockets, and which successor is expected ([`crate::relay`]).
//! Specification: `docs/protocol.md`, "Data connection".

use crate::auth::mac;
use crate::block::StreamKey;
use crate::ids::{NodeId, PROTOCOL_VERSION, RunId, StreamId, StreamOffset};
use crate::limits::MAX_TOLERANCE;
use crate::wire::{Fields, WireError};

/// Bytes of a [`LinkHello`] with its MAC.
pub const HELLO_LEN: usize = 96;
/// Bytes of the predecessor's challenge.
pub const CHALLENGE_LEN: usize = 64;
/// Bytes of the successor's proof.
pub const PROOF_LEN: usize = 40;
/// Bytes of every frame that goes up.
pub const UP_LEN: usize = 80;

const HELLO_MAGIC: [u8; 4] = *b"KALH";
const CHALLENGE_MAGIC: [u8; 4] = *b"KALC";
const PROOF_MAGIC: [u8; 4] = *b"KALP";
const LINK_CONTEXT: &str = "KA 2026-11 v1 data link";
const UP_CONTEXT: &str = "KA 2026-11 v1 data link up";
const UP_BODY: usize = 64;
const NO_OFFSET: u64 = u64::MAX;

/// Who connects to whom, for which stream, and where it wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHello {
    /// Which run.
    pub run: RunId,
    /// Which stream.
    pub stream: StreamId,
    /// The successor, which speaks.
    pub from: NodeId,
    /// The predecessor, which is spoken to.
    pub to: NodeId,
    /// Fresh random bytes of the successor.
    pub nonce: [u8; 16],
    /// The first byte that it still needs.
    pub resume_offset: StreamOffset,
}

impl LinkHello {
    fn encode(&self, key: &[u8; 32]) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        bytes[..4].copy_from_slice(&HELLO_MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        bytes[8..24].copy_from_slice(&self.run.0);
        bytes[24..28].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.from.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.to.0.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.nonce);
        bytes[56..64].copy_from_slice(&self.resume_offset.0.to_le_bytes());
        let proof = mac(key, &[&bytes[..64]]);
        bytes[64..].copy_from_slice(proof.as_bytes());
        bytes
    }

    /// Reads a greeting without believing it: to find the stream whose key it must be checked with.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::Version`]: close without a word.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, WireError> {
        let mut fields = Fields::new("link greeting", bytes);
        fields.magic(HELLO_MAGIC)?;
        let (theirs, ours) = (fields.u16()?, PROTOCOL_VERSION.number());
        if theirs != ours {
            return Err(WireError::Version { theirs, ours });
        }
        fields.u16()?;
        let (run, stream) = (RunId(fields.take()?), StreamId(fields.u32()?));
        let (from, to) = (NodeId(fields.u32()?), NodeId(fields.u32()?));
        fields.u32()?;
        let (nonce, resume_offset) = (fields.take()?, StreamOffset(fields.u64()?));
        Ok(Self {
            run,
            stream,
            from,
            to,
            nonce,
            resume_offset,
        })
    }
}

/// The successor's side of the handshake, after its greeting.
#[derive(Debug)]
pub struct Connecting {
    key: [u8; 32],
    hello: [u8; HELLO_LEN],
}

impl Connecting {
    /// Makes the greeting. `nonce` must be fresh random bytes.
    #[must_use]
    pub fn start(
        key: &StreamKey,
        from: NodeId,
        to: NodeId,
        nonce: [u8; 16],
        resume_offset: StreamOffset,
    ) -> (Self, [u8; HELLO_LEN]) {
        let link_key = link_key(key);
        let hello = LinkHello {
            run: key.run(),
            stream: key.stream(),
            from,
            to,
            nonce,
            resume_offset,
        };
        let hello = hello.encode(&link_key);
        (Self { key: link_key, hello }, hello)
    }

    /// Checks the challenge. Gives what the predecessor still has, the proof to send (only if that is early enough
    /// for the offset asked for), and the sealer for acknowledgements.
    ///
    /// # Errors
    /// [`WireError`]: this is not the predecessor; close.
    pub fn answer(self, challenge: &[u8; CHALLENGE_LEN]) -> Result<Answer, WireError> {
        let mut fields = Fields::new("link challenge", challenge);
        fields.magic(CHALLENGE_MAGIC)?;
        fields.u32()?;
        fields.take::<16>()?;
        let retained_from = StreamOffset(fields.u64()?);
        if mac(&self.key, &[&self.hello, &challenge[..32]]) != fields.take::<32>()? {
            return Err(WireError::Proof {
                what: "link challenge",
            });
        }
        let mut proof = [0; PROOF_LEN];
        proof[..4].copy_from_slice(&PROOF_MAGIC);
        let proved = mac(&self.key, &[&self.hello, challenge, &proof[..8]]);
        proof[8..].copy_from_slice(proved.as_bytes());
        let sealer = UpSealer {
            key: up_key(&self.key, &self.hello, challenge),
            count: 0,
        };
        Ok(Answer {
            retained_from,
            proof,
            sealer,
        })
    }
}

/// What the successor has after a good challenge.
#[derive(Debug)]
pub struct Answer {
    /// The first byte that the predecessor still has. Later than what was asked for: the data is gone, close.
    pub retained_from: StreamOffset,
    /// To send.
    pub proof: [u8; PROOF_LEN],
    /// For the frames that go up.
    pub sealer: UpSealer,
}

/// The predecessor's side of the handshake, after its challenge.
#[derive(Debug)]
pub struct Accepting {
    key: [u8; 32],
    hello: [u8; HELLO_LEN],
    challenge: [u8; CHALLENGE_LEN],
}

impl Accepting {
    /// Checks a greeting for `me` and makes the challenge. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`WireError`]: close without a word.
    pub fn start(
        key: &StreamKey,
        me: NodeId,
        hello: &[u8; HELLO_LEN],
        nonce: [u8; 16],
        retained_from: StreamOffset,
    ) -> Result<(Self, LinkHello, [u8; CHALLENGE_LEN]), WireError> {
        let link_key = link_key(key);
        let greeting = LinkHello::decode(hello)?;
        let (signed, proof) = hello.split_at(64);
        let proof: [u8; 32] = Fields::new("link greeting", proof).take()?;
        let meant = greeting.run == key.run() && greeting.stream == key.stream() && greeting.to == me;
        if mac(&link_key, &[signed]) != proof || !meant {
            return Err(WireError::Proof {
                what: "link greeting",
            });
        }
        let mut challenge = [0; CHALLENGE_LEN];
        challenge[..4].copy_from_slice(&CHALLENGE_MAGIC);
        challenge[8..24].copy_from_slice(&nonce);
        challenge[24..32].copy_from_slice(&retained_from.0.to_le_bytes());
        let proof = mac(&link_key, &[hello, &challenge[..32]]);
        challenge[32..].copy_from_slice(proof.as_bytes());
        Ok((
            Self {
                key: link_key,
                hello: *hello,
                challenge,
            },
            greeting,
            challenge,
        ))
    }

    /// Checks the proof: the greeting was not a replay.
    ///
    /// # Errors
    /// [`WireError`]: close.
    pub fn finish(self, proof: &[u8; PROOF_LEN]) -> Result<UpOpener, WireError> {
        let mut fields = Fields::new("link proof", proof);
        fields.magic(PROOF_MAGIC)?;
        fields.u32()?;
        if mac(&self.key, &[&self.hello, &self.challenge, &proof[..8]]) != fields.take::<32>()? {
            return Err(WireError::Proof { what: "link proof" });
        }
        Ok(UpOpener {
            key: up_key(&self.key, &self.hello, &self.challenge),
            count: 0,
        })
    }
}

fn link_key(key: &StreamKey) -> [u8; 32] {
    blake3::derive_key(LINK_CONTEXT, key.bytes())
}

fn up_key(link: &[u8; 32], hello: &[u8; HELLO_LEN], challenge: &[u8; CHALLENGE_LEN]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(UP_CONTEXT);
    hasher.update(link).update(hello).update(challenge);
    *hasher.finalize().as_bytes()
}

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
