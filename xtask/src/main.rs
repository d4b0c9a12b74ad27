//! `cargo xtask`: everything around the product that is more than one cargo command. See `cargo xtask --help`.

mod bench;
mod cli;
mod demo;
mod man;
mod matrix;
mod packages;
mod root;
mod splice;
mod test;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => packages::install_missing(),
        Command::Test(options) => test::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Matrix(options) => matrix::run(options),
        Command::Static => test::build_static(),
        Command::Man { dir } => man::write(dir),
        Command::Ci => test::ci(),
        Command::TidyUpAfter { pid } => {
            ka_tests::caretaker::attend(*pid);
            Ok(())
        }
        Command::Splice(options) => splice::run(options),
    }
}
