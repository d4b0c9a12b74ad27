//! The picture of the demo: the server's view above both machines' screens, or plain lines.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::panes::{self, Pane, Panes};
use ka_tests::process::{Program, Running};
use ka_tests::qemu::console::Watcher;
use ka_tests::qemu::machine::Powered;
use ka_tests::qemu::room::Node;
use ka_tests::terminal;

use crate::progress::{Progress, minutes};

/// Name of the server's screen.
const SERVER: &str = "server";
/// Columns of a machine's last line, where both machines share a line.
const LAST_LINE_COLUMNS: usize = 60;

/// The demo on the user's screen.
pub(super) struct Show<'a> {
    /// Directory of the files that hold the screens.
    directory: &'a Path,
    form: Form,
}

/// The two forms.
enum Form {
    /// The server's view in a large pane, and both machines' screens below it.
    Panes {
        panes: Panes,
        /// Size of the large pane.
        size: (u16, u16),
        machines: Vec<PathBuf>,
        started: Instant,
        /// Seconds that the machines' screens show.
        seconds: u64,
    },
    /// The server's lines, and between them a line with the machines' last lines.
    Lines {
        progress: Progress,
        /// Bytes of the server's output that are printed already.
        printed: usize,
    },
}

impl<'a> Show<'a> {
    /// Makes the picture. Panes need a terminal that can be divided; `plain` forbids them.
    pub(super) fn new(directory: &'a Path, nodes: &[Node], plain: bool) -> Result<Self> {
        let form = if plain || !panes::can_be_shown() {
            Form::Lines {
                progress: Progress::begin("ka-server makes the boot image"),
                printed: 0,
            }
        } else {
            let pane = |name: &str, title: &str| Pane {
                title: title.to_owned(),
                file: screen(directory, name),
            };
            let large = pane(SERVER, "ka-server on the golden node (Ctrl-C ends the demo)");
            let small: Vec<_> = nodes
                .iter()
                .map(|node| pane(&node.machine.spec().name, &describe(node)))
                .collect();
            let panes = Panes::new(directory, terminal::own_size(), &large, &small)?;
            Form::Panes {
                size: panes.large_size()?,
                panes,
                machines: small.into_iter().map(|pane| pane.file).collect(),
                started: Instant::now(),
                seconds: 0,
            }
        };
        Ok(Self { directory, form })
    }

    /// Starts the server in its place.
    pub(super) fn start(&mut self, server: Program) -> Result<Running> {
        match &mut self.form {
            Form::Panes { panes, size, .. } => {
                let file = screen(self.directory, SERVER);
                let server = server.in_terminal(*size, file).spawn()?;
                panes.show()?;
                Ok(server)
            }
            Form::Lines { .. } => server.merged().spawn(),
        }
    }

    /// Returns the callback that writes a machine's lines to its screen.
    pub(super) fn watcher(&self, name: &str) -> Result<Watcher> {
        let path = screen(self.directory, name);
        let options = File::options().append(true).create(true).open(&path);
        let mut file = options.with_context(|| format!("making {}", path.display()))?;
        writeln!(file)?;
        Ok(Box::new(move |line| {
            // The output of our own commands on the console is shown at the end.
            if !line.starts_with('<') {
                // A full disk costs the picture, not the demo.
                writeln!(&file, "{line}").ok();
            }
        }))
    }

    /// Shows the present state.
    ///
    /// # Errors
    /// The user has taken the panes away.
    pub(super) fn refresh(&mut self, server: &Running, on: &[Powered]) -> Result<()> {
        match &mut self.form {
            Form::Panes {
                panes,
                size,
                machines,
                started,
                seconds,
            } => {
                ensure!(panes.are_shown()?, "interrupted");
                let now = started.elapsed();
                if on.is_empty() && now.as_secs() != *seconds {
                    *seconds = now.as_secs();
                    for file in machines {
                        show_time_until_power_on(file, now)?;
                    }
                }
                let now = panes.large_size()?;
                if now != *size {
                    server.resize(now)?;
                    *size = now;
                }
            }
            Form::Lines { progress, printed } => {
                print_new(progress, printed, &server.said());
                if !on.is_empty() {
                    progress.say(&last_lines(on));
                }
            }
        }
        Ok(())
    }

    /// Gives the terminal back. Returns the server's last words if they are not on it.
    pub(super) fn end(self, said: &str) -> Result<String> {
        match self.form {
            Form::Panes { panes, .. } => panes.drawn(),
            Form::Lines {
                progress,
                mut printed,
            } => {
                print_new(&progress, &mut printed, said);
                Ok(String::new())
            }
        }
    }
}

/// Describes a machine in a line.
pub(super) fn describe(node: &Node) -> String {
    let spec = node.machine.spec();
    format!(
        "{}: disk on {:?}, card {:?} {}",
        spec.name, spec.bus, spec.card, spec.mac
    )
}

/// Returns the path of the file that holds a screen.
fn screen(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.screen"))
}

/// Shows on a machine's screen that it is still switched off: making the boot image takes the server half a minute.
fn show_time_until_power_on(screen: &Path, time: Duration) -> Result<()> {
    let mut screen = File::options().append(true).open(screen)?;
    write!(
        screen,
        "\r\x1b[Kswitched off until the boot image is made, {}",
        minutes(time)
    )?;
    Ok(())
}

fn print_new(progress: &Progress, printed: &mut usize, said: &str) {
    while let Some(length) = said.get(*printed..).and_then(|rest| rest.find('\n')) {
        progress.print(said[*printed..*printed + length].trim_end());
        *printed += length + 1;
    }
}

/// Returns the last line of each machine, in one line.
fn last_lines(on: &[Powered]) -> String {
    let lines: Vec<String> = on
        .iter()
        .enumerate()
        .map(|(index, powered)| {
            let text = powered.console.text();
            let line = text.lines().rev().find(|line| !line.trim().is_empty());
            let line = line.unwrap_or("switched on").trim();
            let line: String = line.chars().take(LAST_LINE_COLUMNS).collect();
            format!("n{}: {line}", index + 1)
        })
        .collect();
    lines.join("  |  ")
}
