//! GRUB as packages bring it, through our TFTP and HTTP: each file is fetched once, and none stands still. A GRUB that has
//! HTTP once lost more than two minutes at each boot, `local` included, over the case of one header.

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

use crate::kit;

/// What `/init` says first.
const INIT: &str = "KA node ";
/// From the menu to the kernel's file at most: GRUB stood still for 134 s here. It takes about ten.
const KERNEL_LIMIT: Duration = Duration::from_secs(60);
/// How often the server's lines are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// What GRUB's own image does: an address where the firmware left none, then the menu of this card.
const EARLY: &str = "\
if [ -z \"$net_default_mac\" ]; then net_bootp; fi
configfile (tftp,10.77.0.1)/grub/grub.cfg-$net_default_mac
";
const MODULES: &str =
    "net tftp http linux normal configfile echo test search search_fs_file chain boot reboot sleep halt";

/// One GRUB, and what starts it.
struct Boot {
    name: &'static str,
    firmware: Firmware,
    /// The image, under the name that the server gives to machines of this firmware.
    program: PathBuf,
}

#[test]
fn each_grub_fetches_each_file_once_and_by_http_where_it_can() -> Result<()> {
    reported(|| {
        let room = Room::new("grubs", &golden::plan(Firmware::Bios))?;
        let images = kit::images(&room)?;
        let grubs = [
            Boot {
                name: "grub-2.06-http",
                firmware: Firmware::Uefi,
                program: own_image(&room, "x86_64-efi", "efinet")?,
            },
            Boot {
                name: "grub-2.12-signed",
                firmware: Firmware::Uefi,
                program: debian::grub_of_trixie()?,
            },
        ];
        for (number, grub) in (11..).zip(grubs) {
            boots(&room, &images, number, &grub).with_context(|| grub.name)?;
        }
        Ok(())
    })
}

/// Boots a machine through one GRUB to `/init`.
fn boots(room: &Room, images: &Path, number: u8, grub: &Boot) -> Result<()> {
    let files = room.lab.scratch().dir(grub.name)?;
    for name in ["bootx64.efi", "grubx64.efi"] {
        std::fs::copy(&grub.program, files.join(name))?;
    }
    let node = room.node(
        Spec::new(grub.name, number, grub.firmware, Bus::Ahci, Card::Virtio),
        64 * MIB,
    )?;
    let nodes = [node];
    let files = files.display().to_string();
    let args = ["--dhcp", FULL_DHCP, "--boot-files", &files];
    let pxe = kit::serve(room, images, &nodes, &args, SERVER_LIMIT)?;
    let _seat = seats::take(1);
    let took =
        to_the_kernel(room, &nodes[0], &pxe).with_context(|| format!("ka-pxe said:\n{}", pxe.said()))?;
    let said = pxe.said();
    let probes = said.matches("fetched ka-http ").count();
    ensure!(probes == 1, "ka-http was fetched {probes} times:\n{said}");
    let kernels = said.matches("fetched vmlinuz ").count();
    ensure!(kernels == 1, "the kernel was fetched {kernels} times:\n{said}");
    eprintln!("{}: menu to kernel {:.1} s", grub.name, took.as_secs_f64());
    Ok(())
}

/// Switches the machine on, waits for `/init`, and gives the time from its menu to its kernel.
fn to_the_kernel(room: &Room, node: &Node, pxe: &Running) -> Result<Duration> {
    let powered = room.power_on(node)?;
    let mut patience = powered.console.patience(BOOT_LIMIT);
    let mut menu = None;
    let took = loop {
        let said = pxe.said();
        if menu.is_none() && said.contains(" boots kamethod") {
            menu = Some(Instant::now());
        }
        if let Some(menu) = menu.filter(|_| said.contains("fetched vmlinuz ")) {
            break menu.elapsed();
        }
        if let Err(late) = patience.check(powered.console.text().len()) {
            anyhow::bail!("the kernel {late}:\n{}", powered.console.text());
        }
        std::thread::sleep(LOOK);
    };
    let limit = KERNEL_LIMIT.mul_f64(pace::slowness());
    ensure!(
        took < limit,
        "from its menu to its kernel it took {} s, at most {} s are right",
        took.as_secs(),
        limit.as_secs()
    );
    powered.wait_for(Mark::default(), INIT, BOOT_LIMIT)?;
    powered.cut()?;
    Ok(took)
}

/// A GRUB 2.06 with HTTP, as `grub-mknetdir` makes it: Debian 12's signed one has only TFTP.
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
