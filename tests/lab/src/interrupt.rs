//! Ctrl-C without leftovers: a signal only sets a flag, every wait of the lab checks it, and guards undo the
//! rest.
//!
//! Without [`catch`] (as in `cargo test`) nothing changes; [`crate::scratch::sweep`] tidies up the next time.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Number of this thread's pieces of work that must not be cut in half.
    static SHIELDS: Cell<u32> = const { Cell::new(0) };
}

/// A piece of work that runs to its end: while the guard lives, this thread's waits do not check the flag. It
/// serves code that makes a namespace, mount or loop device, so that its guard knows of it, and the guards
/// that undo them.
#[derive(Debug)]
pub struct Shield(());

/// Begins such a piece of work. It must be short, or have a limit of its own.
#[must_use]
pub fn shield() -> Shield {
    SHIELDS.set(SHIELDS.get() + 1);
    Shield(())
}

impl Drop for Shield {
    fn drop(&mut self) {
        SHIELDS.set(SHIELDS.get().saturating_sub(1));
    }
}

/// Turns SIGINT, SIGTERM and SIGHUP into errors of every wait. Call it first, before any thread is started.
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

/// Interrupts the run when standard input ends, too.
///
/// # Errors
/// The kernel has no more threads.
pub fn at_end_of_input() -> Result<()> {
    thread::Builder::new().name("input".to_owned()).spawn(|| {
        // An error is an end, too.
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        INTERRUPTED.store(true, Ordering::Relaxed);
    })?;
    Ok(())
}

/// Fails if the operator has interrupted the run, but not in the middle of work that must not be cut in half.
///
/// # Errors
/// The run was interrupted.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) && SHIELDS.get() == 0 {
        bail!("interrupted");
    }
    Ok(())
}

/// Unblocks all signals: a program inherits its parent thread's blocked ones, so the thread that starts it
/// must block none.
pub fn unblock_in_this_thread() {
    let _ = ours().thread_unblock();
}

fn ours() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}
