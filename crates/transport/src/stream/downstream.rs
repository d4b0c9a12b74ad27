//! The connection to the successor: blocks go down it, acknowledgements come up.
//!
//! Headers and payloads of several blocks leave in one `sendmsg`, from the memory they were received into.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use ka_proto::NodeId;
use ka_proto::WireError;
use ka_proto::link::{UP_LEN, UpFrame, UpOpener};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::buffer::SealedBlock;
use super::spent::LinkUse;

/// Blocks in one system call: 16 of the default size are 2 MiB, more than a socket takes at once.
const MAX_BLOCKS_PER_CALL: usize = 16;
/// Bytes over which the speed of the line is measured; the first ones only fill buffers.
const PACE_BYTES: usize = 8 << 20;
const PACE_SKIPPED: usize = 16 << 20;
/// Above what 1 Gbit/s Ethernet carries (117.7 MB/s of payload) the processor's cache decides, not the line.
const FAST_BYTES_PER_SECOND: f64 = 125e6;
/// SO_SNDBUF on a fast line, which the kernel doubles (socket(7)). Then the data on its way between two nodes
/// stays in the cache. Measured unshaped over veth with four nodes: 2.3 instead of 3.2 processor seconds for
/// 512 MiB. On slower lines the kernel's own sizes ride out more of a late wake-up, and cost nothing.
const FAST_SEND_BUFFER: usize = 256 << 10;
/// Acknowledgements read in one system call.
const MAX_FRAMES_PER_READ: usize = 16;

/// The reason why the link to the successor is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownstreamError {
    #[error("the successor closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] WireError),
}

/// A measurement of the line's rate: bytes since a moment.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: usize,
    until: usize,
}

impl Pace {
    /// Counts `sent` bytes; true when a whole measurement shows a fast line.
    fn is_fast(&mut self, sent: usize) -> bool {
        self.bytes += sent;
        if self.bytes < self.until {
            return false;
        }
        #[expect(clippy::cast_precision_loss, reason = "some MiB, for a comparison")]
        let rate = self.bytes as f64 / self.since.elapsed().as_secs_f64().max(1e-9);
        let was_measured = self.until == PACE_BYTES;
        *self = Self {
            since: Instant::now(),
            until: PACE_BYTES,
            bytes: 0,
        };
        was_measured && rate > FAST_BYTES_PER_SECOND
    }
}

/// The predecessor's end of a data connection.
#[derive(Debug)]
pub(crate) struct Downstream {
    node: NodeId,
    socket: TcpStream,
    opener: UpOpener,
    queue: VecDeque<Arc<SealedBlock>>,
    /// Bytes of all queued blocks.
    queued: usize,
    /// Bytes of the first queued block (header included) that are sent.
    sent_of_first: usize,
    /// The socket took no more; poll(2) says when it does again.
    blocked: bool,
    pace: Option<Pace>,
    line: LinkUse,
    frames: [u8; UP_LEN * MAX_FRAMES_PER_READ],
    frames_filled: usize,
}

impl Downstream {
    pub(super) fn new(node: NodeId, socket: TcpStream, opener: UpOpener) -> Self {
        Self {
            node,
            socket,
            opener,
            queue: VecDeque::new(),
            queued: 0,
            sent_of_first: 0,
            blocked: false,
            pace: Some(Pace {
                since: Instant::now(),
                until: PACE_SKIPPED,
                bytes: 0,
            }),
            line: LinkUse::default(),
            frames: [0; UP_LEN * MAX_FRAMES_PER_READ],
            frames_filled: 0,
        }
    }

    /// Returns the node at the other end.
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn push(&mut self, block: Arc<SealedBlock>) {
        self.queued += block.wire_len();
        self.queue.push_back(block);
    }

    /// Returns the bytes that wait to be sent.
    pub(super) const fn unsent(&self) -> usize {
        self.queued - self.sent_of_first
    }

    /// True when blocks wait to be sent.
    pub(super) fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }

    /// poll(2) says that the socket takes more.
    pub(super) const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Sends queued blocks as far as the socket takes them.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() && !self.blocked {
            match self.write_once() {
                Ok(sent) => {
                    self.mark_sent(sent);
                    self.watch_pace(sent);
                }
                Err(Errno::AGAIN) => self.blocked = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn write_once(&self) -> rustix::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 2 * MAX_BLOCKS_PER_CALL];
        let mut skip = self.sent_of_first;
        let mut used = 0;
        for block in self.queue.iter().take(MAX_BLOCKS_PER_CALL) {
            for part in [block.header.as_slice(), block.payload.as_slice()] {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() {
                    slices[used] = IoSlice::new(&part[skipped..]);
                    used += 1;
                }
            }
        }
        sendmsg(
            &self.socket,
            &slices[..used],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )
    }

    fn mark_sent(&mut self, sent: usize) {
        self.sent_of_first += sent;
        while let Some(first) = self.queue.front() {
            let len = first.wire_len();
            if self.sent_of_first < len {
                break;
            }
            self.sent_of_first -= len;
            self.queued -= len;
            self.queue.pop_front();
        }
    }

    /// Limits the data in the socket once the line has shown to be fast.
    fn watch_pace(&mut self, sent: usize) {
        if let Some(pace) = &mut self.pace
            && pace.is_fast(sent)
        {
            self.pace = None;
            // Slower without it, that is all.
            socket2::SockRef::from(&self.socket)
                .set_send_buffer_size(FAST_SEND_BUFFER)
                .ok();
        }
    }

    /// The use of the link since this was asked last.
    pub(super) fn take_line(&mut self) -> LinkUse {
        let Some(line) = LinkUse::of(&self.socket) else {
            return LinkUse::default();
        };
        line.since(std::mem::replace(&mut self.line, line))
    }

    /// Reads the acknowledgements that are there.
    pub(super) fn read(&mut self, mut handle: impl FnMut(UpFrame)) -> Result<(), DownstreamError> {
        loop {
            let room = self.frames.len() - self.frames_filled;
            let got = match rustix::io::read(&self.socket, &mut self.frames[self.frames_filled..]) {
                Ok(0) => return Err(DownstreamError::Closed),
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            self.frames_filled += got;
            let whole = self.frames_filled / UP_LEN * UP_LEN;
            for frame in self.frames[..whole].as_chunks::<UP_LEN>().0 {
                handle(self.opener.open(frame)?);
            }
            self.frames.copy_within(whole..self.frames_filled, 0);
            self.frames_filled -= whole;
            // Later data, and an end too, is reported by the next poll(2).
            if got < room {
                return Ok(());
            }
        }
    }
}
