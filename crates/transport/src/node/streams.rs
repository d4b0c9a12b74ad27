//! The streams of a node: opening, progress, and what their pumps report.

use std::sync::Arc;
use std::time::Duration;

use ka_proto::block::{Opener, StreamKey};
use ka_proto::control::{OpenStream, Progress, Relink, Stage, Successor};
use ka_proto::link::LinkKey;
use ka_proto::pace::Pace;
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::{NodeId, Reason, StreamId, StreamOffset};

use super::core::Core;
use crate::error::TransportError;
use crate::stream::{
    EndKey, Happened, Input as PumpInput, LinkKeys, LinkTarget, Pool, PumpConfig, Report, Shared,
    StreamReader, Sums, spawn,
};

/// A stream that has not ended here.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) stream: StreamId,
    pub(super) shared: Arc<Shared>,
    pub(super) links: LinkKeys,
    pub(super) told: (u64, u64, u64),
    pub(super) told_sums: Sums,
}

impl Core {
    pub(super) fn handle_report(&mut self, report: Report) {
        let stream = report.stream;
        match report.what {
            Happened::LinkUp { side, offset } => self.machine.link_up(stream, side, offset),
            Happened::LinkLost { side, offset, reason } => {
                self.machine.link_lost(stream, side, offset, reason)
            }
            Happened::Gap { offset, reason } => self.machine.data_gone(stream, offset, reason),
            // Only where streams are kept.
            Happened::SpoolOff { .. } => {}
            Happened::Done { bytes, digest } => {
                self.tell_progress();
                // The server may have ended the stream without us meanwhile.
                self.machine.stream_done(stream, bytes, digest).ok();
            }
            Happened::ConsumerFailed { reason } => {
                self.machine
                    .step_failed(Stage::Stream(stream), Reason::new(reason));
            }
            Happened::Closed => self.open.retain(|open| open.stream != stream),
            Happened::Failed { reason, unproved } => {
                self.open.retain(|open| open.stream != stream);
                self.machine.stream_failed(stream, Reason::new(reason), unproved);
            }
        }
    }

    pub(super) fn tell_progress(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let processor_ms = self.threads.busiest_ms();
        for open in &mut self.open {
            let now = open.shared.progress();
            // Also of a stream that stands still: that is what the server wants to know the reason of.
            if now != open.told || !open.shared.has_ended() {
                open.told = now;
                let sums = open.shared.sums();
                let pace = Pace {
                    processor_ms,
                    taker: self.taker,
                    ..sums.since(&open.told_sums)
                };
                open.told_sums = sums;
                self.machine.progress(Progress {
                    stream: open.stream,
                    received: StreamOffset(now.0),
                    consumed: StreamOffset(now.1),
                    buffered: now.2,
                    pace,
                });
            }
        }
    }

    pub(super) fn post(&self, stream: StreamId, input: impl Fn() -> PumpInput) {
        self.open
            .iter()
            .filter(|open| open.stream == stream)
            .for_each(|open| open.shared.post(input()));
    }

    /// New neighbours, and the keys of the links to them: the keys first, so that nobody is turned away who may come.
    pub(super) fn relink(&self, relink: &Relink) {
        let Relink {
            stream,
            predecessor,
            successor,
            ..
        } = *relink;
        for open in self.open.iter().filter(|open| open.stream == stream) {
            if let (Some(peer), Some(key)) = (predecessor, relink.predecessor_key) {
                open.links
                    .name_predecessor(peer.node, LinkKey::new(key, self.run, stream));
            }
            match successor {
                Some(Successor::Node(node)) => {
                    let named = self.neighbour(stream, Some(node), relink.successor_key);
                    open.links.name_successor(named);
                }
                Some(Successor::Nobody) => open.links.name_successor(None),
                None => {}
            }
        }
        self.post(stream, || PumpInput::Relink {
            predecessor,
            successor,
        });
    }

    fn neighbour(
        &self,
        stream: StreamId,
        node: Option<NodeId>,
        key: Option<[u8; 32]>,
    ) -> Option<(NodeId, LinkKey)> {
        Some((node?, LinkKey::new(key?, self.run, stream)))
    }

    pub(super) fn open_stream(&mut self, open: &OpenStream) -> Result<StreamReader, TransportError> {
        let shared = Shared::new(open.name.clone(), Pool::for_window(self.window_bytes))?;
        let relay = RelayConfig {
            source: Source::Predecessor(open.predecessor),
            has_consumer: true,
            successor: open.successor,
            start: open.resume_from,
            window_bytes: self.window_bytes as u64,
            me: self.me,
            receipts: open.receipts.clone(),
            spooled: open.spooled,
            ..RelayConfig::default().with_silence(Duration::from_millis(open.silence_ms.into()))
        };
        let key = StreamKey::new(open.key, self.run, open.stream);
        let opener = Opener::new(&key, open.cipher).map_err(|error| TransportError::Stream {
            stream: open.name.to_string(),
            reason: error.to_string(),
        })?;
        let links = LinkKeys::new(
            Some((
                open.predecessor.node,
                LinkKey::new(open.predecessor_key, self.run, open.stream),
            )),
            self.neighbour(open.stream, open.successor, open.successor_key),
        );
        let target = LinkTarget {
            key,
            links: links.clone(),
            me: self.me,
            branch: None,
            shared: Arc::clone(&shared),
        };
        spawn(PumpConfig {
            relay,
            target,
            window_bytes: self.window_bytes,
            is_sealed: opener.is_needed(),
            end_key: EndKey::Pinned(self.server_key),
            local: self.local,
            door: self.door.clone(),
            keeper: None,
            branch: None,
            reports: self.pump_reports.clone(),
        })?;
        self.open.push(Open {
            stream: open.stream,
            shared: Arc::clone(&shared),
            links,
            told: (0, 0, 0),
            told_sums: Sums::default(),
        });
        Ok(StreamReader::new(shared, open.stream, opener))
    }
}
