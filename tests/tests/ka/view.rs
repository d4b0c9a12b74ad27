//! The terminal view in a real terminal: `ka-server` in tmux with three nodes, on terminals of three sizes, resized while it
//! runs; without colours; on a terminal that cannot move its cursor.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::binaries;
use ka_tests::lab::Lab;
use ka_tests::process::Running;
use ka_tests::terminal::Terminal;

use crate::kit::payload;

/// Bits a second.
const RATE: u64 = 100_000_000;
const USUAL: (u16, u16) = (80, 24);

/// A server in a terminal, and its nodes. Dropped in this order: the lab's network and directory go last.
struct Watched {
    terminal: Terminal,
    nodes: Vec<Running>,
    join_file: PathBuf,
    /// Nodes take the rest of the stream when this is there.
    go: PathBuf,
    lab: Lab,
}

impl Watched {
    /// A server that sends so many bytes; the terminal stays when it has ended, under its exit code.
    /// `env` is words of a shell before the command: tmux sets `TERM` itself.
    fn new(label: &str, nodes: usize, bytes: usize, args: &str, env: &str) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(RATE))?;
        let source = payload(&lab, bytes)?;
        let (join_file, go) = (lab.scratch().path().join("join"), lab.scratch().path().join("go"));
        let command = format!(
            "{env} {} --state-dir {} --join-file {} -n {nodes} --input {} {args}; echo \"exit $?\"; cat",
            binaries::path("ka-server")?.display(),
            lab.server_state().display(),
            join_file.display(),
            source.display(),
        );
        let golden = lab.network().golden();
        let terminal = Terminal::start_inside(golden, lab.scratch(), USUAL, &command, &[])?;
        terminal.wait_for("the server", |line| line.contains("] session kainstall on "))?;
        Ok(Self {
            lab,
            terminal,
            join_file,
            go,
            nodes: Vec::new(),
        })
    }

    /// Starts a node whose command stops after some megabytes until it is told to go on.
    fn join(&mut self, number: usize) -> Result<()> {
        let go = self.go.display();
        let command =
            format!("head -c 20000000 >/dev/null; while [ ! -e {go} ]; do sleep 0.1; done; cat >/dev/null");
        let node = self
            .lab
            .stranger_program(number)?
            .arg("--join-file")
            .arg(&self.join_file);
        self.nodes.push(node.args(["-e", &command]).spawn()?);
        Ok(())
    }

    fn appears(&self, text: &str) -> Result<String> {
        self.terminal.wait_for(text, |line| line.contains(text))
    }

    /// Lets the stream go on, and waits for the end of everybody.
    fn finish(&mut self) -> Result<()> {
        fs::write(&self.go, "")?;
        for node in self.nodes.drain(..) {
            node.wait()?.expect(0)?;
        }
        self.appears("exit 0").map(drop)
    }

    /// Insists that the standing lines, from their first to the last on the screen, are these, each once. Figures that
    /// change are left out of `holds`.
    fn expect_standing(&self, holds: &[&str]) -> Result<()> {
        // The screen changes every second: one that is caught in between is looked at again.
        self.terminal.wait_for(holds[0], |line| line.contains(holds[0]))?;
        let lines: Vec<String> = self.terminal.lines()?;
        let standing: Vec<&String> = lines.iter().filter(|line| !line.is_empty()).collect();
        let standing = &standing[standing.len().saturating_sub(holds.len())..];
        let is_right = standing.len() == holds.len()
            && standing.iter().zip(holds).all(|(line, held)| line.contains(held));
        let once = holds
            .iter()
            .all(|held| lines.iter().filter(|line| line.contains(held)).count() == 1);
        ensure!(is_right && once, "wanted {holds:#?}, seen:\n{}", lines.join("\n"));
        Ok(())
    }
}

/// Figures, as ` 40%  0:12 left (22:30)`.
fn is_figures(line: &str) -> bool {
    let number: String = line
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    !number.is_empty() && line.trim_start()[number.len()..].starts_with("%  ")
}

/// Insists that the standing lines of a stream are there, each once.
fn expect_each_once(lines: &[String], nodes: &[&str]) -> Result<()> {
    let screen = lines.join("\n");
    let count = |holds: &dyn Fn(&str) -> bool| lines.iter().filter(|line| holds(line)).count();
    ensure!(
        count(&|line| line.contains("sending ") && !line.starts_with('[')) == 1,
        "{screen}"
    );
    ensure!(count(&is_figures) == 1, "{screen}");
    ensure!(
        count(&|line| line.starts_with(&format!("{}: ", nodes.len()))) == 1,
        "{screen}"
    );
    for node in nodes {
        let told = |line: &str| {
            let row = line
                .trim_start_matches("last")
                .trim_start()
                .starts_with(&format!("{node} "));
            row && (line.starts_with(' ') || line.starts_with("last") || line.contains(" is slow: "))
        };
        ensure!(count(&told) == 1, "{node}:\n{screen}");
    }
    Ok(())
}

#[test]
fn the_view_fits_every_terminal_and_leaves_no_debris_when_it_is_resized() -> Result<()> {
    let mut run = Watched::new("view", 3, 60_000_000, "--min-rate off", "")?;
    run.join(1)?;
    run.appears("n1 (10.77.0.102) is here, 1 of 3 present")?;
    let gathering = [
        "waiting for nodes: 1 of 3 present",
        "3: 2 missing · 1 waiting",
        "         n1  waiting",
    ];
    run.expect_standing(&gathering)?;
    run.join(2)?;
    run.join(3)?;
    run.appears("MiB/s  [")?;
    for size in [(40, 10), (200, 50), (60, 20), USUAL] {
        run.terminal.resize(size)?;
        // A tick and a second of progress later everything has been drawn for this size.
        thread::sleep(Duration::from_millis(1500));
        expect_each_once(&run.terminal.lines()?, &["n1", "n2", "n3"])?;
    }
    run.finish()?;
    let lines = run.terminal.lines()?;
    let screen = lines.join("\n");
    ensure!(screen.contains("3 nodes done in "), "{screen}");
    ensure!(
        !lines
            .iter()
            .any(|line| line.starts_with("3: ") || line.contains("% ")),
        "standing lines are left:\n{screen}"
    );
    Ok(())
}

#[test]
fn a_terminal_that_cannot_draw_gets_plain_lines_and_no_color_is_heeded() -> Result<()> {
    for term in ["TERM=dumb", "TERM=", "TERM=foo"] {
        let mut run = Watched::new("view-plain", 1, 1_000_000, "", term)?;
        run.join(1)?;
        run.appears("] n1 (10.77.0.102) is here, 1 of 1 present")?;
        run.finish()?;
        run.appears("1 node done in ")?;
    }
    for (no_color, is_coloured) in [("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let mut run = Watched::new("view-colour", 1, 1_000_000, "", no_color)?;
        run.appears("waiting for nodes: 0 of 1 present")?;
        let painted = run.terminal.painted()?;
        ensure!(
            painted.contains("\x1b[1m") == is_coloured,
            "{no_color:?}: {painted:?}"
        );
        run.join(1)?;
        run.finish()?;
    }
    Ok(())
}

#[test]
fn a_question_stands_where_it_is_answered() -> Result<()> {
    let mut run = Watched::new("view-approve", 2, 1_000_000, "--approve", "")?;
    run.join(1)?;
    let question = run.appears(": let in? y, n or a (all)")?;
    ensure!(question.contains(" n1 10.77.0.102 "), "{question}");
    run.terminal.types("y")?;
    run.terminal.presses("Enter")?;
    run.appears("1: n1 (10.77.0.102) is let in")?;
    run.appears("n1 (10.77.0.102) is here, 1 of 2 present")?;
    let is_asked = |line: &String| line.contains("let in?");
    ensure!(
        !run.terminal.lines()?.iter().any(is_asked),
        "{:#?}",
        run.terminal.lines()?
    );
    run.join(2)?;
    run.appears(" n2 10.77.0.103 ")?;
    run.terminal.types("a")?;
    run.terminal.presses("Enter")?;
    run.finish()?;
    run.appears("2 nodes done in ").map(drop)
}

#[test]
fn half_typed_text_stays_when_lines_scroll_by() -> Result<()> {
    let mut run = Watched::new("view-typing", 2, 1_000_000, "--approve", "")?;
    run.join(1)?;
    run.appears(": let in? y, n or a (all)")?;
    run.terminal.types("y 1 half typed")?;
    run.terminal
        .wait_for("the text", |line| line == "y 1 half typed")?;
    // Lines that scroll by, more than the terminal has rows, and one that is wider than it.
    let code = fs::read_to_string(&run.join_file)?;
    let spoilt = run.lab.scratch().path().join("spoilt");
    let other = crate::kit::other_server(&run.lab, &run.lab.scratch().dir("other")?)?;
    fs::copy(run.lab.scratch().path().join("own-join"), &spoilt)?;
    ensure!(fs::read_to_string(&spoilt)? != code, "the codes are the same");
    for _ in 0..30 {
        let stranger = run.lab.stranger_program(2)?.arg("--join-file").arg(&spoilt);
        stranger
            .args(["-h", "10.77.0.1", "-e", "cat", "--retries", "1"])
            .finish()?
            .expect(1)?;
    }
    drop(other);
    run.appears("10.77.0.103 refused: it has the join code of another run")?;
    let lines = run.terminal.lines()?;
    let screen = lines.join("\n");
    let typed: Vec<usize> = (0..lines.len())
        .filter(|index| lines[*index] == "y 1 half typed")
        .collect();
    ensure!(
        typed.len() == 1,
        "the text is there {} times:\n{screen}",
        typed.len()
    );
    ensure!(
        lines[typed[0] - 1].contains("refused:") && lines[typed[0] + 1].contains("let in?"),
        "it is not between the lines and the question:\n{screen}"
    );
    // It is still what the server reads.
    for _ in " half typed".chars() {
        run.terminal.presses("BSpace")?;
    }
    run.terminal.presses("Enter")?;
    run.appears("1: n1 (10.77.0.102) is let in")?;
    run.join(2)?;
    run.appears(" n2 10.77.0.103 ")?;
    run.terminal.types("a")?;
    run.terminal.presses("Enter")?;
    run.finish()
}
