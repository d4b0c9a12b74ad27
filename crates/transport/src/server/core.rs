//! The task that owns a run. It feeds `ka_proto::run` with messages, commands and time, and carries out its
//! outputs.
//!
//! Here: commands, inputs, time. [`super::outcome`] carries out the outputs. The parts own their state:
//! [`super::connections`] the nodes' connections, [`super::call`] the facade's call that waits,
//! [`super::streams`] the open stream with its branches. [`super::accept`] lets nodes in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ka_proto::control::Side;
use ka_proto::run::{NodeInfo, Run, RunConfig, RunError};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, NodeName, Reason, RunId, StreamId, StreamName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::call::{Call, PendingCall};
use super::connections::Connections;
use super::messages::{Command, Input, Queues, Reply};
use super::outbox::Outbox;
use super::probes::Probes;
use super::streams::Streams;
use super::types::{ServerConfig, ServerEvent};
use crate::error::TransportError;
use crate::stream::{Head, LinkListener, PumpEvent, PumpReport, Stranger};
use crate::tunnel::Tunnel;

/// Time between two reports of the head's progress to the machine.
const HEAD_TICK: Duration = Duration::from_millis(500);
/// Time that an abort waits for its messages to leave; a node that takes none will notice the end by itself.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The end of a round or of the whole run, if it has come.
#[derive(Debug)]
enum Ending {
    /// A round goes on, or nothing has begun yet.
    Running,
    /// This round is over for the given reason; another may begin.
    RoundOver(String),
    /// The whole run was ended for the given reason.
    RunOver(String),
}

impl Ending {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Running => None,
            Self::RoundOver(reason) | Self::RunOver(reason) => Some(reason),
        }
    }

    /// The round is over; an earlier reason stays.
    fn end_round(&mut self, reason: &str) {
        if let Self::Running = self {
            *self = Self::RoundOver(reason.to_owned());
        }
    }

    /// The run is over; an earlier reason stays.
    fn end_run(&mut self, reason: &str) {
        let reason = self.reason().unwrap_or(reason).to_owned();
        *self = Self::RunOver(reason);
    }

    /// Another round begins.
    ///
    /// # Errors
    /// The reason why the run is over.
    fn begin_round(&mut self) -> Result<(), String> {
        if let Self::RunOver(reason) = self {
            return Err(reason.clone());
        }
        *self = Self::Running;
        Ok(())
    }
}

/// The run machine, and the parts that carry out its outputs. Everything happens in [`Core::serve`], one step
/// at a time: an input goes to the machine, then [`Core::obey`] carries out the outputs. Nothing here waits.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) run: Run,
    pub(super) run_id: RunId,
    epoch: Instant,
    pub(super) connections: Connections,
    pub(super) call: PendingCall,
    pub(super) streams: Streams,
    from_pumps: mpsc::UnboundedReceiver<PumpReport>,
    pub(super) probes: Probes,
    pub(super) events: Outbox,
    ending: Ending,
}

impl Core {
    pub(super) fn new(
        config: &ServerConfig,
        run_config: RunConfig,
        listener: LinkListener,
        events: Outbox,
    ) -> Self {
        let (reports, from_pumps) = mpsc::unbounded_channel();
        let spool_dir = config.spool.clone().filter(|_| run_config.spool);
        let mut core = Self {
            run_id: run_config.run,
            streams: Streams::new(config, run_config.cipher, spool_dir, listener, reports),
            run: Run::new(run_config, Duration::ZERO),
            epoch: Instant::now(),
            connections: Connections::default(),
            call: PendingCall::default(),
            from_pumps,
            probes: Probes::new(config.transport),
            events,
            ending: Ending::Running,
        };
        for identity in &config.done {
            core.run.remember_done(identity.clone());
        }
        core
    }

    /// Runs until the facade is gone.
    pub(super) async fn serve(mut self, mut queues: Queues) {
        let mut head_tick = tokio::time::interval(HEAD_TICK);
        loop {
            let timeout = self
                .run
                .poll_timeout()
                .map(|at| tokio::time::Instant::from_std(self.epoch + at));
            let probe = self.probes.due();
            let probe = probe.map(|at| tokio::time::Instant::from_std(self.epoch + at));
            tokio::select! {
                command = queues.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(input) = queues.inputs.recv() => self.handle_input(input),
                Some(report) = self.from_pumps.recv() => self.handle_report(report),
                step = self.probes.next_step() => self.handle_probe_step(step),
                Some(stranger) = queues.strangers.recv() => {
                    let Stranger { from, name, reason } = stranger;
                    self.event(ServerEvent::ConnectionRefused { from, name, reason });
                }
                _ = head_tick.tick() => {
                    self.events.flush();
                    self.tell_head_progress();
                }
                () = sleep_until(timeout) => self.run.handle_timeout(self.epoch.elapsed()),
                () = sleep_until(probe) => self.probe_early(),
            }
            self.obey();
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Gather { reply } => self.call.gather(reply, self.ending.reason()),
            Command::Prepare { payload, reply } => {
                let result = self.run.prepare(self.now(), Payload(payload));
                self.wait_for(result, reply, Call::Prepare);
            }
            Command::Go { reply } => {
                let result = self.run.go(self.now());
                self.wait_for(result, reply, Call::Go);
            }
            Command::CollectReports { each, reply } => {
                let result = self.run.collect_reports(self.now());
                self.wait_for(result, reply, |reply| Call::Reports { each, reply });
            }
            Command::Commit { reply } => {
                let result = self.run.commit(self.now());
                self.wait_for(result, reply, Call::Commit);
            }
            Command::Reject { node, reason, again } => {
                let now = self.now();
                self.run.reject(now, node, &Reason::new(reason), again);
            }
            Command::Release { stagger, reply } => {
                let result = self.run.release(self.now(), stagger);
                self.wait_for(result, reply, Call::Release);
            }
            Command::NextRound { grace, reply } => self.next_round(grace, reply),
            Command::MarkDone { node } => self.run.mark_done(node),
            Command::ForgetDone { mac } => self.run.forget_done(mac),
            Command::SetWiring { wiring } => self.run.set_golden_wiring(wiring),
            Command::OpenStream { name, reply } => {
                let head = self.open_stream(&name);
                reply.send(head).ok();
            }
            Command::FinishStream { stream, reply } => {
                if self.streams.finish(stream, reply, self.ending.reason()) {
                    self.tell_head_progress();
                }
            }
            Command::FailStream { stream, reason } => {
                // Where no node is left that takes it, the round is lost and not the run.
                if self.streams.is_running(stream) {
                    self.abort(&format!("stream {stream}: {reason}"));
                }
            }
            Command::Abort { reason, reply } => {
                self.abort(&reason);
                self.obey();
                let closing = self.connections.take_closing();
                tokio::spawn(async move {
                    timeout(FLUSH_TIME, wait_for_all(closing)).await.ok();
                    reply.send(()).ok();
                });
            }
        }
    }

    fn wait_for<T>(
        &mut self,
        result: Result<(), RunError>,
        reply: Reply<T>,
        call: impl FnOnce(Reply<T>) -> Call,
    ) {
        let result = result.map_err(|error| self.describe(error));
        self.call.begin(result, reply, call);
    }

    fn describe(&self, error: RunError) -> TransportError {
        match (error, self.ending.reason()) {
            (_, Some(reason)) => TransportError::Aborted {
                reason: reason.to_owned(),
            },
            (RunError::NobodyLeft, None) => TransportError::NoNodes {
                reason: String::new(),
            },
            (RunError::WrongPhase { .. }, None) => {
                TransportError::Misuse("the server's methods were called out of order")
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Joined {
                conn,
                join,
                local,
                remote,
                connection,
            } => {
                self.connections.insert(conn, connection);
                self.run.handle_join(now, conn, *join, local, remote);
            }
            Input::Roll { reply } => drop(reply.send(self.run.roll())),
            Input::Tunnel { wanted, from, reply } => drop(reply.send(self.tunnel(&wanted, from))),
            Input::Message {
                conn,
                message,
                share: _share,
            } => self.run.handle_message(now, conn, message),
            Input::Closed { conn, reason } => {
                self.connections.close(conn);
                self.run.handle_closed(now, conn, &reason);
            }
        }
    }

    /// Returns a way for an operator at `from` to the node that is called so.
    fn tunnel(&self, wanted: &str, from: SocketAddr) -> Result<(NodeName, Tunnel), Reason> {
        let (node, conn) = self.run.find(wanted)?;
        let tunnel = self.connections.tunnel(conn, &node.name, from)?;
        Ok((node.name, tunnel))
    }

    fn open_stream(&mut self, name: &StreamName) -> Result<Head, TransportError> {
        let head = self.run.open_stream(self.now(), name);
        let head = head.map_err(|error| self.describe(error))?;
        let link_key = self.run.link_key(head.stream, head.successor, NodeId::SERVER);
        let spooled = match self.streams.begin_spool(self.run_id, &head, name) {
            Ok(spooled) => spooled,
            Err(reason) => {
                self.end_spool(&reason);
                None
            }
        };
        let nodes = self.run.nodes();
        let nodes = nodes.iter().filter(|(_, failure)| failure.is_none()).count();
        let opened = self
            .streams
            .open(self.run_id, head, link_key, (name, nodes), spooled)?;
        Ok(opened)
    }

    /// Feeds `node` from the spool, as soon as it comes.
    pub(super) fn open_branch(&mut self, stream: StreamId, node: NodeId) {
        self.streams.close_branch(stream, node);
        let link_key = self.run.link_key(stream, node, NodeId::SERVER);
        if let Err(error) = self.streams.open_branch(stream, node, link_key) {
            self.end_spool(&error.to_string());
        }
    }

    /// From here on nothing is spooled; said once.
    fn end_spool(&mut self, reason: &str) {
        if !self.streams.end_spool(reason) {
            return;
        }
        self.event(ServerEvent::SpoolOff {
            reason: reason.to_owned(),
        });
        let reason = Reason::new(format!("the server keeps the stream no longer: {reason}"));
        self.run.handle_spool_lost(self.now(), &reason);
    }

    /// A pump has reported.
    fn handle_report(&mut self, report: PumpReport) {
        let (now, stream) = (self.now(), report.stream);
        if let Some(branch) = report.branch {
            if self.streams.handle_branch_report(stream, branch, &report.what) {
                self.run.handle_branch_lost(now, stream, branch.node);
            }
            return;
        }
        match report.what {
            // This matters for a stream that is over, too, because the disk is still full.
            PumpEvent::SpoolOff { reason } => self.end_spool(&reason),
            PumpEvent::LinkLost {
                side: Side::Downstream,
                offset,
                reason,
            } => self.run.handle_head_link_lost(now, stream, offset, &reason),
            PumpEvent::GroupLeave { node, reason } => {
                self.run
                    .handle_group_leave(now, stream, node, &Reason::new(reason));
            }
            PumpEvent::GroupEnded { reason } => {
                self.run.handle_group_ended(now, stream, &Reason::new(reason));
            }
            PumpEvent::Failed { reason, .. } if self.streams.is_running(stream) => {
                self.abort(&format!("stream {stream}: {reason}"));
            }
            _ => {}
        }
    }

    fn tell_head_progress(&mut self) {
        let now = self.now();
        if let Some(head) = self.streams.take_progress() {
            self.run
                .handle_head_pace(now, head.stream, head.produced, head.pace);
            self.run
                .handle_head_progress(now, head.stream, head.produced, head.ended);
        }
    }

    /// Begins the next round; the answer is that of a gathering.
    fn next_round(&mut self, grace: Duration, reply: Reply<Vec<NodeInfo>>) {
        if let Err(reason) = self.ending.begin_round() {
            return drop(reply.send(Err(TransportError::Aborted { reason })));
        }
        self.call.forget_reports();
        let begun = super::types::run_keys().and_then(|(run, run_key)| {
            let begun = self.run.next_round(self.now(), run, run_key, grace);
            begun
                .map(|()| self.run_id = run)
                .map_err(|error| self.describe(error))
        });
        match begun {
            Ok(()) => {
                self.call.begin_round();
                self.call.gather(reply, None);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Ends the run for every node.
    fn abort(&mut self, reason: &str) {
        self.ending.end_run(reason);
        self.run.abort(self.now(), &Reason::new(reason));
    }

    /// Ends the round by the machine's word. No caller waits for it any more.
    pub(super) fn end_round(&mut self) {
        self.ending.end_round("the run is over");
        self.probes.end_round();
        self.streams.set_group(None);
        let reason = self.ending.reason().unwrap_or_default();
        self.streams.abort(reason);
        self.call.end(reason);
    }
}

async fn wait_for_all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        // A writer that panicked is over as well.
        task.await.ok();
    }
}

/// Waits until then, or for ever.
pub(crate) async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_is_over_lets_another_begin_and_a_run_that_is_over_does_not() {
        let mut ending = Ending::Running;
        ending.end_round("nobody is left");
        assert_eq!(ending.reason(), Some("nobody is left"));
        assert_eq!(ending.begin_round(), Ok(()));
        assert_eq!(ending.reason(), None);
        ending.end_run("Ctrl-C");
        ending.end_round("the run is over");
        assert_eq!(ending.begin_round(), Err("Ctrl-C".to_owned()));
    }

    #[test]
    fn the_first_reason_is_the_one_that_is_told() {
        let mut ending = Ending::Running;
        ending.end_round("first");
        ending.end_run("second");
        assert_eq!(ending.begin_round(), Err("first".to_owned()));
    }
}
