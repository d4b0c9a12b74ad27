//! The boot programs of packages, through our TFTP and HTTP: each file is fetched once, none stalls, and the
//! big ones come by HTTP if the program has it. A GRUB with HTTP once lost more than two minutes at each
//! boot, `local` included, over the case of one header. Each test prints a table of times (`docs/testing.md`
//! has it).
//!
//! Not tested: `lpxelinux.0`, which stalls before its first request under the PXE interface of QEMU's iPXE.
//! Elsewhere: `pxelinux.0`, and iPXE by UEFI HTTP boot (`firmware`); shim and its GRUB, which have TFTP only
//! (`uefi`, `firmware`); iPXE as the ROM of a card (`bios`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::disk::MIB;
use ka_tests::process::{Program, Running};
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::pace;
use ka_tests::qemu::room::{BOOT_LIMIT, FULL_DHCP, Node, Room, SERVER_LIMIT};
use ka_tests::qemu::seats;

use crate::boot_server::{self, RomOf};

/// First words of `/init`.
const INIT: &str = "KA node ";
/// The files that take long by TFTP.
const BIG: [&str; 2] = ["vmlinuz", "initrd.img"];
/// Longest time from the menu to the last big file, on the machine that limits are for. It takes about ten
/// seconds; GRUB once stood still for 134 s here.
const KERNEL_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at the server's lines.
const LOOK: Duration = Duration::from_millis(200);
/// Commands of GRUB's own image: they get an address if the firmware left none, then the menu of this card.
const EARLY: &str = "\
if [ -z \"$net_default_mac\" ]; then net_bootp; fi
configfile (tftp,10.77.0.1)/grub/grub.cfg-$net_default_mac
";
const MODULES: &str =
    "net tftp http linux normal configfile echo test search search_fs_file chain boot reboot sleep halt";
/// Path at which `grub-mknetdir` puts GRUB's first program for a BIOS.
const CORE: &str = "boot/grub/i386-pc/core.0";

/// One boot program, and its starter.
struct Boot {
    name: &'static str,
    by: By,
}

/// The starter of a boot program.
enum By {
    /// UEFI, which asks for the server's names for its kind of machine: they lead to this file.
    Uefi(PathBuf),
    /// The ROM of a BIOS machine, which fetches this URL; a directory may add programs of the operator's to
    /// the packages' own.
    Rom(String, Option<PathBuf>),
}

/// The time of one boot, in seconds.
struct Times {
    name: &'static str,
    /// Time from power-on to the menu.
    menu: f64,
    /// Time from the menu to the last big file.
    files: f64,
    /// Time from there to the first line of `/init`.
    init: f64,
}

#[test]
fn each_uefi_program_fetches_each_file_once_and_the_big_ones_by_http() -> Result<()> {
    reported(|| {
        let room = Room::new("uefiprograms", &golden::plan(Firmware::Bios))?;
        let uefi = |name, program| Boot {
            name,
            by: By::Uefi(program),
        };
        boot_all(
            &room,
            vec![
                uefi("grub-2.06-http", own_image(&room, "x86_64-efi", "efinet")?),
                uefi("grub-2.12-signed", debian::grub_of_trixie()?),
                uefi("ipxe.efi", packaged("/usr/lib/ipxe/ipxe.efi")?),
                uefi("snponly.efi", packaged("/usr/lib/ipxe/snponly.efi")?),
            ],
        )
    })
}

#[test]
fn each_bios_program_fetches_each_file_once_and_the_big_ones_by_http() -> Result<()> {
    reported(|| {
        let room = Room::new("biosprograms", &golden::plan(Firmware::Bios))?;
        let grub = room.lab.scratch().dir("grub-net")?;
        Program::new("grub-mknetdir")
            .arg(format!("--net-directory={}", grub.display()))
            .args(["--subdir=boot/grub", "-d", "/usr/lib/grub/i386-pc"])
            .run()?;
        let rom = |name, url: &str, files| Boot {
            name,
            by: By::Rom(url.to_owned(), files),
        };
        boot_all(
            &room,
            vec![rom(
                "grub-2.06-pc",
                &format!("tftp://10.77.0.1/{CORE}"),
                Some(grub),
            )],
        )
    })
}

/// Boots a machine through each of them, one after the other, and prints the times.
fn boot_all(room: &Room, boots: Vec<Boot>) -> Result<()> {
    let images = boot_server::images(room)?;
    let mut table =
        String::from("program              to the menu   to the last file   to /init   seconds\n");
    for (number, boot) in (11..).zip(boots) {
        let times = boots_to_init(room, &images, number, &boot).with_context(|| boot.name)?;
        table += &format!(
            "{:<20} {:>11.1} {:>18.1} {:>10.1}\n",
            times.name, times.menu, times.files, times.init
        );
    }
    eprintln!(
        "{table}this machine is {:.1} times slower than that of the limits",
        pace::slowness()
    );
    Ok(())
}

/// Boots a machine through one program to `/init`.
fn boots_to_init(room: &Room, images: &Path, number: u8, boot: &Boot) -> Result<Times> {
    let node = match &boot.by {
        By::Uefi(_) => {
            let spec = Spec::new(boot.name, number, Firmware::Uefi, Bus::Ahci, Card::Virtio);
            room.node(spec, 64 * MIB)?
        }
        By::Rom(url, _) => boot_server::rom_machine(
            room,
            &RomOf {
                name: boot.name,
                number,
                url,
            },
        )?,
    };
    let files = match &boot.by {
        By::Uefi(program) => {
            let files = room.lab.scratch().dir(&format!("files-{number}"))?;
            for name in ["bootx64.efi", "grubx64.efi"] {
                fs::copy(program, files.join(name))?;
            }
            Some(files)
        }
        By::Rom(_, files) => files.clone(),
    };
    let nodes = [node];
    let mut args = vec!["--dhcp".to_owned(), FULL_DHCP.to_owned()];
    if let Some(files) = files {
        args.extend(["--boot-files".to_owned(), files.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let _seat = seats::take(1);
    let pxe = boot_server::serve(room, images, &nodes, &args, SERVER_LIMIT)?;
    let times = times_of(room, boot.name, &nodes[0], &pxe)
        .with_context(|| format!("ka-pxe said:\n{}", pxe.said()))?;
    let said = pxe.said();
    fetched_well(&said).with_context(|| format!("ka-pxe said:\n{said}"))?;
    Ok(times)
}

/// Insists that each file was fetched once, and the big ones by HTTP. GRUB opens its configuration twice: to
/// test that it is there, and to read it.
fn fetched_well(said: &str) -> Result<()> {
    let mut fetched: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in said.lines() {
        if let Some((_, what)) = line.split_once(" fetched ")
            && let Some((name, how)) = what.split_once(" (")
        {
            fetched.entry(name).or_default().push(how);
        }
    }
    for (name, times) in &fetched {
        let most = if name.contains("grub.cfg") { 2 } else { 1 };
        ensure!(
            times.len() <= most,
            "{name} was fetched {} times: {times:?}",
            times.len()
        );
    }
    for name in BIG {
        let how = fetched
            .get(name)
            .with_context(|| format!("nobody fetched {name}"))?;
        ensure!(
            how[0].contains(" by HTTP "),
            "{name} did not come by HTTP: {}",
            how[0]
        );
    }
    Ok(())
}

/// Switches the machine on, waits for `/init` and returns the times.
fn times_of(room: &Room, name: &'static str, node: &Node, pxe: &Running) -> Result<Times> {
    let powered = room.power_on(node)?;
    let began = Instant::now();
    let mut patience = powered.console.patience(BOOT_LIMIT);
    let mut menu = None;
    let last = loop {
        let said = pxe.said();
        if menu.is_none() && said.contains(" boots kamethod") {
            menu = Some(Instant::now());
        }
        if BIG.iter().all(|file| said.contains(&format!("fetched {file} "))) {
            break Instant::now();
        }
        if let Err(late) = patience.check(powered.console.text().len()) {
            anyhow::bail!("the kernel {late}:\n{}", powered.console.text());
        }
        std::thread::sleep(LOOK);
    };
    let menu = menu.context("it has the kernel, and was given no menu")?;
    let (took, limit) = (last - menu, KERNEL_LIMIT.mul_f64(pace::slowness()));
    ensure!(
        took < limit,
        "from its menu to its last file it took {} s, at most {} s are right",
        took.as_secs(),
        limit.as_secs()
    );
    powered.wait_for(Mark::default(), INIT, BOOT_LIMIT)?;
    let init = last.elapsed();
    powered.cut()?;
    Ok(Times {
        name,
        menu: (menu - began).as_secs_f64(),
        files: took.as_secs_f64(),
        init: init.as_secs_f64(),
    })
}

fn packaged(path: &str) -> Result<PathBuf> {
    ensure!(Path::new(path).is_file(), "there is no {path} (package ipxe)");
    Ok(PathBuf::from(path))
}

/// Makes a GRUB 2.06 with HTTP by `grub-mkimage`: Debian 12's signed one has only TFTP.
fn own_image(room: &Room, format: &str, card: &str) -> Result<PathBuf> {
    let early = room.file("early.cfg", EARLY)?;
    let image = room.lab.scratch().path().join(format!("grub-{format}"));
    Program::new("grub-mkimage")
        .args(["-O", format, "-p", "/grub", "-c"])
        .arg(early)
        .arg("-o")
        .arg(&image)
        .arg(card)
        .args(MODULES.split(' '))
        .run()?;
    Ok(image)
}
