//! `ka-client`: the node that becomes a clone of the golden node.
//!
//! The modules, in order from power-on to the login prompt of the clone:
//!
//! - [`init`] boots the node from the network.
//! - [`run`] starts it and decides after each attempt if it joins again.
//! - [`join`] finds the server, and [`session`] is a node that has joined.
//! - [`stage2`] brings its tools.
//! - [`clone`] makes the clone, phase by phase.
//! - [`beacon`] tells the server of its first boot.
//!
//! [`generic`] feeds a stream to a command or a file instead of a clone.
//!
//! Sockets are in `ka_transport`, partition layouts and file systems in `ka_disk`, the tree stream in
//! `ka_tree`, changes to the restored system in `ka_postinstall`.

mod beacon;
mod cli;
mod clone;
mod ending;
mod failure;
mod generic;
mod incoming;
mod init;
mod join;
mod journal;
mod line_place;
mod local_node;
mod log_ring;
mod run;
mod session;
mod settings;
mod stage2;
mod status;
mod steps;
mod stop;

use std::process::ExitCode;

use ka_cli::say;

fn main() -> ExitCode {
    if let Some(code) = init::run_as(std::env::args_os().next().as_deref()) {
        return code;
    }
    let mut options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    // Before any other thread runs.
    settings::hide_join_code(&mut options);
    ka_cli::log_libraries();
    match run::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
