//! `ka-initrd`: makes a node's boot images, and lists their content.

mod cli;
mod command;

use std::process::ExitCode;

use ka_cli::{exit, print};

fn main() -> ExitCode {
    let options: cli::Options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    ka_cli::log_libraries();
    match command::run(&options) {
        Ok(text) => print(text.as_bytes()),
        Err(error) => ka_cli::fail(error.as_ref(), exit::NOTHING_DONE),
    }
}
