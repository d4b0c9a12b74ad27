//! The streams of a run at the server: the head of the open one, its end, and the branches that are fed from
//! its spool.

use std::sync::Arc;
use std::time::Duration;

use ka_proto::block::{BlockError, Cipher, Sealer, StreamKey};
use ka_proto::control::Successor;
use ka_proto::group::{DatagramKey, GroupConfig, Sender};
use ka_proto::link::LinkKey;
use ka_proto::pace::Pace;
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::run::HeadStream;
use ka_proto::{NodeId, RunId, StreamId, StreamName, StreamOffset};
use tokio::sync::mpsc;

use super::branches::{SpooledStream, WINDOW_BYTES};
use super::messages::Reply;
use super::types::{Endings, ServerConfig};
use crate::error::TransportError;
use crate::group::sender::GroupSender;
use crate::key::ServerKey;
use crate::spool_dir::SpoolDir;
use crate::stream::{
    BranchId, EndKey, GroupPlace, Head, LinkKeys, LinkListener, LinkTarget, Pool, PumpConfig, PumpEvent,
    PumpHandle, PumpInput, PumpReport, Sending, SpoolWriter, Sums, spawn,
};

/// The settings that every stream of a server has in common.
#[derive(Debug)]
struct StreamSettings {
    key: ServerKey,
    cipher: Option<Cipher>,
    window_bytes: usize,
    link_timeout: Duration,
    link_silence: Duration,
}

/// The open stream and everything needed to open the next one.
#[derive(Debug)]
pub(super) struct Streams {
    settings: StreamSettings,
    /// The directory that streams are spooled in, until that fails.
    spool_dir: Option<SpoolDir>,
    open: Option<OpenStream>,
    group: Option<RoundGroup>,
    listener: LinkListener,
    reports: mpsc::UnboundedSender<PumpReport>,
}

/// The multicast group of the round.
#[derive(Debug)]
struct RoundGroup {
    socket: Arc<GroupSender>,
    /// Rate at which streams begin, in bytes a second.
    rate: u64,
}

/// The stream that is open, or was last.
#[derive(Debug)]
struct OpenStream {
    stream: StreamId,
    pump: Arc<PumpHandle>,
    /// The key of the link from the head's successor.
    links: LinkKeys,
    outcomes: Option<Endings>,
    waiting: Option<Reply<Endings>>,
    /// The producer has handed everything over.
    ended: bool,
    /// The head's time as the machine was told last.
    told_sums: Sums,
    spooled: Option<SpooledStream>,
    /// True if it has a multicast group, so that links stand by.
    is_grouped: bool,
}

/// Progress of a stream's head, as the machine is told.
#[derive(Debug)]
pub(super) struct HeadProgress {
    pub(super) stream: StreamId,
    pub(super) produced: StreamOffset,
    /// The head's use of its time since this was asked last.
    pub(super) pace: Pace,
    /// The producer has handed everything over.
    pub(super) ended: bool,
}

impl Streams {
    /// No stream yet. Pumps take their successors from `listener` and report to `reports`.
    pub(super) fn new(
        config: &ServerConfig,
        cipher: Option<Cipher>,
        spool_dir: Option<SpoolDir>,
        listener: LinkListener,
        reports: mpsc::UnboundedSender<PumpReport>,
    ) -> Self {
        Self {
            settings: StreamSettings {
                key: config.key.clone(),
                cipher,
                window_bytes: config.window_bytes,
                link_timeout: config.link_timeout,
                link_silence: config.run.link_silence,
            },
            spool_dir,
            open: None,
            group: None,
            listener,
            reports,
        }
    }

    /// Begins to spool the stream that will open, if streams are spooled.
    ///
    /// # Errors
    /// One line. The stream goes on without a spool, and [`Streams::end_spool`] must be called.
    pub(super) fn begin_spool(
        &self,
        run: RunId,
        head: &HeadStream,
        name: &StreamName,
    ) -> Result<Option<(SpooledStream, SpoolWriter)>, String> {
        let Some(dir) = &self.spool_dir else {
            return Ok(None);
        };
        let key = StreamKey::new(head.key, run, head.stream);
        SpooledStream::begin(dir, key, name, self.reports.clone()).map(Some)
    }

    /// Nothing is spooled any more, from the open stream on. False when that was so before.
    pub(super) fn end_spool(&mut self, reason: &str) -> bool {
        if self.spool_dir.take().is_none() {
            return false;
        }
        if let Some(spooled) = self.open.as_mut().and_then(|open| open.spooled.take()) {
            spooled.end(|| PumpInput::Abort(reason.to_owned()));
        }
        true
    }

    /// Opens the stream that the machine has begun. `link_key` is that of its first node, of `nodes`.
    ///
    /// # Errors
    /// The kernel has no thread or eventfd left, or the stream cannot be encrypted.
    pub(super) fn open(
        &mut self,
        run: RunId,
        head: HeadStream,
        link_key: LinkKey,
        (name, nodes): (&StreamName, usize),
        spooled: Option<(SpooledStream, SpoolWriter)>,
    ) -> Result<Head, TransportError> {
        let stream = head.stream;
        let window_bytes = self.settings.window_bytes;
        let key = StreamKey::new(head.key, run, stream);
        let failed = |error: BlockError| TransportError::Stream {
            stream: name.to_string(),
            reason: error.to_string(),
        };
        let sealer = Sealer::new(key.clone(), self.settings.cipher).map_err(failed)?;
        let group = self.group_place(run, &head).map_err(failed)?;
        let is_grouped = head.group.is_some();
        let (spooled, keeper) = spooled.unzip();
        let relay = RelayConfig {
            source: Source::Producer,
            receipts: head.receipts,
            grouped: is_grouped,
            ..self.relay(head.successor, window_bytes)
        };
        let target = LinkTarget {
            key,
            links: LinkKeys::new(None, Some((head.successor, link_key))),
            me: NodeId::SERVER,
            branch: None,
            pump: PumpHandle::new(name.clone(), Pool::for_window(window_bytes))?,
        };
        let (pump, links) = (Arc::clone(&target.pump), target.links.clone());
        spawn(PumpConfig {
            keeper,
            group,
            ..self.pump(relay, target)
        })?;
        self.open = Some(OpenStream {
            stream,
            pump: Arc::clone(&pump),
            links,
            outcomes: None,
            waiting: None,
            ended: false,
            told_sums: Sums::default(),
            spooled,
            is_grouped,
        });
        Ok(Head::new(pump, sealer, window_bytes, nodes))
    }

    /// Returns the sender of a stream's group, if it has one.
    fn group_place(&self, run: RunId, head: &HeadStream) -> Result<GroupPlace, BlockError> {
        let (Some((group, members)), Some(sending)) = (&head.group, &self.group) else {
            return Ok(GroupPlace::Outside);
        };
        let config = GroupConfig {
            shard_bytes: group.shard_bytes.into(),
            report_every: Duration::from_millis(group.report_every_ms.into()),
            start_rate: sending.rate,
            memory: self.settings.window_bytes,
        };
        let key = DatagramKey::new(&head.key, run, head.stream, group.sender)?;
        let machine = Sender::new(config, key, members, Duration::ZERO);
        Ok(GroupPlace::Sender(Sending::new(
            Arc::clone(&sending.socket),
            machine,
        )))
    }

    /// Sets the socket of the round's group, and the rate at which its streams begin, in bytes a second.
    pub(super) fn set_group(&mut self, group: Option<(Arc<GroupSender>, u64)>) {
        self.group = group.map(|(socket, rate)| RoundGroup { socket, rate });
    }

    /// Opens a branch that feeds `node` from the spool, as soon as the node comes. Without a spool the
    /// machine knows that, and the node waits for the next round.
    ///
    /// # Errors
    /// The kernel has no thread or eventfd left.
    pub(super) fn open_branch(
        &mut self,
        stream: StreamId,
        node: NodeId,
        link_key: LinkKey,
    ) -> Result<(), TransportError> {
        let relay = RelayConfig {
            source: Source::Spool,
            grouped: self.open_at(stream).is_some_and(|open| open.is_grouped),
            ..self.relay(node, WINDOW_BYTES)
        };
        let Some(spooled) = self.spooled_mut(stream) else {
            return Ok(());
        };
        let links = LinkKeys::new(None, Some((node, link_key)));
        let (target, branch) = spooled.target(node, links)?;
        let (id, pump) = (target.branch, Arc::clone(&target.pump));
        spawn(PumpConfig {
            branch: Some(branch),
            window_bytes: WINDOW_BYTES,
            ..self.pump(relay, target)
        })?;
        if let (Some(spooled), Some(id)) = (self.spooled_mut(stream), id) {
            spooled.add(id, pump);
        }
        Ok(())
    }

    /// Ends the branch that feeds `node`, if there is one.
    pub(super) fn close_branch(&mut self, stream: StreamId, node: NodeId) {
        if let Some(spooled) = self.spooled_mut(stream) {
            spooled.close(node);
        }
    }

    /// The head of a branch has reported. True when the branch, which was neither closed nor replaced, has
    /// lost its node.
    pub(super) fn handle_branch_report(&mut self, stream: StreamId, id: BranchId, what: &PumpEvent) -> bool {
        self.spooled_mut(stream)
            .is_some_and(|spooled| spooled.handle_report(id, what))
    }

    /// True when this stream is open and has not ended.
    pub(super) fn is_running(&self, stream: StreamId) -> bool {
        self.open_at(stream).is_some_and(|open| open.outcomes.is_none())
    }

    /// Progress of the open stream, if it has not ended.
    pub(super) fn take_progress(&mut self) -> Option<HeadProgress> {
        let open = self.open.as_mut().filter(|open| open.outcomes.is_none())?;
        let produced = StreamOffset(open.pump.progress().received);
        let sums = open.pump.head_sums();
        let pace = sums.since(&open.told_sums);
        open.told_sums = sums;
        if let Some(spooled) = &open.spooled {
            spooled.adjust(&pace);
        }
        Some(HeadProgress {
            stream: open.stream,
            produced,
            pace,
            ended: open.ended,
        })
    }

    /// Passes an input to the head's pump.
    pub(super) fn post(&self, stream: StreamId, input: PumpInput) {
        if let Some(open) = self.open_at(stream) {
            open.pump.post(input);
        }
    }

    /// The head gets another successor, which has this key, or none.
    pub(super) fn name_successor(&self, stream: StreamId, successor: Option<(NodeId, LinkKey)>) {
        if let Some(open) = self.open_at(stream) {
            open.links.name_successor(successor);
            open.pump.post(PumpInput::Relink {
                predecessor: None,
                successor: Some(successor.map_or(Successor::Nobody, |(node, _)| Successor::Node(node))),
            });
        }
    }

    /// The producer has handed everything over and waits for the end of the stream; `over` is the reason why
    /// the round is over. False when the stream is not open.
    pub(super) fn finish(&mut self, stream: StreamId, reply: Reply<Endings>, over: Option<&str>) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.stream == stream) else {
            drop(reply.send(Err(TransportError::Misuse("this stream is not open"))));
            return false;
        };
        open.ended = true;
        match (open.outcomes.clone(), over) {
            (Some(outcomes), _) => drop(reply.send(Ok(outcomes))),
            (None, Some(reason)) => {
                let reason = reason.to_owned();
                drop(reply.send(Err(TransportError::Aborted { reason })));
            }
            (None, None) => open.waiting = Some(reply),
        }
        true
    }

    /// The stream has ended for every node.
    pub(super) fn end(&mut self, stream: StreamId, outcomes: Endings) {
        let Some(open) = self.open.as_mut().filter(|open| open.stream == stream) else {
            return;
        };
        let someone_has_it = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
        open.pump.post(if someone_has_it {
            PumpInput::EndStream
        } else {
            PumpInput::Abort("no node is left that takes it".to_owned())
        });
        if let Some(spooled) = open.spooled.take() {
            spooled.end(|| PumpInput::EndStream);
        }
        if let Some(reply) = open.waiting.take() {
            reply.send(Ok(outcomes.clone())).ok();
        }
        open.outcomes = Some(outcomes);
    }

    /// The round is over, and with it the open stream.
    pub(super) fn abort(&mut self, reason: &str) {
        let Some(open) = &mut self.open else {
            return;
        };
        let reason = reason.to_owned();
        open.pump.post(PumpInput::Abort(reason.clone()));
        if let Some(spooled) = open.spooled.take() {
            spooled.end(|| PumpInput::Abort(reason.clone()));
        }
        if let Some(reply) = open.waiting.take() {
            reply.send(Err(TransportError::Aborted { reason })).ok();
        }
    }

    fn relay(&self, successor: NodeId, window_bytes: usize) -> RelayConfig {
        RelayConfig {
            successor: Some(successor),
            window_bytes: window_bytes as u64,
            establish: self.settings.link_timeout,
            ..RelayConfig::default().with_silence(self.settings.link_silence)
        }
    }

    fn pump(&self, relay: RelayConfig, target: LinkTarget) -> PumpConfig {
        PumpConfig {
            relay,
            target,
            window_bytes: self.settings.window_bytes,
            is_sealed: self.settings.cipher.is_some(),
            end_key: EndKey::Own(self.settings.key.clone()),
            local: None,
            listener: self.listener.clone(),
            keeper: None,
            branch: None,
            group: GroupPlace::Outside,
            reports: self.reports.clone(),
        }
    }

    fn open_at(&self, stream: StreamId) -> Option<&OpenStream> {
        self.open.as_ref().filter(|open| open.stream == stream)
    }

    fn spooled_mut(&mut self, stream: StreamId) -> Option<&mut SpooledStream> {
        let open = self.open.as_mut().filter(|open| open.stream == stream);
        open.and_then(|open| open.spooled.as_mut())
    }
}
