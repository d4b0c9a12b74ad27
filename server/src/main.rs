//! `ka-server`: streams the golden node to its clones. This file parses, runs and sets the exit code.

mod approve;
mod boot;
mod cli;
mod clone;
mod command;
mod consent;
mod dry_run;
mod failure;
mod feed;
mod generic;
mod golden_place;
mod identities;
mod join;
mod log_dir;
mod monitor;
mod precheck;
mod proof;
mod report_file;
mod run;
mod screen;
mod settings;
mod start;
mod still;
mod stop;
mod survey;
mod unfinished;
mod verdict;

use std::process::ExitCode;

use ka_cli::say;

fn main() -> ExitCode {
    let options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    ka_cli::log_libraries();
    let code = command::perform(&options).unwrap_or_else(|failure| {
        say(&format!("error: {failure}"));
        failure.exit_code()
    });
    ExitCode::from(code)
}
