//! The IGMP querier of a run: it asks for groups where nobody else does.
//!
//! A switch with IGMP snooping forgets the ports of a group after 260 s, unless a querier asks and the members
//! answer (RFC 3376 section 8.4). Most rooms without a router have no querier. While a run uses a group, the
//! server asks there, unless somebody else does. Two queriers agree by the rule of RFC 3376 section 6.6.2: the
//! one with the lower address goes on.
//!
//! Not here: sockets (`ka_transport::group::igmp`).

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::igmp::Query;

/// Time between two general queries (RFC 3376 section 8.2).
const INTERVAL: Duration = Duration::from_secs(125);
/// Time between the first general queries, and their number (RFC 3376 sections 8.6 and 8.7).
const FIRST_INTERVAL: Duration = Duration::from_secs(31);
const FIRST_QUERIES: u32 = 2;
/// Silence after which another querier is taken for gone: its interval, and the time that answers take. RFC
/// 3376 section 8.5 waits for 255 s; then 5 s would be left until switches forget the groups.
const SILENCE: Duration = Duration::from_secs(135);

/// The machine of a querier. All times are since any fixed moment.
#[derive(Debug, Clone)]
pub struct Querier {
    own: Ipv4Addr,
    /// Newest query of somebody else.
    other: Option<Heard>,
    duty: Duty,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Duration,
    from: Ipv4Addr,
}

#[derive(Debug, Clone, Copy)]
enum Duty {
    /// No group is in use: hear, and do not ask.
    Listens,
    /// A group is in use; somebody else asks, as far as known.
    Waits,
    /// This machine asks.
    Asks { next: Duration, asked: u32 },
}

/// The querier of a segment, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentQuerier {
    /// Queries cannot be heard here: it needs root.
    Unknown,
    /// No query was heard.
    Nobody,
    /// Another machine; an unspecified address stands for a switch without one.
    Other(Ipv4Addr),
    /// This machine.
    Own,
}

impl Querier {
    /// Makes a querier with this address that listens.
    #[must_use]
    pub const fn new(own: Ipv4Addr) -> Self {
        Self {
            own,
            other: None,
            duty: Duty::Listens,
        }
    }

    /// A group is in use from now on: it must be asked for by somebody.
    pub fn begin(&mut self, now: Duration) {
        if matches!(self.duty, Duty::Listens) {
            self.duty = Duty::Waits;
            self.take_over(now);
        }
    }

    /// No group is in use any longer. Another querier takes over by itself.
    pub const fn end(&mut self) {
        self.duty = Duty::Listens;
    }

    /// Takes a query that somebody sent.
    pub fn handle_query(&mut self, now: Duration, query: &Query) {
        if query.from == self.own {
            return;
        }
        self.other = Some(Heard {
            at: now,
            from: query.from,
        });
        // A switch without an address has no part in the election (RFC 4541 section 2.1.1).
        let is_lower = !query.from.is_unspecified() && query.from < self.own;
        if is_lower && matches!(self.duty, Duty::Asks { .. }) {
            self.duty = Duty::Waits;
        }
    }

    /// True if a general query must be sent now. The machine takes it for sent.
    pub fn poll_query(&mut self, now: Duration) -> bool {
        self.take_over(now);
        let Duty::Asks { next, asked } = &mut self.duty else {
            return false;
        };
        if now < *next {
            return false;
        }
        *asked = asked.saturating_add(1);
        *next = now
            + if *asked < FIRST_QUERIES {
                FIRST_INTERVAL
            } else {
                INTERVAL
            };
        true
    }

    /// Returns the time at which [`Querier::poll_query`] has something to say, if nothing is heard before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.duty {
            Duty::Listens => None,
            Duty::Waits => self.other.map(|heard| heard.at + SILENCE),
            Duty::Asks { next, .. } => Some(next),
        }
    }

    /// Returns the querier of this segment.
    #[must_use]
    pub fn segment(&self, now: Duration) -> SegmentQuerier {
        match (self.duty, self.present(now)) {
            (Duty::Asks { .. }, _) => SegmentQuerier::Own,
            (_, Some(heard)) => SegmentQuerier::Other(heard.from),
            (_, None) => SegmentQuerier::Nobody,
        }
    }

    fn take_over(&mut self, now: Duration) {
        if matches!(self.duty, Duty::Waits) && self.present(now).is_none() {
            self.duty = Duty::Asks { next: now, asked: 0 };
        }
    }

    fn present(&self, now: Duration) -> Option<Heard> {
        self.other.filter(|heard| now < heard.at + SILENCE)
    }
}

impl fmt::Display for SegmentQuerier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not known, because hearing it needs root"),
            Self::Nobody => f.write_str("none heard"),
            Self::Other(from) if from.is_unspecified() => f.write_str("a switch without an address"),
            Self::Other(from) => from.fmt(f),
            Self::Own => f.write_str("this server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const LOWER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const HIGHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn query(from: Ipv4Addr) -> Query {
        Query {
            from,
            version: 2,
            group: None,
        }
    }

    /// The seconds from `from` to `to` in which the machine asks.
    fn asks(querier: &mut Querier, from: u64, to: u64) -> Vec<u64> {
        (from..to)
            .filter(|second| querier.poll_query(at(*second)))
            .collect()
    }

    #[test]
    fn nobody_asks_before_a_group_is_in_use() {
        let mut querier = Querier::new(OWN);
        assert_eq!(asks(&mut querier, 0, 1000), []);
        assert_eq!(querier.segment(at(999)), SegmentQuerier::Nobody);
        assert_eq!(querier.poll_timeout(), None);
    }

    #[test]
    fn server_asks_by_the_clock_of_the_rfc_where_nobody_does() {
        let mut querier = Querier::new(OWN);
        querier.begin(at(10));
        assert_eq!(querier.poll_timeout(), Some(at(10)));
        assert_eq!(asks(&mut querier, 10, 400), [10, 41, 166, 291]);
        assert_eq!(querier.segment(at(400)), SegmentQuerier::Own);
        querier.begin(at(400));
        assert_eq!(asks(&mut querier, 400, 500), [416]);
        querier.end();
        assert_eq!(asks(&mut querier, 500, 1000), []);
    }

    #[test]
    fn server_does_not_ask_where_a_querier_is_there() {
        for from in [LOWER, HIGHER, Ipv4Addr::UNSPECIFIED] {
            let mut querier = Querier::new(OWN);
            querier.handle_query(at(0), &query(from));
            querier.begin(at(100));
            assert_eq!(querier.segment(at(100)), SegmentQuerier::Other(from));
            assert_eq!(querier.poll_timeout(), Some(at(135)));
            assert_eq!(asks(&mut querier, 100, 125), []);
            querier.handle_query(at(125), &query(from));
            assert_eq!(
                asks(&mut querier, 125, 300),
                [260, 291],
                "gone after 135 s of silence"
            );
        }
    }

    #[test]
    fn lower_address_takes_over_and_a_higher_one_does_not() {
        let mut querier = Querier::new(OWN);
        querier.begin(at(0));
        assert!(querier.poll_query(at(0)));
        for from in [HIGHER, Ipv4Addr::UNSPECIFIED, OWN] {
            querier.handle_query(at(1), &query(from));
            assert_eq!(querier.segment(at(1)), SegmentQuerier::Own);
        }
        querier.handle_query(at(2), &query(LOWER));
        assert_eq!(querier.segment(at(2)), SegmentQuerier::Other(LOWER));
        assert_eq!(asks(&mut querier, 2, 137), []);
        assert!(querier.poll_query(at(137)));
    }

    #[test]
    fn two_queriers_agree_on_the_lower_address() {
        let (mut low, mut high) = (Querier::new(LOWER), Querier::new(HIGHER));
        low.begin(at(0));
        high.begin(at(0));
        let mut newest = [0, 0];
        for second in 0..1000 {
            if high.poll_query(at(second)) {
                low.handle_query(at(second), &query(HIGHER));
                newest[1] = second;
            }
            if low.poll_query(at(second)) {
                high.handle_query(at(second), &query(LOWER));
                newest[0] = second;
            }
        }
        assert_eq!(newest, [906, 0]);
    }

    proptest! {
        #[test]
        fn group_in_use_is_never_without_a_query_for_longer_than_switches_remember(
            heard in prop::collection::vec((0u64..2000, any::<u32>()), 0..20)
        ) {
            let mut querier = Querier::new(OWN);
            querier.begin(at(0));
            let mut newest = 0;
            for second in 0..2000 {
                for (_, from) in heard.iter().filter(|(when, _)| *when == second) {
                    querier.handle_query(at(second), &query(Ipv4Addr::from(*from)));
                    newest = second;
                }
                if querier.poll_query(at(second)) {
                    newest = second;
                }
                prop_assert!(second - newest <= 135);
            }
        }
    }
}
