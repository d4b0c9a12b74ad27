//! People's requests to end a program, which reach it as signals.

use std::time::{Duration, Instant};

/// Time within which signals count as one request. One press of Ctrl-C or one closed terminal may arrive
/// several times: from the terminal, and from a parent that hands it on (sudo, timeout, a shell that ends).
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// The requests to end that have reached a program. The first one ends it in order, the second one at once.
#[derive(Debug, Default)]
pub struct EndRequests {
    last: Option<Instant>,
}

impl EndRequests {
    /// Takes in the signal of this name (`SIGTERM`), which has just come. Returns true if it is a request of its
    /// own. Signals that come together are one request. A SIGHUP is never a second request, because a closing
    /// terminal may send several and no person is impatient.
    pub fn is_new(&mut self, signal: &str) -> bool {
        let is_new = is_new_request(signal, self.last.map(|last| last.elapsed()));
        if is_new {
            self.last = Some(Instant::now());
        }
        is_new
    }
}

/// True for a signal that asks for more than the last request, `since_last` ago, did.
fn is_new_request(signal: &str, since_last: Option<Duration>) -> bool {
    since_last.is_none_or(|since| since >= SAME_REQUEST && signal != "SIGHUP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_come_together_are_one_request_and_a_closed_terminal_is_never_a_second_one() {
        let later = Some(Duration::from_secs(60));
        for signal in ["SIGINT", "SIGTERM", "SIGHUP"] {
            assert!(is_new_request(signal, None), "{signal}");
            assert!(!is_new_request(signal, Some(Duration::ZERO)), "{signal}");
            assert_eq!(is_new_request(signal, later), signal != "SIGHUP", "{signal}");
        }
    }

    #[test]
    fn a_press_that_a_parent_hands_on_is_one_request_and_a_later_press_another() {
        let mut requests = EndRequests::default();
        assert!(requests.is_new("SIGTERM"));
        assert!(!requests.is_new("SIGTERM"));
        assert!(!requests.is_new("SIGINT"));
        std::thread::sleep(SAME_REQUEST * 2);
        assert!(!requests.is_new("SIGHUP"));
        assert!(requests.is_new("SIGINT"));
    }
}
