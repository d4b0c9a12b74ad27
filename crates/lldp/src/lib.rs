//! LLDP (IEEE 802.1AB): a switch tells every line which switch and which port it is. A machine that listens knows
//! where in the room it is plugged in.
//!
//! [`frame`] and [`Neighbours`] are pure: bytes and times come in, a [`ka_proto::wiring::Wiring`] comes out.
//! [`Listener`] has the sockets and threads around them. It sends nothing, and nobody waits for it: switches
//! repeat their frames every 30 s by default, and many send one as soon as a line comes up.
//!
//! Not here: the order that follows from it (`ka_proto::order`).

pub mod frame;
mod listener;
mod neighbours;

pub use listener::{Listener, Sockets, WeakListener};
pub use neighbours::Neighbours;
