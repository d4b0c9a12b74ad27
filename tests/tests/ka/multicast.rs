//! Multicast beside the chain: real sockets, on a bridge that snoops IGMP. What travels which way is read from
//! the counters of the lines.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::multicast;
use ka_tests::netns::Namespace;
use ka_tests::process::Running;
use nix::sys::signal::Signal;

use crate::kit::{expect_same_file, payload};

const BYTES: usize = 40_000_000;
/// Rate of a line in bits a second: the payload takes some four seconds.
const RATE: u64 = 100_000_000;
/// Bytes that a node receives in a probe at least: those of some 20 ms at the line's rate.
const PROBED: u64 = 250_000;
/// Most bytes that a node may send in a stream that it gets by multicast: acknowledgements and reports.
const MOST_TALK: u64 = 2_000_000;

struct Room {
    lab: Lab,
    server: Server,
    nodes: Vec<Option<Running>>,
    source: PathBuf,
}

impl Room {
    fn new(label: &str, nodes: usize, server: &[&str]) -> Result<Self> {
        Self::prepared(label, nodes, server, |_| Ok(()))
    }

    /// Begins a run of nodes that write to files; `change` changes the network before any program starts.
    fn prepared(
        label: &str,
        nodes: usize,
        server: &[&str],
        change: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        Self::with_last(label, nodes, server, change, false)
    }

    /// Begins a run like [`Room::prepared`]. If the last node waits, it starts once the others were probed.
    fn with_last(
        label: &str,
        nodes: usize,
        server: &[&str],
        change: impl FnOnce(&Lab) -> Result<()>,
        last_waits: bool,
    ) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(RATE))?;
        let source = payload(&lab, BYTES)?;
        change(&lab)?;
        let (input, count) = (source.display().to_string(), nodes.to_string());
        let args = [
            "-n", &count, "--buffer", "16M", "--rounds", "1", "--input", &input,
        ];
        let server = lab.server(&[&args[..], server].concat())?;
        let mut room = Self {
            lab,
            server,
            nodes: Vec::new(),
            source,
        };
        (1..nodes).try_for_each(|number| room.start(number))?;
        if last_waits {
            room.await_probe(1)?;
        }
        room.start(nodes)?;
        Ok(room)
    }

    /// Waits until a node has received more than a quarter of a megabyte, before the stream.
    fn await_probe(&mut self, number: usize) -> Result<()> {
        let node = self.lab.network().node(number);
        self.server.run.wait_until("the first nodes are probed", |_| {
            Ok(multicast::carried(node)?.received > PROBED)
        })
    }

    fn start(&mut self, number: usize) -> Result<()> {
        let to_file = format!("cat > {}", self.sink(number).display());
        let args = ["--buffer", "16M", "-e", &to_file];
        let node = self.lab.client(number, &self.server, &args)?;
        self.nodes.push(Some(node));
        Ok(())
    }

    fn sink(&self, number: usize) -> PathBuf {
        self.lab.scratch().path().join(format!("sink{number}"))
    }

    /// Waits until a node has two fifths.
    fn wait_for_two_fifths(&mut self, number: usize) -> Result<()> {
        let sink = self.sink(number);
        self.server.run.wait_until("two fifths have come", |_| {
            Ok(fs::metadata(&sink).is_ok_and(|found| found.len() >= BYTES as u64 * 2 / 5))
        })
    }

    /// Ends the run. Insists that every node but `lost` has every byte; returns the server's output, and the
    /// bytes that the golden node and each node have sent.
    fn finish(self, lost: &[usize]) -> Result<(String, Vec<u64>)> {
        let (_, said, sent) = self.finish_in_lab(lost)?;
        Ok((said, sent))
    }

    /// Ends the run like [`Room::finish`]; the network stays.
    fn finish_in_lab(self, lost: &[usize]) -> Result<(Lab, String, Vec<u64>)> {
        let ended = self.server.run.wait()?;
        let said = ended.all();
        ended
            .expect(if lost.is_empty() { 0 } else { 3 })
            .with_context(|| said.clone())?;
        for (number, node) in (1..).zip(self.nodes) {
            if let Some(node) = node.filter(|_| !lost.contains(&number)) {
                node.wait()?.expect(0).with_context(|| said.clone())?;
                let sink = self.lab.scratch().path().join(format!("sink{number}"));
                expect_same_file(&self.source, &sink)?;
            }
        }
        let network = self.lab.network();
        let nodes = (1..=network.len()).map(|number| network.node(number));
        let sent = std::iter::once(network.golden()).chain(nodes).map(sent_by);
        let sent = sent.collect::<Result<_>>()?;
        Ok((self.lab, said, sent))
    }

    fn sent(&self, number: usize) -> Result<u64> {
        sent_by(self.lab.network().node(number))
    }
}

/// Returns the bytes that a host has sent.
fn sent_by(host: &Namespace) -> Result<u64> {
    let shown: serde_json::Value = serde_json::from_str(&host.ip("-j -s link show dev eth0")?)?;
    shown[0]["stats64"]["tx"]["bytes"]
        .as_u64()
        .context("`ip` shows no counter")
}

/// Makes a host deaf to multicast datagrams.
fn deafen(host: &Namespace) -> Result<()> {
    multicast::lose(host, 10_000)
}

#[test]
fn the_nodes_of_a_segment_get_the_stream_at_once_and_hand_nothing_on() -> Result<()> {
    let room = Room::new("mcast", 4, &["--transport", "multicast"])?;
    let (said, sent) = room.finish(&[])?;
    ensure!(said.contains("multicast reaches 4 of 4 nodes"), "{said}");
    ensure!(!said.contains("warning"), "{said}");
    // Hearing queries needs a capability that a server gives up otherwise.
    ensure!(!said.contains("IGMP querier: not known"), "{said}");
    // The probe takes some of it, too.
    let bytes = BYTES as u64;
    ensure!((bytes..bytes * 13 / 10).contains(&sent[0]), "{sent:?}:\n{said}");
    ensure!(sent[1..].iter().all(|sent| *sent < MOST_TALK), "{sent:?}");
    Ok(())
}

/// The nodes that are there are probed while the last one is awaited. It is only greeted, so that nobody waits for it.
#[test]
fn a_node_that_comes_after_the_probe_is_only_greeted() -> Result<()> {
    // A bridge that was just made floods a group to everybody.
    let settled = |lab: &Lab| multicast::settle(lab.network());
    let room = Room::with_last("mclate", 4, &["--transport", "multicast"], settled, true)?;
    let (lab, said, sent) = room.finish_in_lab(&[])?;
    ensure!(said.contains("multicast reaches 4 of 4 nodes"), "{said}");
    ensure!(
        sent[1..].iter().all(|sent| *sent < MOST_TALK),
        "{sent:?}:\n{said}"
    );
    let received = |number| Ok::<_, anyhow::Error>(multicast::carried(lab.network().node(number))?.received);
    let (early, late) = (received(1)?, received(4)?);
    ensure!(late + PROBED < early, "{late} and {early} bytes:\n{said}");
    Ok(())
}

#[test]
fn auto_takes_multicast_for_a_segment_and_the_chain_for_two_nodes() -> Result<()> {
    let (said, sent) = Room::new("mcauto", 3, &["--transport", "auto"])?.finish(&[])?;
    ensure!(said.contains("multicast reaches 3 of 3 nodes"), "{said}");
    ensure!(
        sent[1..].iter().all(|sent| *sent < MOST_TALK),
        "{sent:?}:\n{said}"
    );
    let (said, sent) = Room::new("mcautotwo", 2, &["--transport", "auto"])?.finish(&[])?;
    ensure!(!said.contains("multicast"), "{said}");
    ensure!(sent[1] > BYTES as u64, "{sent:?}");
    Ok(())
}

#[test]
fn a_node_that_hears_no_multicast_is_fed_by_its_predecessor_and_its_successor_is_not() -> Result<()> {
    let deaf = |lab: &Lab| deafen(lab.network().node(2));
    let room = Room::prepared("mcdeaf", 4, &["--transport", "multicast"], deaf)?;
    let (said, sent) = room.finish(&[])?;
    ensure!(
        said.contains("multicast reaches 3 of 4 nodes") && said.contains("n2 hears nothing"),
        "{said}"
    );
    ensure!(sent[1] > BYTES as u64, "n1 fed n2: {sent:?}");
    ensure!(sent[2..].iter().all(|sent| *sent < MOST_TALK), "{sent:?}");
    Ok(())
}

#[test]
fn where_nobody_hears_multicast_the_chain_carries_the_run() -> Result<()> {
    let deaf = |lab: &Lab| (1..=3).try_for_each(|number| deafen(lab.network().node(number)));
    let (said, _) = Room::prepared("mcnone", 3, &["--transport", "auto"], deaf)?.finish(&[])?;
    ensure!(
        said.contains("transport: chain, because multicast reaches no node well"),
        "{said}"
    );
    Ok(())
}

/// The node's sender waits for room at it until its silence is noticed, and the others have every byte.
fn fails(label: &str, fault: impl FnOnce(&mut Room) -> Result<()>) -> Result<()> {
    let mut room = Room::new(label, 4, &["--transport", "multicast"])?;
    room.wait_for_two_fifths(4)?;
    fault(&mut room)?;
    let (said, _) = room.finish(&[3])?;
    ensure!(
        said.lines()
            .any(|line| line.contains("n3 ") && line.contains("FAILED")),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_member_that_is_killed_costs_the_others_nothing_but_the_noticing() -> Result<()> {
    fails("mckill", |room| match room.nodes[2].take() {
        Some(node) => node.kill_alone().map(drop),
        None => Ok(()),
    })
}

#[test]
fn a_member_that_is_stopped_or_unplugged_is_named_and_the_others_have_every_byte() -> Result<()> {
    fails("mcstop", |room| match &mut room.nodes[2] {
        Some(node) => node.signal(Signal::SIGSTOP),
        None => Ok(()),
    })?;
    fails("mcplug", |room| room.lab.network().set_plugged(3, false))
}

#[test]
fn a_group_that_goes_dark_goes_on_over_the_chain_in_the_same_round_and_no_byte_comes_twice() -> Result<()> {
    let mut room = Room::new("mcdark", 4, &["--transport", "multicast"])?;
    room.wait_for_two_fifths(4)?;
    let before = (1..=4)
        .map(|number| room.sent(number))
        .collect::<Result<Vec<u64>>>()?;
    ensure!(before.iter().all(|sent| *sent < MOST_TALK), "{before:?}");
    (1..=4).try_for_each(|number| deafen(room.lab.network().node(number)))?;
    let since = Instant::now();
    room.server.run.wait_for("no multicast any more")?;
    ensure!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let (said, sent) = room.finish(&[])?;
    ensure!(
        said.matches("no multicast any more").count() == 1,
        "one line says it:\n{said}"
    );
    let rest = BYTES as u64 * 7 / 10;
    ensure!(sent[1..].iter().all(|sent| *sent < rest), "{sent:?}:\n{said}");
    Ok(())
}

#[test]
fn a_member_whose_line_loses_much_leaves_the_group_and_nobody_else_does() -> Result<()> {
    let mut room = Room::new("mclossy", 4, &["--transport", "multicast"])?;
    room.server.run.wait_for("multicast reaches 4 of 4 nodes")?;
    multicast::lose(room.lab.network().node(2), 1500)?;
    let (said, _) = room.finish(&[])?;
    let left: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("no multicast any more"))
        .collect();
    ensure!(left.len() == 1 && left[0].contains("n2:"), "{said}");
    Ok(())
}

#[test]
fn with_the_chain_asked_for_nothing_is_sent_to_a_group() -> Result<()> {
    let room = Room::new("mcchain", 3, &["--transport", "chain"])?;
    let (said, sent) = room.finish(&[])?;
    ensure!(!said.contains("multicast"), "{said}");
    ensure!(sent[1..3].iter().all(|sent| *sent > BYTES as u64), "{sent:?}");
    Ok(())
}
