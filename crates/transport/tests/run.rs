//! Whole runs over loopback: real TLS, discovery and chains, through the public facade only.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ka_proto::run::RunEvent;
use ka_proto::wire::Payload;
use ka_proto::{NodeName, SessionName, StreamName};
use ka_transport::{
    JoinCode, JoinEvent, Node, NodeConfig, Order, Server, ServerConfig, ServerEvent, ServerKey, StreamReader,
    TransportError, beacon,
};

/// No test may take longer, whatever breaks.
const LIMIT: Duration = Duration::from_secs(60);

fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waits) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = work();
        done.send(()).ok();
        result
    });
    let timed_out = waits.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!timed_out, "the test hangs");
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Returns a server for `wanted` nodes on a loopback address of its own.
fn server(last: u8, wanted: u32) -> Server {
    let mut config = server_config(last);
    config.run.wanted = Some(wanted);
    Server::start(config).unwrap()
}

fn server_config(last: u8) -> ServerConfig {
    let session = SessionName::new(&format!("test{last}")).unwrap();
    let mut config = ServerConfig::new(session, ServerKey::ephemeral().unwrap(), [last; 16]).unwrap();
    config.listen = IpAddr::from([127, 0, 1, last]);
    config.control_port = 0;
    config.run.data_port = 0;
    config.handshake = Duration::from_secs(1);
    config
}

fn node_config(server: &Server, last: u8, number: u8) -> NodeConfig {
    let session = SessionName::new(&format!("test{last}")).unwrap();
    let name = NodeName::new(&format!("n{number}")).unwrap();
    let mut config = NodeConfig::new(session, server.join_code().clone(), name);
    config.server = Some(server.local_addrs().control.to_string());
    config.listen = Some(IpAddr::from([127, 0, 2, number]));
    config.retries = 0;
    config
}

/// Reads a stream as a test node does. Returns the number of bytes and their hash.
fn swallow(mut reader: StreamReader, pause: Duration) -> Result<(u64, blake3::Hash), TransportError> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    while let Some(block) = reader.recv()? {
        hasher.update(block.as_ref());
        bytes += block.as_ref().len() as u64;
        std::thread::sleep(pause);
    }
    reader.finish(Ok(()))?;
    Ok((bytes, hasher.finalize()))
}

/// Returns a node that does everything it is asked, and reports its streams as text.
fn good_node(config: NodeConfig, pause: Duration) -> JoinHandle<Result<(), TransportError>> {
    std::thread::spawn(move || {
        let node = Node::join(config, |_| ())?;
        let mut report = String::new();
        loop {
            match node.next_order()? {
                Order::Prepare(payload) => node.prepared(payload)?,
                Order::Go => node.ready()?,
                Order::Stream(reader) => {
                    let (bytes, hash) = swallow(reader, pause)?;
                    report += &format!("{bytes} {hash};");
                }
                Order::Finish => node.report(report.clone().into_bytes())?,
                Order::Commit => node.bootable()?,
                Order::Release => return Ok(()),
                Order::Aborted { reason, .. } => return Err(TransportError::Aborted { reason }),
            }
        }
    })
}

fn send_stream(server: &Server, name: &str, lens: impl IntoIterator<Item = usize>) -> String {
    let mut writer = server.open_stream(&StreamName::new(name).unwrap()).unwrap();
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    for (number, len) in lens.into_iter().enumerate() {
        let mut block = writer.buffer(len);
        block.resize(len, u8::try_from(number % 253).unwrap());
        hasher.update(&block);
        bytes += len;
        writer.send(block).unwrap();
    }
    let summary = writer.finish().unwrap();
    assert_eq!(summary.bytes, bytes as u64);
    format!("{bytes} {};", hasher.finalize())
}

#[test]
fn four_nodes_go_through_a_whole_run_with_several_streams() {
    within_limit(|| {
        let server = server(1, 4);
        // Started in another order than that of their addresses.
        let nodes: Vec<_> = [3, 1, 4, 2]
            .map(|n| good_node(node_config(&server, 1, n), Duration::ZERO))
            .into_iter()
            .collect();
        let chain = server.gather().unwrap();
        assert_eq!(
            chain.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
            ["n1", "n2", "n3", "n4"]
        );
        assert_eq!(
            chain.iter().map(|node| node.position.0).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        let plans = server.prepare(b"spec".to_vec()).unwrap();
        assert!(
            plans
                .iter()
                .all(|(_, plan)| *plan == Ok(Payload(b"spec".to_vec())))
        );
        assert!(server.go().unwrap().iter().all(|(_, outcome)| outcome.is_ok()));
        let mut expected = send_stream(&server, "kainstall2", std::iter::repeat_n(128 << 10, 512));
        expected += &send_stream(&server, "kainstall3", []);
        expected += &send_stream(&server, "kainstall4", [1]);
        expected += &send_stream(&server, "kainstall5", [1 << 20, 7, 300_000]);
        let reports = server.collect_reports(|_, _| {}).unwrap();
        for (node, report) in &reports {
            assert_eq!(*report, Ok(Payload(expected.clone().into_bytes())), "{node}");
        }
        server.release(Duration::ZERO).unwrap();
        for node in nodes {
            node.join().unwrap().unwrap();
        }
    });
}

#[test]
fn node_finds_its_server_by_broadcast() {
    within_limit(|| {
        let server = server(2, 1);
        let mut config = node_config(&server, 2, 20);
        config.server = None;
        config.control_port = server.local_addrs().control.port();
        let mut tried = Vec::new();
        let node = Node::join(config, |event| tried.push(event.clone())).unwrap();
        assert_eq!(node.joined().server, server.local_addrs().control);
        assert_eq!(node.joined().local.ip(), IpAddr::from([127, 0, 2, 20]));
        assert!(
            matches!(&tried[..], [JoinEvent::Trying { what, .. }] if what.contains("127.255.255.255")),
            "{tried:?}"
        );
        assert_eq!(server.gather().unwrap().len(), 1);
    });
}

#[test]
fn wrong_code_session_and_key_are_told_apart() {
    within_limit(|| {
        let server = server(3, 2);
        let error = |change: &dyn Fn(&mut NodeConfig)| {
            let mut config = node_config(&server, 3, 30);
            change(&mut config);
            Node::join(config, |_| ()).unwrap_err().to_string()
        };
        let code = server.join_code().clone();
        let wrong_secret = error(&|c| {
            c.join = JoinCode {
                secret: [9; 16],
                ..code.clone()
            }
        });
        assert!(
            wrong_secret.contains("join code is of another run"),
            "{wrong_secret}"
        );
        let wrong_key = error(&|c| {
            c.join = JoinCode {
                fingerprint: [9; 32],
                ..code.clone()
            }
        });
        assert!(
            wrong_key.contains("has another key than the join code says"),
            "{wrong_key}"
        );
        let wrong_session = error(&|c| c.session = SessionName::new("other").unwrap());
        assert!(
            wrong_session.contains("this is session test3, not other"),
            "{wrong_session}"
        );
        let refused = error(&|c| c.server = Some("127.0.1.3:9".to_owned()));
        assert!(refused.contains("refused"), "{refused}");
        let silent = error(&|c| {
            c.server = None;
            c.control_port = 9;
        });
        assert!(
            silent.contains("no answer to broadcasts to UDP port 9 on lo"),
            "{silent}"
        );
        for text in [wrong_secret, wrong_key, wrong_session, refused, silent] {
            assert!(
                text.starts_with("Can't reach a valid KA server for session "),
                "{text}"
            );
        }
        // None of them counts as a node.
        assert!(
            !server
                .events()
                .try_iter()
                .any(|event| matches!(event, ServerEvent::Run(RunEvent::NodeJoined { .. })))
        );
    });
}

#[test]
fn strangers_at_the_control_port_are_dropped_in_time_and_named_once() {
    use std::io::{Read, Write};
    within_limit(|| {
        let server = server(4, 1);
        let addr: SocketAddr = server.local_addrs().control;
        let mut silent = std::net::TcpStream::connect(addr).unwrap();
        let mut garbage = std::net::TcpStream::connect(addr).unwrap();
        garbage.write_all(&[0x16, 3, 1, 0xff, 0xff, 0, 0]).unwrap();
        garbage.write_all(&[7; 2000]).ok();
        let began = Instant::now();
        let mut answer = Vec::new();
        silent.read_to_end(&mut answer).ok();
        assert!(answer.is_empty());
        assert!(began.elapsed() < Duration::from_secs(3));
        garbage.read_to_end(&mut answer).ok();
        std::thread::sleep(Duration::from_millis(200));
        let turned: Vec<_> = server
            .events()
            .try_iter()
            .filter(|event| matches!(event, ServerEvent::ConnectionRefused { .. }))
            .collect();
        assert_eq!(turned.len(), 2, "{turned:?}");
        let node = good_node(node_config(&server, 4, 40), Duration::ZERO);
        assert_eq!(server.gather().unwrap().len(), 1);
        server.abort("enough");
        assert!(
            matches!(node.join().unwrap(), Err(TransportError::Aborted { reason }) if reason == "enough")
        );
    });
}

#[test]
fn node_that_cannot_prepare_is_dropped_and_named_and_the_others_go_on() {
    within_limit(|| {
        let server = server(5, 2);
        let bad = std::thread::spawn({
            let config = node_config(&server, 5, 51);
            move || {
                let node = Node::join(config, |_| ()).unwrap();
                assert!(matches!(node.next_order(), Ok(Order::Prepare(_))));
                node.step_failed("choosing disks", "no disk is large enough")
                    .unwrap();
                node.next_order()
            }
        });
        let good = good_node(node_config(&server, 5, 52), Duration::ZERO);
        server.gather().unwrap();
        let plans = server.prepare(Vec::new()).unwrap();
        let Err(failure) = &plans[0].1 else {
            panic!("{plans:?}")
        };
        assert!(
            failure
                .reason
                .as_str()
                .contains("choosing disks: no disk is large enough"),
            "{failure}"
        );
        assert!(plans[1].1.is_ok());
        assert_eq!(server.go().unwrap().len(), 1);
        let expected = send_stream(&server, "kainstall2", [1000; 10]);
        let reports = server.collect_reports(|_, _| {}).unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].1, Ok(Payload(expected.into_bytes())));
        server.release(Duration::ZERO).unwrap();
        good.join().unwrap().unwrap();
        assert!(matches!(bad.join().unwrap(), Ok(Order::Aborted { .. })));
    });
}

#[test]
fn chain_heals_when_the_middle_node_vanishes() {
    within_limit(|| {
        let server = server(6, 4);
        let victim_left = std::thread::spawn({
            let config = node_config(&server, 6, 62);
            move || {
                let node = Node::join(config, |_| ()).unwrap();
                let Ok(Order::Stream(mut reader)) = node.next_order() else {
                    panic!("no stream")
                };
                for _ in 0..100 {
                    reader.recv().unwrap();
                }
                // Everything of this node goes at once, as when its process is killed.
                drop(node);
            }
        });
        let others: Vec<_> = [61, 63, 64]
            .map(|n| good_node(node_config(&server, 6, n), Duration::ZERO))
            .into_iter()
            .collect();
        server.gather().unwrap();
        let expected = send_stream(&server, "data", std::iter::repeat_n(128 << 10, 2048));
        victim_left.join().unwrap();
        let reports = server.collect_reports(|_, _| {}).unwrap();
        assert_eq!(reports.len(), 3, "{reports:?}");
        for (node, report) in reports {
            assert_eq!(report, Ok(Payload(expected.clone().into_bytes())), "{node}");
        }
        server.release(Duration::ZERO).unwrap();
        for other in others {
            other.join().unwrap().unwrap();
        }
        let failed: Vec<_> = server
            .events()
            .try_iter()
            .filter_map(|event| match event {
                ServerEvent::Run(RunEvent::NodeFailed { node, .. }) => Some(node.name.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(failed, ["n62"]);
    });
}

#[test]
fn stream_ends_clearly_when_every_node_is_gone() {
    within_limit(|| {
        let server = server(7, 1);
        let victim = std::thread::spawn({
            let config = node_config(&server, 7, 70);
            move || {
                let node = Node::join(config, |_| ()).unwrap();
                let Ok(Order::Stream(mut reader)) = node.next_order() else {
                    panic!("no stream")
                };
                reader.recv().unwrap();
                drop(node);
            }
        });
        server.gather().unwrap();
        let mut writer = server.open_stream(&StreamName::new("data").unwrap()).unwrap();
        let error = loop {
            if let Err(error) = writer.send(vec![1; 128 << 10]) {
                break error.to_string();
            }
        };
        victim.join().unwrap();
        assert!(error.contains("no node is left"), "{error}");
        let summary = writer.finish().unwrap();
        assert!(
            summary.nodes.iter().all(|(_, outcome)| outcome.is_err()),
            "{summary:?}"
        );
        assert!(matches!(
            server.collect_reports(|_, _| {}),
            Err(TransportError::NoNodes { .. })
        ));
    });
}

#[test]
fn nodes_notice_that_the_server_is_gone() {
    within_limit(|| {
        let server = server(8, 2);
        let nodes = [81, 82].map(|n| good_node(node_config(&server, 8, n), Duration::ZERO));
        server.gather().unwrap();
        let mut writer = server.open_stream(&StreamName::new("data").unwrap()).unwrap();
        writer.send(vec![1; 1000]).unwrap();
        drop(server);
        for node in nodes {
            let error = node.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("the server has ended"), "{error}");
        }
    });
}

#[test]
fn writer_that_is_dropped_ends_the_run_as_failed() {
    within_limit(|| {
        let server = server(9, 1);
        let node = good_node(node_config(&server, 9, 90), Duration::ZERO);
        server.gather().unwrap();
        let mut writer = server.open_stream(&StreamName::new("data").unwrap()).unwrap();
        writer.send(vec![1; 1000]).unwrap();
        drop(writer);
        let error = node.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("stopped sending before the end"), "{error}");
    });
}

#[test]
fn wait_starts_with_whoever_is_there_and_gives_up_with_nobody() {
    within_limit(|| {
        let mut config = server_config(10);
        config.run.wait = Some(Duration::from_millis(500));
        let server = Server::start(config).unwrap();
        assert!(server.gather().unwrap_err().to_string().contains("nobody came"));
        let mut config = server_config(11);
        config.run.wait = Some(Duration::from_secs(2));
        let server = Server::start(config).unwrap();
        let _node = Node::join(node_config(&server, 11, 110), |_| ()).unwrap();
        assert_eq!(server.gather().unwrap().len(), 1);
        // Too late, and said so at once.
        let late = Node::join(node_config(&server, 11, 111), |_| ())
            .unwrap_err()
            .to_string();
        assert!(late.contains("the run has begun"), "{late}");
    });
}

#[test]
fn go_from_a_node_starts_the_run() {
    within_limit(|| {
        let server = server(12, 5);
        let _first = Node::join(node_config(&server, 12, 120), |_| ()).unwrap();
        let mut config = node_config(&server, 12, 121);
        config.start_now = true;
        let _second = Node::join(config, |_| ()).unwrap();
        assert_eq!(server.gather().unwrap().len(), 2);
    });
}

#[test]
fn node_joins_over_ipv6() {
    within_limit(|| {
        let mut config = server_config(13);
        config.listen = "::1".parse().unwrap();
        config.run.wanted = Some(2);
        let server = match Server::start(config) {
            Ok(server) => server,
            // A kernel without IPv6 has nothing to test.
            Err(TransportError::Listen { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let nodes = [1, 2].map(|number| {
            let mut config = node_config(&server, 13, number);
            config.listen = None;
            config.server = Some(format!("[::1]:{}", server.local_addrs().control.port()));
            good_node(config, Duration::ZERO)
        });
        assert_eq!(server.gather().unwrap().len(), 2);
        let expected = send_stream(&server, "data", [100_000; 20]);
        let reports = server.collect_reports(|_, _| {}).unwrap();
        assert!(
            reports
                .iter()
                .all(|(_, report)| *report == Ok(Payload(expected.clone().into_bytes())))
        );
        server.release(Duration::ZERO).unwrap();
        for node in nodes {
            node.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_clone_that_booted_is_heard_when_the_run_is_long_over() {
    within_limit(|| {
        let mut config = server_config(14);
        config.run.wanted = Some(1);
        config.beacon = Some([5; 32]);
        let server = Server::start(config).unwrap();
        let node = good_node(node_config(&server, 14, 140), Duration::ZERO);
        let id = server.gather().unwrap()[0].id;
        send_stream(&server, "data", [1000]);
        server.collect_reports(|_, _| {}).unwrap();
        server.release(Duration::ZERO).unwrap();
        node.join().unwrap().unwrap();

        let (addr, name) = (server.local_addrs().control, NodeName::new("n140").unwrap());
        let say = |token, secs| {
            beacon::announce(&[addr], token, (id, &name, None), Duration::from_secs(secs)).unwrap()
        };
        assert!(!say(&[6; 32], 1), "a stranger is answered");
        assert!(say(&[5; 32], 20));
        let booted = server.events().try_iter().find_map(|event| match event {
            ServerEvent::CloneBooted { node, name, .. } => Some((node, name)),
            _ => None,
        });
        assert_eq!(booted, Some((id, "n140".to_owned())));
    });
}
