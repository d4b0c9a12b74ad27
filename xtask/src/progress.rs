//! A line that says what is going on while something takes minutes.

use std::env;
use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ka_tests::terminal;

/// Longest silence on a pipe.
const PIPE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two drawings on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two looks of the thread that repeats the line.
const LOOK: Duration = Duration::from_millis(250);

/// A line with the time and the current step. A terminal shows it in place. On a pipe, a new one comes every few seconds,
/// even if the step is the same. A thread of its own writes it, so that nothing that the caller does can silence it.
#[derive(Debug)]
pub(crate) struct Progress {
    line: Arc<Mutex<Line<io::Stdout>>>,
    /// Ends the thread when it is dropped.
    stop: Option<Sender<()>>,
    repeater: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to count, with the first step.
    pub(crate) fn begin(step: &str) -> Self {
        let line = Arc::new(Mutex::new(Line::new(io::stdout(), columns(), step)));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&line);
        let repeater = thread::spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                lock(&shared).tick(Instant::now());
            }
        });
        Self {
            line,
            stop: Some(stop),
            repeater: Some(repeater),
        }
    }

    /// Sets the current step.
    pub(crate) fn say(&self, step: &str) {
        lock(&self.line).say(step);
    }

    /// Prints a line that stays.
    pub(crate) fn print(&self, text: &str) {
        lock(&self.line).print(text, Instant::now());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(repeater) = self.repeater.take() {
            // It has nothing that can panic.
            repeater.join().ok();
        }
        lock(&self.line).clear();
    }
}

/// The line itself, without a clock of its own.
#[derive(Debug)]
struct Line<W> {
    out: W,
    /// Width of the terminal; none on a pipe.
    columns: Option<usize>,
    started: Instant,
    /// Time of the last output of any kind.
    shown: Option<Instant>,
    step: String,
}

impl<W: Write> Line<W> {
    fn new(out: W, columns: Option<usize>, step: &str) -> Self {
        Self {
            out,
            columns,
            started: Instant::now(),
            shown: None,
            step: step.to_owned(),
        }
    }

    fn say(&mut self, step: &str) {
        step.clone_into(&mut self.step);
    }

    /// Shows the line if it is due. A closed output is no error here: the next line that matters finds it.
    fn tick(&mut self, now: Instant) {
        let interval = if self.columns.is_some() {
            TERMINAL_INTERVAL
        } else {
            PIPE_INTERVAL
        };
        if self.shown.is_some_and(|shown| now < shown + interval) {
            return;
        }
        self.shown = Some(now);
        let time = now.saturating_duration_since(self.started);
        // Programs print tabs and control sequences, too.
        let line = format!("{}  {}", minutes(time), self.step).replace(char::is_control, " ");
        if let Some(columns) = self.columns {
            write!(self.out, "\r\x1b[K{}", cut(&line, columns)).ok();
        } else {
            writeln!(self.out, "{line}").ok();
        }
        self.out.flush().ok();
    }

    fn print(&mut self, text: &str, now: Instant) {
        self.clear();
        writeln!(self.out, "{text}").ok();
        // The terminal gets its line back at once.
        self.shown = self.columns.is_none().then_some(now);
    }

    fn clear(&mut self) {
        if self.columns.is_some() && self.shown.is_some() {
            write!(self.out, "\r\x1b[K").ok();
            self.out.flush().ok();
        }
    }
}

fn lock<T>(line: &Mutex<T>) -> MutexGuard<'_, T> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the width of the terminal; none where a line cannot be drawn again in its place.
fn columns() -> Option<usize> {
    let draws = io::stdout().is_terminal() && !terminal::is_dumb(env::var("TERM").ok().as_deref());
    draws.then(|| usize::from(terminal::own_size().0))
}

/// Writes a duration as `4:07`.
pub(crate) fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// Returns the first `columns` characters but one: a terminal that is full to the last column wraps.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line<Vec<u8>>) -> String {
        String::from_utf8(line.out.clone()).unwrap()
    }

    #[test]
    fn a_pipe_gets_a_line_before_three_seconds_have_passed() {
        let mut line = Line::new(Vec::new(), None, "first");
        let begun = line.started;
        for tenths in 0..100 {
            if tenths == 40 {
                line.say("second\tstep");
            }
            line.tick(begun + Duration::from_millis(tenths * 100));
        }
        assert_eq!(
            text(&line),
            "0:00  first\n0:02  first\n0:04  second step\n0:06  second step\n0:08  second step\n"
        );
    }

    #[test]
    fn a_line_that_stays_is_output_too() {
        let mut line = Line::new(Vec::new(), None, "step");
        let begun = line.started;
        line.tick(begun);
        line.print("said", begun + Duration::from_secs(1));
        line.tick(begun + Duration::from_secs(2));
        assert_eq!(text(&line), "0:00  step\nsaid\n");
        line.tick(begun + Duration::from_secs(3));
        assert_eq!(text(&line), "0:00  step\nsaid\n0:03  step\n");
    }

    #[test]
    fn a_terminal_shows_one_line_in_its_place_below_those_that_stay() {
        let mut line = Line::new(Vec::new(), Some(12), "a long step");
        let begun = line.started;
        line.tick(begun);
        line.print("said", begun);
        line.tick(begun);
        line.clear();
        assert_eq!(
            text(&line),
            "\r\x1b[K0:00  a lon\r\x1b[Ksaid\n\r\x1b[K0:00  a lon\r\x1b[K"
        );
    }

    #[test]
    fn minutes_count_beyond_the_hour() {
        assert_eq!(minutes(Duration::from_secs(3607)), "60:07");
    }
}
