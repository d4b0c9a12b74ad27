//! Binding a server's ports and starting its tasks.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ka_proto::limits;
use ka_proto::run::RunConfig;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::accept::{ControlListener, JoinPolicy};
use super::answers::Budget;
use super::approvals::Approvals;
use super::core::Core;
use super::messages::Queues;
use super::outbox::Outbox;
use super::types::ServerConfig;
use super::via::{ViaService, Works};
use super::{LocalAddrs, Server};
use crate::code::JoinCode;
use crate::discovery::{Beacons, Responder};
use crate::error::{OwnPort, TransportError};
use crate::net::{listen_tcp, listen_tcp_or_ephemeral, reachable_addrs};
use crate::stream::LinkListener;
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
    let data = listen_tcp_or_ephemeral(SocketAddr::new(listen, config.run.data_port), OwnPort::Data)?;
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
        &config.run.session,
        beacons,
    )?;
    let run_config = complete(config, data_addr.port());
    let acceptor = TlsAcceptor::from(tls::server_config(&config.key)?);
    let runtime = runtime("ka-server-net")?;
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (inputs, input_queue) = mpsc::channel(MAX_INPUTS);
    let (strangers, stranger_queue) = mpsc::channel(MAX_STRANGERS);
    let link_listener = LinkListener::new(strangers.clone());
    let approvals = Approvals::default();
    let works = Works::default();
    let control_listener = ControlListener {
        acceptor,
        secret: config.secret,
        handshake: config.handshake,
        silence: control_silence(config),
        idle_silence: config.run.idle_silence,
        operators: ViaService::new(config.key.fingerprint(), inputs.clone(), works.clone()),
        core: inputs,
        strangers,
        policy: join_policy(config, &approvals, &outbox),
        connections: Arc::new(AtomicU64::new(1)),
        budget: Budget::default(),
    };
    let guard = runtime.enter();
    let listening = TransportError::system("listening");
    tokio::spawn(control_listener.serve(tokio::net::TcpListener::from_std(control).map_err(&listening)?));
    tokio::spawn(
        link_listener
            .clone()
            .serve(tokio::net::TcpListener::from_std(data).map_err(&listening)?),
    );
    responder.serve()?;
    let queues = Queues {
        commands: command_queue,
        inputs: input_queue,
        strangers: stranger_queue,
    };
    tokio::spawn(Core::new(config, run_config, link_listener, outbox).serve(queues));
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
        works,
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

fn join_policy(config: &ServerConfig, approvals: &Approvals, events: &Outbox) -> JoinPolicy {
    JoinPolicy {
        admission: config.admission.clone(),
        approvals: approvals.clone(),
        events: events.clone(),
    }
}

/// Returns a small runtime: it carries control messages and handshakes, never data.
pub(crate) fn runtime(name: &'static str) -> Result<Runtime, TransportError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .on_thread_start(go_first)
        .enable_all()
        .build()
        .map_err(TransportError::system("starting the network threads"))
}

/// A node that verifies or syncs with every processor busy must still answer the server. Threads inherit this
/// (nice(2)), the pumps too: their work is small beside the disk's, and others wait for it. Without the right
/// to do so all is as it was.
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

/// Returns the silence of a control connection. With a spool, a silent node may come back, so its connection
/// is kept for so long.
fn control_silence(config: &ServerConfig) -> Duration {
    let least = if config.spool.is_some() {
        limits::AWAY_SILENCE
    } else {
        Duration::ZERO
    };
    config.run.silence.max(least)
}

/// Returns the run's settings with those that follow from others.
fn complete(config: &ServerConfig, data_port: u16) -> RunConfig {
    let link_silence = config.run.link_silence;
    RunConfig {
        data_port,
        spool: config.spool.is_some(),
        heartbeat: limits::link_heartbeat(link_silence),
        silence: control_silence(config).max(link_silence * 2),
        ..config.run.clone()
    }
}
