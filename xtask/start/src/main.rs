//! `cargo xtask`: builds xtask, and becomes it.
//!
//! The first build takes a minute. On a terminal, cargo draws its progress. On a pipe, cargo is silent while it compiles a
//! large crate, so this program prints the time. It has no dependencies, so that cargo builds it in a second.

use std::env;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

/// Selection of xtask, for cargo.
const XTASK: [&str; 4] = ["--profile", "xtask", "--package", "xtask"];
/// Time between two lines on a pipe.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at the build.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: cargo xtask: running cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns only if the build or its start fails. The exit code is cargo's.
fn run() -> io::Result<ExitCode> {
    let mut build = cargo().arg("build").args(XTASK).spawn()?;
    let (started, is_terminal) = (Instant::now(), io::stderr().is_terminal());
    let mut due = INTERVAL;
    let status = loop {
        if let Some(status) = build.try_wait()? {
            break status;
        }
        let elapsed = started.elapsed();
        if elapsed >= due && !is_terminal {
            eprintln!("    Building xtask, {} s", elapsed.as_secs());
            due = elapsed + INTERVAL;
        }
        thread::sleep(LOOK);
    };
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    // cargo becomes xtask, which measures its times from the start of this process.
    let mut xtask = cargo();
    xtask.args(["run", "--quiet"]).args(XTASK).arg("--");
    Err(xtask.args(env::args_os().skip(1)).exec())
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
