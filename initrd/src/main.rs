//! `ka-initrd`: makes a node's boot images, and shows what is in one.

mod cli;
mod command;

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
    ka_cli::log_libraries();
    match command::run(&options) {
        Ok(text) => print(text.as_bytes()),
        Err(err) => {
            say(&format!("error: {err:#}"));
            ExitCode::FAILURE
        }
    }
}
