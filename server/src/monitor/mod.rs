//! The one place where everything that happens comes together: the flow tells it what it does, a thread brings
//! what the transport reports, and all of it goes to the views in order.

mod outlet;
mod slow;
mod spool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use ka_image::Progress;
use ka_proto::MacAddr;
use ka_status::boot::SeenBy;
use ka_status::event::NodeEvent;
use ka_status::exec::OperatorExec;
use ka_status::report::NodePlan;
use ka_status::report::NodeReport;
use ka_status::run::{NodeProgress, NodeRef, RunEvent};
use ka_status::summary::{NodeOutcome, NodeSummary, StreamTotals};
use ka_status::view::View;
use ka_transport::{NodeInfo, ServerEvent};

use crate::approve::Questions;
use crate::roster::{Asking, Roster};
use crate::unfinished::Done;

use outlet::Outlet;

/// Between two progress events: readable on a screen, and small beside the data in a JSON log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Refused connections shown one by one; a port scanner must not push the nodes' own lines away.
const MAX_REFUSALS_SHOWN: u32 = 50;

/// Events taken in by one caller: who floods us with them must not keep the flow in here.
const MAX_TAKEN: usize = 4 << 10;

/// How far the running stream is on the server's side; written by the feed, read for progress.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    /// Bytes given to the chain.
    pub(crate) sent: AtomicU64,
    /// Content read by the image crate; stays zero where there is no such thing (`-e`).
    pub(crate) content: Progress,
}

/// Shows a run and remembers its nodes.
///
/// Whoever tells it something first takes in all that the transport has reported until then: what a node said
/// before the flow went on is shown before it.
pub(crate) struct Monitor {
    started: Instant,
    events: Receiver<ServerEvent>,
    questions: Questions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outlets: Vec<Outlet>,
    roster: Roster,
    wanted: Option<u32>,
    stream: Option<RunningStream>,
    refusals: u32,
    questions: Questions,
    /// Time since the run began, as of the last look.
    at: Duration,
    /// When each node was released.
    released_at: BTreeMap<u32, Duration>,
    /// The transport has ended: nothing more will be reported.
    is_over: bool,
}

struct RunningStream {
    feed: Arc<FeedProgress>,
    nodes: Vec<NodeProgress>,
}

impl Monitor {
    /// A monitor of a run that begins now. Each view comes with what it is called in a warning.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub(crate) fn new(
        views: Vec<(String, Box<dyn View>)>,
        wanted: Option<u32>,
        events: Receiver<ServerEvent>,
    ) -> std::io::Result<Arc<Self>> {
        let outlets = views.into_iter().map(|(name, view)| Outlet::open(&name, view));
        let state = State {
            outlets: outlets.collect::<std::io::Result<_>>()?,
            wanted,
            ..State::default()
        };
        let questions = state.questions.clone();
        Ok(Arc::new(Self {
            started: Instant::now(),
            events,
            questions,
            state: Mutex::new(state),
        }))
    }

    /// The questions about nodes that have been shown.
    pub(crate) fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// Waits until every output has everything, at most so long: one that nobody reads keeps no run from its end.
    pub(crate) fn drain(&self, limit: Duration) {
        let until = Instant::now() + limit;
        for outlet in &self.up_to_date().outlets {
            outlet.drain(until);
        }
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows an event.
    pub(crate) fn emit(&self, event: &RunEvent) {
        self.up_to_date().show(event);
    }

    /// The chain is ordered.
    pub(crate) fn lets_go(&self, infos: &[NodeInfo]) {
        let mut state = self.up_to_date();
        let nodes = state.roster.order(infos);
        state.show(&RunEvent::LetsGo { nodes });
    }

    /// Nodes that an earlier process of this run saw done.
    pub(crate) fn know_done(&self, done: &[Done]) -> Vec<NodeRef> {
        let mut state = self.up_to_date();
        (1..)
            .zip(done)
            .map(|(id, done)| state.roster.know_done(id, done))
            .collect()
    }

    /// The node with this number, as the views know it.
    pub(crate) fn node(&self, id: u32) -> Option<NodeRef> {
        self.up_to_date().roster.find(id)
    }

    /// A node is out. Said once, whoever says it first.
    pub(crate) fn node_failed(&self, id: u32, stage: &str, reason: &str) {
        self.up_to_date().node_failed(id, stage, reason);
    }

    /// A node is out, even if it was called done before.
    pub(crate) fn node_revoked(&self, id: u32, stage: &str, reason: &str) {
        let mut state = self.up_to_date();
        state.roster.revoke(id);
        state.node_failed(id, stage, reason);
    }

    /// A node is out, and may come back.
    pub(crate) fn may_return(&self, id: u32) {
        self.up_to_date().roster.may_return(id);
    }

    /// A node is done and compared.
    pub(crate) fn node_done(&self, id: u32, report: NodeReport) {
        let mut state = self.up_to_date();
        if let Some(node) = state.roster.settle(
            id,
            NodeOutcome::Done {
                report: report.clone(),
            },
        ) {
            state.show(&RunEvent::NodeDone { node, report });
        }
    }

    /// A stream begins; progress events come from now on.
    pub(crate) fn stream_started(
        &self,
        session: &str,
        what: &str,
        expected_bytes: Option<u64>,
    ) -> Arc<FeedProgress> {
        let feed = Arc::new(FeedProgress::default());
        let mut state = self.up_to_date();
        state.stream = Some(RunningStream {
            feed: Arc::clone(&feed),
            nodes: Vec::new(),
        });
        let (session, what) = (session.to_owned(), what.to_owned());
        state.show(&RunEvent::SessionStarted {
            session,
            what,
            expected_bytes,
        });
        feed
    }

    /// The stream is through.
    pub(crate) fn stream_ended(&self, totals: &StreamTotals) {
        let mut state = self.up_to_date();
        state.progress();
        state.stream = None;
        state.show(&RunEvent::SessionEnded {
            totals: totals.clone(),
        });
    }

    /// Ends the run for all nodes that have no outcome yet, and gives every node with its outcome.
    pub(crate) fn settle_all(&self, stage: &str, reason: &str) -> Vec<NodeSummary> {
        let mut state = self.up_to_date();
        for node in state.roster.unsettled() {
            state.node_failed(node.id, stage, reason);
        }
        state.roster.summaries()
    }

    /// A node's hardware address, which it did not give itself.
    pub(crate) fn learn_mac(&self, id: u32, mac: MacAddr) {
        self.up_to_date().roster.learn_mac(id, mac);
    }

    /// The round is over: shows who is there for another one, if somebody is or may come back in `grace`.
    pub(crate) fn round_ended(&self, round: u32, grace: Duration) {
        let mut state = self.up_to_date();
        // The places are counted among those of a round, and nobody is wanted by number in the next one.
        state.wanted = None;
        let (waiting, lost) = state.roster.end_round();
        let secs = grace.as_secs();
        if waiting + lost > 0 {
            state.show(&RunEvent::RoundEnded {
                round,
                waiting,
                lost,
                secs,
            });
        }
    }

    /// Whether every node of this round has failed or is done.
    pub(crate) fn nobody_left(&self) -> bool {
        self.up_to_date().roster.unsettled().is_empty()
    }

    /// The nodes are released: those that are done are expected to boot from their own disks.
    pub(crate) fn expect_boots(&self, done: &[NodeInfo]) {
        let mut state = self.up_to_date();
        let at = state.at;
        for node in done {
            state.released_at.entry(node.id.0).or_insert(at);
        }
        state.roster.expect_boots();
    }

    /// The clones that have not come back yet are waited for.
    pub(crate) fn wait_for_boots(&self, wait: Duration) {
        let mut state = self.up_to_date();
        let (nodes, secs) = (state.roster.missing_boots(), wait.as_secs());
        state.show(&RunEvent::WaitingForBoots { nodes, secs });
    }

    /// How many nodes wait for the next round.
    pub(crate) fn waiting(&self) -> usize {
        self.up_to_date().roster.waiting()
    }

    /// Clones that have not been seen yet.
    pub(crate) fn missing_boots(&self) -> usize {
        self.up_to_date().roster.missing_boots()
    }

    /// What may be an operating system asks for an address on the machine with this hardware address. Where the clone tells
    /// its first boot itself, that proves nothing: it is on its way at best. Elsewhere it is the clone if it says the clone's
    /// name, and says it after the node has gone: firmware, a management board or the system of another disk does not.
    pub(crate) fn system_asks(&self, mac: MacAddr, host_name: Option<&str>) {
        let mut state = self.up_to_date();
        let Some(id) = state.roster.id_of(mac) else { return };
        match state.roster.asks_for_address(id, host_name) {
            Asking::Proof => state.came_back(id, SeenBy::Dhcp),
            Asking::ComingUp(node) => state.show(&RunEvent::NodeComingUp { node }),
            Asking::Nothing => {}
        }
    }

    /// Starts the thread that takes in what the transport reports. It ends when the server is dropped.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn watch(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let monitor = Arc::clone(self);
        std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || monitor.pump())
    }

    fn pump(&self) {
        let mut next_progress = Instant::now() + PROGRESS_INTERVAL;
        let mut waiting = Select::new();
        waiting.recv(&self.events);
        loop {
            // Whether it was an event or the time does not matter: both are looked after below.
            let is_due = waiting.ready_deadline(next_progress).is_err();
            let mut state = self.up_to_date();
            if state.is_over {
                return;
            }
            if is_due || Instant::now() >= next_progress {
                next_progress = Instant::now() + PROGRESS_INTERVAL;
                state.progress();
            }
        }
    }

    /// The state, with everything in it that the transport has reported. A view that panicked while it held the
    /// lock leaves nothing half done that matters here.
    fn up_to_date(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.at = self.elapsed();
        for _ in 0..MAX_TAKEN {
            match self.events.try_recv() {
                Ok(event) => state.take(event),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    state.is_over = true;
                    break;
                }
            }
        }
        state
    }
}

impl State {
    fn take(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::NodeJoined { node, present } => self.joined(&node, present),
            ServerEvent::ApprovalWanted(wanted) => {
                self.questions.asked(wanted.request);
                self.show(&RunEvent::ApprovalWanted {
                    request: wanted.request,
                    name: wanted.name,
                    addr: wanted.addr.ip().to_string(),
                    mac: wanted.mac.map(|mac| mac.to_string()),
                    code: wanted.code,
                    limit_secs: wanted.limit.as_secs(),
                });
            }
            ServerEvent::LeftOut { events } => self.show(&RunEvent::Warning {
                text: format!("{events} messages of nodes about their steps and progress came too fast and are not shown"),
            }),
            ServerEvent::Turned { from, reason } => self.refused(from, reason),
            ServerEvent::NodeLooked { node, plan } => self.looked(&node, plan),
            ServerEvent::NodeQueued { node, round, reason } => {
                let node = self.roster.queue(&node);
                self.show(&RunEvent::NodeQueued { node, round, reason });
            }
            ServerEvent::NodeDoneAlready { from, name } => self.came_again(from, name),
            ServerEvent::NodeFailed { node, failure } => {
                if failure.again {
                    self.roster.may_return(node.id.0);
                }
                self.node_failed(node.id.0, &failure.stage, &failure.reason);
            }
            ServerEvent::NodeEvent { node, payload } => self.step(node.0, &payload),
            ServerEvent::NodeEventsLeftOut { node, so_far } => self.left_out(node.0, so_far),
            ServerEvent::Progress {
                node,
                received,
                consumed,
                buffered,
                ..
            } => self.note(NodeProgress {
                id: node.0,
                received_bytes: received,
                consumed_bytes: consumed,
                buffered_bytes: buffered,
            }),
            ServerEvent::SlowNode {
                node,
                slow,
                set_aside,
            } => self.slow(node.0, slow, set_aside),
            ServerEvent::NodeAway { .. }
            | ServerEvent::NodeRejoined { .. }
            | ServerEvent::SpoolOff { .. } => {
                self.spool(event);
            }
            // The flow itself tells these from the results it gets.
            ServerEvent::NodeReady { .. }
            | ServerEvent::StreamOpened { .. }
            | ServerEvent::StreamDone { .. }
            | ServerEvent::Reported { .. } => {}
            ServerEvent::CloneBooted { node, name, mac, .. } => {
                let id = self.roster.cloned_as(node.0, &name, mac);
                self.came_back(id, SeenBy::Beacon);
            }
            ServerEvent::NodeGone { node } => self.roster.gone(node.0),
            ServerEvent::NodeLeft { node, reason, .. } => self.left(&node, &reason),
        }
    }

    fn came_again(&mut self, from: SocketAddr, name: String) {
        let twin = self.roster.done_elsewhere(&name, from.ip());
        let addr = from.ip().to_string();
        if let Some(done) = twin {
            let text = format!(
                "{name} at {addr} has the name and hardware address of {done}, and was sent home with nothing written: if it is \
                 another machine (virtual machines are copied with their addresses), give it a name of its own (ka-client --name)"
            );
            self.show(&RunEvent::Warning { text });
        }
        self.show(&RunEvent::NodeDoneAlready { addr, name });
    }

    fn came_back(&mut self, id: u32, seen_by: SeenBy) {
        let released_at = self.released_at.get(&id).copied().unwrap_or(self.at);
        let after = self.at.saturating_sub(released_at);
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        if let Some(node) = self.roster.came_back(id, seen_by, after_ms) {
            self.show(&RunEvent::NodeBooted {
                node,
                seen_by,
                after_ms,
            });
        }
    }

    fn slow(&mut self, id: u32, slow: ka_proto::run::Slow, set_aside: bool) {
        let node = self.roster.find(id);
        let slow = slow::shown(slow);
        self.show(&RunEvent::SlowNode {
            node,
            slow,
            set_aside,
        });
    }

    /// It was never part of the run: neither done nor failed, and perhaps it comes back.
    fn left(&mut self, info: &NodeInfo, reason: &str) {
        if let Some(node) = self.roster.leave(info.id.0) {
            let text = format!("{node} left before the start: {reason}");
            self.show(&RunEvent::Warning { text });
        }
    }

    fn joined(&mut self, info: &NodeInfo, present: u32) {
        let node = self.roster.join(info);
        let (present, wanted) = (usize::try_from(present).unwrap_or(usize::MAX), self.wanted);
        self.show(&RunEvent::NodeJoined {
            node,
            present,
            wanted,
        });
    }

    /// It was never part of the run: nothing of it stays.
    fn looked(&mut self, node: &NodeInfo, plan: Result<Vec<u8>, String>) {
        let plan = plan.and_then(|payload| NodePlan::decode(&payload).map_err(|error| error.to_string()));
        let (actions, error) = match plan {
            Ok(plan) => (plan.actions, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        self.show(&RunEvent::NodeLooked {
            addr: node.addr.to_string(),
            name: node.name.clone(),
            actions,
            error,
        });
    }

    fn refused(&mut self, from: SocketAddr, reason: String) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals <= MAX_REFUSALS_SHOWN {
            self.show(&RunEvent::NodeRefused {
                addr: from.to_string(),
                reason,
            });
        } else if self.refusals == MAX_REFUSALS_SHOWN + 1 {
            let text = format!(
                "more than {MAX_REFUSALS_SHOWN} connections were refused; the next ones are not shown"
            );
            self.show(&RunEvent::Warning { text });
        }
    }

    fn left_out(&mut self, id: u32, so_far: u64) {
        if let Some(node) = self.roster.find(id) {
            let text = format!("{node} says more of its steps than is shown; left out so far: {so_far}");
            self.show(&RunEvent::Warning { text });
        }
    }

    fn step(&mut self, id: u32, payload: &[u8]) {
        let Some(node) = self.roster.find(id) else { return };
        if let Some(exec) = OperatorExec::decode(payload) {
            return self.show(&RunEvent::OperatorExec { node, exec });
        }
        let step = NodeEvent::decode(payload);
        if let Ok(step) = &step {
            self.roster.works(id, step.step);
        }
        self.show(&match step {
            Ok(step) => RunEvent::NodeStep { node, step },
            Err(error) => RunEvent::Warning {
                text: format!("{node}: {error}"),
            },
        });
    }

    fn node_failed(&mut self, id: u32, stage: &str, reason: &str) {
        let (stage, reason) = (stage.to_owned(), reason.to_owned());
        let outcome = NodeOutcome::Failed {
            stage: stage.clone(),
            reason: reason.clone(),
        };
        if let Some(node) = self.roster.settle(id, outcome) {
            self.show(&RunEvent::NodeFailed { node, stage, reason });
        }
    }

    /// An output that cannot be written any more (a closed pipe, a full disk) is dropped, and the others say so; the run
    /// goes on.
    fn show(&mut self, event: &RunEvent) {
        let mut gone = Vec::new();
        for outlet in mem::take(&mut self.outlets) {
            match outlet.push(self.at, event) {
                Ok(()) => self.outlets.push(outlet),
                Err(reason) => gone.push(reason),
            }
        }
        for text in gone {
            self.show(&RunEvent::Warning { text });
        }
    }

    fn note(&mut self, progress: NodeProgress) {
        let Some(stream) = &mut self.stream else { return };
        match stream.nodes.iter_mut().find(|node| node.id == progress.id) {
            Some(node) => *node = progress,
            None => stream.nodes.push(progress),
        }
    }

    fn progress(&mut self) {
        let Some(stream) = &self.stream else { return };
        let sent_bytes = stream.feed.sent.load(Ordering::Relaxed);
        let content = stream.feed.content.bytes();
        let content_bytes = if content == 0 { sent_bytes } else { content };
        let nodes = stream.nodes.clone();
        self.show(&RunEvent::Progress {
            sent_bytes,
            content_bytes,
            nodes,
        });
    }
}
