//! `ka-image`: keeps images of golden trees in a store. This file parses, runs and sets the exit code.

mod args;
mod open;
mod report;
mod upkeep;
mod work;

use std::process::ExitCode;

use ka_cli::{exit, print};

use args::{Options, Verb};

fn main() -> ExitCode {
    let options: Options = match ka_cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(answer) => return answer.give(),
    };
    let writes = matches!(options.verb, Verb::Export { .. });
    match run(&options) {
        Ok(Done { text, good: true }) => print(text.as_bytes()),
        Ok(Done { text, good: false }) => {
            // Damage counts, whether or not somebody reads of it.
            let _ = print(text.as_bytes());
            ExitCode::from(exit::FAILED)
        }
        Err(error) => {
            let begun = writes && error.downcast_ref::<work::Begun>().is_some();
            ka_cli::fail(
                error.as_ref(),
                if begun { exit::FAILED } else { exit::NOTHING_DONE },
            )
        }
    }
}

/// The text of a verb, and whether all is good.
struct Done {
    text: String,
    good: bool,
}

fn run(options: &Options) -> anyhow::Result<Done> {
    let good = |text| Done { text, good: true };
    match &options.verb {
        Verb::Save(save) => work::save(options, save).map(good),
        Verb::Export { name, dir } => work::export(options, name, dir).map(good),
        Verb::List => upkeep::list(options).map(good),
        Verb::Show { name } => upkeep::show(options, name).map(good),
        Verb::Verify { name } => {
            upkeep::verify(options, name.as_deref()).map(|(text, good)| Done { text, good })
        }
        Verb::Remove { name } => upkeep::remove(options, name).map(good),
        Verb::Prune { keep, grace_hours } => upkeep::prune(options, *keep, *grace_hours).map(good),
        Verb::Copy { name, into } => upkeep::copy(options, name, into).map(good),
    }
}
