//! The work of one command line, up to its exit code: a run, or a subcommand such as `ka-server key …`, which
//! ends at once and opens no port.

mod key;
mod run;

use anyhow::Result;

use crate::approve::{self, Request};
use crate::cli::{Answer, Command, KeyCommand, Options, ReportCommand};
use crate::failure::{Failure, OrFail};
use crate::report_file;

/// Does the work of a command line, and returns the exit code.
///
/// # Errors
/// A subcommand failed and changed nothing, or a run ended before it had nodes.
pub(crate) fn perform(options: &Options) -> Result<u8, Failure> {
    if let Err(error) = ka_host::secrets::leave_no_core() {
        tracing::warn!(%error, "a crash may leave keys in a core dump");
    }
    let Some(command) = &options.command else {
        return run::perform(options);
    };
    let text = subcommand(command).or_nothing_done()?;
    ka_cli::write(text.as_bytes()).or_nothing_done()?;
    Ok(0)
}

/// Carries out a subcommand, and returns its text for standard output.
fn subcommand(command: &Command) -> Result<String> {
    match command {
        Command::Approve(answer) => tell(answer),
        Command::Key(KeyCommand::Show(at)) => key::show(&at.state_dir),
        Command::Key(KeyCommand::Rotate(at)) => key::rotate(&at.state_dir),
        Command::Report(ReportCommand::Check { file, state_dir, key }) => {
            report_file::check(file, state_dir, key.as_deref())
        }
    }
}

/// Tells the run who is let in, and returns the run's answer.
fn tell(answer: &Answer) -> Result<String> {
    let about = |number: &u64| {
        if answer.deny {
            Request::Deny(*number)
        } else {
            Request::Admit(*number)
        }
    };
    let mut requests: Vec<_> = answer.requests.iter().map(about).collect();
    if requests.is_empty() {
        requests.push(if answer.all { Request::All } else { Request::List });
    }
    approve::tell(&answer.at.state_dir, &answer.session, &requests)
}
