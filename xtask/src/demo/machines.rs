//! Two bare machines, from power-on to the login prompt of their own disks: what each says, line by line, on one screen.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ka_tests::disk::GIB;
use ka_tests::process::Running;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::machine::{Bus, Card, Powered, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, CLONE_LIMIT, FULL_DHCP, Node, Room};

/// The golden disk is smaller than either node's.
const DESC: &str = "# 1 = /, 2 = /srv, 3 = swap\nlinux 1400 boot\nlinux fill\nswap 100\n";
/// Columns of a line: the rest of a long one is cut off, so that the two machines stay apart on a screen.
const COLUMNS: usize = 110;
/// How often the server's output is looked at.
const POLL: Duration = Duration::from_millis(200);
/// What a machine says last.
const PROMPT: &str = " login: ";

/// Runs the demo and fails when a machine does not come up as itself.
pub(super) fn run() -> Result<()> {
    println!("A golden Debian with kernel and boot loader by debootstrap (kept for the next time) …");
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
    describe(&room, &nodes);
    let mut server = room.serve(FULL_DHCP, &nodes, DESC)?;
    let started = Instant::now();
    let on = nodes
        .iter()
        .map(|node| room.power_on_watched(node, Some(prefixed(&node.machine.spec().name))))
        .collect::<Result<Vec<_>>>()?;
    watch(&mut server, &on)?;
    for powered in &on {
        powered.login(Mark::default(), BOOT_LIMIT)?;
    }
    let seconds = started.elapsed().as_secs();
    let mut said = String::new();
    for (node, powered) in nodes.iter().zip(&on) {
        let is = powered
            .console
            .command("hostname; findmnt -n -o SOURCE,UUID /; cat /etc/machine-id; uptime -p")?;
        writeln!(
            said,
            "{}: {}",
            node.machine.spec().name,
            is.trim().replace('\n', ", ")
        )?;
    }
    let ended = server.wait()?;
    println!("\n{}", ended.stdout.trim());
    println!("\nFrom power-on to login as a clone in {seconds} s:\n{said}");
    ensure!(ended.code == Some(0), "ka-server: {}", ended.how());
    Ok(())
}

fn describe(room: &Room, nodes: &[Node]) {
    println!("\nMachines ({:?}), switched on with empty disks:", room.accel);
    for node in nodes {
        let spec = node.machine.spec();
        println!(
            "  {}: disk on {:?}, card {:?} {}",
            spec.name, spec.bus, spec.card, spec.mac
        );
    }
    println!(
        "\ngolden# ka-server -n 2 --pxe eth0 --dhcp {FULL_DHCP} --nodes nodes -p {} desc --root {}\n",
        room.golden.disk().name(),
        room.golden.root().display()
    );
}

/// Shows what the server says until both machines ask for a login from their own disks.
fn watch(server: &mut Running, on: &[Powered]) -> Result<()> {
    let mut shown = 0;
    let limit = CLONE_LIMIT + BOOT_LIMIT;
    let mut patience: Vec<_> = on.iter().map(|powered| powered.console.patience(limit)).collect();
    while !on.iter().all(|powered| powered.console.text().contains(PROMPT)) {
        let said = server.said();
        while let Some(length) = said.get(shown..).and_then(|rest| rest.find('\n')) {
            print_line("server", &said[shown..shown + length]);
            shown += length + 1;
        }
        for (powered, patience) in on.iter().zip(&mut patience) {
            ensure!(!powered.console.is_closed(), "a machine went off");
            if let Err(late) = patience.check(powered.console.text().len()) {
                bail!("a login prompt {late}");
            }
        }
        server.has_ended().context("looking at the server")?;
        ka_tests::interrupt::check()?;
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn prefixed(name: &str) -> Box<dyn Fn(&str) + Send> {
    let name = name.to_owned();
    Box::new(move |line| print_line(&name, line))
}

fn print_line(who: &str, line: &str) {
    let line: String = line.trim_end().chars().take(COLUMNS).collect();
    // What our own commands print on the console is shown at the end.
    if !line.is_empty() && !line.starts_with('<') {
        println!("{who:<6} | {line}");
    }
}
