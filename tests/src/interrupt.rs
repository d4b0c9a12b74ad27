//! Ctrl-C without leftovers: signals only set a flag, every wait of the lab looks at it, and guards do the rest.
//!
//! Without [`catch`] (as in `cargo test`) nothing changes; [`crate::scratch::sweep`] tidies up the next time.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Pieces of work of this thread that must not be cut in half.
    static SHIELDS: Cell<u32> = const { Cell::new(0) };
}

/// A piece of work that is done to its end: while it lives, this thread's waits do not look at the flag. For what makes a
/// namespace, mount or loop device, so that its guard knows of it, and for the guards that undo them.
#[derive(Debug)]
pub(crate) struct Shield(());

/// Begins such a piece of work. It must be short, or have a limit of its own.
pub(crate) fn shield() -> Shield {
    SHIELDS.set(SHIELDS.get() + 1);
    Shield(())
}

impl Drop for Shield {
    fn drop(&mut self) {
        SHIELDS.set(SHIELDS.get().saturating_sub(1));
    }
}

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

/// Fails when the operator has interrupted the run, but not in the middle of what must not be cut in half.
///
/// # Errors
/// Says that the run was interrupted.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) && SHIELDS.get() == 0 {
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
