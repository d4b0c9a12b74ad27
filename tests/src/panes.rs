//! Several screens on one terminal, for somebody who watches: tmux(1) with a pane for each file, which shows the file as it
//! grows.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{OWNER_VARIABLE, Program, is_installed, panicked};
use crate::{interrupt, terminal};

/// Share of the rows that the small panes get: one in so many.
const SMALL_SHARE: u16 = 3;
/// Smallest terminal that is divided, columns and rows: the server's view needs 40 columns and 10 rows.
const SMALLEST: (u16, u16) = (80, 20);
/// Attempts, and the pause between them, to find the large pane at rest.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// A file that a pane shows, and the pane's title.
#[derive(Debug, Clone)]
pub struct Pane {
    /// Title.
    pub title: String,
    /// File: plain text, or the output of a program on a terminal.
    pub file: PathBuf,
}

/// A large pane above a row of small ones. They are made out of sight, and shown on the terminal of this process until they are
/// dropped.
#[derive(Debug)]
pub struct Panes {
    socket: PathBuf,
    attached: Option<Child>,
}

/// Returns true if this process has a terminal that can be divided, and tmux to do it.
#[must_use]
pub fn can_be_shown() -> bool {
    let (columns, rows) = terminal::own_size();
    io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && !terminal::is_dumb(env::var("TERM").ok().as_deref())
        && columns >= SMALLEST.0
        && rows >= SMALLEST.1
        && is_installed("tmux")
}

impl Panes {
    /// Divides a terminal of this size: `large` above, `small` side by side below. Files that are not there are made.
    /// `directory` is for the socket.
    ///
    /// # Errors
    /// tmux fails, or a file cannot be made.
    pub fn new(directory: &Path, (columns, rows): (u16, u16), large: &Pane, small: &[Pane]) -> Result<Self> {
        let panes = Self {
            socket: directory.join("panes"),
            attached: None,
        };
        for pane in small.iter().chain([large]) {
            let file = File::options().append(true).create(true).open(&pane.file);
            file.with_context(|| format!("making {}", pane.file.display()))?;
        }
        let (columns, rows, share) = (
            columns.to_string(),
            rows.to_string(),
            (rows / SMALL_SHARE).to_string(),
        );
        let size = ["-x", &columns, "-y", &rows];
        panes.tmux(&[
            &["-f", "/dev/null", "new-session", "-d"],
            &size[..],
            &[&shows(large)],
        ])?;
        for option in [
            ["status", "off"],
            ["pane-border-status", "top"],
            ["pane-border-format", " #{pane_title} "],
            ["prefix", "None"],
        ] {
            panes.tmux(&[&["set-option", "-g"], &option])?;
        }
        for (index, pane) in small.iter().enumerate() {
            let place: &[&str] = if index == 0 {
                &["-v", "-l", &share]
            } else {
                &["-h"]
            };
            panes.tmux(&[&["split-window"], place, &[&shows(pane)]])?;
        }
        for (index, pane) in [large].into_iter().chain(small).enumerate() {
            let target = format!(":.{index}");
            panes.tmux(&[&["select-pane", "-t", &target, "-T", &pane.title]])?;
            // What is typed goes nowhere.
            panes.tmux(&[&["select-pane", "-t", &target, "-d"]])?;
        }
        // All keys but this one do nothing.
        panes.tmux(&[&["unbind-key", "-a", "-T", "prefix"]])?;
        panes.tmux(&[&["unbind-key", "-a", "-T", "root"]])?;
        let interrupt = format!("kill -INT {}", std::process::id());
        panes.tmux(&[&["bind-key", "-n", "C-c", "run-shell", "-b", &interrupt]])?;
        Ok(panes)
    }

    /// Shows them on the terminal of this process. Ctrl-C there interrupts this process.
    ///
    /// # Errors
    /// tmux does not start.
    pub fn show(&mut self) -> Result<()> {
        let mut tmux = Command::new("tmux");
        tmux.arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .arg("attach-session")
            // A tmux around this one is not this one's business.
            .env_remove("TMUX")
            .env(OWNER_VARIABLE, std::process::id().to_string());
        let start = move || {
            interrupt::unblock_in_this_thread();
            tmux.spawn()
        };
        let started = thread::spawn(start).join().map_err(|_| panicked())?;
        self.attached = Some(started.context("starting tmux")?);
        Ok(())
    }

    /// Returns true while they are on the terminal.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn are_shown(&mut self) -> Result<bool> {
        match &mut self.attached {
            Some(attached) => Ok(attached.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Returns columns and rows of the large pane now.
    ///
    /// # Errors
    /// tmux has ended.
    pub fn large_size(&self) -> Result<(u16, u16)> {
        let format = "#{pane_width} #{pane_height}";
        let said = self.tmux(&[&["display-message", "-p", "-t", ":.0", format]])?;
        match said.trim().split_once(' ') {
            Some((columns, rows)) => Ok((columns.parse()?, rows.parse()?)),
            None => bail!("tmux says {said:?} for a size"),
        }
    }

    /// Returns the large pane as it is drawn when nothing changes any more: a line of text for each row, without empty rows at
    /// the end.
    ///
    /// # Errors
    /// tmux has ended.
    pub fn drawn(&self) -> Result<String> {
        let capture = || self.tmux(&[&["capture-pane", "-p", "-t", ":.0"]]);
        let mut screen = capture()?;
        for _ in 0..LOOKS {
            thread::sleep(PAUSE);
            let next = capture()?;
            if next == screen {
                break;
            }
            screen = next;
        }
        Ok(screen.trim_end().to_owned())
    }

    fn tmux(&self, words: &[&[&str]]) -> Result<String> {
        let tmux = Program::new("tmux").arg("-u").arg("-S").arg(&self.socket);
        tmux.args(words.concat()).run()
    }
}

impl Drop for Panes {
    fn drop(&mut self) {
        let _whole = interrupt::shield();
        // It has ended already if somebody else has ended it.
        self.tmux(&[&["kill-server"]]).ok();
        if let Some(mut attached) = self.attached.take() {
            attached.wait().ok();
            // tmux says on its last line that it has ended: of no use to the reader.
            print!("\x1b[1A\r\x1b[K");
            io::stdout().flush().ok();
        }
    }
}

/// Returns the shell command that shows a file as it grows.
fn shows(pane: &Pane) -> String {
    let file = terminal::quoted(&pane.file.display().to_string());
    format!("exec tail -n +1 -f {file}")
}
