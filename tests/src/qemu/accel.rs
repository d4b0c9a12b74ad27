//! The choice of an accelerator: KVM if a guest really boots under it, else emulation.
//!
//! The device node is no proof: there are machines that have `/dev/kvm` and on which a Linux guest hangs at
//! boot. So one small guest is tried, with a limit, once for each process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Program;
use crate::qemu::console::{Console, Mark};
use crate::scratch::Scratch;

/// Time limit of the trial: a kernel under working KVM prints the proof within a second or two.
const TRIAL_LIMIT: Duration = Duration::from_secs(12);
/// The last message of a kernel without any file system, long after every point where it might hang.
const PROOF: &str = "VFS: Unable to mount root fs";

/// The accelerator and processor of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// KVM with the host's processor.
    Kvm,
    /// Emulation, about ten times slower.
    Tcg,
}

impl Accel {
    /// Returns QEMU's options.
    #[must_use]
    pub fn options(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// Returns the value of QEMU's `-smp` for a machine that starts with `count` processors.
    ///
    /// An emulated machine always has room for one more. QEMU before 8.1 leaves out the memory barriers of a
    /// guest that can never have a second processor, although the threads of its devices share its memory. A
    /// guest then announces a request in its queue in the moment in which the device stops looking: neither
    /// sees the other's write, and the queue stands still. The guest's kernel resets an NVMe controller twice
    /// for that, and gives it up after two and a half minutes.
    #[must_use]
    pub fn processors(self, count: u32) -> String {
        match self {
            Self::Kvm => count.to_string(),
            Self::Tcg => format!("{count},maxcpus={}", count + 1),
        }
    }
}

/// Chooses the accelerator for this machine. `kernel` is any Linux kernel, for the trial.
///
/// # Errors
/// QEMU is not there. A trial that fails is no error: it means emulation.
pub fn choose(kernel: &Path) -> Result<Accel> {
    static CHOSEN: OnceLock<Accel> = OnceLock::new();
    if let Some(accel) = CHOSEN.get() {
        return Ok(*accel);
    }
    let accel = if Path::new("/dev/kvm").exists() && boots_under_kvm(kernel)? {
        Accel::Kvm
    } else {
        Accel::Tcg
    };
    Ok(*CHOSEN.get_or_init(|| accel))
}

fn boots_under_kvm(kernel: &Path) -> Result<bool> {
    let scratch = Scratch::new("kvm")?;
    let socket: PathBuf = scratch.path().join("console");
    let running = Program::new("qemu-system-x86_64")
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-m",
            "256M",
            "-no-reboot",
        ])
        .args(Accel::Kvm.options())
        .args(["-append", "console=ttyS0 panic=-1", "-kernel"])
        .arg(kernel)
        .arg("-chardev")
        .arg(format!(
            "socket,id=con,path={},server=on,wait=on",
            socket.display()
        ))
        .args(["-serial", "chardev:con"])
        .limit(TRIAL_LIMIT)
        .spawn()
        .context("trying KVM")?;
    let Ok(console) = Console::connect("the KVM trial", &socket, None) else {
        return Ok(false);
    };
    let boots = console.wait_for(Mark::default(), PROOF, TRIAL_LIMIT).is_ok();
    drop(running);
    Ok(boots)
}
