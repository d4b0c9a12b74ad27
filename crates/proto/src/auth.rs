//! Keys of a run and its streams, and the keyed hash with which a peer proves that it holds one. Each key is
//! derived for one purpose, and a proof covers exactly the data that it vouches for, so that a proof made for one
//! place is worth nothing in another. Each message has its own proof beside it.
//!
//! Not here: TLS and the server's own key (transport). Specification: `docs/protocol.md`, "Proofs".

use blake3::Hash;

use crate::ids::{NodeId, RunId, StreamId};

/// The run's secret, part of the join code.
pub type Secret = [u8; 16];

/// Keying material of one TLS connection (RFC 5705 exporter), the same on both ends and on no other
/// connection.
pub type Exporter = [u8; 32];

/// Label under which both ends export the keying material of a control connection, with an empty context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-ka-join-v1";

/// Label under which both ends export the material for the code of an approval, with an empty context.
pub const APPROVAL_LABEL: &[u8] = b"EXPORTER-ka-approval-v2";

const DISCOVERY_CONTEXT: &str = "KA 2026-11 v1 discovery";
const BEACON_CONTEXT: &str = "KA 2026-11 v1 beacon";
const STREAM_CONTEXT: &str = "KA 2026-11 v1 stream key";
const LINK_CONTEXT: &str = "KA 2026-11 v3 data link";
const RECEIPT_CONTEXT: &str = "KA 2026-11 v3 receipt";

/// The public half of the server's Ed25519 key (RFC 8032). A peer that has pinned it trusts everything that
/// the key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerPublicKey(pub [u8; 32]);

/// Returns the code that both ends of a connection show to people, who compare it (`--approve`): eight digits
/// in two groups. An attacker in the middle has two connections, and so two codes.
#[must_use]
pub fn approval_code(exporter: &Exporter) -> String {
    let number = exporter
        .iter()
        .take(8)
        .fold(0u64, |number, byte| (number << 8) | u64::from(*byte))
        % 100_000_000;
    format!("{:04}-{:04}", number / 10_000, number % 10_000)
}

/// Returns the key of discovery datagrams. It is made of the secret and the session name, so that a server of
/// another session cannot even read the name.
pub(crate) fn discovery_key(secret: &Secret, session: &str) -> [u8; 32] {
    let mut material = secret.to_vec();
    material.extend_from_slice(session.as_bytes());
    blake3::derive_key(DISCOVERY_CONTEXT, &material)
}

/// Returns the key of the beacons of a run, from the token that its clones were given.
pub(crate) fn beacon_key(token: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(BEACON_CONTEXT, token)
}

/// Returns the key of one stream, from the run's random key. The server derives it and gives it to the nodes
/// one by one.
#[must_use]
pub fn stream_key(run_key: &[u8; 32], run: RunId, stream: StreamId) -> [u8; 32] {
    let mut material = run_key.to_vec();
    material.extend_from_slice(&run.0);
    material.extend_from_slice(&stream.0.to_le_bytes());
    blake3::derive_key(STREAM_CONTEXT, &material)
}

/// Returns the key of the data link on which `from` gets this stream from `to`. The server derives it and
/// gives it to these two, so no other member of the run can speak for either of them.
#[must_use]
pub fn link_key(run_key: &[u8; 32], run: RunId, stream: StreamId, (from, to): (NodeId, NodeId)) -> [u8; 32] {
    blake3::derive_key(LINK_CONTEXT, &pair(run_key, run, stream, (from, to)))
}

/// Returns the key of the receipts that `from` gives to `to` for this stream. The server derives it and gives
/// it to these two.
#[must_use]
pub fn receipt_key(
    run_key: &[u8; 32],
    run: RunId,
    stream: StreamId,
    (from, to): (NodeId, NodeId),
) -> [u8; 32] {
    blake3::derive_key(RECEIPT_CONTEXT, &pair(run_key, run, stream, (from, to)))
}

/// Returns two nodes of a stream as bytes, from which keys are derived for them.
fn pair(run_key: &[u8; 32], run: RunId, stream: StreamId, (from, to): (NodeId, NodeId)) -> Vec<u8> {
    let mut material = run_key.to_vec();
    material.extend_from_slice(&run.0);
    for number in [stream.0, from.0, to.0] {
        material.extend_from_slice(&number.to_le_bytes());
    }
    material
}

/// Bytes of a [`short_mac`]: 128 bits, for frequent proofs.
pub(crate) const SHORT_MAC_LEN: usize = 16;

/// Returns the first 16 bytes of [`mac`].
pub(crate) fn short_mac(key: &[u8; 32], pieces: &[&[u8]]) -> [u8; SHORT_MAC_LEN] {
    let mut bytes = [0; SHORT_MAC_LEN];
    bytes.copy_from_slice(&mac(key, pieces).as_bytes()[..SHORT_MAC_LEN]);
    bytes
}

/// Compares all bytes in any case, so that the time taken does not tell how many were right.
pub(crate) fn is_same_mac(one: [u8; SHORT_MAC_LEN], other: [u8; SHORT_MAC_LEN]) -> bool {
    let differences = one.iter().zip(other).map(|(a, b)| a ^ b);
    differences.fold(0, |all, difference| all | difference) == 0
}

/// Returns the keyed hash over several pieces, in constant-time comparable form.
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
