//! The task that owns a node's control connection: it feeds `ka_proto::node` with messages, the node's own answers and
//! time, and does what it says.
//!
//! Not here: streams ([`super::streams`]), the connection's tasks ([`super::connection`]).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ka_proto::auth::ServerPublicKey;
use ka_proto::control::{Stage, ToNode};
use ka_proto::limits::MAX_ANSWER;
use ka_proto::node::{Ending, Node as Machine, NodeOutput, Order as MachineOrder, WrongPhase};
use ka_proto::pace::Taker;
use ka_proto::wire::Payload;
use ka_proto::{NodeId, Reason, RunId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::aborts::Aborts;
use super::connection::{Answer, Command, Connection, FLUSH_TIME};
use super::streams::Open;
use super::types::{NodeConfig, Order};
use crate::error::TransportError;
use crate::server::MAX_EVENT_BYTES;
use crate::stream::{Door, Input as PumpInput, Report, Stranger, Threads};

/// How often the server hears how far a stream is, while it moves.
const PROGRESS_TICK: Duration = Duration::from_millis(500);

/// State of the core.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) machine: Machine,
    pub(super) run: RunId,
    pub(super) me: NodeId,
    pub(super) server_key: ServerPublicKey,
    pub(super) local: Option<IpAddr>,
    pub(super) window_bytes: usize,
    pub(super) taker: Taker,
    pub(super) threads: Threads,
    epoch: Instant,
    connection: Option<Connection>,
    orders: Sender<Result<Order, TransportError>>,
    pub(super) open: Vec<Open>,
    pub(super) door: Door,
    pub(super) pump_reports: mpsc::UnboundedSender<Report>,
    from_pump: mpsc::UnboundedReceiver<Report>,
    aborts: Aborts,
    stage: Stage,
}

impl Core {
    pub(super) fn new(
        config: &NodeConfig,
        (accepted, server_key): (ToNode, ServerPublicKey),
        door: Door,
        connection: Connection,
        orders: Sender<Result<Order, TransportError>>,
    ) -> Self {
        let (run, me) = match &accepted {
            ToNode::Accepted { node, run, .. } => (*run, *node),
            // `find` gives nothing else.
            _ => (RunId([0; 16]), NodeId::SERVER),
        };
        let (pump_reports, from_pump) = mpsc::unbounded_channel();
        let mut machine = Machine::new(Duration::ZERO);
        machine.handle_message(Duration::ZERO, accepted);
        Self {
            machine,
            run,
            me,
            server_key,
            local: config.listen,
            window_bytes: config.window_bytes,
            taker: config.taker,
            threads: Threads::default(),
            epoch: Instant::now(),
            connection: Some(connection),
            orders,
            open: Vec::new(),
            door,
            pump_reports,
            from_pump,
            aborts: Aborts::default(),
            stage: Stage::Gather,
        }
    }

    /// The place at which the end of the run is told at once.
    pub(super) fn aborts(&self) -> Aborts {
        self.aborts.clone()
    }

    /// Runs until the facade is gone.
    pub(super) async fn serve(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut messages: mpsc::Receiver<Result<ToNode, Reason>>,
        mut strangers: mpsc::Receiver<Stranger>,
    ) {
        let mut progress_tick = tokio::time::interval(PROGRESS_TICK);
        self.obey().await;
        loop {
            let due = self
                .machine
                .poll_timeout()
                .map(|at| tokio::time::Instant::from_std(self.epoch + at));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Answer { answer, reply }) => drop(reply.send(self.answer(answer))),
                    Some(Command::Leave { reason, reply }) => {
                        self.machine.leave(Reason::new(reason));
                        self.obey().await;
                        reply.send(()).ok();
                    }
                    None => return,
                },
                Some(message) = messages.recv() => match message {
                    Ok(message) => self.machine.handle_message(self.epoch.elapsed(), message),
                    Err(reason) => self.machine.handle_closed(&reason),
                },
                Some(report) = self.from_pump.recv() => self.handle_report(report),
                Some(stranger) = strangers.recv() => {
                    tracing::warn!(from = %stranger.from, reason = %stranger.reason, "stranger turned away");
                }
                _ = progress_tick.tick() => self.tell_progress(),
                () = crate::server::sleep_until(due) => self.machine.handle_timeout(self.epoch.elapsed()),
            }
            self.obey().await;
        }
    }

    fn answer(&mut self, answer: Answer) -> Result<(), TransportError> {
        if self.connection.is_none() {
            return Err(TransportError::ServerLost {
                reason: "the connection has ended".to_owned(),
            });
        }
        let bounded = |payload: Vec<u8>| {
            if payload.len() > MAX_ANSWER {
                return Err(TransportError::Misuse("a plan or report is longer than 1 MiB"));
            }
            Ok(Payload(payload))
        };
        let out_of_order = |_: WrongPhase| TransportError::Misuse("the server did not ask for this");
        match answer {
            Answer::Prepared(payload) => self.machine.prepared(bounded(payload)?).map_err(out_of_order),
            Answer::Ready => self.machine.ready().map_err(out_of_order),
            Answer::Bootable => self.machine.bootable().map_err(out_of_order),
            Answer::Report(payload) => self.machine.report(bounded(payload)?).map_err(out_of_order),
            Answer::Event(payload) if payload.len() > MAX_EVENT_BYTES => {
                Err(TransportError::Misuse("an event is longer than 64 KiB"))
            }
            Answer::Event(payload) => {
                self.machine.event(Payload(payload));
                Ok(())
            }
            Answer::StepFailed { stage, reason } => {
                self.machine
                    .step_failed(self.stage, Reason::new(format!("{stage}: {reason}")));
                Ok(())
            }
        }
    }

    /// Does what the machine says.
    async fn obey(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                NodeOutput::Send(message) => {
                    let Some(connection) = &self.connection else {
                        continue;
                    };
                    let sent = message.encode().map(|frame| connection.frames.try_send(frame));
                    if !matches!(sent, Ok(Ok(()))) {
                        self.machine
                            .handle_closed(&Reason::new("the server does not read what it is sent"));
                    }
                }
                NodeOutput::Order(order) => self.pass_on(order),
                NodeOutput::Over(ending) => self.end(ending).await,
            }
        }
    }

    fn pass_on(&mut self, order: MachineOrder) {
        let order = match order {
            MachineOrder::Accepted { .. } | MachineOrder::Queued { .. } | MachineOrder::Gathering { .. } => {
                return;
            }
            MachineOrder::Prepare(payload) => {
                self.stage = Stage::Prepare;
                Order::Prepare(payload.0)
            }
            MachineOrder::Go => {
                self.stage = Stage::Go;
                Order::Go
            }
            MachineOrder::OpenStream(open) => {
                self.stage = Stage::Stream(open.stream);
                match self.open_stream(&open) {
                    Ok(reader) => Order::Stream(reader),
                    Err(error) => {
                        return self
                            .machine
                            .step_failed(self.stage, Reason::new(error.to_string()));
                    }
                }
            }
            MachineOrder::Relink(relink) => return self.relink(&relink),
            MachineOrder::Receipts { stream, keys } => {
                return self.post(stream, || PumpInput::Receipts(keys.clone()));
            }
            MachineOrder::Hold { stream, time } => return self.post(stream, || PumpInput::Hold(time)),
            MachineOrder::EndStream(stream) => return self.post(stream, || PumpInput::EndStream),
            MachineOrder::Finish => {
                self.stage = Stage::Report;
                Order::Finish
            }
            MachineOrder::Commit => {
                self.stage = Stage::Commit;
                Order::Commit
            }
        };
        self.orders.send(Ok(order)).ok();
    }

    /// The run is over for this node: streams end, the connection is flushed and closed, the last order is given.
    async fn end(&mut self, ending: Ending) {
        let (last, delay) = match ending {
            Ending::Released { delay } => (Ok(Order::Release), delay),
            Ending::Aborted { reason, again } => (
                Ok(Order::Aborted {
                    reason: reason.to_string(),
                    again,
                }),
                Duration::ZERO,
            ),
            Ending::Refused { reason, .. } => (
                Ok(Order::Aborted {
                    reason: reason.to_string(),
                    again: false,
                }),
                Duration::ZERO,
            ),
            Ending::ServerLost { reason } => (
                Err(TransportError::ServerLost {
                    reason: reason.to_string(),
                }),
                Duration::ZERO,
            ),
            Ending::Left => {
                let reason = "this node left".to_owned();
                (Ok(Order::Aborted { reason, again: false }), Duration::ZERO)
            }
        };
        if let Ok(Order::Aborted { reason, again: false }) = &last {
            self.aborts.abort(reason);
        }
        let reason = match &last {
            Ok(Order::Aborted { reason, .. }) => format!("the run was ended: {reason}"),
            Ok(_) => "the run is over".to_owned(),
            Err(error) => error.to_string(),
        };
        for open in self.open.drain(..) {
            open.shared.post(PumpInput::Abort(reason.clone()));
        }
        if let Some(Connection { frames, writer }) = self.connection.take() {
            drop(frames);
            timeout(FLUSH_TIME, writer).await.ok();
        }
        tokio::time::sleep(delay).await;
        self.orders.send(last).ok();
    }
}
