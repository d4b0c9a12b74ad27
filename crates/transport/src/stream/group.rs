//! The two ends of a stream's multicast group, as the pump holds them: the socket, and the machine of
//! `ka_proto::group` that decides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ka_proto::NodeId;
use ka_proto::block::HEADER_LEN;
use ka_proto::group::{BlockReader, LeaveReason, Member, Report, Sender, SenderOutput};

use super::buffer::{Payload, Pool, SealedBlock};
use crate::group::arrivals::Arrivals;
use crate::group::receiver::GroupReceiver;
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
    pub(super) fn due_at(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Sending(sending) => sending.due_at(),
            Self::Member(member) => member.due_at(now),
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

    /// True while nobody is to look at the socket, so that the next look finds more.
    pub(super) fn is_resting(&self, now: Duration) -> bool {
        matches!(self, Self::Member(member) if member.rests(now))
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
    reader: BlockReader<Payload>,
    arrivals: Arrivals,
    /// Time before which nobody looks at the socket.
    rests_until: Duration,
    has_ended: bool,
}

/// A reason for which the group is of no use here any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error("receiving multicast: {0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Cut(#[from] ka_proto::group::CutError),
}

impl Receiving {
    pub(crate) fn new(socket: GroupReceiver, machine: Member) -> Self {
        Self {
            socket,
            reader: BlockReader::new(machine),
            arrivals: Arrivals::default(),
            rests_until: Duration::ZERO,
            has_ended: false,
        }
    }

    /// Receives a buffer full of datagrams at most. Returns false if no more were there: then the socket rests for a
    /// moment.
    pub(super) fn receive(&mut self, now: Duration) -> Result<bool, GroupError> {
        let socket = &self.socket;
        let is_more = self.arrivals.fill(|buffer| socket.recv(buffer))?;
        for (place, datagram) in self.arrivals.places() {
            let member = self.reader.member_mut();
            member.handle_datagrams(now, self.arrivals.buffer(), place, datagram);
        }
        if !is_more {
            self.rests_until = now + self.socket.rest();
        }
        Ok(is_more)
    }

    fn rests(&self, now: Duration) -> bool {
        now < self.rests_until
    }

    /// Returns the next block, whose hash is not checked yet, if all of it is here. Then call [`Self::accept`] or
    /// [`Self::reject`].
    pub(super) fn next_block(&mut self, pool: &Arc<Pool>) -> Result<Option<RawBlock>, GroupError> {
        Ok(self.reader.next_block(|length| pool.payload(length))?)
    }

    /// Takes in that the last block was right.
    pub(super) fn accept(&mut self) {
        self.reader.accept();
    }

    /// Takes in that the last block was wrong. Returns true if strangers forged it, and it comes again.
    pub(super) fn reject(&mut self) -> bool {
        self.reader.reject()
    }

    /// Returns the state to report, if it is due: `free_bytes` of the window are free.
    pub(super) fn report(&mut self, now: Duration, free_bytes: u64) -> Option<Report> {
        if self.reader.has_ended() && !std::mem::replace(&mut self.has_ended, true) {
            self.reader.member_mut().finish(now);
        }
        let socket = &self.socket;
        let member = self.reader.member_mut();
        member.report(now, free_bytes, || socket.drops())
    }

    /// True if nothing has come for too long.
    pub(super) fn is_dark(&self, now: Duration) -> bool {
        self.reader.member().is_dark(now)
    }

    fn due_at(&self, now: Duration) -> Option<Duration> {
        let rest = self.rests(now).then_some(self.rests_until);
        [rest, self.reader.member().poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
