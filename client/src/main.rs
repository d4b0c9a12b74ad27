//! `ka-client`: the node that becomes a clone of the golden node.
//!
//! What: the command line ([`cli`]), joining the server ([`session`]), the clone itself ([`clone`]) and the
//! generic mode ([`generic`]). What not: sockets (`ka_transport`), partition layouts and file systems (`ka_disk`),
//! the tree stream (`ka_image`). Issue 2 §2, §4 and §9.

mod cli;
mod clone;
mod failure;
mod generic;
mod journal;
mod session;
mod settings;
mod steps;
mod stop;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    if options.man {
        return print_manual();
    }
    match session::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn print_manual() -> ExitCode {
    match cli::write_manual(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: printing the manual page: {error}");
            ExitCode::FAILURE
        }
    }
}
