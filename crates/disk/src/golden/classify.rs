//! The kind of an fstab line, from the line alone.

use crate::fs_type::FsType;
use crate::fstab::FstabEntry;

/// Prefixes of devices that are made from nothing at boot, so that there is nothing to clone.
pub(super) const MADE_AT_BOOT: [&str; 3] = ["/dev/zram", "/dev/ram", "/dev/shm"];

/// The kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    /// Network, pseudo, bind and image file mounts: KA does not clone them, and the line stays.
    Foreign,
    /// A swap area on a device.
    SwapDevice,
    /// A swap file.
    SwapFile,
    /// A file system on a device, of a type that KA makes, or of a type that only the device can tell.
    Local,
    /// A file system on a device, of a type that KA does not make.
    Unsupported,
}

/// Returns the kind of a line.
pub(super) fn classify(entry: &FstabEntry) -> LineKind {
    let made_at_boot = MADE_AT_BOOT.iter().any(|name| entry.spec.starts_with(name));
    if made_at_boot || entry.has_option("bind") || entry.has_option("rbind") || entry.has_option("loop") {
        return LineKind::Foreign;
    }
    let on_device = names_a_device(&entry.spec);
    match (entry.is_swap(), on_device) {
        (true, true) => return LineKind::SwapDevice,
        (true, false) if entry.spec.starts_with('/') => return LineKind::SwapFile,
        (_, false) => return LineKind::Foreign,
        (false, true) => {}
    }
    let ours = |name: &str| name == "auto" || name.parse::<FsType>().is_ok();
    if entry.fstype.split(',').any(ours) {
        LineKind::Local
    } else {
        LineKind::Unsupported
    }
}

/// True if nothing relies on the mount at boot: `noauto`, `nofail` or an automount.
pub(super) fn is_optional(entry: &FstabEntry) -> bool {
    ["noauto", "nofail", "x-systemd.automount"]
        .iter()
        .any(|option| entry.has_option(option))
}

fn names_a_device(spec: &str) -> bool {
    const TAGS: [&str; 5] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="];
    spec.starts_with("/dev/") || TAGS.iter().any(|tag| spec.starts_with(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstab;

    fn kind(line: &str) -> LineKind {
        classify(&fstab::parse(line.as_bytes())[0])
    }

    #[test]
    fn network_pseudo_bind_and_image_mounts_are_foreign() {
        for line in [
            "nas:/export /data nfs4 defaults 0 0",
            "//nas/share /share cifs credentials=/etc/x 0 0",
            "tmpfs /tmp tmpfs size=1g 0 0",
            "proc /proc proc defaults 0 0",
            "/srv/home /home none bind 0 0",
            "/dev/sda5 /srv none rbind 0 0",
            "/iso/cd.iso /mnt/cd iso9660 loop,ro 0 0",
            "overlay /merged overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0",
            "/dev/zram0 none swap defaults 0 0",
        ] {
            assert_eq!(kind(line), LineKind::Foreign, "{line}");
        }
    }

    #[test]
    fn devices_are_local_when_their_type_is_ours() {
        assert_eq!(kind("UUID=ab / ext4 defaults 0 1"), LineKind::Local);
        assert_eq!(
            kind("/dev/mapper/vg-home /home auto defaults 0 2"),
            LineKind::Local
        );
        assert_eq!(kind("LABEL=EFI /boot/efi vfat umask=0077 0 1"), LineKind::Local);
        assert_eq!(
            kind("/dev/sr0 /media/cd udf,iso9660 user,noauto 0 0"),
            LineKind::Unsupported
        );
        assert_eq!(kind("UUID=ab none swap sw 0 0"), LineKind::SwapDevice);
        assert_eq!(kind("/swapfile none swap sw 0 0"), LineKind::SwapFile);
    }
}
