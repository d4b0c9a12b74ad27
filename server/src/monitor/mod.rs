//! The one place that all events of a run pass. The run reports its own steps, a thread brings the events of
//! the transport, and all go to the views in order.

mod outlet;
mod progress;
mod questions;
mod refusals;
mod roster;
mod run_events;
#[cfg(test)]
mod tests;
mod works;

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use ka_mac::MacAddr;
use ka_proto::Reason;
use ka_proto::order::Crossings;
use ka_proto::run::{self, NodeInfo};
use ka_proto::via::Work;
use ka_proto::wire::Payload;
use ka_report::boot::SeenBy;
use ka_report::event::NodeEvent;
use ka_report::exec::OperatorExec;
use ka_report::report::{NodePlan, NodeReport};
use ka_report::run::{NodeProgress, NodeRef, RunEvent};
use ka_report::summary::{NodeOutcome, NodeSummary, StreamTotals};
use ka_transport::{Approvals, ServerEvent};
use ka_view::View;

use crate::approve::Questions;
use crate::unfinished::Done;
use outlet::Outlet;
pub(crate) use progress::FeedProgress;
use progress::RunningStream;
use questions::ShownQuestions;
use refusals::Refusals;
use roster::{Asking, Roster};
use works::Works;

/// Interval of progress events. They stay readable on a screen, and few beside the data in a JSON log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Most events that one caller takes in. A flood of events must not keep the run in here.
const MAX_TAKEN: usize = 4 << 10;

/// The views of a run, and the memory of its nodes.
///
/// Each call first takes in all events that the transport has reported until then. So the words of a node are
/// shown before the steps that follow them.
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
    refusals: Refusals,
    questions: ShownQuestions,
    works: Works,
    /// Time since the run began, as of the last call.
    at: Duration,
    /// Time of each node's release, by the node's number.
    released_at: BTreeMap<u32, Duration>,
    /// True if the transport has ended and reports nothing more.
    is_over: bool,
}

impl Monitor {
    /// Returns the monitor of a run that begins now. Each view comes with its name in warnings.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn new(
        views: Vec<(String, Box<dyn View>)>,
        wanted: Option<u32>,
        events: Receiver<ServerEvent>,
        approvals: Approvals,
    ) -> std::io::Result<Arc<Self>> {
        let started = Instant::now();
        let outlets = views
            .into_iter()
            .map(|(name, view)| Outlet::open(&name, view, started));
        let state = State {
            outlets: outlets.collect::<std::io::Result<_>>()?,
            wanted,
            questions: ShownQuestions::of(approvals),
            ..State::default()
        };
        let questions = state.questions.seen();
        Ok(Arc::new(Self {
            started,
            events,
            questions,
            state: Mutex::new(state),
        }))
    }

    /// Returns the questions about nodes that have been shown.
    pub(crate) fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// Waits until every output has written everything, but no longer than `limit`. An output without a
    /// reader must not keep the run from its end.
    pub(crate) fn drain(&self, limit: Duration) {
        let until = Instant::now() + limit;
        for outlet in &self.up_to_date().outlets {
            outlet.drain(until);
        }
    }

    /// Returns the time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows an event.
    pub(crate) fn emit(&self, event: &RunEvent) {
        self.up_to_date().show(event);
    }

    /// Shows the chain in its order, with its crossings between switches.
    pub(crate) fn lets_go(&self, infos: &[NodeInfo], crossings: Crossings) {
        let mut state = self.up_to_date();
        let nodes = state.roster.order(infos);
        let wiring: Vec<_> = infos.iter().map(|info| info.wiring.clone()).collect();
        state.show(&RunEvent::LetsGo {
            nodes,
            wiring,
            crossings,
        });
    }

    /// Adds the nodes that an earlier process of this run saw done.
    pub(crate) fn know_done(&self, done: &[Done]) -> Vec<NodeRef> {
        let mut state = self.up_to_date();
        (1..)
            .zip(done)
            .map(|(id, done)| state.roster.know_done(id, done))
            .collect()
    }

    /// Returns the node with this number, as the views know it.
    pub(crate) fn node(&self, id: u32) -> Option<NodeRef> {
        self.up_to_date().roster.find(id)
    }

    /// Settles a node as failed and shows this. Only the first report of a node's failure counts.
    pub(crate) fn node_failed(&self, id: u32, stage: &str, reason: &str) {
        self.up_to_date().node_failed(id, stage, reason);
    }

    /// Takes in an event of the run.
    pub(crate) fn node_failed_by(&self, id: u32, failure: &run::Failure) {
        self.node_failed(id, &failure.stage.to_string(), failure.reason.as_str());
    }

    /// Settles a node as failed, even if it was done before.
    pub(crate) fn node_revoked(&self, id: u32, stage: &str, reason: &str) {
        let mut state = self.up_to_date();
        state.roster.revoke(id);
        state.node_failed(id, stage, reason);
    }

    /// Records that a failed node may come back.
    pub(crate) fn may_return(&self, id: u32) {
        self.up_to_date().roster.may_return(id);
    }

    /// Settles a node as done and compared.
    pub(crate) fn node_done(&self, id: u32, report: NodeReport) {
        let mut state = self.up_to_date();
        state.works.ended(id);
        if let Some(node) = state.roster.settle(
            id,
            NodeOutcome::Done {
                report: report.clone(),
            },
        ) {
            state.show(&RunEvent::NodeDone { node, report });
        }
    }

    /// Begins a stream. Progress events come from now on.
    pub(crate) fn stream_started(
        &self,
        session: &str,
        what: &str,
        expected_bytes: Option<u64>,
    ) -> Arc<FeedProgress> {
        let feed = Arc::new(FeedProgress::default());
        let mut state = self.up_to_date();
        state.stream = Some(RunningStream::new(Arc::clone(&feed), expected_bytes));
        let (session, what) = (session.to_owned(), what.to_owned());
        state.show(&RunEvent::SessionStarted {
            session,
            what,
            expected_bytes,
        });
        feed
    }

    /// Ends the stream and shows its totals.
    pub(crate) fn stream_ended(&self, totals: &StreamTotals) {
        let mut state = self.up_to_date();
        state.progress();
        state.stream = None;
        state.show(&RunEvent::SessionEnded {
            totals: totals.clone(),
        });
    }

    /// Ends the run for all nodes that have no outcome yet. Returns every node with its outcome.
    pub(crate) fn settle_all(&self, stage: &str, reason: &str) -> Vec<NodeSummary> {
        let mut state = self.up_to_date();
        for node in state.roster.unsettled() {
            state.node_failed(node.id, stage, reason);
        }
        state.roster.summaries()
    }

    /// Returns the work of a node, if it is at work.
    pub(crate) fn work_of(&self, id: u32) -> Option<Work> {
        let state = self.up_to_date();
        let sent = state.stream.as_ref().map(RunningStream::sent);
        state.works.of(state.at, id, sent)
    }

    /// Records a node's MAC address, which the node did not give itself.
    pub(crate) fn learn_mac(&self, id: u32, mac: MacAddr) {
        self.up_to_date().roster.learn_mac(id, mac);
    }

    /// Ends the round. Shows the nodes for another one, if there are any or some may come back within
    /// `grace`.
    pub(crate) fn round_ended(&self, round: u32, grace: Duration) {
        let mut state = self.up_to_date();
        // The places are counted among those of a round, and the next round waits for no fixed number of
        // nodes.
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

    /// True if every node of this round has failed or is done.
    pub(crate) fn nobody_left(&self) -> bool {
        self.up_to_date().roster.unsettled().is_empty()
    }

    /// Records the release of the nodes. Those that are done are expected to boot from their own disks.
    pub(crate) fn expect_boots(&self, done: &[NodeInfo]) {
        let mut state = self.up_to_date();
        let at = state.at;
        for node in done {
            state.released_at.entry(node.id.0).or_insert(at);
        }
        state.roster.expect_boots();
    }

    /// Shows that the run waits for the clones that have not come back yet.
    pub(crate) fn wait_for_boots(&self, wait: Duration) {
        let mut state = self.up_to_date();
        state.refusals.await_boots();
        let (nodes, secs) = (state.roster.missing_boots(), wait.as_secs());
        state.show(&RunEvent::WaitingForBoots { nodes, secs });
    }

    /// Returns the number of nodes that wait for the next round.
    pub(crate) fn waiting(&self) -> usize {
        self.up_to_date().roster.waiting()
    }

    /// Returns the number of clones that have not been seen yet.
    pub(crate) fn missing_boots(&self) -> usize {
        self.up_to_date().roster.missing_boots()
    }

    /// Takes in that a possible operating system asks for an address on the machine with this MAC address. If
    /// clones report their first boot by a beacon, this proves nothing: the clone is on its way at best.
    /// Otherwise it is the clone if it gives the clone's name after the node has gone. Firmware, a management
    /// board or the system of another disk does not.
    pub(crate) fn system_asks(&self, mac: MacAddr, host_name: Option<&str>) {
        let mut state = self.up_to_date();
        let Some(id) = state.roster.id_of(mac) else { return };
        match state.roster.asks_for_address(id, host_name) {
            Asking::Proof => state.came_back(id, SeenBy::Dhcp),
            Asking::ComingUp(node) => state.show(&RunEvent::NodeComingUp { node }),
            Asking::Nothing => {}
        }
    }

    /// Starts the thread that takes in the transport's events. It ends when the server is dropped.
    ///
    /// # Errors
    /// A thread cannot be started.
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
            // An event and the end of the wait need the same work, which follows.
            let is_due = waiting.ready_deadline(next_progress).is_err();
            let mut state = self.up_to_date();
            if state.is_over {
                return;
            }
            state.settle_questions();
            if is_due || Instant::now() >= next_progress {
                next_progress = Instant::now() + PROGRESS_INTERVAL;
                state.progress();
            }
        }
    }

    /// Returns the state after all events that the transport has reported. A view that panicked while it held
    /// the lock leaves nothing half done that matters here.
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
            ServerEvent::Run(event) => self.run_event(event),
            ServerEvent::ApprovalWanted(wanted) => {
                self.questions.add(&wanted);
                self.show(&RunEvent::ApprovalWanted {
                    request: wanted.request,
                    name: wanted.name,
                    addr: wanted.addr.ip().to_string(),
                    mac: wanted.mac.map(|mac| mac.to_string()),
                    code: wanted.code,
                    limit_secs: wanted.limit.as_secs(),
                });
            }
            ServerEvent::ConnectionRefused { from, name, reason } => {
                self.refused(from, name.map(|name| name.to_string()), reason);
            }
            ServerEvent::SpoolOff { reason } => self.show(&RunEvent::SpoolOff { reason }),
            ServerEvent::Transport {
                multicast,
                nodes,
                text,
            } => {
                let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
                let (multicast, nodes) = (count(multicast), count(nodes));
                self.show(&RunEvent::Transport {
                    multicast,
                    nodes,
                    text,
                });
            }
            ServerEvent::CloneBooted { node, name, mac, .. } => {
                let id = self.roster.cloned_as(node.0, &name, mac);
                self.came_back(id, SeenBy::Beacon);
            }
            ServerEvent::LeftOut { events } => self.show(&RunEvent::Warning {
                text: format!("{events} messages of nodes about their steps and progress came too fast and are not shown"),
            }),
        }
    }

    /// Tells the views which of the shown questions are over.
    fn settle_questions(&mut self) {
        for request in self.questions.take_settled() {
            self.show(&RunEvent::ApprovalSettled { request });
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

    /// Shows that a node left before the run. It was never part of it, neither done nor failed, and may come
    /// back.
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
        self.wired(info);
    }

    /// Shows the switch port of a node, if it has heard of one.
    fn wired(&mut self, info: &NodeInfo) {
        if let Some(wiring) = &info.wiring {
            let text = format!("{} ({}) is plugged into {wiring}", info.name, info.addr.ip());
            self.show(&RunEvent::Detail { text });
        }
    }

    /// Shows the plan of a node that only looked. It was never part of the run and leaves nothing in it.
    fn looked(&mut self, node: &NodeInfo, plan: Result<Payload, Reason>) {
        let plan = plan.map_err(|reason| reason.to_string());
        let plan = plan.and_then(|payload| NodePlan::decode(&payload.0).map_err(|error| error.to_string()));
        let (actions, error) = match plan {
            Ok(plan) => (plan.actions, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        self.show(&RunEvent::NodeLooked {
            addr: node.addr.ip().to_string(),
            name: node.name.to_string(),
            actions,
            error,
        });
    }

    fn refused(&mut self, from: SocketAddr, name: Option<String>, reason: String) {
        if let Some(event) = self.refusals.take(from.ip(), name, reason) {
            self.show(&event);
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
            self.works.step(self.at, id, step);
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
        self.works.ended(id);
        if let Some(node) = self.roster.settle(id, outcome) {
            self.show(&RunEvent::NodeFailed { node, stage, reason });
        }
    }

    /// Sends an event to every output. An output that cannot be written any more (a closed pipe, a full disk)
    /// is dropped, the others report that, and the run goes on.
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
        self.works.progress(self.at, &progress);
        if let Some(stream) = &mut self.stream {
            stream.note(progress);
        }
    }

    fn progress(&mut self) {
        if let Some(event) = self.stream.as_ref().map(RunningStream::event) {
            self.show(&event);
        }
    }
}
