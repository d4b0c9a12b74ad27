//! `ka-status`: a node's log as it grows, and commands on it, for the holder of the server's key. Parse, run, exit code.

mod args;
mod exec;
mod keys;
mod list;
mod tail;

use std::process::ExitCode;

use args::{Job, Parsed};
use ka_cli::{print, say};

fn main() -> ExitCode {
    let options = match args::parse(std::env::args_os()) {
        Parsed::Options(options) => options,
        Parsed::Text(text) => {
            return print(text.as_bytes());
        }
        Parsed::Wrong(text) => {
            say(&format!("error: {text}"));
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
            say(&format!("error: {error:#}"));
            ExitCode::from(match options.job {
                Job::List(_) | Job::Tail => 1,
                Job::Exec(_) => exec::OWN_FAILURE,
            })
        }
    }
}
