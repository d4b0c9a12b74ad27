//! The one place where everything that happens comes together: the flow tells it what it does, a thread brings
//! what the transport reports, and all of it goes to the views in order.

use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use ka_image::Progress;
use ka_status::event::NodeEvent;
use ka_status::report::NodeReport;
use ka_status::run::{NodeProgress, NodeRef, RunEvent};
use ka_status::summary::{NodeOutcome, NodeSummary, StreamTotals};
use ka_status::view::View;
use ka_transport::{NodeInfo, ServerEvent};

use crate::roster::Roster;

/// Between two progress events: readable on a screen, and small beside the data in a JSON log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Refused connections shown one by one; a port scanner must not push the nodes' own lines away.
const MAX_REFUSALS_SHOWN: u32 = 50;

/// How far the running stream is on the server's side; written by the feed, read for progress.
#[derive(Debug, Default)]
pub(crate) struct FeedProgress {
    /// Bytes given to the chain.
    pub(crate) sent: AtomicU64,
    /// Content read by the image crate; stays zero where there is no such thing (`-e`).
    pub(crate) content: Progress,
}

/// Shows a run and remembers its nodes.
pub(crate) struct Monitor {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    views: Vec<Box<dyn View>>,
    roster: Roster,
    wanted: Option<u32>,
    stream: Option<RunningStream>,
    refusals: u32,
}

struct RunningStream {
    feed: Arc<FeedProgress>,
    nodes: Vec<NodeProgress>,
}

impl Monitor {
    /// A monitor of a run that begins now.
    pub(crate) fn new(views: Vec<Box<dyn View>>, wanted: Option<u32>) -> Arc<Self> {
        let state = State {
            views,
            wanted,
            ..State::default()
        };
        Arc::new(Self {
            started: Instant::now(),
            state: Mutex::new(state),
        })
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows an event.
    pub(crate) fn emit(&self, event: &RunEvent) {
        self.lock().show(self.elapsed(), event);
    }

    /// The chain is ordered.
    pub(crate) fn lets_go(&self, infos: &[NodeInfo]) {
        let mut state = self.lock();
        let nodes = state.roster.order(infos);
        state.show(self.elapsed(), &RunEvent::LetsGo { nodes });
    }

    /// The node with this number, as the views know it.
    pub(crate) fn node(&self, id: u32) -> Option<NodeRef> {
        self.lock().roster.find(id)
    }

    /// A node is out. Said once, whoever says it first.
    pub(crate) fn node_failed(&self, id: u32, stage: &str, reason: &str) {
        let mut state = self.lock();
        let (stage, reason) = (stage.to_owned(), reason.to_owned());
        let outcome = NodeOutcome::Failed {
            stage: stage.clone(),
            reason: reason.clone(),
        };
        if let Some(node) = state.roster.settle(id, outcome) {
            state.show(self.elapsed(), &RunEvent::NodeFailed { node, stage, reason });
        }
    }

    /// A node is done and compared.
    pub(crate) fn node_done(&self, id: u32, report: NodeReport) {
        let mut state = self.lock();
        if let Some(node) = state.roster.settle(
            id,
            NodeOutcome::Done {
                report: report.clone(),
            },
        ) {
            state.show(self.elapsed(), &RunEvent::NodeDone { node, report });
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
        let mut state = self.lock();
        state.stream = Some(RunningStream {
            feed: Arc::clone(&feed),
            nodes: Vec::new(),
        });
        let (session, what) = (session.to_owned(), what.to_owned());
        state.show(
            self.elapsed(),
            &RunEvent::SessionStarted {
                session,
                what,
                expected_bytes,
            },
        );
        feed
    }

    /// The stream is through.
    pub(crate) fn stream_ended(&self, totals: &StreamTotals) {
        let mut state = self.lock();
        state.progress(self.elapsed());
        state.stream = None;
        state.show(
            self.elapsed(),
            &RunEvent::SessionEnded {
                totals: totals.clone(),
            },
        );
    }

    /// Ends the run for all nodes that have no outcome yet, and gives every node with its outcome.
    pub(crate) fn settle_all(&self, stage: &str, reason: &str) -> Vec<NodeSummary> {
        let open = self.lock().roster.unsettled();
        for node in open {
            self.node_failed(node.id, stage, reason);
        }
        self.lock().roster.summaries()
    }

    /// Starts the thread that takes in what the transport reports. It ends when the server is dropped.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn watch(self: &Arc<Self>, events: Receiver<ServerEvent>) -> std::io::Result<JoinHandle<()>> {
        let monitor = Arc::clone(self);
        std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || monitor.pump(&events))
    }

    fn pump(&self, events: &Receiver<ServerEvent>) {
        let mut next_progress = Instant::now() + PROGRESS_INTERVAL;
        loop {
            match events.recv_deadline(next_progress) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_progress {
                next_progress = Instant::now() + PROGRESS_INTERVAL;
                self.lock().progress(self.elapsed());
            }
        }
    }

    fn take(&self, event: ServerEvent) {
        match event {
            ServerEvent::NodeJoined { node, present } => self.joined(&node, present),
            ServerEvent::Turned { from, reason } => self.refused(from, reason),
            ServerEvent::NodeFailed { node, failure } => {
                self.node_failed(node.id.0, &failure.stage, &failure.reason);
            }
            ServerEvent::NodeEvent { node, payload } => self.step(node.0, &payload),
            ServerEvent::Progress {
                node,
                received,
                consumed,
                buffered,
                ..
            } => {
                let progress = NodeProgress {
                    id: node.0,
                    received_bytes: received,
                    consumed_bytes: consumed,
                    buffered_bytes: buffered,
                };
                self.lock().note(progress);
            }
            // The flow itself tells these from the results it gets.
            ServerEvent::NodeReady { .. }
            | ServerEvent::StreamOpened { .. }
            | ServerEvent::StreamDone { .. }
            | ServerEvent::Reported { .. }
            | ServerEvent::NodeLeft { .. } => {}
        }
    }

    fn joined(&self, info: &NodeInfo, present: u32) {
        let mut state = self.lock();
        let node = state.roster.join(info);
        let wanted = state.wanted;
        let present = usize::try_from(present).unwrap_or(usize::MAX);
        state.show(
            self.elapsed(),
            &RunEvent::NodeJoined {
                node,
                present,
                wanted,
            },
        );
    }

    fn refused(&self, from: SocketAddr, reason: String) {
        let mut state = self.lock();
        state.refusals = state.refusals.saturating_add(1);
        if state.refusals <= MAX_REFUSALS_SHOWN {
            state.show(
                self.elapsed(),
                &RunEvent::NodeRefused {
                    addr: from.to_string(),
                    reason,
                },
            );
        } else if state.refusals == MAX_REFUSALS_SHOWN + 1 {
            let text = format!(
                "more than {MAX_REFUSALS_SHOWN} connections were refused; the next ones are not shown"
            );
            state.show(self.elapsed(), &RunEvent::Warning { text });
        }
    }

    fn step(&self, id: u32, payload: &[u8]) {
        let mut state = self.lock();
        let Some(node) = state.roster.find(id) else { return };
        let event = match NodeEvent::decode(payload) {
            Ok(step) => RunEvent::NodeStep { node, step },
            Err(error) => RunEvent::Warning {
                text: format!("{node}: {error}"),
            },
        };
        state.show(self.elapsed(), &event);
    }

    /// A view that panicked while it held the lock leaves nothing half done that matters here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A view that cannot write any more (a closed pipe, a full disk) is dropped; the run goes on.
    fn show(&mut self, at: Duration, event: &RunEvent) {
        for mut view in mem::take(&mut self.views) {
            match view.handle(at, event) {
                Ok(()) => self.views.push(view),
                Err(error) => tracing::warn!(%error, "an output of the run is gone"),
            }
        }
    }

    fn note(&mut self, progress: NodeProgress) {
        let Some(stream) = &mut self.stream else { return };
        match stream.nodes.iter_mut().find(|node| node.id == progress.id) {
            Some(node) => *node = progress,
            None => stream.nodes.push(progress),
        }
    }

    fn progress(&mut self, at: Duration) {
        let Some(stream) = &self.stream else { return };
        let sent_bytes = stream.feed.sent.load(Ordering::Relaxed);
        let content = stream.feed.content.bytes();
        let content_bytes = if content == 0 { sent_bytes } else { content };
        let nodes = stream.nodes.clone();
        self.show(
            at,
            &RunEvent::Progress {
                sent_bytes,
                content_bytes,
                nodes,
            },
        );
    }
}
