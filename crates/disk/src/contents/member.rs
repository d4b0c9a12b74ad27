//! Signatures of devices that are part of something larger, such as a volume group, array or pool. Erasing
//! one damages the whole.
//!
//! The offsets are those of libblkid's superblock probes (util-linux, `libblkid/src/superblocks/`) and of the
//! formats' own documents. Only the edges that KA's own wipe clears are looked at: a disk that KA has wiped
//! never looks like a member again.

use super::region::Region;

use At::{End, Start};

/// Offset of a magic.
enum At {
    /// Bytes from the start.
    Start(u64),
    /// Bytes before the end.
    End(u64),
}

/// Formats that one magic at one offset identifies: name, offset, magic.
const SIGNATURES: [(&str, At, &[u8]); 30] = [
    ("LVM 1", Start(0), b"HM\x01\0"),
    ("LVM 1", Start(0), b"HM\x02\0"),
    ("Ceph (BlueStore)", Start(0), b"bluestore block device"),
    ("a Stratis pool", Start(0x204), b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("a VDO volume", Start(0), b"dmvdo001"),
    ("a dm-integrity device", Start(0), b"integrt\0"),
    ("a dm-verity device", Start(0), b"verity\0\0"),
    ("a device-mapper snapshot", Start(0), b"SnAp"),
    ("bcache", Start(0x1018), &BCACHE),
    ("an Oracle ASM disk group", Start(32), b"ORCLDISK"),
    ("a GFS2 cluster file system", Start(0x1_0000), b"\x01\x16\x19\x70"),
    ("an OCFS2 cluster file system", Start(0x400), b"OCFSV2"),
    ("an OCFS2 cluster file system", Start(0x800), b"OCFSV2"),
    ("an OCFS2 cluster file system", Start(0x1000), b"OCFSV2"),
    ("an OCFS2 cluster file system", Start(0x2000), b"OCFSV2"),
    ("a Windows dynamic disk group", Start(0xc00), b"PRIVHEAD"),
    // The anchor of DDF is the last block; some boards keep 256 sectors behind it for themselves.
    ("a BIOS RAID (DDF)", End(0x200), b"\xde\x11\xde\x11"),
    ("a BIOS RAID (DDF)", End(0x200), b"\x11\xde\x11\xde"),
    ("a BIOS RAID (DDF)", End(0x1000), b"\xde\x11\xde\x11"),
    ("a BIOS RAID (DDF)", End(0x2_0200), b"\xde\x11\xde\x11"),
    ("a BIOS RAID (Intel)", End(0x400), b"Intel Raid ISM Cfg Sig. "),
    ("a BIOS RAID (Intel)", End(0x2000), b"Intel Raid ISM Cfg Sig. "),
    ("a BIOS RAID (NVIDIA)", End(0x400), b"NVIDIA"),
    ("a BIOS RAID (LSI)", End(0x200), b"$XIDE$"),
    ("a FreeBSD GEOM provider", End(0x200), b"GEOM::"),
    ("a FreeBSD GEOM provider", End(0x1000), b"GEOM::"),
    // drbd_int.h: the magic of 8.x, of 8.4 not cleanly shut down, and of 9 (big-endian), in the last 4 KiB.
    ("DRBD", End(0x1000 - DRBD_MAGIC_AT), b"\x83\x74\x02\x6b"),
    ("DRBD", End(0x1000 - DRBD_MAGIC_AT), b"\x83\x74\x02\x6c"),
    ("DRBD", End(0x1000 - DRBD_MAGIC_AT), b"\x83\x74\x02\x6d"),
    ("DRBD", End(0x1000 - DRBD_MAGIC_AT), b"\x83\x74\x02\x67"),
];

/// `BCACHE_MAGIC` of the kernel's `bcache.h`.
const BCACHE: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];
/// `BCHFS_MAGIC` of bcachefs, at the same place.
const BCACHEFS: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
];
/// Offset of the magic in DRBD's superblock.
const DRBD_MAGIC_AT: u64 = 60;

/// md_p.h: `MD_SB_MAGIC`.
const MD_MAGIC: u32 = 0xa92b_4efc;
/// Reserved size that an md superblock 0.90 counts from: it lies 64 to 128 KiB before the end, at a multiple
/// of this.
const MD_RESERVED_BYTES: u64 = 64 << 10;

/// zfs: `UBERBLOCK_MAGIC`.
const ZFS_MAGIC: u64 = 0x00ba_b10c;
/// Size of a ZFS vdev label in bytes; two lie at each end of the device.
const ZFS_LABEL_BYTES: u64 = 256 << 10;
/// Offsets within a ZFS label of its list of names and values, and of its ring of uberblocks.
const ZFS_NAMES_AT: u64 = 16 << 10;
const ZFS_RING_AT: u64 = 128 << 10;
const ZFS_SLOT_BYTES: u64 = 1 << 10;

/// Possible offsets of LUKS2's second header, as far as KA's wipe reaches (cryptsetup's LUKS2 specification,
/// 2.1).
const LUKS2_SECOND_AT: [u64; 6] = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000];

/// blkid's words for parts of something larger, beside every word that ends in `_member`.
const BLKID_WORDS: [(&str, &str); 18] = [
    ("crypto_LUKS", "LUKS"),
    ("bcache", "bcache"),
    ("drbd", "DRBD"),
    ("drbdproxy_datalog", "DRBD"),
    ("drbdmanage_control_volume", "DRBD"),
    ("ceph_bluestore", "Ceph (BlueStore)"),
    ("stratis", "a Stratis pool"),
    ("vdo", "a VDO volume"),
    ("DM_integrity", "a dm-integrity device"),
    ("DM_snapshot_cow", "a device-mapper snapshot"),
    ("DM_verity_hash", "a dm-verity device"),
    ("jbd", "a file system elsewhere (its journal)"),
    ("xfs_external_log", "a file system elsewhere (its log)"),
    ("oracleasm", "an Oracle ASM disk group"),
    ("ocfs2", "an OCFS2 cluster file system"),
    ("ocfs", "an OCFS cluster file system"),
    ("gfs2", "a GFS2 cluster file system"),
    ("gfs", "a GFS cluster file system"),
];

/// Names the larger whole that a region belongs to, by the bytes in it.
pub(super) fn find(region: &Region<'_>) -> Option<String> {
    lvm(region)
        .or_else(|| luks(region))
        .or_else(|| md(region))
        .or_else(|| zfs(region))
        .or_else(|| several_devices(region))
        .or_else(|| plain(region))
}

/// Names the larger whole that blkid's word for a content stands for.
pub(super) fn of_blkid_word(word: &str) -> Option<String> {
    let known = BLKID_WORDS.iter().find(|(blkid, _)| *blkid == word);
    known
        .map(|(_, what)| (*what).to_owned())
        .or_else(|| word.ends_with("_member").then(|| word.to_owned()))
}

fn plain(region: &Region<'_>) -> Option<String> {
    let found = SIGNATURES.iter().find(|(_, at, magic)| {
        let at = match at {
            Start(at) => Some(*at),
            End(before) => region.len().checked_sub(*before),
        };
        at.is_some_and(|at| region.has(at, magic))
    });
    found.map(|(what, ..)| (*what).to_owned())
}

/// Finds the label of LVM 2 in one of the first four sectors (lvm2, `lib/label/label.h`).
fn lvm(region: &Region<'_>) -> Option<String> {
    let is_label = |at: u64| region.has(at, b"LABELONE") && region.has(at + 24, b"LVM2 001");
    (0..4)
        .any(|sector| is_label(sector * 512))
        .then(|| match volume_group(region.head()) {
            Some(name) => format!("LVM (volume group {name})"),
            None => "LVM".to_owned(),
        })
}

/// Returns the name in front of the first text of metadata: `vg0 {\nid = "…`.
fn volume_group(head: &[u8]) -> Option<String> {
    const BEHIND: &[u8] = b" {\nid = \"";
    let end = head.windows(BEHIND.len()).position(|bytes| bytes == BEHIND)?;
    let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(byte);
    let len = head[..end].iter().rev().take_while(is_of_name).count();
    (len > 0).then(|| super::shown(&String::from_utf8_lossy(&head[end - len..end])))
}

fn luks(region: &Region<'_>) -> Option<String> {
    let second = || LUKS2_SECOND_AT.iter().any(|at| region.has(*at, b"SKUL\xba\xbe"));
    if !region.has(0, b"LUKS\xba\xbe") {
        return second().then(|| "LUKS (its second header)".to_owned());
    }
    let is_second_version = region.bytes::<2>(6) == Some([0, 2]);
    let label = region.text::<48>(24).filter(|_| is_second_version);
    Some(label.map_or_else(|| "LUKS".to_owned(), |label| format!("LUKS ({label})")))
}

/// Finds superblocks of md 0.90 and 1.0 (at the end), 1.1 and 1.2 (at the start); see the kernel's `md_p.h`.
fn md(region: &Region<'_>) -> Option<String> {
    let sectors = region.len() / 512;
    let old_at = (region.len() / MD_RESERVED_BYTES * MD_RESERVED_BYTES).checked_sub(MD_RESERVED_BYTES);
    // A 0.90 superblock is in the byte order of the machine that made it.
    let is_old = |at: &u64| {
        let little = region.le32(*at) == Some(MD_MAGIC) && region.le32(*at + 4) == Some(0);
        little || (region.le32(*at) == Some(MD_MAGIC.swap_bytes()) && region.le32(*at + 4) == Some(0))
    };
    if old_at.as_ref().is_some_and(is_old) {
        return Some("an md array".to_owned());
    }
    let end_at = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    let mut places = [Some(0), Some(0x1000), end_at].into_iter().flatten();
    let at = places.find(|at| region.le32(*at) == Some(MD_MAGIC) && region.le32(*at + 4) == Some(1))?;
    let name = region.text::<32>(at + 32);
    Some(name.map_or_else(|| "an md array".to_owned(), |name| format!("the md array {name}")))
}

/// Finds a ZFS label: one of the four is enough. Spares and caches have labels without uberblocks.
fn zfs(region: &Region<'_>) -> Option<String> {
    let end = region.len() / ZFS_LABEL_BYTES * ZFS_LABEL_BYTES;
    let last = [2, 1].map(|back| end.checked_sub(back * ZFS_LABEL_BYTES));
    let places = [Some(0), Some(ZFS_LABEL_BYTES), last[0], last[1]];
    let at = places
        .into_iter()
        .flatten()
        .find(|at| is_zfs_label(region, *at))?;
    Some(zfs_pool(region, at).map_or_else(|| "ZFS".to_owned(), |pool| format!("ZFS (pool {pool})")))
}

fn is_zfs_label(region: &Region<'_>, at: u64) -> bool {
    let is_uberblock = |slot: u64| {
        let found = region.le64(at + ZFS_RING_AT + slot * ZFS_SLOT_BYTES);
        found.is_some_and(|magic| magic == ZFS_MAGIC || magic.swap_bytes() == ZFS_MAGIC)
    };
    let has_names = || {
        let start: Option<[u8; 48]> = region.bytes(at + ZFS_NAMES_AT);
        start.is_some_and(|start| {
            start[0] == 1 && start[2..4] == [0, 0] && start.windows(7).any(|word| word == b"version")
        })
    };
    (0..128).any(is_uberblock) || has_names()
}

/// Returns the pool's name from a label's list, which is XDR: the name `name`, type 9 (a string), one
/// element, its length.
fn zfs_pool(region: &Region<'_>, at: u64) -> Option<String> {
    const BEFORE: &[u8] = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01";
    let names: [u8; 4096] = region.bytes(at + ZFS_NAMES_AT)?;
    let start = names.windows(BEFORE.len()).position(|bytes| bytes == BEFORE)? + BEFORE.len();
    let len = usize::from(*names.get(start + 3)?);
    let name = names.get(start + 4..start + 4 + len)?;
    Some(super::shown(&String::from_utf8_lossy(name)))
}

/// Finds file systems that record more than one device, and journals of file systems that are elsewhere.
fn several_devices(region: &Region<'_>) -> Option<String> {
    if region.has(0x1_0040, b"_BHRfS_M")
        && let Some(devices @ 2..) = region.le64(0x1_0088)
    {
        return Some(format!("a btrfs of {devices} devices"));
    }
    if region.has(0x1018, &BCACHEFS)
        && let Some(devices @ 2..) = region.bytes(0x107b).map(u8::from_le_bytes)
    {
        return Some(format!("a bcachefs of {devices} devices"));
    }
    // ext4: s_magic, and INCOMPAT_JOURNAL_DEV in s_feature_incompat.
    let is_journal = region.has(0x438, b"\x53\xef") && region.le32(0x460).is_some_and(|bits| bits & 8 != 0);
    is_journal.then(|| "a file system elsewhere (its journal)".to_owned())
}
