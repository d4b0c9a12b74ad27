//! The node that holds up the chain, on shaped lines: the right one is named, and none where all are alike.
//! The simulator's `pace_tests` have the matrix of causes, places and numbers; these tests show what the
//! kernel reports of lines, pipes and queues.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::lab::{Lab, Server};
use ka_tests::process::Running;

use crate::kit::{expect_same_file, payload};

/// Rate of a fast line in bits a second.
const FAST: u64 = 100_000_000;
const SLOW: u64 = 10_000_000;
/// Rate in bits a second at which a node with a tenth of a processor is slow.
const QUICK: u64 = 400_000_000;

/// Bytes of the payload that a lasting stream has again and again, and the most times it has it: a minute of
/// a fast line.
const PIECE: usize = 8_000_000;
const MOST_PIECES: u64 = 90;

struct Slow {
    lab: Lab,
    server: Server,
    nodes: Vec<Running>,
    source: PathBuf,
    /// The number of payloads that each stream had, a line each: of a lasting stream.
    given: Option<PathBuf>,
}

impl Slow {
    /// Begins a run of nodes on lines of 100 Mbit/s, whose commands write to files. `change` changes the
    /// network before any program starts. The stream is a file of so many bytes.
    fn of_size(
        label: &str,
        nodes: usize,
        bytes: usize,
        server: &[&str],
        change: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(FAST))?;
        let source = payload(&lab, bytes)?;
        change(&lab)?;
        let input = source.display().to_string();
        let server = start_server(&lab, nodes, &[&["--input", &input], server].concat())?;
        Ok(Self {
            lab,
            server,
            nodes: Vec::new(),
            source,
            given: None,
        })
    }

    /// Begins a run like [`Slow::of_size`], with a stream that lasts until [`Slow::end_stream`]: it does not end
    /// before somebody was named, however fast the nodes are. There is a bound for tests that fail.
    fn lasting(
        label: &str,
        nodes: usize,
        server: &[&str],
        change: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(FAST))?;
        let source = payload(&lab, PIECE)?;
        change(&lab)?;
        let (flag, given) = (flag(&lab), lab.scratch().path().join("given"));
        std::fs::write(&flag, "")?;
        let gives = format!(
            "n=0; while cat {source}; do n=$((n + 1)); [ -e {flag} ] && [ $n -lt {MOST_PIECES} ] || break; done; echo $n >> {given}",
            source = source.display(),
            flag = flag.display(),
            given = given.display()
        );
        let server = start_server(&lab, nodes, &[&["-e", &gives], server].concat())?;
        Ok(Self {
            lab,
            server,
            nodes: Vec::new(),
            source,
            given: Some(given),
        })
    }

    /// Ends a lasting stream, and makes slow commands quick.
    fn end_stream(&self) -> Result<()> {
        Ok(std::fs::remove_file(flag(&self.lab))?)
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

    /// Starts a node in a control group, with a command that writes to a file, or without.
    fn start_limited(&mut self, number: usize, group: &Cgroup, has_command: bool) -> Result<()> {
        let sink = self.sink(number).display().to_string();
        let (command, itself) = (format!("cat > {sink}"), ["--output", &sink]);
        let args = if has_command { ["-e", &command] } else { itself };
        let node = self.lab.client_program(number, &self.server)?;
        let node = node.args(["--buffer", "16M"]).args(args);
        self.nodes.push(node.cgroup(group.path()).spawn()?);
        Ok(())
    }

    /// Insists that every node has every byte; returns the server's output.
    fn finish(self) -> Result<String> {
        let sinks: Vec<PathBuf> = (1..=self.nodes.len()).map(|number| self.sink(number)).collect();
        for node in self.nodes {
            node.wait()?.expect(0)?;
        }
        let ended = self.server.run.wait()?;
        ended.expect(0)?;
        sinks.iter().try_for_each(|sink| match &self.given {
            Some(given) => expect_given(&self.source, given, sink),
            None => expect_same_file(&self.source, sink),
        })?;
        Ok(ended.all())
    }

    /// Ends the run like [`Slow::finish`], and insists that each line about a slow node names this one, for
    /// this reason.
    fn finish_accusing(self, who: &str) -> Result<()> {
        let said = self.finish()?;
        let accused = accusations(&said);
        ensure!(
            !accused.is_empty() && accused.iter().all(|line| line.contains(who)),
            "{said}"
        );
        Ok(())
    }
}

fn start_server(lab: &Lab, nodes: usize, args: &[&str]) -> Result<Server> {
    lab.server(&[&["-n", &nodes.to_string(), "--buffer", "16M"], args].concat())
}

/// Returns the file that makes a stream last, and commands slow, while it exists.
fn flag(lab: &Lab) -> PathBuf {
    lab.scratch().path().join("slow")
}

/// Insists that the sink has the payload again and again, as often as one of the streams had it.
fn expect_given(source: &Path, given: &Path, sink: &Path) -> Result<()> {
    let (piece, given) = (std::fs::read(source)?, std::fs::read_to_string(given)?);
    let (mut file, mut times, mut read) = (File::open(sink)?, 0_u64, Vec::with_capacity(PIECE));
    while (&mut file).take(PIECE as u64).read_to_end(&mut read)? > 0 {
        ensure!(read == piece, "{} differs in payload {times}", sink.display());
        times += 1;
        read.clear();
    }
    ensure!(
        given.lines().any(|line| line == times.to_string()),
        "{} has {times} payloads, the streams had:\n{given}",
        sink.display()
    );
    Ok(())
}

/// Returns the lines that call a node slow.
fn accusations(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(" is slow: ")).collect()
}

/// True if the server calls a node slow for its line, compared with the others, at the rate of a port of 10
/// Mbit/s. That is 1.18 MB/s of payload less the acknowledgements that go the same way: in tenths it is 1.1
/// or 1.2.
fn names_a_slow_port(said: &str, node: &str, others: &str) -> Result<bool> {
    let begin = format!("{node} is slow: ");
    // A line that is only half there waits for the next look.
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    let all = accusations(whole);
    let Some(first) = all.iter().find(|line| line.contains(&begin)) else {
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
    let mut chain = Slow::lasting("slowport", 5, &[], slow_port)?;
    (1..=5).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_until("n3 was named", |run| {
        names_a_slow_port(&run.said(), "n3", "the lines before it")
    })?;
    chain.server.run.wait_for("it is set aside")?;
    // For the next round the node gets another cable.
    chain.lab.network().reshape(3, FAST, None)?;
    chain.end_stream()?;
    chain.finish_accusing("n3 is slow: its line carries ")
}

#[test]
fn the_first_node_on_a_slow_port_is_named_although_nobody_was_ever_faster() -> Result<()> {
    let slow_port = |lab: &Lab| lab.network().reshape(1, SLOW, None);
    let mut chain = Slow::lasting("slowfirst", 4, &[], slow_port)?;
    (1..=4).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_until("n1 was named", |run| {
        names_a_slow_port(&run.said(), "n1", "the other lines")
    })?;
    chain.lab.network().reshape(1, FAST, None)?;
    chain.end_stream()?;
    chain.finish_accusing("n1 is slow: its line carries ")
}

/// The golden command gives 2 MB/s until it is named: on a loaded machine that takes longer.
#[test]
fn a_slow_golden_command_is_named_and_nobody_else() -> Result<()> {
    let lab = Lab::new("slowgolden", 3, Some(FAST))?;
    let (source, flag) = (payload(&lab, 110_000_000)?, flag(&lab));
    std::fs::write(&flag, "")?;
    let reads = format!(
        "exec < {source}; while [ -e {flag} ]; do dd bs=200000 count=1 status=none; sleep 0.1; done; cat",
        source = source.display(),
        flag = flag.display()
    );
    let mut chain = Slow {
        server: start_server(&lab, 3, &["-e", &reads])?,
        lab,
        nodes: Vec::new(),
        source,
        given: None,
    };
    (1..=3).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_for(" is slow: ")?;
    chain.end_stream()?;
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

/// Token buckets have 200 ms of their rate saved up: below the first line each block passes at once.
#[test]
fn where_all_lines_are_policed_alike_nobody_is_accused() -> Result<()> {
    let police = |lab: &Lab| {
        lab.network().reshape_golden(SLOW, Some(256 << 10))?;
        (1..=5).try_for_each(|number| lab.network().reshape(number, SLOW, Some(256 << 10)))
    };
    let mut chain = Slow::of_size("policed", 5, 36_000_000, &["--rounds", "1"], police)?;
    (1..=5).try_for_each(|number| chain.start(number, None))?;
    let said = chain.finish()?;
    ensure!(accusations(&said).is_empty(), "{said}");
    Ok(())
}

/// The node's buffer holds the whole stream: no node waits for it, though its command takes 2 MB/s.
#[test]
fn a_node_that_has_everything_and_writes_slowly_is_waited_for() -> Result<()> {
    let mut chain = Slow::of_size("slowtail", 3, 15_000_000, &["--rounds", "2"], |_| Ok(()))?;
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

/// Slows down the processor of a node that writes the stream itself, or has a command for it: it gets 1 ms in
/// 125 ms until it is named. The kernel's clock may give it a multiple of that, and then nothing for a
/// second; this must not count as its silence.
fn expect_slow_processor_named(label: &str, slow: usize, has_command: bool) -> Result<()> {
    const NODES: usize = 5;
    let group = Cgroup::limited(label, Duration::from_millis(1), Duration::from_millis(125))?;
    let mut chain = Slow::lasting(label, NODES, &["--silence", "8"], |lab| {
        lab.network().reshape_golden(QUICK, None)?;
        (1..=NODES).try_for_each(|number| lab.network().reshape(number, QUICK, None))
    })?;
    for number in 1..=NODES {
        if number == slow {
            chain.start_limited(number, &group, has_command)?;
        } else {
            chain.start(number, None)?;
        }
    }
    chain.server.run.wait_for(" is slow: ")?;
    group.lift()?;
    chain.end_stream()?;
    chain.finish_accusing(&format!("n{slow} is slow: its processor handles "))
}

#[test]
fn a_node_with_a_slow_processor_is_named_for_it_and_nobody_else() -> Result<()> {
    expect_slow_processor_named("slowcpumid", 3, false)
}

#[test]
fn the_last_node_with_a_slow_processor_is_named_for_it_and_nobody_else() -> Result<()> {
    expect_slow_processor_named("slowcpulast", 5, true)
}

/// Slows down a node's command: it takes 2 MB/s until it is named.
/// The server must name this node for it, and no other.
fn expect_slow_command_named(label: &str, nodes: usize, slow: usize) -> Result<()> {
    let mut chain = Slow::lasting(label, nodes, &[], |_| Ok(()))?;
    let (sink, flag) = (chain.sink(slow), flag(&chain.lab));
    let takes = format!(
        "while [ -e {flag} ]; do dd bs=100000 count=1 iflag=fullblock 2>/dev/null; sleep 0.05; done > {sink}; cat >> {sink}",
        flag = flag.display(),
        sink = sink.display()
    );
    (1..=nodes).try_for_each(|number| chain.start(number, (number == slow).then_some(takes.as_str())))?;
    chain.server.run.wait_for(" is slow: ")?;
    chain.end_stream()?;
    chain.finish_accusing(&format!("n{slow} is slow: its command takes "))
}

#[test]
fn a_slow_command_in_the_middle_is_named_and_nobody_else() -> Result<()> {
    expect_slow_command_named("slowcmdmid", 5, 3)
}

#[test]
fn a_slow_command_at_the_last_place_is_named_and_nobody_else() -> Result<()> {
    expect_slow_command_named("slowcmdlast", 5, 5)
}

#[test]
fn the_last_of_eight_on_a_slow_port_is_named_and_nobody_else() -> Result<()> {
    let slow_port = |lab: &Lab| lab.network().reshape(8, SLOW, None);
    let mut chain = Slow::lasting("slowlast", 8, &[], slow_port)?;
    (1..=8).try_for_each(|number| chain.start(number, None))?;
    chain.server.run.wait_until("n8 was named", |run| {
        names_a_slow_port(&run.said(), "n8", "the lines before it")
    })?;
    chain.lab.network().reshape(8, FAST, None)?;
    chain.end_stream()?;
    chain.finish_accusing("n8 is slow: its line carries ")
}
