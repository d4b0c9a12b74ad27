//! The question before the first disk is erased: a person at a terminal is asked once, after the table of what will be
//! erased; `--yes` and a run without a terminal ask nothing.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_proto::limits::IDLE_SILENCE;
use ka_tests::binaries;
use ka_tests::disk::Disk;
use ka_tests::process::{Ended, Running};
use ka_tests::terminal::Terminal;

use crate::kit::Kit;

const SIZE: (u16, u16) = (100, 30);
const QUESTION: &str = "Enter to start, Ctrl-C to stop";
/// Longer than the silence that the server and a node bear from each other outside of streams.
const THINKING: Duration = IDLE_SILENCE.saturating_add(Duration::from_secs(5));

/// A clone whose server runs on a terminal. Dropped in this order: the lab of the kit goes last.
struct Asked {
    terminal: Terminal,
    join_file: PathBuf,
    kit: Kit,
}

impl Asked {
    /// Starts a server for so many nodes. The terminal shows its exit code and stays.
    fn new(label: &str, nodes: usize, args: &str) -> Result<Self> {
        let kit = Kit::small(label, nodes)?;
        let join_file = kit.lab.scratch().path().join("join");
        let command = format!(
            "{} --state-dir {} --join-file {} -n {nodes} --root {} -r none {args}; echo \"exit $?\"; cat",
            binaries::path("ka-server")?.display(),
            kit.lab.server_state().display(),
            join_file.display(),
            kit.golden.root().display(),
        );
        let golden = kit.lab.network().golden();
        let terminal = Terminal::start_inside(golden, kit.lab.scratch(), SIZE, &command, &[])?;
        terminal.wait_for("the server", |line| line.contains("] session kainstall on "))?;
        Ok(Self {
            terminal,
            join_file,
            kit,
        })
    }

    fn node(&self, number: usize, disk: &Disk) -> Result<Running> {
        let program = self.kit.lab.stranger_program(number)?;
        let program = program.arg("--join-file").arg(&self.join_file);
        program.args(["--disk", &self.kit.choice(disk)?]).spawn()
    }

    fn appears(&self, text: &str) -> Result<String> {
        self.terminal.wait_for(text, |line| line.contains(text))
    }

    fn shows(&self, text: &str) -> Result<bool> {
        Ok(self.terminal.lines()?.iter().any(|line| line.contains(text)))
    }

    fn expect_clones(&self, nodes: Vec<Running>, disks: &[Disk]) -> Result<()> {
        let ended: Vec<Ended> = nodes.into_iter().map(Running::wait).collect::<Result<_>>()?;
        let screen = || self.terminal.lines().unwrap_or_default().join("\n");
        for ended in &ended {
            ended.expect(0).with_context(screen)?;
        }
        self.appears("exit 0")?;
        disks.iter().try_for_each(|disk| self.kit.expect_clone(disk))
    }
}

#[test]
fn nothing_is_erased_before_enter_and_nodes_wait_for_an_operator_who_thinks() -> Result<()> {
    let run = Asked::new("consent", 2, "")?;
    let disks = [run.kit.same_disk("n1")?, run.kit.same_disk("n2")?];
    let before = [disks[0].fingerprint()?, disks[1].fingerprint()?];
    let nodes = vec![run.node(1, &disks[0])?, run.node(2, &disks[1])?];
    run.appears("2 disks, 1.0 GiB will be erased")?;
    let asked = run.appears(QUESTION)?;
    ensure!(asked.contains("so far)"), "the time waited is not shown: {asked}");
    // What is no Enter alone starts nothing.
    run.terminal.types("yes")?;
    run.terminal.presses("Enter")?;
    run.appears("press Enter alone to start")?;
    thread::sleep(THINKING);
    for (disk, before) in disks.iter().zip(&before) {
        ensure!(disk.fingerprint()? == *before, "{} was written", disk.name());
    }
    run.appears(QUESTION)?;
    run.terminal.presses("Enter")?;
    run.appears("started by you after ")?;
    run.expect_clones(nodes, &disks)?;
    ensure!(!run.shows(QUESTION)?, "the question stays");
    Ok(())
}

#[test]
fn ctrl_c_at_the_question_leaves_the_disks_alone() -> Result<()> {
    let run = Asked::new("consent-no", 1, "")?;
    let disk = run.kit.same_disk("n1")?;
    let before = disk.fingerprint()?;
    let node = run.node(1, &disk)?;
    run.appears(QUESTION)?;
    run.terminal.presses("C-c")?;
    run.appears("exit 1")?;
    node.wait()?.expect(1)?;
    ensure!(disk.fingerprint()? == before, "{} was written", disk.name());
    Ok(())
}

#[test]
fn with_yes_nobody_is_asked() -> Result<()> {
    let run = Asked::new("consent-yes", 1, "--yes")?;
    let disks = [run.kit.same_disk("n1")?];
    let nodes = vec![run.node(1, &disks[0])?];
    run.expect_clones(nodes, &disks)?;
    ensure!(!run.shows("started by you")?, "{:#?}", run.terminal.lines()?);
    Ok(())
}

#[test]
fn with_approve_letters_are_for_nodes_and_enter_is_for_the_start() -> Result<()> {
    let run = Asked::new("consent-approve", 1, "--approve")?;
    let disks = [run.kit.same_disk("n1")?];
    let nodes = vec![run.node(1, &disks[0])?];
    run.appears(": let in? y, n or a (all)")?;
    run.terminal.types("y")?;
    run.terminal.presses("Enter")?;
    run.appears(QUESTION)?;
    run.terminal.types("y")?;
    run.terminal.presses("Enter")?;
    run.appears("nobody waits")?;
    run.appears(QUESTION)?;
    run.terminal.presses("Enter")?;
    run.expect_clones(nodes, &disks)
}
