//! The kernel's own messages (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg of the kernel): the reason for a
//! disk that fails, beside the bare "Input/output error" that a program gets.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;

const DEVICE: &str = "/dev/kmsg";
/// Most messages returned.
const MAX_MESSAGES: usize = 20;
/// Most text returned, bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// Records read at most: a kernel that goes on complaining must not hold up its reader.
const MAX_RECORDS: usize = 100_000;
/// Longest record, bytes (`PRINTK_MESSAGE_MAX`, and `CONSOLE_EXT_LOG_MAX` of older kernels).
const MAX_RECORD_BYTES: usize = 8 << 10;
/// The least severe level that counts (`KERN_WARNING`; 0 is the most severe).
const WARNING: u32 = 4;

/// A message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelMessage {
    /// Time since the kernel started, microseconds.
    pub time_us: u64,
    /// The message: one line, in which the kernel has escaped control characters.
    pub text: String,
}

/// The kernel's messages from a moment on.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Returns the messages that come from now on.
    ///
    /// # Errors
    /// The kernel shows its messages to root only (sysctl `kernel.dmesg_restrict`), or the system has no such
    /// device, as in a container.
    pub fn from_now() -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(DEVICE)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// Returns the last warnings and errors so far, at most 20 and 4 KiB, the oldest first. Messages that
    /// programs have written into the kernel's log are not among them.
    #[must_use]
    pub fn warnings(self) -> Vec<KernelMessage> {
        last_warnings(self.0)
    }
}

/// Reads one record a call, as the device gives them, until there is none.
fn last_warnings(mut records: impl Read) -> Vec<KernelMessage> {
    let mut found = VecDeque::new();
    let mut bytes = 0;
    let mut record = vec![0; MAX_RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        let message = match records.read(&mut record) {
            Ok(0) => break,
            Ok(count) => warning(&String::from_utf8_lossy(&record[..count])),
            // The next records were overwritten before they could be read: the read after this one goes on
            // with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => None,
            Err(_) => break,
        };
        let Some(message) = message else { continue };
        bytes += message.text.len();
        found.push_back(message);
        while found.len() > MAX_MESSAGES || bytes > MAX_TEXT_BYTES {
            let Some(oldest) = found.pop_front() else { break };
            bytes -= oldest.text.len();
        }
    }
    found.into()
}

/// Returns the message of a record if it is the kernel's own, and a warning or worse. The form is
/// `PRIORITY,NUMBER,MICROSECONDS,FLAGS[,...];TEXT`, then lines with properties.
fn warning(record: &str) -> Option<KernelMessage> {
    let (prefix, rest) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    // The facility times 8, and the level. The kernel's facility is 0; it takes that from nobody else.
    let priority: u32 = fields.next()?.parse().ok()?;
    let time_us = fields.nth(1)?.parse().ok()?;
    let text = rest.lines().next().unwrap_or_default().to_owned();
    (priority <= WARNING).then_some(KernelMessage { time_us, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one record a call, as the device does, then `EAGAIN`.
    struct Records(VecDeque<Result<String, Errno>>);

    impl Records {
        fn of<const N: usize>(records: [Result<&str, Errno>; N]) -> Self {
            Self(
                records
                    .into_iter()
                    .map(|record| record.map(str::to_owned))
                    .collect(),
            )
        }
    }

    impl Read for Records {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let record = self.0.pop_front().unwrap_or(Err(Errno::AGAIN))?;
            into[..record.len()].copy_from_slice(record.as_bytes());
            Ok(record.len())
        }
    }

    fn texts(messages: &[KernelMessage]) -> Vec<&str> {
        messages.iter().map(|message| message.text.as_str()).collect()
    }

    #[test]
    fn warnings_and_errors_of_the_kernel_are_kept_and_nothing_else() {
        let records = Records::of([
            Ok("6,339,5140900,-;NET: Registered protocol family 10\n"),
            Ok(
                "4,340,81000001,-,caller=T7;nvme nvme0: I/O 585 QID 1 timeout, aborting\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n",
            ),
            Ok("30,341,82000000,-;systemd[1]: a program's own line\n"),
            Ok("12,342,82000000,-;a warning that a program wrote\n"),
            Ok("3,343,175429182,-;I/O error, dev nvme0n1, sector 208432; op 0x1:(WRITE)\n"),
            Ok("7,344,175429183,c;debugging\n"),
        ]);
        let found = last_warnings(records);
        assert_eq!(
            texts(&found),
            [
                "nvme nvme0: I/O 585 QID 1 timeout, aborting",
                "I/O error, dev nvme0n1, sector 208432; op 0x1:(WRITE)"
            ]
        );
        assert_eq!(found[1].time_us, 175_429_182);
    }

    #[test]
    fn records_that_were_overwritten_or_are_garbage_end_nothing() {
        let records = Records::of([
            Ok("3,1,1,-;first\n"),
            Err(Errno::PIPE),
            Ok("no record"),
            Ok("3,x"),
            Ok(";"),
            Ok("4,9,2,-;"),
            Ok("3,9,3,-;last"),
        ]);
        assert_eq!(texts(&last_warnings(records)), ["first", "", "last"]);
    }

    #[test]
    fn the_last_of_many_are_kept() {
        let many = (0..1000)
            .map(|n| Ok(format!("3,{n},{n},-;error {n}\n")))
            .collect();
        let found = last_warnings(Records(many));
        assert_eq!(found.len(), MAX_MESSAGES);
        assert_eq!(found.last().unwrap().text, "error 999");

        let long = (0..9)
            .map(|n| Ok(format!("3,{n},{n},-;{}\n", "x".repeat(1000))))
            .collect();
        assert_eq!(last_warnings(Records(long)).len(), 4);
    }

    #[test]
    fn a_kernel_that_does_not_stop_is_left() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let record = b"3,1,1,-;again\n";
                into[..record.len()].copy_from_slice(record);
                Ok(record.len())
            }
        }
        assert_eq!(last_warnings(Endless).len(), MAX_MESSAGES);
    }
}
