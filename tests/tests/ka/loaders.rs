//! A real Debian with dracut, EXTLINUX and systemd-boot, cloned to a loop disk. The tests judge its initramfs
//! images, their contents, and the image that each loader will boot.
//!
//! EXTLINUX is installed for real. As for systemd-boot, there is no vfat here. So `bootctl` and
//! `kernel-install` have made its files in a directory of the golden node, and the clone's copies are judged.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian::{self, BootEntry};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, Golden, Plan, Volume};
use ka_tests::lab::Lab;
use ka_tests::process::Program;

use crate::kit::{Kit, finish, mib};

/// Time limit: dracut takes some seconds alone, and some minutes beside other tests.
const LIMIT: Duration = Duration::from_secs(900);
const CONFIG: &str = "boot/extlinux/extlinux.conf";
const HARDWARE: &str = "etc/dracut.conf.d/90-ka-hardware.conf";
/// Length of the boot code: the disk's signature begins behind it.
const CODE_LEN: usize = 440;

/// A golden system with its own /boot, and the facts to compare with its clone.
struct Made {
    kit: Kit,
    entry: BootEntry,
}

fn made(label: &str) -> Result<Made> {
    let lab = Lab::new(label, 1, None)?.patient(LIMIT);
    let plan = Plan {
        size: 1600 * mib(1),
        sector_size: 512,
        table: "label: dos\nsize=400MiB,type=83,bootable\nsize=1000MiB,type=83\ntype=82\n",
        volumes: vec![
            Volume::new(2, "ext4", "/"),
            Volume::new(1, "ext4", "/boot"),
            Volume::new(3, "swap", "none"),
        ],
        foreign_fstab: "# golden\n",
    };
    let golden = Golden::new(lab.scratch(), "golden", &plan)?;
    debian::unpack(&debian::with_other_tools()?, golden.root()).context("unpacking the golden Debian")?;
    let root = golden.root();
    let own = golden::tag(&golden.disk().partition(2), "UUID")?;
    let swap = golden::tag(&golden.disk().partition(3), "UUID")?;
    let line = format!("root=UUID={own} ro resume=UUID={swap} console=ttyS0");
    fs::write(root.join("etc/fstab"), golden.fstab())?;
    let entry = debian::add_boot_entry(root, &line)?;
    let release = &entry.release;
    fs::create_dir_all(root.join("boot/extlinux"))?;
    fs::write(root.join(CONFIG), "default debian\ninclude linux.cfg\n")?;
    fs::write(
        root.join("boot/extlinux/linux.cfg"),
        format!(
            "label debian\n\tlinux /vmlinuz-{release}\n\tinitrd /initrd.img-{release}\n\tappend {line}\n"
        ),
    )?;
    Ok(Made {
        entry,
        kit: Kit { golden, plan, lab },
    })
}

impl Made {
    /// Returns the path of the image in /boot.
    fn image(&self) -> String {
        format!("boot/initrd.img-{}", self.entry.release)
    }

    fn image_on_esp(&self) -> String {
        format!("boot/efi/{}", self.entry.image())
    }

    fn boot_entry(&self) -> String {
        format!("boot/efi/{}", self.entry.file())
    }
}

fn text(root: &Path, path: &str) -> Result<String> {
    let path = root.join(path);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Insists on boot code in sector 0, the active partition with EXTLINUX' own boot sector, and its second
/// stage.
fn expect_extlinux_on(disk: &Disk, root: &Path) -> Result<()> {
    let start = disk.first_bytes(512)?;
    let mut code = fs::read(root.join("usr/lib/syslinux/mbr/mbr.bin"))?;
    code.resize(CODE_LEN, 0);
    ensure!(start[..CODE_LEN] == code[..], "sector 0 has other boot code");
    ensure!(start[446] == 0x80, "the first partition is not active");
    let boot = fs::File::open(disk.partition(1))?;
    let mut sector = [0; 512];
    std::os::unix::fs::FileExt::read_exact_at(&boot, &mut sector, 0)?;
    ensure!(
        &sector[3..11] == b"SYSLINUX",
        "partition 1 has no boot sector of SYSLINUX', which is EXTLINUX' too"
    );
    ensure!(root.join("boot/extlinux/ldlinux.sys").is_file());
    ensure!(root.join("boot/extlinux/ldlinux.c32").is_file());
    Ok(())
}

/// Insists that every file with a name of a disk has the clone's.
fn expect_own_references(made: &Made, disk: &Disk, root: &Path) -> Result<()> {
    let files = [
        "etc/fstab",
        "etc/kernel/cmdline",
        "boot/extlinux/linux.cfg",
        &made.boot_entry(),
    ];
    for number in [2, 3] {
        let golden = golden::tag(&made.kit.golden.disk().partition(number), "UUID")?;
        let own = golden::tag(&disk.partition(number), "UUID")?;
        for file in files {
            let text = text(root, file)?;
            ensure!(
                text.contains(&own) && !text.contains(&golden),
                "{file} does not lead to partition {number} of the clone:\n{text}"
            );
        }
    }
    Ok(())
}

/// Insists on dracut's image, with the requested drivers, and without any name of the golden node's disks.
fn expect_rebuilt(made: &Made, disk: &Disk, root: &Path) -> Result<()> {
    let image = made.image();
    let bytes = fs::read(root.join(&image))?;
    let listed = Program::new("chroot")
        .arg(root)
        .args(["lsinitrd", &format!("/{image}")])
        .run()?;
    let wanted = text(root, HARDWARE)?;
    let wanted = wanted.split('"').nth(1).context("no drivers are asked for")?;
    ensure!(
        wanted.split_whitespace().any(|module| module == "ahci"),
        "{wanted}"
    );
    let builtin = text(
        root,
        &format!("usr/lib/modules/{}/modules.builtin", made.entry.release),
    )?;
    for module in wanted.split_whitespace() {
        let is_there = |list: &str| {
            list.replace('-', "_")
                .contains(&format!("/{}.ko", module.replace('-', "_")))
        };
        ensure!(
            is_there(&listed) || is_there(&builtin),
            "{module} is not in the image:\n{listed}"
        );
    }
    let golden = golden::tag(&made.kit.golden.disk().partition(2), "UUID")?;
    ensure!(
        !holds(&bytes, &golden),
        "the image names the golden root {golden}"
    );
    let own = golden::tag(&disk.partition(2), "UUID")?;
    ensure!(
        holds(&bytes, &own),
        "the image does not name the clone's root {own}, which dracut was to find"
    );
    Ok(())
}

/// Insists that systemd-boot takes the new image, and that its entry has no name of another machine.
fn expect_entry(made: &Made, root: &Path) -> Result<()> {
    ensure!(
        fs::read(root.join(made.image_on_esp()))? == fs::read(root.join(made.image()))?,
        "the image on the ESP is another one than that in /boot"
    );
    let own = text(root, "etc/machine-id")?;
    ensure!(own.trim() != made.entry.token, "the machine-id is the golden one");
    let entry = text(root, &made.boot_entry())?;
    ensure!(
        entry.contains(&format!("systemd.machine_id={}\n", own.trim())),
        "the entry gives the clone another machine-id than {own}:\n{entry}"
    );
    ensure!(text(root, "etc/kernel/entry-token")?.trim() == made.entry.token);
    Ok(())
}

#[test]
fn a_debian_with_dracut_and_extlinux_boots_what_was_rebuilt_for_this_hardware() -> Result<()> {
    let made = made("loaders")?;
    let kit = &made.kit;
    let golden = kit.golden.root();
    for image in [made.image(), made.image_on_esp()] {
        ensure!(text(golden, &image)? == debian::GOLDEN_IMAGE);
    }
    ensure!(
        text(golden, &made.boot_entry())?.contains(&format!("systemd.machine_id={}\n", made.entry.token)),
        "kernel-install writes other entries than it did: this test proves nothing"
    );
    let disk = kit.disk("n1", 2 * GIB, 512)?;
    let server = kit.server(&["-n", "1", "-r", "extlinux --with=ahci"])?;
    let node = kit.node(1, &server, &disk, &["--name", "solo"])?;
    finish(server, vec![node])?.expect_success()?;

    let clone = kit.mounted(&disk, &kit.plan.volumes)?;
    let root = clone.root();
    expect_extlinux_on(&disk, root)?;
    expect_own_references(&made, &disk, root)?;
    expect_rebuilt(&made, &disk, root)?;
    expect_entry(&made, root)?;
    drop(clone);
    kit.lab.expect_unmounted(1)
}

/// A machine-id that a golden system has, and that no clone may have.
const GOLDEN_ID: &str = "00112233445566778899aabbccddeeff";

/// Makes a small golden system with this machine-id.
fn small_with_id(label: &str) -> Result<Kit> {
    let kit = Kit::small(label, 1)?;
    fs::write(kit.golden.root().join("etc/machine-id"), format!("{GOLDEN_ID}\n"))?;
    Ok(kit)
}

/// Insists that the server refuses the file if it is there in time, and that the clone fails if it appears
/// later.
fn expect_failed_by(kit: &Kit, disk: &Disk, file: &str) -> Result<()> {
    let says = format!("{file} says systemd.machine_id={GOLDEN_ID}");
    let server = kit
        .lab
        .server_program()?
        .args(["-n", "1", "-r", "none", "--root"]);
    let refused = server.arg(kit.golden.root()).finish()?;
    refused.expect(1)?.says(&says)?.says("--keep-identity")?;
    let path = kit.golden.root().join(file.trim_start_matches('/'));
    let bytes = fs::read(&path)?;
    fs::remove_file(&path)?;
    let server = kit.server(&["-n", "1", "-r", "none"])?;
    fs::write(&path, bytes)?;
    let node = kit.node(1, &server, disk, &[])?;
    let outcome = finish(server, vec![node])?;
    outcome.nodes[0].expect(3)?.says(&says)?;
    ensure!(!disk.looks_finished()?, "the disk looks finished");
    kit.lab.expect_unmounted(1)
}

#[test]
fn a_command_line_that_makes_every_clone_the_golden_machine_fails_the_clone() -> Result<()> {
    let kit = small_with_id("machineid")?;
    // The file is made by hand: there is no GRUB in this system that would make it anew.
    let dir = kit.golden.root().join("boot/grub");
    fs::create_dir_all(&dir)?;
    fs::write(
        dir.join("grub.cfg"),
        format!("linux /vmlinuz systemd.machine_id={GOLDEN_ID}\n"),
    )?;
    let disk = kit.same_disk("n1")?;
    expect_failed_by(&kit, &disk, "/boot/grub/grub.cfg")?;
    kit.clone_to(&[&disk], &["--keep-identity"])?.expect_success()
}

#[test]
fn a_unified_kernel_image_with_the_golden_machine_id_fails_the_clone() -> Result<()> {
    const STUB: &str = "./usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let kit = small_with_id("unified")?;
    let scratch = kit.lab.scratch();
    Program::new("tar")
        .arg("-xf")
        .arg(debian::with_other_tools()?)
        .arg("-C")
        .arg(scratch.path())
        .arg(STUB)
        .run()?;
    let line = scratch.path().join("cmdline");
    fs::write(&line, format!("quiet systemd.machine_id={GOLDEN_ID}"))?;
    let dir = kit.golden.root().join("boot/efi/EFI/Linux");
    fs::create_dir_all(&dir)?;
    // systemd-stub(7) shows how to put an image together without ukify.
    Program::new("objcopy")
        .arg("--add-section")
        .arg(format!(".cmdline={}", line.display()))
        .args(["--change-section-vma", ".cmdline=0x30000"])
        .arg(scratch.path().join(STUB))
        .arg(dir.join("golden.efi"))
        .run()?;
    expect_failed_by(&kit, &kit.same_disk("n1")?, "/boot/efi/EFI/Linux/golden.efi")
}
