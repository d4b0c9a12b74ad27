//! `ka`: one command for all programs. `ka server …` is `ka-server …`, and so are the other verbs.

mod completions;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use ka_cli::{exit, print, say};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(first) = args.next() else {
        return print(verbs::first_steps().as_bytes());
    };
    let rest: Vec<OsString> = args.collect();
    match (first.to_str().unwrap_or_default(), rest.as_slice()) {
        ("help" | "--help" | "-h", []) => print(verbs::help().as_bytes()),
        ("help", [verb]) => verbs::run(verb, &["--help".into()]),
        ("--version" | "-V", []) => print(format!("ka {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        ("--man", []) => print(verbs::manual().as_bytes()),
        ("--completions", [shell]) => match shell.to_str().and_then(completions::script) {
            Some(script) => print(script.as_bytes()),
            None => wrong("--completions: name bash, zsh or fish; see ka help"),
        },
        _ => verbs::run(&first, &rest),
    }
}

/// Reports wrong usage in one line and returns the exit code.
fn wrong(text: &str) -> ExitCode {
    say(&format!("error: {text}"));
    ExitCode::from(exit::WRONG_USAGE)
}
