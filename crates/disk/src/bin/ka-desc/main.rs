//! `ka-desc`: writes the desc file of a disk, or explains one. Parse, run, exit code.

mod args;
mod explain;
mod explained;
mod make;
mod probe;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::Options;
use ka_cli::{exit_code, print, say, taken};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version come this way too; nothing can be done about a closed terminal.
            let printed = error.print().and_then(|()| io::stdout().flush());
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                exit_code(taken(printed))
            };
        }
    };
    match run(&options) {
        Ok(text) => print(text.as_bytes()),
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<String> {
    if options.man {
        let mut page = Vec::new();
        clap_mangen::Man::new(Options::command()).render(&mut page)?;
        return Ok(String::from_utf8(page)?);
    }
    match (&options.disk, &options.check) {
        (_, Some(file)) => explain::run(file, options),
        (Some(disk), None) => make::run(disk, options),
        (None, None) => anyhow::bail!("name a disk, or a desc file with --check"),
    }
}
