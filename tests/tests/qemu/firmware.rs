//! The ways of firmware to `/init` that no other test here takes: pxelinux, UEFI HTTP boot, and Secure Boot
//! beside an address server that names KA's. Nothing is cloned.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, MIB};
use ka_tests::process::Running;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, FULL_DHCP, Node, Room, SERVER_LIMIT};
use ka_tests::qemu::seats;

use crate::boot_server::{self, RomOf};

/// First words of `/init`.
const INIT: &str = "KA node ";
/// A boot record that prints `the disk boots` and halts. 16-bit code: it prints the text behind it by INT
/// 10h, function 0Eh.
const BOOT_RECORD: &[u8] =
    b"\x31\xc0\x8e\xd8\xbe\x16\x7c\xac\x08\xc0\x74\x06\xb4\x0e\xcd\x10\xeb\xf5\xf4\xeb\xfd\x90\
    \r\nthe disk boots\r\n\0";
/// Firmware setting that switches PXE off, so that HTTP boot is left.
const NO_PXE: &str = "name=opt/org.tianocore/IPv4PXESupport,string=no";

#[test]
fn pxelinux_and_uefi_http_boot_lead_to_init_and_an_unarmed_machine_to_its_disk() -> Result<()> {
    reported(|| {
        let room = Room::new("firmware", &golden::plan(Firmware::Bios))?;
        let images = boot_server::images(&room)?;
        let unarmed = pxelinux_machine(&room, "unarmed", 1)?;
        let mut http = Spec::new("http", 3, Firmware::Uefi, Bus::Ahci, Card::Virtio);
        http.options.extend(["-fw_cfg", NO_PXE].map(str::to_owned));
        let armed = [
            pxelinux_machine(&room, "pxelinux", 2)?,
            room.node(http, 64 * MIB)?,
        ];
        unarmed.disk.checked()?;
        boot_record(&unarmed.disk)?;
        let args = ["--dhcp", FULL_DHCP];
        let pxe = boot_server::serve(&room, &images, &armed, &args, SERVER_LIMIT)?;
        let _seats = seats::take(2);
        let said = || format!("ka-pxe said:\n{}", pxe.said());

        let (local, clone) = (room.power_on(&unarmed)?, room.power_on(&armed[0])?);
        local
            .wait_for(Mark::default(), "local boots by itself", BOOT_LIMIT)
            .and_then(|menu| local.wait_for(menu, "the disk boots", BOOT_LIMIT))
            .with_context(said)?;
        local.cut()?;
        clone
            .wait_for(Mark::default(), "kamethod boots by itself", BOOT_LIMIT)
            .and_then(|menu| clone.wait_for(menu, INIT, BOOT_LIMIT))
            .with_context(said)?;
        clone.cut()?;
        // Pxelinux asks for the name by UUID first; this name has the MAC address, and finds the menu.
        fetched(&pxe, "pxelinux.cfg/01-52-54-00-4b-41-02")?;

        let http = room.power_on(&armed[1])?;
        http.wait_for(Mark::default(), "Start HTTP Boot over IPv4", BOOT_LIMIT)
            .and_then(|boot| http.wait_for(boot, INIT, BOOT_LIMIT))
            .with_context(said)?;
        http.cut()?;
        fetched(&pxe, "snponly.efi")?;
        ensure!(pxe.said().contains("(UEFI x64, HTTP boot)"), "{}", pxe.said());
        Ok(())
    })
}

#[test]
fn secure_boot_finds_its_menu_beside_an_address_server_that_names_us() -> Result<()> {
    reported(|| {
        let room = Room::new("beside", &golden::plan(Firmware::Bios))?;
        let images = boot_server::images(&room)?;
        let spec = Spec::new("named", 5, Firmware::SecureBoot, Bus::Ahci, Card::Virtio);
        let nodes = [room.node(spec, 64 * MIB)?];
        let other = room.lab.network().node(1);
        let _seat = seats::take(1);

        // This address server names KA's boot server.
        let dnsmasq = boot_server::dnsmasq(other, &["--dhcp-boot=bootx64.efi,ka,10.77.0.1"], SERVER_LIMIT)?;
        let mut pxe = boot_server::serve(&room, &images, &nodes, &["--dhcp", "off"], SERVER_LIMIT)?;
        let named = room.power_on(&nodes[0])?;
        pxe.wait_for("fetched vmlinuz")
            .with_context(|| both(&pxe, &dnsmasq))?;
        named.cut()?;
        drop(pxe);

        // The operator is told that this firmware cannot do it.
        let mut pxe = boot_server::serve(&room, &images, &nodes, &["--dhcp", "proxy"], SERVER_LIMIT)?;
        pxe.wait_for("get iPXE, which Secure Boot refuses")
    })
}

/// Makes a BIOS machine whose PXE ROM takes pxelinux.
fn pxelinux_machine(room: &Room, name: &'static str, number: u8) -> Result<Node> {
    let url = "tftp://10.77.0.1/pxelinux.0";
    boot_server::rom_machine(room, &RomOf { name, number, url })
}

fn boot_record(disk: &Disk) -> Result<()> {
    let mut sector = [0; 512];
    sector[..BOOT_RECORD.len()].copy_from_slice(BOOT_RECORD);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = fs::OpenOptions::new().write(true).open(disk.file())?;
    file.write_all_at(&sector, 0)?;
    disk.reread()
}

fn fetched(pxe: &Running, name: &str) -> Result<()> {
    let said = pxe.said();
    ensure!(
        said.contains(&format!("fetched {name} ")),
        "nobody fetched {name}:\n{said}"
    );
    Ok(())
}

fn both(pxe: &Running, dnsmasq: &Running) -> String {
    format!("ka-pxe said:\n{}\ndnsmasq said:\n{}", pxe.said(), dnsmasq.said())
}
