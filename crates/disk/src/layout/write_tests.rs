//! Tests of the bytes on a disk after a wipe and after a write.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::LayoutError;
use super::tests::{GIB, disk, try_plan};
use crate::desc::MIB;

/// Makes a sparse disk with signatures of earlier contents at both ends.
fn used_disk(bytes: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file.write_all_at(&[0xaa; 4096], 0).unwrap();
    file.write_all_at(&[0xaa; 65536], bytes - 65536).unwrap();
    file
}

fn bytes_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

#[test]
fn a_wiped_disk_shows_no_sign_of_its_past() {
    let plan = try_plan("linux 100\nlinux fill\n", disk(GIB)).unwrap();
    let file = used_disk(GIB);
    // An earlier partition at the same place had a btrfs superblock and an md superblock.
    file.write_all_at(&[0xaa; 512], 101 * MIB + (64 << 10)).unwrap();
    file.write_all_at(&[0xaa; 512], 101 * MIB - 8192).unwrap();
    plan.wipe(&file).unwrap();
    for offset in [0, GIB - MIB, 100 * MIB, 101 * MIB] {
        assert!(
            bytes_at(&file, offset, 1 << 20).iter().all(|byte| *byte == 0),
            "at {offset}"
        );
    }
    assert_eq!(crate::table::read(&file, 512).unwrap(), None);
}

#[test]
fn a_written_disk_reads_back_as_planned_and_as_nothing_else() {
    let plan = try_plan("linux 100\nextended fill\nlogical linux fill boot\n", disk(GIB)).unwrap();
    let file = used_disk(GIB);
    assert!(matches!(plan.verify(&file), Err(LayoutError::NotAsPlanned(_))));
    plan.wipe(&file).unwrap();
    plan.write(&file, None).unwrap();
    plan.verify(&file).unwrap();
    let other = try_plan("linux 101\nextended fill\nlogical linux fill boot\n", disk(GIB)).unwrap();
    assert!(
        other
            .verify(&file)
            .unwrap_err()
            .to_string()
            .contains("partition 1")
    );
}

#[test]
fn boot_code_is_written_without_the_golden_disk_signature_and_stays_without_one() {
    let plan = try_plan("linux fill\n", disk(GIB)).unwrap();
    let file = used_disk(GIB);
    plan.wipe(&file).unwrap();
    plan.write(&file, Some(&[0xcc; 446])).unwrap();
    let sector = bytes_at(&file, 0, 512);
    assert!(sector[..440].iter().all(|byte| *byte == 0xcc));
    assert!(!sector[440..446].contains(&0xcc));
    plan.write(&file, None).unwrap();
    assert_eq!(bytes_at(&file, 0, 512), sector);
}

#[test]
fn another_disk_than_the_planned_one_is_not_touched() {
    let plan = try_plan("linux fill\n", disk(GIB)).unwrap();
    let file = used_disk(2 * GIB);
    assert!(matches!(plan.wipe(&file), Err(LayoutError::OtherDisk { .. })));
    assert!(matches!(
        plan.write(&file, None),
        Err(LayoutError::OtherDisk { .. })
    ));
    assert_eq!(bytes_at(&file, 0, 4096), [0xaa; 4096]);
}

#[test]
fn a_provisional_table_has_the_same_partitions_and_nothing_that_boots() {
    for text in [
        "table gpt\nesp 100\nbios 1\nlinux fill boot\n",
        "table mbr\nesp 100\nlinux fill boot\n",
    ] {
        let plan = try_plan(text, disk(GIB)).unwrap();
        let provisional = plan.provisional();
        assert_ne!(provisional, plan);
        assert!(
            provisional
                .partitions()
                .iter()
                .all(|part| { !part.bootable && part.kind.known() != Some(crate::table::KnownType::Esp) })
        );
        let place =
            |part: &crate::table::Partition| (part.number, part.start_bytes, part.len_bytes, part.uuid);
        let places = |plan: &super::PartitionPlan| plan.partitions().iter().map(place).collect::<Vec<_>>();
        assert_eq!(places(&provisional), places(&plan));
        let file = used_disk(GIB);
        plan.wipe(&file).unwrap();
        provisional.write(&file, None).unwrap();
        provisional.verify(&file).unwrap();
        assert!(plan.verify(&file).is_err());
        plan.write(&file, None).unwrap();
        plan.verify(&file).unwrap();
    }
}

#[test]
fn a_withdrawn_table_is_gone_and_the_partitions_stay() {
    for text in [
        "table gpt\nesp 100\nlinux fill\n",
        "table mbr\nesp 100\nextended fill\nlogical linux fill\n",
    ] {
        let plan = try_plan(text, disk(GIB)).unwrap();
        let file = used_disk(GIB);
        plan.wipe(&file).unwrap();
        plan.write(&file, Some(&[0xcc; 446])).unwrap();
        let first = plan.partitions().first().unwrap().start_bytes;
        file.write_all_at(&[0xbb; 4096], first).unwrap();
        plan.withdraw(&file).unwrap();
        assert_eq!(crate::table::read(&file, 512).unwrap(), None, "{text}");
        assert_eq!(bytes_at(&file, first, 4096), [0xbb; 4096]);
        plan.write(&file, None).unwrap();
        plan.verify(&file).unwrap();
    }
}
