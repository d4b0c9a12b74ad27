//! The two ends of a stream's multicast group, as the pump holds them: the socket, and the machine of
//! `ka_proto::group` that decides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ka_proto::NodeId;
use ka_proto::block::{BlockError, BlockHeader, HEADER_LEN};
use ka_proto::group::{BlockCutter, LeaveReason, Member, Piece, Report, Sender, SenderOutput};

use super::buffer::{Payload, Pool, SealedBlock};
use crate::group::receiver::{GroupReceiver, RECEIVE_BYTES};
use crate::group::sender::GroupSender;

/// Time without a new block after which a stripe that is not full goes out as it is, and the longest time that it
/// waits for more.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
const MOST_WAIT: Duration = Duration::from_millis(50);
/// Bytes in stripes that are not sent yet, above which no block is taken. What lies about unsent is cold in the
/// cache by then.
const MAX_UNSENT: usize = 2 << 20;
/// Bursts sent before other work gets its turn.
const MAX_BURSTS_PER_TURN: usize = 16;

/// The place of a pump in the multicast group of its stream, when it starts.
#[derive(Debug)]
pub(crate) enum GroupPlace {
    /// The stream has no group here.
    Outside,
    /// The stream has a group, and its predecessor feeds this node all the same.
    NoMember,
    /// It sends to the group.
    Sender(Sending),
    /// It takes its data from the group.
    Member(Receiving),
    /// It was to be a member and cannot, for this reason.
    Failed(String),
}

/// The end of a group that a pump has.
#[derive(Debug)]
pub(crate) enum GroupEnd {
    /// The sender's.
    Sending(Box<Sending>),
    /// A member's.
    Member(Box<Receiving>),
}

impl GroupEnd {
    /// Returns the socket.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Sending(sending) => sending.socket.as_fd(),
            Self::Member(member) => member.socket.as_fd(),
        }
    }

    /// Returns the time at which it has something to do, if nothing happens.
    pub(super) fn due_at(&self) -> Option<Duration> {
        match self {
            Self::Sending(sending) => sending.due_at(),
            Self::Member(member) => member.machine.poll_timeout(),
        }
    }

    /// True if it waits for room in its socket.
    pub(super) const fn wants_write(&self) -> bool {
        matches!(self, Self::Sending(sending) if sending.is_blocked)
    }

    /// True if it waits for datagrams.
    pub(super) const fn wants_read(&self) -> bool {
        matches!(self, Self::Member(_))
    }
}

/// The sender's end.
#[derive(Debug)]
pub(crate) struct Sending {
    socket: Arc<GroupSender>,
    machine: Sender,
    /// True while the socket has no room.
    is_blocked: bool,
    /// Times of the first and the last block since the last flush.
    unflushed: Option<(Duration, Duration)>,
    has_ended: bool,
}

impl Sending {
    pub(crate) fn new(socket: Arc<GroupSender>, machine: Sender) -> Self {
        Self {
            socket,
            machine,
            is_blocked: false,
            unflushed: None,
            has_ended: false,
        }
    }

    /// True if the next block may come.
    pub(super) fn wants_block(&self) -> bool {
        self.machine.wants_bytes() && self.machine.unsent() < MAX_UNSENT
    }

    /// Takes the next block of the stream.
    pub(super) fn push(&mut self, now: Duration, block: &SealedBlock) {
        self.machine.push(&block.header, block.payload.as_slice());
        let (first, _) = self.unflushed.unwrap_or((now, now));
        self.unflushed = Some((first, now));
    }

    /// Takes the end of the stream.
    pub(super) fn end(&mut self, end: &SealedBlock) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.machine.push(&end.header, end.payload.as_slice());
            self.machine.finish();
            self.unflushed = None;
        }
    }

    /// Sends out a stripe that has waited for more blocks.
    pub(super) fn flush_if_due(&mut self, now: Duration) {
        // As long as whole stripes wait for their turn, the last one may fill up.
        if self.machine.unsent() == 0 && self.flush_at().is_some_and(|at| now >= at) {
            self.machine.flush();
            self.unflushed = None;
        }
    }

    /// Room in the socket was reported.
    pub(super) const fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Sends what may be sent now, as far as the socket takes it. Returns false if there is more.
    ///
    /// # Errors
    /// The network takes nothing.
    pub(super) fn send(&mut self, now: Duration) -> io::Result<bool> {
        for _ in 0..MAX_BURSTS_PER_TURN {
            if self.is_blocked {
                return Ok(true);
            }
            let Some(burst) = self.machine.next_burst(now) else {
                return Ok(true);
            };
            match self.socket.send(burst.bytes, burst.datagram) {
                Ok(sent) => self.machine.handle_sent(now, sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    self.machine.handle_blocked(now);
                }
                // The interface's queue is full; that is not the socket's fault, and it is soon over.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    self.machine.handle_blocked(now);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Takes in the state of a member.
    pub(super) fn handle_report(&mut self, now: Duration, node: NodeId, report: &Report) {
        self.machine.handle_report(now, node, report);
    }

    /// Removes a node that is no member any more.
    pub(super) fn remove(&mut self, now: Duration, node: NodeId) {
        self.machine.remove(now, node);
    }

    /// Returns a member that the machine takes out, with the reason.
    pub(super) fn next_leaver(&mut self) -> Option<(NodeId, LeaveReason)> {
        loop {
            match self.machine.poll_output()? {
                SenderOutput::Leave { node, why } => return Some((node, why)),
                SenderOutput::Complete => {}
            }
        }
    }

    /// Returns the time from which on a stripe that is not full goes out.
    fn flush_at(&self) -> Option<Duration> {
        self.unflushed
            .map(|(first, last)| (last + FLUSH_AFTER).min(first + MOST_WAIT))
    }

    fn due_at(&self) -> Option<Duration> {
        let flush = self.flush_at().filter(|_| self.machine.unsent() == 0);
        let machine = self.machine.poll_timeout().filter(|_| !self.is_blocked);
        [flush, machine].into_iter().flatten().min()
    }
}

/// A block whose hash is not checked: its header and its payload.
type RawBlock = ([u8; HEADER_LEN], Payload);

/// A member's end.
#[derive(Debug)]
pub(crate) struct Receiving {
    socket: GroupReceiver,
    machine: Member,
    cutter: BlockCutter,
    buffer: Vec<u8>,
    /// The stripe that is being cut, and the bytes of it that are.
    stripe: Option<Vec<u8>>,
    cut: usize,
    /// The block that is being put together, and its bytes so far.
    block: Option<(RawBlock, usize)>,
    has_ended: bool,
}

/// A reason for which the group is of no use here any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error("receiving multicast: {0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Cut(#[from] ka_proto::group::CutError),
    #[error("{0}")]
    Header(#[from] BlockError),
    #[error("multicast carries a payload that belongs to no block")]
    Payload,
}

impl Receiving {
    pub(crate) fn new(socket: GroupReceiver, machine: Member) -> Self {
        Self {
            socket,
            machine,
            cutter: BlockCutter::new(),
            buffer: vec![0; RECEIVE_BYTES],
            stripe: None,
            cut: 0,
            block: None,
            has_ended: false,
        }
    }

    /// Receives once. Returns false if nothing was there.
    pub(super) fn receive(&mut self, now: Duration) -> Result<bool, GroupError> {
        let Some(received) = self.socket.recv(&mut self.buffer)? else {
            return Ok(false);
        };
        let bytes = self.buffer.get(..received.len).unwrap_or_default();
        self.machine.handle_datagrams(now, bytes, received.datagram);
        Ok(true)
    }

    /// Returns the next block, whose hash is not checked yet, if all of it is here.
    pub(super) fn next_block(&mut self, pool: &Arc<Pool>) -> Result<Option<RawBlock>, GroupError> {
        loop {
            if let Some(((_, payload), filled)) = &self.block
                && *filled == payload.as_slice().len()
            {
                return Ok(self.block.take().map(|(block, _)| block));
            }
            let Some(stripe) = &self.stripe else {
                let Some(next) = self.machine.next_stripe() else {
                    return Ok(None);
                };
                (self.stripe, self.cut) = (Some(next), 0);
                continue;
            };
            let mut rest = stripe.get(self.cut..).unwrap_or_default();
            let piece = self.cutter.next(&mut rest)?;
            self.cut = stripe.len() - rest.len();
            match piece {
                Some(Piece::Header(raw)) => self.block = Some((begin(raw, pool)?, 0)),
                Some(Piece::Payload(bytes)) => {
                    let Some(((_, payload), filled)) = &mut self.block else {
                        return Err(GroupError::Payload);
                    };
                    let end = *filled + bytes.len();
                    let place = payload.as_mut_slice().get_mut(*filled..end);
                    place.ok_or(GroupError::Payload)?.copy_from_slice(bytes);
                    *filled = end;
                }
                None => {
                    if let Some(cut) = self.stripe.take() {
                        self.machine.recycle(cut);
                    }
                }
            }
        }
    }

    /// Returns the state to report, if it is due: `free_bytes` of the window are free.
    pub(super) fn report(&mut self, now: Duration, free_bytes: u64) -> Option<Report> {
        if self.cutter.has_ended() && !std::mem::replace(&mut self.has_ended, true) {
            self.machine.finish(now);
        }
        let socket = &self.socket;
        self.machine.report(now, free_bytes, || socket.drops())
    }

    /// True if nothing has come for too long.
    pub(super) fn is_dark(&self, now: Duration) -> bool {
        self.machine.is_dark(now)
    }
}

/// Begins a block of the group.
fn begin(raw: [u8; HEADER_LEN], pool: &Arc<Pool>) -> Result<RawBlock, GroupError> {
    let header = BlockHeader::decode(&raw)?;
    Ok((raw, pool.payload(header.length as usize)))
}
