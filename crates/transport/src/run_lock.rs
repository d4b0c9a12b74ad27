//! The lock on a state directory: every run holds a shared one, a change of its key an exclusive one.
//!
//! flock(2): the kernel lets go of it when the process ends, however it ends. Nothing of it is left to clean
//! up.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::TransportError;

const LOCK_FILE: &str = "run.lock";

/// A lock on a state directory, until it is dropped.
#[derive(Debug)]
pub struct RunLock {
    _held: Flock<File>,
}

impl RunLock {
    /// Takes the lock for a run. Other runs may go on beside it, but the key cannot be changed.
    ///
    /// # Errors
    /// [`TransportError::InUse`] while the key is being changed, [`TransportError::File`].
    pub fn for_run(state_dir: &Path) -> Result<Self, TransportError> {
        Self::take(state_dir, FlockArg::LockSharedNonblock)
    }

    /// Takes the lock for a change of the key. No run can go on meanwhile.
    ///
    /// # Errors
    /// [`TransportError::InUse`] while there is a run, [`TransportError::File`].
    pub fn for_change(state_dir: &Path) -> Result<Self, TransportError> {
        Self::take(state_dir, FlockArg::LockExclusiveNonblock)
    }

    fn take(state_dir: &Path, how: FlockArg) -> Result<Self, TransportError> {
        let path = state_dir.join(LOCK_FILE);
        let failed = |source| TransportError::file("locking", &path, source);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| TransportError::file("making the state directory", state_dir, source))?;
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match Flock::lock(file, how) {
            Ok(held) => Ok(Self { _held: held }),
            Err((_, Errno::EAGAIN)) => Err(TransportError::InUse {
                path: state_dir.to_owned(),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_a_directory_and_a_change_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (one, two) = (
            RunLock::for_run(&state).unwrap(),
            RunLock::for_run(&state).unwrap(),
        );
        assert!(matches!(
            RunLock::for_change(&state),
            Err(TransportError::InUse { .. })
        ));
        drop(one);
        assert!(RunLock::for_change(&state).is_err());
        drop(two);
        let change = RunLock::for_change(&state).unwrap();
        assert!(RunLock::for_run(&state).is_err());
        drop(change);
        assert!(RunLock::for_run(&state).is_ok());
    }
}
