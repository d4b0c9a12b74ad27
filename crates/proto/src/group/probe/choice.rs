//! The choice between a group and the chain.
//!
//! The chain already reaches the line's limit on a switch, so a group must earn its place. It saves each node the
//! work of sending, and each line between switches a second copy. It costs parity for what is lost, and depends on
//! switches. So `auto` chooses it where at least [`MIN_MEMBERS`] nodes receive it at nine tenths of the line's rate
//! or more, with at most 2 % loss. With fewer nodes, the chain has hardly anything to forward.

use std::fmt;
use std::str::FromStr;

use super::outcome::{Outcome, is_at_least, listed, megabits};
use crate::ids::NodeId;
use crate::text::Reason;

/// Fewest members for which `auto` uses a group.
pub const MIN_MEMBERS: usize = 3;

/// The operator's wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A group where it earns its place.
    #[default]
    Auto,
    /// The chain, without a probe.
    Chain,
    /// A group for each node that it reaches, at any rate.
    Multicast,
}

/// The transport of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The chain, for all nodes.
    Chain(ChainReason),
    /// A group for some of the nodes, the chain for the others.
    Group {
        /// The nodes that are members of the group.
        members: Vec<NodeId>,
        /// The nodes that the chain feeds.
        others: Vec<NodeId>,
        /// Rate that every member receives, in bytes of datagrams a second.
        rate: u64,
    },
}

/// A reason for the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainReason {
    /// The operator wants it.
    Wanted,
    /// The run uses IPv6; groups are for IPv4 only.
    Ipv6,
    /// Nothing can be sent to a group.
    Failed(Reason),
    /// The run has too few nodes.
    FewNodes {
        /// Its nodes.
        nodes: usize,
        /// Fewest nodes for a group.
        least: usize,
    },
    /// Too few nodes receive the group well.
    TooFew {
        /// Nodes that do.
        good: usize,
        /// Nodes that were asked.
        asked: usize,
        /// Fewest nodes for a group.
        least: usize,
    },
    /// The group carries less than the line, and so less than the chain.
    Slow {
        /// Rate of the group, in bytes of datagrams a second.
        rate: u64,
        /// Rate of the line.
        line: u64,
    },
}

impl Outcome {
    /// Chooses the transport of a stream.
    #[must_use]
    pub fn choose(&self, wanted: Wanted) -> Choice {
        let members: Vec<NodeId> = self.members().collect();
        let asked = self.nodes().count();
        let Some(least) = wanted.least() else {
            return Choice::Chain(ChainReason::Wanted);
        };
        if let Some(why) = self.failure() {
            return Choice::Chain(ChainReason::Failed(why.clone()));
        }
        if members.len() < least {
            let good = members.len();
            return Choice::Chain(ChainReason::TooFew { good, asked, least });
        }
        let (rate, line) = (self.rate(), self.line());
        if wanted == Wanted::Auto && !is_at_least(rate, line) {
            return Choice::Chain(ChainReason::Slow { rate, line });
        }
        let others = self
            .nodes()
            .map(|(node, _)| node)
            .filter(|node| !members.contains(node))
            .collect();
        Choice::Group {
            members,
            others,
            rate,
        }
    }
}

impl Wanted {
    /// Returns the fewest members of a group, or `None` if there is to be no group.
    const fn least(self) -> Option<usize> {
        match self {
            Self::Auto => Some(MIN_MEMBERS),
            Self::Chain => None,
            Self::Multicast => Some(1),
        }
    }
}

impl Choice {
    /// Returns the choice that needs no probe, if there is one: the chain, for a run of `nodes` nodes.
    #[must_use]
    pub const fn without_probe(wanted: Wanted, nodes: usize, is_ipv4: bool) -> Option<Self> {
        let Some(least) = wanted.least() else {
            return Some(Self::Chain(ChainReason::Wanted));
        };
        if !is_ipv4 {
            return Some(Self::Chain(ChainReason::Ipv6));
        }
        if nodes < least {
            return Some(Self::Chain(ChainReason::FewNodes { nodes, least }));
        }
        None
    }

    /// Returns the choice in one line for the operator.
    #[must_use]
    pub fn describe(&self, name: impl Fn(NodeId) -> String) -> String {
        match self {
            Self::Chain(why) => format!("transport: chain, because {why}"),
            Self::Group {
                members,
                others,
                rate,
            } => {
                let count = members.len();
                let nodes = if count == 1 { "node" } else { "nodes" };
                let begin = format!("transport: multicast for {count} {nodes} at {}", megabits(*rate));
                if others.is_empty() {
                    begin
                } else {
                    format!("{begin}, chain for {}", listed(others, name))
                }
            }
        }
    }
}

impl fmt::Display for ChainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("--transport chain was given"),
            Self::Ipv6 => f.write_str("this run uses IPv6, and multicast needs IPv4"),
            Self::Failed(why) => write!(f, "nothing can be sent to a group: {why}"),
            Self::FewNodes { nodes: 1, least } => {
                write!(f, "there is 1 node, and multicast is of use from {least} on")
            }
            Self::FewNodes { nodes, least } => {
                write!(
                    f,
                    "there are {nodes} nodes, and multicast is of use from {least} on"
                )
            }
            Self::TooFew { good: 0, .. } => f.write_str("multicast reaches no node well"),
            Self::TooFew { good, asked, least } => {
                write!(
                    f,
                    "multicast reaches {good} of {asked} nodes well, and is of use from {least} on"
                )
            }
            Self::Slow { rate, line } => {
                write!(
                    f,
                    "multicast carries {} on a line of {}",
                    megabits(*rate),
                    megabits(*line)
                )
            }
        }
    }
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "chain" => Ok(Self::Chain),
            "multicast" => Ok(Self::Multicast),
            _ => Err("the transport is auto, chain or multicast"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Chain => "chain",
            Self::Multicast => "multicast",
        })
    }
}
