//! Messages, codec and state machines of KA, without sockets, files, threads or clocks.
//!
//! What is here: every message that crosses the network with its limits ([`control`], [`block`], [`link`],
//! [`discovery`], [`operator`], [`tunnel`], [`via`]), the proofs that open a connection ([`auth`]), and three machines that decide what happens next:
//! [`relay`] (one stream at one node), [`run`] (the server's side of a run) and [`node`] (the node's side of it).
//! A machine takes `handle_*(now, …)` and gives `poll_*`; `now` is a [`std::time::Duration`] since any fixed moment.
//! [`sim`] drives all of them in virtual time from a seed.
//!
//! What is not here: sockets, tokio, threads, randomness (the caller hands nonces and keys in), and any idea of what
//! the streams and payloads carry.
//!
//! Specification: `docs/protocol.md`.

pub mod auth;
pub mod block;
pub mod control;
pub mod discovery;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod link;
pub mod node;
pub mod operator;
pub mod pace;
pub mod relay;
pub mod run;
pub mod sim;
pub mod text;
pub mod tunnel;
pub mod via;
pub mod wire;

pub use ids::{
    ByteCount, ChainPosition, MacAddr, NodeId, PROTOCOL_VERSION, ProtocolVersion, RunId, StreamId,
    StreamOffset,
};
pub use text::{NodeHandle, NodeName, Reason, SessionName, StreamName};
pub use wire::WireError;
