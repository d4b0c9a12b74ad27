//! Real Debians: partitioned, formatted and filled on a loop disk, with a boot loader of their own, then
//! cloned.
//!
//! With a BIOS the clone is made on this machine, in seconds. A clone with an EFI system partition is made in
//! a machine that boots over the network: this kernel need not have vfat. Either then comes up from its own
//! disk in a machine.

mod layouts;
mod loaders;
mod table;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::judge::Names;
use super::{Case, Expected, Outcome, Part};
use crate::debian::System;
use crate::disk::{Disk, GIB};
use crate::golden::{self, MountedTree, Plan, Volume};
use crate::process::Ended;
use crate::qemu::console::{Console, Mark};
use crate::qemu::firmware::Firmware;
use crate::qemu::machine::{Bus, Card, Powered, Spec};
use crate::qemu::room::{BOOT_LIMIT, FULL_DHCP, Node, Room};
use crate::qemu::seats;

/// A real system, and the way to make its clone.
#[derive(Debug, Clone, Copy)]
struct Real {
    name: &'static str,
    system: &'static str,
    root: &'static str,
    loader: &'static str,
    initramfs: &'static str,
    part: Part,
    expected: Expected,
    archive: Archive,
    plan: fn() -> Plan,
    /// Makes the boot loader of the golden node.
    install: fn(&Room) -> Result<()>,
    firmware: Firmware,
    bus: Bus,
    /// More arguments of `ka-server`: devices that the machine that boots has, and this one has not.
    args: &'static [&'static str],
}

/// The archive that a golden system is unpacked from.
#[derive(Debug, Clone, Copy)]
enum Archive {
    /// An archive of the matrix itself.
    Of(System),
    /// The archive of the other tests, which CI has anyway.
    Bookworm(fn() -> Result<PathBuf>),
}

/// Returns the cases of real systems.
pub(super) fn cases() -> Vec<Case> {
    let case = |real: Real| Case {
        name: real.name,
        system: real.system,
        root: real.root,
        loader: real.loader,
        initramfs: real.initramfs,
        part: real.part,
        expected: real.expected,
        run: Box::new(move || real.run()),
    };
    table::ON_BIOS
        .into_iter()
        .chain(table::ON_UEFI)
        .map(case)
        .collect()
}

impl Real {
    fn run(&self) -> Result<Outcome> {
        let archive = match self.archive {
            Archive::Of(system) => system.archive()?,
            Archive::Bookworm(make) => make()?,
        };
        let plan = (self.plan)();
        let room = Room::with_golden(self.name, &archive, &plan)?;
        be_patient(room.golden.root())?;
        (self.install)(&room).context("giving the golden node its boot loader")?;
        let made = Made {
            real: self,
            plan,
            room,
        };
        if self.firmware.is_uefi() {
            made.over_the_network()
        } else {
            made.on_this_machine()
        }
    }

    fn node(&self, room: &Room) -> Result<Node> {
        let mut spec = Spec::new(self.name, 1, self.firmware, self.bus, Card::Virtio);
        spec.network_boot = self.firmware.is_uefi();
        room.node(spec, 4 * GIB)
    }
}

/// Lets the golden system and its clones wait longer for their disks. After a minute and a half systemd gives
/// a boot up; an emulated machine on a busy one needs more.
fn be_patient(root: &Path) -> Result<()> {
    let dir = root.join("etc/systemd/system.conf.d");
    fs::create_dir_all(&dir)?;
    let text = "[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n";
    Ok(fs::write(dir.join("lab.conf"), text)?)
}

/// A golden system that is ready to be cloned.
struct Made<'a> {
    real: &'a Real,
    plan: Plan,
    room: Room,
}

impl Made<'_> {
    fn on_this_machine(&self) -> Result<Outcome> {
        let (room, node) = (&self.room, self.real.node(&self.room)?);
        if let Some(outcome) = self.run_of_one(&node)? {
            return Ok(outcome);
        }
        node.disk.show_partitions()?;
        self.judge(&node.disk)?;
        if self.real.expected == Expected::Cloned {
            return Ok(Outcome::Cloned);
        }
        let _seat = seats::take(1);
        let powered = room.power_on(&node)?;
        self.comes_up(&node, &powered, self.real.name)?;
        shut_down(powered)?;
        Ok(Outcome::Boots)
    }

    /// Runs one node on a loop disk; returns the result if it is no clone.
    fn run_of_one(&self, node: &Node) -> Result<Option<Outcome>> {
        let room = &self.room;
        let root = room.golden.root().display().to_string();
        let fixed = ["--root", &root, "-n", "1"];
        let server = room.lab.server(&[&fixed, self.real.args].concat())?;
        let disk = format!("{}={}", room.golden.disk().name(), node.disk.checked()?.display());
        let args = ["--disk", &disk, "--name", self.real.name];
        let client = room.lab.client(1, &server, &args)?.wait()?;
        match client.code {
            Some(0) => server.run.wait()?.expect(0).map(|_| None),
            // The end came before the first write.
            Some(1) => {
                ensure!(
                    is_untouched(&node.disk)?,
                    "the disk was written: {}",
                    client.all()
                );
                Ok(Some(Outcome::Refused(error_line(&client))))
            }
            _ => Ok(Some(Outcome::Failed(error_line(&client)))),
        }
    }

    fn over_the_network(&self) -> Result<Outcome> {
        let room = &self.room;
        let nodes = [self.real.node(room)?];
        let _seat = seats::take(1);
        let server = room.serve(FULL_DHCP, &nodes, layouts::ON_UEFI)?;
        room.clone_all(&nodes, &server)
            .with_context(|| format!("the server said:\n{}", server.said()))?;
        let [node] = &nodes;
        node.disk.reread()?;
        node.disk.show_partitions()?;
        self.judge(&node.disk)?;
        let powered = room.power_on(node)?;
        self.comes_up(node, &powered, &format!("{}-clone", self.real.name))?;
        shut_down(powered)?;
        server.wait()?.expect(0)?.says("booted")?;
        Ok(Outcome::Boots)
    }

    /// Returns the volumes as a clone has them: firmware can read the clone's EFI system partition.
    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = self.plan.volumes.clone();
        for volume in volumes.iter_mut().filter(|volume| volume.mount == layouts::ESP) {
            volume.fs = "vfat";
        }
        volumes
    }

    /// Judges a clone that has not booted yet.
    fn judge(&self, disk: &Disk) -> Result<()> {
        let (scratch, volumes) = (self.room.lab.scratch(), self.volumes());
        let names = Names::of(self.room.golden.disk())?;
        let tree = MountedTree::new(disk, &volumes, &scratch.dir("judged")?)?;
        names.expect_none_below(tree.root())?;
        let esp = volumes.iter().find(|volume| volume.mount == layouts::ESP);
        if let Some(esp) = esp {
            names.expect_none_on_esp(scratch, &disk.partition(esp.partition))?;
        }
        let machine_id = |root: &Path| fs::read_to_string(root.join("etc/machine-id"));
        ensure!(
            machine_id(tree.root())? != machine_id(self.room.golden.root())?,
            "the clone has the golden machine-id"
        );
        let fstab = fs::read_to_string(tree.root().join("etc/fstab"))?;
        for volume in &volumes {
            let uuid = golden::tag(&disk.partition(volume.partition), "UUID")?;
            let names_it =
                |line: &str| line.starts_with(&format!("UUID={uuid}")) && line.contains(volume.mount);
            ensure!(
                fstab.lines().any(names_it),
                "fstab does not name {} of {uuid}:\n{fstab}",
                volume.mount
            );
        }
        Ok(())
    }

    /// Watches a clone from power-on to its own login, under this name, with its own root and swap.
    fn comes_up(&self, node: &Node, powered: &Powered, name: &str) -> Result<()> {
        powered.login(Mark::default(), BOOT_LIMIT)?;
        let console = &powered.console;
        let root = self.plan.volumes.first().context("a root")?;
        let own = golden::tag(&node.disk.partition(root.partition), "UUID")?;
        says(console, "findmnt -n -o UUID /", &own)?;
        says(console, "hostname", name)?;
        let source = match root.subvolume {
            Some(subvolume) => format!("[/{subvolume}]"),
            // The names of partitions are `/dev/vda1`, `/dev/nvme0n1p1`.
            None => format!("{}\n", root.partition),
        };
        says(console, "findmnt -n -o SOURCE /", &source)?;
        let failed = console.command("systemctl --failed --plain --no-legend")?;
        ensure!(failed.trim().is_empty(), "services that failed:\n{failed}");
        for volume in &self.volumes() {
            match volume.fs {
                "swap" => console.command("swapon --noheadings | grep -q .")?,
                fs => says(console, &format!("findmnt -n -o FSTYPE {}", volume.mount), fs)?,
            };
        }
        Ok(())
    }
}

fn says(console: &Console, command: &str, wanted: &str) -> Result<String> {
    let said = console.command(command)?;
    ensure!(said.contains(wanted), "{command} says {said} and not {wanted}");
    Ok(said)
}

fn shut_down(powered: Powered) -> Result<()> {
    powered.console.send("poweroff\n")?;
    powered.wait_off(BOOT_LIMIT).map(drop)
}

/// Returns true if a disk was never written to since it was made: its sparse file has no blocks.
fn is_untouched(disk: &Disk) -> Result<bool> {
    fs::File::open(disk.checked()?)?.sync_all()?;
    Ok(fs::metadata(disk.file())?.blocks() == 0)
}

/// Returns the line that a program ended with.
fn error_line(ended: &Ended) -> String {
    let line = ended.stderr.lines().rfind(|line| line.starts_with("error:"));
    line.map_or_else(|| ended.all(), ToOwned::to_owned)
}
