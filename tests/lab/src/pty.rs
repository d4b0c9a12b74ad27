//! A pseudoterminal (pty(7)) for a program that draws: what it draws goes to a file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longest wait for the end of a terminal after that of its program.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// The side of a pseudoterminal that is not the program's.
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
    drawn: File,
    copier: JoinHandle<()>,
}

impl Pty {
    /// Makes a terminal of this size and returns the program's side beside it. All that is written there goes to `file`, until
    /// nobody has that side open any more.
    ///
    /// # Errors
    /// The file cannot be made, or the kernel has no more terminals.
    pub fn new(size: (u16, u16), file: &Path) -> Result<(Self, OwnedFd)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("opening a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program_side = open(path.as_c_str(), flags, Mode::empty()).context("opening a terminal")?;
        let drawn = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(file)
            .with_context(|| format!("making {}", file.display()))?;
        let (mut from, mut to) = (File::from(master.try_clone()?), drawn.try_clone()?);
        // It ends with EIO when the program's side is closed.
        let copier = thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || {
                io::copy(&mut from, &mut to).ok();
            })?;
        let pty = Self {
            master,
            drawn,
            copier,
        };
        pty.resize(size)?;
        Ok((pty, program_side))
    }

    /// Returns the file of all that was drawn.
    ///
    /// # Errors
    /// This process has no more descriptors.
    pub fn drawn(&self) -> Result<File> {
        Ok(self.drawn.try_clone()?)
    }

    /// Waits until all is in the file that a program which has ended has written. A child that still has the terminal ends
    /// the wait after a moment.
    pub fn settle(&self) {
        let since = Instant::now();
        while !self.copier.is_finished() && since.elapsed() < SETTLE_LIMIT {
            thread::sleep(POLL);
        }
    }

    /// Gives the terminal another size, which the kernel signals to the program.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.master.as_fd(), size).context("resizing a terminal")
    }
}
