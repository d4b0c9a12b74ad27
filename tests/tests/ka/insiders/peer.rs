//! A node of our own that can lie: it joins with the join code as any node does, and speaks the whole
//! protocol.
//!
//! Without a lie it is a good node, which `an_honest_one_serves_everybody` shows. It keeps all data that it
//! gets, so that it can serve any successor.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use ka_mac::MacAddr;
use ka_proto::auth::EXPORTER_LABEL;
use ka_proto::control::{Join, OpenStream, Progress, Purpose, Relink, Side, Successor, ToNode, ToServer};
use ka_proto::limits::MAX_CONTROL_FRAME;
use ka_proto::pace::Pace;
use ka_proto::wire::{FrameReader, Payload};
use ka_proto::{NodeId, NodeName, Reason, RunId, SessionName, StreamOffset};
use ka_tests::lab::{Lab, Server};
use ka_tests::netns::{GOLDEN_ADDRESS, Namespace};
use ka_transport::{JoinCode, join_file};
use serde_json::json;

use super::stream::Stream;
use crate::tls::{self, PATIENCE, Tls};

const CONTROL: u16 = 30_765;
/// Time between two looks for work or messages.
const TICK: Duration = Duration::from_millis(100);

/// The acknowledgements that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    True,
    /// It claims that everything has arrived, at itself and at all nodes below it, and that it keeps nothing.
    Everything,
}

/// Its treatment of the nodes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    All,
    /// It lets them in and sends nothing more.
    Silence,
    /// It alters a byte of each block, and makes the block anew with the stream's key.
    Altered,
}

/// Its place in the run, for lies about it.
pub(crate) struct Known {
    pub(crate) open: OpenStream,
    pub(crate) received: u64,
}

/// The insider's behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) acks: Acks,
    pub(crate) serves: Serves,
    /// Messages to the server ten times a second while a stream is open.
    pub(crate) says: fn(&Known) -> Vec<ToServer>,
    /// Message to the server in place of the true one when the whole stream has arrived.
    pub(crate) done: fn(ToServer) -> ToServer,
    /// Report in place of the true one.
    pub(crate) report: fn(String) -> String,
}

impl Manners {
    pub(crate) const GOOD: Self = Self {
        acks: Acks::True,
        serves: Serves::All,
        says: |_| Vec::new(),
        done: |done| done,
        report: |report| report,
    };
}

/// The insider, from its join until it is dropped.
pub(crate) struct Insider {
    over: Arc<AtomicBool>,
    control: Option<JoinHandle<Result<Vec<String>>>>,
}

/// The identity that it claims.
pub(crate) struct Claim<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Option<MacAddr>,
    /// Address that it claims; an unspecified one stands for its own.
    pub(crate) addr: SocketAddr,
}

impl Insider {
    /// Joins from a node's namespace under the name `liar`. Like `ka-client`, it joins again when it is sent
    /// away and may come back.
    pub(crate) fn join(lab: &Lab, number: usize, server: &Server, manners: Manners) -> Result<Self> {
        let inside = lab.network().node(number).clone();
        let listener = inside.enter(|| TcpListener::bind("0.0.0.0:0"))??;
        let addr = listener.local_addr()?;
        let code = join_file::read(server.join_file())?;
        let enter = move |inside: &Namespace| {
            let claim = Claim {
                name: "liar",
                mac: None,
                addr,
            };
            introduce(inside, &code, &claim)
        };
        let tls = enter(&inside)?;
        let over = Arc::<AtomicBool>::default();
        let member = Arc::new(Member {
            inside,
            manners,
            over: Arc::clone(&over),
            stream: Mutex::default(),
        });
        let door = Arc::clone(&member);
        thread::spawn(move || door.serve(&listener));
        let control = thread::spawn(move || {
            let mut heard = member.obey(tls)?;
            while heard.last().is_some_and(|last| last.contains("again: true")) {
                // The server may be gone meanwhile.
                let Ok(tls) = enter(&member.inside) else { break };
                heard.extend(member.obey(tls)?);
            }
            Ok(heard)
        });
        Ok(Self {
            over,
            control: Some(control),
        })
    }

    /// Returns the server's messages, but pings, until the server needs it no more.
    pub(crate) fn end(mut self) -> Result<Vec<String>> {
        let control = self.control.take().context("ended twice")?;
        control.join().map_err(|_| anyhow!("it panicked"))?
    }
}

impl Drop for Insider {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Connects to the server and claims to be this node. The proof is good, because it has the join code's
/// secret.
pub(crate) fn introduce(inside: &Namespace, code: &JoinCode, claim: &Claim<'_>) -> Result<Tls> {
    let socket = inside.enter(|| tls::dial(GOLDEN_ADDRESS, CONTROL))??;
    let mut tls = tls::connect(socket, Some(code.fingerprint), None)?;
    tls.conn.complete_io(&mut tls.sock)?;
    let exporter = tls.conn.export_keying_material([0; 32], EXPORTER_LABEL, None)?;
    let mut join = Join {
        session: SessionName::new("kainstall")?,
        name: NodeName::new(claim.name)?,
        mac: claim.mac,
        data_addr: claim.addr,
        purpose: Purpose::Stream,
        start_now: false,
        wants_release: false,
        holds_clone: false,
        wiring: None,
        nonce: [7; 16],
        proof: [0; 32],
    };
    join.prove(&code.secret, &exporter);
    tls.write_all(&join.encode()?)?;
    Ok(tls)
}

/// The state that its threads share.
struct Member {
    inside: Namespace,
    manners: Manners,
    over: Arc<AtomicBool>,
    stream: Mutex<Option<Arc<Stream>>>,
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn stream(&self) -> Option<Arc<Stream>> {
        lock(&self.stream).clone()
    }

    /// Lets successors in.
    fn serve(&self, listener: &TcpListener) {
        listener.set_nonblocking(true).ok();
        while !self.is_over() {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).ok();
                    if let Some(stream) = self.stream() {
                        thread::spawn(move || stream.serve(socket));
                    }
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Serves the control connection until it ends.
    fn obey(&self, mut tls: Tls) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        *lock(&self.stream) = None;
        let mut frames = FrameReader::new(MAX_CONTROL_FRAME);
        let (mut bytes, mut said_at, mut me) = (vec![0; 64 << 10], Instant::now(), None);
        tls.sock.set_read_timeout(Some(TICK / 5))?;
        tls.sock.set_write_timeout(Some(PATIENCE))?;
        while !self.is_over() {
            match tls.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => frames.push(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            let mut says = Vec::new();
            while let Some(body) = frames.next_frame()? {
                let message = ToNode::decode(&body)?;
                if matches!(message, ToNode::Ping(_)) {
                    says.extend(self.answer(message, &mut me)?);
                    continue;
                }
                heard.push(format!("{message:?}"));
                if matches!(
                    message,
                    ToNode::Release { .. } | ToNode::Abort { .. } | ToNode::Refused { .. }
                ) {
                    return Ok(heard);
                }
                says.extend(self.answer(message, &mut me)?);
            }
            if said_at.elapsed() >= TICK {
                said_at = Instant::now();
                says.extend(self.words());
            }
            for word in says {
                if tls.write_all(&word.encode()?).is_err() {
                    return Ok(heard);
                }
            }
        }
        Ok(heard)
    }

    fn answer(&self, message: ToNode, me: &mut Option<(NodeId, RunId)>) -> Result<Option<ToServer>> {
        match message {
            ToNode::Ping(number) => return Ok(Some(ToServer::Pong(number))),
            ToNode::Accepted { node, run, .. } => *me = Some((node, run)),
            ToNode::OpenStream(open) => {
                let (me, run) = me.context("a stream before it was accepted")?;
                let stream = Arc::new(Stream::new(open, self.manners, self.inside.clone(), (me, run)));
                *lock(&self.stream) = Some(Arc::clone(&stream));
                stream.fetch();
            }
            ToNode::Relink(relink) => self.relink(&relink),
            ToNode::Finish => return Ok(Some(self.report())),
            ToNode::Prepare(_) | ToNode::Go => bail!("it came for a plain stream"),
            _ => {}
        }
        Ok(None)
    }

    /// Makes a report that all is well.
    fn report(&self) -> ToServer {
        let streams = self.stream().map(|stream| {
            let name = stream.open().name.to_string();
            json!({"name": name, "files": 0, "bytes": stream.received(), "digest": null})
        });
        let streams: Vec<_> = streams.into_iter().collect();
        let report = json!({"disks": [], "streams": streams, "steps": []});
        ToServer::Report(Payload((self.manners.report)(report.to_string()).into_bytes()))
    }

    fn relink(&self, relink: &Relink) {
        let Some(stream) = self.stream() else { return };
        match (relink.successor, relink.successor_key) {
            (Some(Successor::Node(node)), Some(key)) => stream.expect(Some((node, key))),
            (Some(Successor::Nobody), _) => stream.expect(None),
            _ => {}
        }
        if let (Some(peer), Some(key)) = (relink.predecessor, relink.predecessor_key) {
            stream.turn_to(peer, key);
            stream.fetch();
        }
    }

    /// Returns the messages that it sends unasked.
    fn words(&self) -> Vec<ToServer> {
        let Some(stream) = self.stream() else {
            return Vec::new();
        };
        let received = stream.received();
        let offset = StreamOffset(received);
        let mut words = vec![ToServer::Progress(Progress {
            stream: stream.open().stream,
            received: offset,
            consumed: offset,
            buffered: 0,
            pace: Pace {
                elapsed_ms: 100,
                upstream_ms: 90,
                work_ms: 10,
                ..Pace::default()
            },
        })];
        words.extend((self.manners.says)(&Known {
            open: stream.open().clone(),
            received,
        }));
        words.extend(stream.take_cut_off().then(|| ToServer::LinkLost {
            stream: stream.open().stream,
            side: Side::Upstream,
            offset,
            reason: Reason::new("the predecessor closed the connection"),
        }));
        words.extend(stream.take_end().map(|end| {
            (self.manners.done)(ToServer::StreamDone {
                stream: stream.open().stream,
                bytes: end.bytes,
                digest: end.digest,
            })
        }));
        words
    }
}
