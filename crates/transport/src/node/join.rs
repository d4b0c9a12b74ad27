//! The tries of [`Node::join`], and the tasks that start when one succeeds.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ka_proto::control::ToNode;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::connection::serve_connection;
use super::core::Core;
use super::find::{AcceptedJoin, NotJoined, describe, locate, meet};
use super::{JoinEvent, Joined, Node, NodeConfig};
use crate::error::{OwnPort, TransportError};
use crate::net::listen_tcp_or_ephemeral;
use crate::server::runtime;
use crate::stream::LinkListener;

/// Pause after the first failed try; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Strangers waiting to be logged.
const MAX_STRANGERS: usize = 64;

/// See [`Node::join`].
pub(super) fn join(config: &NodeConfig, mut on_try: impl FnMut(&JoinEvent)) -> Result<Node, TransportError> {
    let runtime = runtime("ka-client-net")?;
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        on_try(&JoinEvent::Trying {
            attempt,
            what: describe(config),
        });
        match try_once(config, &runtime, &mut on_try) {
            Ok((met, listener)) => return begin(config, runtime, met, listener),
            Err(JoinFailure::Fatal(error)) => return Err(error),
            Err(JoinFailure::Not(NotJoined::Refused { server, reason })) => {
                return Err(TransportError::Refused {
                    session: config.session.to_string(),
                    server,
                    reason,
                });
            }
            Err(JoinFailure::Not(NotJoined::Done { server })) => {
                return Err(TransportError::DoneAlready { server });
            }
            Err(JoinFailure::Not(not @ (NotJoined::Yet(_) | NotJoined::Silence(_)))) => {
                let (reason, brief) = not.words();
                if attempt > config.retries {
                    let tries = if attempt == 1 { "try" } else { "tries" };
                    return Err(TransportError::NoServer {
                        session: config.session.to_string(),
                        tried: format!("{reason} ({attempt} {tries})"),
                    });
                }
                on_try(&JoinEvent::Failed {
                    attempt,
                    reason: brief,
                    pause,
                });
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // The loop above ends by returning; u32 attempts take a century.
    Err(TransportError::Misuse("tried for ever"))
}

enum JoinFailure {
    /// Trying again does not help.
    Fatal(TransportError),
    Not(NotJoined),
}

/// One try. The data port is bound before the server hears of it.
fn try_once(
    config: &NodeConfig,
    runtime: &Runtime,
    on_try: &mut impl FnMut(&JoinEvent),
) -> Result<(AcceptedJoin, std::net::TcpListener), JoinFailure> {
    let server = runtime.block_on(locate(config)).map_err(JoinFailure::Not)?;
    let any: IpAddr = if server.is_ipv4() {
        [0u8; 4].into()
    } else {
        [0u8; 16].into()
    };
    let addr = SocketAddr::new(config.listen.unwrap_or(any), config.data_port);
    let listener = listen_tcp_or_ephemeral(addr, OwnPort::Data).map_err(JoinFailure::Fatal)?;
    let port = listener
        .local_addr()
        .map_err(|source| JoinFailure::Fatal(TransportError::system("reading the own data port")(source)))?
        .port();
    let met = runtime
        .block_on(async {
            let asked = meet(config, server, port).await?;
            asked.answer(config, on_try).await
        })
        .map_err(JoinFailure::Not)?;
    Ok((met, listener))
}

fn begin(
    config: &NodeConfig,
    runtime: Runtime,
    met: AcceptedJoin,
    listener: std::net::TcpListener,
) -> Result<Node, TransportError> {
    let ToNode::Accepted { node, silence_ms, .. } = met.accepted else {
        return Err(TransportError::Misuse("joined without being accepted"));
    };
    // The machine judges the server's silence; reading only ends later than that.
    let told = Duration::from_millis(silence_ms.into()) + config.silence / 4;
    let data = listener
        .local_addr()
        .map_err(TransportError::system("reading the own data port"))?;
    let joined = Joined {
        name: config.name.clone(),
        mac: config.mac,
        wiring: met.wiring,
        server: met.server,
        local: met.local,
        data,
        id: node,
    };
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (orders, order_queue) = crossbeam_channel::unbounded();
    let (strangers, stranger_queue) = mpsc::channel(MAX_STRANGERS);
    let guard = runtime.enter();
    let link_listener = LinkListener::new(strangers);
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(TransportError::system("listening for data"))?;
    tokio::spawn(link_listener.clone().serve(listener));
    let (connection, messages) =
        serve_connection(met.stream, config.silence.max(told), config.operators.clone());
    let core = Core::new(
        config,
        (met.accepted, met.server_key),
        met.local.ip(),
        link_listener,
        connection,
        orders,
    );
    let aborts = core.aborts();
    tokio::spawn(core.serve(command_queue, messages, stranger_queue));
    drop(guard);
    Ok(Node {
        commands,
        orders: order_queue,
        joined,
        aborts,
        runtime: Some(runtime),
    })
}
