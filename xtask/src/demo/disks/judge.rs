//! Comparison of the clones by `sfdisk`, `blkid` and the kernel's own view of every file, without any code of
//! KA.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::Disk;
use ka_tests::golden::{self, By, MountedTree};
use ka_tests::process::Program;

use crate::demo::disks::stage::{EXCLUDED, Stage};

/// Judges every clone, prints the comparison, and returns the number of correct clones.
pub(super) fn all(stage: &Stage) -> Result<usize> {
    println!("\nComparing each clone with the golden tree, without any code of KA:");
    let mut right = 0;
    for (index, disk) in stage.disks.iter().enumerate() {
        match one(stage, disk) {
            Ok(lines) => {
                right += 1;
                println!("n{}: the same", index + 1);
                lines.iter().for_each(|line| println!("    {line}"));
            }
            Err(err) => println!("n{}: NOT the same: {err:#}", index + 1),
        }
    }
    println!(
        "compared for every name: kind, mode, owner, group, size, time in ns, device numbers, link targets,"
    );
    println!(
        "hard links, all extended attributes (ACLs, capabilities), contents byte by byte, holes; not compared:"
    );
    println!(
        "contents of /proc /sys /dev /run and /{EXCLUDED} (left at home), etc/fstab (checked line by line)."
    );
    Ok(right)
}

fn one(stage: &Stage, disk: &Disk) -> Result<Vec<String>> {
    disk.show_partitions()?;
    let mut said = vec![table(disk)?];
    let volumes = Stage::clone_volumes();
    let root = stage.lab.scratch().dir(&format!("judged-{}", disk.name()))?;
    let tree = MountedTree::new(disk, &volumes, &root).context("mounting the clone")?;
    let allowed = Allowed {
        other_filesystem: true,
        excluded: vec![PathBuf::from(EXCLUDED)],
        ..Allowed::for_system()
    };
    let found = compare::trees(stage.golden.root(), tree.root(), &allowed)?;
    found.expect_same()?;
    said.push(found.to_string());
    let fstab = fs::read_to_string(tree.root().join("etc/fstab"))?;
    ensure!(
        fstab.starts_with("# the golden node's own\nproc /proc"),
        "foreign lines of fstab changed:\n{fstab}"
    );
    for volume in &volumes {
        let device = disk.partition(volume.partition);
        let kind = golden::tag(&device, "TYPE")?;
        ensure!(
            kind == volume.fs,
            "{} is {kind}, not {}",
            device.display(),
            volume.fs
        );
        let spec = golden::spec(disk, volume, By::Uuid)?;
        let line = fstab
            .lines()
            .find(|line| line.starts_with(&spec))
            .with_context(|| format!("no {spec} in fstab:\n{fstab}"))?;
        let fields: Vec<_> = line.split_whitespace().collect();
        ensure!(
            fields[1] == volume.mount && fields[2] == volume.fs,
            "fstab says {line}"
        );
    }
    ensure!(
        !stage
            .golden
            .fstab()
            .contains(&golden::spec(disk, &volumes[0], By::Uuid)?),
        "the UUID was not made new"
    );
    said.push(format!(
        "fstab: {} file systems named by their own new UUIDs, foreign lines untouched",
        volumes.len()
    ));
    Ok(said)
}

fn table(disk: &Disk) -> Result<String> {
    let ended = Program::new("sfdisk")
        .arg("--verify")
        .arg(disk.device())
        .finish()?;
    ensure!(
        ended.code == Some(0) && ended.stderr.trim().is_empty(),
        "sfdisk --verify: {}",
        ended.all()
    );
    let dump = Program::new("sfdisk").arg("--dump").arg(disk.device()).run()?;
    let partitions = dump.lines().filter(|line| line.contains("start=")).count();
    ensure!(
        dump.contains("label: dos") && partitions == 5,
        "the table is not what the desc says:\n{dump}"
    );
    let sector = disk.sector_size();
    Ok(format!(
        "table: MBR, {partitions} partitions, sectors of {sector} bytes, sfdisk --verify has nothing to say"
    ))
}
