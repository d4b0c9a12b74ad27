//! Chains of real pumps over loopback sockets, without control connections.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ka_proto::block::{Cipher, Opener, Sealer, StreamKey};
use ka_proto::control::{Peer, Successor};
use ka_proto::limits::LINK_HANDSHAKE_TIMEOUT;
use ka_proto::link::{HELLO_LEN, LinkKey};
use ka_proto::relay::{RelayConfig, Source};
use ka_proto::{NodeId, RunId, StreamId, StreamName, auth};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::buffer::Pool;
use super::handle::PumpHandle;
use super::head::Head;
use super::inbox::{PumpEvent, PumpInput, PumpReport};
use super::keys::LinkKeys;
use super::link::{LinkListener, LinkTarget, Stranger};
use super::proof::EndKey;
use super::pump::{PumpConfig, spawn};
use super::{Block, StreamReader};
use crate::error::OwnPort;
use crate::key::{ServerKey, public_key_of};
use crate::net::listen_tcp;

pub(super) const LIMIT: Duration = Duration::from_secs(60);
pub(super) const STREAM: StreamId = StreamId(1);

pub(super) struct Chain {
    runtime: Runtime,
    pub(super) head: Option<Head>,
    pub(super) readers: Vec<Option<StreamReader>>,
    pub(super) shared: Vec<Arc<PumpHandle>>,
    pub(super) links: Vec<LinkKeys>,
    /// The address that each one's successor is told.
    pub(super) addrs: Vec<SocketAddr>,
    /// The address that each one listens on.
    listening: Vec<SocketAddr>,
    pub(super) reports: Vec<mpsc::UnboundedReceiver<PumpReport>>,
    stranger: mpsc::Sender<Stranger>,
    pub(super) strangers: mpsc::Receiver<Stranger>,
    cipher: Option<Cipher>,
    /// The time that a node without a predecessor waits for another.
    pub(super) establish: Duration,
    /// True if the stream has a multicast group.
    pub(super) grouped: bool,
}

pub(super) fn key() -> StreamKey {
    StreamKey::new([3; 32], RunId([1; 16]), STREAM)
}

/// Returns the key of the link on which `from` gets the stream from `to`.
pub(super) fn link_key(from: u32, to: u32) -> LinkKey {
    let run = key().run();
    let link = auth::link_key(&[6; 32], run, STREAM, (NodeId(from), NodeId(to)));
    LinkKey::new(link, run, STREAM)
}

pub(super) fn server_key() -> &'static ServerKey {
    static KEY: LazyLock<ServerKey> = LazyLock::new(|| ServerKey::ephemeral().unwrap());
    &KEY
}

/// Returns a head and `nodes` nodes, each retaining up to `window_bytes`.
fn chain(nodes: u32, window_bytes: usize) -> Chain {
    chain_with(nodes, window_bytes, Some(Cipher::Aes256Gcm))
}

pub(super) fn chain_with(nodes: u32, window_bytes: usize, cipher: Option<Cipher>) -> Chain {
    let mut chain = Chain::empty(cipher);
    for me in 0..=nodes {
        chain.join(me, nodes, window_bytes);
    }
    chain
}

impl Chain {
    pub(super) fn empty(cipher: Option<Cipher>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (stranger, strangers) = mpsc::channel(16);
        Self {
            runtime,
            head: None,
            readers: Vec::new(),
            shared: Vec::new(),
            links: Vec::new(),
            addrs: Vec::new(),
            listening: Vec::new(),
            reports: Vec::new(),
            stranger,
            strangers,
            cipher,
            establish: Duration::from_secs(3),
            grouped: false,
        }
    }

    /// Adds node `me` (0: the head) of `nodes` behind the last listener.
    pub(super) fn join(&mut self, me: u32, nodes: u32, window_bytes: usize) {
        let shared = self.add(me, nodes, window_bytes, LinkListener::new(self.stranger.clone()));
        if me == 0 {
            let sealer = Sealer::new(key(), self.cipher).unwrap();
            self.head = Some(Head::new(shared, sealer, window_bytes, nodes as usize));
        } else {
            let opener = Opener::new(&key(), self.cipher).unwrap();
            self.readers.push(Some(StreamReader::new(shared, STREAM, opener)));
        }
    }

    /// Starts the pump of node `me` (0: the head) of `nodes`.
    fn add(
        &mut self,
        me: u32,
        nodes: u32,
        window_bytes: usize,
        link_listener: LinkListener,
    ) -> Arc<PumpHandle> {
        let _guard = self.runtime.enter();
        let listener = listen_tcp(SocketAddr::from(([127, 0, 0, 1], 0)), OwnPort::Data).unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(link_listener.clone().serve(listener));
        let before = self.addrs.last().map(|&addr| Peer {
            node: NodeId(me - 1),
            addr,
        });
        let relay = RelayConfig {
            source: before.map_or(Source::Producer, Source::Predecessor),
            has_consumer: me > 0,
            successor: (me < nodes).then_some(NodeId(me + 1)),
            window_bytes: window_bytes as u64,
            establish: self.establish,
            grouped: self.grouped,
            ..RelayConfig::default()
        };
        let shared =
            PumpHandle::new(StreamName::new("name of the stream").unwrap(), Pool::new(1 << 20)).unwrap();
        let links = LinkKeys::new(
            before.map(|peer| (peer.node, link_key(me, peer.node.0))),
            (me < nodes).then(|| (NodeId(me + 1), link_key(me + 1, me))),
        );
        self.links.push(links.clone());
        let (me, key) = (NodeId(me), key());
        let target = LinkTarget {
            key,
            links,
            me,
            branch: None,
            pump: Arc::clone(&shared),
        };
        let (reports, received) = mpsc::unbounded_channel();
        spawn(PumpConfig {
            relay,
            target,
            window_bytes,
            is_sealed: self.cipher.is_some(),
            end_key: if me == NodeId::SERVER {
                EndKey::Own(server_key().clone())
            } else {
                EndKey::Pinned(public_key_of(&server_key().certified().cert[0]).unwrap())
            },
            local: None,
            listener: link_listener,
            keeper: None,
            branch: None,
            group: super::GroupPlace::Outside,
            reports,
        })
        .unwrap();
        self.shared.push(Arc::clone(&shared));
        self.addrs.push(addr);
        self.listening.push(addr);
        self.reports.push(received);
        shared
    }

    /// Consumes node `node` (from 1) on a thread. Returns the hash of its bytes.
    pub(super) fn consume(
        &mut self,
        node: usize,
        mut each: impl FnMut(&Block) + Send + 'static,
    ) -> std::thread::JoinHandle<Result<(u64, blake3::Hash), String>> {
        let mut reader = self.readers[node - 1].take().unwrap();
        std::thread::spawn(move || {
            let mut hasher = blake3::Hasher::new();
            let mut bytes = 0;
            while let Some(block) = reader.recv().map_err(|error| error.to_string())? {
                assert_eq!(block.offset(), bytes);
                each(&block);
                hasher.update(block.as_ref());
                bytes += block.as_ref().len() as u64;
            }
            reader.finish(Ok(())).map_err(|error| error.to_string())?;
            Ok((bytes, hasher.finalize()))
        })
    }

    /// Sends blocks of `lens` bytes and ends the stream. Returns the hash of the data.
    pub(super) fn produce(&mut self, lens: impl IntoIterator<Item = usize>) -> blake3::Hash {
        let mut head = self.head.take().unwrap();
        let mut hasher = blake3::Hasher::new();
        for (number, len) in lens.into_iter().enumerate() {
            let mut block = head.buffer(len);
            block.resize(len, u8::try_from(number % 251).unwrap());
            hasher.update(&block);
            head.send(block).unwrap();
        }
        self.shared[0].post(PumpInput::ProducerDone);
        hasher.finalize()
    }

    /// The address of the head itself, whatever its successor is told.
    pub(super) fn head_addr(&self) -> SocketAddr {
        self.listening[0]
    }

    /// Waits for the last report of the pump of `node` (0: the head).
    pub(super) fn last_report(&mut self, node: usize) -> PumpEvent {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "node {node} never ended");
            match self.reports[node].try_recv() {
                Ok(PumpReport {
                    what: what @ (PumpEvent::Closed | PumpEvent::Failed { .. }),
                    ..
                }) => return what,
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    pub(super) fn assert_closed(&mut self, node: usize) {
        let last = self.last_report(node);
        assert!(matches!(last, PumpEvent::Closed), "node {node}: {last:?}");
    }
}

/// Several rounds: a small block behind large ones once stayed in a socket whose SO_RCVLOWAT was that of an
/// earlier one, in one round of three.
#[test]
fn four_nodes_get_what_the_head_sends() {
    let forms = [None, Some(Cipher::Aes256Gcm), Some(Cipher::ChaCha20Poly1305)];
    for cipher in forms.into_iter().cycle().take(9) {
        send_to_four_nodes(cipher);
    }
}

fn send_to_four_nodes(cipher: Option<Cipher>) {
    let mut chain = chain_with(4, 8 << 20, cipher);
    let consumers: Vec<_> = (1..=4).map(|node| chain.consume(node, |_| ())).collect();
    let lens = (0..512).map(|number| {
        if number % 7 == 3 {
            number * 31 + 1
        } else {
            128 << 10
        }
    });
    let sent = chain.produce(lens);
    for consumer in consumers {
        assert_eq!(consumer.join().unwrap().unwrap().1, sent);
    }
    for node in (0..=4).rev() {
        chain.assert_closed(node);
    }
}

#[test]
fn empty_and_one_byte_streams_end_well() {
    for lens in [vec![], vec![1], vec![1, 1 << 20, 1]] {
        let mut chain = chain(2, 8 << 20);
        let consumers = [chain.consume(1, |_| ()), chain.consume(2, |_| ())];
        let total: usize = lens.iter().sum();
        let sent = chain.produce(lens);
        for consumer in consumers {
            assert_eq!(consumer.join().unwrap().unwrap(), (total as u64, sent));
        }
        chain.assert_closed(0);
    }
}

#[test]
fn slow_consumer_holds_up_the_producer_and_memory_stays_bounded() {
    let window = 8 << 20;
    let mut chain = chain(2, window);
    let fast = chain.consume(1, |_| ());
    let slow = chain.consume(2, |_| std::thread::sleep(Duration::from_millis(2)));
    let shared = chain.shared.clone();
    let watcher = std::thread::spawn(move || {
        let mut most = 0;
        for _ in 0..200 {
            most = shared
                .iter()
                .map(|shared| shared.progress().buffered)
                .fold(most, u64::max);
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let sent = chain.produce(std::iter::repeat_n(128 << 10, 400));
    assert_eq!(slow.join().unwrap().unwrap().1, sent);
    assert_eq!(fast.join().unwrap().unwrap().1, sent);
    let most = watcher.join().unwrap();
    assert!(most <= window as u64, "{most} bytes retained");
    assert!(most > window as u64 / 2, "the window was never used: {most}");
}

/// The producer reports what the head waits for. It has room by eighths of the window, and the pump gets
/// nothing meanwhile.
#[test]
fn a_producer_that_waits_for_room_is_not_said_to_read() {
    let mut chain = chain(1, 8 << 20);
    let slow = chain.consume(1, |_| std::thread::sleep(Duration::from_millis(5)));
    let shared = Arc::clone(&chain.shared[0]);
    let before = shared.head_sums();
    chain.produce(std::iter::repeat_n(128 << 10, 300));
    let pace = shared.head_sums().since(&before);
    slow.join().unwrap().unwrap();
    assert!(pace.downstream_ms > pace.elapsed_ms * 6 / 10, "{pace:?}");
    assert!(pace.upstream_ms < pace.elapsed_ms * 4 / 10, "{pace:?}");
}

#[test]
fn what_is_left_of_a_stream_that_failed_is_given_to_nobody() {
    let mut chain = chain(1, 8 << 20);
    let (said, hear) = std::sync::mpsc::channel();
    let (let_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let consumer = chain.consume(1, move |_| {
        said.send(()).ok();
        // Until the other end is dropped.
        let _ = may_go_on.recv();
    });
    // More than the consumer has taken, and no end: a stream that a node has whole does not fail any more.
    let mut head = chain.head.take().unwrap();
    for _ in 0..40 {
        head.send(vec![7; 128 << 10]).unwrap();
    }
    hear.recv_timeout(LIMIT).unwrap();
    chain.shared[1].post(PumpInput::Abort("set aside".to_owned()));
    // The pump has long taken it in when the consumer wants more.
    std::thread::sleep(Duration::from_millis(500));
    drop(let_on);
    let began = Instant::now();
    assert!(consumer.join().unwrap().unwrap_err().contains("set aside"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn window_of_tiny_blocks_is_bounded_by_its_memory() {
    let mut chain = chain(1, 6 << 20);
    let consumer = chain.consume(1, |_| ());
    let sent = chain.produce(std::iter::repeat_n(1, 100_000));
    assert_eq!(consumer.join().unwrap().unwrap(), (100_000, sent));
    chain.assert_closed(0);
}

#[test]
fn consumer_that_gives_up_does_not_stop_its_successor() {
    let mut chain = chain(2, 8 << 20);
    let mut reader = chain.readers[0].take().unwrap();
    let gives_up = std::thread::spawn(move || {
        reader.recv().unwrap();
        reader.finish(Err("disk full".to_owned())).unwrap();
    });
    let other = chain.consume(2, |_| ());
    let sent = chain.produce(std::iter::repeat_n(128 << 10, 400));
    gives_up.join().unwrap();
    assert_eq!(other.join().unwrap().unwrap().1, sent);
    chain.assert_closed(0);
    let mut reasons = Vec::new();
    while let Ok(report) = chain.reports[1].try_recv() {
        if let PumpEvent::ConsumerFailed { reason } = report.what {
            reasons.push(reason);
        }
    }
    assert_eq!(reasons, ["disk full"]);
}

#[test]
fn lost_middle_node_ends_the_stream_of_its_neighbours_in_bounded_time() {
    let mut chain = chain(3, 8 << 20);
    let consumers: Vec<_> = (1..=3)
        .map(|node| chain.consume(node, |_| std::thread::sleep(Duration::from_millis(1))))
        .collect();
    let mut head = chain.head.take().unwrap();
    for _ in 0..100 {
        head.send(vec![7; 128 << 10]).unwrap();
    }
    chain.shared[2].post(PumpInput::Abort("killed by the test".to_owned()));
    // No server names other neighbours here. The tail fails in its time, and the others go on as the whole
    // chain.
    for _ in 0..100 {
        head.send(vec![8; 128 << 10]).unwrap();
    }
    chain.shared[0].post(PumpInput::ProducerDone);
    let ended: Vec<_> = consumers
        .into_iter()
        .map(|consumer| consumer.join().unwrap())
        .collect();
    assert_eq!(ended[0].as_ref().map(|(bytes, _)| *bytes), Ok(200 * (128 << 10)));
    assert_eq!(
        ended[1],
        Err("stream name of the stream: killed by the test".to_owned())
    );
    assert!(
        ended[2]
            .as_ref()
            .is_err_and(|reason| reason.contains("predecessor")),
        "{ended:?}"
    );
    chain.assert_closed(0);
}

#[test]
fn successor_that_comes_before_it_is_named_is_kept_until_then() {
    let mut chain = chain(2, 8 << 20);
    let orphan = chain.consume(2, |_| ());
    chain.shared[1].post(PumpInput::Abort("killed by the test".to_owned()));
    chain.last_report(1);
    let predecessor = Some(Peer {
        node: NodeId(0),
        addr: chain.addrs[0],
    });
    chain.links[2].name_predecessor(NodeId(0), link_key(2, 0));
    chain.shared[2].post(PumpInput::Relink {
        predecessor,
        successor: None,
    });
    std::thread::sleep(Duration::from_millis(300));
    let successor = Some(Successor::Node(NodeId(2)));
    chain.links[0].name_successor(Some((NodeId(2), link_key(2, 0))));
    chain.shared[0].post(PumpInput::Relink {
        predecessor: None,
        successor,
    });
    let sent = chain.produce([1000, 2000]);
    assert_eq!(orphan.join().unwrap(), Ok((3000, sent)));
    while let Ok(report) = chain.reports[2].try_recv() {
        let lost_again = matches!(&report.what, PumpEvent::LinkLost { offset, .. } if offset.0 > 0);
        assert!(!lost_again, "{report:?}");
    }
    chain.assert_closed(0);
}

/// If a predecessor let it in later, it would take the place of the connection that is wanted now.
#[test]
fn an_attempt_that_was_given_up_is_no_connection_any_more() {
    use std::io::Read;
    let addrs = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let mut chain = Chain::empty(None);
    chain.addrs.push(addrs[0].local_addr().unwrap());
    chain.join(1, 1, 8 << 20);
    let greeted = |listener: &std::net::TcpListener| {
        let mut socket = listener.accept().unwrap().0;
        socket.read_exact(&mut [0; HELLO_LEN]).unwrap();
        socket
    };
    let mut given_up = greeted(&addrs[0]);
    chain.shared[0].post(PumpInput::Relink {
        predecessor: Some(Peer {
            node: NodeId(0),
            addr: addrs[1].local_addr().unwrap(),
        }),
        successor: None,
    });
    let _wanted = greeted(&addrs[1]);
    given_up
        .set_read_timeout(Some(LINK_HANDSHAKE_TIMEOUT / 2))
        .unwrap();
    let read = given_up.read(&mut [0]);
    let is_gone = match &read {
        Ok(count) => *count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(is_gone, "{read:?}");
    chain.shared[0].post(PumpInput::Abort("the test is over".to_owned()));
}

#[test]
fn strangers_at_the_data_port_get_no_byte_and_do_not_disturb_the_stream() {
    use std::io::{Read, Write};
    let mut chain = chain(1, 8 << 20);
    let mut garbage = std::net::TcpStream::connect(chain.addrs[0]).unwrap();
    garbage.write_all(&[0x55; 4096]).ok();
    let mut silent = std::net::TcpStream::connect(chain.addrs[0]).unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    let consumer = chain.consume(1, |_| ());
    let sent = chain.produce([1000, 1000]);
    assert_eq!(consumer.join().unwrap().unwrap().1, sent);
    let mut answer = Vec::new();
    // A reset is as good as an end: what counts is that nothing was said.
    garbage.read_to_end(&mut answer).ok();
    silent.read_to_end(&mut answer).ok();
    assert!(answer.is_empty());
    let mut reasons = [(); 2].map(|()| chain.strangers.blocking_recv().unwrap().reason);
    reasons.sort();
    assert!(reasons[0].contains("malformed"), "{reasons:?}");
    assert!(reasons[1].contains("said nothing valid"), "{reasons:?}");
}
