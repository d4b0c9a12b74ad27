//! Binding a server's ports and starting its tasks.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ka_proto::RunId;
use ka_proto::limits;
use ka_proto::run::{RunConfig, StageTimeouts};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::accept::{Doorkeeper, Gate};
use super::answers::Budget;
use super::approvals::Approvals;
use super::core::Core;
use super::messages::Queues;
use super::outbox::Outbox;
use super::types::ServerConfig;
use super::via::Operators;
use super::{LocalAddrs, Server};
use crate::code::JoinCode;
use crate::discovery::{Beacons, Responder};
use crate::error::{OwnPort, TransportError};
use crate::net::{listen_tcp, listen_tcp_or_ephemeral, reachable_addrs};
use crate::stream::Door;
use crate::tls;

/// Events kept for a user interface that is slow to read them.
const MAX_EVENTS: usize = 16 << 10;
/// Messages of all nodes waiting for the core; more wait in their sockets.
const MAX_INPUTS: usize = 1024;
/// Nice value of the network's threads: ahead of everything ordinary, behind the kernel's own.
const CONTROL_NICE: i32 = -10;
/// Strangers waiting to be shown.
const MAX_STRANGERS: usize = 64;

/// See [`Server::start`].
pub(super) fn start(config: &ServerConfig) -> Result<Server, TransportError> {
    let listen = usable_address(config.listen);
    let control = listen_tcp(SocketAddr::new(listen, config.control_port), OwnPort::Control)?;
    let data = listen_tcp_or_ephemeral(SocketAddr::new(listen, config.data_port), OwnPort::Data)?;
    let (control_addr, data_addr) = (local_addr(&control)?, local_addr(&data)?);
    let (events, event_queue) = crossbeam_channel::bounded(MAX_EVENTS);
    let beacons = Beacons {
        token: config.beacon,
        events: events.clone(),
    };
    let outbox = Outbox::new(events);
    let responder = Responder::bind(
        config.listen,
        control_addr.port(),
        config.secret,
        &config.session,
        beacons,
    )?;
    let run_config = run_config(config, data_addr.port())?;
    let acceptor = TlsAcceptor::from(tls::server_config(&config.key)?);
    let runtime = runtime("ka-server-net")?;
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (inputs, input_queue) = mpsc::channel(MAX_INPUTS);
    let (strangers, stranger_queue) = mpsc::channel(MAX_STRANGERS);
    let door = Door::new(strangers.clone());
    let approvals = Approvals::default();
    let gate = Gate {
        acceptor,
        secret: config.secret,
        handshake: config.timeouts.handshake,
        silence: control_silence(config),
        idle_silence: config.timeouts.idle_silence,
        operators: Operators::new(config.key.fingerprint(), inputs.clone()),
        core: inputs,
        strangers,
        doorkeeper: doorkeeper(config, &approvals, &outbox),
        connections: Arc::new(AtomicU64::new(1)),
        budget: Budget::default(),
    };
    let guard = runtime.enter();
    let listening = TransportError::system("listening");
    tokio::spawn(gate.serve(tokio::net::TcpListener::from_std(control).map_err(&listening)?));
    tokio::spawn(
        door.clone()
            .serve(tokio::net::TcpListener::from_std(data).map_err(&listening)?),
    );
    responder.serve()?;
    let queues = Queues {
        commands: command_queue,
        inputs: input_queue,
        strangers: stranger_queue,
    };
    tokio::spawn(Core::new(config, run_config, door, outbox).serve(queues));
    drop(guard);
    let local = LocalAddrs {
        control: control_addr,
        data: data_addr,
        reachable: reachable_addrs(listen),
    };
    Ok(Server {
        commands,
        events: event_queue,
        join: join_code(config),
        approvals,
        local,
        runtime: Some(runtime),
    })
}

/// See [`Server::check_listen`].
pub(super) fn check_listen(listen: IpAddr, control_port: u16) -> Result<(), TransportError> {
    let addr = SocketAddr::new(usable_address(listen), control_port);
    listen_tcp(addr, OwnPort::Control).map(drop)
}

fn join_code(config: &ServerConfig) -> JoinCode {
    JoinCode {
        fingerprint: config.key.fingerprint(),
        secret: config.secret,
    }
}

fn doorkeeper(config: &ServerConfig, approvals: &Approvals, events: &Outbox) -> Doorkeeper {
    Doorkeeper {
        approval: config.approval,
        known_macs: config.known_macs.clone(),
        contradiction: config.contradiction.clone(),
        approvals: approvals.clone(),
        events: events.clone(),
    }
}

/// A small runtime: it carries control messages and handshakes, never data.
pub(crate) fn runtime(name: &'static str) -> Result<Runtime, TransportError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .on_thread_start(go_first)
        .enable_all()
        .build()
        .map_err(TransportError::system("starting the network threads"))
}

/// A node that verifies or syncs with every processor busy must still answer the server. Threads inherit this (nice(2)),
/// the pumps too: their work is small beside the disk's, and others wait for it. Without the right to do so all is as
/// it was.
fn go_first() {
    rustix::process::setpriority_process(None, CONTROL_NICE).ok();
}

/// Every address means every IPv4 address on a kernel without IPv6.
fn usable_address(listen: IpAddr) -> IpAddr {
    let any_v6 = IpAddr::from([0u8; 16]);
    let lacks_v6 = listen == any_v6 && std::net::UdpSocket::bind((any_v6, 0)).is_err();
    if lacks_v6 { IpAddr::from([0u8; 4]) } else { listen }
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, TransportError> {
    listener
        .local_addr()
        .map_err(TransportError::system("reading the own address"))
}

/// A new round's number and key.
pub(super) fn run_keys() -> Result<(RunId, [u8; 32]), TransportError> {
    let (mut run, mut run_key) = ([0; 16], [0; 32]);
    getrandom::fill(&mut run).map_err(|_| TransportError::Random)?;
    getrandom::fill(&mut run_key).map_err(|_| TransportError::Random)?;
    Ok((RunId(run), run_key))
}

/// With a spool, a node that nobody hears may come back: its connection is kept for so long.
fn control_silence(config: &ServerConfig) -> Duration {
    let kept = config.spool.is_some() && config.heal;
    let least = if kept {
        limits::AWAY_SILENCE
    } else {
        Duration::ZERO
    };
    config.timeouts.silence.max(least)
}

fn run_config(config: &ServerConfig, data_port: u16) -> Result<RunConfig, TransportError> {
    let (run, run_key) = run_keys()?;
    let link_silence = config.timeouts.link_silence;
    Ok(RunConfig {
        run,
        run_key,
        cipher: config.encrypt.then(crate::cipher::fastest),
        session: config.session.clone(),
        offer: config.offer.clone(),
        round: 1,
        rounds: config.rounds,
        wanted: config.wanted,
        wait: config.wait,
        data_port,
        hold_release: config.hold_release,
        commits: config.commits,
        unique_names: config.unique_names.clone(),
        heal: config.heal,
        tolerance: config.tolerance,
        spool: config.spool.is_some() && config.heal,
        min_rate: config.min_rate,
        link_silence,
        heartbeat: limits::link_heartbeat(link_silence),
        silence: control_silence(config).max(link_silence * 2),
        any_address: config.any_address,
        idle_silence: config.timeouts.idle_silence,
        timeouts: StageTimeouts {
            prepare: config.timeouts.prepare,
            go: config.timeouts.go,
            stall: config.timeouts.stall,
            report: config.timeouts.report,
            leave: limits::LEAVE_TIMEOUT,
        },
    })
}
