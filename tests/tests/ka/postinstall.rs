//! A real Debian with kernel and GRUB, cloned to loop disks: the work of its own tools in the clone.
//!
//! These tests judge the clone's disk; the QEMU tests show that such a clone boots.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::compare::{self, Allowed};
use ka_tests::debian;
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, Golden, MountedTree, Plan, Volume};
use ka_tests::lab::Lab;
use ka_tests::process::{Ended, Program};
use nix::sys::signal::Signal;

use crate::kit::{Kit, finish, mib};

/// Time limit: building an initramfs takes 20 seconds alone, and some minutes beside other tests.
const LIMIT: Duration = Duration::from_secs(900);

/// Files that a clone has of its own, beside those that every clone of a small system has.
const OWN: [&str; 16] = [
    "etc/hosts",
    "etc/machine-id",
    "etc/default/grub",
    "etc/initramfs-tools/modules",
    "etc/initramfs-tools/conf.d/resume",
    "etc/modprobe.d/ka-hardware.conf",
    "etc/ssh/ssh_host_ecdsa_key",
    "etc/ssh/ssh_host_ecdsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "boot",
    "root",
    "var/lib/initramfs-tools",
    "etc/lvm",
];

fn debian_plan() -> Plan {
    Plan {
        size: 1400 * mib(1),
        sector_size: 512,
        table: "label: dos\nsize=1300MiB,type=83,bootable\ntype=82\n",
        volumes: vec![Volume::new(1, "ext4", "/"), Volume::new(2, "swap", "none")],
        foreign_fstab: "# golden\n",
    }
}

/// Makes the golden Debian, with a reference to its swap on the kernel command line and two hooks.
fn kit(label: &str, nodes: usize) -> Result<Kit> {
    let lab = Lab::new(label, nodes, None)?.patient(LIMIT);
    let plan = debian_plan();
    let golden = Golden::new(lab.scratch(), "golden", &plan)?;
    debian::unpack(&debian::bootable()?, golden.root()).context("unpacking the golden Debian")?;
    let swap = golden::tag(&golden.disk().partition(2), "UUID")?;
    let etc = golden.root().join("etc");
    fs::write(etc.join("fstab"), golden.fstab())?;
    fs::write(
        etc.join("default/grub"),
        format!("GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=UUID={swap}\"\n"),
    )?;
    fs::write(
        etc.join("initramfs-tools/conf.d/resume"),
        format!("RESUME=UUID={swap}\n"),
    )?;
    let (_, copy) = copy_on_the_esp(golden.root())?;
    fs::create_dir_all(copy.parent().context("it is in a directory")?)?;
    fs::write(copy, debian::GOLDEN_IMAGE)?;
    executable(
        &etc.join("ka/hooks.d/10-look.post-restore"),
        "#!/bin/sh\necho \"$KA_POINT $KA_NODE $KA_ROOT_UUID $KA_DISKS\" > /root/hook\n",
    )?;
    executable(
        &etc.join("ka/hooks.d/90-last.pre-boot"),
        "#!/bin/sh\ngrep -q root=UUID=$KA_ROOT_UUID /boot/grub/grub.cfg || exit 7\necho $KA_POINT >> /root/hook\n",
    )?;
    Ok(Kit { golden, plan, lab })
}

/// Returns the initramfs in /boot, and the place where kernel-install would have put a copy of it for
/// systemd-boot.
fn copy_on_the_esp(root: &Path) -> Result<(PathBuf, PathBuf)> {
    let release = debian::kernel_release(root)?;
    let name = format!("initrd.img-{release}");
    let copy = format!("boot/efi/debian/{release}/{name}");
    Ok((root.join("boot").join(&name), root.join(copy)))
}

fn executable(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn text(root: &Path, path: &str) -> Result<String> {
    let path = root.join(path);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Insists that the disk's first bytes hold boot code of GRUB's, and that its core image follows at its
/// place.
fn expect_grub_on(disk: &Disk, embedded_at: u64) -> Result<()> {
    let device = fs::File::open(disk.checked()?)?;
    let mut sector = [0; 440];
    device.read_exact_at(&mut sector, 0)?;
    ensure!(
        sector.windows(4).any(|word| word == b"GRUB"),
        "sector 0 has no boot code of GRUB's"
    );
    let mut core = [0; 512];
    device.read_exact_at(&mut core, embedded_at)?;
    ensure!(
        core.iter().any(|byte| *byte != 0),
        "there is no core image at {embedded_at}"
    );
    Ok(())
}

/// Insists that its own tools and KA have changed the clone `root`, named `name`, on `disk`.
fn expect_own(kit: &Kit, disk: &Disk, root: &Path, name: &str) -> Result<()> {
    ensure!(text(root, "etc/hostname")?.trim() == name);
    ensure!(text(root, "etc/hosts")?.contains(&format!("127.0.1.1\t{name}\n")));
    let (uuid, swap) = (
        golden::tag(&disk.partition(1), "UUID")?,
        golden::tag(&disk.partition(2), "UUID")?,
    );
    let config = text(root, "boot/grub/grub.cfg")?;
    ensure!(
        config.contains(&format!("root=UUID={uuid} ")) && config.contains(&format!("resume=UUID={swap}")),
        "grub.cfg does not name the clone:\n{config}"
    );
    for golden in [1, 2] {
        let golden = golden::tag(&kit.golden.disk().partition(golden), "UUID")?;
        for file in [
            "boot/grub/grub.cfg",
            "etc/default/grub",
            "etc/initramfs-tools/conf.d/resume",
        ] {
            ensure!(
                !text(root, file)?.contains(&golden),
                "{file} names the golden {golden}"
            );
        }
    }
    let hook = text(root, "root/hook")?;
    let expected = format!("post-restore {name} {uuid} {}\npre-boot\n", kit.choice(disk)?);
    ensure!(hook == expected, "the hooks left {hook:?}, not {expected:?}");
    let log = text(root, "var/log/ka/clone.log")?;
    ensure!(
        log.contains("building initramfs...OK") && log.contains("installing boot loader...OK"),
        "{log}"
    );
    Ok(())
}

/// Insists that everything else is as on the golden node.
fn expect_same_but_for_its_own(kit: &Kit, clone: &MountedTree) -> Result<()> {
    let mut allowed = Allowed::for_system();
    allowed.ignored.extend(OWN.map(PathBuf::from));
    // ssh-keygen and mkinitramfs make files there: the directories' times are new.
    allowed
        .rewritten
        .extend(["etc/ssh", "var/tmp"].map(PathBuf::from));
    compare::trees(kit.golden.root(), clone.root(), &allowed)?
        .expect_same()
        .map(drop)
}

fn initramfs(root: &Path) -> Result<Vec<u8>> {
    Ok(fs::read(copy_on_the_esp(root)?.0)?)
}

#[test]
fn two_clones_of_a_debian_get_loader_initramfs_and_identity_of_their_own() -> Result<()> {
    let kit = kit("postboot", 2)?;
    let disks = [kit.disk("n1", 2 * GIB, 512)?, kit.disk("n2", 3 * GIB, 512)?];
    let server = kit.server(&["-n", "2", "-r", "grub --with=ahci"])?;
    let nodes = vec![
        kit.node(1, &server, &disks[0], &["--name", "alpha"])?,
        kit.node(2, &server, &disks[1], &["--name", "beta"])?,
    ];
    finish(server, nodes)?.expect_success()?;
    let mut seen = Vec::new();
    for (disk, name) in disks.iter().zip(["alpha", "beta"]) {
        Program::new("sfdisk")
            .arg("--verify")
            .arg(disk.checked()?)
            .run()?;
        expect_grub_on(disk, 512)?;
        let clone = kit.mounted(disk, &kit.plan.volumes)?;
        let root = clone.root();
        expect_own(&kit, disk, root, name)?;
        expect_same_but_for_its_own(&kit, &clone)?;
        ensure!(text(root, "etc/initramfs-tools/modules")?.contains("\nahci\n"));
        ensure!(
            initramfs(root)? != initramfs(kit.golden.root())?,
            "the initramfs is the golden one"
        );
        ensure!(
            fs::read(copy_on_the_esp(root)?.1)? == initramfs(root)?,
            "what systemd-boot would take is another image"
        );
        for file in [
            "etc/machine-id",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "etc/ssh/ssh_host_rsa_key.pub",
        ] {
            let own = text(root, file)?;
            ensure!(own != text(kit.golden.root(), file)?, "{file} is the golden one");
            ensure!(!seen.contains(&own), "both clones have the same {file}");
            seen.push(own);
        }
    }
    for number in [1, 2] {
        kit.lab.expect_unmounted(number)?;
    }
    Ok(())
}

#[test]
fn grub_goes_into_the_bios_partition_of_a_gpt() -> Result<()> {
    let kit = kit("postgpt", 1)?;
    without_initramfs(&kit)?;
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    let none = kit.desc("table gpt\nlinux 1300\nswap 64\n")?;
    let before = disk.fingerprint()?;
    let refused = run(&kit, &disk, &none)?;
    refused.expect(1)?.says("bios 1")?;
    ensure!(disk.fingerprint()? == before, "the disk was written to");

    let desc = kit.desc("table gpt\nlinux 1300\nswap 64\nbios 1\n")?;
    run(&kit, &disk, &desc)?.expect(0)?;
    Program::new("sgdisk").arg("-v").arg(disk.checked()?).run()?;
    expect_grub_on(&disk, 1365 * mib(1))?;
    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    expect_own(&kit, &disk, clone.root(), "solo")
}

#[test]
fn a_loader_or_hook_that_fails_fails_the_clone_and_leaves_no_table() -> Result<()> {
    let kit = kit("postfail", 1)?;
    without_initramfs(&kit)?;
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    let install = kit.golden.root().join("usr/sbin/grub-install");
    let real = fs::read(&install)?;
    executable(
        &install,
        "#!/bin/sh\necho 'grub-install: the disk is on fire' >&2\nexit 1\n",
    )?;
    run(&kit, &disk, &[])?.expect(3)?.says("the disk is on fire")?;
    ensure!(!disk.looks_finished()?, "the disk looks finished");
    kit.lab.expect_unmounted(1)?;

    fs::write(&install, real)?;
    executable(
        &kit.golden.root().join("etc/ka/hooks.d/95-no.pre-boot"),
        "#!/bin/sh\necho 'no licence left' >&2\nexit 4\n",
    )?;
    run(&kit, &disk, &[])?
        .expect(3)?
        .says("95-no.pre-boot")?
        .says("no licence left")?;
    ensure!(!disk.looks_finished()?, "the disk looks finished");
    kit.lab.expect_unmounted(1)?;

    // A hook must not change the UUIDs that fstab and the boot loader go by.
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    executable(
        &kit.golden.root().join("etc/ka/hooks.d/95-no.pre-boot"),
        &format!("#!/bin/sh\nmkswap -U {uuid} ${{KA_ROOT_DEVICE%1}}2\n"),
    )?;
    run(&kit, &disk, &[])?
        .expect(3)?
        .says("a hook has changed the UUID of ")?
        .says(uuid)?;
    ensure!(!disk.looks_finished()?, "the disk looks finished");
    kit.lab.expect_unmounted(1)
}

#[test]
fn a_tool_that_is_killed_in_one_clone_fails_that_one_and_no_other() -> Result<()> {
    let kit = kit("postkill", 2)?;
    without_initramfs(&kit)?;
    let names = ["bad", "good"];
    for tool in ["update-initramfs", "grub-install"] {
        let path = kit.golden.root().join("usr/sbin").join(tool);
        let real = format!("{}.real", path.display());
        fs::rename(&path, &real)?;
        let script =
            format!("#!/bin/sh\ngrep -q bad /etc/hostname && kill -KILL $$\nexec {tool}.real \"$@\"\n");
        executable(&path, &script)?;
        let disks = names.map(|name| kit.disk(&format!("{name}-{tool}"), 2 * GIB, 512));
        let disks = disks.into_iter().collect::<Result<Vec<_>>>()?;
        let (server, nodes) = named(&kit, &disks, &names)?;
        server
            .expect(3)?
            .says("failed: ")?
            .says(&format!("{tool} failed with signal 9"))?;
        nodes[0].expect(3)?;
        nodes[1].expect(0)?;
        ensure!(!disks[0].looks_finished()?, "{tool}: the disk looks finished");
        expect_grub_on(&disks[1], 512)?;
        kit.lab.expect_unmounted(2)?;
        fs::rename(&real, &path)?;
    }
    Ok(())
}

/// An image that was made from a clone, or a hook with good intentions, could have them.
#[test]
fn clones_with_one_machine_id_and_one_ssh_host_key_are_named_and_the_run_is_not_complete() -> Result<()> {
    let kit = kit("posttwins", 2)?;
    without_initramfs(&kit)?;
    let key = "etc/ssh/ssh_host_ed25519_key";
    let golden = kit.golden.root();
    for end in ["", ".pub"] {
        fs::copy(
            golden.join(format!("{key}{end}")),
            golden.join(format!("etc/same{end}")),
        )?;
    }
    executable(
        &golden.join("etc/ka/hooks.d/95-same.pre-boot"),
        &format!(
            "#!/bin/sh\nset -e\necho 0123456789abcdef0123456789abcdef > /etc/machine-id\n\
             cp /etc/same /{key}\ncp /etc/same.pub /{key}.pub\n"
        ),
    )?;
    let disks = ["n1", "n2"].map(|name| kit.disk(name, 2 * GIB, 512));
    let disks = disks.into_iter().collect::<Result<Vec<_>>>()?;
    let (server, nodes) = named(&kit, &disks, &["one", "two"])?;
    // Both disks are erased: the outcome is not "nothing done".
    server
        .expect(3)?
        .says("disks erased, and nothing boots from them: one, two")?;
    for (node, disk) in nodes.iter().zip(&disks) {
        node.expect(3)?.says("it has the same")?;
        ensure!(!disk.looks_finished()?, "a twin can be booted");
    }
    let lines = server.stdout.lines().filter(|line| line.starts_with("failed: "));
    let failed: Vec<&str> = lines.collect();
    ensure!(failed.len() == 2, "{}", server.all());
    for (line, other) in failed.iter().zip(["two", "one"]) {
        for what in ["machine-id", "SSH host key"] {
            let same = format!("it has the same {what} as ");
            ensure!(line.contains(&same) && line.contains(other), "{line}");
        }
        ensure!(line.contains("0123456789abcdef0123456789abcdef"), "{line}");
    }
    Ok(())
}

/// The quick node waits for the verdict when the server is killed, and comes back with its clone.
#[test]
fn a_clone_that_was_reported_before_the_server_was_killed_is_known_to_the_next_one() -> Result<()> {
    let kit = kit("postknown", 2)?;
    without_initramfs(&kit)?;
    executable(
        &kit.golden.root().join("etc/ka/hooks.d/95-slow.pre-boot"),
        "#!/bin/sh\ngrep -q slow /etc/hostname && sleep 8\nexit 0\n",
    )?;
    let disks = ["quick", "slow"].map(|name| kit.disk(name, 2 * GIB, 512));
    let disks = disks.into_iter().collect::<Result<Vec<_>>>()?;
    let mut server = kit.server(&["-n", "2"])?;
    let mut quick = kit.node(1, &server, &disks[0], &["--name", "quick", "--retries", "8"])?;
    let slow = kit.node(2, &server, &disks[1], &["--name", "slow", "--retries", "8"])?;
    quick.wait_for("the clone is complete; it is made bootable")?;
    let kept = kit.lab.server_state().join("run-kainstall.json");
    server.run.wait_until("the report is kept", |_| {
        Ok(fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"complete\":[{")))
    })?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    ensure!(!disks[0].looks_finished()?, "nobody has judged it");
    let outcome = finish(kit.server(&["-n", "2"])?, vec![quick, slow])?;
    outcome.expect_success()?;
    outcome.server.says("2 nodes done")?;
    let quick = outcome.nodes[0].all();
    ensure!(
        quick.matches("partitioning...OK").count() == 1,
        "it was cloned again:\n{quick}"
    );
    Ok(())
}

/// Runs a node for each disk, under these names; returns the outputs of server and nodes.
fn named(kit: &Kit, disks: &[Disk], names: &[&str]) -> Result<(Ended, Vec<Ended>)> {
    let server = kit.server(&["-n", &disks.len().to_string()])?;
    let nodes = disks.iter().zip(names).enumerate();
    let nodes = nodes.map(|(index, (disk, name))| kit.node(index + 1, &server, disk, &["--name", name]));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let outcome = finish(server, nodes)?;
    Ok((outcome.server, outcome.nodes))
}

#[test]
fn a_clone_may_keep_the_golden_identity() -> Result<()> {
    let kit = kit("postkeep", 1)?;
    without_initramfs(&kit)?;
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    run(
        &kit,
        &disk,
        &["--keep-identity".to_owned(), "-r".to_owned(), "none".to_owned()],
    )?
    .expect(0)?;
    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    for file in [
        "etc/hostname",
        "etc/hosts",
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
    ] {
        ensure!(
            text(clone.root(), file)? == text(kit.golden.root(), file)?,
            "{file} is another one"
        );
    }
    Ok(())
}

#[test]
fn a_kernel_under_gentoos_name_is_a_kernel_for_drivers_initramfs_and_boot_loader() -> Result<()> {
    let kit = kit("postgentoo", 1)?;
    let golden = kit.golden.root();
    executable(
        &golden.join("usr/sbin/update-initramfs"),
        "#!/bin/sh\necho \"$@\" >> /root/initramfs\n",
    )?;
    let release = debian::kernel_release(golden)?;
    let boot = golden.join("boot");
    fs::rename(
        boot.join(format!("vmlinuz-{release}")),
        boot.join(format!("kernel-{release}")),
    )?;
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    run(&kit, &disk, &[])?.expect(0)?;
    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    let root = clone.root();
    ensure!(text(root, "root/initramfs")? == format!("-u -k {release}\n"));
    ensure!(root.join("etc/modprobe.d/ka-hardware.conf").is_file());
    ensure!(text(root, "boot/grub/grub.cfg")?.contains(&format!("kernel-{release} ")));
    Ok(())
}

/// Removes the real initramfs tool: one test with it is enough, and without it the others take no time.
fn without_initramfs(kit: &Kit) -> Result<()> {
    executable(
        &kit.golden.root().join("usr/sbin/update-initramfs"),
        "#!/bin/sh\nexit 0\n",
    )?;
    Ok(())
}

/// Runs one node, named `solo`; returns its output.
fn run(kit: &Kit, disk: &Disk, args: &[String]) -> Result<Ended> {
    let args: Vec<&str> = ["-n", "1"]
        .into_iter()
        .chain(args.iter().map(String::as_str))
        .collect();
    let server = kit.server(&args)?;
    // The hook looks for grub.cfg, which -r none does not make.
    if args.contains(&"none") {
        fs::remove_file(kit.golden.root().join("etc/ka/hooks.d/90-last.pre-boot"))?;
    }
    let node = kit.node(1, &server, disk, &["--name", "solo"])?;
    let mut outcome = finish(server, vec![node])?;
    outcome.nodes.pop().context("no node")
}
