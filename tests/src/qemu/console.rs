//! The serial line of a machine: its output without the colours, and the text typed into it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;
use crate::qemu::pace::Patience;

/// Longest wait for QEMU's socket. QEMU opens it within moments of its start; a loaded machine may take
/// longer.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks at the text.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of the text that an error repeats.
const TAIL_BYTES: usize = 3000;
/// Messages of a machine that has failed: to wait for the limit then is of no use.
const DEADLY: [&str; 3] = ["Kernel panic", "(initramfs)", "You are in emergency mode"];
/// Time limit of a shell's answer to a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// A callback for each line of a console, for an observer.
pub type Watcher = Box<dyn Fn(&str) + Send>;

/// A machine's console.
#[derive(Debug)]
pub struct Console {
    name: String,
    /// The process that runs the machine, when it is known.
    process: Option<u32>,
    line: UnixStream,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    closed: bool,
}

/// A place in a machine's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

impl Console {
    /// Connects to the socket of a machine's serial line and listens from then on.
    ///
    /// # Errors
    /// The socket does not appear in time.
    pub fn connect(name: &str, socket: &Path, watcher: Option<Watcher>) -> Result<Self> {
        let started = Instant::now();
        let line = loop {
            match UnixStream::connect(socket) {
                Ok(line) => break line,
                Err(_) if started.elapsed() < CONNECT_LIMIT => thread::sleep(POLL),
                Err(err) => return Err(err).with_context(|| format!("connecting to the console of {name}")),
            }
        };
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (mut reader, shared) = (line.try_clone()?, Arc::clone(&heard));
        // The thread ends with the machine, which closes its end.
        thread::Builder::new()
            .name(format!("console {name}"))
            .spawn(move || {
                let mut cleaner = Cleaner::default();
                let mut bytes = [0; 4096];
                let mut shown = 0;
                while let Ok(count @ 1..) = reader.read(&mut bytes) {
                    let mut heard = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    cleaner.feed(&bytes[..count], &mut heard.text);
                    if let Some(watcher) = &watcher {
                        while let Some(length) = heard.text[shown..].find('\n') {
                            watcher(&heard.text[shown..shown + length]);
                            shown += length + 1;
                        }
                    }
                }
                shared.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            })?;
        Ok(Self {
            name: name.to_owned(),
            process: None,
            line,
            heard,
        })
    }

    /// Names the process that runs the machine: time in which it has no processor does not count.
    #[must_use]
    pub fn of_process(mut self, process: u32) -> Self {
        self.process = Some(process);
        self
    }

    /// Returns the patience with this machine for a limit.
    #[must_use]
    pub fn patience(&self, limit: Duration) -> Patience {
        Patience::begin(limit, self.process)
    }

    /// Returns the machine's whole output until now.
    #[must_use]
    pub fn text(&self) -> String {
        self.heard().text.clone()
    }

    /// Returns the present end of the output; a wait may start from it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.heard().text.len())
    }

    /// Returns the output since a mark.
    #[must_use]
    pub fn since(&self, mark: Mark) -> String {
        self.heard().text[mark.0..].to_owned()
    }

    /// Waits until the machine's output has a text after `from`; returns the place behind it.
    ///
    /// # Errors
    /// The limit passes, the machine is switched off, or it prints a message of a machine that has failed.
    pub fn wait_for(&self, from: Mark, text: &str, limit: Duration) -> Result<Mark> {
        self.wait_for_any(from, &[text], limit).map(|(_, mark)| mark)
    }

    /// Waits for the first of several texts; returns its index and the place behind it.
    ///
    /// # Errors
    /// As [`Console::wait_for`].
    pub fn wait_for_any(&self, from: Mark, texts: &[&str], limit: Duration) -> Result<(usize, Mark)> {
        let mut patience = self.patience(limit);
        loop {
            interrupt::check()?;
            let (since, closed) = {
                let heard = self.heard();
                (heard.text[from.0..].to_owned(), heard.closed)
            };
            let places = texts.iter().enumerate().filter_map(|(index, text)| {
                let place = since.find(text)?;
                Some((place, index, place + text.len()))
            });
            if let Some((_, index, end)) = places.min() {
                return Ok((index, Mark(from.0 + end)));
            }
            let name = &self.name;
            if let Some(deadly) = DEADLY.iter().find(|deadly| since.contains(**deadly)) {
                bail!(
                    "{name} waits for {texts:?} and says {deadly:?}:\n{}",
                    tail(&since)
                );
            }
            if closed {
                bail!("{name} was switched off before {texts:?}:\n{}", tail(&since));
            }
            if let Err(late) = patience.check(from.0 + since.len()) {
                bail!(
                    "{name}: {texts:?} {late}:
{}",
                    tail(&since)
                );
            }
            thread::sleep(POLL);
        }
    }

    /// True if the machine is off.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.heard().closed
    }

    /// Types a text.
    ///
    /// # Errors
    /// The machine is off.
    pub fn send(&self, text: &str) -> Result<()> {
        (&self.line)
            .write_all(text.as_bytes())
            .with_context(|| format!("typing at {}", self.name))
    }

    /// Waits for a login prompt after `from`, logs in as root, who has no password, and makes the shell a
    /// quiet one.
    ///
    /// # Errors
    /// No prompt comes.
    pub fn login(&self, from: Mark, limit: Duration) -> Result<()> {
        let mark = self.wait_for(from, " login: ", limit)?;
        self.send("root\n")?;
        let mark = self.wait_for(mark, "# ", ANSWER_LIMIT)?;
        // A plain shell does not redraw lines; without echo its output is only output.
        self.send("exec sh\n")?;
        self.wait_for(mark, "# ", ANSWER_LIMIT)?;
        self.send("stty -echo; dmesg -n 1; PS1=\n")?;
        self.command("true").map(drop)
    }

    /// Runs a command in the shell of [`Console::login`] and returns its output.
    ///
    /// # Errors
    /// It fails, or takes too long.
    pub fn command(&self, command: &str) -> Result<String> {
        let mark = self.mark();
        self.send(&format!("echo '<'begin'>'; {command}; echo '<'end $?'>'\n"))?;
        let begin = self.wait_for(mark, "<begin>\n", ANSWER_LIMIT)?;
        self.wait_for(begin, "<end ", ANSWER_LIMIT)?;
        self.wait_for(begin, ">\n", ANSWER_LIMIT)?;
        let said = self.since(begin);
        let (output, rest) = said.rsplit_once("<end ").context("the end was seen")?;
        let code = rest.split('>').next().unwrap_or_default();
        if code != "0" {
            bail!("{}: {command}: exit code {code}:\n{}", self.name, tail(output));
        }
        Ok(output.to_owned())
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A filter that removes control sequences (ECMA-48), carriage returns and NULs from a terminal's text.
#[derive(Debug, Default)]
struct Cleaner {
    state: State,
    /// Bytes of a character that is not complete yet.
    pending: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    Escape,
    Sequence,
    Text,
}

impl Cleaner {
    fn feed(&mut self, bytes: &[u8], text: &mut String) {
        for byte in bytes {
            match (&self.state, byte) {
                (State::Plain, 0x1b) => self.state = State::Escape,
                (State::Plain, b'\r' | 0 | 0x08) => {}
                (State::Plain, byte) => self.pending.push(*byte),
                (State::Escape, b'[') => self.state = State::Sequence,
                // Operating system commands and device control strings: systemd writes them (OSC 3008), ended
                // by BEL or ESC \.
                (State::Escape, b']' | b'P') => self.state = State::Text,
                (State::Text, 0x1b) => self.state = State::Escape,
                (State::Sequence, 0x40..=0x7e) | (State::Text, 0x07) | (State::Escape, _) => {
                    self.state = State::Plain;
                }
                (State::Sequence | State::Text, _) => {}
            }
        }
        let valid = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            // A character that is cut off stays; anything else is no text.
            Err(err) if err.error_len().is_none() => err.valid_up_to(),
            Err(_) => self.pending.len(),
        };
        text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
        self.pending.drain(..valid);
    }
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_cursor_moves_are_no_text() {
        let mut cleaner = Cleaner::default();
        let mut text = String::new();
        let said = "\u{1b}[1;31mdebian\u{1b}[0m login:\r\n\u{1b}]0;title\u{7}ü\0";
        for byte in said.as_bytes() {
            cleaner.feed(&[*byte], &mut text);
        }
        assert_eq!(text, "debian login:\nü");
    }
}
