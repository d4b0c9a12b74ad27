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

/// Time limit from power-on to a login prompt under emulation, with two machines at once;
/// [`crate::qemu::pace`] stretches it.
pub const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// Time limit from power-on to the reset of a cloned machine: the golden system has 9000 files and 400 MB.
pub const CLONE_LIMIT: Duration = Duration::from_secs(900);
/// Time limit of a server: two clonings and two boots on a machine several times slower than ours. It ends
/// what a test that died left.
pub const SERVER_LIMIT: Duration = Duration::from_secs(5400);
/// Value of `--dhcp` when no other server gives addresses.
pub const FULL_DHCP: &str = "full:10.77.0.50-10.77.0.99";
/// Value of `--append`: machines of the lab have a serial line and no screen.
const SERIAL: &str = "console=ttyS0,115200 quiet";

/// A golden system and the network it clones onto.
#[derive(Debug)]
pub struct Room {
    /// Golden system that the server sends.
    pub golden: Golden,
    /// Accelerator of the machines.
    pub accel: Accel,
    /// Network and directory of the machines. It is dropped after the rest, because it holds their directory.
    pub lab: Lab,
    _place: Seats,
}

/// A machine and its disk.
#[derive(Debug)]
pub struct Node {
    /// Machine in the network.
    pub machine: Machine,
    /// Disk of the machine.
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

    /// Makes a room with the golden system of this archive.
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

    /// Makes a machine with a disk of this size.
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

    /// Switches a machine on; `watcher` gets each line of its console.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn power_on_watched(&self, node: &Node, watcher: Option<Watcher>) -> Result<Powered> {
        let (scratch, network) = (self.lab.scratch(), self.lab.network());
        node.machine
            .power_on_watched(scratch, network, &node.disk, self.accel, watcher)
    }

    /// Starts a server that boots machines from its network and clones the golden system onto these. It calls
    /// them `NAME-clone`. `dhcp` is its `--dhcp`, and `desc` the desc of the golden drive.
    ///
    /// # Errors
    /// It ends before machines may come; the error repeats its output.
    pub fn serve(&self, dhcp: &str, nodes: &[Node], desc: &str) -> Result<Running> {
        let mut server = self.server(dhcp, nodes, desc)?.spawn()?;
        server.wait_for(READY)?;
        Ok(server)
    }

    /// Returns the command line of that server. It prints [`READY`] when machines may be switched on.
    ///
    /// # Errors
    /// No space.
    pub fn server(&self, dhcp: &str, nodes: &[Node], desc: &str) -> Result<Program> {
        let scratch = self.lab.scratch().path();
        let server = Program::new(binaries::path("ka-server")?)
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
            .tethered();
        Ok(server)
    }

    /// Switches these machines on and waits until each has been cloned and resets, which switches it off.
    ///
    /// # Errors
    /// One is no clone; the error repeats its last output and the server's.
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

    /// Makes a file in the lab's directory.
    ///
    /// # Errors
    /// No space.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.lab.scratch().path().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Makes a file for `--nodes` that arms these machines and names them `NAME-clone`.
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

/// Returns the end of a text, for errors.
#[must_use]
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Lines that an error repeats.
const LAST_LINES: usize = 40;
/// The server's message that machines may be switched on.
pub const READY: &str = "boot server on";
