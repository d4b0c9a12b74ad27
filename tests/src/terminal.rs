//! A real terminal of a given size: tmux(1), which draws a program's output and returns it as lines of text.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::netns::Namespace;
use crate::process::Program;
use crate::scratch::Scratch;

/// Longest wait for a text to appear.
const LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks at the screen.
const LOOK: Duration = Duration::from_millis(50);

/// Quotes a text, so that a shell takes it as one word.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Returns true for a terminal that cannot place its cursor, by the value of `TERM`.
#[must_use]
pub fn is_dumb(term: Option<&str>) -> bool {
    matches!(term, None | Some("" | "dumb" | "unknown"))
}

/// Columns and rows that are assumed if the terminal does not say them.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Returns columns and rows of the terminal in which this process runs; 80 and 24 if it does not say.
#[must_use]
pub fn own_size() -> (u16, u16) {
    let said = Program::new("stty").args(["-F", "/dev/tty", "size"]).run();
    let size = said.ok().and_then(|said| {
        let (rows, columns) = said.trim().split_once(' ')?;
        Some((columns.parse().ok()?, rows.parse().ok()?))
    });
    match size {
        Some((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
        _ => USUAL_SIZE,
    }
}

/// Number of the next terminal: it distinguishes the terminals of one directory.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A terminal with one program in it, which is ended on drop.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Starts a shell command in a terminal with these columns and rows. `env` is added to the environment.
    ///
    /// # Errors
    /// tmux does not start.
    pub fn start(scratch: &Scratch, size: (u16, u16), command: &str, env: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(None, scratch, size, command, env)
    }

    /// The same in a network namespace.
    ///
    /// # Errors
    /// tmux does not start.
    pub fn start_inside(
        namespace: &Namespace,
        scratch: &Scratch,
        size: (u16, u16),
        command: &str,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_in(Some(namespace), scratch, size, command, env)
    }

    fn start_in(
        namespace: Option<&Namespace>,
        scratch: &Scratch,
        (columns, rows): (u16, u16),
        command: &str,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let socket = scratch
            .path()
            .join(format!("tmux-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let terminal = Self { socket };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut program = terminal.tmux().args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
        ]);
        for (name, value) in env {
            program = program.args(["-e", &format!("{name}={value}")]);
            // A search path comes to the shell from the client's own environment only.
            program = program.env(name, value);
        }
        if let Some(namespace) = namespace {
            program = program.inside(namespace);
        }
        program.arg(command).run()?;
        Ok(terminal)
    }

    /// Types text as it is.
    ///
    /// # Errors
    /// The program in the terminal has ended.
    pub fn types(&self, text: &str) -> Result<()> {
        self.tmux().args(["send-keys", "-l", text]).run().map(drop)
    }

    /// Presses a key by its name in tmux: `Tab`, `Enter`, `C-c`.
    ///
    /// # Errors
    /// The program in the terminal has ended.
    pub fn presses(&self, key: &str) -> Result<()> {
        self.tmux().args(["send-keys", key]).run().map(drop)
    }

    /// Returns the screen: a line of text for each row, without blanks at the ends.
    ///
    /// # Errors
    /// The program in the terminal has ended.
    pub fn lines(&self) -> Result<Vec<String>> {
        let screen = self.tmux().args(["capture-pane", "-p"]).run()?;
        Ok(screen.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// The screen with its colours, as control sequences.
    ///
    /// # Errors
    /// The program in the terminal has ended.
    pub fn painted(&self) -> Result<String> {
        self.tmux().args(["capture-pane", "-p", "-e"]).run()
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// The program in the terminal has ended.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let args = ["resize-window", "-x", &columns, "-y", &rows];
        self.tmux().args(args).run().map(drop)
    }

    /// Waits until `holds` is true for a line of the screen, and returns the line.
    ///
    /// # Errors
    /// No such line comes; the screen is quoted.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        let begun = Instant::now();
        loop {
            let lines = self.lines()?;
            if let Some(line) = lines.iter().find(|line| holds(line)) {
                return Ok(line.clone());
            }
            if begun.elapsed() > LIMIT {
                bail!(
                    "{what} did not appear within {LIMIT:?}; the screen:\n{}",
                    lines.join("\n")
                );
            }
            thread::sleep(LOOK);
        }
    }

    fn tmux(&self) -> Program {
        Program::new("tmux").arg("-S").arg(&self.socket)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already if its program has.
        self.tmux().arg("kill-server").finish().ok();
    }
}
