//! Sockets, threads and clocks around `ka_proto`, behind a blocking facade.
//!
//! [`Server`] and [`Node`] are the two ends of a run, [`StreamWriter`] and [`StreamReader`] the two ends of a
//! stream in it. [`OperatorListener`] and [`OperatorConnection`] are the two ends of `ka-status`'s connection
//! to a node. Beneath them are the join code and the server's key, control connections (TLS 1.3 with raw
//! public keys), discovery, and the chain's data connections, with one pump thread for each stream. Tokio
//! stays inside.
//!
//! The machines of `ka_proto` decide; what payloads and streams mean is not known here. The bytes are in
//! `docs/protocol.md`.
//!
//! # A run with one node
//!
//! ```
//! use std::thread;
//! use std::time::Duration;
//!
//! use ka_proto::{NodeName, SessionName, StreamName};
//! use ka_transport::{Node, NodeConfig, Order, Server, ServerConfig, ServerKey, TransportError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // The server: any free ports of the loopback interface, and a run that starts with one node.
//! let session = SessionName::new("example")?;
//! let mut config = ServerConfig::new(session.clone(), ServerKey::ephemeral()?, [7; 16])?;
//! config.listen = [127, 0, 0, 1].into();
//! (config.control_port, config.run.data_port) = (0, 0);
//! config.run.wanted = Some(1);
//! let server = Server::start(config)?;
//!
//! // The node: it needs the join code, and here an address, since nobody answers broadcasts on loopback.
//! let mut config = NodeConfig::new(session, server.join_code().clone(), NodeName::new("n1")?);
//! config.server = Some(server.local_addrs().control.to_string());
//! let node = thread::spawn(move || -> Result<Vec<u8>, TransportError> {
//!     let node = Node::join(config, |_| ())?;
//!     let mut received = Vec::new();
//!     loop {
//!         match node.next_order()? {
//!             Order::Prepare(question) => node.prepared(question)?,
//!             Order::Go => node.ready()?,
//!             Order::Stream(mut reader) => {
//!                 while let Some(block) = reader.recv()? {
//!                     received.extend_from_slice(block.as_ref());
//!                 }
//!                 reader.finish(Ok(()))?;
//!             }
//!             Order::Finish => node.report(b"all is well".to_vec())?,
//!             Order::Commit => node.bootable()?,
//!             Order::Release => return Ok(received),
//!             Order::Aborted { reason, .. } => return Err(TransportError::Aborted { reason }),
//!         }
//!     }
//! });
//!
//! // The stages of a run, in their order. Each blocks until every node has answered or is out.
//! server.gather()?;
//! server.prepare(b"the spec".to_vec())?;
//! server.go()?;
//! let mut writer = server.open_stream(&StreamName::new("kainstall2")?)?;
//! writer.send(b"golden ".to_vec())?;
//! writer.send(b"bytes".to_vec())?;
//! assert_eq!(writer.finish()?.bytes, 12);
//! server.collect_reports(|node, report| assert_eq!((node.name.as_str(), report), ("n1", &b"all is well"[..])))?;
//! server.release(Duration::ZERO)?;
//! assert_eq!(node.join().expect("the node's thread")?, b"golden bytes");
//! # Ok(())
//! # }
//! ```

pub mod beacon;
mod cipher;
mod code;
mod control;
mod discovery;
mod error;
pub mod group;
pub mod join_file;
mod key;
mod net;
mod node;
mod operator;
mod pending;
mod run_lock;
mod server;
mod spool_dir;
mod stream;
mod tls;
mod tunnel;

pub use code::{JoinCode, JoinCodeError};
pub use error::{OwnPort, TransportError};
pub use key::{Rotated, ServerKey, fingerprint_of_public_key, is_signed_text};
pub use node::{EventSender, JoinEvent, Joined, Node, NodeConfig, Order, WiringSource};
pub use operator::{
    Operator, OperatorAcceptor, OperatorCommands, OperatorConnection, OperatorListener, OperatorWriter,
    nodes_of,
};
pub use run_lock::RunLock;
pub use server::{
    Admission, Answers, ApprovalWanted, Approvals, Contradiction, Endings, KnownMacs, LocalAddrs, Server,
    ServerConfig, ServerEvent, StreamSummary, StreamWriter,
    types::{CONTROL_PORT, DATA_PORT, DEFAULT_WINDOW_BYTES},
};
pub use spool_dir::{SpoolDir, SpoolDirError};
pub use stream::{Block, StreamReader};
