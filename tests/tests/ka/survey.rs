//! The survey: its notes on what it leaves out, its refusals before a disk is touched, and golden systems in
//! a directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, MountedTree, Plan, Volume};
use ka_tests::lab::Lab;
use ka_tests::mounts::Mounted;
use ka_tests::process::{Ended, Program};
use ka_tests::tree;

use crate::kit::{Kit, finish, mib};

/// The unit that mounts the spare partition.
const UNIT: &str = "etc/systemd/system/srv-my\\x20data.mount";

fn dry_run(kit: &Kit, args: &[&str]) -> Result<Ended> {
    // These golden systems have no boot loader.
    let server = kit
        .lab
        .server_program()?
        .args(["--dry-run", "-r", "none", "--root"]);
    server.arg(kit.golden.root()).args(args).finish()
}

/// Makes a system with a root, and one partition more that no line of fstab names.
fn with_spare(label: &str) -> Result<(Kit, PathBuf)> {
    let plan = Plan {
        size: GIB / 2,
        sector_size: 512,
        table: "label: gpt\nsize=200MiB\nsize=100MiB\n",
        volumes: vec![Volume::new(1, "ext4", "/")],
        foreign_fstab: "",
    };
    let kit = Kit::with_plan(label, 1, plan)?;
    let spare = kit.golden.disk().partition(2);
    Program::new("mkfs.ext4").arg("-qF").arg(&spare).run()?;
    Ok((kit, spare))
}

fn both() -> [Volume; 2] {
    [
        Volume::new(1, "ext4", "/"),
        Volume::new(2, "ext4", "/srv/my data"),
    ]
}

/// Clones onto a disk like the golden one, and insists that the clone has both file systems and that its unit
/// names its own.
fn clones_both(kit: &Kit, name: &str, args: &[&str]) -> Result<()> {
    let disk = kit.same_disk(name)?;
    let args = [&["--verify=always"], args].concat();
    kit.clone_to(&[&disk], &args)?.expect_success()?;
    let mut allowed = Allowed::for_system();
    allowed.rewritten.push(UNIT.into());
    kit.compare(&disk, &both(), &allowed)?;
    let own = golden::tag(&disk.partition(2), "UUID")?;
    let clone = kit.mounted(&disk, &both())?;
    let unit = fs::read_to_string(clone.root().join(UNIT))?;
    ensure!(
        unit.contains(&format!("What=/dev/disk/by-uuid/{own}\n")),
        "{own}: {unit}"
    );
    Ok(())
}

#[test]
fn what_a_unit_mounts_is_cloned_as_what_fstab_mounts() -> Result<()> {
    let (kit, spare) = with_spare("unit")?;
    let root = kit.golden.root();
    let point = root.join("srv/my data");
    let mounted = Mounted::new(&spare, &point, "noatime")?;
    fs::write(point.join("file"), "mounted by a unit")?;
    fs::create_dir_all(root.join("etc/systemd/system"))?;
    let unit = format!(
        "[Mount]\nWhat=/dev/disk/by-uuid/{}\nWhere=/srv/my data\nType=ext4\n[Install]\nWantedBy=local-fs.target\n",
        golden::tag(&spare, "UUID")?
    );
    fs::write(root.join(UNIT), unit)?;
    clones_both(&kit, "n1", &[])?;
    let desc = kit.desc("linux 200\nlinux fill\n")?;
    let desc: Vec<&str> = desc.iter().map(String::as_str).collect();
    clones_both(&kit, "n2", &desc)?;
    // Without a place for it the run does not begin.
    let small = kit.desc("linux fill\n")?;
    let refused = dry_run(&kit, &small.each_ref().map(String::as_str))?;
    ensure!(refused.code != Some(0), "{}", refused.all());
    refused.says("/srv/my data")?.says("mount=")?;
    // Without any fstab the mount table is used.
    fs::remove_file(root.join("etc/fstab"))?;
    dry_run(&kit, &[])?.says("there is no etc/fstab")?;
    clones_both(&kit, "n3", &[])?;
    drop(mounted);
    Ok(())
}

#[test]
fn a_mount_that_nobody_names_is_told_and_a_desc_line_clones_it() -> Result<()> {
    let kit = Kit::small("byhand", 1)?;
    let extra = kit.disk("extra", mib(64), 512)?;
    Program::new("mkfs.ext4").arg("-qF").arg(extra.checked()?).run()?;
    let point = kit.golden.root().join("media/stick");
    let mounted = Mounted::new(extra.device(), &point, "defaults")?;
    // Bind mounts and file systems in memory have nothing of their own.
    let bound = Mounted::new(
        &kit.golden.root().join("home"),
        &kit.golden.root().join("bound"),
        "bind",
    )?;
    let memory = Mounted::in_memory(&kit.golden.root().join("cache"), 1 << 20)?;
    let shown = dry_run(&kit, &[])?;
    shown.expect(0)?;
    shown.says("/media/stick (")?.says("mount=/media/stick")?;
    ensure!(
        !shown.all().contains("/bound") && !shown.all().contains("/cache"),
        "{}",
        shown.all()
    );
    let silent = dry_run(&kit, &["-x", "/media"])?;
    ensure!(!silent.all().contains("mount=/media/stick"), "{}", silent.all());
    let desc = kit.desc("swap 16\nlinux 400 boot\nlinux fill mount=/media/stick\n")?;
    let placed = dry_run(&kit, &desc.each_ref().map(String::as_str))?;
    placed.expect(0)?;
    ensure!(
        placed.all().contains("/media/stick is cloned") || placed.all().contains("is cloned although"),
        "{}",
        placed.all()
    );
    drop((memory, bound, mounted));
    Ok(())
}

#[test]
fn a_boot_partition_that_is_not_mounted_is_refused_unless_the_operator_says_so() -> Result<()> {
    let (kit, spare) = with_spare("noboot")?;
    let uuid = golden::tag(&spare, "UUID")?;
    for (place, options) in [
        ("/boot", "noauto,noatime"),
        ("/boot/efi", "nofail"),
        ("/efi", "defaults"),
    ] {
        let fstab = format!("{}UUID={uuid} {place} ext4 {options} 1 2\n", kit.golden.fstab());
        fs::write(kit.golden.root().join("etc/fstab"), fstab)?;
        fs::create_dir_all(kit.golden.root().join(place.trim_start_matches('/')))?;
        let server = kit.lab.server_program()?.args(["--dry-run", "--root"]);
        let refused = server.arg(kit.golden.root()).finish()?;
        ensure!(refused.code != Some(0), "{place}: {}", refused.all());
        refused.says("etc/fstab:")?.says(&format!("-x {place}"))?;
        dry_run(&kit, &["-x", place])?.expect(0)?;
        if options == "defaults" {
            continue;
        }
        // With `-r none` it is only a warning.
        let told = dry_run(&kit, &[])?;
        told.expect(0)?
            .says(&format!("warning: {place} ("))?
            .says("is left out of the clone")?;
    }
    Ok(())
}

/// Makes a disk with a mark in its first bytes: if anything is written, the mark is gone.
fn marked(kit: &Kit, name: &str, size: u64) -> Result<Disk> {
    let disk = kit.disk(name, size, 512)?;
    fs::write(disk.checked()?, b"untouched")?;
    Ok(disk)
}

fn refused_untouched(kit: &Kit, disk: &Disk, args: &[&str], says: &str) -> Result<()> {
    let outcome = kit.clone_to(&[disk], args)?;
    ensure!(outcome.nodes[0].code != Some(0), "{}", outcome.nodes[0].all());
    outcome.nodes[0].says(says)?;
    let begin = fs::read(disk.checked()?)?;
    ensure!(begin.starts_with(b"untouched"), "the disk was written to");
    Ok(())
}

#[test]
fn files_that_share_their_blocks_are_refused_before_the_disk_is_erased() -> Result<()> {
    for (name, kind) in [("reflink-b", "btrfs"), ("reflink-x", "xfs")] {
        let plan = Plan {
            size: mib(600),
            sector_size: 512,
            table: "label: gpt\nsize=590MiB\n",
            volumes: vec![Volume::new(1, kind, "/")],
            foreign_fstab: "",
        };
        let kit = Kit::with_plan(name, 1, plan)?;
        let root = kit.golden.root();
        fs::write(root.join("home/a"), tree::noise(60 << 20, 5))?;
        for copy in 0..9 {
            let program = Program::new("cp")
                .arg("--reflink=always")
                .arg(root.join("home/a"));
            program.arg(root.join(format!("home/a{copy}"))).run()?;
        }
        Program::new("sync").run()?;
        dry_run(&kit, &[])?.says("needs about")?;
        let disk = marked(&kit, "n1", mib(600))?;
        refused_untouched(&kit, &disk, &[], "needs")?;
        // It fits if half of them are left out.
        for copy in 0..6 {
            fs::remove_file(root.join(format!("home/a{copy}")))?;
        }
        Program::new("sync").run()?;
        kit.clone_to(&[&disk], &["--verify=always"])?.expect_success()?;
    }
    Ok(())
}

#[test]
fn compressed_files_fit_where_the_clone_compresses_and_are_counted_where_not() -> Result<()> {
    let plan = Plan {
        size: mib(500),
        sector_size: 512,
        table: "label: gpt\nsize=490MiB\n",
        volumes: vec![Volume::new(1, "btrfs", "/")],
        foreign_fstab: "",
    };
    let kit = Kit::with_plan("compressed", 1, plan)?;
    let root = kit.golden.root();
    Program::new("mount")
        .args(["-o", "remount,compress-force=zstd"])
        .arg(root)
        .run()?;
    fs::write(
        root.join("home/text"),
        b"the same words again and again ".repeat(25 << 20),
    )?;
    Program::new("sync").run()?;
    let disk = marked(&kit, "n1", mib(500))?;
    refused_untouched(&kit, &disk, &[], "needs")?;
    let fstab = kit.golden.fstab().replace(" defaults ", " compress-force=zstd ");
    fs::write(root.join("etc/fstab"), fstab)?;
    kit.clone_to(&[&disk], &[])?.expect_success()
}

#[test]
fn many_small_files_get_their_inodes_on_a_much_smaller_disk() -> Result<()> {
    let kit = Kit::small("inodes", 1)?;
    for directory in 0..30 {
        let path = kit.golden.root().join(format!("srv/{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..1000 {
            fs::write(path.join(file.to_string()), "")?;
        }
    }
    let desc = kit.desc("swap 16\nlinux 64 boot\n")?;
    let disk = kit.disk("n1", mib(96), 512)?;
    kit.clone_to(&[&disk], &desc.each_ref().map(String::as_str))?
        .expect_success()?;
    kit.expect_clone(&disk)
}

#[test]
fn a_plain_directory_is_a_golden_system_with_all_its_mount_points() -> Result<()> {
    let lab = Lab::new("plain", 1, None)?;
    let root = lab.scratch().dir("tree")?;
    let fstab = "/dev/sda2 / ext4 defaults 0 1\n/dev/sda3 /srv ext4 defaults 0 2\n\
                 UUID=11111111-2222-4333-8444-555555555555 /data xfs noatime 0 2\n\
                 UUID=21111111-2222-4333-8444-555555555555 none swap sw 0 0\n/dev/sr0 /media/cd udf,iso9660 noauto 0 0\n";
    tree::small_system(&root, fstab)?;
    for (name, content) in [
        ("srv/deep/file", "on its own"),
        ("data/file", "on another"),
        ("home/file", "at /"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(path, content)?;
    }
    fs::hard_link(root.join("home/file"), root.join("srv/linked"))?;
    let desc = lab.scratch().path().join("desc");
    fs::write(&desc, "swap 16\nlinux 200\nlinux 100\nlinux fill mount=/data\n")?;
    let disk = Disk::new(lab.scratch(), "n1", GIB, 512)?;
    let (root_arg, desc_arg) = (root.display().to_string(), desc.display().to_string());
    let server = lab.server(&[
        "-n",
        "1",
        "--verify=always",
        "-r",
        "none",
        "--root",
        &root_arg,
        "-p",
        "sda",
        &desc_arg,
    ])?;
    let choice = format!("sda={}", disk.checked()?.display());
    let node = lab.client(1, &server, &["--disk", &choice])?;
    finish(server, vec![node])?.expect_success()?;
    disk.show_partitions()?;
    let volumes = [
        Volume::new(2, "ext4", "/"),
        Volume::new(3, "ext4", "/srv"),
        Volume::new(4, "xfs", "/data"),
    ];
    let clone = MountedTree::new(&disk, &volumes, &lab.scratch().dir("clone")?)?;
    let allowed = Allowed {
        ignored: [
            "var/log/ka",
            "home/file",
            "srv/linked",
            "lost+found",
            "srv/lost+found",
        ]
        .map(PathBuf::from)
        .to_vec(),
        ..Allowed::for_system()
    };
    compare::trees(&root, clone.root(), &allowed)?.expect_same()?;
    assert_eq!(fs::read(clone.root().join("srv/linked"))?, b"at /");
    let own = golden::tag(&disk.partition(4), "UUID")?;
    let fstab = fs::read_to_string(clone.root().join("etc/fstab"))?;
    ensure!(fstab.contains(&format!("UUID={own} /data xfs")), "{fstab}");
    Ok(())
}

#[test]
fn a_containers_root_without_fstab_goes_where_the_desc_file_says() -> Result<()> {
    let lab = Lab::new("container", 1, None)?;
    let root = lab.scratch().dir("tree")?;
    tree::small_system(&root, "")?;
    let desc = lab.scratch().path().join("desc");
    fs::write(&desc, "linux fill fs=xfs mount=/\n")?;
    for has_fstab in [true, false] {
        if !has_fstab {
            fs::remove_file(root.join("etc/fstab"))?;
        }
        let ask = |args: &[&Path]| {
            let server = lab.server_program()?.args(["--dry-run", "-r", "none", "--root"]);
            let server = server.arg(&root);
            args.iter().fold(server, |server, arg| server.arg(arg)).finish()
        };
        let refused = ask(&[])?;
        ensure!(refused.code != Some(0), "{}", refused.all());
        refused.says("mount=/")?;
        ask(&[Path::new("-p"), Path::new("sda"), &desc])?.expect(0)?;
    }
    let typo = lab
        .server_program()?
        .args(["--dry-run", "-r", "none", "--root"])
        .arg(lab.scratch().path())
        .finish()?;
    ensure!(typo.code != Some(0), "no system is there: {}", typo.all());
    typo.says("etc/fstab")?;
    Ok(())
}
