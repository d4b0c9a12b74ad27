//! `ka-client`: the node that becomes a clone of the golden node.
//!
//! What: the command line ([`cli`]), joining the server ([`session`]), the clone itself ([`clone`]), the generic mode
//! ([`generic`]), and the way there from power-on ([`init`]). What not: sockets (`ka_transport`), partition layouts and
//! file systems (`ka_disk`), the tree stream (`ka_image`). Issue 2 §2, §4 and §9; issue 3 §3.

mod beacon;
mod cli;
mod clone;
mod failure;
mod generic;
mod init;
mod journal;
mod log_ring;
mod session;
mod settings;
mod stage2;
mod status;
mod steps;
mod stop;

use std::process::ExitCode;

use ka_cli::{print, say};

fn main() -> ExitCode {
    if let Some(code) = init::run_as(std::env::args_os().next().as_deref()) {
        return code;
    }
    let mut options = match cli::parse(std::env::args_os()) {
        cli::Parsed::Options(options) => options,
        cli::Parsed::Text(text) => return print(text.as_bytes()),
        cli::Parsed::Wrong(text) => {
            say(&format!("error: {text}"));
            return ExitCode::from(2);
        }
    };
    if options.man {
        return print(&cli::manual());
    }
    // Before any other thread runs.
    settings::hide_join_code(&mut options);
    ka_cli::log_libraries();
    match session::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
