//! Tests of reading: sound, damaged and hostile tables, on disks in memory.

use std::io::Cursor;

use proptest::prelude::any;
use proptest::{prop_assert, proptest};

use super::*;

const SECTOR: u32 = 512;
const DISK_SECTORS: u64 = 8192;

fn part(number: u32, start: u64, sectors: u64, kind: PartType) -> Partition {
    let bytes = |sectors: u64| sectors * u64::from(SECTOR);
    Partition {
        logical: number > 4 && matches!(kind, PartType::Mbr(_)),
        ..Partition::new(number, bytes(start), bytes(sectors), kind)
    }
}

fn table(kind: TableKind, partitions: Vec<Partition>) -> PartitionTable {
    let disk_id = match kind {
        TableKind::Mbr => DiskId::Mbr(0x1234_5678),
        TableKind::Gpt => DiskId::Gpt(Uuid::from_u128(1)),
    };
    PartitionTable {
        pmbr_boot: false,
        kind,
        disk_id,
        sector_size: SECTOR,
        disk_bytes: DISK_SECTORS * u64::from(SECTOR),
        partitions,
    }
}

fn mbr_table() -> PartitionTable {
    table(
        TableKind::Mbr,
        vec![
            part(1, 100, 100, PartType::Mbr(0x83)),
            part(3, 1000, 5000, PartType::Mbr(0x0f)),
            part(5, 1063, 937, PartType::Mbr(0x83)),
            part(6, 3000, 100, PartType::Mbr(0x82)),
            // It lies before the partition with the lower number, as after a deletion in between.
            part(7, 2001, 500, PartType::Mbr(0x83)),
        ],
    )
}

fn gpt_table() -> PartitionTable {
    let with_id = |number, start, sectors| Partition {
        uuid: Some(Uuid::from_u128(100 + u128::from(number))),
        name: Some("größer".to_owned()),
        ..part(number, start, sectors, PartType::Gpt(KnownType::Linux.guid()))
    };
    table(
        TableKind::Gpt,
        vec![
            with_id(1, 5000, 100),
            with_id(14, 34, 10),
            with_id(128, 2048, 2000),
        ],
    )
}

/// The disk with the table on it, in memory.
fn disk(table: &PartitionTable) -> Vec<u8> {
    let encoded = table.encode().unwrap();
    let mut disk = vec![0; usize::try_from(table.disk_bytes).unwrap()];
    for Chunk { offset, bytes } in &encoded.rest {
        let at = usize::try_from(*offset).unwrap();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }
    disk[440..512].copy_from_slice(&encoded.head);
    disk
}

fn read_disk(disk: &[u8]) -> Result<Option<PartitionTable>, TableError> {
    read_from(&mut Cursor::new(disk), disk.len() as u64, SECTOR)
}

fn damage(disk: &[u8]) -> String {
    read_disk(disk).unwrap_err().to_string()
}

/// Returns the index of byte `at` of sector `lba`.
fn at(lba: usize, at: usize) -> usize {
    lba * SECTOR as usize + at
}

#[test]
fn an_mbr_with_a_chain_out_of_order_reads_back() {
    assert_eq!(read_disk(&disk(&mbr_table())).unwrap(), Some(mbr_table()));
}

#[test]
fn a_gpt_with_holes_in_its_numbers_reads_back() {
    assert_eq!(read_disk(&disk(&gpt_table())).unwrap(), Some(gpt_table()));
}

#[test]
fn more_than_128_gpt_entries_are_possible() {
    let mut table = gpt_table();
    table.partitions.remove(1);
    table.partitions[1].number = 200;
    assert_eq!(read_disk(&disk(&table)).unwrap(), Some(table));
}

#[test]
fn a_blank_disk_and_a_fat_boot_sector_have_no_table() {
    let mut disk = vec![0; at(64, 0)];
    assert_eq!(read_disk(&disk).unwrap(), None);
    disk[510..512].copy_from_slice(&boot_record::SIGNATURE);
    assert_eq!(read_disk(&disk).unwrap(), None);
    disk[446..510].fill(b'x');
    assert_eq!(read_disk(&disk).unwrap(), None);
    assert_eq!(read_disk(&[]).unwrap(), None);
}

#[test]
fn a_half_written_disk_without_its_sector_0_has_no_table() {
    for table in [mbr_table(), gpt_table()] {
        let mut disk = disk(&table);
        disk[..512].fill(0);
        assert_eq!(read_disk(&disk).unwrap(), None);
    }
}

#[test]
fn a_damaged_primary_gpt_is_read_from_its_backup() {
    let whole = disk(&gpt_table());
    for place in [at(1, 0), at(1, 20), at(1, 60), at(2, 40), at(10, 0)] {
        let mut disk = whole.clone();
        disk[place] ^= 0x40;
        assert_eq!(
            read_disk(&disk).unwrap(),
            Some(gpt_table()),
            "damage at byte {place}"
        );
    }
}

#[test]
fn the_backup_of_a_disk_that_has_grown_is_found_where_its_end_was() {
    let mut disk = disk(&gpt_table());
    disk.resize(disk.len() + at(500, 0), 0);
    disk[at(2, 40)] ^= 1;
    let found = read_disk(&disk).unwrap().unwrap();
    assert_eq!(found.partitions, gpt_table().partitions);
}

#[test]
fn a_gpt_with_both_copies_damaged_is_refused() {
    let mut disk = disk(&gpt_table());
    let end = disk.len();
    disk[at(1, 60)] ^= 1;
    disk[end - 512 + 60] ^= 1;
    assert!(damage(&disk).contains("no backup"), "{}", damage(&disk));
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_memory_is_reserved() {
    let resum = |disk: &mut [u8], header: usize| {
        disk[header + 16..header + 20].fill(0);
        let sum = crc32::crc32(&disk[header..header + 92]);
        disk[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    };
    for (field, value) in [(80, u32::MAX), (84, 1 << 31), (84, 96), (84, 0), (12, 4096)] {
        let mut disk = disk(&gpt_table());
        for header in [at(1, 0), disk.len() - 512] {
            disk[header + field..header + field + 4].copy_from_slice(&value.to_le_bytes());
            resum(&mut disk, header);
        }
        assert!(damage(&disk).contains("strange"), "{}", damage(&disk));
    }
}

/// This is why the reader is our own: UEFI allows longer entries, and gptman 3.1.1 panics on them.
#[test]
fn entries_of_256_bytes_are_read_though_gptman_panics_on_them() {
    let mut table = gpt_table();
    table.partitions.truncate(2);
    let mut disk = disk(&table);
    let array = disk[at(2, 0)..at(34, 0)].to_vec();
    for (entry, place) in array
        .chunks_exact(128)
        .zip(disk[at(2, 0)..at(34, 0)].chunks_exact_mut(256))
    {
        place[..128].copy_from_slice(entry);
        place[128..].fill(0);
    }
    let array_sum = crc32::crc32(&disk[at(2, 0)..at(34, 0)]);
    for (field, value) in [(16, 0), (80, 64), (84, 256), (88, array_sum)] {
        disk[at(1, field)..at(1, field + 4)].copy_from_slice(&value.to_le_bytes());
    }
    let header_sum = crc32::crc32(&disk[at(1, 0)..at(1, 92)]);
    disk[at(1, 16)..at(1, 20)].copy_from_slice(&header_sum.to_le_bytes());
    assert_eq!(read_disk(&disk).unwrap(), Some(table));
    let theirs = std::panic::catch_unwind(|| gptman::GPT::read_from(&mut Cursor::new(&disk), 512).is_ok());
    assert!(
        theirs.is_err(),
        "gptman has learnt it: use its reader instead of ours?"
    );
}

#[test]
fn a_hybrid_mbr_is_a_gpt() {
    let mut disk = disk(&gpt_table());
    let other = boot_record::Entry {
        active: true,
        kind: 0x83,
        start: 5000,
        sectors: 100,
    }
    .encode(0);
    disk[462..478].copy_from_slice(&other);
    assert_eq!(read_disk(&disk).unwrap(), Some(gpt_table()));
}

#[test]
fn an_old_gpt_under_an_mbr_means_nothing() {
    let mut old = disk(&gpt_table());
    let new = disk(&table(
        TableKind::Mbr,
        vec![part(1, 100, 100, PartType::Mbr(0x83))],
    ));
    old[..512].copy_from_slice(&new[..512]);
    assert_eq!(
        read_disk(&old).unwrap().map(|table| table.kind),
        Some(TableKind::Mbr)
    );
}

#[test]
fn a_chain_in_a_circle_is_refused() {
    let mut disk = disk(&mbr_table());
    // The link in the first record leads back to the record itself.
    disk[at(1000, 462 + 8)..][..4].fill(0);
    assert!(
        damage(&disk).contains("in a circle at sector 1000"),
        "{}",
        damage(&disk)
    );
}

#[test]
fn a_chain_that_leaves_its_partition_or_meets_garbage_is_refused() {
    let whole = disk(&mbr_table());
    let mut away = whole.clone();
    away[at(1000, 462 + 8)..][..4].copy_from_slice(&6000_u32.to_le_bytes());
    assert!(
        damage(&away).contains("leaves the extended one to sector 7000"),
        "{}",
        damage(&away)
    );
    let mut garbage = whole;
    garbage[at(1000, 462 + 8)..][..4].copy_from_slice(&1500_u32.to_le_bytes());
    assert!(
        damage(&garbage).contains("is no boot record"),
        "{}",
        damage(&garbage)
    );
}

#[test]
fn partitions_beyond_the_disk_or_over_each_other_are_refused() {
    let cases = [
        (vec![part(1, 8000, 193, PartType::Mbr(0x83))], "behind the end"),
        (
            vec![
                part(1, 100, 100, PartType::Mbr(0x83)),
                part(2, 199, 1, PartType::Mbr(0x83)),
            ],
            "1 and 2 overlap",
        ),
        (vec![part(1, 0, 100, PartType::Mbr(0x83))], "very beginning"),
        (
            vec![part(1, 1, 1, PartType::Mbr(5)), part(2, 2, 1, PartType::Mbr(15))],
            "more than one extended",
        ),
        (
            vec![part(5, 100, 100, PartType::Mbr(0x83))],
            "without an extended",
        ),
        (
            vec![
                part(1, 1, 50, PartType::Mbr(5)),
                part(5, 1, 20, PartType::Mbr(0x83)),
            ],
            "not inside",
        ),
        (
            vec![
                part(1, 1, 50, PartType::Mbr(5)),
                part(6, 3, 20, PartType::Mbr(0x83)),
            ],
            "partition 5 belongs",
        ),
    ];
    for (partitions, words) in cases {
        let flaw = table(TableKind::Mbr, partitions).check().unwrap_err();
        assert!(flaw.contains(words), "{flaw}");
    }
}

#[test]
fn a_gpt_partition_under_the_tables_themselves_is_refused() {
    for start in [33, DISK_SECTORS - 33] {
        let mut table = gpt_table();
        table.partitions.truncate(1);
        table.partitions[0].start_bytes = start * u64::from(SECTOR);
        table.partitions[0].len_bytes = u64::from(SECTOR);
        assert!(table.check().unwrap_err().contains("between the two copies"));
    }
}

#[test]
fn logical_partitions_lie_right_up_to_two_tebibytes_and_not_beyond() {
    let limit = 1_u64 << 32;
    let near_the_end = |end: u64| PartitionTable {
        disk_bytes: 4 << 40,
        ..table(
            TableKind::Mbr,
            vec![
                part(1, 2048, end - 2048, PartType::Mbr(5)),
                part(5, 4096, 2048, PartType::Mbr(0x83)),
                part(6, end - 4096, 4096, PartType::Mbr(0x83)),
            ],
        )
    };
    let encoded = near_the_end(limit).encode().unwrap();
    let places: Vec<u64> = encoded.rest.iter().map(|chunk| chunk.offset / 512).collect();
    // Both records are where they belong, far from sector 0 to which 32-bit arithmetic would wrap.
    assert_eq!(places, [2048, limit - 4096 - 2048]);
    assert!(
        near_the_end(limit + 1)
            .encode()
            .unwrap_err()
            .contains("can address")
    );
}

proptest! {
    #[test]
    fn random_bytes_are_never_more_than_refused(
        mut disk in proptest::collection::vec(any::<u8>(), 0..6000),
        kind in 0_u8..4,
        sector_size in proptest::sample::select(vec![512_u32, 4096]),
    ) {
        if disk.len() >= 512 && kind > 0 {
            disk[510..512].copy_from_slice(&boot_record::SIGNATURE);
            for slot in 0..4 {
                disk[446 + slot * 16] &= 0x80;
                disk[446 + slot * 16 + 4] = [0x05, 0xee, 0x83][usize::from(kind) - 1];
            }
        }
        let _ = read_from(&mut Cursor::new(&disk), disk.len() as u64, sector_size);
    }

    #[test]
    fn a_sound_disk_with_any_damage_is_read_soundly_or_refused(
        gpt in any::<bool>(),
        damage in proptest::collection::vec((0_usize..at(40, 0), any::<u8>()), 1..8),
        chain in proptest::collection::vec((0_usize..at(3, 0), any::<u8>()), 0..8),
    ) {
        let mut disk = disk(&if gpt { gpt_table() } else { mbr_table() });
        for (place, byte) in damage {
            disk[place] = byte;
        }
        for (place, byte) in chain {
            disk[at(1000, 0) + place] = byte;
        }
        if let Ok(Some(table)) = read_disk(&disk) {
            prop_assert!(flaws::check_read(&table).is_ok());
        }
    }

    #[test]
    fn a_cut_off_disk_is_read_soundly_or_refused(gpt in any::<bool>(), sectors in 0_usize..8192, rest in 0_usize..512) {
        let disk = disk(&if gpt { gpt_table() } else { mbr_table() });
        let _ = read_disk(&disk[..at(sectors, rest).min(disk.len())]);
    }
}
