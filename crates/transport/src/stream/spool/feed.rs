//! Feeds a branch of the chain from what is kept: the producer of a second head, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::block::{BlockKind, HEADER_LEN};

use super::gauge::{Gauge, Throttle};
use super::{SealedBlock, Spool};
use crate::stream::inbox::Input;
use crate::stream::shared::Shared;

/// What the head of a branch is fed from.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) spool: Arc<Spool>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Branch {
    /// Starts to give everything from byte `from` on to the pump behind `shared`, with at most `window_bytes` ahead of
    /// the node. What goes wrong ends the pump.
    pub(in crate::stream) fn feed(&self, from: u64, shared: &Arc<Shared>, window_bytes: usize) {
        let (branch, fed) = (self.clone(), Arc::clone(shared));
        let thread = std::thread::Builder::new().name("ka-branch".to_owned());
        let spawned = thread.spawn(move || {
            branch.gauge.enter();
            if let Err(reason) = branch.run(from, &fed, window_bytes) {
                fed.post(Input::Abort(reason));
            }
            branch.gauge.leave();
        });
        if let Err(error) = spawned {
            shared.post(Input::Abort(format!("starting a branch's thread: {error}")));
        }
    }

    fn run(&self, from: u64, shared: &Arc<Shared>, window_bytes: usize) -> Result<(), String> {
        let is_over = || shared.has_ended();
        let mut position = self.spool.find(from, is_over)?;
        let mut throttle = Throttle::new();
        while self.spool.wait_for(position, is_over)? {
            let (block, is_end) = self.block_at(position, shared)?;
            let len = block.wire_len() as u64;
            position += len;
            throttle.pay(len, &self.gauge, is_over);
            // A pump that has ended says why itself.
            if shared.produce(block, window_bytes).is_err() || is_end {
                return Ok(());
            }
        }
        Ok(())
    }

    fn block_at(&self, position: u64, shared: &Arc<Shared>) -> Result<(Arc<SealedBlock>, bool), String> {
        let header = self.spool.header_at(position)?;
        let mut payload = shared.pool.payload(header.length as usize);
        self.spool
            .read(payload.as_mut_slice(), position + HEADER_LEN as u64)?;
        let block = SealedBlock {
            header: header.encode(),
            offset: header.offset.0,
            payload,
            consumed: AtomicBool::new(true),
        };
        Ok((Arc::new(block), header.kind == BlockKind::End))
    }
}
