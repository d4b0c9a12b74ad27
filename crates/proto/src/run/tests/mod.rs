//! The behaviour of a run, seen from its driver.

mod gather;
mod group;
mod hostile;
mod look;
mod order;
mod pace;
mod roll;
mod rounds;
mod spool;
mod stages;
mod stream;
mod suspects;

use super::*;
use crate::control::Relink;
use crate::ids::RunId;
use crate::pace::Pace;
use crate::text::{NodeName, SessionName};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> RunConfig {
    let session = SessionName::new("kainstall").unwrap();
    RunConfig {
        tolerance: 0,
        ..RunConfig::new(RunId([1; 16]), [2; 32], session, 30764)
    }
}

fn join(address: &str) -> Join {
    Join {
        session: SessionName::new("kainstall").unwrap(),
        name: NodeName::new("n").unwrap(),
        mac: None,
        data_addr: address.parse().unwrap(),
        purpose: crate::control::Purpose::Clone,
        start_now: false,
        wants_release: false,
        holds_clone: false,
        wiring: None,
        nonce: [0; 16],
        proof: [0; 32],
    }
}

/// Returns a node's report of its progress, with nothing in its window.
fn progress(stream: StreamId, received: u64, consumed: u64, pace: Pace) -> ToServer {
    ToServer::Progress(Progress {
        stream,
        received: StreamOffset(received),
        consumed: StreamOffset(consumed),
        buffered: 0,
        pace,
    })
}

/// A run with its time and all its outputs.
struct Driver {
    run: Run,
    now: Duration,
    sent: Vec<(ConnId, ToNode)>,
    closed: Vec<ConnId>,
    head: Vec<HeadOrder>,
    results: Vec<RunResult>,
    events: Vec<RunEvent>,
}

impl Driver {
    fn new(config: RunConfig) -> Self {
        let (run, now) = (Run::new(config, Duration::ZERO), Duration::ZERO);
        Self {
            run,
            now,
            sent: Vec::new(),
            closed: Vec::new(),
            head: Vec::new(),
            results: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Returns a run that has gathered nodes 1, 2, … at 10.0.0.1, 10.0.0.2, ….
    fn gathered(nodes: u32, mut config: RunConfig) -> Self {
        config.wanted = Some(nodes);
        let mut driver = Self::new(config);
        for node in 1..=nodes {
            driver.join(u64::from(node), join(&format!("10.0.0.{node}:30764")));
        }
        assert!(matches!(driver.results.last(), Some(RunResult::Gathered(_))));
        driver
    }

    fn join(&mut self, conn: u64, join: Join) {
        let remote = SocketAddr::new(join.data_addr.ip(), 40_000);
        self.join_from(conn, join, remote);
    }

    fn join_from(&mut self, conn: u64, join: Join, remote: SocketAddr) {
        self.run
            .handle_join(self.now, ConnId(conn), join, [10, 0, 0, 254].into(), remote);
        self.drain();
    }

    fn says(&mut self, conn: u64, message: ToServer) {
        self.run.handle_message(self.now, ConnId(conn), message);
        self.drain();
    }

    fn closes(&mut self, conn: u64) {
        self.run
            .handle_closed(self.now, ConnId(conn), &Reason::new("reset"));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.run.poll_output() {
            match output {
                RunOutput::Send { conn, message } => self.sent.push((conn, message)),
                RunOutput::Close { conn } => self.closed.push(conn),
                RunOutput::Head(order) => self.head.push(order),
                RunOutput::Result(result) => self.results.push(result),
                RunOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets time pass. Nodes in `answering` answer every ping.
    fn pass(&mut self, time: Duration, answering: &[u64]) {
        let until = self.now + time;
        while let Some(due) = self.run.poll_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.run.handle_timeout(due);
            self.drain();
            answering
                .iter()
                .for_each(|conn| self.says(*conn, ToServer::Pong(0)));
        }
        self.now = until;
    }

    fn sent_to(&self, conn: u64) -> Vec<&ToNode> {
        let is_order = |message: &ToNode| !matches!(message, ToNode::Ping(_) | ToNode::Gathering { .. });
        let to = |(to, message): &&(ConnId, ToNode)| *to == ConnId(conn) && is_order(message);
        self.sent.iter().filter(to).map(|(_, message)| message).collect()
    }

    fn failures(&self) -> Vec<(u32, String)> {
        let failed = self.run.nodes().into_iter();
        failed
            .filter_map(|(info, failure)| Some((info.id.0, failure?.to_string())))
            .collect()
    }

    fn open_stream(&mut self) -> HeadStream {
        let head = self
            .run
            .open_stream(self.now, &StreamName::new("kainstall2").unwrap())
            .unwrap();
        self.drain();
        head
    }

    fn done(&mut self, conn: u64, stream: StreamId) {
        self.says(
            conn,
            ToServer::StreamDone {
                stream,
                bytes: 9,
                digest: [3; 32],
            },
        );
    }

    fn loses_upstream(&mut self, conn: u64, stream: StreamId) {
        let (offset, reason) = (StreamOffset(5), Reason::new("reset"));
        self.says(
            conn,
            ToServer::LinkLost {
                stream,
                side: Side::Upstream,
                offset,
                reason,
            },
        );
    }

    fn stream_outcomes(&self) -> Option<Vec<(u32, bool)>> {
        self.results.iter().find_map(|event| match event {
            RunResult::StreamDone { outcomes, .. } => Some(
                outcomes
                    .iter()
                    .map(|(info, outcome)| (info.id.0, outcome.is_ok()))
                    .collect(),
            ),
            _ => None,
        })
    }
}
