//! Messages, codec and state machines of KA, without sockets, files, threads or clocks.
//!
//! Here is every message that crosses the network, with its limits ([`control`], [`block`], [`link`],
//! [`discovery`], [`operator`], [`tunnel`], [`via`]). Here are also the proofs that open a connection
//! ([`auth`]), the order of a chain ([`order`]) and three machines that decide the next steps. [`relay`] has one stream at one node, [`run`]
//! the server's side of a run, and [`node`] the node's side of it. A machine takes `handle_*(now, …)` and
//! returns `poll_*`; `now` is a [`std::time::Duration`] since any fixed moment. The simulator drives all of
//! them in virtual time from a seed; it is built with the tests only.
//!
//! Not here: sockets, tokio, threads, randomness (the caller hands nonces and keys in), and the meaning of
//! streams and payloads.
//!
//! Specification: `docs/protocol.md`.

pub mod auth;
pub mod block;
pub mod control;
pub mod discovery;
pub mod group;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod link;
pub mod node;
pub mod operator;
pub mod order;
pub mod pace;
pub mod relay;
pub mod run;
#[cfg(test)]
mod sim;
pub mod text;
pub mod tunnel;
pub mod via;
pub mod wire;
pub mod wiring;

pub use ids::{
    ByteCount, ChainPosition, NodeId, PROTOCOL_VERSION, ProtocolVersion, RunId, StreamId, StreamOffset,
};
pub use text::{NodeHandle, NodeName, PlaceName, Reason, SessionName, StreamName};
pub use wire::WireError;
