//! `cargo xtask`: tasks around the product that take more than one cargo command. See `cargo xtask --help`.

mod bench;
mod cli;
mod demo;
mod flood;
mod man;
mod matrix;
mod package;
mod packages;
mod progress;
mod repository;
mod root;
mod splice;
mod test;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// Name of the command that makes the golden Debian's archive.
pub(crate) const GOLDEN: &str = "golden";

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
        Command::Setup => packages::setup(),
        Command::Test(options) => test::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Matrix(options) => matrix::run(options),
        Command::Static => test::build_static(),
        Command::Man { dir } => man::write(dir),
        Command::Package(options) => package::run(options),
        Command::Repository(options) => repository::run(options),
        Command::Ci => test::ci(),
        Command::Golden(options) => demo::golden(options),
        Command::TidyUpAfter { pid } => {
            ka_tests::caretaker::attend(*pid);
            Ok(())
        }
        Command::Splice(options) => splice::run(options),
        Command::Flood(options) => flood::run(options),
    }
}
