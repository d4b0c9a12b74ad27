//! A table of the steps of a demo and their times, from the moment at which cargo was started.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::progress::minutes;

/// Variable that hands the table on to the process that goes on as root: the time of the start, then a line
/// `SECONDS=NAME` for each step.
const VARIABLE: &str = "KA_DEMO_TIMES";

/// Steps and their durations.
#[derive(Debug)]
pub(super) struct Timetable {
    /// Time from the machine's start to the start of cargo.
    begun: Duration,
    rows: Vec<(Duration, String)>,
}

impl Timetable {
    /// Takes the table that the process before this one has handed on; else makes one that begins with the start of this
    /// process. `cargo run` becomes the program that it has built, so that the time of that build counts.
    pub(super) fn take_up() -> Self {
        let handed = std::env::var(VARIABLE).unwrap_or_default();
        let mut lines = handed.lines();
        let begun = lines
            .next()
            .and_then(|line| line.parse().ok())
            .map(Duration::from_secs);
        let rows = lines
            .filter_map(|line| {
                let (seconds, name) = line.split_once('=')?;
                Some((Duration::from_secs(seconds.parse().ok()?), name.to_owned()))
            })
            .collect();
        Self {
            begun: begun.or_else(start_of_this_process).unwrap_or_else(uptime),
            rows,
        }
    }

    /// Adds a step that ends now. It began when the step before it ended.
    pub(super) fn add(&mut self, name: &str) {
        let before: Duration = self.rows.iter().map(|(took, _)| *took).sum();
        let took = uptime().saturating_sub(self.begun).saturating_sub(before);
        self.rows.push((took, name.to_owned()));
    }

    /// Adds such a step with parts that were done at the same time.
    pub(super) fn add_parts(&mut self, name: &str, parts: &[(&str, Duration)]) {
        let parts: Vec<String> = parts
            .iter()
            .map(|(part, took)| format!("{part} {}", minutes(*took)))
            .collect();
        self.add(&format!("{name} (at once: {})", parts.join(", ")));
    }

    /// Returns the environment variable of the process that goes on.
    pub(super) fn handed_on(&self) -> (&'static str, String) {
        let rows = self
            .rows
            .iter()
            .map(|(took, name)| format!("\n{}={name}", took.as_secs()));
        (
            VARIABLE,
            format!("{}{}", self.begun.as_secs(), rows.collect::<String>()),
        )
    }
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Time of each step (minutes:seconds):")?;
        for (took, name) in &self.rows {
            writeln!(f, "  {:>6}  {name}", minutes(*took))?;
        }
        let all: Duration = self.rows.iter().map(|(took, _)| *took).sum();
        write!(f, "  {:>6}  in all", minutes(all))
    }
}

/// Returns the time since the machine's start.
fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(['.', ' ']).next().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

/// Returns the time from the machine's start to the start of this process (proc_pid_stat(5), field 22).
fn start_of_this_process() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(Duration::from_secs(ticks.checked_div(per_second)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Timetable, start_of_this_process, uptime};

    #[test]
    fn rows_add_up() {
        let table = Timetable {
            begun: Duration::ZERO,
            rows: vec![
                (Duration::from_secs(61), "a".to_owned()),
                (Duration::from_secs(9), "b".to_owned()),
            ],
        };
        let text = table.to_string();
        assert!(
            text.contains("1:01  a") && text.contains("0:09  b") && text.ends_with("1:10  in all"),
            "{text}"
        );
        assert_eq!(table.handed_on().1, "0\n61=a\n9=b");
    }

    #[test]
    fn this_process_began_a_moment_ago() {
        let began = start_of_this_process().unwrap();
        assert!(began <= uptime() && uptime() - began < Duration::from_secs(3600));
    }
}
