//! The machine's first process. It must never end: the kernel panics when it does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ka_cli::say;
use ka_host::process_one::{self, End, Machine};

use super::cmdline::CommandLine;
use super::{NODE_NAME, consoles, mounts};

/// After an end that the node itself could not tell of.
const PAUSE_AFTER_CRASH: Duration = Duration::from_secs(60);
/// Between two looks at the shells.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before a shell that ended comes back. One that cannot start must not keep a processor busy.
const RESPAWN_PAUSE: Duration = Duration::from_secs(2);
const SHELL: &str = "/bin/sh";
/// The path where the kernel looks for modprobe (`CONFIG_MODPROBE_PATH`).
const MODPROBE: &str = "/sbin/modprobe";

/// Runs the machine to its restart.
pub(super) fn run() -> ExitCode {
    if !process_one::is_first() {
        say("error: init: is started by the kernel of a boot image, as the first process");
        return ExitCode::from(2);
    }
    // Whatever happens in there, this process goes on to the restart below.
    let ended = std::panic::catch_unwind(supervise);
    if ended.is_err() {
        consoles::say("error: the node's first process failed; rebooting in 60 s");
        std::thread::sleep(PAUSE_AFTER_CRASH);
    }
    let error = process_one::end_machine(Machine::Restart);
    consoles::say(&format!("error: {error}; switch this machine off and on"));
    loop {
        let _ = process_one::next_ended(PAUSE_AFTER_CRASH);
    }
}

fn supervise() {
    let failed = mounts::basic();
    consoles::quiet_kernel();
    for error in failed {
        consoles::say(&format!("warning: {error}"));
    }
    provide_modprobe();
    let line = CommandLine::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mut shells = Shells::new(line.shell);
    let crash = match process_one::start_worker(NODE_NAME) {
        Ok(node) => match wait_for(node, &mut shells) {
            // The node has said what there is to say, and waited as long as it should be read.
            End::Exited(0 | 1) => return,
            End::Exited(code) => format!("the node program ended with code {code}"),
            End::Killed(signal) => format!("the node program was killed by {signal}"),
        },
        Err(error) => error.to_string(),
    };
    consoles::say(&format!("error: {crash}"));
    if line.reboot {
        consoles::say(&format!("rebooting in {} s", PAUSE_AFTER_CRASH.as_secs()));
    } else {
        consoles::say("this machine stays as it is (ka.reboot=no)");
    }
    let since = Instant::now();
    while !line.reboot || since.elapsed() < PAUSE_AFTER_CRASH {
        shells.tend();
        if let Some((pid, _)) = process_one::next_ended(LOOK_INTERVAL) {
            shells.forget(pid);
        }
    }
}

/// Waits for the node, reaps every orphan meanwhile, and keeps the shells alive.
fn wait_for(node: u32, shells: &mut Shells) -> End {
    loop {
        shells.tend();
        match process_one::next_ended(LOOK_INTERVAL) {
            Some((pid, end)) if pid == node => return end,
            Some((pid, _)) => shells.forget(pid),
            None => {}
        }
    }
}

/// The boot image has no kmod; this program does the same for the kernel (`super::modprobe`).
fn provide_modprobe() {
    if Path::new(MODPROBE).exists() {
        return;
    }
    fs::create_dir_all("/sbin").ok();
    if let Err(error) = symlink("/init", MODPROBE) {
        consoles::say(&format!("warning: making {MODPROBE}: {error}"));
    }
}

/// The shells of `ka.shell`: one beside each console.
struct Shells(Vec<Shell>);

struct Shell {
    terminal: PathBuf,
    pid: Option<u32>,
    ended: Option<Instant>,
    complained: bool,
}

impl Shells {
    fn new(wanted: bool) -> Self {
        let consoles = if wanted { consoles::active() } else { Vec::new() };
        let terminals = consoles.iter().filter_map(|console| consoles::beside(console));
        Self(
            terminals
                .map(|terminal| Shell {
                    terminal,
                    pid: None,
                    ended: None,
                    complained: false,
                })
                .collect(),
        )
    }

    /// Starts missing shells, as soon as there is a shell to start: it comes with the tools.
    fn tend(&mut self) {
        let shell = Path::new(SHELL);
        if self.0.is_empty() || !shell.exists() {
            return;
        }
        for place in self.0.iter_mut().filter(|place| place.pid.is_none()) {
            if place.ended.is_some_and(|ended| ended.elapsed() < RESPAWN_PAUSE) {
                continue;
            }
            match process_one::start_shell(shell, &place.terminal) {
                Ok(pid) => place.pid = Some(pid),
                Err(error) => {
                    place.ended = Some(Instant::now());
                    // A machine without a second serial port still has a second screen.
                    if !std::mem::replace(&mut place.complained, true) {
                        consoles::say(&format!("warning: ka.shell: {error}"));
                    }
                }
            }
        }
    }

    fn forget(&mut self, pid: u32) {
        for place in self.0.iter_mut().filter(|place| place.pid == Some(pid)) {
            (place.pid, place.ended) = (None, Some(Instant::now()));
        }
    }
}
