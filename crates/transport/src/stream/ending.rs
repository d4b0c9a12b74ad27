//! The end of a stream: signed at the head, checked at every node before anything counts as complete.
//!
//! Every node of the run knows the stream's key and could make blocks for those below it. It cannot sign, so what it
//! altered is found here at the latest, by each node for itself.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::StreamOffset;
use ka_proto::auth::ServerPublicKey;
use ka_proto::block::{BlockError, BlockKind, HEADER_LEN, SignedEnd};
use ka_proto::link::Goodbye;
use ka_proto::relay::RelayError;

use super::buffer::{Payload, SealedBlock};
use super::pump::Pump;
use super::shared::Ended;
use super::upstream::Received;
use crate::key::ServerKey;

/// What vouches for the end of a stream.
#[derive(Debug, Clone)]
pub(crate) enum EndKey {
    /// The server's own key, at the head.
    Own(ServerKey),
    /// The key that a node has pinned.
    Pinned(ServerPublicKey),
}

impl Pump {
    /// Takes the end of the stream, or ends it here as failed: what has arrived is then not what the server sent, and no
    /// other predecessor could make it so.
    pub(super) fn take_end(&mut self, received: Received) -> Result<(), RelayError> {
        let Received { header, raw, payload } = received;
        if let Err(error) = self.check_end(&payload) {
            self.refuse_end(error);
            return Ok(());
        }
        self.end = Some(end_block(raw, header.offset.0, payload));
        self.relay.handle_end(self.now(), header.offset)?;
        self.deliver();
        self.shared.end(&Ended::Complete);
        Ok(())
    }

    /// Notes whom blocks are taken from now.
    pub(super) fn note_predecessor(&mut self) {
        if let Some(peer) = self.predecessor
            && self.taken_from.last() != Some(&peer)
        {
            self.taken_from.retain(|other| *other != peer);
            self.taken_from.push(peer);
        }
    }

    fn check_end(&self, payload: &Payload) -> Result<(), BlockError> {
        let signed = SignedEnd::decode(payload.as_slice())?;
        let key = &self.target.key;
        match &self.end_key {
            EndKey::Pinned(server) => signed.verify(server, key.run(), key.stream())?,
            EndKey::Own(_) => return Err(BlockError::WrongSignature),
        }
        self.digest.check(&signed.end)
    }

    /// An honest node checks before it forwards, so it is the predecessor that has altered the stream or its end; or one that was
    /// the predecessor before, where there was another: this one passes on what it has in good faith.
    fn refuse_end(&mut self, error: BlockError) {
        self.is_unproved = true;
        self.note_predecessor();
        let named = self.taken_from.iter().rev();
        let named: Vec<String> = named
            .map(|peer| format!("node {} at {}", peer.node, peer.addr))
            .collect();
        let from = match named.len() {
            0 => "the predecessor".to_owned(),
            1 => named.concat(),
            _ => format!(
                "one of those that it came from ({})",
                named.join(", before that ")
            ),
        };
        let reason = format!("{error}; {from} has passed on something else than the server sent");
        tracing::error!(stream = %self.shared.name, %reason, "the stream is refused");
        self.say_goodbye(Goodbye::BadBlock);
        self.fail(reason);
    }

    /// Signs the end of the stream, at the head.
    pub(super) fn seal_end(&mut self) {
        let offset = self.relay.received();
        let (end, key) = (self.digest.end(), &self.target.key);
        let signature = match &self.end_key {
            EndKey::Own(own) => own.sign(&end.to_sign(key.run(), key.stream())),
            EndKey::Pinned(_) => None,
        };
        let Some(signature) = signature else {
            return self.fail_head("the end of the stream cannot be signed");
        };
        let payload = SignedEnd { end, signature }.encode();
        let header = match key.authenticate(BlockKind::End, offset, &payload) {
            Ok(header) => header,
            Err(error) => return self.fail_head(&error.to_string()),
        };
        let payload = Payload::from_producer(payload.to_vec(), &self.shared.pool);
        let end = end_block(header.encode(), offset.0, payload);
        if let Some(keeper) = self.keeper.take() {
            keeper.keep(&end);
        }
        self.take_kept_end(end);
    }

    /// The end that the stream had, at the head of a branch: it was signed once and is good for whoever has all of it.
    pub(super) fn take_kept_end(&mut self, end: Arc<SealedBlock>) {
        let offset = StreamOffset(end.offset);
        self.end = Some(end);
        if let Err(error) = self.relay.handle_end(self.now(), offset) {
            self.fail_head(&error.to_string());
        }
    }
}

/// A block that carries nothing for a consumer.
pub(super) fn end_block(header: [u8; HEADER_LEN], offset: u64, payload: Payload) -> Arc<SealedBlock> {
    Arc::new(SealedBlock {
        header,
        offset,
        payload,
        consumed: AtomicBool::new(true),
    })
}
