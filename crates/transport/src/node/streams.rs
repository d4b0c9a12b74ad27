//! The streams of a node: opening, progress, new neighbours, and their end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ka_proto::auth::ServerPublicKey;
use ka_proto::block::{Opener, StreamKey};
use ka_proto::control::{OpenStream, Progress, Relink, Successor};
use ka_proto::group::{DatagramKey, GroupConfig, Member};
use ka_proto::link::LinkKey;
use ka_proto::pace::{Pace, Taker};
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::{NodeId, RunId, StreamId, StreamOffset};
use tokio::sync::mpsc;

use super::types::NodeConfig;
use crate::error::TransportError;
use crate::group::receiver::GroupReceiver;
use crate::stream::{
    EndKey, Figures, GroupPlace, LinkKeys, LinkListener, LinkTarget, Pool, PumpConfig, PumpHandle, PumpInput,
    PumpReport, Receiving, StreamReader, Sums, Threads, spawn,
};

/// A node's place in a run, as its server gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Membership {
    pub(super) run: RunId,
    pub(super) node: NodeId,
    /// The key that the ends of streams are signed with.
    pub(super) server_key: ServerPublicKey,
    /// The own address of the control connection. Multicast comes by the interface that has it.
    pub(super) local: IpAddr,
}

/// The streams that have not ended here and everything needed to open the next one.
#[derive(Debug)]
pub(super) struct Streams {
    member: Membership,
    local: Option<IpAddr>,
    window_bytes: usize,
    taker: Taker,
    threads: Threads,
    running: Vec<RunningStream>,
    listener: LinkListener,
    reports: mpsc::UnboundedSender<PumpReport>,
}

/// A stream that has not ended here.
#[derive(Debug)]
struct RunningStream {
    stream: StreamId,
    pump: Arc<PumpHandle>,
    links: LinkKeys,
    /// The figures and the sums that the server was told last.
    told: Figures,
    told_sums: Sums,
}

impl Streams {
    /// No stream yet. Pumps take their successors from `listener` and report to `reports`.
    pub(super) fn new(
        config: &NodeConfig,
        member: Membership,
        listener: LinkListener,
        reports: mpsc::UnboundedSender<PumpReport>,
    ) -> Self {
        Self {
            member,
            local: config.listen,
            window_bytes: config.window_bytes,
            taker: config.taker,
            threads: Threads::default(),
            running: Vec::new(),
            listener,
            reports,
        }
    }

    /// Returns the progress of each stream, except streams that have ended here without news.
    pub(super) fn take_progress(&mut self) -> Vec<Progress> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let processor_ms = self.threads.busiest_ms();
        let mut all = Vec::new();
        for running in &mut self.running {
            let now = running.pump.progress();
            // Also for a stream that stands still, because the server wants to know the reason.
            if now == running.told && running.pump.has_ended() {
                continue;
            }
            running.told = now;
            let sums = running.pump.sums();
            let pace = Pace {
                processor_ms,
                taker: self.taker,
                ..sums.since(&running.told_sums)
            };
            running.told_sums = sums;
            all.push(Progress {
                stream: running.stream,
                received: StreamOffset(now.received),
                consumed: StreamOffset(now.consumed),
                buffered: now.buffered,
                pace,
            });
        }
        all
    }

    /// The stream's pump has ended.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.running.retain(|running| running.stream != stream);
    }

    /// The run is over for this node, and every stream with it.
    pub(super) fn abort(&mut self, reason: &str) {
        for running in self.running.drain(..) {
            running.pump.post(PumpInput::Abort(reason.to_owned()));
        }
    }

    /// Passes an input to a stream's pump.
    pub(super) fn post(&self, stream: StreamId, input: impl Fn() -> PumpInput) {
        self.running
            .iter()
            .filter(|running| running.stream == stream)
            .for_each(|running| running.pump.post(input()));
    }

    /// Names new neighbours, with the keys of the links to them: the keys first, so that no neighbour is
    /// turned away.
    pub(super) fn relink(&self, relink: &Relink) {
        let Relink {
            stream,
            predecessor,
            successor,
            ..
        } = *relink;
        for running in self.running.iter().filter(|running| running.stream == stream) {
            if let (Some(peer), Some(key)) = (predecessor, relink.predecessor_key) {
                running
                    .links
                    .name_predecessor(peer.node, LinkKey::new(key, self.member.run, stream));
            }
            match successor {
                Some(Successor::Node(node)) => {
                    let named = self.neighbour(stream, Some(node), relink.successor_key);
                    running.links.name_successor(named);
                }
                Some(Successor::Nobody) => running.links.name_successor(None),
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
        Some((node?, LinkKey::new(key?, self.member.run, stream)))
    }

    /// Joins the multicast group of a stream, if this node is to be a member. If that fails, the node leaves the
    /// group at once, and the predecessor feeds it.
    fn join_group(&self, open: &OpenStream) -> GroupPlace {
        let Some(group) = open.group else {
            return GroupPlace::Outside;
        };
        if !group.is_member {
            return GroupPlace::NoMember;
        }
        let IpAddr::V4(local) = self.member.local.to_canonical() else {
            return GroupPlace::Failed("its own address is not one of IPv4".to_owned());
        };
        let socket = match GroupReceiver::open(local, group.addr) {
            Ok(socket) => socket,
            Err(error) => return GroupPlace::Failed(format!("joining the group {}: {error}", group.addr)),
        };
        let config = GroupConfig {
            shard_bytes: group.shard_bytes.into(),
            report_every: Duration::from_millis(group.report_every_ms.into()),
            start_rate: 0,
            memory: self.window_bytes,
        };
        let key = match DatagramKey::new(&open.key, self.member.run, open.stream, group.sender) {
            Ok(key) => key,
            Err(error) => return GroupPlace::Failed(error.to_string()),
        };
        let machine = Member::new(config, key, self.window_bytes, Duration::ZERO);
        GroupPlace::Member(Receiving::new(socket, machine))
    }

    /// Opens a stream that the server announces.
    ///
    /// # Errors
    /// The kernel has no thread or eventfd left, or the stream cannot be decrypted.
    pub(super) fn open(&mut self, open: &OpenStream) -> Result<StreamReader, TransportError> {
        let pump = PumpHandle::new(open.name.clone(), Pool::for_window(self.window_bytes))?;
        let relay = RelayConfig {
            source: Source::Predecessor(open.predecessor),
            has_consumer: true,
            successor: open.successor,
            start: open.resume_from,
            window_bytes: self.window_bytes as u64,
            me: self.member.node,
            receipts: open.receipts.clone(),
            spooled: open.spooled,
            grouped: open.group.is_some(),
            ..RelayConfig::default().with_silence(Duration::from_millis(open.silence_ms.into()))
        };
        let key = StreamKey::new(open.key, self.member.run, open.stream);
        let opener = Opener::new(&key, open.cipher).map_err(|error| TransportError::Stream {
            stream: open.name.to_string(),
            reason: error.to_string(),
        })?;
        let links = LinkKeys::new(
            Some((
                open.predecessor.node,
                LinkKey::new(open.predecessor_key, self.member.run, open.stream),
            )),
            self.neighbour(open.stream, open.successor, open.successor_key),
        );
        let target = LinkTarget {
            key,
            links: links.clone(),
            me: self.member.node,
            branch: None,
            pump: Arc::clone(&pump),
        };
        spawn(PumpConfig {
            relay,
            target,
            window_bytes: self.window_bytes,
            is_sealed: opener.is_needed(),
            end_key: EndKey::Pinned(self.member.server_key),
            local: self.local,
            listener: self.listener.clone(),
            keeper: None,
            branch: None,
            group: self.join_group(open),
            reports: self.reports.clone(),
        })?;
        self.running.push(RunningStream {
            stream: open.stream,
            pump: Arc::clone(&pump),
            links,
            told: Figures::default(),
            told_sums: Sums::default(),
        });
        Ok(StreamReader::new(pump, open.stream, opener))
    }
}
