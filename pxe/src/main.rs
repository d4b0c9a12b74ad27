//! `ka-pxe`: boots machines from the network. The work is in the library and in [`commands`].

mod boot_config;
mod cli;
mod commands;
mod serve;

use std::process::ExitCode;

use ka_cli::exit;

fn main() -> ExitCode {
    let options: cli::Options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    ka_cli::log_libraries();
    match commands::run(&options.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ka_cli::fail(error.as_ref(), exit::NOTHING_DONE),
    }
}
