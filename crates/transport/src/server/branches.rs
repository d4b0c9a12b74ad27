//! Branches of the chain: second heads that feed nodes which lost their place from the spool of the stream.
//!
//! `ka_proto::run` decides which nodes get one; `crate::stream`'s spool writes and reads.

use std::sync::Arc;

use ka_proto::block::StreamKey;
use ka_proto::control::Side;
use ka_proto::limits::{MAX_BLOCK, MIN_WINDOW_BLOCKS};
use ka_proto::pace::Pace;
use ka_proto::{NodeId, StreamName};
use tokio::sync::mpsc;

use crate::error::TransportError;
use crate::spool_dir::SpoolDir;
use crate::stream::{
    Branch, BranchId, Gauge, LinkKeys, LinkTarget, Pool, PumpEvent, PumpHandle, PumpInput, PumpReport, Spool,
    SpoolWriter,
};

/// Bytes that the head of a branch holds: all of it can be had again, so the least will do.
pub(super) const WINDOW_BYTES: usize = MIN_WINDOW_BLOCKS * MAX_BLOCK;

/// The spool of the open stream, and the branches that are fed from it.
#[derive(Debug)]
pub(super) struct SpooledStream {
    spool: Arc<Spool>,
    key: StreamKey,
    name: StreamName,
    gauge: Arc<Gauge>,
    branches: Vec<(BranchId, Arc<PumpHandle>)>,
    branches_begun: u64,
}

impl SpooledStream {
    /// Begins to spool a stream in `dir`. The head's pump passes its blocks to the [`SpoolWriter`].
    ///
    /// # Errors
    /// One line: no file can be made or no thread started.
    pub(super) fn begin(
        dir: &SpoolDir,
        key: StreamKey,
        name: &StreamName,
        reports: mpsc::UnboundedSender<PumpReport>,
    ) -> Result<(Self, SpoolWriter), String> {
        let file = dir
            .file()
            .map_err(|error| format!("making a file in {}: {error}", dir.path().display()))?;
        let begun = Spool::begin(file, key.stream(), reports);
        let (spool, keeper) = begun.map_err(|error| error.to_string())?;
        let spooled = Self {
            spool,
            key,
            name: name.clone(),
            gauge: Arc::default(),
            branches: Vec::new(),
            branches_begun: 0,
        };
        Ok((spooled, keeper))
    }

    /// Adjusts the rate of all branches to how the chain's head spent its time.
    pub(super) fn adjust(&self, pace: &Pace) {
        self.gauge.adjust(pace);
    }

    /// Returns the link and the feeder of a new branch for `node`.
    ///
    /// # Errors
    /// The kernel has no eventfd left.
    pub(super) fn target(
        &mut self,
        node: NodeId,
        links: LinkKeys,
    ) -> Result<(LinkTarget, Branch), TransportError> {
        self.branches_begun += 1;
        let target = LinkTarget {
            key: self.key.clone(),
            links,
            me: NodeId::SERVER,
            branch: Some(BranchId {
                node,
                number: self.branches_begun,
            }),
            pump: PumpHandle::new(self.name.clone(), Pool::for_window(WINDOW_BYTES))?,
        };
        let branch = Branch {
            spool: Arc::clone(&self.spool),
            gauge: Arc::clone(&self.gauge),
        };
        Ok((target, branch))
    }

    /// The pump of a branch runs.
    pub(super) fn add(&mut self, id: BranchId, pump: Arc<PumpHandle>) {
        self.branches.push((id, pump));
    }

    /// Ends the branch that feeds `node`, if there is one.
    pub(super) fn close(&mut self, node: NodeId) {
        if let Some(pump) = self.take(|id| id.node == node) {
            pump.post(PumpInput::Abort("its node is fed otherwise".to_owned()));
        }
    }

    /// Handles a report of the head of a branch. Reports of closed or replaced heads are ignored. Returns
    /// true if the branch has ended before its node had everything.
    pub(super) fn handle_report(&mut self, id: BranchId, what: &PumpEvent) -> bool {
        let is_over = matches!(
            what,
            PumpEvent::Closed
                | PumpEvent::Failed { .. }
                | PumpEvent::LinkLost {
                    side: Side::Downstream,
                    ..
                }
        );
        if !is_over {
            return false;
        }
        let Some(pump) = self.take(|other| *other == id) else {
            return false;
        };
        tracing::debug!(stream = %self.key.stream(), node = %id.node, ?what, "a branch has ended");
        if matches!(what, PumpEvent::Closed) {
            return false;
        }
        pump.post(PumpInput::Abort("its node is gone".to_owned()));
        true
    }

    /// Ends all branches, because the stream is over for all nodes. `input` makes the message for each.
    pub(super) fn end(self, input: impl Fn() -> PumpInput) {
        for (_, pump) in self.branches {
            pump.post(input());
        }
    }

    fn take(&mut self, is_it: impl Fn(&BranchId) -> bool) -> Option<Arc<PumpHandle>> {
        let index = self.branches.iter().position(|(id, _)| is_it(id))?;
        Some(self.branches.swap_remove(index).1)
    }
}
