//! Branches of the chain: second heads that feed nodes which lost their place from what is kept of the stream.
//!
//! Who gets one is decided by `ka_proto::run`. Not here: what is kept, and how ([`crate::stream`], `spool`).

use std::sync::Arc;

use ka_proto::block::StreamKey;
use ka_proto::control::Side;
use ka_proto::limits::{MAX_BLOCK, MIN_WINDOW_BLOCKS};
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::{NodeId, Reason, StreamId, StreamName};

use super::core::Core;
use super::types::ServerEvent;
use crate::error::TransportError;
use crate::stream::{
    Branch, BranchId, EndKey, Gauge, Happened, Input as PumpInput, Keeper, LinkKeys, LinkTarget, Pool,
    PumpConfig, Shared, Spool, spawn,
};

/// Bytes that the head of a branch holds: all of it can be had again, so the least will do.
const WINDOW_BYTES: usize = MIN_WINDOW_BLOCKS * MAX_BLOCK;

/// What is kept of the open stream, and who is fed from it.
#[derive(Debug)]
pub(super) struct Kept {
    spool: Arc<Spool>,
    key: StreamKey,
    name: StreamName,
    gauge: Arc<Gauge>,
    branches: Vec<(BranchId, Arc<Shared>)>,
    branches_begun: u64,
}

impl Kept {
    /// How the chain's head spent its time.
    pub(super) fn adjust(&self, pace: &ka_proto::pace::Pace) {
        self.gauge.adjust(pace);
    }

    /// The stream is over for everybody.
    pub(super) fn end(self, input: impl Fn() -> PumpInput) {
        for (_, shared) in self.branches {
            shared.post(input());
        }
    }

    fn take(&mut self, is_it: impl Fn(&BranchId) -> bool) -> Option<Arc<Shared>> {
        let index = self.branches.iter().position(|(id, _)| is_it(id))?;
        Some(self.branches.swap_remove(index).1)
    }
}

impl Core {
    /// Begins to keep the stream that opens, where streams are kept; when that fails, it goes without.
    pub(super) fn begin_spool(
        &mut self,
        stream: StreamId,
        name: &StreamName,
        key: &StreamKey,
    ) -> (Option<Kept>, Option<Keeper>) {
        let Some(dir) = &self.spool else {
            return (None, None);
        };
        let begun = dir
            .file()
            .map_err(|error| format!("making a file in {}: {error}", dir.path().display()))
            .and_then(|file| {
                Spool::begin(file, stream, self.pump_reports.clone()).map_err(|error| error.to_string())
            });
        match begun {
            Ok((spool, keeper)) => {
                let kept = Kept {
                    spool,
                    key: key.clone(),
                    name: name.clone(),
                    gauge: Arc::default(),
                    branches: Vec::new(),
                    branches_begun: 0,
                };
                (Some(kept), Some(keeper))
            }
            Err(reason) => {
                self.spool_off(&reason);
                (None, None)
            }
        }
    }

    /// From here on nothing is kept; said once.
    pub(super) fn spool_off(&mut self, reason: &str) {
        if self.spool.take().is_none() {
            return;
        }
        if let Some(kept) = self.open.as_mut().and_then(|open| open.kept.take()) {
            kept.end(|| PumpInput::Abort(reason.to_owned()));
        }
        self.event(ServerEvent::SpoolOff {
            reason: reason.to_owned(),
        });
        let reason = Reason::new(format!("the server keeps the stream no longer: {reason}"));
        self.run.handle_spool_lost(self.now(), &reason);
    }

    /// Feeds `node` from what is kept, as soon as it comes.
    pub(super) fn open_branch(&mut self, stream: StreamId, node: NodeId) {
        self.close_branch(stream, node);
        if let Err(error) = self.start_branch(stream, node) {
            self.spool_off(&error.to_string());
        }
    }

    fn start_branch(&mut self, stream: StreamId, node: NodeId) -> Result<(), TransportError> {
        let (door, reports) = (self.door.clone(), self.pump_reports.clone());
        let (link_timeout, link_silence) = (self.link_timeout, self.link_silence);
        let link_key = self.run.link_key(stream, node, NodeId::SERVER);
        let (key, is_sealed) = (self.key.clone(), self.cipher.is_some());
        let open = self.open.as_mut().filter(|open| open.stream == stream);
        // Without what is kept, the machine has been told, and the node waits for the next round.
        let Some(kept) = open.and_then(|open| open.kept.as_mut()) else {
            return Ok(());
        };
        kept.branches_begun += 1;
        let id = BranchId {
            node,
            number: kept.branches_begun,
        };
        let shared = Shared::new(kept.name.clone(), Pool::for_window(WINDOW_BYTES))?;
        let relay = RelayConfig {
            source: Source::Spool,
            successor: Some(node),
            window_bytes: WINDOW_BYTES as u64,
            establish: link_timeout,
            ..RelayConfig::default().with_silence(link_silence)
        };
        let links = LinkKeys::new(None, Some((node, link_key)));
        let target = LinkTarget {
            key: kept.key.clone(),
            links,
            me: NodeId::SERVER,
            branch: Some(id),
            shared: Arc::clone(&shared),
        };
        spawn(PumpConfig {
            relay,
            target,
            window_bytes: WINDOW_BYTES,
            is_sealed,
            end_key: EndKey::Own(key),
            local: None,
            door,
            keeper: None,
            branch: Some(Branch {
                spool: Arc::clone(&kept.spool),
                gauge: Arc::clone(&kept.gauge),
            }),
            reports,
        })?;
        kept.branches.push((id, shared));
        Ok(())
    }

    pub(super) fn close_branch(&mut self, stream: StreamId, node: NodeId) {
        let kept = self.kept(stream);
        if let Some(shared) = kept.and_then(|kept| kept.take(|id| id.node == node)) {
            shared.post(PumpInput::Abort("its node is fed otherwise".to_owned()));
        }
    }

    /// A branch's head says something. Of those that were closed or replaced nothing more is of interest.
    pub(super) fn handle_branch_report(&mut self, stream: StreamId, id: BranchId, what: &Happened) {
        let is_over = matches!(
            what,
            Happened::Closed
                | Happened::Failed { .. }
                | Happened::LinkLost {
                    side: Side::Downstream,
                    ..
                }
        );
        let Some(shared) = self
            .kept(stream)
            .filter(|_| is_over)
            .and_then(|kept| kept.take(|other| *other == id))
        else {
            return;
        };
        tracing::debug!(%stream, node = %id.node, ?what, "a branch has ended");
        if !matches!(what, Happened::Closed) {
            shared.post(PumpInput::Abort("its node is gone".to_owned()));
            self.run.handle_branch_lost(self.now(), stream, id.node);
        }
    }

    fn kept(&mut self, stream: StreamId) -> Option<&mut Kept> {
        let open = self.open.as_mut().filter(|open| open.stream == stream);
        open.and_then(|open| open.kept.as_mut())
    }
}
