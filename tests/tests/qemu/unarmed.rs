//! Machines that must stay untouched: one that was not armed, and one whose server is not there.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, MIB};
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Spec};
use ka_tests::qemu::seats;
use ka_tests::tree;

use ka_tests::qemu::room::{BOOT_LIMIT, FULL_DHCP, Room};

use crate::boot_server;

/// The message of a node without a server, in the words of the original KA.
const NO_SERVER: &str = "Can't reach a valid KA server";
/// Attempts before it starts all over.
const TRIES: usize = 5;
/// Time limit of five attempts with growing pauses.
const TRIES_LIMIT: Duration = Duration::from_secs(420);

/// Neither a machine that is not armed nor one without a server loses a byte.
#[test]
fn nothing_is_written_without_an_armed_machine_and_a_server() -> Result<()> {
    reported(|| {
        let room = Room::new("unarmed", &golden::plan(Firmware::Bios))?;
        let images = boot_server::images(&room)?;
        let nodes = [
            room.node(
                Spec::new("unarmed", 1, Firmware::Bios, Bus::Ahci, Card::E1000),
                64 * MIB,
            )?,
            room.node(
                Spec::new("lonely", 2, Firmware::Bios, Bus::Virtio, Card::Virtio),
                64 * MIB,
            )?,
        ];
        let fingerprints = nodes
            .iter()
            .map(|node| scribble(&node.disk))
            .collect::<Result<Vec<_>>>()?;
        let limit = BOOT_LIMIT + TRIES_LIMIT;
        let pxe = boot_server::serve(&room, &images, &nodes[1..], &["--dhcp", FULL_DHCP], limit)?;
        let _seats = seats::take(nodes.len());
        let said = || format!("ka-pxe said:\n{}", pxe.said());
        let (unarmed, lonely) = (room.power_on(&nodes[0])?, room.power_on(&nodes[1])?);
        unarmed
            .wait_for(Mark::default(), "Booting from SAN device 0x80", BOOT_LIMIT)
            .and_then(|menu| unarmed.wait_for(menu, "ot a bootable disk", BOOT_LIMIT))
            .with_context(said)?;
        unarmed.cut()?;
        let text = lonely.wait_off(BOOT_LIMIT + TRIES_LIMIT).with_context(said)?;
        for attempt in 1..TRIES {
            let said = format!("no answer, try {attempt} of {TRIES}");
            ensure!(text.contains(&said), "it does not say {said:?}:\n{text}");
        }
        let end = format!("({TRIES} tries)");
        ensure!(
            text.lines()
                .any(|line| line.contains(NO_SERVER) && line.ends_with(&end)),
            "it does not end with {NO_SERVER:?} and {end:?}:\n{text}"
        );
        for (node, fingerprint) in nodes.iter().zip(fingerprints) {
            ensure!(
                node.disk.fingerprint()? == fingerprint,
                "{}'s disk was written",
                node.machine.spec().name
            );
        }
        Ok(())
    })
}

/// Fills a disk with data that must not be lost; returns its digest.
fn scribble(disk: &Disk) -> Result<String> {
    disk.checked()?;
    let file = fs::OpenOptions::new().write(true).open(disk.file())?;
    file.write_all_at(&tree::noise(4_194_304, 99), 0)?;
    disk.reread()?;
    disk.fingerprint()
}
