//! `ka-status`: a node's log as it grows, and commands on it, for the holder of the server's key. Parse, run, exit code.

mod args;
mod exec;
mod keys;
mod list;
mod tail;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Job, Parsed};

fn main() -> ExitCode {
    let options = match args::parse(std::env::args_os()) {
        Parsed::Options(options) => options,
        Parsed::Text(text) => {
            // A closed pipe is no failure: whoever reads has read enough.
            io::stdout().write_all(text.as_bytes()).ok();
            return ExitCode::SUCCESS;
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
            writeln!(io::stderr(), "error: {error:#}").ok();
            ExitCode::from(match options.job {
                Job::List(_) | Job::Tail => 1,
                Job::Exec(_) => exec::OWN_FAILURE,
            })
        }
    }
}
