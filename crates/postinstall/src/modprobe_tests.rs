//! A golden kernel with a few modules, and machines of other makes.

use std::fs;

use super::*;
use crate::files::fixture::Texts;
use crate::plan::Action;

/// `modules.*` as depmod writes them, cut down to a few modules.
pub(crate) fn index() -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "modules.dep",
        "kernel/drivers/ata/libata.ko: kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko\n\
         kernel/drivers/ata/libahci.ko: kernel/drivers/ata/libata.ko kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko\n\
         kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko kernel/drivers/ata/libata.ko kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko\n\
         kernel/drivers/scsi/scsi_common.ko:\n\
         kernel/drivers/scsi/scsi_mod.ko: kernel/drivers/scsi/scsi_common.ko\n\
         kernel/drivers/scsi/sd_mod.ko: kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko\n\
         kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n\
         kernel/drivers/block/floppy.ko:\n\
         kernel/drivers/virtio/virtio.ko:\n\
         kernel/drivers/virtio/virtio_ring.ko:\n\
         kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n\
         kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n\
         kernel/drivers/net/ethernet/intel/e1000/e1000.ko:\n\
         kernel/drivers/gpu/drm/tiny/bochs.ko:\n\
         kernel/fs/jbd2/jbd2.ko:\n\
         kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\n",
    );
    write(
        "modules.alias",
        "# Aliases\nalias pci:v00008086d00002922sv*sd*bc*sc*i* ahci\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
         alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
         alias virtio:d00000002v* virtio_blk\nalias virtio:d00000001v* virtio_net\nalias scsi:t-0x00* sd_mod\n\
         alias pci:v00001234d00001111sv*sd*bc*sc*i* bochs\nalias acpi*:PNP0700:* floppy\n",
    );
    let index = Index::load(dir.path()).unwrap();
    (dir, index)
}

/// Returns a `/sys` with these devices (name, modalias) and interfaces (name, device).
pub(crate) fn sys(devices: &[(&str, &str)], interfaces: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, modalias) in devices {
        let device = dir.path().join("devices/pci0000:00").join(name);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), format!("{modalias}\n")).unwrap();
    }
    for (name, device) in interfaces {
        let interface = dir.path().join("class/net").join(name);
        fs::create_dir_all(&interface).unwrap();
        std::os::unix::fs::symlink(
            format!("../../../devices/pci0000:00/{device}"),
            interface.join("device"),
        )
        .unwrap();
    }
    fs::create_dir_all(dir.path().join("class/net/lo")).unwrap();
    dir
}

/// Returns the hardware of QEMU with an AHCI disk and an Intel card.
pub(crate) fn ahci_and_e1000() -> Hardware {
    let dir = sys(
        &[
            (
                "0000:00:01.0",
                "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00",
            ),
            (
                "0000:00:1f.2",
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            ),
            ("0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "scsi:t-0x00"),
            (
                "0000:00:03.0",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
            ),
            ("PNP0700:00", "acpi:PNP0700:"),
        ],
        &[("eth0", "0000:00:03.0")],
    );
    Hardware::read(dir.path())
}

#[test]
fn a_clone_on_other_hardware_gets_that_hardwares_drivers() {
    let (_dir, index) = index();
    let needed = NeededModules::of(&ahci_and_e1000(), &index, &[]);
    assert_eq!(
        needed.aliases(),
        ["alias scsi_hostadapter ahci", "alias eth0 e1000"]
    );
    assert_eq!(
        needed.initramfs,
        ["scsi_common", "scsi_mod", "libata", "libahci", "ahci", "sd_mod"]
    );
    let virtio = sys(
        &[
            (
                "0000:00:04.0",
                "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
            ),
            ("0000:00:04.0/virtio0", "virtio:d00000002v00001AF4"),
            ("0000:00:05.0/virtio1", "virtio:d00000001v00001AF4"),
        ],
        &[("ens5", "0000:00:05.0/virtio1")],
    );
    let needed = NeededModules::of(&Hardware::read(virtio.path()), &index, &["ext4", "proc"]);
    assert_eq!(
        needed.aliases(),
        ["alias scsi_hostadapter virtio_blk", "alias ens5 virtio_net"]
    );
    assert!(needed.initramfs.contains(&"virtio_pci".to_owned()), "{needed:?}");
    assert!(
        needed
            .initramfs
            .ends_with(&["jbd2".to_owned(), "ext4".to_owned()]),
        "{needed:?}"
    );
    assert!(!needed.initramfs.contains(&"virtio_net".to_owned()), "{needed:?}");
}

#[test]
fn todays_systems_get_a_file_of_their_own() {
    let (_dir, index) = index();
    let plan = plan(
        &Texts::default(),
        &NeededModules::of(&ahci_and_e1000(), &index, &[]),
    )
    .unwrap();
    let [Action::Write { path, bytes, .. }] = plan.actions.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(path, MODERN);
    let text = String::from_utf8_lossy(bytes);
    assert!(
        text.ends_with("alias netdev-eth0 e1000\nalias scsi_hostadapter ahci\n"),
        "{text}"
    );
    assert_eq!(
        plan.lines(),
        [
            "/etc/modprobe.d/ka-hardware.conf: alias scsi_hostadapter ahci",
            "/etc/modprobe.d/ka-hardware.conf: alias eth0 e1000"
        ]
    );
}

#[test]
fn an_old_modprobe_conf_loses_the_golden_hardware_and_keeps_the_rest() {
    let (_dir, index) = index();
    let files = Texts::new(&[(
        OLD,
        "alias eth0 tg3\nalias scsi_hostadapter megaraid\noptions loop max_loop=64\nalias ethernet-x y\n",
    )]);
    let plan = plan(&files, &NeededModules::of(&ahci_and_e1000(), &index, &[])).unwrap();
    let [Action::Write { bytes, .. }] = plan.actions.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(
        String::from_utf8_lossy(bytes),
        "options loop max_loop=64\nalias ethernet-x y\nalias scsi_hostadapter ahci\nalias eth0 e1000\n"
    );
}
