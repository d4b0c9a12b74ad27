//! The connection to the predecessor: blocks come down it, acknowledgements go up.
//!
//! Payload is read straight into the memory that is forwarded and consumed. One `readv` takes the rest of a
//! payload and the next header, so a block costs about one system call. SO_RCVLOWAT lets poll(2) wake us for
//! a whole block rather than for each segment. No part of a block could be forwarded before its hash is
//! checked anyway.

use std::io::{self, IoSliceMut};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ka_proto::block::{BlockError, BlockHeader, HEADER_LEN};
use ka_proto::link::{UpFrame, UpSealer};
use nix::libc;
use rustix::io::Errno;

use super::buffer::{Payload, Pool};

nix::setsockopt_impl!(
    ReceiveLowWater,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);

/// SO_RCVLOWAT of a connection: bytes that make it readable.
#[derive(Debug, Clone, Copy)]
struct ReceiveLowWater;

/// Acknowledgements waiting for room in the socket. They are 80 bytes each and rare; a predecessor that takes
/// none has stopped reading, and only the newest matters then.
const MAX_PENDING_UP: usize = 16 << 10;

/// A verified-length, not yet verified block.
#[derive(Debug)]
pub(super) struct ReceivedBlock {
    pub(super) header: BlockHeader,
    pub(super) raw: [u8; HEADER_LEN],
    pub(super) payload: Payload,
}

/// The reason why no more can be read from the predecessor.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("the predecessor closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Block(#[from] BlockError),
}

/// The successor's end of a data connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    socket: TcpStream,
    sealer: UpSealer,
    header: [u8; HEADER_LEN],
    header_filled: usize,
    body: Option<Body>,
    low_water: usize,
    /// The last read took all there was.
    drained: bool,
    /// Bytes came since [`Upstream::take_activity`].
    active: bool,
    /// True if nothing can be read before poll(2) reports it. SO_RCVLOWAT is set for that.
    exhausted: bool,
    pending_up: Vec<u8>,
}

#[derive(Debug)]
struct Body {
    received: ReceivedBlock,
    filled: usize,
}

impl Body {
    const fn missing(&self) -> usize {
        self.received.header.length as usize - self.filled
    }
}

impl Upstream {
    pub(super) const fn new(socket: TcpStream, sealer: UpSealer) -> Self {
        Self {
            socket,
            sealer,
            header: [0; HEADER_LEN],
            header_filled: 0,
            body: None,
            low_water: 1,
            drained: false,
            active: false,
            exhausted: false,
            pending_up: Vec::new(),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads until a block is whole (its hash is not checked yet) or nothing more is there. `check` sees each
    /// header before memory is taken for its payload.
    pub(super) fn read_block(
        &mut self,
        pool: &Arc<Pool>,
        check: impl Fn(&BlockHeader) -> Result<(), BlockError>,
    ) -> Result<Option<ReceivedBlock>, UpstreamError> {
        self.exhausted = false;
        loop {
            if let Some(body) = &self.body
                && body.missing() == 0
            {
                return Ok(self.body.take().map(|body| body.received));
            }
            if self.body.is_none() && self.header_filled == HEADER_LEN {
                let header = BlockHeader::decode(&self.header)?;
                check(&header)?;
                let payload = pool.payload(header.length as usize);
                let received = ReceivedBlock {
                    header,
                    raw: self.header,
                    payload,
                };
                self.body = Some(Body { received, filled: 0 });
                self.header_filled = 0;
                continue;
            }
            if self.drained {
                self.ask_for_the_rest()?;
                self.exhausted = true;
                return Ok(None);
            }
            self.read_once()?;
        }
    }

    /// True when reading stopped for another reason than that nothing was there. Then poll(2) must not be
    /// asked: the rest may lie in the socket, less than the SO_RCVLOWAT of a block long read, or be here
    /// already.
    pub(super) const fn may_have_more(&self) -> bool {
        !self.exhausted
    }

    /// True when anything came since this was asked last.
    pub(super) const fn take_activity(&mut self) -> bool {
        std::mem::replace(&mut self.active, false)
    }

    /// poll(2) says that there is something to read.
    pub(super) const fn refill(&mut self) {
        self.drained = false;
    }

    /// One system call. A short one has taken all there is; trying again at once would get crumbs of the next
    /// block, which can as well be left to gather in the socket.
    fn read_once(&mut self) -> Result<(), UpstreamError> {
        let header_rest = &mut self.header[self.header_filled..];
        let payload_missing = self.body.as_ref().map_or(0, Body::missing);
        let asked = header_rest.len() + payload_missing;
        let read = match &mut self.body {
            None => rustix::io::read(&self.socket, header_rest),
            Some(body) => {
                let payload_rest = &mut body.received.payload.as_mut_slice()[body.filled..];
                let mut slices = [IoSliceMut::new(payload_rest), IoSliceMut::new(header_rest)];
                rustix::io::readv(&self.socket, &mut slices)
            }
        };
        let count = match read {
            Ok(0) => return Err(UpstreamError::Closed),
            Ok(count) => count,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        self.drained = count < asked;
        self.active |= count > 0;
        let mut into_header = count;
        if let Some(body) = &mut self.body {
            let into_payload = count.min(payload_missing);
            body.filled += into_payload;
            into_header -= into_payload;
        }
        self.header_filled += into_header;
        Ok(())
    }

    /// Sets SO_RCVLOWAT to the missing bytes of this block. The next header is not counted: with a slow
    /// producer it comes much later than this block must go on.
    fn ask_for_the_rest(&mut self) -> io::Result<()> {
        let missing = self
            .body
            .as_ref()
            .map_or(HEADER_LEN - self.header_filled, Body::missing);
        if missing != self.low_water {
            let value = i32::try_from(missing).unwrap_or(i32::MAX);
            nix::sys::socket::setsockopt(&self.socket, ReceiveLowWater, &value)?;
            self.low_water = missing;
        }
        Ok(())
    }

    /// Queues a frame for the predecessor; [`Upstream::flush_up`] sends it.
    pub(super) fn push_up(&mut self, frame: &UpFrame) {
        if self.pending_up.len() < MAX_PENDING_UP {
            self.pending_up.extend_from_slice(&self.sealer.seal(frame));
        }
    }

    /// True when frames wait for room in the socket.
    pub(super) const fn wants_write(&self) -> bool {
        !self.pending_up.is_empty()
    }

    /// Sends the queued data, shuts down sending, and discards arriving data, for at most `time`. Returns
    /// false once the predecessor has closed too.
    pub(super) fn linger(&mut self, time: Duration) -> io::Result<bool> {
        self.flush_up()?;
        if !self.wants_write() {
            self.socket.shutdown(Shutdown::Write)?;
        }
        self.socket.set_nonblocking(false)?;
        self.socket
            .set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
        let mut discarded = [0; 4096];
        let count = rustix::io::read(&self.socket, &mut discarded)?;
        Ok(count > 0)
    }

    /// Sends queued frames as far as the socket takes them.
    pub(super) fn flush_up(&mut self) -> io::Result<()> {
        while !self.pending_up.is_empty() {
            match rustix::net::send(&self.socket, &self.pending_up, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.pending_up.drain(..sent)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
