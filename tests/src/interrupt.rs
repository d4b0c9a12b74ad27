//! Ctrl-C without leftovers: signals only set a flag, every wait of the lab looks at it, and guards do the rest.
//!
//! Without [`catch`] (as in `cargo test`) nothing changes; [`crate::scratch::sweep`] tidies up the next time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Turns SIGINT, SIGTERM and SIGHUP into errors of whatever waits. Call it first, before any thread is started.
///
/// # Errors
/// The kernel refuses to block the signals.
pub fn catch() -> Result<()> {
    let signals = ours();
    signals.thread_block()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}

/// Fails when the operator has interrupted the run.
///
/// # Errors
/// Says that the run was interrupted.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// A program inherits its parent thread's blocked signals: the thread that starts one must not block any.
pub(crate) fn unblock_in_this_thread() {
    let _ = ours().thread_unblock();
}

fn ours() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}
