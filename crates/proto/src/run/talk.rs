//! The limit of one node's events for the operator. A member that lies must not fill screen and log, and push
//! out the words of the others.

use super::Duration;

/// Most events at once. A clone with many hooks has some hundred in all.
const AT_ONCE: u32 = 500;
/// Time for one more event after that.
const EACH: Duration = Duration::from_millis(500);

/// The account of one node's events: those that were shown, and those that may be.
#[derive(Debug)]
pub(super) struct Talk {
    spare: u32,
    /// Time at which the spare count was last filled.
    filled: Duration,
    left_out: u64,
}

impl Talk {
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            spare: AT_ONCE,
            filled: now,
            left_out: 0,
        }
    }

    /// Counts an event. Returns the number of events left out so far if there are too many.
    pub(super) fn says(&mut self, now: Duration) -> Result<(), u64> {
        while self.spare < AT_ONCE && now >= self.filled + EACH {
            (self.spare, self.filled) = (self.spare + 1, self.filled + EACH);
        }
        if self.spare == AT_ONCE {
            self.filled = now;
        }
        if self.spare == 0 {
            self.left_out += 1;
            return Err(self.left_out);
        }
        self.spare -= 1;
        Ok(())
    }
}

/// True for one, ten, a hundred and so on. So the operator is told soon, and not often.
pub(super) const fn is_round(count: u64) -> bool {
    count > 0 && 10_u64.pow(count.ilog10()) == count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_too_much_is_left_out_and_heard_again_later() {
        let mut talk = Talk::new(Duration::ZERO);
        let shown = (0..10_000).filter(|_| talk.says(Duration::from_millis(1)).is_ok());
        assert_eq!(shown.count(), AT_ONCE as usize);
        assert_eq!(
            talk.says(Duration::from_millis(2)),
            Err(10_000 - u64::from(AT_ONCE) + 1)
        );
        let later = Duration::from_millis(1) + EACH * 21;
        let shown = (0..10_000).filter(|_| talk.says(later).is_ok());
        assert_eq!(shown.count(), 21);
        // The events of a whole clone in a long evening.
        let mut talk = Talk::new(Duration::ZERO);
        assert!((0..5000).all(|second| talk.says(Duration::from_secs(second)).is_ok()));
    }

    #[test]
    fn the_operator_is_told_at_once_and_not_often() {
        let told: Vec<u64> = (1..=2000).filter(|count| is_round(*count)).collect();
        assert_eq!(told, [1, 10, 100, 1000]);
    }
}
