//! The way of datagrams from the switch to one member.

use std::ops::Range;
use std::time::Duration;

use super::MemberPlan;
use crate::sim::Rng;

/// A millionth of all values of the generator.
const MILLIONTH: u64 = u64::MAX / 1_000_000;

/// Loss of a path. Probabilities are in millionths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Loss {
    #[default]
    None,
    /// Each datagram alone.
    Independent(u64),
    /// Gilbert's model: a burst begins with the first probability at each datagram, and ends with the second.
    Bursts(u64, u64),
}

/// The path of one member.
#[derive(Debug)]
pub(super) struct Path {
    loss: Loss,
    is_in_burst: bool,
    reordered: u64,
    duplicated: u64,
    port: Option<(u64, u64)>,
    /// Time at which the port has sent everything that waits.
    port_free: Duration,
    rng: Rng,
}

/// A datagram or more of one burst that arrive together: their places in the burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) after: Duration,
    pub(super) places: Range<usize>,
}

impl Path {
    pub(super) fn new(plan: &MemberPlan, seed: u64) -> Self {
        Self {
            loss: plan.loss,
            is_in_burst: false,
            reordered: plan.reordered,
            duplicated: plan.duplicated,
            port: plan.port,
            port_free: Duration::ZERO,
            rng: Rng::new(seed),
        }
    }

    /// Sends a burst of `count` datagrams along the path at `now`. Appends the arrivals.
    pub(super) fn send(&mut self, now: Duration, count: usize, arrivals: &mut Vec<Arrival>) {
        let mut run = 0..0;
        for place in 0..count {
            let Some(after) = self.delay(now) else {
                continue;
            };
            if after.is_zero() && run.end == place {
                run.end = place + 1;
                continue;
            }
            push(arrivals, Duration::ZERO, &run);
            run = place..place;
            if after.is_zero() {
                run.end += 1;
            } else {
                push(arrivals, after, &(place..place + 1));
                run = place + 1..place + 1;
            }
        }
        push(arrivals, Duration::ZERO, &run);
        if self.duplicated > 0 {
            for place in 0..count {
                if self.rng.next() % 1000 < self.duplicated {
                    push(arrivals, Duration::from_micros(700), &(place..place + 1));
                }
            }
        }
    }

    /// Returns the time that the next datagram needs beyond the latency, or `None` if it is lost.
    fn delay(&mut self, now: Duration) -> Option<Duration> {
        if self.is_lost() {
            return None;
        }
        let mut after = Duration::ZERO;
        if let Some((rate, queue)) = self.port {
            let one = Duration::from_nanos(1_000_000_000 / rate);
            let waits = self.port_free.saturating_sub(now);
            if waits.as_nanos() > one.as_nanos() * u128::from(queue) {
                return None;
            }
            self.port_free = self.port_free.max(now) + one;
            after = self.port_free - now;
        }
        if self.reordered > 0 && self.rng.next() % 1000 < self.reordered {
            after += self.rng.millis(0, 2) + Duration::from_micros(100);
        }
        Some(after)
    }

    fn is_lost(&mut self) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Independent(p) => self.rng.next() < p * MILLIONTH,
            Loss::Bursts(begins, ends) => {
                let p = if self.is_in_burst { ends } else { begins };
                self.is_in_burst ^= self.rng.next() < p * MILLIONTH;
                self.is_in_burst
            }
        }
    }
}

fn push(arrivals: &mut Vec<Arrival>, after: Duration, places: &Range<usize>) {
    if !places.is_empty() {
        arrivals.push(Arrival {
            after,
            places: places.clone(),
        });
    }
}
