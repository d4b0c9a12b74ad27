//! The task that owns a node's control connection. It feeds `ka_proto::node` with messages, the node's own
//! answers and time, and carries out its outputs.
//!
//! Not here: streams ([`super::streams`]), the connection's tasks ([`super::connection`]).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ka_proto::auth::ServerPublicKey;
use ka_proto::control::{Stage, ToNode};
use ka_proto::group::probe::ProbeAnswer;
use ka_proto::limits::MAX_ANSWER;
use ka_proto::node::{Ending, Node as Machine, NodeOutput, Order as MachineOrder, WrongPhase};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, Reason, RunId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::aborts::Aborts;
use super::connection::{Answer, Command, Connection, FLUSH_TIME};
use super::streams::{Membership, Streams};
use super::types::{NodeConfig, Order};
use crate::error::TransportError;
use crate::group::probing::Listening;
use crate::server::MAX_EVENT_BYTES;
use crate::stream::{LinkListener, PumpEvent, PumpInput, PumpReport, Stranger};

/// Time between two reports of progress to the server, while a stream moves.
const PROGRESS_TICK: Duration = Duration::from_millis(500);

/// The node machine, and the parts by which it is carried out. Everything happens in [`Core::serve`], one
/// thing at a time.
#[derive(Debug)]
pub(super) struct Core {
    machine: Machine,
    epoch: Instant,
    connection: Option<Connection>,
    orders: Sender<Result<Order, TransportError>>,
    streams: Streams,
    from_pumps: mpsc::UnboundedReceiver<PumpReport>,
    probes: Probes,
    aborts: Aborts,
    stage: Stage,
}

/// The node's part in probes of multicast.
#[derive(Debug)]
struct Probes {
    run: RunId,
    local: IpAddr,
    listening: Listening,
    answers: mpsc::UnboundedSender<ProbeAnswer>,
    from_threads: mpsc::UnboundedReceiver<ProbeAnswer>,
}

impl Core {
    pub(super) fn new(
        config: &NodeConfig,
        (accepted, server_key): (ToNode, ServerPublicKey),
        local: IpAddr,
        listener: LinkListener,
        connection: Connection,
        orders: Sender<Result<Order, TransportError>>,
    ) -> Self {
        let (run, node) = match &accepted {
            ToNode::Accepted { node, run, .. } => (*run, *node),
            // `find` returns nothing else.
            _ => (RunId([0; 16]), NodeId::SERVER),
        };
        let member = Membership {
            run,
            node,
            server_key,
            local,
        };
        let (reports, from_pumps) = mpsc::unbounded_channel();
        let (answers, from_threads) = mpsc::unbounded_channel();
        let mut machine = Machine::new(Duration::ZERO);
        machine.handle_message(Duration::ZERO, accepted);
        Self {
            machine,
            epoch: Instant::now(),
            connection: Some(connection),
            orders,
            streams: Streams::new(config, member, listener, reports),
            from_pumps,
            probes: Probes {
                run,
                local,
                listening: Listening::default(),
                answers,
                from_threads,
            },
            aborts: Aborts::default(),
            stage: Stage::Gather,
        }
    }

    /// Returns the place at which the end of the run is told at once.
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
                Some(report) = self.from_pumps.recv() => self.handle_report(report),
                Some(answer) = self.probes.from_threads.recv() => self.machine.probe(answer),
                Some(stranger) = strangers.recv() => {
                    tracing::warn!(from = %stranger.from, reason = %stranger.reason, "stranger turned away");
                }
                _ = progress_tick.tick() => self.tell_progress(),
                () = crate::server::sleep_until(due) => self.machine.handle_timeout(self.epoch.elapsed()),
            }
            self.obey().await;
        }
    }

    /// A pump has reported.
    fn handle_report(&mut self, report: PumpReport) {
        let stream = report.stream;
        match report.what {
            PumpEvent::LinkUp { side, offset } => self.machine.link_up(stream, side, offset),
            PumpEvent::LinkLost { side, offset, reason } => {
                self.machine.link_lost(stream, side, offset, reason);
            }
            PumpEvent::Gap { offset, reason } => self.machine.data_gone(stream, offset, reason),
            PumpEvent::GroupReport(report) => self.machine.group_report(stream, report),
            PumpEvent::LeftGroup { reason } => self.machine.left_group(stream, Reason::new(reason)),
            // Only at the head.
            PumpEvent::SpoolOff { .. } | PumpEvent::GroupLeave { .. } | PumpEvent::GroupEnded { .. } => {}
            PumpEvent::Done { bytes, digest } => {
                self.tell_progress();
                // The server may have ended the stream without us meanwhile.
                self.machine.stream_done(stream, bytes, digest).ok();
            }
            PumpEvent::ConsumerFailed { reason } => {
                self.machine
                    .step_failed(Stage::Stream(stream), Reason::new(reason));
            }
            PumpEvent::Closed => self.streams.close(stream),
            PumpEvent::Failed { reason, unproved } => {
                self.streams.close(stream);
                self.machine.stream_failed(stream, Reason::new(reason), unproved);
            }
        }
    }

    fn tell_progress(&mut self) {
        for progress in self.streams.take_progress() {
            self.machine.progress(progress);
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
            Answer::Wiring(wiring) => {
                self.machine.wiring(wiring);
                Ok(())
            }
            Answer::StepFailed { stage, reason } => {
                self.machine
                    .step_failed(self.stage, Reason::new(format!("{stage}: {reason}")));
                Ok(())
            }
        }
    }

    /// Carries out the outputs of the machine.
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
                match self.streams.open(&open) {
                    Ok(reader) => Order::Stream(reader),
                    Err(error) => {
                        return self
                            .machine
                            .step_failed(self.stage, Reason::new(error.to_string()));
                    }
                }
            }
            MachineOrder::Relink(relink) => return self.streams.relink(&relink),
            MachineOrder::Receipts { stream, keys } => {
                return self.streams.post(stream, || PumpInput::Receipts(keys.clone()));
            }
            MachineOrder::Hold { stream, time } => {
                return self.streams.post(stream, || PumpInput::Hold(time));
            }
            MachineOrder::Probe(order) => {
                let probes = &mut self.probes;
                return probes
                    .listening
                    .handle_order(probes.run, probes.local, order, &probes.answers);
            }
            MachineOrder::LeaveGroup { stream, reason } => {
                return self
                    .streams
                    .post(stream, || PumpInput::LeaveGroup(reason.to_string()));
            }
            MachineOrder::EndStream(stream) => return self.streams.post(stream, || PumpInput::EndStream),
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

    /// The run is over for this node: streams end, the connection is flushed and closed, the last order is
    /// given.
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
        self.streams.abort(&reason);
        if let Some(Connection { frames, writer }) = self.connection.take() {
            drop(frames);
            timeout(FLUSH_TIME, writer).await.ok();
        }
        tokio::time::sleep(delay).await;
        self.orders.send(last).ok();
    }
}
