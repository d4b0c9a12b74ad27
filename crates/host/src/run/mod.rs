//! External programs: one runner, so that each has a description, a time limit, a null stdin and an error
//! that quotes the end of the program's complaints.
//!
//! [`Tool`] runs a program from an argument list, never through a shell. [`Shell`] is for the only shell
//! strings there are: those that the operator typed (`-e`, `exec`, hooks). Both put the child into a process
//! group of its own and ask the kernel to kill it when we die (`PR_SET_PDEATHSIG`, prctl(2)).

mod child;
mod ending;
mod path;
mod replace;
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
pub use replace::replace_process;
pub use shell::{Shell, ShellChild};
pub use tool::{Tool, ToolOutput};

/// The reason why a run of a program failed. Each message begins with the description given by the caller.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program is in none of the directories that [`find`] looks at.
    #[error(
        "{description}: {program} is not installed (looked in PATH, /usr/local/sbin, /usr/sbin and /sbin)"
    )]
    Missing {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
    },
    /// The program is not in the root that it shall run in ([`Tool::chroot`]).
    #[error("{description}: the system below {} has no program {program}, or not what it needs to run", root.display())]
    MissingInRoot {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// Directory that is the root.
        root: PathBuf,
    },
    /// The program could not be started, or its pipes failed.
    #[error("{description}: running {program}: {source}")]
    Io {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The program ended with another status than success.
    #[error("{description}: {program} failed with {}{}", describe_status(*status), quote_tail(stderr_tail))]
    Failed {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// Exit code, or the signal that killed it.
        status: ExitStatus,
        /// The end of its standard error (or output, when stderr was empty).
        stderr_tail: String,
    },
    /// The program was still running at the time limit, and was killed with its process group.
    #[error("{description}: {program} did not end within {} seconds and was killed{}", limit.as_secs(), quote_tail(stderr_tail))]
    TimedOut {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// Time limit of the run.
        limit: Duration,
        /// The end of its standard error.
        stderr_tail: String,
    },
    /// The program was ended, or not started ([`end_all`], [`end_work`]).
    #[error("{description}: {program} was ended: {reason}")]
    Ended {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// Reason of the caller that ended it.
        reason: String,
    },
    /// The program wrote more than KA is prepared to hold.
    #[error("{description}: {program} wrote more than {limit_bytes} bytes to its standard output")]
    TooMuchOutput {
        /// Task of the program.
        description: String,
        /// Name of the program.
        program: String,
        /// Most bytes that are kept.
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
