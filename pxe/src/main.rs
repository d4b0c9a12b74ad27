//! `ka-pxe`: boots machines from the network. Parse, run, exit code; the work is in the library and in [`commands`].

mod cli;
mod commands;
mod serve;

use std::process::ExitCode;

use ka_cli::{print, say};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        cli::Parsed::Options(options) => options,
        cli::Parsed::Text(text) => return print(text.as_bytes()),
        cli::Parsed::Wrong(text) => {
            say(&format!("error: {text}"));
            return ExitCode::from(2);
        }
    };
    let Some(command) = &options.command else {
        return print(&cli::manual());
    };
    ka_cli::log_libraries();
    match commands::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            say(&format!("error: {err:#}"));
            ExitCode::FAILURE
        }
    }
}
