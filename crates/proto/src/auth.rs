//! Proofs that a peer holds the run's secret or a stream's key. All are keyed BLAKE3 over exactly what they vouch for,
//! under keys derived for one purpose each, so that a proof made for one place is worth nothing in another.
//!
//! Not here: TLS and the server's own key (transport). Specification: `docs/protocol.md`, "Proofs".

use blake3::Hash;

use crate::block::StreamKey;
use crate::control::Join;
use crate::ids::{NodeId, RunId, StreamId};
use crate::link::LinkKey;

/// The run's secret, part of the join code.
pub type Secret = [u8; 16];

/// Keying material of one TLS connection (RFC 5705 exporter), the same on both ends and on no other connection.
pub type Exporter = [u8; 32];

/// Label under which both ends export the keying material of a control connection, with an empty context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-ka-join-v1";

/// Label under which both ends export what the code of an approval is made of, with an empty context.
pub const APPROVAL_LABEL: &[u8] = b"EXPORTER-ka-approval-v2";

const JOIN_CONTEXT: &str = "KA 2026-11 v1 join proof";
const DISCOVERY_CONTEXT: &str = "KA 2026-11 v1 discovery";
const BEACON_CONTEXT: &str = "KA 2026-11 v1 beacon";
const STREAM_CONTEXT: &str = "KA 2026-11 v1 stream key";
const LINK_CONTEXT: &str = "KA 2026-11 v3 data link";
const RECEIPT_CONTEXT: &str = "KA 2026-11 v3 receipt";
const SEALING_CONTEXT: &str = "KA 2026-11 v2 payload encryption";

/// The server's Ed25519 key (RFC 8032), the public half: what it signs is believed by those who have pinned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerPublicKey(pub [u8; 32]);

/// What both ends of a connection show to people, who compare it (`--approve`): eight digits in two groups. Somebody in
/// the middle has two connections, and so two codes.
#[must_use]
pub fn approval_code(exporter: &Exporter) -> String {
    let number = exporter
        .iter()
        .take(8)
        .fold(0u64, |number, byte| (number << 8) | u64::from(*byte))
        % 100_000_000;
    format!("{:04}-{:04}", number / 10_000, number % 10_000)
}

/// The proof that goes into `join`: the sender knows `secret` and is at the end of this very TLS connection.
/// Covers every other field of the Join.
#[must_use]
pub fn join_proof(secret: &Secret, exporter: &Exporter, join: &Join) -> [u8; 32] {
    *join_hash(secret, exporter, join).as_bytes()
}

/// Whether `join` carries the right proof; takes the same time whatever is wrong with it.
#[must_use]
pub fn join_is_proved(secret: &Secret, exporter: &Exporter, join: &Join) -> bool {
    join_hash(secret, exporter, join) == join.proof
}

fn join_hash(secret: &Secret, exporter: &Exporter, join: &Join) -> Hash {
    let key = blake3::derive_key(JOIN_CONTEXT, secret);
    let unproved = Join {
        proof: [0; 32],
        ..join.clone()
    };
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(exporter);
    hasher.update(&unproved.body());
    hasher.finalize()
}

/// The key of discovery datagrams: the secret and the session name, so that a server of another session cannot even
/// read which one is looked for.
pub(crate) fn discovery_key(secret: &Secret, session: &str) -> [u8; 32] {
    let mut material = secret.to_vec();
    material.extend_from_slice(session.as_bytes());
    blake3::derive_key(DISCOVERY_CONTEXT, &material)
}

/// The key of the beacons of a run, from the token that its clones were given.
pub(crate) fn beacon_key(token: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(BEACON_CONTEXT, token)
}

/// The key of one stream, from the run's random key. The server derives it and gives it to the nodes one by one.
#[must_use]
pub fn stream_key(run_key: &[u8; 32], run: RunId, stream: StreamId) -> [u8; 32] {
    let mut material = run_key.to_vec();
    material.extend_from_slice(&run.0);
    material.extend_from_slice(&stream.0.to_le_bytes());
    blake3::derive_key(STREAM_CONTEXT, &material)
}

/// The key of the data link on which `from` gets this stream from `to`. The server derives it and gives it to these two:
/// no other member of the run can speak for either of them.
#[must_use]
pub fn link_key(run_key: &[u8; 32], run: RunId, stream: StreamId, (from, to): (NodeId, NodeId)) -> LinkKey {
    let key = blake3::derive_key(LINK_CONTEXT, &pair(run_key, run, stream, (from, to)));
    LinkKey::new(key, run, stream)
}

/// The key of the receipts that `from` gives to `to` for this stream. The server derives it and gives it to these two.
#[must_use]
pub fn receipt_key(
    run_key: &[u8; 32],
    run: RunId,
    stream: StreamId,
    (from, to): (NodeId, NodeId),
) -> [u8; 32] {
    blake3::derive_key(RECEIPT_CONTEXT, &pair(run_key, run, stream, (from, to)))
}

/// Two nodes of a stream, as keys are derived for them.
fn pair(run_key: &[u8; 32], run: RunId, stream: StreamId, (from, to): (NodeId, NodeId)) -> Vec<u8> {
    let mut material = run_key.to_vec();
    material.extend_from_slice(&run.0);
    for number in [stream.0, from.0, to.0] {
        material.extend_from_slice(&number.to_le_bytes());
    }
    material
}

/// The key that encrypts a stream's payload with the cipher of this number, from the stream's key.
pub(crate) fn sealing_key(key: &StreamKey, cipher: u8) -> [u8; 32] {
    let mut material = key.bytes().to_vec();
    material.extend_from_slice(&key.run().0);
    material.extend_from_slice(&key.stream().0.to_le_bytes());
    material.push(cipher);
    blake3::derive_key(SEALING_CONTEXT, &material)
}

/// Bytes of a [`short_mac`]: 128 bits, for proofs of which there are many.
pub(crate) const SHORT_MAC_LEN: usize = 16;

/// The first 16 bytes of [`mac`].
pub(crate) fn short_mac(key: &[u8; 32], pieces: &[&[u8]]) -> [u8; SHORT_MAC_LEN] {
    let mut bytes = [0; SHORT_MAC_LEN];
    bytes.copy_from_slice(&mac(key, pieces).as_bytes()[..SHORT_MAC_LEN]);
    bytes
}

/// Compares all bytes whatever they are: the time taken must not tell how many were right.
pub(crate) fn is_same_mac(one: [u8; SHORT_MAC_LEN], other: [u8; SHORT_MAC_LEN]) -> bool {
    let differences = one.iter().zip(other).map(|(a, b)| a ^ b);
    differences.fold(0, |all, difference| all | difference) == 0
}

/// Keyed hash over several pieces, in constant-time comparable form.
pub(crate) fn mac(key: &[u8; 32], pieces: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_code_is_eight_digits_and_another_on_each_connection() {
        assert_eq!(approval_code(&[0; 32]), "0000-0000");
        let mut exporter = [0; 32];
        exporter[6..8].copy_from_slice(&[0x30, 0x39]);
        assert_eq!(approval_code(&exporter), "0001-2345");
        assert_ne!(approval_code(&[1; 32]), approval_code(&[2; 32]));
    }
}
