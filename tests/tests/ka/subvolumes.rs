//! Btrfs as distributions lay it out: each subvolume travels once, in whichever mounts it appears; snapshots
//! only on request.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::compare::Allowed;
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, MountedTree, Plan, Volume};
use ka_tests::mounts::Mounted;
use ka_tests::process::Program;

use crate::kit::Kit;

fn plan(volumes: Vec<Volume>) -> Plan {
    Plan {
        size: GIB,
        sector_size: 512,
        table: "label: gpt\nsize=900MiB\n",
        volumes,
        foreign_fstab: "",
    }
}

fn on(mount: &'static str, subvolume: &'static str) -> Volume {
    let volume = Volume::new(1, "btrfs", mount);
    if subvolume.is_empty() {
        volume
    } else {
        volume.subvolume(subvolume)
    }
}

fn btrfs(args: &[&str], on: &Path) -> Result<String> {
    Program::new("btrfs").args(args).arg(on).run()
}

fn snapshot(of: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at.parent().context("a snapshot lies in something")?)?;
    let program = Program::new("btrfs").args(["subvolume", "snapshot", "-r"]);
    program.arg(of).arg(at).run().map(drop)
}

/// Returns the paths of all subvolumes from the top level.
fn subvolumes(seen_at: &Path) -> Result<BTreeSet<String>> {
    let list = btrfs(&["subvolume", "list"], seen_at)?;
    let path = |line: &str| line.split_once(" path ").map(|(_, path)| path.to_owned());
    Ok(list.lines().filter_map(path).collect())
}

fn default_of(seen_at: &Path) -> Result<String> {
    let text = btrfs(&["subvolume", "get-default"], seen_at)?;
    Ok(text
        .split_once(" path ")
        .map_or("", |(_, path)| path.trim())
        .to_owned())
}

/// Clones onto a disk like the golden one and compares, but for these paths; `look` gets the mounted clone.
fn cloned(
    kit: &Kit,
    name: &str,
    args: &[&str],
    ignored: &[&str],
    look: impl FnOnce(&MountedTree) -> Result<()>,
) -> Result<()> {
    let disk: Disk = kit.same_disk(name)?;
    let args = [&["--verify=always"], args].concat();
    kit.clone_to(&[&disk], &args)?.expect_success()?;
    let mut allowed = Allowed::for_system();
    allowed.ignored.extend(ignored.iter().map(PathBuf::from));
    kit.compare(&disk, &kit.plan.volumes, &allowed)?;
    look(&kit.mounted(&disk, &kit.plan.volumes)?)
}

/// The root is a snapshot of snapper's, and the default subvolume; no line of fstab says so.
fn opensuse() -> Result<Kit> {
    let root = "@/.snapshots/1/snapshot";
    let kit = Kit::with_plan(
        "opensuse",
        1,
        plan(vec![
            on("/", root),
            on("/.snapshots", "@/.snapshots"),
            on("/home", "@/home"),
            on("/var", "@/var"),
        ]),
    )?;
    let top = kit.golden.root();
    btrfs(&["subvolume", "set-default"], top)?;
    let fstab = kit
        .golden
        .fstab()
        .replacen(&format!("subvol={root}"), "defaults", 1);
    ensure!(fstab != kit.golden.fstab(), "the line for / names its subvolume");
    fs::write(top.join("etc/fstab"), fstab)?;
    fs::write(top.join(".snapshots/1/info.xml"), "<snapshot/>")?;
    Program::new("chmod")
        .arg("0750")
        .arg(top.join(".snapshots"))
        .run()?;
    Program::new("setfacl").args(["-m", "d:u:33:rx"]).arg(top).run()?;
    fs::create_dir_all(top.join("var/lib"))?;
    btrfs(&["subvolume", "create"], &top.join("var/lib/machines"))?;
    fs::write(top.join("var/lib/machines/file"), "in a nested subvolume")?;
    for number in ["2", "17"] {
        snapshot(top, &top.join(".snapshots").join(number).join("snapshot"))?;
        fs::write(
            top.join(".snapshots").join(number).join("info.xml"),
            "<snapshot/>",
        )?;
    }
    Ok(kit)
}

#[test]
fn stock_opensuse_clones_as_it_is_and_keeps_its_default_subvolume() -> Result<()> {
    let kit = opensuse()?;
    let golden = subvolumes(kit.golden.root())?;
    let snapshots = ["@/.snapshots/2/snapshot", "@/.snapshots/17/snapshot"].map(str::to_owned);
    let seen_twice = ".snapshots/1/snapshot";
    cloned(
        &kit,
        "n1",
        &[],
        &[seen_twice, ".snapshots/2", ".snapshots/17"],
        |clone| {
            let expected: BTreeSet<String> = golden.difference(&snapshots.into()).cloned().collect();
            assert_eq!(subvolumes(clone.root())?, expected);
            assert_eq!(default_of(clone.root())?, "@/.snapshots/1/snapshot");
            ensure!(
                !clone.root().join(".snapshots/2").exists(),
                "without its snapshot it is of no use"
            );
            Ok(())
        },
    )?;
    cloned(&kit, "n2", &["--snapshots"], &[seen_twice], |clone| {
        assert_eq!(subvolumes(clone.root())?, golden);
        Ok(())
    })?;
    for excluded in ["/.snapshots", "/.snapshots/1", "/.snapshots/2|/.snapshots/17"] {
        cloned(&kit, "n3", &["-x", excluded], &[".snapshots"], |clone| {
            assert_eq!(default_of(clone.root())?, "@/.snapshots/1/snapshot");
            assert_eq!(fs::read(clone.root().join("home/data"))?.len(), 2_000_000);
            Ok(())
        })
        .with_context(|| format!("-x {excluded}"))?;
    }
    Ok(())
}

#[test]
fn a_top_level_mounted_inside_one_of_its_subvolumes_travels_without_it() -> Result<()> {
    let kit = Kit::with_plan("toplevel", 1, plan(vec![on("/", "@"), on("/volumes/01", "")]))?;
    let (root, top) = (kit.golden.root(), kit.golden.root().join("volumes/01"));
    let line = "/volumes/01  btrfs ";
    let fstab = kit.golden.fstab().replacen(
        &format!("{line}defaults"),
        &format!("{line}noatime,subvolid=5"),
        1,
    );
    ensure!(fstab.contains("subvolid=5"), "{fstab}");
    fs::write(root.join("etc/fstab"), fstab)?;
    btrfs(&["subvolume", "create"], &top.join("@other"))?;
    fs::write(top.join("@other/file"), "mounted nowhere, but seen")?;
    snapshot(root, &top.join("timeshift-btrfs/snapshots/2026-01-01/@"))?;
    let ignored = ["volumes/01/@", "volumes/01/timeshift-btrfs"];
    let look = |clone: &MountedTree| {
        let expected = ["@", "@other"].map(str::to_owned);
        assert_eq!(subvolumes(clone.root())?, expected.into());
        let fstab = fs::read_to_string(clone.root().join("etc/fstab"))?;
        ensure!(
            fstab.contains("noatime,subvol=/ ") && !fstab.contains("subvolid"),
            "{fstab}"
        );
        Ok(())
    };
    cloned(&kit, "n1", &[], &ignored, look)?;
    cloned(&kit, "n2", &["-x", "/volumes/01/@"], &ignored, look)
}

#[test]
fn a_nested_subvolume_that_is_mounted_elsewhere_too_travels_once() -> Result<()> {
    // The names are Fedora's, the snapshots Arch's, and one subvolume is mounted beside its place in the
    // tree.
    let kit = Kit::with_plan(
        "nested",
        1,
        plan(vec![
            on("/", "root"),
            on("/home", "home"),
            on("/srv/data", "root/pool/data"),
        ]),
    )?;
    let root = kit.golden.root();
    fs::write(root.join("srv/data/file"), "x")?;
    Program::new("chattr")
        .arg("+C")
        .arg(root.join("srv/data"))
        .run()?;
    snapshot(root, &root.join("pool/monday"))?;
    let server = kit
        .lab
        .server_program()?
        .args(["--dry-run", "-r", "none", "--root"])
        .arg(root)
        .finish()?;
    server.expect(0)?;
    server
        .says("1 snapshot is left out: /pool/monday")?
        .says("--snapshots")?;
    cloned(&kit, "n1", &[], &["pool/data", "pool/monday"], |clone| {
        // The tool prints paths inside the mounted subvolume relative to it.
        let expected = ["home", "pool/data", "root"].map(str::to_owned);
        assert_eq!(subvolumes(clone.root())?, expected.into());
        Ok(())
    })
}

#[test]
fn what_is_mounted_below_an_excluded_directory_is_no_stranger() -> Result<()> {
    let kit = Kit::small("below", 1)?;
    let extra = kit.disk("extra", 64 << 20, 512)?;
    Program::new("mkfs.ext4").arg("-qF").arg(extra.checked()?).run()?;
    let point = kit.golden.root().join("data/deep/pool");
    let mounted = Mounted::new(extra.device(), &point, "defaults")?;
    fs::write(point.join("file"), "comes along")?;
    fs::write(kit.golden.root().join("data/large"), vec![1; 4096])?;
    let uuid = golden::tag(extra.device(), "UUID")?;
    let fstab = format!(
        "{}UUID={uuid} /data/deep/pool ext4 defaults 0 2\n",
        kit.golden.fstab()
    );
    fs::write(kit.golden.root().join("etc/fstab"), fstab)?;
    let disk = kit.disk("n1", GIB, 512)?;
    let desc = kit.desc("swap 16\nlinux 400 boot\nlinux fill mount=/data/deep/pool\n")?;
    let args: Vec<&str> = desc
        .iter()
        .map(String::as_str)
        .chain(["-x", "/data", "--verify=always"])
        .collect();
    kit.clone_to(&[&disk], &args)?.expect_success()?;
    let volumes = [
        Volume::new(2, "ext4", "/"),
        Volume::new(3, "ext4", "/data/deep/pool"),
    ];
    let clone = kit.mounted(&disk, &volumes)?;
    assert_eq!(
        fs::read(clone.root().join("data/deep/pool/file"))?,
        b"comes along"
    );
    ensure!(!clone.root().join("data/large").exists(), "it was left out");
    drop(mounted);
    Ok(())
}
