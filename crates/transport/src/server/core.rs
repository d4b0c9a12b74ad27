//! The task that owns a run: it feeds `ka_proto::run` with messages, commands and time, and does what it says.
//!
//! Here: commands, connections, time. Not here: accepting connections ([`super::accept`]), what the machine wants done
//! ([`super::outcome`]), the head of a stream ([`super::streams`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ka_proto::block::Cipher;
use ka_proto::run::{ConnId, Run, RunConfig, RunError};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, NodeName, Reason, RunId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::messages::{Command, Connection, Input, OpenStream, Queues, Reply, Reported, Waiting};
use super::outbox::Outbox;
use super::types::{NodeInfo, ServerConfig, ServerEvent};
use crate::error::TransportError;
use crate::key::ServerKey;
use crate::spool_dir::SpoolDir;
use crate::stream::{Door, Report};
use crate::tunnel::Tunnel;

/// How often the machine hears how far the head has come.
const HEAD_TICK: Duration = Duration::from_millis(500);
/// How long an abort waits for its messages to leave; a node that takes none will notice the end by itself.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// State of the core.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) run: Run,
    pub(super) run_id: RunId,
    pub(super) key: ServerKey,
    pub(super) cipher: Option<Cipher>,
    pub(super) window_bytes: usize,
    pub(super) link_timeout: Duration,
    pub(super) link_silence: Duration,
    /// Where streams are kept, until that fails.
    pub(super) spool: Option<SpoolDir>,
    epoch: Instant,
    pub(super) connections: HashMap<ConnId, Connection>,
    closing: Vec<JoinHandle<()>>,
    /// Which nodes asked to be released, and whether the one that joins now does.
    pub(super) wants_release: HashMap<NodeId, bool>,
    pub(super) joining_wants_release: bool,
    pub(super) gathered: Option<Result<Vec<NodeInfo>, &'static str>>,
    pub(super) waiting: Waiting,
    /// Reports of this round that nobody has asked for yet.
    pub(super) reported: Vec<Reported>,
    pub(super) open: Option<OpenStream>,
    pub(super) door: Door,
    pub(super) pump_reports: mpsc::UnboundedSender<Report>,
    from_pump: mpsc::UnboundedReceiver<Report>,
    pub(super) events: Outbox,
    pub(super) over: Option<String>,
    /// The whole run was ended, not only its round.
    pub(super) aborted: bool,
}

impl Core {
    pub(super) fn new(config: &ServerConfig, run_config: RunConfig, door: Door, events: Outbox) -> Self {
        let (pump_reports, from_pump) = mpsc::unbounded_channel();
        let mut core = Self {
            run_id: run_config.run,
            spool: config.spool.clone().filter(|_| run_config.spool),
            key: config.key.clone(),
            cipher: run_config.cipher,
            run: Run::new(run_config, Duration::ZERO),
            window_bytes: config.window_bytes,
            link_timeout: config.timeouts.link,
            link_silence: config.timeouts.link_silence,
            epoch: Instant::now(),
            connections: HashMap::new(),
            closing: Vec::new(),
            wants_release: HashMap::new(),
            joining_wants_release: false,
            gathered: None,
            waiting: Waiting::Nobody,
            reported: Vec::new(),
            open: None,
            door,
            pump_reports,
            from_pump,
            events,
            over: None,
            aborted: false,
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
            tokio::select! {
                command = queues.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(input) = queues.inputs.recv() => self.handle_input(input),
                Some(report) = self.from_pump.recv() => self.handle_report(report),
                Some(stranger) = queues.strangers.recv() => {
                    self.event(ServerEvent::Turned { from: stranger.from, reason: stranger.reason });
                }
                _ = head_tick.tick() => {
                    self.events.flush();
                    self.tell_head_progress();
                }
                () = sleep_until(timeout) => self.run.handle_timeout(self.epoch.elapsed()),
            }
            self.obey();
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Gather { reply } => {
                self.waiting = Waiting::Gather(reply);
                self.answer_gather();
            }
            Command::Prepare { payload, reply } => {
                let result = self.run.prepare(self.now(), Payload(payload));
                self.wait_for(result, reply, Waiting::Prepare);
            }
            Command::Go { reply } => {
                let result = self.run.go(self.now());
                self.wait_for(result, reply, Waiting::Go);
            }
            Command::CollectReports { each, reply } => {
                let result = self.run.collect_reports(self.now());
                self.wait_for(result, reply, |reply| Waiting::Reports { each, reply });
                self.pass_on_reports();
            }
            Command::Commit { reply } => {
                let result = self.run.commit(self.now());
                self.wait_for(result, reply, Waiting::Commit);
            }
            Command::Reject { node, reason, again } => {
                let now = self.now();
                self.run.reject(now, node, &Reason::new(reason), again);
            }
            Command::Release { stagger, reply } => {
                let result = self.run.release(self.now(), stagger);
                self.wait_for(result, reply, Waiting::Release);
            }
            Command::NextRound { grace, reply } => self.next_round(grace, reply),
            Command::MarkDone { node } => self.run.mark_done(node),
            Command::ForgetDone { mac } => self.run.forget_done(mac),
            Command::OpenStream { name, reply } => {
                let head = self.open_stream(&name);
                reply.send(head).ok();
            }
            Command::FinishStream { stream, reply } => self.finish_stream(stream, reply),
            Command::FailStream { stream, reason } => {
                // Where no node is left that takes it, the round is lost and not the run.
                if self.is_streaming(stream) {
                    self.abort(&format!("stream {stream}: {reason}"));
                }
            }
            Command::Abort { reason, reply } => {
                self.abort(&reason);
                self.obey();
                let closing = std::mem::take(&mut self.closing);
                tokio::spawn(async move {
                    timeout(FLUSH_TIME, wait_for_all(closing)).await.ok();
                    reply.send(()).ok();
                });
            }
        }
    }

    /// Remembers who waits, or says at once why it is not possible.
    fn wait_for<T>(
        &mut self,
        result: Result<(), RunError>,
        reply: Reply<T>,
        waiting: impl FnOnce(Reply<T>) -> Waiting,
    ) {
        match result {
            Ok(()) => self.waiting = waiting(reply),
            Err(error) => drop(reply.send(Err(self.describe(error)))),
        }
    }

    pub(super) fn describe(&self, error: RunError) -> TransportError {
        match (error, &self.over) {
            (_, Some(reason)) => TransportError::Aborted {
                reason: reason.clone(),
            },
            (RunError::NobodyLeft, None) => TransportError::NoNodes {
                reason: String::new(),
            },
            (RunError::WrongPhase { .. }, None) => {
                TransportError::Misuse("the server's methods were called out of order")
            }
        }
    }

    pub(super) fn answer_gather(&mut self) {
        if !matches!(self.waiting, Waiting::Gather(_)) {
            return;
        }
        let aborted = self.over.clone();
        let result = match (&self.gathered, aborted) {
            (Some(Ok(nodes)), _) => Ok(nodes.clone()),
            (Some(Err(reason)), _) => Err(TransportError::NoNodes {
                reason: format!(": {reason}"),
            }),
            (None, Some(reason)) => Err(TransportError::Aborted { reason }),
            (None, None) => return,
        };
        if let Waiting::Gather(reply) = std::mem::replace(&mut self.waiting, Waiting::Nobody) {
            reply.send(result).ok();
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
                self.joining_wants_release = join.wants_release;
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
                self.close(conn);
                self.run.handle_closed(now, conn, &reason);
            }
        }
    }

    /// A way for an operator at `from` to the node that is called so.
    fn tunnel(&self, wanted: &str, from: SocketAddr) -> Result<(NodeName, Tunnel), Reason> {
        let (node, conn) = self.run.find(wanted)?;
        let connection = self.connections.get(&conn);
        let gone = || Reason::new(format!("{} is not connected", node.name));
        let tunnel = connection.ok_or_else(gone)?.tunnels.open(from)?;
        Ok((node.name, tunnel))
    }

    /// Begins the next round; the answer is that of a gathering.
    fn next_round(&mut self, grace: Duration, reply: Reply<Vec<NodeInfo>>) {
        let keys = super::start::run_keys();
        if self.aborted {
            let reason = self.over.clone().unwrap_or_default();
            return drop(reply.send(Err(TransportError::Aborted { reason })));
        }
        self.over = None;
        self.reported.clear();
        let begun = keys.and_then(|(run, run_key)| {
            let begun = self.run.next_round(self.now(), run, run_key, grace);
            begun
                .map(|()| self.run_id = run)
                .map_err(|error| self.describe(error))
        });
        match begun {
            Ok(()) => {
                self.gathered = None;
                self.waiting = Waiting::Gather(reply);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn abort(&mut self, reason: &str) {
        self.aborted = true;
        self.over.get_or_insert_with(|| reason.to_owned());
        self.run.abort(self.now(), &Reason::new(reason));
    }

    /// The writer sends what is queued and closes; the reader ends with the connection.
    pub(super) fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.remove(&conn) {
            self.closing.retain(|writer| !writer.is_finished());
            self.closing.push(connection.writer);
        }
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
