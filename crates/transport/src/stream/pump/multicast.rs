//! The pump and the multicast group of its stream.
//!
//! The head sends each block that enters its window to the group. A member takes its blocks from there, as if
//! its predecessor had sent them, and leaves the group when that does not go well: then its predecessor feeds
//! it over the link that stands by.

use std::time::Duration;

use super::Pump;
use crate::stream::group::{GroupEnd, GroupPlace};
use crate::stream::inbox::PumpEvent;

/// Receives before other work gets its turn.
const MAX_RECEIVES_PER_TURN: usize = 8;

impl Pump {
    /// Takes the place in the group that this pump has from the start.
    pub(super) fn enter_group(&mut self, place: GroupPlace) {
        match place {
            GroupPlace::Outside => {}
            GroupPlace::NoMember => self.relay.leave_group(Duration::ZERO),
            GroupPlace::Sender(sending) => self.group = Some(GroupEnd::Sending(Box::new(sending))),
            GroupPlace::Member(member) => self.group = Some(GroupEnd::Member(Box::new(member))),
            GroupPlace::Failed(reason) => {
                self.relay.leave_group(Duration::ZERO);
                self.reporter.report(PumpEvent::LeftGroup { reason });
            }
        }
    }

    /// True if the group has room for the next block, or there is none.
    pub(super) fn group_has_room(&self) -> bool {
        match &self.group {
            Some(GroupEnd::Sending(sending)) => sending.wants_block(),
            _ => true,
        }
    }

    /// True if this pump sends to a group.
    pub(super) const fn sends_to_group(&self) -> bool {
        matches!(self.group, Some(GroupEnd::Sending(_)))
    }

    /// Hands the newest block of the window, or the end, to the group.
    pub(super) fn push_to_group(&mut self) {
        let now = self.now();
        let Some(GroupEnd::Sending(sending)) = &mut self.group else {
            return;
        };
        match self.window.end() {
            Some(end) => sending.end(end),
            None => {
                if let Some(block) = self.window.newest() {
                    sending.push(now, block);
                }
            }
        }
    }

    /// Sends to the group what may be sent now. Returns true if there is more.
    pub(super) fn send_to_group(&mut self) -> bool {
        let now = self.now();
        let Some(GroupEnd::Sending(sending)) = &mut self.group else {
            return false;
        };
        sending.flush_if_due(now);
        let sent = sending.send(now);
        while let Some(GroupEnd::Sending(sending)) = &mut self.group
            && let Some((node, why)) = sending.next_leaver()
        {
            let reason = why.to_string();
            self.reporter.report(PumpEvent::GroupLeave { node, reason });
        }
        match sent {
            Ok(is_all) => !is_all,
            Err(error) => {
                self.end_group(&format!("the server cannot send multicast: {error}"));
                false
            }
        }
    }

    /// Ends the group at its sender. All members are told to leave, and the chain feeds them.
    fn end_group(&mut self, reason: &str) {
        self.group = None;
        self.reporter.report(PumpEvent::GroupEnded {
            reason: reason.to_owned(),
        });
    }

    /// Takes in what the group has for this member, and reports on it.
    pub(super) fn serve_group(&mut self, is_readable: bool) {
        if is_readable && !self.is_group_resting() {
            self.read_group();
        }
        self.take_from_group();
        let now = self.now();
        let free_bytes = self.window.free();
        let Some(GroupEnd::Member(member)) = &mut self.group else {
            return;
        };
        if let Some(report) = member.report(now, free_bytes) {
            self.reporter.report(PumpEvent::GroupReport(report));
        }
        if member.is_dark(now) && !self.relay.has_ended() {
            self.quit_group("multicast has gone dark: nothing comes any more".to_owned());
        }
    }

    fn read_group(&mut self) {
        for _ in 0..MAX_RECEIVES_PER_TURN {
            let now = self.meter.read();
            let Some(GroupEnd::Member(member)) = &mut self.group else {
                return;
            };
            match member.receive(now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.quit_group(error.to_string()),
            }
            self.take_from_group();
        }
    }

    /// Takes the blocks that are whole, as far as there is room for them.
    fn take_from_group(&mut self) {
        while self.wants_group_block() {
            let Some(GroupEnd::Member(member)) = &mut self.group else {
                return;
            };
            let (header, payload) = match member.next_block(self.target.pump.pool()) {
                Ok(None) => return,
                Ok(Some(block)) => block,
                Err(error) => return self.quit_group(error.to_string()),
            };
            let taken = self.take_group_block(header, payload);
            let Some(GroupEnd::Member(member)) = &mut self.group else {
                return;
            };
            match taken {
                Ok(()) => member.accept(),
                // Datagrams of a stranger are dropped, and repaired.
                Err(_) if member.reject() => {}
                Err(error) => return self.quit_group(format!("multicast carries a bad block: {error}")),
            }
        }
    }

    /// Leaves the group. The predecessor feeds this node from the next byte on.
    pub(super) fn quit_group(&mut self, reason: String) {
        self.group = None;
        if self.relay.is_grouped() {
            tracing::info!(stream = %self.handle().name(), %reason, "left the multicast group");
            self.leave_group();
            self.reporter.report(PumpEvent::LeftGroup { reason });
        }
    }

    /// True while nobody is to look at the group's socket.
    pub(super) fn is_group_resting(&self) -> bool {
        let now = self.now();
        self.group.as_ref().is_some_and(|group| group.is_resting(now))
    }

    /// Returns the time at which the group has something to do.
    pub(super) fn group_due_at(&self) -> Option<Duration> {
        let now = self.now();
        self.group.as_ref().and_then(|group| group.due_at(now))
    }
}
