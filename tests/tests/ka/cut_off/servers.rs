//! Cut-offs of a server that spools, that makes boot images, that machines fetch from, and that waits for
//! first boots.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::tree;
use nix::sys::signal::Signal;

use super::{Dice, SEED, Traces, ended_in_order, half_written};
use crate::boot::Room;
use crate::kit::payload;

/// Time limit of an end: much less than a machine's fetch or a first boot would take.
const AT_ONCE: Duration = Duration::from_secs(15);

fn files_in(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_in(&path)?);
        }
        found.insert(path);
    }
    Ok(found)
}

/// Returns the bytes that a process keeps in `dir` in nameless files.
fn nameless_bytes(pid: u32, dir: &Path) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let kept = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|file| file.starts_with(dir)));
    kept.filter_map(|entry| Some(fs::metadata(entry.path()).ok()?.len()))
        .sum()
}

#[test]
fn a_server_that_is_cut_off_while_it_spools_leaves_the_directory_empty() -> Result<()> {
    let lab = Lab::new("cutspool", 2, Some(100_000_000))?;
    let source = payload(&lab, 60_000_000)?.display().to_string();
    for (index, signal) in [Signal::SIGINT, Signal::SIGHUP].into_iter().enumerate() {
        let dir = lab.scratch().dir(&format!("spool{index}"))?;
        let before = Traces::of(lab.scratch().path())?;
        let spool = dir.display().to_string();
        let args = [
            "-n", "2", "--rounds", "1", "--buffer", "8M", "--input", &source, "--spool", &spool,
        ];
        let mut server = lab.server(&args)?;
        let nodes = [1, 2].map(|number| {
            lab.client(
                number,
                &server,
                &["--buffer", "8M", "--retries", "1", "-e", "cat > /dev/null"],
            )
        });
        let pid = server.run.pid();
        server
            .run
            .wait_until("it spooled", |_| Ok(nameless_bytes(pid, &dir) > 8_000_000))?;
        server.run.signal(signal)?;
        let server = ended_in_order(server.run)?;
        for node in nodes {
            ended_in_order(node?)?;
        }
        ensure!(files_in(&dir)?.is_empty(), "{:?} is left", files_in(&dir)?);
        let after = Traces::of(lab.scratch().path())?;
        ensure!(after == before, "left: {after:#?}\n{}", server.all());
        let half = half_written(&lab.server_state())?;
        ensure!(half.is_empty(), "{half:?} is left\n{}", server.all());
    }
    Ok(())
}

/// Makes a room whose boot images take some seconds to be packed, with temporary files of its own.
fn room(label: &str) -> Result<Room> {
    let room = Room::new(label, 1)?;
    let modules = room.root().join("lib/modules/6.1.0-ka");
    fs::write(
        room.root().join("boot/vmlinuz-6.1.0-ka"),
        tree::noise(80_000_000, 5),
    )?;
    fs::write(modules.join("modules.builtin"), "")?;
    fs::create_dir_all(room.path("tmp"))?;
    Ok(room)
}

fn server(room: &Room) -> Result<Server> {
    let mac = room.mac(1)?;
    let list = room.list(&[format!("{mac} room-1")])?;
    let root = room.root().display().to_string();
    let more = [
        "-r",
        "none",
        "--root",
        &root,
        "-n",
        "1",
        "--rounds",
        "1",
        "--nodes",
        &list,
        "--wait-boot",
        "120",
    ];
    let args = room.args(&more)?;
    room.lab()
        .server_begun(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn nothing_is_left(room: &Room, server: Server, began: Instant, before: &Traces) -> Result<()> {
    let server = ended_in_order(server.run)?;
    ensure!(
        began.elapsed() < AT_ONCE,
        "it took {:?}:\n{}",
        began.elapsed(),
        server.all()
    );
    let after = Traces::of(room.lab().scratch().path())?;
    ensure!(after == *before, "left: {after:#?}\n{}", server.all());
    if !room.lab().server_state().exists() {
        return Ok(());
    }
    let half = half_written(&room.lab().server_state())?;
    ensure!(half.is_empty(), "{half:?} is left\n{}", server.all());
    let images = files_in(&room.lab().server_state())?;
    let images: Vec<_> = images
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "img"))
        .collect();
    ensure!(images.is_empty(), "{images:?} are left");
    Ok(())
}

#[test]
fn a_boot_server_that_is_cut_off_while_images_are_packed_leaves_none() -> Result<()> {
    let room = room("cutpack")?;
    let mut dice = Dice(SEED);
    for _ in 0..4 {
        let before = Traces::of(room.lab().scratch().path())?;
        let (after, signal) = (Duration::from_millis(dice.below(2500)), dice.signal());
        let mut server = server(&room)?;
        thread::sleep(after);
        let began = Instant::now();
        if !server.run.has_ended()? {
            server.run.signal(signal)?;
        }
        nothing_is_left(&room, server, began, &before)
            .with_context(|| format!("{signal} after {after:?}"))?;
    }
    Ok(())
}

#[test]
fn a_boot_server_that_is_cut_off_while_machines_fetch_or_boot_waits_for_none() -> Result<()> {
    let room = room("cutfetch")?;
    let before = Traces::of(room.lab().scratch().path())?;
    let mut server = server(&room)?;
    let join = server.join_file().to_owned();
    server
        .run
        .wait_until("it could be joined", |_| Ok(join.is_file()))?;
    let url = format!("http://{}/vmlinuz", ka_tests::netns::GOLDEN_ADDRESS);
    let mut slow = room
        .on_node(1, "curl")
        .args(["-sS", "--limit-rate", "100K", "-o", "/dev/null", &url])
        .spawn()?;
    thread::sleep(Duration::from_secs(1));
    ensure!(!slow.has_ended()?, "it does not fetch: {}", slow.said());
    let began = Instant::now();
    server.run.signal(Signal::SIGINT)?;
    nothing_is_left(&room, server, began, &before)?;
    drop(slow);

    let disk = room.disk("n1")?;
    let before = Traces::of(room.lab().scratch().path())?;
    let mut server = self::server(&room)?;
    let join = server.join_file().to_owned();
    server
        .run
        .wait_until("it could be joined", |_| Ok(join.is_file()))?;
    let node = room.full_node(1, &server, &disk)?;
    node.wait()?.expect(0)?;
    server.run.wait_for("to come back")?;
    let began = Instant::now();
    server.run.signal(Signal::SIGTERM)?;
    nothing_is_left(&room, server, began, &before)?;
    ensure!(disk.looks_finished()?, "the clone was done");
    Ok(())
}
