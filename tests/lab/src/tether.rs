//! A child that does not outlive us.
//!
//! `PR_SET_PDEATHSIG` (prctl(2); `setpriv --pdeathsig` sets it) means the death of the *thread* that started
//! the child. So that thread stays, asleep, until the guard is dropped; it dies with the process, whatever
//! killed that.

use std::io;
use std::process::Child;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::Result;

use crate::netns::Namespace;
use crate::process::panicked;

/// A guard that keeps the starting thread alive.
#[derive(Debug)]
pub(crate) struct Tether {
    _held: Sender<()>,
}

/// Starts a child, in a namespace or not, from a thread that stays.
///
/// # Errors
/// The namespace cannot be entered. The error of the start itself is in the result.
pub(crate) fn spawn(
    namespace: Option<Namespace>,
    start: impl FnOnce() -> io::Result<Child> + Send + 'static,
) -> Result<(io::Result<Child>, Option<Tether>)> {
    let (held, hold) = channel::<()>();
    let (tell, told) = channel();
    thread::Builder::new().name("tether".to_owned()).spawn(move || {
        let moved = namespace.map_or(Ok(()), |namespace| namespace.move_in());
        let _ = tell.send(moved.map(|()| start()));
        // It waits until the other end is dropped.
        let _ = hold.recv();
    })?;
    let child = told.recv().map_err(|_| panicked())??;
    Ok((child, Some(Tether { _held: held })))
}
