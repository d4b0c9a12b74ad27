//! The probe of a group: does it reach each node, at which rate, and with how much loss. It takes at most a
//! second, before a stream.
//!
//! The server asks the nodes to listen ([`ProbeOrder::Listen`]). It sends *greetings*, until each node has
//! confirmed that one arrived: only that proves that switches forward the group. Then it sends a *train* of
//! datagrams at half of the line's rate, and if that arrives, another one at the full rate. After each train,
//! nodes say how many datagrams of it arrived ([`Count`]). [`Outcome::choose`] says which nodes are to be
//! members of the group, or why the chain is used.
//!
//! [`Prober`] is the server's machine, [`Listener`] the node's. Orders and answers go over the control
//! connection. Not here: sockets (`ka_transport::group`).
//! Specification: `docs/protocol.md`, "Probe of a group".

mod choice;
mod count;
mod listener;
mod outcome;
mod prober;

#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::text::Reason;

pub use choice::{ChainReason, Choice, MIN_MEMBERS, Wanted};
pub use count::Count;
pub use listener::Listener;
pub use outcome::{Outcome, Reach};
pub use prober::{Prober, ProberConfig};

/// Longest time of a probe.
pub const PROBE_TIME: Duration = Duration::from_secs(1);
/// Rate of a line whose speed is not known, in bits a second.
pub const ASSUMED_LINE: u64 = 1_000_000_000;
/// Most datagrams of a train: 250 ms at 12 Gbit/s. It bounds the memory of a node.
pub const MAX_TRAIN: u32 = 1 << 18;

/// A series of datagrams of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Train {
    /// Single datagrams, until each node has heard one.
    Greeting,
    /// Half of the line's rate.
    Half,
    /// The line's rate.
    Full,
}

impl Train {
    /// Place of the train's number in the number of a datagram; the rest is the datagram's place in the train.
    const SHIFT: u32 = 28;
    const ALL: [Self; 3] = [Self::Greeting, Self::Half, Self::Full];

    /// Returns the number of a datagram of this train.
    const fn number(self, place: u32) -> u32 {
        (self as u32) << Self::SHIFT | place
    }

    /// Returns the train and the place in it, if a datagram can have this number.
    fn of(number: u32) -> Option<(Self, u32)> {
        let train = Self::ALL.get(usize::try_from(number >> Self::SHIFT).ok()?)?;
        let place = number & ((1 << Self::SHIFT) - 1);
        (place < MAX_TRAIN).then_some((*train, place))
    }
}

/// The group that a node shall listen to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Number of the probe within the run.
    pub probe: u32,
    /// Address and port of the group.
    pub group: SocketAddrV4,
    /// The sender.
    pub sender: NodeId,
    /// Address and port of the sender: nothing else is taken.
    pub from: SocketAddrV4,
    /// Key of this probe, random.
    pub key: [u8; 32],
}

impl std::fmt::Debug for Invitation {
    /// Writes everything but the key, which must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Invitation(probe {}, {} from {})",
            self.probe, self.group, self.from
        )
    }
}

/// The server's part of a probe, over the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOrder {
    /// Listen to this group.
    Listen(Invitation),
    /// A train is over: say what arrived.
    Count {
        /// The probe.
        probe: u32,
        /// The train.
        train: Train,
        /// Datagrams that were sent.
        sent: u32,
    },
    /// The probe is over: leave the group.
    End {
        /// The probe.
        probe: u32,
    },
}

impl ProbeOrder {
    /// Returns the number of the probe.
    #[must_use]
    pub const fn probe(&self) -> u32 {
        match self {
            Self::Listen(invitation) => invitation.probe,
            Self::Count { probe, .. } | Self::End { probe } => *probe,
        }
    }
}

/// The node's part of a probe, over the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// The probe.
    pub probe: u32,
    /// The node's news.
    pub news: ProbeNews,
}

/// The news of a node in a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeNews {
    /// A datagram of the group has arrived.
    Heard,
    /// The datagrams of a train that arrived.
    Counted {
        /// The train.
        train: Train,
        /// The datagrams.
        count: Count,
    },
    /// This node cannot be a member.
    Unable {
        /// The cause.
        why: Reason,
    },
}
