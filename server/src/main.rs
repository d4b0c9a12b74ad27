//! `ka-server`: streams the golden node to its clones. Parse, run, exit code; the work is in the modules.

mod approve;
mod boot;
mod cli;
mod clone;
mod command;
mod dry_run;
mod failure;
mod feed;
mod generic;
mod identities;
mod join;
mod log_dir;
mod monitor;
mod precheck;
mod report_file;
mod roster;
mod run;
mod settings;
mod size;
mod start;
mod still;
mod stop;
mod unfinished;
mod verdict;

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
    if options.man {
        return print(&cli::manual());
    }
    ka_cli::log_libraries();
    let code = run::run(&options).unwrap_or_else(|failure| {
        say(&format!("error: {failure}"));
        failure.exit_code()
    });
    ExitCode::from(code)
}
