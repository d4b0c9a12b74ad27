//! `ka-desc`: writes the desc file of a disk, or explains one. This file parses, runs and sets the exit code.

mod args;
mod explain;
mod explained;
mod golden;
mod make;
mod probe;

use std::process::ExitCode;

use ka_cli::{exit, print};

use args::Options;

fn main() -> ExitCode {
    let options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    match run(&options) {
        Ok(text) => print(text.as_bytes()),
        Err(error) => ka_cli::fail(error.as_ref(), exit::NOTHING_DONE),
    }
}

fn run(options: &Options) -> anyhow::Result<String> {
    if options.golden {
        return golden::run(options);
    }
    match (&options.disk, &options.check) {
        (_, Some(file)) => explain::run(file, options),
        (Some(disk), None) => make::run(disk, options),
        (None, None) => anyhow::bail!("name a disk, a desc file with --check, or say --golden"),
    }
}
