//! The window of a transfer: blocks, acknowledgements, rollover. It has no socket and no clock, so that tests
//! can try every order of events.
//!
//! Blocks are counted from 1 without end; only the numbers on the wire roll over. A window slides to the
//! acknowledged block (RFC 7440 §4). An acknowledgement of the block before the window means a loss if the
//! window has several blocks, and the window is then sent again, once. With single blocks it is a duplicate,
//! and answering it would double every later packet (the "Sorcerer's Apprentice" of RFC 1123 §4.2.3.1).

use crate::tftp::packet::wire_number;

/// Progress of a transfer, counted in blocks.
#[derive(Debug)]
pub(crate) struct Window {
    /// Last block that has arrived, with all before it.
    acked: u64,
    /// Last block that was sent, with all before it.
    sent: u64,
    /// Number of the last block, the first one that is not full.
    last: u64,
    size: u64,
    resent: bool,
}

/// Meaning of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Send the blocks of [`Window::next_blocks`].
    Send,
    /// Nothing new.
    Nothing,
    /// The client has the whole file.
    Done,
}

impl Window {
    /// Creates the window for a file of `bytes` in blocks of `block` bytes, with `size` blocks in flight.
    pub(crate) fn new(bytes: u64, block: u16, size: u16) -> Self {
        Self {
            acked: 0,
            sent: 0,
            // A file of a whole number of blocks ends with an empty one.
            last: bytes / u64::from(block) + 1,
            size: u64::from(size.max(1)),
            resent: false,
        }
    }

    /// Returns the blocks to be sent now. They count as sent.
    pub(crate) fn next_blocks(&mut self) -> std::ops::RangeInclusive<u64> {
        let first = self.sent + 1;
        self.sent = (self.acked + self.size).min(self.last);
        first..=self.sent
    }

    /// Makes the whole window go out again, after a wait without an answer.
    pub(crate) fn rewind(&mut self) {
        self.sent = self.acked;
    }

    /// Handles an acknowledgement. `number` is the number on the wire.
    pub(crate) fn acknowledge(&mut self, number: u16) -> Progress {
        let ahead = u64::from(number.wrapping_sub(wire_number(self.acked)));
        if ahead == 0 {
            return self.repeated();
        }
        if ahead > self.sent - self.acked {
            return Progress::Nothing;
        }
        self.acked += ahead;
        self.resent = false;
        if self.acked == self.last {
            return Progress::Done;
        }
        // The client has fewer blocks than were sent: the others were lost or came in the wrong order.
        self.rewind();
        Progress::Send
    }

    /// True if the client has acknowledged any block.
    pub(crate) fn has_begun(&self) -> bool {
        self.acked > 0
    }

    fn repeated(&mut self) -> Progress {
        if self.size == 1 || self.resent || self.sent == self.acked {
            return Progress::Nothing;
        }
        self.resent = true;
        self.rewind();
        Progress::Send
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_go_out_one_by_one_and_a_full_last_one_is_followed_by_an_empty_one() {
        let mut window = Window::new(1024, 512, 1);
        for number in 1..=3 {
            assert_eq!(window.next_blocks(), number..=number);
            let done = window.acknowledge(u16::try_from(number).unwrap());
            assert_eq!(
                done,
                if number == 3 {
                    Progress::Done
                } else {
                    Progress::Send
                }
            );
        }
    }

    #[test]
    fn a_repeated_acknowledgement_of_single_blocks_sends_nothing() {
        let mut window = Window::new(5000, 512, 1);
        window.next_blocks();
        assert_eq!(window.acknowledge(1), Progress::Send);
        assert_eq!(window.next_blocks(), 2..=2);
        assert_eq!(window.acknowledge(1), Progress::Nothing);
        assert_eq!(window.acknowledge(0), Progress::Nothing);
        assert_eq!(window.acknowledge(3), Progress::Nothing, "never sent");
    }

    #[test]
    fn a_window_whose_middle_was_lost_goes_on_behind_what_arrived() {
        let mut window = Window::new(100_000, 512, 8);
        assert_eq!(window.next_blocks(), 1..=8);
        assert_eq!(window.acknowledge(3), Progress::Send);
        assert_eq!(window.next_blocks(), 4..=11);
        assert_eq!(window.acknowledge(3), Progress::Send, "its first block was lost");
        assert_eq!(window.next_blocks(), 4..=11);
        assert_eq!(window.acknowledge(3), Progress::Nothing, "once is enough");
    }

    #[test]
    fn numbers_roll_over() {
        let mut window = Window::new(70_000 * 512 + 1, 512, 64);
        let mut acked = 0;
        loop {
            let sent = window.next_blocks();
            assert_eq!(*sent.start(), acked + 1);
            acked = *sent.end();
            if window.acknowledge(wire_number(acked)) == Progress::Done {
                break;
            }
        }
        assert_eq!(acked, 70_001);
    }

    proptest! {
        #[test]
        fn a_client_that_acknowledges_in_order_gets_everything_whatever_is_lost(
            bytes in 0_u64..200_000, size in 1_u16..64, losses in proptest::collection::vec(any::<bool>(), 1..400),
        ) {
            let mut window = Window::new(bytes, 8, size);
            let (mut has, mut losses) = (0, losses.into_iter());
            for _ in 0..100_000 {
                let mut heard = false;
                for number in window.next_blocks() {
                    if !losses.next().unwrap_or(false) && number == has + 1 {
                        has = number;
                        heard = true;
                    }
                }
                if !heard {
                    window.rewind();
                } else if window.acknowledge(wire_number(has)) == Progress::Done {
                    prop_assert_eq!(has, bytes / 8 + 1);
                    return Ok(());
                }
            }
            prop_assert!(false, "never done");
        }

        #[test]
        fn any_acknowledgements_keep_the_window_within_its_bounds(
            size in 1_u16..64, numbers in proptest::collection::vec(any::<u16>(), 1..300),
        ) {
            let mut window = Window::new(1_000_000, 8, size);
            for number in numbers {
                let sent = window.next_blocks();
                prop_assert!(sent.end() + 1 - sent.start() <= u64::from(size));
                prop_assert!(*sent.end() <= 125_001);
                if window.acknowledge(number) == Progress::Done { break; }
            }
        }
    }
}
