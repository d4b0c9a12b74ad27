//! Control messages as bytes: a `u32` little-endian length, then postcard. Also small readers for the fixed
//! layouts of blocks, link handshakes and discovery.
//!
//! Nothing here panics on any input, and nothing allocates more than the frame that was already accepted.
//! Specification: `docs/protocol.md`, "Control frames".

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::MAX_PAYLOAD;

/// Bytes of the length before each control frame.
pub const FRAME_PREFIX: usize = 4;

/// A reason to refuse bytes from a peer, or a message to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The announced or needed length is over the limit for this place: close the connection.
    #[error("a frame of {length} bytes, at most {limit} are allowed here")]
    FrameTooLong {
        /// Announced or needed length, in bytes.
        length: usize,
        /// Largest length here, in bytes.
        limit: usize,
    },
    /// Not a message of this protocol: close the connection.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// The kind of message.
        what: &'static str,
        /// The fault that the decoder found.
        why: String,
    },
    /// The peer speaks another version: tell it ([`crate::control::ToNode::Refused`]) and close.
    #[error("the peer speaks protocol version {theirs}, this is version {ours}")]
    Version {
        /// The peer's version.
        theirs: u16,
        /// Our version.
        ours: u16,
    },
    /// The peer does not know the secret, or the bytes were altered: close without a word.
    #[error("{what}: the proof is wrong")]
    Proof {
        /// The kind of message.
        what: &'static str,
    },
}

impl WireError {
    pub(crate) fn malformed(what: &'static str, why: impl fmt::Display) -> Self {
        Self::Malformed {
            what,
            why: why.to_string(),
        }
    }
}

/// Reads the length in front of a frame.
///
/// # Errors
/// [`WireError::FrameTooLong`] above `limit` bytes, before anything is allocated for it.
pub fn frame_length(prefix: [u8; FRAME_PREFIX], limit: usize) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > limit {
        return Err(WireError::FrameTooLong { length, limit });
    }
    Ok(length)
}

/// Puts the length in front of `body`.
///
/// # Errors
/// [`WireError::FrameTooLong`] above `limit` bytes: the peer would refuse it.
pub fn frame(mut body: Vec<u8>, limit: usize) -> Result<Vec<u8>, WireError> {
    let length = body.len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= limit);
    let Some(prefix) = prefix else {
        return Err(WireError::FrameTooLong { length, limit });
    };
    body.splice(0..0, prefix.to_le_bytes());
    Ok(body)
}

/// Reader that collects bytes from a socket into whole frames. It holds at most the longest frame plus one
/// read.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Returns a reader that refuses frames over `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: Vec::new(),
        }
    }

    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, without its length. Returns `None` until more bytes come.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`]; the reader is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some(prefix) = self.buffer.first_chunk::<FRAME_PREFIX>() else {
            return Ok(None);
        };
        let length = frame_length(*prefix, self.limit)?;
        let end = FRAME_PREFIX + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let rest = self.buffer.split_off(end);
        let mut body = std::mem::replace(&mut self.buffer, rest);
        body.drain(..FRAME_PREFIX);
        Ok(Some(body))
    }
}

/// Encodes `message` as a whole frame.
///
/// # Errors
/// [`WireError::FrameTooLong`] if a payload is over its limit.
pub(crate) fn encode<T: Serialize>(
    message: &T,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    let body = postcard::to_stdvec(message).map_err(|err| WireError::malformed(what, err))?;
    frame(body, limit)
}

/// Decodes a frame's body. Every byte must belong to the message.
///
/// # Errors
/// [`WireError::Malformed`].
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8], what: &'static str) -> Result<T, WireError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(|err| WireError::malformed(what, err))?;
    if !rest.is_empty() {
        return Err(WireError::malformed(
            what,
            format_args!("{} bytes too many", rest.len()),
        ));
    }
    Ok(message)
}

/// Bytes that this protocol carries and does not look into: JSON of the layers above.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Vec<u8>);

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        if bytes.len() > MAX_PAYLOAD {
            return Err(de::Error::custom("payload too long"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Reader of fields of fixed size, one after another. Running out is an error, never a panic.
pub(crate) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::malformed(self.what, "too short"));
        };
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn magic(&mut self, magic: [u8; 4]) -> Result<(), WireError> {
        if self.take::<4>()? == magic {
            Ok(())
        } else {
            Err(WireError::malformed(self.what, "wrong magic"))
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cut_anywhere_waits_and_then_comes_out_whole() {
        let bytes = frame(b"hello".to_vec(), 16).unwrap();
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::new(16);
            reader.push(&bytes[..cut]);
            assert_eq!(reader.next_frame(), Ok(None), "cut at {cut}");
            reader.push(&bytes[cut..]);
            reader.push(&bytes);
            assert_eq!(reader.next_frame(), Ok(Some(b"hello".to_vec())));
            assert_eq!(reader.next_frame(), Ok(Some(b"hello".to_vec())));
            assert_eq!(reader.next_frame(), Ok(None));
        }
    }

    #[test]
    fn a_frame_over_its_bound_is_refused_before_its_body_arrives() {
        let mut reader = FrameReader::new(16);
        reader.push(&17u32.to_le_bytes());
        assert_eq!(
            reader.next_frame(),
            Err(WireError::FrameTooLong {
                length: 17,
                limit: 16
            })
        );
        assert!(frame(vec![0; 17], 16).is_err());
    }
}
