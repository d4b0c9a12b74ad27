//! The proof of a stream. Its end is signed at the head, and checked at every node before anything counts as
//! complete.
//!
//! Every node of the run knows the stream's key and could make blocks for the nodes below it. It cannot sign,
//! so each node finds altered data here at the latest.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::StreamOffset;
use ka_proto::auth::ServerPublicKey;
use ka_proto::block::{
    BlockError, BlockHeader, BlockKind, End, HEADER_LEN, SignedEnd, StreamDigest, StreamKey,
};
use ka_proto::control::Peer;

use super::buffer::{Payload, SealedBlock};
use crate::key::ServerKey;

/// The key that the end of a stream is signed with.
#[derive(Debug, Clone)]
pub(crate) enum EndKey {
    /// The server's own key, at the head.
    Own(ServerKey),
    /// The key that a node has pinned.
    Pinned(ServerPublicKey),
}

/// A source of a stream's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockSource {
    Node(Peer),
    Group,
}

impl fmt::Display for BlockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(peer) => write!(f, "node {} at {}", peer.node, peer.addr),
            Self::Group => f.write_str("a member of the multicast group"),
        }
    }
}

/// The digest of a stream as far as it has come here, the key that must have signed its end, and the nodes
/// that the blocks came from.
#[derive(Debug)]
pub(super) struct StreamProof {
    digest: StreamDigest,
    end_key: EndKey,
    /// All sources of blocks, the last one at the end.
    taken_from: Vec<BlockSource>,
    is_refused: bool,
}

impl StreamProof {
    /// Returns the proof of a stream of which nothing has come yet.
    pub(super) fn new(end_key: EndKey) -> Self {
        Self {
            digest: StreamDigest::new(),
            end_key,
            taken_from: Vec::new(),
            is_refused: false,
        }
    }

    /// Adds a verified block.
    pub(super) fn push(&mut self, header: &BlockHeader) {
        self.digest.push(header);
    }

    /// Notes the node that blocks are taken from now.
    pub(super) fn note_source(&mut self, peer: Option<Peer>) {
        if let Some(peer) = peer {
            self.note(BlockSource::Node(peer));
        }
    }

    /// Notes that blocks are taken from the multicast group now.
    pub(super) fn note_group(&mut self) {
        self.note(BlockSource::Group);
    }

    fn note(&mut self, source: BlockSource) {
        if self.taken_from.last() != Some(&source) {
            self.taken_from.retain(|other| *other != source);
            self.taken_from.push(source);
        }
    }

    /// Returns length and digest of the data that has arrived.
    pub(super) fn end(&self) -> End {
        self.digest.end()
    }

    /// Checks the payload of the end block against the server's key and the data that has arrived.
    ///
    /// # Errors
    /// It is no end, is not signed with the server's key for this stream, or does not match the data.
    pub(super) fn check(&self, payload: &[u8], key: &StreamKey) -> Result<(), BlockError> {
        let signed = SignedEnd::decode(payload)?;
        match &self.end_key {
            EndKey::Pinned(server) => signed.verify(server, key.run(), key.stream())?,
            EndKey::Own(_) => return Err(BlockError::WrongSignature),
        }
        self.digest.check(&signed.end)
    }

    /// Returns the text that names the nodes that may have altered the stream, after its end failed the check
    /// with `error`.
    ///
    /// An honest node checks before it forwards, so the predecessor has altered the stream or its end. If
    /// there was another predecessor before, it may be that one: the present one passes its data on in good
    /// faith.
    pub(super) fn refuse(&mut self, error: &BlockError) -> String {
        self.is_refused = true;
        let named = self.taken_from.iter().rev();
        let named: Vec<String> = named.map(ToString::to_string).collect();
        let from = match named.len() {
            0 => "the predecessor".to_owned(),
            1 => named.concat(),
            _ => format!(
                "one of those that it came from ({})",
                named.join(", before that ")
            ),
        };
        format!("{error}; {from} has passed on something else than the server sent")
    }

    /// True when the end of the stream was refused.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Signs the end of the stream, at the head: the header and the payload of the end block at `offset`.
    ///
    /// # Errors
    /// One line: there is no key to sign with, or the end cannot be sealed.
    pub(super) fn sign(
        &self,
        key: &StreamKey,
        offset: StreamOffset,
    ) -> Result<(BlockHeader, Vec<u8>), String> {
        let end = self.digest.end();
        let signature = match &self.end_key {
            EndKey::Own(own) => own.sign(&end.to_sign(key.run(), key.stream())),
            EndKey::Pinned(_) => None,
        };
        let signature = signature.ok_or("the end of the stream cannot be signed")?;
        let payload = SignedEnd { end, signature }.encode();
        let header = key
            .authenticate(BlockKind::End, offset, &payload)
            .map_err(|error| error.to_string())?;
        Ok((header, payload.to_vec()))
    }
}

/// Returns a block that carries nothing for a consumer.
pub(super) fn control_block(header: [u8; HEADER_LEN], offset: u64, payload: Payload) -> Arc<SealedBlock> {
    Arc::new(SealedBlock {
        header,
        offset,
        payload,
        consumed: AtomicBool::new(true),
    })
}

#[cfg(test)]
mod tests {
    use ka_proto::{NodeId, RunId, StreamId};

    use super::*;
    use crate::key::public_key_of;

    fn key(stream: u32) -> StreamKey {
        StreamKey::new([3; 32], RunId([1; 16]), StreamId(stream))
    }

    fn block(payload: &[u8]) -> BlockHeader {
        key(1)
            .authenticate(BlockKind::Data, StreamOffset(0), payload)
            .unwrap()
    }

    fn signed_by(server: &ServerKey, payload: &[u8]) -> Vec<u8> {
        let mut head = StreamProof::new(EndKey::Own(server.clone()));
        head.push(&block(payload));
        let offset = StreamOffset(payload.len() as u64);
        head.sign(&key(1), offset).unwrap().1
    }

    fn node_of(server: &ServerKey) -> StreamProof {
        let pinned = public_key_of(&server.certified().cert[0]).unwrap();
        let mut node = StreamProof::new(EndKey::Pinned(pinned));
        node.push(&block(b"data"));
        node
    }

    #[test]
    fn an_end_is_good_for_its_stream_its_bytes_and_the_servers_key() {
        let (server, other) = (ServerKey::ephemeral().unwrap(), ServerKey::ephemeral().unwrap());
        let node = node_of(&server);
        let end = signed_by(&server, b"data");
        assert_eq!(node.check(&end, &key(1)), Ok(()));
        assert_eq!(node.check(&end, &key(2)), Err(BlockError::WrongSignature));
        let foreign = signed_by(&other, b"data");
        assert_eq!(node.check(&foreign, &key(1)), Err(BlockError::WrongSignature));
        let altered = signed_by(&server, b"DATA");
        assert!(node.check(&altered, &key(1)).is_err());
        assert!(node.check(&end[1..], &key(1)).is_err());
    }

    #[test]
    fn a_node_cannot_sign() {
        let node = node_of(&ServerKey::ephemeral().unwrap());
        assert!(node.sign(&key(1), StreamOffset(4)).is_err());
    }

    #[test]
    fn a_refusal_names_everybody_that_blocks_came_from_the_last_one_first() {
        let peer = |node: u32| Peer {
            node: NodeId(node),
            addr: ([10, 0, 0, 1], 4000).into(),
        };
        let mut proof = node_of(&ServerKey::ephemeral().unwrap());
        let error = BlockError::WrongSignature;
        assert!(proof.refuse(&error).contains("; the predecessor has passed on"));
        for node in [1, 1, 2, 1] {
            proof.note_source(Some(peer(node)));
        }
        proof.note_source(None);
        proof.note_group();
        proof.note_source(Some(peer(1)));
        let reason = proof.refuse(&error);
        assert!(
            reason.contains(
                "(node 1 at 10.0.0.1:4000, before that a member of the multicast group, \
                             before that node 2 at 10.0.0.1:4000)"
            ),
            "{reason}"
        );
        assert!(proof.is_refused());
    }
}
