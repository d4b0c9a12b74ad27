//! Members of the run that lie: they have the join code, keys of their own, and everything else that a node
//! has.
//!
//! The nodes around them are real, and so is the server. The simulator knows the kinds of lies
//! (`crates/proto/src/sim/liar.rs`); here they go over real wires. Honest nodes get every byte, the liar
//! alone is lost, and the run does not hang.

mod peer;
mod stream;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ka_mac::MacAddr;
use ka_proto::control::{Progress, Side, ToNode, ToServer};
use ka_proto::pace::Pace;
use ka_proto::wire::Payload;
use ka_proto::{Reason, StreamOffset};
use ka_tests::lab::{Lab, Server};
use ka_tests::process::{Ended, Running};
use ka_transport::join_file;

use crate::kit::{expect_same_file, finish, payload};
use crate::tls;
use peer::{Acks, Claim, Insider, Known, Manners, Serves};

/// Rate of a line in bits a second.
const RATE: u64 = 100_000_000;
const PAYLOAD: usize = 24_000_000;
const NODES: usize = 4;
/// The place of the liar in the chain.
const LIAR: usize = 2;

/// A chain in which the second of four nodes is an insider.
struct Chain {
    lab: Lab,
    source: PathBuf,
    server: Server,
    honest: Vec<(usize, Running)>,
    insider: Insider,
}

impl Chain {
    fn new(label: &str, manners: Manners) -> Result<Self> {
        let lab = Lab::new(label, NODES, Some(RATE))?;
        let source = payload(&lab, PAYLOAD)?;
        let (input, count) = (source.display().to_string(), NODES.to_string());
        let server = lab.server(&["-n", &count, "-v", "--silence", "1", "--input", &input])?;
        let insider = Insider::join(&lab, LIAR, &server, manners)?;
        let mut honest = Vec::new();
        for number in (1..=NODES).filter(|number| *number != LIAR) {
            let sink = sink(&lab, number).display().to_string();
            honest.push((number, lab.client(number, &server, &["--output", &sink])?));
        }
        Ok(Self {
            lab,
            source,
            server,
            honest,
            insider,
        })
    }

    /// Insists that every honest node has every byte; returns the server's output, and its messages to the
    /// liar.
    fn finish(self) -> Result<(Ended, Vec<String>)> {
        let mut ended = Vec::new();
        for (number, node) in self.honest {
            ended.push((number, node.wait()?));
        }
        let server = self.server.run.wait()?;
        let told = self.insider.end()?;
        for (number, node) in ended {
            let context = format!("n{number}: {}\n{}\n{told:#?}", node.all(), server.all());
            ensure!(node.code == Some(0), "{context}");
            expect_same_file(&self.source, &sink(&self.lab, number))?;
        }
        Ok((server, told))
    }
}

fn sink(lab: &Lab, number: usize) -> PathBuf {
    lab.scratch().path().join(format!("sink{number}"))
}

/// Tells a lie that nobody but the liar may notice.
fn expect_harmless(label: &str, manners: Manners) -> Result<Ended> {
    let (server, _) = Chain::new(label, manners)?.finish()?;
    for line in server.all().lines() {
        let accuses = line.contains("FAILED") || line.contains("failed:") || line.contains("is slow");
        ensure!(!accuses || line.contains("liar"), "{}", server.all());
    }
    Ok(server)
}

/// Tells a lie for which the liar is sent away, and no other node.
fn expect_costs_the_liar(label: &str, manners: Manners) -> Result<Ended> {
    let server = expect_harmless(label, manners)?;
    server
        .expect(3)?
        .says("failed: node ")?
        .says(" liar (10.77.0.103)")?;
    Ok(server)
}

/// Tells a lie that costs the nodes below the liar at most a round, because their data comes through it.
fn expect_costs_a_round(label: &str, manners: Manners) -> Result<()> {
    let (server, _) = Chain::new(label, manners)?.finish()?;
    let all = server.all();
    ensure!(
        !all.contains("round 3 of") || all.contains("1 node, chain: 1 liar"),
        "{all}"
    );
    ensure!(!all.contains("n1 (10.77.0.102): FAILED"), "{all}");
    for line in all.lines().filter(|line| line.starts_with("failed: ")) {
        ensure!(line.contains(" liar (10.77.0.103)"), "{all}");
    }
    Ok(())
}

/// Without this the other tests would prove nothing.
#[test]
fn an_honest_one_serves_everybody() -> Result<()> {
    let server = expect_harmless("insider-good", Manners::GOOD)?;
    server.expect(0)?.says("4 nodes done").map(drop)
}

#[test]
fn who_acknowledges_everything_and_passes_nothing_on_costs_those_below_a_round_at_most() -> Result<()> {
    expect_costs_a_round(
        "insider-acks",
        Manners {
            acks: Acks::Everything,
            serves: Serves::Silence,
            ..Manners::GOOD
        },
    )
}

/// The nodes above do not drop data because of its word: the nodes below get everything through another node.
#[test]
fn who_acknowledges_everything_and_passes_it_on_harms_nobody() -> Result<()> {
    let manners = Manners {
        acks: Acks::Everything,
        ..Manners::GOOD
    };
    expect_harmless("insider-early", manners).map(drop)
}

#[test]
fn who_alters_blocks_is_found_out_and_those_below_get_the_true_ones_in_the_next_round() -> Result<()> {
    let manners = Manners {
        serves: Serves::Altered,
        ..Manners::GOOD
    };
    let (server, _) = Chain::new("insider-alters", manners)?.finish()?;
    server.says("has passed on something else than the server sent")?;
    ensure!(
        !server.all().contains("n1 (10.77.0.102): FAILED"),
        "{}",
        server.all()
    );
    Ok(())
}

fn lost(known: &Known, side: Side, reason: &str) -> ToServer {
    ToServer::LinkLost {
        stream: known.open.stream,
        side,
        offset: StreamOffset(known.received),
        reason: Reason::new(reason),
    }
}

#[test]
fn who_says_that_its_successor_is_dead_costs_it_a_round_at_most() -> Result<()> {
    let manners = Manners {
        says: |known| vec![lost(known, Side::Downstream, "n3 is dead")],
        ..Manners::GOOD
    };
    expect_costs_a_round("insider-below", manners)
}

#[test]
fn who_accuses_its_predecessor_goes_itself() -> Result<()> {
    let lies: [fn(&Known) -> Vec<ToServer>; 3] = [
        |known| vec![lost(known, Side::Upstream, "n1 is dead")],
        |known| {
            vec![ToServer::StreamFailed {
                stream: known.open.stream,
                reason: Reason::new("n1 sends nonsense"),
                unproved: true,
            }]
        },
        |known| {
            vec![ToServer::DataGone {
                stream: known.open.stream,
                offset: StreamOffset(0),
                reason: Reason::new("n1 has lost it"),
            }]
        },
    ];
    for says in lies {
        let manners = Manners {
            says,
            ..Manners::GOOD
        };
        expect_costs_the_liar("insider-above", manners)?;
    }
    Ok(())
}

#[test]
fn progress_beyond_the_end_and_impossible_times_accuse_nobody() -> Result<()> {
    let says = |known: &Known| {
        let most = u32::MAX;
        vec![ToServer::Progress(Progress {
            stream: known.open.stream,
            received: StreamOffset(u64::MAX),
            consumed: StreamOffset(u64::MAX),
            buffered: u64::MAX,
            pace: Pace {
                elapsed_ms: most,
                upstream_ms: most,
                consumer_ms: most,
                downstream_ms: most,
                work_ms: most,
                consumer_busy_ms: most,
                link_busy_ms: most,
                link_bytes: u64::MAX,
                processor_ms: most,
                ..Pace::default()
            },
        })]
    };
    let manners = Manners {
        says,
        ..Manners::GOOD
    };
    expect_harmless("insider-progress", manners).map(drop)
}

/// A lie about itself harms only the liar: it is done before it has anything, or has other data. A report
/// that does not fit ends it.
#[test]
fn who_says_done_too_early_or_reports_what_was_not_sent_harms_itself() -> Result<()> {
    let early = |known: &Known| {
        vec![ToServer::StreamDone {
            stream: known.open.stream,
            bytes: u64::MAX,
            digest: [9; 32],
        }]
    };
    let manners = Manners {
        says: early,
        ..Manners::GOOD
    };
    expect_harmless("insider-early-done", manners)?;
    for report in [
        |_: String| "{}".to_owned(),
        |_| r#"{"disks":[],"streams":[],"steps":[]}"#.to_owned(),
        |report: String| report.replace(r#""bytes":2"#, r#""bytes":3"#),
    ] {
        let manners = Manners {
            report,
            ..Manners::GOOD
        };
        expect_costs_the_liar("insider-report", manners)?;
    }
    Ok(())
}

/// The events of nodes go to screen and log: the liar's are cut short, and those of the others are there.
#[test]
fn a_flood_of_messages_fills_no_screen_and_drowns_nobody() -> Result<()> {
    const STEP: &[u8] = br#"{"step":"restore","state":"news","text":"a line of the liar"}"#;
    let floods: [fn(&Known) -> Vec<ToServer>; 3] = [
        |_| vec![ToServer::Event(Payload(vec![b'{'; 17_000])); 800],
        |_| vec![ToServer::Event(Payload(STEP.to_vec())); 2000],
        |known| {
            let progress = Progress {
                stream: known.open.stream,
                received: StreamOffset(known.received),
                consumed: StreamOffset(0),
                buffered: 0,
                pace: Pace::default(),
            };
            vec![ToServer::Progress(progress); 4000]
        },
    ];
    for (says, is_shown) in floods.into_iter().zip([true, true, false]) {
        let manners = Manners {
            says,
            ..Manners::GOOD
        };
        let server = expect_harmless("insider-flood", manners)?;
        let all = server.all();
        ensure!(all.lines().count() < 800, "{} lines", all.lines().count());
        ensure!(
            !is_shown
                || all.contains(
                    "liar (10.77.0.103) says more of its steps than is shown; left out so far: 100"
                ),
            "{all}"
        );
        for node in ["n1", "n3", "n4"] {
            server.says(&format!("{node}> feeding the command...OK"))?;
        }
    }
    Ok(())
}

#[test]
fn who_claims_to_be_another_member_gets_nothing_and_costs_it_nothing() -> Result<()> {
    let lab = Lab::new("insider-claims", NODES, Some(RATE))?;
    let source = payload(&lab, PAYLOAD)?;
    let server = lab.server(&["-n", "3", "--input", &source.display().to_string()])?;
    let code = join_file::read(server.join_file())?;
    let mut honest = Vec::new();
    for number in [1, 3] {
        let sink = sink(&lab, number).display().to_string();
        honest.push(lab.client(number, &server, &["--output", &sink])?);
    }
    for node in &mut honest {
        node.wait_for("joined")?;
    }
    let first = lab.network().node(1);
    let link = first.ip("link show eth0")?;
    let mac = link
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1);
    let mac = mac.context("a card has an address")?.split(':');
    let mac = mac
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<Vec<_>, _>>()?;
    let mac = MacAddr(mac.as_slice().try_into()?);
    let inside = lab.network().node(LIAR);
    let any = "0.0.0.0:1";
    let claims = [
        ("n1", Some(mac), any),
        ("n1", None, "10.77.0.102:30764"),
        ("liar", Some(mac), "10.77.0.102:30764"),
        ("liar", None, "10.77.0.1:30764"),
    ];
    for (name, mac, addr) in claims {
        let claim = Claim {
            name,
            mac,
            addr: addr.parse()?,
        };
        let mut tls = peer::introduce(inside, &code, &claim)?;
        let answer = ToNode::decode(&tls::read_frame(&mut tls)?)?;
        ensure!(
            matches!(answer, ToNode::Refused { .. }),
            "{name} {mac:?} {addr}: {answer:?}"
        );
    }
    let last = sink(&lab, 4).display().to_string();
    honest.push(lab.client(4, &server, &["--output", &last])?);
    finish(server, honest)?.expect_success()?;
    [1, 3, 4]
        .iter()
        .try_for_each(|number| expect_same_file(&source, &sink(&lab, *number)))
}
