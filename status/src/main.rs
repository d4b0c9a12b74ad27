//! `ka-status`: shows a node's log as it grows, and runs commands on it, for the holder of the server's key.
//! This file parses, runs and sets the exit code.

mod args;
mod exec;
mod keys;
mod lines;
mod list;
mod tail;

use std::process::ExitCode;

use args::Job;
use ka_cli::exit;

fn main() -> ExitCode {
    let options = match args::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
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
                Job::List(_) | Job::Tail => exit::NOTHING_DONE,
                Job::Exec(_) => exec::OWN_FAILURE,
            };
            ka_cli::fail(error.as_ref(), code)
        }
    }
}
