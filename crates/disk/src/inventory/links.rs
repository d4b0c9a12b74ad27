//! The names below `/dev/disk` that udev would give a disk. A node that was booted into memory has no udev,
//! and `by-id` and `by-path` are the names that stay the same from boot to boot.
//!
//! The rules are udev's (systemd, `rules.d/60-persistent-storage.rules`, `udev-builtin-path_id.c`).

use std::fs;
use std::path::Path;

/// Shortest serial number that identifies a disk; shorter ones (`1`, `OEM`) are no use as names.
const LEAST_SERIAL: usize = 4;

/// True if `/dev/disk/by-id/NAME` means the disk with this serial number and world-wide name.
pub(super) fn is_by_id(name: &str, serial: &str, wwid: &str) -> bool {
    let Some((_, rest)) = name.split_once('-') else {
        return false;
    };
    // The kernel writes naa.5000c500…, udev wwn-0x5000c500…; eui. and nvme. are the same in both.
    let of_wwid = match wwid.split_once('.') {
        Some(("naa", number)) => rest == format!("0x{number}") || rest == format!("3{number}"),
        Some(("eui" | "nvme", _)) => rest == wwid,
        _ => false,
    };
    let serial = serial.replace(' ', "_");
    // A name space of an NVMe disk may have its number behind the serial number.
    let bare = rest.strip_suffix("_1").unwrap_or(rest);
    let of_serial = |rest: &str| rest == serial || rest.ends_with(&format!("_{serial}"));
    of_wwid || (serial.len() >= LEAST_SERIAL && (of_serial(rest) || of_serial(bare)))
}

/// Returns the names in `/dev/disk/by-path` of a disk. `dir` is its directory in sysfs, links followed.
pub(super) fn by_path(dir: &Path) -> Vec<String> {
    let Ok(device) = dir.canonicalize() else {
        return Vec::new();
    };
    let parts: Vec<&str> = device.iter().filter_map(|part| part.to_str()).collect();
    let Some(at) = parts.iter().rposition(|part| is_pci(part)) else {
        return Vec::new();
    };
    let (pci, behind) = (parts[at], &parts[at + 1..]);
    let controller: std::path::PathBuf = parts[..=at].iter().collect();
    let address = format!("pci-{pci}");
    let below = |what: String| vec![format!("{address}-{what}")];
    let first = behind.first().copied().unwrap_or_default();
    if first == "nvme" {
        let number = fs::read_to_string(dir.join("nsid")).unwrap_or_default();
        return below(format!("nvme-{}", number.trim()));
    }
    if first.starts_with("virtio") {
        return vec![address.clone(), format!("virtio-{address}")];
    }
    if first.starts_with("ata") {
        let port = controller
            .join(first)
            .join("ata_port")
            .join(first)
            .join("port_no");
        let Ok(port) = fs::read_to_string(port) else {
            return Vec::new();
        };
        let port = port.trim();
        return ["", ".0"].map(|end| format!("{address}-ata-{port}{end}")).into();
    }
    match behind.iter().find_map(|part| scsi_place(part)) {
        // udev counts hosts from the controller's first.
        Some(place) if first.starts_with("host") => {
            below(format!("scsi-{}:{place}", host_index(&controller, first)))
        }
        _ => Vec::new(),
    }
}

/// True for a PCI address: `0000:00:1f.2`.
fn is_pci(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() == 12 && bytes[4] == b':' && bytes[7] == b':' && bytes[10] == b'.'
}

/// Returns the part behind the host of `2:0:1:0`.
fn scsi_place(part: &str) -> Option<String> {
    let numbers: Vec<&str> = part.split(':').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (numbers.len() == 4 && numbers.iter().all(is_number)).then(|| numbers[1..].join(":"))
}

fn host_index(controller: &Path, host: &str) -> usize {
    let number = |name: &str| name.strip_prefix("host")?.parse::<usize>().ok();
    let entries = fs::read_dir(controller).into_iter().flatten().flatten();
    let hosts = entries.filter_map(|entry| number(&entry.file_name().to_string_lossy()));
    let first = hosts.min().unwrap_or(0);
    number(host).unwrap_or(0).saturating_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_id_are_udevs() {
        for (name, serial, wwid, means) in [
            ("wwn-0x5000c500a1b2c3d4", "", "naa.5000c500a1b2c3d4", true),
            ("scsi-35000c500a1b2c3d4", "", "naa.5000c500a1b2c3d4", true),
            ("nvme-eui.0025388b91b3c2d1", "", "eui.0025388b91b3c2d1", true),
            ("ata-ST1000DM010-2EP102_W9A123XY", "W9A123XY", "", true),
            ("nvme-Samsung_SSD_980_S64ENX0T123456", "S64ENX0T123456", "", true),
            (
                "nvme-Samsung_SSD_980_S64ENX0T123456_1",
                "S64ENX0T123456",
                "",
                true,
            ),
            ("virtio-data-disk-7", "data-disk-7", "", true),
            ("ata-QEMU_HARDDISK_QM00007", "QM0000", "", false),
            ("ata-QEMU_HARDDISK_QM00007", "7", "", false),
            ("ata-QEMU_HARDDISK_QM00007", "", "", false),
            ("wwn-0x5000c500a1b2c3d4", "", "naa.5000c500a1b2c3d5", false),
        ] {
            assert_eq!(is_by_id(name, serial, wwid), means, "{name} {serial} {wwid}");
        }
    }

    fn machine(path: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join(path);
        fs::create_dir_all(&disk).unwrap();
        for (file, text) in files {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        (dir, disk)
    }

    #[test]
    fn names_by_path_are_udevs() {
        let (_dir, disk) = machine(
            "pci0000:00/0000:00:1f.2/ata5/host4/target4:0:0/4:0:0:0/block/sda",
            &[("pci0000:00/0000:00:1f.2/ata5/ata_port/ata5/port_no", "3\n")],
        );
        assert_eq!(
            by_path(&disk),
            ["pci-0000:00:1f.2-ata-3", "pci-0000:00:1f.2-ata-3.0"]
        );
        let nvme = "pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0/nvme0n1";
        let (_dir, disk) = machine(nvme, &[(&format!("{nvme}/nsid"), "1\n")]);
        assert_eq!(by_path(&disk), ["pci-0000:01:00.0-nvme-1"]);
        let (_dir, disk) = machine("pci0000:00/0000:00:04.0/virtio1/block/vda", &[]);
        assert_eq!(by_path(&disk), ["pci-0000:00:04.0", "virtio-pci-0000:00:04.0"]);
        let (_dir, disk) = machine(
            "pci0000:00/0000:03:00.0/host2/target2:0:1/2:0:1:0/block/sdb",
            &[("pci0000:00/0000:03:00.0/host2/x", "")],
        );
        assert_eq!(by_path(&disk), ["pci-0000:03:00.0-scsi-0:0:1:0"]);
        let (_dir, disk) = machine("virtual/block/loop0", &[]);
        assert_eq!(by_path(&disk), [""; 0]);
    }
}
