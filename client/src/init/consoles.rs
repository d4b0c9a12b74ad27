//! The machine's consoles: all that the kernel was told of (`console=`), screen and serial. Each has a thread
//! of its own, so that a serial line without a reader holds up no other console.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::log_ring::LogRing;

/// Names of the consoles in use, separated by blanks.
const ACTIVE: &str = "/sys/class/tty/console/active";
const FALLBACK: &str = "/dev/console";
/// More than a machine has.
const MAX_CONSOLES: usize = 8;
/// Lines taken from the log at once.
const BATCH: usize = 16;
/// Time that a reader waits for a line before it checks again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The log in RAM.
const LOG_FILE: &str = "/run/ka/log";
/// Longest log file, bytes: it lies in memory.
const MAX_LOG_FILE_BYTES: u64 = 16 << 20;

/// The messages that the kernel itself still prints on consoles: errors and worse. The rest is in its own
/// log.
const KERNEL_LOG_LEVEL: &str = "4 4 1 7";

/// Makes the kernel's own messages on consoles rare enough to read ours.
pub(super) fn quiet_kernel() {
    // Without it there is more to read, that is all.
    fs::write("/proc/sys/kernel/printk", KERNEL_LOG_LEVEL).ok();
}

/// Device nodes of every console in use; `/dev/console` when the kernel does not say.
pub(super) fn active() -> Vec<PathBuf> {
    let names = fs::read_to_string(ACTIVE).unwrap_or_default();
    let found = devices(&names);
    if found.is_empty() {
        vec![PathBuf::from(FALLBACK)]
    } else {
        found
    }
}

fn devices(names: &str) -> Vec<PathBuf> {
    names
        .split_whitespace()
        .take(MAX_CONSOLES)
        .map(|name| Path::new("/dev").join(name))
        .collect()
}

/// Returns the terminal beside a console, for a shell: the next virtual terminal but one of a screen, the
/// second serial port of a first one.
pub(super) fn beside(console: &Path) -> Option<PathBuf> {
    let name = console.file_name()?.to_str()?;
    let other = match name {
        "tty0" | "tty1" | "console" => "tty2".to_owned(),
        _ => {
            let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let number: u32 = name.strip_prefix(prefix)?.parse().ok()?;
            format!("{prefix}{}", number + 1)
        }
    };
    Some(Path::new("/dev").join(other))
}

/// Writes a line to every console, without a log: for the supervisor.
pub(super) fn say(line: &str) {
    for console in active() {
        if let Ok(mut file) = open(&console) {
            writeln!(file, "{line}").ok();
        }
    }
}

/// The threads that bring the log to consoles and file.
#[derive(Debug)]
pub(super) struct Consoles {
    log: Arc<LogRing>,
    positions: Vec<Arc<AtomicU64>>,
}

impl Consoles {
    /// Begins to bring every line of `log`, past and coming, to every console and to the file in RAM.
    pub(super) fn attach(log: &Arc<LogRing>) -> Self {
        let mut consoles = Self {
            log: Arc::clone(log),
            positions: Vec::new(),
        };
        for console in active() {
            if let Ok(file) = open(&console) {
                consoles.follow(Box::new(Terminal(file)));
            }
        }
        if let Some(file) = LogFile::create() {
            consoles.follow(Box::new(file));
        }
        consoles
    }

    fn follow(&mut self, mut sink: Box<dyn Sink>) {
        let position = Arc::new(AtomicU64::new(0));
        let log = Arc::clone(&self.log);
        let reached = Arc::clone(&position);
        let bring = move || {
            let mut next = 0;
            loop {
                bring_next(&log, &mut next, sink.as_mut());
                reached.store(next, Ordering::Release);
            }
        };
        // Without this console the others still work.
        if std::thread::Builder::new()
            .name("console".into())
            .spawn(bring)
            .is_ok()
        {
            self.positions.push(position);
        }
    }

    /// Waits, at most `limit`, until everything said so far has been written.
    pub(super) fn flush(&self, limit: Duration) {
        let wanted = self.log.end();
        let deadline = Instant::now() + limit;
        let behind = || {
            self.positions
                .iter()
                .any(|at| at.load(Ordering::Acquire) < wanted)
        };
        while behind() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn bring_next(log: &LogRing, next: &mut u64, sink: &mut dyn Sink) {
    let batch = log.read(next, BATCH, LOOK_INTERVAL);
    if batch.missed > 0 {
        sink.line(&format!(
            "({} lines are left out: this console is too slow)",
            batch.missed
        ));
    }
    for line in &batch.lines {
        sink.line(line);
    }
}

trait Sink: Send {
    fn line(&mut self, line: &str);
}

/// A terminal that went away (a USB serial adapter) is no reason for anything.
struct Terminal(File);

impl Sink for Terminal {
    fn line(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

/// The log file, with the time since the kernel's start before each line.
struct LogFile {
    file: File,
    bytes: u64,
}

impl LogFile {
    fn create() -> Option<Self> {
        fs::create_dir_all(Path::new(LOG_FILE).parent()?).ok()?;
        let options = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(LOG_FILE);
        let file = options.ok()?;
        Some(Self { file, bytes: 0 })
    }
}

impl Sink for LogFile {
    fn line(&mut self, line: &str) {
        let line = format!("[{:>9}] {line}\n", uptime());
        self.bytes += line.len() as u64;
        if self.bytes <= MAX_LOG_FILE_BYTES {
            self.file.write_all(line.as_bytes()).ok();
        }
    }
}

/// Seconds since the kernel started, as proc_uptime(5) writes them.
fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn open(console: &Path) -> std::io::Result<File> {
    let noctty = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or(0);
    OpenOptions::new().write(true).custom_flags(noctty).open(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_and_serial_line_are_both_consoles() {
        let found = devices("tty0 ttyS0\n");
        assert_eq!(found, [Path::new("/dev/tty0"), Path::new("/dev/ttyS0")]);
        assert!(devices("\n").is_empty());
    }

    #[test]
    fn the_shell_is_on_the_terminal_beside_the_console() {
        for (console, other) in [
            ("/dev/tty0", Some("/dev/tty2")),
            ("/dev/console", Some("/dev/tty2")),
            ("/dev/ttyS0", Some("/dev/ttyS1")),
            ("/dev/ttyAMA0", Some("/dev/ttyAMA1")),
            ("/dev/hvc0", Some("/dev/hvc1")),
            ("/dev/ttyprintk", None),
        ] {
            assert_eq!(
                beside(Path::new(console)).as_deref(),
                other.map(Path::new),
                "{console}"
            );
        }
    }

    struct Kept(Arc<std::sync::Mutex<Vec<String>>>);

    impl Sink for Kept {
        fn line(&mut self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn flushing_waits_until_every_console_has_everything() {
        let log = Arc::new(LogRing::default());
        let mut consoles = Consoles {
            log: Arc::clone(&log),
            positions: Vec::new(),
        };
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        log.push("before");
        consoles.follow(Box::new(Kept(Arc::clone(&kept))));
        log.push("after");
        consoles.flush(Duration::from_secs(10));
        assert_eq!(*kept.lock().unwrap(), ["before", "after"]);
    }
}
