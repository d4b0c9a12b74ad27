//! The end of a node's run: the message stays readable for a while, then the machine starts again, and with
//! it the next try. `ka.reboot=no` stays.

use std::sync::Arc;
use std::time::Duration;

use super::consoles::Consoles;
use crate::log_ring::LogRing;

/// Long enough to read a message or to take a photograph of it; short enough that a room whose server is
/// started late comes by itself.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// For the last lines on a slow serial console.
const PAUSE_AFTER_SUCCESS: Duration = Duration::from_secs(2);
/// For lines that are still on their way to a console.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Time that a machine stays, which stands for ever: until an operator switches it off.
const FOREVER: Duration = Duration::from_secs(3600);

/// Says how it ended and waits until the machine may start again; with `ka.reboot=no` it never may.
pub(super) fn conclude(log: &Arc<LogRing>, consoles: &Consoles, result: &Result<(), String>, reboots: bool) {
    let pause = match result {
        Ok(()) => PAUSE_AFTER_SUCCESS,
        Err(_) => PAUSE_AFTER_FAILURE,
    };
    if let Err(reason) = result {
        log.push(&format!("error: {reason}"));
    }
    log.push(&last_line(result.is_ok(), reboots, pause));
    consoles.flush(FLUSH_LIMIT);
    if reboots {
        return std::thread::sleep(pause);
    }
    loop {
        std::thread::sleep(FOREVER);
    }
}

fn last_line(is_complete: bool, reboots: bool, pause: Duration) -> String {
    match (is_complete, reboots) {
        (true, true) => "rebooting".to_owned(),
        (false, true) => format!("rebooting in {} s", pause.as_secs()),
        (true, false) => "the clone is complete; this machine stays as it is (ka.reboot=no)".to_owned(),
        (false, false) => "this machine stays as it is (ka.reboot=no)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_happens_next() {
        assert_eq!(last_line(true, true, PAUSE_AFTER_SUCCESS), "rebooting");
        assert_eq!(last_line(false, true, PAUSE_AFTER_FAILURE), "rebooting in 30 s");
        assert!(last_line(false, false, PAUSE_AFTER_FAILURE).contains("ka.reboot=no"));
    }
}
