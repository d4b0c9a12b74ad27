//! A mount namespace for this process (mount_namespaces(7)).
//!
//! Its mounts disappear with the last process in it, also after SIGKILL and in a crash: no half-written file
//! system stays mounted on a node.

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use crate::HostError;

/// Hides this process's mounts: from now on only this process and its children see them. Mounts and unmounts
/// outside are still seen here, so that KA keeps no other program's file system busy. Needs root.
///
/// Call it before any thread is started: only the calling thread and its children move over.
///
/// # Errors
/// [`HostError`]; `EPERM` without CAP_SYS_ADMIN.
pub fn own_mounts() -> Result<(), HostError> {
    let failed = |errno: nix::Error| HostError::new("making a mount namespace", errno);
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::mount::MountGuard;

    #[test]
    fn a_mount_made_inside_is_not_seen_outside_and_goes_with_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().to_owned();
        let inside = std::thread::spawn(move || {
            super::own_mounts().unwrap();
            let guard = MountGuard::mount(Path::new("ka-test"), &target, "tmpfs", "size=1M").unwrap();
            std::fs::write(target.join("file"), b"x").unwrap();
            let seen = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            std::mem::forget(guard);
            seen.contains(target.to_str().unwrap())
        });
        assert!(inside.join().unwrap());
        assert!(!dir.path().join("file").exists());
    }
}
