//! `ka-server --spool DIR`: a node that lost its place in a stream goes on in the same round, at the point
//! where it stood. The directory is as empty as before, whatever the server's end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::mounts::Mounted;
use ka_tests::process::{Ended, Program, Running};
use nix::sys::signal::Signal;

use crate::kit::{Kit, expect_same_file, finish, mib, payload};

const BYTES: usize = 60_000_000;
/// Rate of a line in bits a second: the payload takes five seconds.
const RATE: u64 = 100_000_000;
/// Time that a line is down: it is noticed, and three windows of 8 MiB pass; the node itself notices nothing
/// that ends it.
const DOWN: Duration = Duration::from_secs(5);

/// Time longer than a server waits for a silent node when it keeps nothing for it.
const LONG_DOWN: Duration = Duration::from_secs(17);

/// Nodes that write a stream to files.
struct Room {
    lab: Lab,
    source: PathBuf,
}

impl Room {
    fn new(label: &str, nodes: usize, bytes: usize) -> Result<Self> {
        let lab = Lab::new(label, nodes, Some(RATE))?;
        let source = payload(&lab, bytes)?;
        Ok(Self { lab, source })
    }

    fn spool(&self) -> Result<PathBuf> {
        self.lab.scratch().dir("spool")
    }

    fn server(&self, nodes: usize, args: &[&str]) -> Result<Server> {
        let (count, input) = (nodes.to_string(), self.source.display().to_string());
        let all = [&["-n", &count, "--buffer", "8M", "--input", &input], args].concat();
        self.lab.server(&all)
    }

    fn sink(&self, number: usize) -> PathBuf {
        self.lab.scratch().path().join(format!("sink{number}"))
    }

    /// Starts a node; `command` takes the stream instead of `cat`.
    fn node(&self, number: usize, server: &Server, command: Option<&str>) -> Result<Running> {
        let to_file = format!("cat > {}", self.sink(number).display());
        let args = ["--buffer", "8M", "-e", command.unwrap_or(&to_file)];
        self.lab.client(number, server, &args)
    }

    fn nodes(&self, count: usize, server: &Server) -> Result<Vec<Running>> {
        (1..=count)
            .map(|number| self.node(number, server, None))
            .collect()
    }

    fn wait_for_bytes(&self, number: usize, bytes: usize, server: &mut Server) -> Result<()> {
        let sink = self.sink(number);
        server.run.wait_until("its file has grown", |_| {
            Ok(fs::metadata(&sink).is_ok_and(|found| found.len() >= bytes as u64))
        })
    }

    fn expect_sinks(&self, numbers: &[usize]) -> Result<()> {
        let mut numbers = numbers.iter();
        numbers.try_for_each(|number| expect_same_file(&self.source, &self.sink(*number)))
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let names = entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

/// True if the server keeps at least `bytes` bytes in `dir` just now. The file has no name there.
fn keeps(server: &Server, dir: &Path, bytes: u64) -> Result<bool> {
    for entry in fs::read_dir(format!("/proc/{}/fd", server.run.pid()))?.flatten() {
        // The descriptor may have been closed meanwhile.
        let Ok(file) = fs::read_link(entry.path()) else {
            continue;
        };
        if file.starts_with(dir) && fs::metadata(entry.path()).is_ok_and(|found| found.len() >= bytes) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs four nodes; the second one's line is down for a while.
fn with_a_line_down(label: &str, down: Duration, args: &[&str]) -> Result<Ended> {
    let room = Room::new(label, 4, BYTES)?;
    let mut server = room.server(4, args)?;
    let nodes = room.nodes(4, &server)?;
    room.wait_for_bytes(4, BYTES / 5, &mut server)?;
    room.lab.network().set_plugged(2, false)?;
    thread::sleep(down);
    room.lab.network().set_plugged(2, true)?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    room.expect_sinks(&[1, 2, 3, 4])?;
    Ok(outcome.server)
}

#[test]
fn a_node_whose_line_was_down_goes_on_where_it_stood_in_the_same_round() -> Result<()> {
    let scratch = Lab::new("spooldir", 0, None)?;
    let dir = scratch.scratch().dir("spool")?;
    let said = with_a_line_down(
        "spoolline",
        LONG_DOWN,
        &["--spool", &dir.display().to_string(), "--json"],
    )?;
    let events: Vec<serde_json::Value> = said
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let named = |name: &str| {
        events
            .iter()
            .filter(|event| event["event"] == name)
            .collect::<Vec<_>>()
    };
    ensure!(
        named("round-started").is_empty() && named("node-failed").is_empty(),
        "{}",
        said.all()
    );
    let away = named("node-away");
    ensure!(away.len() == 1 && away[0]["node"]["name"] == "n2", "{away:?}");
    let rejoined = named("node-rejoined");
    let offset = rejoined.first().and_then(|event| event["offset_bytes"].as_u64());
    ensure!(
        offset.is_some_and(|offset| offset > 0 && offset < BYTES as u64)
            && rejoined[0]["stream"] == "kainstall1",
        "{rejoined:?}"
    );
    let summary = named("ended").pop().context("no end")?["summary"].clone();
    let of_n2 = summary["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|node| node["node"]["name"] == "n2");
    let of_n2 = of_n2.context("n2 is not in the report")?;
    ensure!(
        of_n2["rejoined"][0]["offset_bytes"].as_u64() == offset && of_n2["round"] == 1,
        "{of_n2}"
    );
    ensure!(names(&dir)?.is_empty(), "{:?}", names(&dir)?);
    Ok(())
}

#[test]
fn without_a_spool_a_node_whose_line_was_down_begins_anew_in_the_next_round() -> Result<()> {
    let said = with_a_line_down("nospool", DOWN, &[])?;
    said.says("done in round 2")?.says("4 nodes done")?;
    ensure!(!said.all().contains("rejoined"), "{}", said.all());
    Ok(())
}

#[test]
fn nodes_whose_data_is_kept_by_no_neighbour_get_it_from_the_spool() -> Result<()> {
    let room = Room::new("spoolgap", 4, BYTES)?;
    let dir = room.spool()?.display().to_string();
    let mut server = room.server(4, &["--tolerate", "0", "--spool", &dir])?;
    // The third node stands still until its own and the second one's window are full: the data that it then
    // lacks is gone further up.
    let stands = format!(
        "head -c 10000000 > {0}; while ! test -e {0}.go; do sleep 0.1; done; cat >> {0}",
        room.sink(3).display()
    );
    let mut nodes = vec![
        room.node(1, &server, None)?,
        room.node(2, &server, None)?,
        room.node(3, &server, Some(&stands))?,
        room.node(4, &server, None)?,
    ];
    room.wait_for_bytes(2, 22_000_000, &mut server)?;
    nodes.remove(1).kill_alone()?;
    server.run.wait_for("from the spool")?;
    fs::write(format!("{}.go", room.sink(3).display()), b"")?;
    let outcome = finish(server, nodes)?;
    for node in &outcome.nodes {
        node.expect(0).with_context(|| outcome.server.all())?;
    }
    outcome
        .server
        .expect(3)?
        .says("3 done")?
        .says("n3 (10.77.0.104): rejoined kainstall1 at byte ")?;
    ensure!(
        outcome.server.all().matches("failed: ").count() == 1,
        "{}",
        outcome.server.all()
    );
    room.expect_sinks(&[1, 3, 4])
}

#[test]
fn a_clone_that_went_on_from_the_spool_is_the_golden_system() -> Result<()> {
    let kit = Kit::slow("spoolclone", 3)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?, kit.same_disk("n3")?];
    let dir = kit.lab.scratch().dir("spool")?;
    let mut server = kit.server(&["-n", "3", "--buffer", "8M", "--spool", &dir.display().to_string()])?;
    let mut nodes = Vec::new();
    for (number, disk) in (1..).zip(&disks) {
        nodes.push(kit.node(number, &server, disk, &["--buffer", "8M"])?);
    }
    nodes[1].wait_for("estoring")?;
    let mut some = false;
    while !some {
        some = keeps(&server, &dir, mib(10))?;
        ensure!(!server.run.has_ended()?, "it ended:\n{}", server.run.said());
        thread::sleep(Duration::from_millis(20));
    }
    ensure!(names(&dir)?.is_empty(), "{:?}", names(&dir)?);
    kit.lab.network().set_plugged(2, false)?;
    thread::sleep(DOWN);
    kit.lab.network().set_plugged(2, true)?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    let said = outcome.server.all();
    ensure!(
        said.contains("from the spool") && !said.contains("round 2"),
        "{said}"
    );
    disks.iter().try_for_each(|disk| kit.expect_clone(disk))
}

#[test]
fn a_spool_that_fills_up_is_given_up_in_one_line_and_nobody_waits_for_it() -> Result<()> {
    let room = Room::new("spoolfull", 2, BYTES)?;
    let disk = Mounted::in_memory(&room.spool()?, mib(66))?;
    let (dir, source) = (disk.point().display().to_string(), room.source.display());
    let twice = format!("cat {source} {source}");
    let server = room.lab.server(&["-n", "2", "--spool", &dir, "-e", &twice])?;
    let nodes = room.nodes(2, &server)?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    let said = outcome.server.all();
    let lines = said.lines().filter(|line| line.contains("kept no longer"));
    let lines: Vec<&str> = lines.collect();
    ensure!(lines.len() == 1 && lines[0].contains("No space left"), "{said}");
    ensure!(fs::metadata(room.sink(2))?.len() == 2 * BYTES as u64);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_spool_after_ctrl_c_and_after_a_kill() -> Result<()> {
    for (label, signal) in [("spoolint", Signal::SIGINT), ("spoolkill", Signal::SIGKILL)] {
        let room = Room::new(label, 1, BYTES)?;
        let dir = room.spool()?;
        let mut server = room.server(1, &["--spool", &dir.display().to_string()])?;
        let node = room
            .lab
            .client_program(1, &server)?
            .args(["--retries", "1", "-e", "cat > /dev/null"])
            .spawn()?;
        let mut is_kept = false;
        while !is_kept {
            is_kept = keeps(&server, &dir, mib(5))?;
            ensure!(!server.run.has_ended()?, "it ended:\n{}", server.run.said());
            thread::sleep(Duration::from_millis(20));
        }
        server.run.signal(signal)?;
        server.run.wait()?;
        ensure!(names(&dir)?.is_empty(), "{signal}: {:?}", names(&dir)?);
        node.wait()?;
    }
    Ok(())
}

/// Returns the server's message about a directory that it cannot use: one line that names it.
fn refusal(lab: &Lab, dir: &Path, input: &Path) -> Result<String> {
    let (dir, input) = (dir.display().to_string(), input.display().to_string());
    let ended = lab
        .server_program()?
        .args(["-n", "1", "--spool", &dir, "--input", &input])
        .finish()?;
    ended.expect(2)?;
    ensure!(
        ended.stderr.lines().count() == 1 && ended.stderr.contains("--spool") && ended.stderr.contains(&dir),
        "{}",
        ended.stderr
    );
    Ok(ended.stderr)
}

#[test]
fn a_directory_that_cannot_hold_a_stream_is_refused_in_one_line_that_names_it() -> Result<()> {
    let lab = Lab::new("spoolbad", 0, None)?;
    let source = payload(&lab, 1000)?;
    let dir = |name: &str| lab.scratch().path().join(name);
    let said = refusal(&lab, &dir("nowhere"), &source)?;
    ensure!(said.contains("No such file or directory"), "{said}");
    let said = refusal(&lab, &source, &source)?;
    ensure!(said.contains("Not a directory"), "{said}");

    let full = Mounted::in_memory(&dir("full"), mib(1))?;
    fs::write(full.point().join("all"), vec![1; 1 << 20])?;
    let said = refusal(&lab, full.point(), &source)?;
    ensure!(said.contains("0 MiB free"), "{said}");

    let fixed = Mounted::in_memory(&dir("fixed"), mib(100))?;
    Program::new("mount")
        .args(["-o", "remount,ro"])
        .arg(fixed.point())
        .run()?;
    let said = refusal(&lab, fixed.point(), &source)?;
    ensure!(said.contains("Read-only file system"), "{said}");

    let small = Mounted::in_memory(&dir("small"), mib(100))?;
    let large = dir("large");
    fs::File::create(&large)?.set_len(mib(300))?;
    let said = refusal(&lab, small.point(), &large)?;
    ensure!(
        said.contains("100 MiB free, a stream of this run may need 300 MiB"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_node_that_was_frozen_and_whose_line_breaks_again_while_it_is_fed_still_goes_on() -> Result<()> {
    let room = Room::new("spooltwice", 4, BYTES)?;
    let dir = room.spool()?.display().to_string();
    let mut server = room.server(4, &["--spool", &dir, "--rounds", "1"])?;
    let mut nodes = room.nodes(4, &server)?;
    room.wait_for_bytes(4, BYTES / 5, &mut server)?;
    nodes[2].signal(Signal::SIGSTOP)?;
    server.run.wait_for("silent, goes on in this round")?;
    thread::sleep(Duration::from_secs(1));
    nodes[2].signal(Signal::SIGCONT)?;
    server.run.wait_for("from the spool")?;
    room.lab.network().set_plugged(3, false)?;
    thread::sleep(DOWN);
    room.lab.network().set_plugged(3, true)?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    room.expect_sinks(&[1, 2, 3, 4])
}
