//! Who holds up the chain, on shaped lines: the right one is named, and nobody where all are alike. The simulator's `pace_tests`
//! have the matrix of causes, places and numbers; here is what the kernel really tells of lines, pipes and queues.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::process::Running;

use crate::kit::{expect_same_file, payload};

/// Bits a second.
const FAST: u64 = 100_000_000;
const SLOW: u64 = 10_000_000;

struct Slow {
    lab: Lab,
    server: Server,
    nodes: Vec<Running>,
    source: PathBuf,
}

impl Slow {
    /// Nodes on lines of 100 Mbit/s, whose commands write to files.
    fn new(label: &str, nodes: usize, bytes: usize, server: &[&str]) -> Result<Self> {
        Self::prepared(label, nodes, bytes, server, |_| Ok(()))
    }

    /// The same; `change` does something to the network before anybody starts.
    fn prepared(
        label: &str,
        nodes: usize,
        bytes: usize,
        server: &[&str],
        change: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(FAST))?;
        let source = payload(&lab, bytes)?;
        change(&lab)?;
        let (input, count) = (source.display().to_string(), nodes.to_string());
        let what = if server.contains(&"-e") {
            vec![]
        } else {
            vec!["--input", &input]
        };
        let server = lab.server(&[&["-n", &count, "--buffer", "16M"][..], &what, server].concat())?;
        Ok(Self {
            lab,
            server,
            nodes: Vec::new(),
            source,
        })
    }

    fn sink(&self, number: usize) -> PathBuf {
        self.lab.scratch().path().join(format!("sink{number}"))
    }

    fn start(&mut self, number: usize, command: Option<&str>) -> Result<()> {
        let to_file = format!("cat > {}", self.sink(number).display());
        let args = ["--buffer", "16M", "-e", command.unwrap_or(&to_file)];
        self.nodes.push(self.lab.client(number, &self.server, &args)?);
        Ok(())
    }

    /// Every node has every byte; gives what the server said.
    fn finish(self) -> Result<String> {
        let sinks: Vec<PathBuf> = (1..=self.nodes.len()).map(|number| self.sink(number)).collect();
        for node in self.nodes {
            node.wait()?.expect(0)?;
        }
        let ended = self.server.run.wait()?;
        ended.expect(0)?;
        sinks
            .iter()
            .try_for_each(|sink| expect_same_file(&self.source, sink))?;
        Ok(ended.all())
    }
}

/// The lines in which somebody is said to be slow.
fn accusations(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(" is slow: ")).collect()
}

/// Whether a node is said to be slow for its line, compared with those, at what a port of 10 Mbit/s carries. That is 1.18 MB/s
/// of payload less the acknowledgements that go the same way: in tenths it is the one or the other.
fn names_a_slow_port(said: &str, node: &str, others: &str) -> Result<bool> {
    let (all, begin) = (accusations(said), format!("{node} is slow: "));
    // A line that is only half there is looked at again.
    let whole = |line: &&&str| line.contains(&begin) && line.contains(" for it");
    let Some(first) = all.iter().find(whole) else {
        return Ok(false);
    };
    let is_so = ["1.1", "1.2"].iter().any(|rate| {
        first.contains(&format!("{begin}its line carries {rate} MB/s, {others} "))
            && first.contains("(port at 10 Mbit/s? ")
    });
    ensure!(is_so, "{first}");
    Ok(true)
}

#[test]
fn a_node_on_a_slow_port_is_named_and_set_aside_and_nobody_else() -> Result<()> {
    let slow_port = |lab: &Lab| lab.network().reshape(3, SLOW, None);
    let mut chain = Slow::prepared("slowport", 5, 110_000_000, &[], slow_port)?;
    (1..=5).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_until("n3 was named", |run| {
        names_a_slow_port(&run.said(), "n3", "the lines before it")
    })?;
    chain.server.run.wait_for("it is set aside")?;
    // For the next round somebody has put in another cable.
    chain.lab.network().reshape(3, FAST, None)?;
    let said = chain.finish()?;
    let accused = accusations(&said);
    ensure!(
        accused.iter().all(|line| line.contains("n3 is slow: its line")),
        "{accused:#?}"
    );
    Ok(())
}

#[test]
fn the_first_node_on_a_slow_port_is_named_although_nobody_was_ever_faster() -> Result<()> {
    let slow_port = |lab: &Lab| lab.network().reshape(1, SLOW, None);
    let mut chain = Slow::prepared("slowfirst", 4, 110_000_000, &[], slow_port)?;
    (1..=4).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_until("n1 was named", |run| {
        names_a_slow_port(&run.said(), "n1", "the other lines")
    })?;
    chain.lab.network().reshape(1, FAST, None)?;
    let said = chain.finish()?;
    let accused = accusations(&said);
    ensure!(
        accused.iter().all(|line| line.contains("n1 is slow: its line")),
        "{accused:#?}"
    );
    Ok(())
}

#[test]
fn a_slow_golden_command_is_named_and_nobody_else() -> Result<()> {
    let mut chain = Slow::new("slowgolden", 3, 32_000_000, &["-e", "true"])?;
    // 2 MB/s.
    let reads = format!(
        "i=0; while [ $i -lt 160 ]; do tail -c +$((i * 200000 + 1)) {} | head -c 200000; sleep 0.1; i=$((i + 1)); done",
        chain.source.display()
    );
    drop(chain.server.run);
    chain.server = chain.lab.server(&["-n", "3", "--buffer", "16M", "-e", &reads])?;
    (1..=3).try_for_each(|number| chain.start(number, None))?;
    let said = chain.finish()?;
    let accused = accusations(&said);
    ensure!(accused.len() == 1, "{said}");
    ensure!(
        accused[0].contains("the golden node is slow: it reads"),
        "{accused:#?}"
    );
    ensure!(accused[0].contains("all 3 nodes wait for it"), "{accused:#?}");
    Ok(())
}

/// Token buckets with 200 ms of their rate saved up: below the first line each block passes at once.
#[test]
fn where_all_lines_are_policed_alike_nobody_is_accused() -> Result<()> {
    let police = |lab: &Lab| {
        lab.network().reshape_golden(SLOW, Some(256 << 10))?;
        (1..=5).try_for_each(|number| lab.network().reshape(number, SLOW, Some(256 << 10)))
    };
    let mut chain = Slow::prepared("policed", 5, 36_000_000, &["--rounds", "1"], police)?;
    (1..=5).try_for_each(|number| chain.start(number, None))?;
    let said = chain.finish()?;
    ensure!(accusations(&said).is_empty(), "{said}");
    Ok(())
}

/// All of it fits its buffer: nobody waits for it, though its command takes 2 MB/s.
#[test]
fn a_node_that_has_everything_and_writes_slowly_is_waited_for() -> Result<()> {
    let mut chain = Slow::new("slowtail", 3, 15_000_000, &["--rounds", "2"])?;
    let slow = format!(
        "while [ \"$(dd bs=100000 count=1 iflag=fullblock 2>/dev/null | tee -a {} | wc -c)\" -gt 0 ]; do sleep 0.1; done",
        chain.sink(2).display()
    );
    chain.start(1, None)?;
    chain.start(2, Some(&slow))?;
    chain.start(3, None)?;
    let said = chain.finish()?;
    ensure!(!said.contains("set aside") && !said.contains("round 2"), "{said}");
    Ok(())
}
