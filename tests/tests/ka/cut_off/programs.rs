//! Cut-offs while other programs run: a hook or a tool of the clone's in its chroot that left children
//! behind, or the operator's command that takes a stream.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::Disk;
use ka_tests::golden;
use ka_tests::lab::Lab;
use nix::sys::signal::Signal;

use super::{Traces, ended_in_order, expect_gone, nothing_is_left, processes_rooted_on, processes_that_say};
use crate::kit::{Kit, finish};

/// Time limit of an end that does not wait for a lasting program, with the pauses of unmounting.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Script with three children: one in the program's own group, one in a session of its own that ignores
/// signals, one that has lost its parent.
const LEAVES_CHILDREN: &str = "#!/bin/sh
busybox sleep 3001 &
busybox setsid sh -c 'trap \"\" TERM HUP INT; cd /root; while :; do busybox sleep 1; done' > /root/log 2>&1 &
(busybox setsid busybox sleep 3002 &)
";

/// One cut: the programs that hear the signal, how often, and the point of the clone.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: &'static str,
    signal: Signal,
    node: u32,
    server: bool,
}

const CUTS: [[Cut; 2]; 3] = [
    [
        Cut {
            at: "post-restore",
            signal: Signal::SIGINT,
            node: 1,
            server: false,
        },
        Cut {
            at: "pre-boot",
            signal: Signal::SIGTERM,
            node: 0,
            server: true,
        },
    ],
    [
        Cut {
            at: "pre-boot",
            signal: Signal::SIGHUP,
            node: 1,
            server: true,
        },
        Cut {
            at: "post-restore",
            signal: Signal::SIGINT,
            node: 2,
            server: false,
        },
    ],
    [
        Cut {
            at: "initramfs",
            signal: Signal::SIGTERM,
            node: 1,
            server: false,
        },
        Cut {
            at: "initramfs",
            signal: Signal::SIGINT,
            node: 2,
            server: true,
        },
    ],
];

fn put(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Makes a golden system with a shell.
fn kit(label: &str, nodes: usize) -> Result<Kit> {
    let kit = Kit::small(label, nodes)?;
    let root = kit.golden.root();
    golden::install_shell(root)?;
    fs::remove_file(root.join("bin/sh"))?;
    symlink("../usr/bin/busybox", root.join("bin/sh"))?;
    Ok(kit)
}

/// Makes a hook, or the initramfs tool, run for an hour and leave children.
fn make_slow(root: &Path, at: &str) -> Result<()> {
    let hooks = root.join("etc/ka/hooks.d");
    if hooks.exists() {
        fs::remove_dir_all(&hooks)?;
    }
    let text = format!("{LEAVES_CHILDREN}busybox sleep 3600\n");
    if at != "initramfs" {
        return put(&hooks.join(format!("10-slow.{at}")), &text);
    }
    put(&root.join("usr/sbin/update-initramfs"), &text)?;
    put(&root.join("boot/vmlinuz-6.1.0"), "a kernel")?;
    put(&root.join("boot/initrd.img-6.1.0"), "an image")?;
    fs::create_dir_all(root.join("etc/initramfs-tools"))?;
    for name in ["dep", "alias", "builtin", "softdep", "order"] {
        put(&root.join(format!("lib/modules/6.1.0/modules.{name}")), "")?;
    }
    Ok(())
}

#[test]
fn a_clone_that_is_cut_off_while_its_tools_run_ends_them_and_leaves_nothing() -> Result<()> {
    let lanes = CUTS.into_iter().enumerate();
    let lanes: Vec<_> = lanes
        .map(|(lane, cuts)| {
            thread::spawn(move || {
                let kit = kit(&format!("cuttool{lane}"), 1)?;
                cuts.into_iter()
                    .try_for_each(|cut| cut_off(&kit, cut).with_context(|| format!("{cut:?}")))
            })
        })
        .collect();
    for lane in lanes {
        lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))??;
    }
    Ok(())
}

fn cut_off(kit: &Kit, cut: Cut) -> Result<()> {
    make_slow(kit.golden.root(), cut.at)?;
    let disk = kit.same_disk(&format!("{}-{}", cut.at, cut.node))?;
    let root = disk.partition(2);
    let before = Traces::of(kit.lab.scratch().path())?;
    let mut server = kit.server(&["-n", "1", "--rounds", "1"])?;
    let mut node = kit.node(1, &server, &disk, &["--retries", "1"])?;
    node.wait_until("the tool and its children ran", |_| {
        let running = if root.exists() {
            processes_rooted_on(&root)?
        } else {
            Default::default()
        };
        let running = running.into_iter().collect::<String>();
        Ok(["3001", "3002", "sleep 1", "3600"]
            .iter()
            .all(|what| running.contains(what)))
    })?;
    let began = Instant::now();
    if cut.server {
        server.run.signal(cut.signal)?;
    }
    for round in 0..cut.node {
        if round > 0 {
            // The pause makes it another press of Ctrl-C, not the same one.
            thread::sleep(Duration::from_millis(700));
        }
        if !node.has_ended()? {
            node.signal(cut.signal)?;
        }
    }
    node.wait_until("it had ended", |_| Ok(false)).err();
    ensure!(
        began.elapsed() < AT_ONCE,
        "it took {:?} to end:\n{}",
        began.elapsed(),
        node.said()
    );
    let left = processes_rooted_on(&root).unwrap_or_default();
    ensure!(
        left.is_empty(),
        "{left:?} still run in the clone\n{}",
        node.said()
    );
    nothing_is_left(kit, &disk, (server, node), &before)
}

/// A program that the hook of a finished clone has left behind would keep its disk busy for ever.
#[test]
fn what_a_hook_leaves_running_ends_with_the_step_and_the_clone_is_done() -> Result<()> {
    let kit = kit("hookchild", 1)?;
    for point in ["post-restore", "pre-boot"] {
        put(
            &kit.golden
                .root()
                .join(format!("etc/ka/hooks.d/10-daemon.{point}")),
            LEAVES_CHILDREN,
        )?;
    }
    let disk = kit.same_disk("n1")?;
    let before = Traces::of(kit.lab.scratch().path())?;
    let server = kit.server(&["-n", "1"])?;
    let node = kit.node(1, &server, &disk, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("left running by a program of the clone, and ended: ")?;
    let after = Traces::of(kit.lab.scratch().path())?;
    ensure!(after == before, "left: {after:#?}, was: {before:#?}");
    is_free(&disk)
}

/// The node holds a complete clone and looks for a server that was killed. It has no connection to say
/// farewell to, but a disk to undo.
#[test]
fn a_node_that_keeps_its_clone_and_is_cut_off_leaves_no_partition() -> Result<()> {
    let kit = kit("cutkept", 2)?;
    put(
        &kit.golden.root().join("etc/ka/hooks.d/95-slow.pre-boot"),
        "#!/bin/sh\nread name < /etc/hostname\n[ \"$name\" = quick ] || busybox sleep 60\n",
    )?;
    let disks = [kit.same_disk("quick")?, kit.same_disk("slow")?];
    let before = Traces::of(kit.lab.scratch().path())?;
    let mut server = kit.server(&["-n", "2"])?;
    let mut quick = kit.node(1, &server, &disks[0], &["--name", "quick", "--retries", "8"])?;
    let mut slow = kit.node(2, &server, &disks[1], &["--name", "slow", "--retries", "8"])?;
    quick.wait_for("the clone is complete; it is made bootable")?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    quick.wait_for("the clone is kept")?;
    for node in [&mut quick, &mut slow] {
        node.signal(Signal::SIGINT)?;
    }
    for (node, disk) in [quick, slow].into_iter().zip(&disks) {
        let node = ended_in_order(node)?;
        node.expect(3)?;
        ensure!(!disk.partition(2).exists(), "a partition is left\n{}", node.all());
        ensure!(!disk.looks_finished()?, "the disk looks finished");
        is_free(disk)?;
    }
    let after = Traces::of(kit.lab.scratch().path())?;
    ensure!(after == before, "left: {after:#?}, was: {before:#?}");
    Ok(())
}

fn is_free(disk: &Disk) -> Result<()> {
    let open = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk.checked()?);
    Ok(open.map(drop)?)
}

/// The end of either side must not wait for a command that reads no more, or one that has read all and goes
/// on.
#[test]
fn a_stream_that_is_cut_off_ends_the_commands_on_both_sides_with_their_children() -> Result<()> {
    for (label, command, of_node) in [
        ("cutread", "exec < /dev/null; sleep 3003 & sleep 3004", true),
        ("cutrest", "cat > /dev/null; sleep 3003 & sleep 3004", true),
        ("cutserver", "cat > /dev/null; sleep 3003 & sleep 3004", false),
    ] {
        let lab = Lab::new(label, 1, None)?;
        let mark = lab.scratch().path().join("ka-mark");
        let before = Traces::of(lab.scratch().path())?;
        let command = format!("MARK={}; {command}", mark.display());
        let mut server = lab.server(&["-n", "1", "--rounds", "1", "-e", "head -c 3000000 /dev/zero"])?;
        let mut node = lab.client(1, &server, &["--retries", "1", "-e", &command])?;
        node.wait_until("the command ran", |node| {
            Ok(descendants(node.pid())?.contains("3004"))
        })?;
        thread::sleep(Duration::from_millis(300));
        let family = children_of(node.pid())?;
        let began = Instant::now();
        match of_node {
            true => node.signal(Signal::SIGINT)?,
            false => server.run.signal(Signal::SIGINT)?,
        }
        let node = ended_in_order(node)?;
        ensure!(
            began.elapsed() < AT_ONCE,
            "it took {:?}:\n{}",
            began.elapsed(),
            node.all()
        );
        if !server.run.has_ended()? {
            server.run.signal(Signal::SIGTERM)?;
        }
        ended_in_order(server.run)?;
        expect_gone(&family).with_context(|| format!("{label}: a child of the command"))?;
        let after = Traces::of(lab.scratch().path())?;
        ensure!(after == before, "left: {after:#?}");
        ensure!(processes_that_say("ka-mark")?.is_empty());
    }
    Ok(())
}

/// Returns the processes below this one, at any depth.
fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        for thread in fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                next.push(child.parse()?);
                all.push(child.parse()?);
            }
        }
    }
    Ok(all)
}

fn descendants(pid: u32) -> Result<String> {
    let lines = children_of(pid)?
        .into_iter()
        .map(|pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
    Ok(lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect())
}
