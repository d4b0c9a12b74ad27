//! Discovery of the server by a node: one datagram each way on UDP, with a fixed layout, keyed with the run's
//! secret and the session's name. A sender that lacks either gets nothing, and an answer is never longer than
//! its question.
//!
//! The [`Beacon`] is here, too: a clone tells the server with it that it has booted.
//!
//! Not here: broadcast addresses and retries (transport). Specification: `docs/protocol.md`, "Discovery".

mod beacon;

pub use beacon::{BEACON_ACK_LEN, BEACON_LEN, Beacon, BeaconAck, BeaconToken};

use crate::auth::{self, Secret};
use crate::ids::PROTOCOL_VERSION;
use crate::text::SessionName;
use crate::wire::{Fields, WireError};

/// Bytes of a [`Probe`].
pub const PROBE_LEN: usize = 64;
/// Bytes of an [`Offer`].
pub const OFFER_LEN: usize = 56;

const PROBE_MAGIC: [u8; 4] = *b"KAPR";
const OFFER_MAGIC: [u8; 4] = *b"KAOF";

/// A node's question for the server of its session. Layout: magic 4, version 2, zero 10, nonce 16, MAC 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Fresh random bytes; the answer repeats them.
    pub nonce: [u8; 16],
}

/// The server's answer. Layout: magic 4, version 2, control port 2, nonce 16, MAC 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Port of control connections, at the source address of the answer.
    pub control_port: u16,
    /// The question's nonce.
    pub nonce: [u8; 16],
}

impl Probe {
    /// Returns the datagram.
    #[must_use]
    pub fn encode(&self, secret: &Secret, session: &SessionName) -> [u8; PROBE_LEN] {
        let mut bytes = [0; PROBE_LEN];
        bytes[..4].copy_from_slice(&PROBE_MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        bytes[16..32].copy_from_slice(&self.nonce);
        let mac = auth::mac(&auth::discovery_key(secret, session.as_str()), &[&bytes[..32]]);
        bytes[32..].copy_from_slice(mac.as_bytes());
        bytes
    }

    /// Checks and decodes a datagram. The version is not compared, because the control connection reports it
    /// better.
    ///
    /// # Errors
    /// [`WireError::Malformed`] or [`WireError::Proof`]: give no answer.
    pub fn decode(bytes: &[u8], secret: &Secret, session: &SessionName) -> Result<Self, WireError> {
        let mut fields = Fields::new("probe", exactly::<PROBE_LEN>("probe", bytes)?);
        fields.magic(PROBE_MAGIC)?;
        fields.take::<12>()?;
        let nonce = fields.take()?;
        let key = auth::discovery_key(secret, session.as_str());
        if auth::mac(&key, &[&bytes[..32]]) != fields.take::<32>()? {
            return Err(WireError::Proof { what: "probe" });
        }
        Ok(Self { nonce })
    }
}

impl Offer {
    /// Returns the datagram.
    #[must_use]
    pub fn encode(&self, secret: &Secret, session: &SessionName) -> [u8; OFFER_LEN] {
        let mut bytes = [0; OFFER_LEN];
        bytes[..4].copy_from_slice(&OFFER_MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        bytes[6..8].copy_from_slice(&self.control_port.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.nonce);
        let mac = auth::mac(&auth::discovery_key(secret, session.as_str()), &[&bytes[..24]]);
        bytes[24..].copy_from_slice(mac.as_bytes());
        bytes
    }

    /// Checks and decodes a datagram, which must answer `probe`.
    ///
    /// # Errors
    /// [`WireError::Malformed`] or [`WireError::Proof`]: keep waiting for a better one.
    pub fn decode(
        bytes: &[u8],
        secret: &Secret,
        session: &SessionName,
        probe: &Probe,
    ) -> Result<Self, WireError> {
        let mut fields = Fields::new("offer", exactly::<OFFER_LEN>("offer", bytes)?);
        fields.magic(OFFER_MAGIC)?;
        fields.u16()?;
        let control_port = fields.u16()?;
        let nonce = fields.take()?;
        let key = auth::discovery_key(secret, session.as_str());
        if auth::mac(&key, &[&bytes[..24]]) != fields.take::<32>()? || nonce != probe.nonce {
            return Err(WireError::Proof { what: "offer" });
        }
        Ok(Self { control_port, nonce })
    }
}

fn exactly<'a, const N: usize>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; N], WireError> {
    bytes
        .try_into()
        .map_err(|_| WireError::malformed(what, format_args!("{} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = [7; 16];

    fn session(name: &str) -> SessionName {
        SessionName::new(name).unwrap()
    }

    #[test]
    fn only_the_right_secret_and_session_get_an_answer() {
        let probe = Probe { nonce: [9; 16] };
        let bytes = probe.encode(&SECRET, &session("kainstall"));
        assert_eq!(Probe::decode(&bytes, &SECRET, &session("kainstall")), Ok(probe));
        let wrong = Err(WireError::Proof { what: "probe" });
        assert_eq!(Probe::decode(&bytes, &SECRET, &session("other")), wrong);
        assert_eq!(Probe::decode(&bytes, &[8; 16], &session("kainstall")), wrong);
    }

    #[test]
    fn an_offer_answers_one_probe_only() {
        let (ours, other) = (Probe { nonce: [1; 16] }, Probe { nonce: [2; 16] });
        let offer = Offer {
            control_port: 30765,
            nonce: ours.nonce,
        };
        let bytes = offer.encode(&SECRET, &session("k"));
        assert_eq!(Offer::decode(&bytes, &SECRET, &session("k"), &ours), Ok(offer));
        assert!(Offer::decode(&bytes, &SECRET, &session("k"), &other).is_err());
        const { assert!(OFFER_LEN <= PROBE_LEN, "no amplification") };
    }

    #[test]
    fn one_flipped_bit_or_a_cut_is_refused() {
        let probe = Probe { nonce: [3; 16] };
        let good = probe.encode(&SECRET, &session("k"));
        for position in 0..PROBE_LEN {
            let mut bad = good;
            bad[position] ^= 1;
            assert!(
                Probe::decode(&bad, &SECRET, &session("k")).is_err(),
                "byte {position}"
            );
            assert!(Probe::decode(&good[..position], &SECRET, &session("k")).is_err());
        }
    }
}
