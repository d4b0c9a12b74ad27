//! `ka-status`: a node's log as it grows, and commands on it, for the holder of the server's key. Parse, run, exit code.

mod args;
mod exec;
mod keys;
mod list;
mod tail;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use args::{Job, Parsed};

fn main() -> ExitCode {
    let options = match args::parse(std::env::args_os()) {
        Parsed::Options(options) => options,
        Parsed::Text(text) => {
            return match print(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error, 1),
            };
        }
        Parsed::Wrong(text) => {
            writeln!(io::stderr(), "error: {text}").ok();
            return ExitCode::from(2);
        }
    };
    let done = match &options.job {
        Job::List(server) => list::run(&options, *server),
        Job::Tail => tail::run(&options),
        Job::Exec(command) => exec::run(&options, command),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = match options.job {
                Job::List(_) | Job::Tail => 1,
                Job::Exec(_) => exec::OWN_FAILURE,
            };
            failed(&error, code)
        }
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    writeln!(io::stderr(), "error: {error:#}").ok();
    ExitCode::from(code)
}

/// A closed pipe is no failure: whoever reads has read enough. A full disk is one.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}
