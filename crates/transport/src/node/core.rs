//! The task that owns a node's control connection: it feeds `ka_proto::node` with messages, the node's own answers and
//! time, and does what it says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ka_proto::block::StreamKey;
use ka_proto::control::{OpenStream, Progress, Relink, Stage, ToNode};
use ka_proto::limits::{MAX_CONTROL_FRAME, MAX_PAYLOAD};
use ka_proto::node::{Ending, Node as Machine, NodeOutput, Order as MachineOrder, WrongPhase};
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, Reason, RunId, StreamId, StreamOffset};
use tokio::io::split;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::types::{NodeConfig, Order};
use crate::control::{MAX_QUEUED_FRAMES, read_frame, write_frames};
use crate::error::TransportError;
use crate::stream::{
    Door, Happened, Input as PumpInput, LinkTarget, Pool, PumpConfig, Report, Shared, Stranger, StreamReader,
    spawn,
};

/// How often the server hears how far a stream is, while it moves.
const PROGRESS_TICK: Duration = Duration::from_millis(500);
/// Messages from the server waiting for the core; more wait in the socket.
const MAX_MESSAGES: usize = 64;
/// How long leaving waits for its message to be sent.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// What the facade asks of the core.
#[derive(Debug)]
pub(crate) enum Command {
    Answer {
        answer: Answer,
        reply: Sender<Result<(), TransportError>>,
    },
    Leave {
        reason: String,
        reply: Sender<()>,
    },
}

/// What a node tells the server.
#[derive(Debug)]
pub(crate) enum Answer {
    Prepared(Vec<u8>),
    Ready,
    StepFailed { stage: String, reason: String },
    Event(Vec<u8>),
    Report(Vec<u8>),
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
}

/// A stream that has not ended here.
#[derive(Debug)]
struct Open {
    stream: StreamId,
    shared: Arc<Shared>,
    told: (u64, u64, u64),
}

/// State of the core.
#[derive(Debug)]
pub(super) struct Core {
    machine: Machine,
    run: RunId,
    me: NodeId,
    local: Option<IpAddr>,
    window_bytes: usize,
    epoch: Instant,
    connection: Option<Connection>,
    orders: Sender<Result<Order, TransportError>>,
    open: Vec<Open>,
    door: Door,
    pump_reports: mpsc::UnboundedSender<Report>,
    from_pump: mpsc::UnboundedReceiver<Report>,
    stage: Stage,
}

/// Splits the connection into a task that reads and one that writes.
pub(super) fn serve_connection(
    stream: TlsStream<TcpStream>,
    silence: Duration,
) -> (Connection, mpsc::Receiver<Result<ToNode, Reason>>) {
    let (mut reader, mut writer) = split(stream);
    let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
    let (messages, received) = mpsc::channel(MAX_MESSAGES);
    let writer = tokio::spawn(async move {
        // A broken connection shows at the reader too, which tells the core.
        write_frames(&mut writer, queue).await.ok();
    });
    tokio::spawn(async move {
        loop {
            let frame = read_frame(&mut reader, MAX_CONTROL_FRAME, silence).await;
            let message = match frame {
                Ok(body) => ToNode::decode(&body).map_err(|error| Reason::new(error.to_string())),
                Err(error) => Err(Reason::new(error.to_string())),
            };
            let is_last = message.is_err();
            if messages.send(message).await.is_err() || is_last {
                return;
            }
        }
    });
    (Connection { frames, writer }, received)
}

impl Core {
    pub(super) fn new(
        config: &NodeConfig,
        accepted: ToNode,
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
            local: config.listen,
            window_bytes: config.window_bytes,
            epoch: Instant::now(),
            connection: Some(connection),
            orders,
            open: Vec::new(),
            door,
            pump_reports,
            from_pump,
            stage: Stage::Gather,
        }
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
            if payload.len() > MAX_PAYLOAD {
                return Err(TransportError::Misuse(
                    "a payload is longer than a control message may be",
                ));
            }
            Ok(Payload(payload))
        };
        let out_of_order = |_: WrongPhase| TransportError::Misuse("the server did not ask for this");
        match answer {
            Answer::Prepared(payload) => self.machine.prepared(bounded(payload)?).map_err(out_of_order),
            Answer::Ready => self.machine.ready().map_err(out_of_order),
            Answer::Report(payload) => self.machine.report(bounded(payload)?).map_err(out_of_order),
            Answer::Event(payload) => {
                self.machine.event(bounded(payload)?);
                Ok(())
            }
            Answer::StepFailed { stage, reason } => {
                self.machine
                    .step_failed(self.stage, Reason::new(format!("{stage}: {reason}")));
                Ok(())
            }
        }
    }

    fn handle_report(&mut self, report: Report) {
        let stream = report.stream;
        match report.what {
            Happened::LinkUp { side, offset } => self.machine.link_up(stream, side, offset),
            Happened::LinkLost { side, offset, reason } => {
                self.machine.link_lost(stream, side, offset, reason)
            }
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
            Happened::Failed { reason } => {
                self.open.retain(|open| open.stream != stream);
                self.machine.stream_failed(stream, Reason::new(reason));
            }
        }
    }

    fn tell_progress(&mut self) {
        for open in &mut self.open {
            let now = open.shared.progress();
            if now != open.told {
                open.told = now;
                self.machine.progress(Progress {
                    stream: open.stream,
                    received: StreamOffset(now.0),
                    consumed: StreamOffset(now.1),
                    buffered: now.2,
                });
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
            MachineOrder::Accepted { .. } | MachineOrder::Gathering { .. } => return,
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
            MachineOrder::Relink(Relink {
                stream,
                predecessor,
                successor,
            }) => {
                return self.post(stream, || PumpInput::Relink {
                    predecessor,
                    successor,
                });
            }
            MachineOrder::EndStream(stream) => return self.post(stream, || PumpInput::EndStream),
            MachineOrder::Finish => {
                self.stage = Stage::Report;
                Order::Finish
            }
        };
        self.orders.send(Ok(order)).ok();
    }

    fn post(&self, stream: StreamId, input: impl Fn() -> PumpInput) {
        self.open
            .iter()
            .filter(|open| open.stream == stream)
            .for_each(|open| open.shared.post(input()));
    }

    fn open_stream(&mut self, open: &OpenStream) -> Result<StreamReader, TransportError> {
        let shared = Shared::new(open.name.clone(), Pool::for_window(self.window_bytes))?;
        let relay = RelayConfig {
            source: Source::Predecessor(open.predecessor),
            has_consumer: true,
            successor: open.successor,
            start: open.resume_from,
            window_bytes: self.window_bytes as u64,
            tolerance: open.tolerance,
            ..RelayConfig::default()
        };
        let key = StreamKey::new(open.key, self.run, open.stream);
        let target = LinkTarget {
            key,
            me: self.me,
            shared: Arc::clone(&shared),
        };
        spawn(PumpConfig {
            relay,
            target,
            window_bytes: self.window_bytes,
            local: self.local,
            door: self.door.clone(),
            reports: self.pump_reports.clone(),
        })?;
        self.open.push(Open {
            stream: open.stream,
            shared: Arc::clone(&shared),
            told: (0, 0, 0),
        });
        Ok(StreamReader::new(shared, open.stream))
    }

    /// The run is over for this node: streams end, the connection is flushed and closed, the last order is given.
    async fn end(&mut self, ending: Ending) {
        let (last, delay) = match ending {
            Ending::Released { delay } => (Ok(Order::Release), delay),
            Ending::Aborted { reason } => (
                Ok(Order::Aborted {
                    reason: reason.to_string(),
                }),
                Duration::ZERO,
            ),
            Ending::Refused { reason, .. } => (
                Ok(Order::Aborted {
                    reason: reason.to_string(),
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
                (Ok(Order::Aborted { reason }), Duration::ZERO)
            }
        };
        let reason = match &last {
            Ok(Order::Aborted { reason }) => format!("the run was ended: {reason}"),
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

/// Gives the server an answer.
pub(super) fn tell(commands: &mpsc::UnboundedSender<Command>, answer: Answer) -> Result<(), TransportError> {
    let ended = || TransportError::ServerLost {
        reason: "the connection has ended".to_owned(),
    };
    let (reply, told) = crossbeam_channel::bounded(1);
    commands
        .send(Command::Answer { answer, reply })
        .map_err(|_| ended())?;
    told.recv().map_err(|_| ended())?
}

/// Says that the node goes, and waits until that is sent.
pub(super) fn leave(commands: &mpsc::UnboundedSender<Command>, reason: &str) {
    let (reply, left) = crossbeam_channel::bounded(1);
    if commands
        .send(Command::Leave {
            reason: reason.to_owned(),
            reply,
        })
        .is_ok()
    {
        left.recv_timeout(FLUSH_TIME * 2).ok();
    }
}
