//! A clone as the plans know it.

use ka_disk::spec::GoldenDevice;

use super::*;

/// Returns a clone with /boot/efi, swap and root on an NVMe disk, whose golden node had them on sda.
pub(crate) fn facts() -> Facts {
    let device = |number: u32, uuid: &str| CloneDevice {
        path: format!("/dev/nvme0n1p{number}"),
        uuid: Some(uuid.to_owned()),
        partuuid: Some(format!("99999999-0{number}")),
        label: None,
        partlabel: None,
        fstype: Some(["vfat", "swap", "ext4"][number as usize - 1].to_owned()),
    };
    let golden = |number: u32, uuid: &str, aliases: &[&str]| GoldenDevice {
        path: format!("/dev/sda{number}"),
        uuid: Some(uuid.to_owned()),
        partuuid: Some(format!("11111111-0{number}")),
        label: (number == 3).then(|| "system".to_owned()),
        partlabel: None,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    };
    let esp = device(1, "E5E5-0002");
    let swap = device(2, "aaaaaaaa-0002-4000-8000-000000000002");
    let root = device(3, "aaaaaaaa-0003-4000-8000-000000000003");
    let map = |golden: GoldenDevice, clone: &CloneDevice| DeviceMap {
        golden,
        clone: clone.clone(),
        options: Vec::new(),
    };
    let mount = |path: &str, device: &CloneDevice, partition, fstype: &str| MountFact {
        path: path.to_owned(),
        device: device.clone(),
        disk: "/dev/nvme0n1".to_owned(),
        partition,
        fstype: fstype.to_owned(),
        is_new_type: false,
        subvol: None,
    };
    Facts {
        node_name: "n7".to_owned(),
        mac: Some("52:54:00:00:00:07".to_owned()),
        golden_host: "golden".to_owned(),
        session: "kainstall".to_owned(),
        server: "10.0.1.1:30765".to_owned(),
        firmware: Firmware::Bios,
        secure_boot: false,
        sbat_level: Vec::new(),
        known_partitions: KnownPartitions::default(),
        keep_uuids: false,
        disks: vec![disk()],
        partitions: vec![esp.clone(), swap.clone(), root.clone()],
        devices: vec![
            map(golden(1, "E5E5-0001", &[]), &esp),
            map(golden(2, "11111111-0002-4000-8000-000000000002", &[]), &swap),
            map(
                golden(
                    3,
                    "11111111-0003-4000-8000-000000000003",
                    &["/dev/disk/by-id/ata-GOLDEN_X1-part3"],
                ),
                &root,
            ),
        ],
        bare: Vec::new(),
        known: Vec::new(),
        swap_files: Vec::new(),
        mounts: vec![mount("/", &root, 3, "ext4"), mount("/boot/efi", &esp, 1, "vfat")],
        boot: BootSpec::default(),
    }
}

fn disk() -> DiskFact {
    DiskFact {
        drive: "sda".to_owned(),
        path: "/dev/nvme0n1".to_owned(),
        table: TableKind::Mbr,
        has_bios_partition: false,
        esp: None,
        active: Some(3),
    }
}

#[test]
fn a_path_is_on_the_innermost_mount() {
    let facts = facts();
    assert_eq!(facts.mount_of("/boot/efi/EFI").unwrap().partition, 1);
    assert_eq!(facts.mount_of("/boot/grub").unwrap().partition, 3);
    assert_eq!(facts.mount_of("/boot/efix").unwrap().partition, 3);
    assert_eq!(facts.esp().unwrap().path, "/boot/efi");
}
