//! Tests of plans, with places that were worked out by hand.

use proptest::prelude::any;
use proptest::proptest;
use uuid::Uuid;

use super::*;
use crate::desc::{DescEntry, MIB, Percent, Size};
use crate::table::{DiskId, KnownType, PartType, Partition};

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn disk(bytes: u64) -> Geometry {
    Geometry {
        disk_bytes: bytes,
        sector_size: 512,
    }
}

pub(super) fn try_plan(text: &str, geometry: Geometry) -> Result<PartitionPlan, LayoutError> {
    let desc = Desc::parse(text, "desc").unwrap_or_else(|error| panic!("{error}"));
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        Uuid::from_u128(next << 64 | next)
    };
    plan(&Source::Desc(desc), &geometry, TableKind::Mbr, false, &mut fresh)
}

fn refusal(text: &str, geometry: Geometry) -> String {
    try_plan(text, geometry).expect_err(text).to_string()
}

/// Number, start and length in MiB of every partition.
fn places(plan: &PartitionPlan) -> Vec<(u32, u64, u64)> {
    plan.partitions()
        .iter()
        .map(|part| (part.number, part.start_bytes / MIB, part.len_bytes / MIB))
        .collect()
}

#[test]
fn the_original_example_fills_a_disk_of_80_gb() {
    let text = "swap 7993\nlinux 29996\nextended fill\nlogical linux fill\n";
    let plan = try_plan(text, disk(80_026_361_856)).unwrap();
    let end = 80_026_361_856 / MIB;
    let rest = end - 37990;
    assert_eq!(
        places(&plan),
        [
            (1, 1, 7993),
            (2, 7994, 29996),
            (3, 37990, rest),
            (5, 37991, rest - 1)
        ]
    );
    assert!(plan.find(5).is_some_and(|home| home.logical));
}

#[test]
fn fill_takes_what_later_lines_leave() {
    let plan = try_plan("linux fill\nswap 1000\n", disk(4 * GIB)).unwrap();
    assert_eq!(places(&plan), [(1, 1, 3095), (2, 3096, 1000)]);
}

#[test]
fn percentages_are_of_the_usable_space_and_may_make_up_the_whole() {
    // 1001 MiB: one before the first partition.
    let plan = try_plan(
        "linux 50%\nextended 50%\nlogical linux 25%\nlogical linux 25%\n",
        disk(1001 * MIB),
    )
    .unwrap();
    assert_eq!(
        places(&plan),
        [(1, 1, 500), (2, 501, 500), (5, 502, 249), (6, 752, 249)]
    );
}

#[test]
fn a_gpt_ends_before_its_backup() {
    for sector_size in [512, 4096] {
        let plan = try_plan(
            "table gpt\nlinux fill\n",
            Geometry {
                disk_bytes: GIB,
                sector_size,
            },
        )
        .unwrap();
        assert_eq!(places(&plan), [(1, 1, 1022)]);
    }
}

#[test]
fn on_gpt_logical_partitions_become_plain_ones_and_keep_their_numbers() {
    let text = "table gpt\nlinux 500\nextended fill\nlogical swap 100\nlogical linux fill mount=/home\n";
    let plan = try_plan(text, disk(2 * GIB)).unwrap();
    assert_eq!(places(&plan), [(1, 1, 500), (5, 501, 100), (6, 601, 1446)]);
    assert!(plan.partitions().iter().all(|part| !part.logical));
    assert_eq!(
        plan.find(5).and_then(|part| part.kind.known()),
        Some(KnownType::Swap)
    );
}

#[test]
fn a_disk_over_two_tebibytes_gets_a_gpt_by_itself() {
    let text = "linux 500\nextended fill\nlogical linux fill\n";
    assert_eq!(try_plan(text, disk(2 << 40)).unwrap().table.kind, TableKind::Mbr);
    assert_eq!(
        try_plan(text, disk((2 << 40) + 512)).unwrap().table.kind,
        TableKind::Gpt
    );
}

#[test]
fn an_mbr_is_not_stretched_beyond_its_reach() {
    let three_tib = disk(3 << 40);
    let message = refusal("table mbr\nlinux 500\nlinux fill\n", three_tib);
    assert!(message.starts_with("desc:3: ends at 3145728 MiB"), "{message}");
    assert!(
        message.contains("reaches 2097152 MiB: write `table gpt`"),
        "{message}"
    );
    assert!(try_plan("table mbr\nlinux 500\nlinux 1.5T\n", three_tib).is_ok());
    let big_sectors = Geometry {
        sector_size: 4096,
        ..three_tib
    };
    assert!(try_plan("table mbr\nlinux fill\n", big_sectors).is_ok());
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let cases = [
        (
            "linux 500\nlinux 600\n",
            "desc:2: does not fit: 600 MiB wanted, 523 MiB of 1023 are left",
        ),
        (
            "linux 500\nextended 100\nlogical linux 100\n",
            "desc:3: does not fit: 100 MiB wanted, 99 MiB of 100",
        ),
        (
            "linux 1023\nlinux fill\n",
            "desc:2: nothing is left to fill: the other lines take all 1023 MiB",
        ),
        (
            "extended fill\nlogical linux 1021\nlogical linux fill\n",
            "desc:3: nothing is left to fill",
        ),
        ("linux 100%\nlinux 1\n", "desc:2: does not fit"),
        ("linux 8000T\n", "desc:1: does not fit"),
    ];
    for (text, start) in cases {
        let message = refusal(text, disk(GIB));
        assert!(message.starts_with(start), "{text:?}: {message}");
    }
    assert!(refusal("linux fill\n", disk(MIB)).contains("too small for any partition"));
    assert!(
        refusal(
            "linux fill\n",
            Geometry {
                sector_size: 0,
                ..disk(GIB)
            }
        )
        .contains("0-byte sectors")
    );
    assert!(refusal("table gpt\nlinux fill\n", disk(0)).contains("too small for any partition"));
}

#[test]
fn boot_is_the_active_flag_or_the_legacy_attribute() {
    let mbr = try_plan("linux fill boot\n", disk(GIB)).unwrap();
    assert!(mbr.partitions()[0].bootable && mbr.partitions()[0].attrs == 0);
    let gpt = try_plan("table gpt\nlinux fill boot\n", disk(GIB)).unwrap();
    assert!(gpt.partitions()[0].bootable && gpt.partitions()[0].attrs == 4);
}

#[test]
fn the_smallest_disk_is_found() {
    let minimum = |text: &str| {
        let source = Source::Desc(Desc::parse(text, "desc").unwrap());
        minimum_bytes(&source, 512, TableKind::Mbr).map(|bytes| bytes / MIB)
    };
    assert_eq!(minimum("linux 500\nlinux fill\n").unwrap(), 502);
    assert_eq!(minimum("table gpt\nlinux 500\n").unwrap(), 502);
    assert_eq!(minimum("linux 300\nlinux 50%\n").unwrap(), 600);
    assert!(minimum("linux 100%\nlinux 5\n").is_err());
}

fn golden(kind: TableKind, parts: &[(u64, u64)]) -> PartitionTable {
    let gpt = kind == TableKind::Gpt;
    let part = |(number, (start_bytes, len_bytes)): (u32, &(u64, u64))| {
        let kind = if gpt {
            PartType::Gpt(KnownType::Linux.guid())
        } else {
            PartType::Mbr(0x83)
        };
        let uuid = gpt.then(|| Uuid::from_u128(0xabc + u128::from(number)));
        Partition {
            uuid,
            ..Partition::new(number, *start_bytes, *len_bytes, kind)
        }
    };
    PartitionTable {
        pmbr_boot: false,
        kind,
        disk_id: if gpt {
            DiskId::Gpt(Uuid::from_u128(0xdef))
        } else {
            DiskId::Mbr(0xdef)
        },
        sector_size: 512,
        disk_bytes: 8 * GIB,
        partitions: (1..).zip(parts).map(part).collect(),
    }
}

fn copy(table: &PartitionTable, geometry: Geometry, keep_ids: bool) -> Result<PartitionPlan, LayoutError> {
    plan(
        &Source::AsIs(table.clone()),
        &geometry,
        TableKind::Mbr,
        keep_ids,
        &mut Uuid::new_v4,
    )
}

#[test]
fn a_copied_table_gets_ids_of_its_own_unless_they_are_kept() {
    for kind in [TableKind::Mbr, TableKind::Gpt] {
        let table = golden(kind, &[(MIB, GIB), (2 * GIB, GIB)]);
        let kept = copy(&table, disk(9 * GIB), true).unwrap().table;
        assert_eq!(
            (kept.disk_id, &kept.partitions),
            (table.disk_id, &table.partitions)
        );
        let fresh = copy(&table, disk(9 * GIB), false).unwrap().table;
        assert_ne!(fresh.disk_id, table.disk_id);
        let partuuids = |table: &PartitionTable| {
            table
                .partitions
                .iter()
                .map(|part| table.partuuid(part).unwrap())
                .collect::<Vec<_>>()
        };
        assert!(partuuids(&fresh).iter().all(|id| !partuuids(&table).contains(id)));
    }
}

#[test]
fn a_copied_table_keeps_its_bytes_on_a_disk_with_larger_sectors() {
    let table = golden(TableKind::Gpt, &[(MIB, GIB), (2 * GIB, GIB)]);
    let copied = copy(
        &table,
        Geometry {
            disk_bytes: 4 * GIB,
            sector_size: 4096,
        },
        true,
    )
    .unwrap();
    assert_eq!(copied.partitions(), table.partitions);
    let odd = golden(TableKind::Mbr, &[(63 * 512, GIB)]);
    let message = copy(
        &odd,
        Geometry {
            disk_bytes: 4 * GIB,
            sector_size: 4096,
        },
        true,
    )
    .unwrap_err()
    .to_string();
    assert!(message.contains("partition 1 (start 32256"), "{message}");
    assert!(
        message.contains("golden sectors are 512 bytes, this disk's 4096"),
        "{message}"
    );
    assert!(message.contains("give it with -p"), "{message}");
}

#[test]
fn a_table_that_reaches_behind_a_smaller_disk_is_refused() {
    let table = golden(TableKind::Gpt, &[(MIB, GIB), (2 * GIB, GIB)]);
    // The partitions would end with the disk, but the backup table needs that place.
    let message = copy(&table, disk(3 * GIB), false).unwrap_err().to_string();
    assert!(message.contains("partition 2 is not within bytes"), "{message}");
    assert!(copy(&table, disk(3 * GIB + MIB), false).is_ok());
    assert_eq!(
        minimum_bytes(&Source::AsIs(table), 512, TableKind::Gpt).unwrap(),
        3 * GIB + MIB
    );
}

#[test]
fn a_hostile_table_from_elsewhere_is_refused_without_panic() {
    let mut table = golden(TableKind::Gpt, &[(MIB, u64::MAX - 511), (0, 0)]);
    assert!(copy(&table, disk(GIB), true).is_err());
    table.partitions[0].number = u32::MAX;
    table.partitions.truncate(1);
    table.partitions[0].len_bytes = MIB;
    assert!(copy(&table, disk(GIB), true).is_err());
    table.sector_size = 0;
    assert!(
        copy(
            &table,
            Geometry {
                disk_bytes: GIB,
                sector_size: 0
            },
            true
        )
        .is_err()
    );
}

proptest! {
    /// A desc comes to a node over the network: whatever its numbers are, planning must end with an answer.
    #[test]
    fn a_hostile_desc_from_elsewhere_is_planned_or_refused(
        lines in proptest::collection::vec((0_u8..8, any::<u64>(), any::<bool>(), any::<Option<u32>>()), 0..12),
        disk_bytes in any::<u64>(),
        shift in 0_u32..64,
        sector_size in proptest::sample::select(vec![512, 4096, 0, 1000, u32::MAX]),
        gpt in any::<bool>(),
    ) {
        let entry = |(line, (form, raw, logical, number)): (u32, (u8, u64, bool, Option<u32>))| {
            let hundredths = u32::try_from(raw >> 32).unwrap();
            let size = match form % 4 {
                0 => Size::Mib(raw),
                1 => Size::Bytes(raw >> shift),
                2 => Size::Percent(Percent { hundredths: hundredths >> (shift / 2) }),
                _ => Size::Fill,
            };
            let kind = if form > 5 { PartType::Mbr(raw.to_le_bytes()[0]) } else { PartType::Named(KnownType::Linux) };
            DescEntry { logical, number, ..DescEntry::new(line, kind, size) }
        };
        let table = Some(if gpt { TableKind::Gpt } else { TableKind::Mbr });
        let entries = (1..).zip(lines).map(entry).collect();
        let source = Source::Desc(Desc { origin: "wire".to_owned(), pmbr_boot: false, table, entries });
        let geometry = Geometry { disk_bytes: disk_bytes >> shift, sector_size };
        let _ = plan(&source, &geometry, TableKind::Mbr, false, &mut Uuid::new_v4);
    }
}

#[test]
fn a_plan_is_shown_as_a_table() {
    let plan = try_plan(
        "table gpt\nesp 512M name=\"EFI System\"\nlinux fill boot\n",
        disk(4 * GIB),
    )
    .unwrap();
    let shown = plan.to_string();
    assert!(
        shown.starts_with("gpt table, 4096 MiB disk, 512-byte sectors, id "),
        "{shown}"
    );
    assert!(
        shown.contains("   1            1          513          512  esp \"EFI System\"\n"),
        "{shown}"
    );
    assert!(
        shown.contains("   2          513         4095         3582  linux boot\n"),
        "{shown}"
    );
}
