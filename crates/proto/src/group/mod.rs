//! Multicast beside the chain: one sender, many members, and machines that decide what goes into a datagram.
//!
//! The group carries one byte stream: the sealed blocks of a stream as they go over a data link, header and
//! payload, one after another. The sender cuts it into *stripes* of at most [`MAX_SHARDS`] *shards* of equal
//! size, and sends each shard in a datagram with its own MAC. Nobody acknowledges a datagram. Each member
//! reports on a clock over its control connection ([`Report`]): the next stripe that it needs, its room, and
//! for each unfinished stripe a count of missing shards. The sender answers with parity of the stripe
//! (Reed-Solomon), which serves everybody who lost any shard of it. *Marks* between the datagrams are
//! numbered and tell how far the sender is. A report names the newest mark that its counts include, so that
//! nothing is repaired twice for one loss.
//!
//! ```text
//! blocks → Sender::push → next_burst → (datagrams) → Member::handle_datagrams → BlockReader → blocks
//!                 ↑                                                  │
//!                 └──── handle_report ←── (control connection) ←── report
//! ```
//!
//! A member that the group does not serve well (slow, lossy, silent) leaves it ([`SenderOutput::Leave`]) and
//! is fed by the chain. Nothing here decides that: the blocks that come out are checked by their hashes as
//! ever, and a datagram's MAC protects the group from strangers only.
//!
//! Contract of both machines: `now` is a time since any fixed moment and never goes back. Call
//! `poll_timeout` after each call, and the machine again at that time at the latest.
//!
//! Not here: sockets, group addresses, IGMP.
//! Specification: `docs/protocol.md`, "Multicast".

pub mod address;
mod assembly;
mod blocks;
mod cutter;
mod datagram;
mod forecast;
pub mod igmp;
mod marks;
mod member;
mod members;
mod parity;
pub mod probe;
pub mod querier;
mod rate;
mod repairs;
mod report;
mod sender;
mod store;
mod stripe;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;

use std::time::Duration;

pub use blocks::BlockReader;
pub use cutter::CutError;
pub use datagram::{DatagramKey, HEADER_BYTES, Header, Kind, MAC_BYTES, OVERHEAD};
pub use member::Member;
pub use members::LeaveReason;
pub use report::{MAX_REPORTED, Missing, Report};
pub use sender::{Burst, Figures, Sender, SenderOutput};

/// Most data shards of a stripe, and the number of its parity shards.
pub const MAX_SHARDS: usize = 128;

/// Largest burst, in bytes: the payload of the largest IPv4 packet, which is the most that one send with
/// segmentation offload (`UDP_SEGMENT`, udp(7)) may have.
pub const MAX_BURST: usize = 65_507;

/// Most datagrams of a burst. Kernels before 6.9 refuse more than 64.
pub const MAX_BURST_DATAGRAMS: usize = 44;

/// Longest time between two marks of a sender.
pub const MARK_EVERY: Duration = Duration::from_millis(20);

/// Time without a valid datagram after which the group is dark for a member. The sender marks every
/// [`MARK_EVERY`], so a silence of this length is never normal.
pub const DARK_AFTER: Duration = Duration::from_secs(1);

/// Time that a member waits for the first datagram of a stream. Nodes open a stream at different times.
pub const FIRST_DATAGRAM: Duration = Duration::from_secs(3);

/// Time without a report after which a member leaves the group.
pub const REPORT_SILENCE: Duration = Duration::from_secs(2);

/// Time that a member has for its first report. Nothing is sent before every member has told its room.
pub const FIRST_REPORT: Duration = Duration::from_secs(5);

/// Most stripes that a sender keeps or a member holds, whatever their size.
pub const MAX_STRIPES: usize = 4096;

/// Bytes of a shard on a line whose packets have 1500 bytes: the datagram has 1472, with IPv4 and UDP 1500.
pub const SHARD_BYTES: usize = 1448;

/// The numbers on which the sender and the members of a group agree, and the sender's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// Bytes of a shard, an even number from [`Self::MIN_SHARD_BYTES`] to [`Self::MAX_SHARD_BYTES`].
    pub shard_bytes: usize,
    /// Interval of a member's reports.
    pub report_every: Duration,
    /// Rate at which the sender begins, in bytes a second.
    pub start_rate: u64,
    /// Bytes of stripes that the sender keeps at most. At least one block and a stripe fit, whatever this is.
    pub memory: usize,
}

impl GroupConfig {
    /// Fewest bytes of a shard.
    pub const MIN_SHARD_BYTES: usize = 32;
    /// Most bytes of a shard: a datagram of 9000 bytes less IPv4, UDP and our own header.
    pub const MAX_SHARD_BYTES: usize = 8948;

    /// Returns the interval of reports for a group of `members`: 4000 reports a second in all, at most 20
    /// a second each.
    #[must_use]
    pub fn report_interval(members: usize) -> Duration {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        Duration::from_micros(250)
            .saturating_mul(members)
            .max(Duration::from_millis(50))
    }

    /// Returns the bytes of a shard that a machine uses: [`Self::shard_bytes`] brought into its bounds.
    pub(crate) fn shard(&self) -> usize {
        self.shard_bytes
            .clamp(Self::MIN_SHARD_BYTES, Self::MAX_SHARD_BYTES)
            & !1
    }

    /// Returns the bytes of a whole stripe.
    pub(crate) fn stripe(&self) -> usize {
        self.shard() * MAX_SHARDS
    }
}
