//! `ka-initrd`: makes a node's boot images, and shows what is in one.

mod cli;
mod command;

use std::io::{self, Write};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        cli::Parsed::Options(options) => options,
        cli::Parsed::Text(text) => return print(text.as_bytes()),
        cli::Parsed::Wrong(text) => {
            writeln!(io::stderr(), "error: {text}").ok();
            return ExitCode::from(2);
        }
    };
    // What libraries log is for whoever looks for a fault: KA_LOG=debug.
    let filter = EnvFilter::try_from_env("KA_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would say so on the very terminal that takes nothing, and panic.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .init();
    match command::run(&options) {
        Ok(text) => print(text.as_bytes()),
        Err(err) => {
            writeln!(io::stderr(), "error: {err:#}").ok();
            ExitCode::FAILURE
        }
    }
}

/// A closed pipe is no failure: whoever reads has read enough. A full disk is one.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            writeln!(io::stderr(), "error: writing to standard output: {error}").ok();
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
