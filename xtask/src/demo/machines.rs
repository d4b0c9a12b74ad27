//! Two bare machines, from power-on to the login prompt of their own disks.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ka_tests::disk::GIB;
use ka_tests::interrupt;
use ka_tests::process::Running;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::machine::{Bus, Card, Powered, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, CLONE_LIMIT, FULL_DHCP, Node, READY, Room};

use super::show::{Show, describe};
use super::timetable::Timetable;
use crate::progress::Progress;

/// Desc of the clones. The golden disk is smaller than either node's.
const DESC: &str = "# 1 = /, 2 = /srv, 3 = swap\nlinux 1400 boot\nlinux fill\nswap 100\n";
/// Interval of looking at the server and the machines.
const POLL: Duration = Duration::from_millis(200);
/// Time limit of the server's boot image.
const READY_LIMIT: Duration = Duration::from_secs(600);
/// Last output of a machine that has booted.
const PROMPT: &str = " login: ";

/// Runs the demo. Fails if a machine does not boot as itself.
pub(super) fn run(plain: bool, times: &mut Timetable) -> Result<()> {
    let (room, nodes) = prepare()?;
    times.add("making the golden disk");
    introduce(&room, &nodes);
    let mut show = Show::new(room.lab.scratch().path(), &nodes, plain)?;
    // Nobody can type into the server's pane.
    let server = room.server(FULL_DHCP, &nodes, DESC)?.arg("--yes");
    let mut server = show.start(server)?;
    wait_until_ready(&mut show, &mut server)?;
    times.add("making the boot image");
    let on = nodes
        .iter()
        .map(|node| {
            let watcher = show.watcher(&node.machine.spec().name)?;
            room.power_on_watched(node, Some(watcher))
        })
        .collect::<Result<Vec<_>>>()?;
    watch(&mut show, &mut server, &on)?;
    times.add("from power-on to the login prompt of both clones");
    let said = who_they_are(&nodes, &on)?;
    let ended = server.wait()?;
    let last = show.end(&ended.stdout)?;
    times.add("asking both clones who they are");
    println!("{last}\n\nThe clones, in their own words:\n{}", said.trim_end());
    ensure!(ended.code == Some(0), "ka-server: {}", ended.how());
    Ok(())
}

fn prepare() -> Result<(Room, Vec<Node>)> {
    let _progress = Progress::begin("golden disk: file systems, Debian, trial of KVM");
    let room = Room::new("demo", &golden::plan(Firmware::Bios))?;
    let specs = [
        Spec::new("n1", 1, Firmware::Bios, Bus::Virtio, Card::Virtio),
        Spec::new("n2", 2, Firmware::Bios, Bus::Ahci, Card::E1000),
    ];
    let nodes = specs
        .into_iter()
        .map(|mut spec| {
            spec.off_at_reset = false;
            room.node(spec, 3 * GIB)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((room, nodes))
}

fn introduce(room: &Room, nodes: &[Node]) {
    println!("Machines ({:?}), switched on with empty disks:", room.accel);
    for node in nodes {
        println!("  {}", describe(node));
    }
    println!(
        "\ngolden# ka-server -n 2 --yes --pxe eth0 --dhcp {FULL_DHCP} --nodes nodes -p {} desc --root {}\n",
        room.golden.disk().name(),
        room.golden.root().display()
    );
}

fn wait_until_ready(show: &mut Show<'_>, server: &mut Running) -> Result<()> {
    let since = Instant::now();
    while !server.said().contains(READY) {
        look(show, server, &[])?;
        ensure!(
            since.elapsed() < READY_LIMIT,
            "ka-server has made no boot image within {READY_LIMIT:?}"
        );
    }
    Ok(())
}

/// Shows the run until both machines show the login prompt of their own disks.
fn watch(show: &mut Show<'_>, server: &mut Running, on: &[Powered]) -> Result<()> {
    let limit = CLONE_LIMIT + BOOT_LIMIT;
    let mut patience: Vec<_> = on.iter().map(|powered| powered.console.patience(limit)).collect();
    while !on.iter().all(|powered| powered.console.text().contains(PROMPT)) {
        look(show, server, on)?;
        for (powered, patience) in on.iter().zip(&mut patience) {
            ensure!(!powered.console.is_closed(), "a machine went off");
            if let Err(late) = patience.check(powered.console.text().len()) {
                bail!("a login prompt {late}");
            }
        }
    }
    Ok(())
}

/// Looks at everything once, after a pause.
fn look(show: &mut Show<'_>, server: &mut Running, on: &[Powered]) -> Result<()> {
    thread::sleep(POLL);
    interrupt::check()?;
    show.refresh(server, on)?;
    server.expect_no_failure()
}

fn who_they_are(nodes: &[Node], on: &[Powered]) -> Result<String> {
    let mut said = String::new();
    for (node, powered) in nodes.iter().zip(on) {
        powered.login(Mark::default(), BOOT_LIMIT)?;
        let is = powered
            .console
            .command("hostname; findmnt -n -o SOURCE,UUID /; cat /etc/machine-id; uptime -p")?;
        writeln!(
            said,
            "  {}: {}",
            node.machine.spec().name,
            is.trim().replace('\n', ", ")
        )?;
    }
    Ok(said)
}
