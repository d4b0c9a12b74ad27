//! The golden node, the three nodes, and the run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{Golden, Plan, Volume};
use ka_tests::lab::Lab;
use ka_tests::tree;

/// Partition table of the golden disk: MBR with logical partitions.
const GOLDEN_TABLE: &str = "label: dos
size=64MiB,type=82
size=2GiB,type=83,bootable
type=5
size=512MiB,type=83
type=83
";

/// Desc of the clones: every size differs, and two file systems do.
const DESC: &str = "# 1 = swap, 2 = /, 3 = extended, 5 = /home, 6 = /srv
swap 48
linux 1200 boot
extended fill
logical linux 320 fs=xfs label=home
logical linux fill fs=btrfs
";

/// Disks of the nodes: size in bytes, and sector size in bytes.
const DISKS: [(u64, u32); 3] = [(2 * GIB, 512), (3 * GIB, 4096), (6 * GIB, 512)];

/// Directory left out with `-x`.
pub(super) const EXCLUDED: &str = "var/cache/apt";

/// Network, disks and golden system of the demo. The lab is dropped last, because it holds the directory of
/// the rest.
pub(super) struct Stage {
    pub(super) disks: Vec<Disk>,
    pub(super) golden: Golden,
    desc: PathBuf,
    pub(super) lab: Lab,
}

impl Stage {
    /// Builds network and disks and unpacks the golden system.
    pub(super) fn new(archive: &Path) -> Result<Self> {
        let lab = Lab::new("demo", DISKS.len(), None)?;
        let golden = Golden::new(lab.scratch(), "golden", &golden_plan())?;
        debian::unpack(archive, golden.root()).context("unpacking the golden Debian")?;
        fs::write(golden.root().join("etc/fstab"), golden.fstab())?;
        fs::write(golden.root().join("etc/hostname"), "golden\n")?;
        fs::write(golden.root().join("home/readme"), "a golden home\n")?;
        tree::hostile(&golden.root().join("srv/hard-cases"))?;
        let disks = DISKS
            .iter()
            .enumerate()
            .map(|(index, (size, sector))| {
                Disk::new(lab.scratch(), &format!("n{}", index + 1), *size, *sector)
            })
            .collect::<Result<Vec<_>>>()?;
        let desc = lab.scratch().path().join("desc");
        fs::write(&desc, DESC)?;
        Ok(Self {
            disks,
            golden,
            desc,
            lab,
        })
    }

    /// Number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.disks.len()
    }

    /// Prints the golden node, the nodes and the desc.
    pub(super) fn describe(&self) -> Result<()> {
        let drive = self.golden.disk().name();
        println!(
            "\nGolden node: {} of 4 GiB, MBR, {}",
            drive,
            self.golden.root().display()
        );
        for line in fs::read_to_string(self.golden.root().join("etc/fstab"))?.lines() {
            println!("    {line}");
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let (size, sector) = DISKS[index];
            println!(
                "Node n{}: {} of {} GiB, sectors of {sector} bytes",
                index + 1,
                disk.name(),
                size / GIB
            );
        }
        println!("Desc for {drive}:");
        for line in DESC.lines() {
            println!("    {line}");
        }
        println!(
            "\n  n1$ ka-client --join-file join --disk {drive}=/dev/{}",
            self.disks[0].name()
        );
        println!("  (n2 and n3 likewise)");
        println!(
            "golden# ka-server -n 3 -p {drive} desc -r none -x /{EXCLUDED} --root {}\n",
            self.golden.root().display()
        );
        Ok(())
    }

    /// Clones all nodes. The server's output is shown as it comes.
    pub(super) fn clone_all(&self) -> Result<()> {
        let drive = self.golden.disk().name();
        let join = self.lab.scratch().path().join("join");
        let mut server = self
            .lab
            .server_program()?
            .args(["-n", &self.nodes().to_string(), "-p", &drive])
            .arg(&self.desc)
            .args(["-r", "none", "-x", &format!("/{EXCLUDED}"), "--root"])
            .arg(self.golden.root())
            .arg("--join-file")
            .arg(&join)
            .shown()
            .spawn()?;
        server.wait_until("it could be joined", |_| {
            Ok(fs::metadata(&join).is_ok_and(|meta| meta.len() > 0))
        })?;
        let mut nodes = Vec::new();
        for (index, disk) in self.disks.iter().enumerate() {
            let choice = format!("{drive}={}", disk.checked()?.display());
            let node = self
                .lab
                .stranger_program(index + 1)?
                .arg("--join-file")
                .arg(&join);
            nodes.push(node.args(["--disk", &choice]).spawn()?);
        }
        let ended = server.wait()?;
        for (index, node) in nodes.into_iter().enumerate() {
            let ended = node.wait()?;
            ensure!(
                ended.code == Some(0),
                "n{}: {}\n{}",
                index + 1,
                ended.how(),
                ended.all()
            );
            self.lab.expect_unmounted(index + 1)?;
        }
        ensure!(ended.code == Some(0), "ka-server: {}", ended.how());
        Ok(())
    }

    /// File systems of a clone as the desc makes them, root first.
    pub(super) fn clone_volumes() -> Vec<Volume> {
        vec![
            Volume::new(2, "ext4", "/"),
            Volume::new(5, "xfs", "/home"),
            Volume::new(6, "btrfs", "/srv"),
            Volume::new(1, "swap", "none"),
        ]
    }
}

fn golden_plan() -> Plan {
    Plan {
        size: 4 * GIB,
        sector_size: 512,
        table: GOLDEN_TABLE,
        volumes: vec![
            Volume::new(2, "ext4", "/"),
            Volume::new(5, "ext4", "/home"),
            Volume::new(6, "ext4", "/srv"),
            Volume::new(1, "swap", "none"),
        ],
        foreign_fstab: "# the golden node's own\nproc /proc proc defaults 0 0\n",
    }
}
