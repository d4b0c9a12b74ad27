//! ARP probing: which questions are open, when they are repeated, and when silence means that the address is
//! unused. Pure; the packets are in `ka_dhcp::arp`, the socket is in `wire`.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ka_mac::MacAddr;

/// Number of questions for one address: a question or its answer may be lost.
const QUESTIONS: u32 = 2;
/// Pause between two questions, and after the last. A machine on the same wire answers within milliseconds;
/// ROMs wait a second for an offer before they repeat themselves.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
struct Question {
    left: u32,
    next: Instant,
}

/// The next step for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send an ARP question, the first or a repeated one.
    Ask(Ipv4Addr),
    /// No machine uses the address.
    Unused(Ipv4Addr),
}

/// All addresses with open questions. Their number is limited by `full::MAX_WAITING`.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    questions: HashMap<Ipv4Addr, Question>,
}

impl Prober {
    /// Starts asking for an address.
    pub(crate) fn start(&mut self, address: Ipv4Addr, now: Instant) {
        let question = Question {
            left: QUESTIONS,
            next: now,
        };
        self.questions.insert(address, question);
    }

    /// Takes a claim to an address. Returns true if there was an open question for it.
    pub(crate) fn claimed(&mut self, (_, address): (MacAddr, Ipv4Addr)) -> bool {
        self.questions.remove(&address).is_some()
    }

    /// Time at which [`Self::due`] next has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.questions.values().map(|question| question.next).min()
    }

    /// Returns the steps that are due now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        self.questions.retain(|&address, question| {
            if question.next > now {
                return true;
            }
            if question.left == 0 {
                steps.push(Step::Unused(address));
                return false;
            }
            question.left -= 1;
            question.next = now + PAUSE;
            steps.push(Step::Ask(address));
            true
        });
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    #[test]
    fn silence_after_two_questions_means_unused() {
        let (mut prober, start) = (Prober::default(), Instant::now());
        prober.start(ADDRESS, start);
        assert_eq!(prober.due(start), [Step::Ask(ADDRESS)]);
        assert_eq!(prober.due(start), []);
        assert_eq!(prober.due(start + PAUSE), [Step::Ask(ADDRESS)]);
        assert_eq!(prober.next(), Some(start + PAUSE * 2));
        assert_eq!(prober.due(start + PAUSE * 2), [Step::Unused(ADDRESS)]);
        assert_eq!(prober.next(), None);
    }

    #[test]
    fn a_claim_ends_the_question_and_only_once() {
        let (mut prober, start) = (Prober::default(), Instant::now());
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        prober.start(ADDRESS, start);
        assert!(!prober.claimed((mac, [10, 0, 0, 8].into())));
        assert!(prober.claimed((mac, ADDRESS)));
        assert!(!prober.claimed((mac, ADDRESS)));
        assert_eq!(prober.due(start + PAUSE * 9), []);
    }
}
