//! KVM where a guest really boots under it, else emulation.
//!
//! The device node says little: there are machines that have `/dev/kvm` and on which a Linux guest hangs at boot. So
//! one small guest is tried, with a limit, once for each process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Program;
use crate::qemu::console::{Console, Mark};
use crate::scratch::Scratch;

/// A kernel under working KVM says this within a second or two.
const TRIAL_LIMIT: Duration = Duration::from_secs(12);
/// The last thing a kernel without any file system says, long after everything that hangs.
const PROOF: &str = "VFS: Unable to mount root fs";

/// What to give QEMU: an accelerator and a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// Emulation, about ten times slower.
    Tcg,
}

impl Accel {
    /// QEMU's options.
    #[must_use]
    pub fn options(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// What machines can be run with here. `kernel` is any Linux kernel, for the trial.
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
