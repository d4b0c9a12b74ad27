//! A process that tidies up after this one was killed: a signal runs no guards.
//!
//! It holds the reading end of a pipe. Its end of file means that the process is gone, whatever ended it:
//! Ctrl-C of `cargo test`, SIGKILL, an abort. Then the caretaker undoes everything that still carries that
//! process's id. It is `xtask` under another command. A test program without an `xtask` beside it has no
//! caretaker, and the next start tidies up.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::OWNER_VARIABLE;
use crate::{scratch, target_dir};

/// The command of `xtask` that [`attend`] runs.
pub const COMMAND: &str = "tidy-up-after";
/// Longest time that the caretaker waits for a process that has closed the pipe and still runs.
const GONE_LIMIT: Duration = Duration::from_secs(30);

/// Starts this process's caretaker, once.
pub(crate) fn engage() {
    // The static holds the pipe's writing end, which this process closes by ending.
    static CARETAKER: OnceLock<Option<Child>> = OnceLock::new();
    CARETAKER.get_or_init(|| {
        let program = program()?;
        Command::new(program)
            .args([COMMAND, &std::process::id().to_string()])
            // Ctrl-C goes to the terminal's process group, and must not reach the caretaker.
            .process_group(0)
            // It belongs to no other lab, even if a lab's process has started this one.
            .env_remove(OWNER_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()
    });
}

/// Waits for the end of the process that holds the other end of standard input, and undoes what it left
/// behind.
pub fn attend(pid: u32) {
    // An error ends the wait as the end of file does; the loop below is what decides.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let since = Instant::now();
    while scratch::lives(pid) {
        if since.elapsed() > GONE_LIMIT {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    scratch::sweep_after(pid);
}

fn program() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    if exe.file_name().is_some_and(|name| name == "xtask") {
        return Some(exe);
    }
    let beside = target_dir::own().ok()?.join("xtask");
    let ready = std::env::var_os(target_dir::READY_VARIABLE).map(|dir| PathBuf::from(dir).join("xtask"));
    ready.into_iter().chain([beside]).find(|path| path.is_file())
}
