//! The beacon of a clone that has booted from its own disk for the first time: one datagram, answered by a
//! shorter one.
//!
//! Both are keyed with the run's beacon token, which only nodes get, with the install specification. A beacon
//! that is played again reports only a boot that happened; one of another run has another key. The answer
//! repeats the nonce, so that an old one quiets no other clone.
//!
//! Not here: addresses and intervals (transport). Specification: `docs/protocol.md`, "Beacon".

use ka_mac::MacAddr;

use crate::auth;
use crate::ids::{NodeId, PROTOCOL_VERSION};
use crate::limits::MAX_NAME;
use crate::text::NodeName;
use crate::wire::{Fields, WireError};

use super::exactly;

/// Bytes of a [`Beacon`].
pub const BEACON_LEN: usize = 136;
/// Bytes of a [`BeaconAck`].
pub const BEACON_ACK_LEN: usize = 56;

const BEACON_MAGIC: [u8; 4] = *b"KABN";
const ACK_MAGIC: [u8; 4] = *b"KABA";
/// Everything before the MAC.
const BEACON_SIGNED: usize = BEACON_LEN - 32;
const ACK_SIGNED: usize = BEACON_ACK_LEN - 32;

/// Key of the beacons of one run, random.
pub type BeaconToken = [u8; 32];

/// A clone's report that it has booted. Layout: magic 4, version 2, has a MAC address 1, bytes of name 1,
/// nonce 16, node 4, MAC address 6, zero 6, name 64 (padded with zeros), message authentication code 32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// Number that the clone had in the run.
    pub node: NodeId,
    /// Its host name, for display.
    pub name: NodeName,
    /// MAC address that it gave in the run, if it did.
    pub mac: Option<MacAddr>,
    /// Fresh random bytes; the answer repeats them.
    pub nonce: [u8; 16],
}

/// The server's answer that it has heard the beacon. Layout: magic 4, version 2, zero 2, nonce 16, message
/// authentication code 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeaconAck {
    /// The beacon's nonce.
    pub nonce: [u8; 16],
}

impl Beacon {
    /// Returns the datagram.
    #[must_use]
    pub fn encode(&self, token: &BeaconToken) -> [u8; BEACON_LEN] {
        let name = self.name.as_str().as_bytes();
        let mut bytes = [0; BEACON_LEN];
        bytes[..4].copy_from_slice(&BEACON_MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        bytes[6] = u8::from(self.mac.is_some());
        // A name has at most MAX_NAME bytes.
        bytes[7] = u8::try_from(name.len()).unwrap_or(0);
        bytes[8..24].copy_from_slice(&self.nonce);
        bytes[24..28].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[28..34].copy_from_slice(&self.mac.map_or([0; 6], |mac| mac.0));
        bytes[40..40 + name.len()].copy_from_slice(name);
        let mac = auth::mac(&auth::beacon_key(token), &[&bytes[..BEACON_SIGNED]]);
        bytes[BEACON_SIGNED..].copy_from_slice(mac.as_bytes());
        bytes
    }

    /// Checks and decodes a datagram.
    ///
    /// # Errors
    /// [`WireError::Malformed`] or [`WireError::Proof`]: give no answer.
    pub fn decode(bytes: &[u8], token: &BeaconToken) -> Result<Self, WireError> {
        let bytes = exactly::<BEACON_LEN>("beacon", bytes)?;
        let mut fields = Fields::new("beacon", bytes);
        fields.magic(BEACON_MAGIC)?;
        let mac = auth::mac(&auth::beacon_key(token), &[&bytes[..BEACON_SIGNED]]);
        if mac != bytes_of::<32>(&bytes[BEACON_SIGNED..]) {
            return Err(WireError::Proof { what: "beacon" });
        }
        fields.u16()?;
        let [has_mac, name_len] = fields.take()?;
        let nonce = fields.take()?;
        let node = NodeId(u32::from_le_bytes(fields.take()?));
        let mac = fields.take()?;
        fields.take::<6>()?;
        let name: [u8; MAX_NAME] = fields.take()?;
        let name = name.get(..usize::from(name_len)).unwrap_or_default();
        let wrong = |what: &dyn std::fmt::Display| WireError::malformed("beacon", format_args!("{what}"));
        let name = std::str::from_utf8(name).map_err(|error| wrong(&error))?;
        Ok(Self {
            node,
            name: NodeName::new(name).map_err(|error| wrong(&error))?,
            mac: (has_mac != 0).then_some(MacAddr(mac)),
            nonce,
        })
    }
}

impl BeaconAck {
    /// Returns the datagram.
    #[must_use]
    pub fn encode(&self, token: &BeaconToken) -> [u8; BEACON_ACK_LEN] {
        let mut bytes = [0; BEACON_ACK_LEN];
        bytes[..4].copy_from_slice(&ACK_MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        bytes[8..24].copy_from_slice(&self.nonce);
        let mac = auth::mac(&auth::beacon_key(token), &[&bytes[..ACK_SIGNED]]);
        bytes[ACK_SIGNED..].copy_from_slice(mac.as_bytes());
        bytes
    }

    /// Returns true for a datagram that answers `beacon` and comes from a holder of the token.
    #[must_use]
    pub fn answers(bytes: &[u8], token: &BeaconToken, beacon: &Beacon) -> bool {
        let ours = Self { nonce: beacon.nonce }.encode(token);
        // As hashes: compared in constant time.
        blake3::hash(bytes) == blake3::hash(&ours)
    }
}

fn bytes_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: BeaconToken = [7; 32];

    fn beacon(name: &str, mac: Option<MacAddr>) -> Beacon {
        Beacon {
            node: NodeId(0x0102_0304),
            name: NodeName::new(name).unwrap(),
            mac,
            nonce: [9; 16],
        }
    }

    #[test]
    fn a_beacon_comes_back_as_it_went() {
        for beacon in [
            beacon("n", None),
            beacon(
                &format!("{}.n", "n".repeat(MAX_NAME - 2)),
                Some(MacAddr([2, 0, 0, 0, 0, 1])),
            ),
        ] {
            assert_eq!(Beacon::decode(&beacon.encode(&TOKEN), &TOKEN), Ok(beacon));
        }
    }

    #[test]
    fn a_beacon_of_another_run_or_with_one_flipped_bit_or_cut_is_refused() {
        let good = beacon("n101", Some(MacAddr([2, 0, 0, 0, 0, 1]))).encode(&TOKEN);
        assert_eq!(
            Beacon::decode(&good, &[8; 32]),
            Err(WireError::Proof { what: "beacon" })
        );
        for position in 0..BEACON_LEN {
            let mut bad = good;
            bad[position] ^= 1;
            assert!(Beacon::decode(&bad, &TOKEN).is_err(), "byte {position}");
            assert!(Beacon::decode(&good[..position], &TOKEN).is_err());
        }
        let long = [&good[..], &[0]].concat();
        assert!(Beacon::decode(&long, &TOKEN).is_err());
    }

    #[test]
    fn an_answer_is_for_one_beacon_of_one_run() {
        let ours = beacon("n", None);
        let ack = BeaconAck { nonce: ours.nonce }.encode(&TOKEN);
        assert!(BeaconAck::answers(&ack, &TOKEN, &ours));
        let other = Beacon {
            nonce: [1; 16],
            ..ours.clone()
        };
        assert!(!BeaconAck::answers(&ack, &TOKEN, &other));
        assert!(!BeaconAck::answers(&ack, &[8; 32], &ours));
        assert!(!BeaconAck::answers(&ack[..40], &TOKEN, &ours));
        // A clone's own datagram is no answer to it, whichever machine sends it back.
        assert!(!BeaconAck::answers(&ours.encode(&TOKEN), &TOKEN, &ours));
        const { assert!(BEACON_ACK_LEN <= BEACON_LEN, "no amplification") };
    }

    #[test]
    fn a_name_that_would_garble_the_terminal_is_refused_even_from_one_of_ours() {
        let mut bytes = beacon("nn", None).encode(&TOKEN);
        bytes[40] = 0x1b;
        let mac = auth::mac(&auth::beacon_key(&TOKEN), &[&bytes[..BEACON_SIGNED]]);
        bytes[BEACON_SIGNED..].copy_from_slice(mac.as_bytes());
        assert!(matches!(
            Beacon::decode(&bytes, &TOKEN),
            Err(WireError::Malformed { .. })
        ));
    }
}
