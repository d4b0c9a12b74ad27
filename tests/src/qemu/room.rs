//! A machine room: a golden Debian, a `ka-server` that boots machines from the network, and the machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::binaries;
use crate::debian;
use crate::disk::Disk;
use crate::golden::{Golden, Plan};
use crate::lab::Lab;
use crate::process::{Program, Running};
use crate::qemu::accel::{self, Accel};
use crate::qemu::console::Watcher;
use crate::qemu::golden;
use crate::qemu::machine::{Machine, Powered, Spec};
use crate::qemu::seats::{self, Seats};

/// From power-on to a login prompt under emulation, two machines at once; stretched as [`crate::qemu::pace`] says.
pub const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// From power-on to the reset of a cloned machine: the golden system has 9000 files and 400 MB.
pub const CLONE_LIMIT: Duration = Duration::from_secs(900);
/// Two clonings and two boots on a machine several times slower than ours: it ends what a test that died left.
pub const SERVER_LIMIT: Duration = Duration::from_secs(5400);
/// What to give after `--dhcp` when nobody else gives addresses.
pub const FULL_DHCP: &str = "full:10.77.0.50-10.77.0.99";
/// What to give after `--append`: machines of the lab have a serial line and no screen.
const SERIAL: &str = "console=ttyS0,115200 quiet";

/// A golden system and the network it clones onto.
#[derive(Debug)]
pub struct Room {
    /// The golden system.
    pub golden: Golden,
    /// What the machines run with.
    pub accel: Accel,
    /// The network. It goes after the rest: it holds their directory.
    pub lab: Lab,
    _place: Seats,
}

/// A machine and its disk.
#[derive(Debug)]
pub struct Node {
    /// The machine.
    pub machine: Machine,
    /// Its disk.
    pub disk: Disk,
}

impl Room {
    /// Makes the golden system, and room for one more host beside the machines.
    ///
    /// # Errors
    /// Not root, a tool or a package is missing, or no space.
    pub fn new(label: &str, plan: &Plan) -> Result<Self> {
        Self::with_golden(label, &debian::bootable()?, plan)
    }

    /// The same with the golden system of this archive.
    ///
    /// # Errors
    /// As [`Room::new`].
    pub fn with_golden(label: &str, archive: &Path, plan: &Plan) -> Result<Self> {
        let place = seats::take_room();
        let lab = Lab::new(label, 1, None)?;
        let golden = golden::make_from(archive, lab.scratch(), plan)?;
        let accel = accel::choose(&golden::kernel(golden.root())?)?;
        Ok(Self {
            golden,
            accel,
            lab,
            _place: place,
        })
    }

    /// A machine with a disk of this size.
    ///
    /// # Errors
    /// No space, or no firmware.
    pub fn node(&self, spec: Spec, disk_bytes: u64) -> Result<Node> {
        let disk = Disk::new(self.lab.scratch(), &spec.name, disk_bytes, 512)?;
        let machine = Machine::new(self.lab.scratch(), self.lab.network(), spec)?;
        Ok(Node { machine, disk })
    }

    /// Switches a machine on.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn power_on(&self, node: &Node) -> Result<Powered> {
        self.power_on_watched(node, None)
    }

    /// The same with somebody who sees each line the machine says.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn power_on_watched(&self, node: &Node, watcher: Option<Watcher>) -> Result<Powered> {
        let (scratch, network) = (self.lab.scratch(), self.lab.network());
        node.machine
            .power_on_watched(scratch, network, &node.disk, self.accel, watcher)
    }

    /// Starts a server that boots machines from its network and clones the golden system onto these, which it calls
    /// `NAME-clone`: with `dhcp` as its `--dhcp`, and `desc` for the golden drive.
    ///
    /// # Errors
    /// It ends before machines may come; the error repeats what it said.
    pub fn serve(&self, dhcp: &str, nodes: &[Node], desc: &str) -> Result<Running> {
        let scratch = self.lab.scratch().path();
        let mut server = Program::new(binaries::path("ka-server")?)
            .args(["-n", &nodes.len().to_string(), "--pxe", "eth0", "--dhcp", dhcp])
            .args(["--append", SERIAL, "--nodes"])
            .arg(self.nodes_file(nodes)?)
            .args(["-p", &self.golden.disk().name()])
            .arg(self.file("desc", desc)?)
            .arg("--root")
            .arg(self.golden.root())
            .arg("--state-dir")
            .arg(scratch.join("server-state"))
            .arg("--log-dir")
            .arg(scratch.join("logs"))
            .env("KA_STATIC_CLIENT", binaries::static_client()?)
            .inside(self.lab.network().golden())
            .limit(SERVER_LIMIT)
            .tethered()
            .spawn()?;
        server.wait_for(READY)?;
        Ok(server)
    }

    /// Switches these machines on and waits until each has been cloned and resets, which switches it off.
    ///
    /// # Errors
    /// One is no clone; the error repeats what it and the server said last.
    pub fn clone_all(&self, nodes: &[Node], server: &Running) -> Result<()> {
        let on = nodes
            .iter()
            .map(|node| self.power_on(node))
            .collect::<Result<Vec<_>>>()?;
        for (node, powered) in nodes.iter().zip(on) {
            let text = powered.wait_off(CLONE_LIMIT)?;
            let finished = format!("({}) is finished", node.machine.mac());
            ensure!(
                server.said().contains(&finished),
                "{} was not cloned:\n{}",
                node.machine.spec().name,
                last_lines(&text)
            );
        }
        Ok(())
    }

    /// A file of the lab's directory.
    ///
    /// # Errors
    /// No space.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.lab.scratch().path().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A file for `--nodes` that arms these machines and names them `NAME-clone`.
    ///
    /// # Errors
    /// No space.
    pub fn nodes_file(&self, nodes: &[Node]) -> Result<PathBuf> {
        let lines = nodes
            .iter()
            .map(|node| format!("{} {}-clone\n", node.machine.mac(), node.machine.spec().name));
        self.file("nodes", &lines.collect::<String>())
    }
}

/// The end of a text, for errors.
#[must_use]
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// How many lines an error repeats.
const LAST_LINES: usize = 40;
/// What the server says when machines may be switched on.
const READY: &str = "boot server on";
