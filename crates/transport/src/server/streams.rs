//! The head of a stream: opening, progress, and its end as the producer sees it.

use std::sync::Arc;

use ka_proto::block::{Sealer, StreamKey};
use ka_proto::control::Side;
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::run::HeadStream;
use ka_proto::{NodeId, StreamId, StreamName, StreamOffset};

use super::core::Core;
use super::messages::{OpenStream, Reply};
use super::types::Endings;
use crate::error::TransportError;
use crate::stream::{
    EndKey, Happened, Head, LinkKeys, LinkTarget, Pool, PumpConfig, Report, Shared, Sums, spawn,
};

impl Core {
    pub(super) fn handle_report(&mut self, report: Report) {
        let now = self.now();
        if let Some(branch) = report.branch {
            return self.handle_branch_report(report.stream, branch, &report.what);
        }
        match report.what {
            // Of a stream that is over already it matters all the same: the disk is what it is.
            Happened::SpoolOff { reason } => self.spool_off(&reason),
            Happened::LinkLost {
                side: Side::Downstream,
                offset,
                reason,
            } => {
                self.run
                    .handle_head_link_lost(now, report.stream, offset, &reason);
            }
            Happened::Failed { reason, .. } if self.is_streaming(report.stream) => {
                self.abort(&format!("stream {}: {reason}", report.stream));
            }
            _ => {}
        }
    }

    pub(super) fn is_streaming(&self, stream: StreamId) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.stream == stream && open.outcomes.is_none())
    }

    pub(super) fn tell_head_progress(&mut self) {
        let now = self.now();
        if let Some(open) = self.open.as_mut().filter(|open| open.outcomes.is_none()) {
            let produced = StreamOffset(open.shared.progress().0);
            let sums = open.shared.head_sums();
            let pace = sums.since(&open.told_sums);
            open.told_sums = sums;
            if let Some(kept) = &open.kept {
                kept.adjust(&pace);
            }
            self.run.handle_head_pace(now, open.stream, produced, pace);
            self.run
                .handle_head_progress(now, open.stream, produced, open.ended);
        }
    }

    pub(super) fn open_stream(&mut self, name: &StreamName) -> Result<Head, TransportError> {
        let head = self
            .run
            .open_stream(self.now(), name)
            .map_err(|error| self.describe(error))?;
        let HeadStream {
            stream,
            key,
            successor,
            receipts,
        } = head;
        let shared = Shared::new(name.clone(), Pool::for_window(self.window_bytes))?;
        let key = StreamKey::new(key, self.run_id, stream);
        let relay = RelayConfig {
            source: Source::Producer,
            successor: Some(successor),
            window_bytes: self.window_bytes as u64,
            receipts,
            establish: self.link_timeout,
            ..RelayConfig::default().with_silence(self.link_silence)
        };
        let first = self.run.link_key(stream, successor, NodeId::SERVER);
        let links = LinkKeys::new(None, Some((successor, first)));
        let target = LinkTarget {
            key: key.clone(),
            links: links.clone(),
            me: NodeId::SERVER,
            branch: None,
            shared: Arc::clone(&shared),
        };
        let (kept, keeper) = self.begin_spool(stream, name, &key);
        let sealer = Sealer::new(key, self.cipher).map_err(|error| TransportError::Stream {
            stream: name.to_string(),
            reason: error.to_string(),
        })?;
        spawn(PumpConfig {
            relay,
            target,
            window_bytes: self.window_bytes,
            is_sealed: self.cipher.is_some(),
            end_key: EndKey::Own(self.key.clone()),
            local: None,
            door: self.door.clone(),
            keeper,
            branch: None,
            reports: self.pump_reports.clone(),
        })?;
        let opened = OpenStream {
            stream,
            shared: Arc::clone(&shared),
            links,
            outcomes: None,
            waiting: None,
            ended: false,
            told_sums: Sums::default(),
            kept,
        };
        self.open = Some(opened);
        let nodes = self.show_chain(stream, name);
        Ok(Head::new(shared, sealer, self.window_bytes, nodes))
    }

    pub(super) fn finish_stream(&mut self, stream: StreamId, reply: Reply<Endings>) {
        let over = self.over.clone();
        let Some(open) = self.open.as_mut().filter(|open| open.stream == stream) else {
            return drop(reply.send(Err(TransportError::Misuse("this stream is not open"))));
        };
        open.ended = true;
        match (open.outcomes.clone(), over) {
            (Some(outcomes), _) => drop(reply.send(Ok(outcomes))),
            (None, Some(reason)) => drop(reply.send(Err(TransportError::Aborted { reason }))),
            (None, None) => open.waiting = Some(reply),
        }
        self.tell_head_progress();
    }
}
