//! Sockets, threads and clocks around `ka_proto`, behind a blocking facade.
//!
//! Here: the join code and the server's key, the control connection (TLS 1.3, raw public keys), discovery, and the
//! chain's data connections with one pump thread per stream. [`Server`], [`Node`] and, for `ka-status`, [`OperatorDoor`] and
//! [`OperatorConnection`] are all that binaries see; tokio
//! stays inside. Not here: what decides (the machines of `ka_proto`) and what the payloads and streams mean.
//!
//! Specification: issue 2 §2, §6, §7, §9 and `docs/protocol.md`.

pub mod beacon;
mod cipher;
mod code;
mod control;
mod discovery;
mod error;
mod key;
mod lobby;
mod net;
mod node;
mod operator;
mod run_lock;
mod server;
mod spool_dir;
mod stream;
mod tls;
mod tunnel;

pub use code::{JoinCode, JoinCodeError};
pub use error::{OwnPort, TransportError};
pub use key::{Rotated, ServerKey, fingerprint_of_public_key, is_signed_text};
pub use node::{EventSender, JoinEvent, Joined, Node, NodeConfig, Order};
pub use operator::{
    Operator, OperatorCommands, OperatorConnection, OperatorDoor, OperatorEntrance, OperatorWriter, nodes_of,
};
pub use run_lock::RunLock;
pub use server::{
    Answers, ApprovalWanted, Approvals, Contradiction, Endings, Failure, KnownMacs, LocalAddrs, NodeInfo,
    Outcome, Server, ServerConfig, ServerEvent, StreamSummary, Timeouts,
    types::{CONTROL_PORT, DATA_PORT, DEFAULT_WINDOW_BYTES},
};
pub use spool_dir::{SpoolDir, SpoolDirError};
pub use stream::{Block, StreamReader, StreamWriter};
