//! External programs: one runner, so that every one of them has a description, a time limit, a null stdin and
//! an error that quotes the end of what the program complained about.
//!
//! [`Tool`] runs a program from an argument list, never through a shell. [`Shell`] is for the only shell
//! strings there are: those that the operator typed (`-e`, `exec`, hooks). Both put the child into a process
//! group of its own and ask the kernel to kill it when we die (`PR_SET_PDEATHSIG`, prctl(2)).

mod child;
mod ending;
mod path;
mod running;
mod shell;
mod tool;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub use ending::{end_all, end_programs_in, end_work};
pub use path::find;
pub(crate) use path::search_path;
pub use shell::{Shell, ShellChild};
pub use tool::{Tool, ToolOutput};

/// Why a program did not do what it was run for. Each message begins with the description given by the caller.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program is in none of the directories that [`find`] looks at.
    #[error(
        "{description}: {program} is not installed (looked in PATH, /usr/local/sbin, /usr/sbin and /sbin)"
    )]
    Missing {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
    },
    /// The same in another root ([`Tool::chroot`]).
    #[error("{description}: the system below {} has no program {program}, or not what it needs to run", root.display())]
    MissingInRoot {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
        /// The root.
        root: PathBuf,
    },
    /// It could not be started or talked to.
    #[error("{description}: running {program}: {source}")]
    Io {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It ended with another status than success.
    #[error("{description}: {program} failed with {}{}", describe_status(*status), quote_tail(stderr_tail))]
    Failed {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error (or output, when stderr was empty).
        stderr_tail: String,
    },
    /// It was still running at the time limit, and was killed with its process group.
    #[error("{description}: {program} did not end within {} seconds and was killed{}", limit.as_secs(), quote_tail(stderr_tail))]
    TimedOut {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
        /// The limit that was in force.
        limit: Duration,
        /// The end of its standard error.
        stderr_tail: String,
    },
    /// It was ended, or not started ([`end_all`], [`end_work`]).
    #[error("{description}: {program} was ended: {reason}")]
    Ended {
        /// The program's task.
        description: String,
        /// The program's name.
        program: String,
        /// The reason that was given for it.
        reason: String,
    },
    /// It wrote more than we are prepared to hold.
    #[error("{description}: {program} wrote more than {limit_bytes} bytes to its standard output")]
    TooMuchOutput {
        /// What the program was to do.
        description: String,
        /// Its name.
        program: String,
        /// The bound.
        limit_bytes: usize,
    },
}

fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn quote_tail(tail: &str) -> String {
    let tail = tail.trim();
    if tail.is_empty() {
        String::new()
    } else {
        format!(": {}", tail.replace('\n', " / "))
    }
}
