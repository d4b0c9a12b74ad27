//! The feeder of a branch of the chain: the producer of a second head, from the spool, on a thread of its
//! own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::block::{BlockKind, HEADER_LEN};

use super::gauge::{Gauge, Throttle};
use super::{SealedBlock, Spool};
use crate::stream::handle::PumpHandle;
use crate::stream::inbox::PumpInput;

/// The source of a branch: a spool, and the rate of reading it.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) spool: Arc<Spool>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Branch {
    /// Starts to pass everything from byte `from` on to the pump behind `pump`, with at most `window_bytes`
    /// ahead of the node. A fault ends the pump.
    pub(in crate::stream) fn feed(&self, from: u64, pump: &Arc<PumpHandle>, window_bytes: usize) {
        let (branch, fed) = (self.clone(), Arc::clone(pump));
        let thread = std::thread::Builder::new().name("ka-branch".to_owned());
        let spawned = thread.spawn(move || {
            branch.gauge.enter();
            if let Err(reason) = branch.run(from, &fed, window_bytes) {
                fed.post(PumpInput::Abort(reason));
            }
            branch.gauge.leave();
        });
        if let Err(error) = spawned {
            pump.post(PumpInput::Abort(format!("starting a branch's thread: {error}")));
        }
    }

    fn run(&self, from: u64, pump: &Arc<PumpHandle>, window_bytes: usize) -> Result<(), String> {
        let is_over = || pump.has_ended();
        let mut position = self.spool.find(from, is_over)?;
        let mut throttle = Throttle::new();
        while self.spool.wait_for(position, is_over)? {
            let (block, is_end) = self.block_at(position, pump)?;
            let len = block.wire_len() as u64;
            position += len;
            throttle.pay(len, &self.gauge, is_over);
            // A pump that has ended says why itself.
            if pump.production().push(block, window_bytes).is_err() || is_end {
                return Ok(());
            }
        }
        Ok(())
    }

    fn block_at(&self, position: u64, pump: &Arc<PumpHandle>) -> Result<(Arc<SealedBlock>, bool), String> {
        let header = self.spool.header_at(position)?;
        let mut payload = pump.pool().payload(header.length as usize);
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
