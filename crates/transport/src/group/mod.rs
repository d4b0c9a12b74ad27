//! The sockets of a multicast group: datagrams, and the IGMP that keeps switches forwarding them.
//!
//! IPv4 only: a run over IPv6 uses the chain. The machines of `ka_proto::group` decide.

pub(crate) mod arrivals;
pub mod igmp;
pub mod interface;
pub mod probe;
pub mod probing;
pub mod receiver;
pub mod sender;
