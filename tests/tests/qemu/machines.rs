//! The lab of machines itself, and in the same boot the packages on a machine with systemd.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, MIB};
use ka_tests::lab::Lab;
use ka_tests::process::Program;
use ka_tests::qemu::accel::{self, Accel};
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Machine, Spec};
use ka_tests::qemu::seats;
use ka_tests::scratch::Scratch;

use crate::{boot_server, packaged};

const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// `mfence; out 0xf4,al; hlt`: a memory barrier, and the end of the machine by its debug exit.
const FENCE_AND_EXIT: [u8; 6] = [0x0F, 0xAE, 0xF0, 0xE6, 0xF4, 0xF4];
/// Size of the ROM, which ends at 4 GiB, and the place in it where an x86 processor begins.
const ROM_BYTES: usize = 64 << 10;
const RESET_VECTOR: usize = ROM_BYTES - 16;

#[test]
fn an_emulated_machine_with_one_processor_keeps_its_memory_barriers() -> Result<()> {
    let scratch = Scratch::new("barriers")?;
    let (rom, log) = (scratch.path().join("rom"), scratch.path().join("log"));
    let mut code = vec![0; ROM_BYTES];
    code[RESET_VECTOR..][..FENCE_AND_EXIT.len()].copy_from_slice(&FENCE_AND_EXIT);
    fs::write(&rom, code)?;
    Program::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args([
            "-machine",
            "q35",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=1",
        ])
        .args(Accel::Tcg.options())
        .args(["-smp", &Accel::Tcg.processors(1), "-d", "in_asm,op", "-D"])
        .arg(&log)
        .arg("-bios")
        .arg(&rom)
        .limit(BOOT_LIMIT)
        .finish()?
        .expect(1)?;
    let translated = fs::read_to_string(log)?;
    ensure!(
        translated.contains("mfence"),
        "the machine ran something else: {translated}"
    );
    let is_barrier = |line: &str| line.trim_start().starts_with("mb ");
    ensure!(
        translated.lines().any(is_barrier),
        "the barrier is left out: {translated}"
    );
    Ok(())
}

#[test]
fn the_golden_debian_boots_to_a_login_prompt_and_lives_with_the_package() -> Result<()> {
    reported(|| {
        let lab = Lab::new("golden-boot", 0, None)?;
        let golden = golden::make(lab.scratch(), &golden::plan(Firmware::Bios))?;
        let (kernel, initramfs) = (golden::kernel(golden.root())?, golden::initramfs(golden.root())?);
        packaged::install(lab.scratch(), golden.root())?;
        let accel = accel::choose(&kernel)?;
        let mut spec = Spec::new("golden", 1, Firmware::Bios, Bus::Virtio, Card::Virtio);
        for (option, file) in [("-kernel", &kernel), ("-initrd", &initramfs)] {
            let copy = lab.scratch().path().join(option);
            fs::copy(file, &copy)?;
            spec.options
                .extend([option.to_owned(), copy.display().to_string()]);
        }
        spec.options
            .extend(["-append", "console=ttyS0 root=/dev/vda1 ro"].map(str::to_owned));
        let disk = golden.into_disk();
        let _seat = seats::take(1);
        let machine = Machine::new(lab.scratch(), lab.network(), spec)?;
        let powered = machine.power_on(lab.scratch(), lab.network(), &disk, accel)?;
        powered.login(Mark::default(), BOOT_LIMIT)?;
        let mounted = powered
            .console
            .command("findmnt -n -o FSTYPE / && findmnt -n -o FSTYPE /srv")?;
        assert_eq!(mounted, "ext4\nxfs\n");
        assert_eq!(powered.console.command("hostname")?, "golden\n");
        packaged::serves_upgrades_and_goes(&powered.console)?;
        powered.console.send("poweroff\n")?;
        powered.wait_off(BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn a_boot_rom_gets_its_program_from_dnsmasq() -> Result<()> {
    reported(|| {
        let lab = Lab::new("rom", 0, None)?;
        let root = lab.scratch().dir("tftp")?;
        for file in [
            "/usr/lib/PXELINUX/pxelinux.0",
            "/usr/lib/syslinux/modules/bios/ldlinux.c32",
        ] {
            let name = Path::new(file).file_name().context("a file has a name")?;
            fs::copy(file, root.join(name)).with_context(|| format!("copying {file}"))?;
        }
        fs::create_dir(root.join("pxelinux.cfg"))?;
        fs::write(
            root.join("pxelinux.cfg/default"),
            "SERIAL 0 115200\nSAY the lab says hello\nPROMPT 1\n",
        )?;
        let tftp_root = format!("--tftp-root={}", root.display());
        let args = ["--dhcp-boot=pxelinux.0", "--enable-tftp", &tftp_root];
        let mut dnsmasq = boot_server::dnsmasq(lab.network().golden(), &args, BOOT_LIMIT)?;
        let disk = Disk::new(lab.scratch(), "empty", MIB, 512)?;
        for card in [Card::Virtio, Card::E1000] {
            let spec = Spec::new("rom", 1, Firmware::Bios, Bus::Ahci, card);
            let _seat = seats::take(1);
            let machine = Machine::new(lab.scratch(), lab.network(), spec)?;
            let powered = machine.power_on(lab.scratch(), lab.network(), &disk, Accel::Tcg)?;
            powered
                .wait_for(Mark::default(), "the lab says hello", BOOT_LIMIT)
                .with_context(|| format!("{card:?}; dnsmasq: {}", dnsmasq.said()))?;
            powered.cut()?;
        }
        assert!(!dnsmasq.has_ended()?);
        Ok(())
    })
}
