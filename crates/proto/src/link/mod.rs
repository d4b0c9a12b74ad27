//! Opening a data connection between two neighbours of the chain, and the frames that go up it.
//!
//! Each link has a key of its own, which the server hands to its two ends ([`LinkKey`]): no other member of
//! the run can open it, or speak on it. The successor connects and speaks first; the predecessor stays silent
//! until the greeting's MAC holds, so a stranger learns nothing. Both sides add a fresh nonce, so neither
//! greeting nor answer can be replayed, and the frames that go up are keyed to this one connection and
//! counted. Blocks go down ([`crate::block`]).
//! Not here: sockets, and which successor is expected
//! ([`crate::relay`]).
//! Specification: `docs/protocol.md`, "Data connection".

mod key;
mod receipt;
mod up;

use crate::auth::mac;
use crate::ids::{NodeId, PROTOCOL_VERSION, RunId, StreamId, StreamOffset};
use crate::wire::{Fields, WireError};

pub use key::LinkKey;
pub use receipt::{MAX_RECEIPTS, Receipt, ReceiptKey, ReceiptKeys, Receipts};
pub use up::{Ack, Goodbye, UP_LEN, UpFrame, UpOpener, UpSealer};

/// Bytes of a [`LinkHello`] with its MAC.
pub const HELLO_LEN: usize = 96;
/// Bytes of the predecessor's challenge.
pub const CHALLENGE_LEN: usize = 64;
/// Bytes of the successor's proof.
pub const PROOF_LEN: usize = 40;

const HELLO_MAGIC: [u8; 4] = *b"KALH";
const CHALLENGE_MAGIC: [u8; 4] = *b"KALC";
const PROOF_MAGIC: [u8; 4] = *b"KALP";
const UP_CONTEXT: &str = "KA 2026-11 v1 data link up";

/// The greeting of a link: the two nodes, the stream, and the offset at which it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHello {
    /// The run.
    pub run: RunId,
    /// The stream.
    pub stream: StreamId,
    /// The successor, which speaks.
    pub from: NodeId,
    /// The predecessor, which is spoken to.
    pub to: NodeId,
    /// Fresh random bytes of the successor.
    pub nonce: [u8; 16],
    /// Offset of the first byte that it still needs.
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

    /// Reads a greeting without believing it, to find the stream whose key must check it.
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
        key: &LinkKey,
        from: NodeId,
        to: NodeId,
        nonce: [u8; 16],
        resume_offset: StreamOffset,
    ) -> (Self, [u8; HELLO_LEN]) {
        let hello = LinkHello {
            run: key.run(),
            stream: key.stream(),
            from,
            to,
            nonce,
            resume_offset,
        };
        let hello = hello.encode(key.bytes());
        let key = *key.bytes();
        (Self { key, hello }, hello)
    }

    /// Checks the challenge. Returns the offset that the predecessor still has, the proof to send (only if
    /// that is early enough for the requested offset), and the sealer for acknowledgements.
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
        let sealer = UpSealer::new(up_key(&self.key, &self.hello, challenge));
        Ok(Answer {
            retained_from,
            proof,
            sealer,
        })
    }
}

/// The successor's state after a good challenge.
#[derive(Debug)]
pub struct Answer {
    /// Offset of the first byte that the predecessor still has. If it is later than the requested one, the
    /// data is gone: close.
    pub retained_from: StreamOffset,
    /// Proof to send to the predecessor.
    pub proof: [u8; PROOF_LEN],
    /// Sealer of the frames that go up.
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
        key: &LinkKey,
        me: NodeId,
        hello: &[u8; HELLO_LEN],
        nonce: [u8; 16],
        retained_from: StreamOffset,
    ) -> Result<(Self, LinkHello, [u8; CHALLENGE_LEN]), WireError> {
        let greeting = LinkHello::decode(hello)?;
        let (signed, proof) = hello.split_at(64);
        let proof: [u8; 32] = Fields::new("link greeting", proof).take()?;
        let meant = greeting.run == key.run() && greeting.stream == key.stream() && greeting.to == me;
        if mac(key.bytes(), &[signed]) != proof || !meant {
            return Err(WireError::Proof {
                what: "link greeting",
            });
        }
        let mut challenge = [0; CHALLENGE_LEN];
        challenge[..4].copy_from_slice(&CHALLENGE_MAGIC);
        challenge[8..24].copy_from_slice(&nonce);
        challenge[24..32].copy_from_slice(&retained_from.0.to_le_bytes());
        let proof = mac(key.bytes(), &[hello, &challenge[..32]]);
        challenge[32..].copy_from_slice(proof.as_bytes());
        Ok((
            Self {
                key: *key.bytes(),
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
        Ok(UpOpener::new(up_key(&self.key, &self.hello, &self.challenge)))
    }
}

fn up_key(link: &[u8; 32], hello: &[u8; HELLO_LEN], challenge: &[u8; CHALLENGE_LEN]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(UP_CONTEXT);
    hasher.update(link).update(hello).update(challenge);
    *hasher.finalize().as_bytes()
}
