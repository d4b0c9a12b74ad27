//! Signatures as real tools write them if they are installed, else at the offsets that the formats' documents
//! give.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use ka_host::run::Tool;
use tempfile::NamedTempFile;

use super::*;

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 64 * MIB;

fn image() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK_BYTES).unwrap();
    file
}

fn seen(path: &Path) -> Contents {
    look(path, 512, &[])
}

fn run(program: &str, args: &[&str], device: &Path) {
    let tool = Tool::new(program).args(args).arg(device);
    tool.timeout(Duration::from_secs(60)).run().unwrap();
}

/// Makes two partitions with sfdisk; the second lies from 20 to 60 MiB.
fn partitioned(label: &str) -> NamedTempFile {
    let file = image();
    let script = format!("label: {label}\nstart=1MiB,size=16MiB\nstart=20MiB,size=40MiB\n");
    let mut child = std::process::Command::new("sfdisk")
        .arg("-q")
        .arg(file.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    file
}

/// Writes bytes at an offset in a range; a negative offset counts from its end.
fn mark(file: &File, start: u64, len: u64, at: i64, bytes: &[u8]) {
    let at = if at < 0 {
        start + len - at.unsigned_abs()
    } else {
        start + at.unsigned_abs()
    };
    file.write_all_at(bytes, at).unwrap();
}

/// Bytes at an offset; a negative one counts from the end of the device.
type Placed = (i64, Vec<u8>);

/// The signatures of each kind on a device of 40 MiB and of 64 MiB alike, and a word that must be reported.
fn signatures() -> Vec<(&'static str, Vec<Placed>)> {
    let one = |what, at: i64, bytes: &[u8]| (what, vec![(at, bytes.to_vec())]);
    let md = 0xa92b_4efc_u32.to_le_bytes();
    let md1 = [md, [1, 0, 0, 0]].concat();
    let md0 = [md, [0, 0, 0, 0]].concat();
    let md0_big: Vec<u8> = [0xa92b_4efc_u32.to_be_bytes(), [0, 0, 0, 0]].concat();
    let uberblock = 0x00ba_b10c_u64;
    let drbd = |magic: u32| magic.to_be_bytes();
    let mut btrfs = vec![0; 0x50];
    btrfs[..8].copy_from_slice(b"_BHRfS_M");
    btrfs[0x48] = 2;
    vec![
        one("the md array", 0, &[&md1[..], &[0; 24], b"room:0"].concat()),
        one("the md array", 4096, &[&md1[..], &[0; 24], b"room:0"].concat()),
        one("an md array", -8192, &md1),
        one("an md array", -65536, &md0),
        one("an md array", -65536, &md0_big),
        one("ZFS", 128 << 10, &uberblock.to_le_bytes()),
        one("ZFS", (256 + 128 + 5) << 10, &uberblock.to_be_bytes()),
        one("ZFS", -(512 << 10) + (128 << 10), &uberblock.to_le_bytes()),
        one("ZFS", -(256 << 10) + (130 << 10), &uberblock.to_le_bytes()),
        one("LUKS", 0, b"LUKS\xba\xbe\0\x01aes"),
        one("LUKS (its second header)", 0x4000, b"SKUL\xba\xbe\0\x02"),
        one(
            "bcache",
            0x1018,
            &[
                0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d,
                0x81,
            ],
        ),
        one("DRBD", -4096 + 60, &drbd(0x8374_026b)),
        one("DRBD", -4096 + 60, &drbd(0x8374_026c)),
        one("DRBD", -4096 + 60, &drbd(0x8374_026d)),
        one("BlueStore", 0, b"bluestore block device\n"),
        one("a btrfs of 2 devices", 0x1_0040, &btrfs),
        one("Stratis", 516, b"!Stra0tis\x86\xff\x02^\x41rh"),
        one("OCFS2", 0x1000, b"OCFSV2"),
        one("BIOS RAID (Intel)", -1024, b"Intel Raid ISM Cfg Sig. 1.1.00"),
        one("BIOS RAID (DDF)", -512, b"\xde\x11\xde\x11"),
        (
            "LVM (volume group data-1)",
            vec![
                (512, b"LABELONE".to_vec()),
                (512 + 24, b"LVM2 001".to_vec()),
                (8192, b"data-1 {\nid = \"x\"\nseqno = 1\n".to_vec()),
            ],
        ),
    ]
}

#[test]
fn members_are_known_on_whole_disks_and_in_partitions() {
    for (what, marks) in signatures() {
        let file = image();
        for (at, bytes) in &marks {
            mark(file.as_file(), 0, DISK_BYTES, *at, bytes);
        }
        let member = seen(file.path()).member("sda").unwrap_or_default();
        assert!(
            member.starts_with("sda belongs to") && member.contains(what),
            "{what}: {member}"
        );
        for label in ["gpt", "dos"] {
            let file = partitioned(label);
            for (at, bytes) in &marks {
                mark(file.as_file(), 20 * MIB, 40 * MIB, *at, bytes);
            }
            let member = seen(file.path()).member("nvme0n1").unwrap_or_default();
            assert!(
                member.starts_with("nvme0n1p2 belongs to") && member.contains(what),
                "{label}, {what}: {member}"
            );
        }
    }
}

#[test]
fn a_member_is_known_beside_a_file_system_at_the_start() {
    let file = image();
    run("mkfs.ext4", &["-q", "-L", "root", "-F"], file.path());
    mark(
        file.as_file(),
        0,
        DISK_BYTES,
        -8192,
        &[&0xa92b_4efc_u32.to_le_bytes()[..], &[1, 0, 0, 0]].concat(),
    );
    assert!(seen(file.path()).member("sda").unwrap().contains("md array"));
}

#[test]
fn file_systems_and_empty_disks_are_no_members() {
    let file = image();
    assert_eq!(
        (
            seen(file.path()).is_empty(),
            seen(file.path()).to_string().as_str()
        ),
        (true, "nothing")
    );
    let file = partitioned("gpt");
    assert_eq!(seen(file.path()).to_string(), "gpt");
    for (program, args, shown) in [
        ("mkfs.ext4", &["-q", "-F", "-L", "root"][..], "ext4 \"root\""),
        ("mkswap", &["-L", "my swap"], "swap \"my swap\""),
        ("mkfs.vfat", &["-n", "ESP"], "vfat \"ESP\""),
    ] {
        let file = image();
        run(program, args, file.path());
        let contents = seen(file.path());
        assert_eq!(
            (contents.to_string().as_str(), contents.member("sda")),
            (shown, None)
        );
    }
}

#[test]
fn a_gpt_whose_first_sectors_are_wiped_still_shows_its_members() {
    let file = partitioned("gpt");
    mark(file.as_file(), 20 * MIB, 40 * MIB, 0, b"LUKS\xba\xbe\0\x01");
    mark(file.as_file(), 0, DISK_BYTES, 0, &[0; 17 * 1024]);
    let contents = seen(file.path());
    assert_eq!(contents.member("sda").unwrap(), "sda2 belongs to LUKS");
    assert!(
        contents.to_string().starts_with("gpt (only its backup)"),
        "{contents}"
    );
}

#[test]
fn partitions_of_tables_that_only_the_kernel_reads_are_looked_at() {
    let file = image();
    mark(file.as_file(), 8 * MIB, 8 * MIB, 0, b"LUKS\xba\xbe\0\x01");
    let kernel = ka_host::blkpg::KernelPartition {
        number: 5,
        start_bytes: 8 * MIB,
        len_bytes: 8 * MIB,
        name: "sda5".to_owned(),
        path: "/dev/sda5".into(),
    };
    assert_eq!(
        look(file.path(), 512, &[kernel]).member("sda").unwrap(),
        "sda5 belongs to LUKS"
    );
}

#[test]
fn windows_groups_are_known_by_the_type_of_their_partitions() {
    for (label, part_type) in [
        ("dos", "42"),
        ("dos", "fb"),
        ("gpt", "AF9B60A0-1431-4F62-BC68-3311714A69AD"),
        ("gpt", "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D"),
        ("gpt", "AA31E02A-400F-11DB-9590-000C2911D1B8"),
    ] {
        let file = partitioned(label);
        let sfdisk = Tool::new("sfdisk").args(["-q", "--part-type"]).arg(file.path());
        sfdisk.args(["2", part_type]).run().unwrap();
        let member = seen(file.path()).member("sda").unwrap();
        assert!(member.starts_with("sda2 belongs to a "), "{part_type}: {member}");
    }
}

#[test]
fn a_disk_that_our_own_plan_wiped_is_empty() {
    use crate::desc::Desc;
    use crate::layout::{self, Geometry, Source};
    use crate::table::TableKind;
    for (what, marks) in signatures() {
        let file = partitioned("gpt");
        for (at, bytes) in &marks {
            mark(file.as_file(), 20 * MIB, 40 * MIB, *at, bytes);
            mark(file.as_file(), 0, DISK_BYTES, *at, bytes);
        }
        let source = Source::Desc(Desc::parse("linux 19M\nlinux 40M\n", "desc").unwrap());
        let geometry = Geometry {
            disk_bytes: DISK_BYTES,
            sector_size: 512,
        };
        let plan = layout::plan(&source, &geometry, TableKind::Mbr, false, &mut uuid::Uuid::new_v4).unwrap();
        let target = File::options().read(true).write(true).open(file.path()).unwrap();
        plan.wipe(&target).unwrap();
        plan.write(&target, None).unwrap();
        assert_eq!(seen(file.path()).to_string(), "mbr", "{what}");
    }
}

#[test]
fn a_disk_that_cannot_be_opened_says_so() {
    let contents = seen(Path::new("/nonexistent/sda"));
    assert!(contents.member("sda").unwrap().contains("cannot be looked at"));
}

#[test]
fn what_nobody_knows_is_not_empty() {
    let file = image();
    mark(
        file.as_file(),
        0,
        DISK_BYTES,
        70_000,
        b"a database without a signature",
    );
    let contents = seen(file.path());
    assert_eq!(
        (contents.to_string().as_str(), contents.is_empty()),
        ("something unknown", false)
    );
    assert_eq!(contents.member("sda"), None);
    let file = image();
    mark(file.as_file(), 0, DISK_BYTES, 512, &[0x57, 0x45, 0x56, 0x82]);
    assert_eq!(seen(file.path()).table.as_deref(), Some("a BSD disklabel"));
}

#[test]
fn what_real_tools_make_is_known() {
    let disk = ka_lab::disk::Disk::scratch(64 << 20, 512).unwrap();
    let node = disk.checked().unwrap();
    let look_again = || look(node, 512, &[]).member("sdb").unwrap();
    // Not every kernel has a device mapper; metadata needs none.
    let config = "global{locking_type=0} activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0 filter=[\"a|loop|\"]}";
    run(
        "pvcreate",
        &["-qq", "-y", "-ff", "--driverloaded", "n", "--config", config],
        node,
    );
    assert_eq!(look_again(), "sdb belongs to LVM");
    run("wipefs", &["-q", "-a"], node);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "secret").unwrap();
    for kind in ["luks1", "luks2"] {
        let key = key.path().to_str().unwrap();
        let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
        run(
            "cryptsetup",
            &[
                &["-q", "luksFormat", "--type", kind, "--key-file", key][..],
                &fast,
            ]
            .concat(),
            node,
        );
        assert_eq!(look_again(), "sdb belongs to LUKS", "{kind}");
        run("wipefs", &["-q", "-a"], node);
    }
}
