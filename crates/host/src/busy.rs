//! Trying again while a device or a mount is in use (`EBUSY`).

use std::io;
use std::thread;
use std::time::Duration;

/// Calls `step`, and calls it again after each of the `pauses` while it fails with `EBUSY`: another program's
/// short look at a disk or a mount (udev's blkid, a scanner) passes.
///
/// # Errors
/// That of the last call.
pub fn while_busy<T>(
    pauses: impl IntoIterator<Item = Duration>,
    mut step: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    for pause in pauses {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(pause),
            result => return result,
        }
    }
    step()
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_step_is_tried_again_while_it_is_busy_and_once_more_than_there_are_pauses() {
        let pauses = || repeat_n(Duration::ZERO, 3);
        let mut left = 3;
        let passes = while_busy(pauses(), || {
            left -= 1;
            if left > 0 {
                Err(Errno::EBUSY.into())
            } else {
                Ok("mine")
            }
        });
        assert_eq!((passes.unwrap(), left), ("mine", 0));
        for (errno, calls) in [(Errno::EBUSY, 4), (Errno::ENOENT, 1)] {
            let mut called = 0;
            let failed = while_busy::<()>(pauses(), || {
                called += 1;
                Err(errno.into())
            });
            let told = failed.unwrap_err().raw_os_error();
            assert_eq!((told, called), (Some(errno as i32), calls));
        }
    }
}
