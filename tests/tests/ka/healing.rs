//! The chain heals: eight nodes on shaped lines, a fault when two fifths have come, and every survivor has
//! every byte.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::process::{Ended, Running};
use nix::sys::signal::Signal;

use crate::kit::{expect_same_file, payload};

const NODES: usize = 8;
const BYTES: usize = 60_000_000;
/// Rate of a line in bits a second: the payload takes five seconds.
const RATE: u64 = 100_000_000;
/// Time limit for the server to name a silent node. It takes 2 s and a little; without the link's witness it
/// would take 15.
const NOTICED_IN: Duration = Duration::from_secs(10);

struct Chain {
    lab: Lab,
    server: Server,
    nodes: Vec<Option<Running>>,
    source: PathBuf,
}

/// The server's output, and each node that lived to the end.
struct Outcome {
    server: Ended,
    nodes: Vec<Option<Ended>>,
}

impl Chain {
    fn new(label: &str, nodes: usize, server: &[&str]) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(RATE))?;
        let source = payload(&lab, BYTES)?;
        let input = source.display().to_string();
        let count = nodes.to_string();
        let server = lab.server(&[&["-n", &count, "--buffer", "8M", "--input", &input], server].concat())?;
        Ok(Self {
            lab,
            server,
            nodes: Vec::new(),
            source,
        })
    }

    /// Begins a run of eight nodes that write to files, in one round: `rounds.rs` tests the next ones.
    fn eight(label: &str) -> Result<Self> {
        let mut chain = Self::new(label, NODES, &["--rounds", "1"])?;
        (1..=NODES).try_for_each(|number| chain.start(number, None))?;
        Ok(chain)
    }

    /// Starts a node; `command` takes the stream instead of its file.
    fn start(&mut self, number: usize, command: Option<&str>) -> Result<()> {
        // A plain `--output` shows its file only when it is whole.
        let to_file = format!("cat > {}", self.sink(number).display());
        let args = ["--buffer", "8M", "-e", command.unwrap_or(&to_file)];
        let node = self.lab.client(number, &self.server, &args)?;
        self.nodes.push(Some(node));
        Ok(())
    }

    fn sink(&self, number: usize) -> PathBuf {
        self.lab.scratch().path().join(format!("sink{number}"))
    }

    /// Waits until the last node has two fifths.
    fn wait_for_two_fifths(&mut self) -> Result<()> {
        let sink = self.sink(self.nodes.len());
        self.server.run.wait_until("two fifths have come", |_| {
            Ok(fs::metadata(&sink).is_ok_and(|found| found.len() >= BYTES as u64 * 2 / 5))
        })
    }

    fn kill(&mut self, numbers: &[usize]) -> Result<()> {
        for &number in numbers {
            if let Some(node) = self.nodes[number - 1].take() {
                node.kill_alone()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Outcome> {
        let server = self.server.run.wait()?;
        let mut nodes = Vec::new();
        for node in self.nodes {
            nodes.push(node.map(Running::wait).transpose()?);
        }
        // The lab's files are not needed any more: the caller's `expect` has compared them.
        Ok(Outcome { server, nodes })
    }

    /// Ends the run and insists that every node but `lost` has every byte, and that the server names those.
    fn expect_all_but(mut self, lost: &[usize]) -> Result<()> {
        let ended = self.server.run.wait_until("the end", |_| Ok(false)).err();
        ensure!(
            ended.is_some_and(|ended| ended.to_string().contains("ended before")),
            "the server did not end"
        );
        let (source, count) = (self.source.clone(), self.nodes.len());
        let sinks: Vec<PathBuf> = (1..=count).map(|number| self.sink(number)).collect();
        for (number, sink) in (1..=count).zip(&sinks) {
            if !lost.contains(&number) {
                if let Some(node) = self.nodes[number - 1].take() {
                    node.wait()?.expect(0)?;
                }
                expect_same_file(&source, sink)?;
            }
        }
        self.kill(lost)?;
        let outcome = self.finish()?;
        outcome.server.expect(3)?;
        for number in lost {
            ensure!(
                outcome
                    .server
                    .all()
                    .lines()
                    .any(|line| line.contains(&format!("n{number} ")) && line.contains("FAILED")),
                "n{number} is not named:\n{}",
                outcome.server.all()
            );
        }
        Ok(())
    }
}

fn killed(label: &str, numbers: &[usize]) -> Result<()> {
    let mut chain = Chain::eight(label)?;
    chain.wait_for_two_fifths()?;
    chain.kill(numbers)?;
    chain.expect_all_but(numbers)
}

#[test]
fn the_first_node_is_killed_and_everybody_else_gets_every_byte() -> Result<()> {
    killed("healfirst", &[1])
}

#[test]
fn the_middle_node_is_killed_and_everybody_else_gets_every_byte() -> Result<()> {
    killed("healmiddle", &[4])
}

#[test]
fn the_last_node_is_killed_and_everybody_else_gets_every_byte() -> Result<()> {
    // The last node's file shows how far the chain is.
    killed("heallast", &[8])
}

#[test]
fn two_neighbours_are_killed_and_everybody_else_gets_every_byte() -> Result<()> {
    killed("healtwo", &[4, 5])
}

#[test]
fn two_nodes_at_different_places_are_killed_and_everybody_else_gets_every_byte() -> Result<()> {
    killed("healplaces", &[2, 6])
}

/// Waits until the server has named the node, and insists that it did not take the control connection's
/// silence.
fn expect_noticed(chain: &mut Chain, number: usize, since: Instant) -> Result<()> {
    let name = format!("n{number} ");
    chain.server.run.wait_until("the node is named", |run| {
        let said = run.said();
        Ok(said
            .lines()
            .any(|line| line.contains(&name) && line.contains("FAILED")))
    })?;
    ensure!(
        since.elapsed() < NOTICED_IN,
        "noticed after {:?}",
        since.elapsed()
    );
    Ok(())
}

#[test]
fn a_stopped_node_is_noticed_by_its_silence_and_everybody_else_gets_every_byte() -> Result<()> {
    let mut chain = Chain::eight("healstop")?;
    chain.wait_for_two_fifths()?;
    let since = Instant::now();
    if let Some(node) = &mut chain.nodes[3] {
        node.signal(Signal::SIGSTOP)?;
    }
    expect_noticed(&mut chain, 4, since)?;
    chain.expect_all_but(&[4])
}

#[test]
fn a_node_whose_line_is_down_is_noticed_and_everybody_else_gets_every_byte() -> Result<()> {
    let mut chain = Chain::eight("healline")?;
    chain.wait_for_two_fifths()?;
    chain.lab.network().set_plugged(4, false)?;
    expect_noticed(&mut chain, 4, Instant::now())?;
    chain.expect_all_but(&[4])
}

#[test]
fn a_disk_that_stands_still_for_ten_seconds_costs_nobody_the_run() -> Result<()> {
    let mut chain = Chain::new("healstall", 3, &[])?;
    let stalls = format!(
        "head -c 20000000 > {0}; sleep 10; cat >> {0}",
        chain.sink(2).display()
    );
    chain.start(1, None)?;
    chain.start(2, Some(&stalls))?;
    chain.start(3, None)?;
    let (source, sinks) = (chain.source.clone(), [1, 2, 3].map(|number| chain.sink(number)));
    for node in &mut chain.nodes {
        if let Some(node) = node.take() {
            node.wait()?.expect(0)?;
        }
    }
    sinks
        .iter()
        .try_for_each(|sink| expect_same_file(&source, sink))?;
    let outcome = chain.finish()?;
    outcome.server.expect(0)?;
    ensure!(outcome.nodes.iter().all(Option::is_none));
    ensure!(
        !outcome.server.all().contains("set aside"),
        "{}",
        outcome.server.all()
    );
    Ok(())
}

#[test]
fn a_slow_consumer_is_named_set_aside_and_done_in_the_next_round() -> Result<()> {
    let mut chain = Chain::new("healslow", 4, &[])?;
    let sinks = [1, 2, 3, 4].map(|number| chain.sink(number));
    // It is slow at the first time only.
    let slow = format!(
        "if mkdir {0}.tried; then while [ \"$(head -c 100000 | wc -c)\" -gt 0 ]; do sleep 0.1; done; else cat > {0}; fi",
        sinks[1].display()
    );
    for number in 1..=4 {
        chain.start(number, (number == 2).then_some(slow.as_str()))?;
    }
    chain.server.run.wait_for("n2 is slow: its command takes")?;
    chain.server.run.wait_for("it is set aside")?;
    let Chain {
        lab: _files,
        server,
        nodes,
        source,
    } = chain;
    server.run.wait()?.expect(0)?.says("round 2")?;
    for node in nodes.into_iter().flatten() {
        node.wait()?.expect(0)?;
    }
    sinks.iter().try_for_each(|sink| expect_same_file(&source, sink))
}
