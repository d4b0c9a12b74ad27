//! Every bound of the protocol, with the reason for its number.
//!
//! Timers that an operator may change are fields of the machines' configurations; the defaults are here.
//! Specification: `docs/protocol.md`, "Bounds" and "Timers".

use std::time::Duration;

/// Longest control frame after a node is accepted, in bytes. The largest payload is the install specification
/// (≤ 4 MiB); a report with a node's log comes next.
pub const MAX_CONTROL_FRAME: usize = 8 << 20;

/// Longest control frame of a node that is not an answer, in bytes: an event of 64 KiB, and the fields around
/// it. All other messages that a node sends by itself have some hundred bytes.
pub const MAX_MESSAGE_FRAME: usize = (64 << 10) + 1024;

/// Longest control frame of a node that answers, in bytes: its plan to `Prepare`, its report to `Finish`.
/// There is one for each question.
pub const MAX_ANSWER_FRAME: usize = (1 << 20) + 1024;

/// Longest plan or report, in bytes.
pub const MAX_ANSWER: usize = 1 << 20;

/// Bytes of all answers, over all connections, that are on their way into the server at once; more wait in
/// their sockets.
pub const MAX_ANSWERS_AT_ONCE: usize = 64 << 20;

/// Longest time of an answer from its first byte to its last: 1 MiB at the rate of a slow modem. With more
/// time, some slow nodes would keep all others waiting.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest payload inside a control message, in bytes: a frame less room for the fields around it.
pub const MAX_PAYLOAD: usize = MAX_CONTROL_FRAME - 1024;

/// Longest first frame (Join), in bytes. A stranger can make the server hold this much and no more; the
/// longest legal Join is under 300 bytes, the rest is room for later versions.
pub const MAX_JOIN_FRAME: usize = 1024;

/// Longest payload of one block, in bytes. One block is the unit of hashing and of forwarding, and every hop
/// adds the time of one block to the pipeline. Larger blocks fill it more slowly, smaller ones cost more
/// system calls.
pub const MAX_BLOCK: usize = 1 << 20;

/// Longest session, node or stream name in bytes: a Linux host name is at most 64 (`HOST_NAME_MAX`).
pub const MAX_NAME: usize = 64;

/// Longest reason text, in bytes: a few lines of a tool's error output.
pub const MAX_REASON: usize = 2048;

/// Most nodes of one run. The simulator goes to 1000; memory on the server is about 1 KiB a node.
pub const MAX_NODES: usize = 4096;

/// Most nodes of one run that come from one address. Several on one machine are tests and benches; a member
/// must not have all places.
pub const MAX_NODES_PER_ADDRESS: usize = 256;

/// Most nodes in a row that may vanish at once and still be healed over: acknowledgements carry the offsets
/// of this many descendants beyond the direct one.
pub const MAX_TOLERANCE: usize = 3;

/// Number of neighbours in a row whose loss at one moment a run survives by default (`--tolerate`). A
/// distribution board that trips takes more than one machine, and one block more in each window costs
/// nothing.
pub const DEFAULT_TOLERANCE: u8 = 2;

/// Least window that works, in blocks of [`MAX_BLOCK`]: one on its way in, one on its way out, and one for
/// each awaited descendant ([`MAX_TOLERANCE`] + 1). So the pipeline never waits for an acknowledgement of the
/// block that it could not yet send.
pub const MIN_WINDOW_BLOCKS: usize = 2 + MAX_TOLERANCE + 1;

/// Default window of one stream at one node, in bytes. The original used 35 MiB; 64 MiB ride out half a
/// second of a busy disk at 1 Gbit/s and still fit a node with 512 MiB of memory.
pub const DEFAULT_WINDOW: usize = 64 << 20;

/// A control connection that has not joined after this long is closed: half-open connections cost a
/// descriptor each.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A data connection that has not finished its handshake after this long is closed.
pub const LINK_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time to wait for a successor to connect or a predecessor to answer at the start of a stream and in
/// a heal. Nodes open a stream within a round trip of each other; the rest is for a node busy with its last
/// mount.
pub const LINK_ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest interval of messages on every connection, both ways, if there is nothing else to send.
pub const HEARTBEAT: Duration = Duration::from_millis(500);

/// Silence on the data link after which a peer is lost (`--silence`). It is four heartbeats, and more than
/// TCP takes to repeat data that was lost in an interruption of a second. A false alarm costs a new
/// connection and no data, because the server asks both ends before it believes it.
pub const LINK_SILENCE: Duration = Duration::from_secs(2);

/// Least link silence that is accepted: four heartbeats of 125 ms, each far above a busy machine's time
/// slices.
pub const MIN_LINK_SILENCE: Duration = Duration::from_millis(500);

/// Greatest link silence that is accepted. With more, a lost node costs all others more than its own clone.
pub const MAX_LINK_SILENCE: Duration = Duration::from_secs(60);

/// Silence of a control connection after which it is lost, while a stream runs. It is longer than
/// [`LINK_SILENCE`], so that the link, which knows more, reports first. It is raised to twice the link's
/// silence if that is longer.
pub const CONTROL_SILENCE: Duration = Duration::from_secs(15);

/// Silence of a control connection in a stream that the server keeps (`--spool`). A silent node keeps its
/// data for so long, and may go on. A switch that learns the network anew (spanning tree) takes 30 to 50 s.
/// TCP repeats lost data 25 and 51 s after the line went down.
pub const AWAY_SILENCE: Duration = Duration::from_secs(60);

/// Silence of a control connection after which it is lost, while no stream runs. No node waits for another
/// one's next byte then, and a loaded machine that verifies or syncs has been silent for 27 s without a
/// fault. A host that is gone is noticed earlier all the same: its kernel acknowledges nothing, which
/// TCP_USER_TIMEOUT reports after [`CONTROL_SILENCE`]. So this limit is for a process that hangs, and four
/// times the longest silence seen.
pub const IDLE_SILENCE: Duration = Duration::from_secs(120);

/// Returns the interval of signs of life on a link with this silence. There are four in that time, so that
/// three may be late.
#[must_use]
pub fn link_heartbeat(silence: Duration) -> Duration {
    HEARTBEAT.min(silence / 4)
}

/// Number of newly received bytes after which an acknowledgement is sent, or after [`HEARTBEAT`], whichever
/// comes first. It is a fraction of the smallest window, so that acknowledgements never hold up a sender.
pub const ACK_BYTES: u64 = 2 << 20;

/// Most nodes that look (`--dry-run`) at one time. The nodes of a room come one after another, and each holds
/// a connection.
pub const MAX_LOOKERS: usize = 64;

/// Longest time to prepare, which only plans and checks. A node with many slow disks needs some seconds for
/// it.
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest time to partition and make file systems. mkfs of tens of TiB with full inode tables may take
/// minutes.
pub const GO_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Time without progress of any node after which a stream is given up, and the nodes that are behind are
/// named. It is longer than a disk that stalls, and shorter than an operator's patience.
pub const STREAM_STALL_TIMEOUT: Duration = Duration::from_secs(180);

/// Longest time of the finishing steps after the last stream (sync of gigabytes to a slow disk, boot loader,
/// initial RAM disk).
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Time that a node that was told to leave has to close the connection before the server does.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
