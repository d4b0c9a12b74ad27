//! The start of most tests: a lab, a small golden system, and runs of the real binaries between them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ka_tests::binaries;
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::{Disk, GIB, MIB};
use ka_tests::golden::{self, Golden, MountedTree, Plan, Volume};
use ka_tests::lab::{Lab, Server};
use ka_tests::process::{Ended, Program, Running};

/// A golden system in a lab. Fields are dropped in this order: the lab's directory goes last.
pub(crate) struct Kit {
    pub(crate) golden: Golden,
    pub(crate) plan: Plan,
    pub(crate) lab: Lab,
}

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) server: Ended,
    /// Results of the nodes, in the order of the disks given.
    pub(crate) nodes: Vec<Ended>,
}

impl Outcome {
    /// Insists that all of it went well.
    pub(crate) fn expect_success(&self) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            node.expect(0)
                .with_context(|| format!("node {}; the server said:\n{}", index + 1, self.server.all()))?;
        }
        self.server.expect(0).context("the server").map(drop)
    }

    /// Insists that the run of a killed server with two nodes, one of them done, was taken up and ended well.
    pub(crate) fn expect_taken_up(&self) -> Result<()> {
        self.expect_success()?;
        self.server
            .says("1 node is done already")?
            .says("2 nodes done")
            .map(drop)
    }
}

/// Makes a shell script that stands for a program.
pub(crate) fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Returns a plan with root on ext4 and swap, MBR, 512 MiB: for every test that is not about layouts.
pub(crate) fn small_plan() -> Plan {
    Plan {
        size: GIB / 2,
        sector_size: 512,
        table: "label: dos\nsize=16MiB,type=82\ntype=83,bootable\n",
        volumes: vec![Volume::new(2, "ext4", "/"), Volume::new(1, "swap", "none")],
        foreign_fstab: "# golden\n",
    }
}

impl Kit {
    /// Makes a lab with a small golden system and `nodes` nodes.
    pub(crate) fn small(label: &str, nodes: usize) -> Result<Self> {
        Self::with_plan(label, nodes, small_plan())
    }

    /// Makes a lab with this golden system, filled with a small tree.
    pub(crate) fn with_plan(label: &str, nodes: usize, plan: Plan) -> Result<Self> {
        Self::in_lab(Lab::new(label, nodes, None)?, plan)
    }

    /// Makes a small lab on lines of 100 Mbit/s with 60 MB more to send: faults have some seconds to happen.
    pub(crate) fn slow(label: &str, nodes: usize) -> Result<Self> {
        let kit = Self::in_lab(Lab::new(label, nodes, Some(100_000_000))?, small_plan())?;
        for index in 0..6 {
            fs::write(
                kit.golden.root().join(format!("home/big{index}")),
                ka_tests::tree::noise(10_000_000, index),
            )?;
        }
        Ok(kit)
    }

    fn in_lab(lab: Lab, plan: Plan) -> Result<Self> {
        let golden = Golden::new(lab.scratch(), "golden", &plan)?;
        golden::fill(&golden)?;
        Ok(Self { golden, plan, lab })
    }

    /// Makes a disk for a node.
    pub(crate) fn disk(&self, name: &str, size: u64, sector_size: u32) -> Result<Disk> {
        Disk::new(self.lab.scratch(), name, size, sector_size)
    }

    /// Makes a disk as large as the golden one.
    pub(crate) fn same_disk(&self, name: &str) -> Result<Disk> {
        self.disk(name, self.plan.size, self.plan.sector_size)
    }

    /// Writes a desc file for the golden drive, and returns the arguments with `-p`.
    pub(crate) fn desc(&self, text: &str) -> Result<[String; 3]> {
        let path = self.lab.scratch().path().join("desc");
        fs::write(&path, text)?;
        Ok([
            "-p".to_owned(),
            self.golden.disk().name(),
            path.display().to_string(),
        ])
    }

    /// Starts a server that clones the golden system, and waits until nodes may come. A system without a boot
    /// loader could not boot, so the server gets the option that allows it.
    pub(crate) fn server(&self, args: &[&str]) -> Result<Server> {
        let without = !self.golden.root().join("usr/sbin/grub-install").exists() && !args.contains(&"-r");
        let loader: &[&str] = if without { &["-r", "none"] } else { &[] };
        self.lab
            .server(&[&["--root", &self.root()], loader, args].concat())
    }

    /// Starts a node (from 1) that takes a disk for the golden drive.
    pub(crate) fn node(&self, number: usize, server: &Server, disk: &Disk, args: &[&str]) -> Result<Running> {
        let choice = self.choice(disk)?;
        self.lab
            .client(number, server, &[&["--disk", &choice], args].concat())
    }

    /// Returns the value of `--disk`.
    pub(crate) fn choice(&self, disk: &Disk) -> Result<String> {
        Ok(format!(
            "{}={}",
            self.golden.disk().name(),
            disk.checked()?.display()
        ))
    }

    /// Makes a whole run: one node for each disk.
    pub(crate) fn clone_to(&self, disks: &[&Disk], args: &[&str]) -> Result<Outcome> {
        let count = disks.len().to_string();
        let server = self.server(&[&["-n", &count], args].concat())?;
        let nodes = disks
            .iter()
            .enumerate()
            .map(|(index, disk)| self.node(index + 1, &server, disk, &[]));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        finish(server, nodes)
    }

    /// Compares a clone whose file systems are these with the golden tree.
    pub(crate) fn compare(&self, disk: &Disk, volumes: &[Volume], allowed: &Allowed) -> Result<()> {
        let clone = self.mounted(disk, volumes)?;
        compare::trees(self.golden.root(), clone.root(), allowed)?
            .expect_same()
            .map(drop)
    }

    /// Insists that a clone has the golden system's own file systems, and that only fstab has changed.
    pub(crate) fn expect_clone(&self, disk: &Disk) -> Result<()> {
        self.compare(disk, &self.plan.volumes, &Allowed::for_system())
    }

    /// Mounts a clone's file systems.
    pub(crate) fn mounted(&self, disk: &Disk, volumes: &[Volume]) -> Result<MountedTree> {
        disk.show_partitions()?;
        let root = self.lab.scratch().dir(&format!("clone-{}", disk.name()))?;
        MountedTree::new(disk, volumes, &root).context("mounting the clone")
    }

    fn root(&self) -> String {
        self.golden.root().display().to_string()
    }
}

/// Waits for the server and all nodes.
pub(crate) fn finish(server: Server, nodes: Vec<Running>) -> Result<Outcome> {
    let nodes = nodes.into_iter().map(Running::wait).collect::<Result<Vec<_>>>();
    let server = server.run.wait()?;
    let nodes = nodes.with_context(|| format!("the server said:\n{}", server.all()))?;
    Ok(Outcome { server, nodes })
}

/// Returns a `ka-status` at the server's machine, with the key in `state`.
pub(crate) fn status_program(lab: &Lab, state: &Path) -> Result<Program> {
    let program = Program::new(binaries::path("ka-status")?)
        .arg("--state-dir")
        .arg(state);
    Ok(program.inside(lab.network().golden()))
}

/// A server that waits for two nodes, and one of them.
pub(crate) struct Waiting {
    pub(crate) lab: Lab,
    pub(crate) server: Server,
    pub(crate) node: Running,
}

impl Waiting {
    /// Starts both; the node has joined.
    pub(crate) fn new(label: &str, node_options: &[&str]) -> Result<Self> {
        let lab = Lab::new(label, 1, None)?;
        let server = lab.server(&["-n", "2", "-e", "true"])?;
        let mut node = lab.client(1, &server, &[node_options, &["-e", "cat"]].concat())?;
        node.wait_for("joined session")?;
        Ok(Self { lab, server, node })
    }

    /// Returns the server's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.lab.server_state()
    }

    /// Returns [`status_program`] with these arguments.
    pub(crate) fn status(&self, state: &Path, args: &[&str]) -> Result<Program> {
        Ok(status_program(&self.lab, state)?.args(args))
    }
}

/// Starts a server beside the lab's own, with a key in `state` and a run whose code fits it: consistent in
/// itself, and useless.
pub(crate) fn other_server(lab: &Lab, state: &Path) -> Result<Running> {
    let join = lab.scratch().path().join("own-join");
    let mut server = Program::new(binaries::path("ka-server")?)
        .arg("--state-dir")
        .arg(state)
        .arg("--join-file")
        .arg(&join)
        .args(["-n", "1", "-e", "true", "--control-port", "0", "--data-port", "0"])
        .inside(lab.network().golden())
        .spawn()?;
    server.wait_until("it had a key and a run", |_| Ok(join.is_file()))?;
    Ok(server)
}

/// Makes a file of noise in the lab's directory.
pub(crate) fn payload(lab: &Lab, bytes: usize) -> Result<PathBuf> {
    let path = lab.scratch().path().join("payload");
    fs::write(&path, ka_tests::tree::noise(bytes, 7))?;
    Ok(path)
}

/// Insists that two files have the same contents.
pub(crate) fn expect_same_file(one: &Path, other: &Path) -> Result<()> {
    let (one_bytes, other_bytes) = (fs::read(one)?, fs::read(other)?);
    anyhow::ensure!(
        one_bytes == other_bytes,
        "{} has {} bytes, {} has {}, and they differ",
        one.display(),
        one_bytes.len(),
        other.display(),
        other_bytes.len()
    );
    Ok(())
}

/// Returns MiB in bytes, as `Disk` takes them.
pub(crate) const fn mib(count: u64) -> u64 {
    count * MIB
}
