//! Tables such as golden drives have: gaps, odd starts, numbers with holes, chains out of order.

use ka_disk::table::{DiskId, PartType, Partition, PartitionTable, TableKind};
use proptest::prelude::{Strategy, any, prop_oneof};
use uuid::Uuid;

/// A partition by the room before it and its length, in sectors.
#[derive(Debug, Clone)]
struct Piece {
    gap: u64,
    sectors: u64,
    bytes: [u8; 16],
    name: Option<String>,
    attrs: u64,
}

fn any_piece() -> impl Strategy<Value = Piece> {
    let length = || prop_oneof![2_u64..64, 64_u64..5000, 5000_u64..1 << 24, 1_u64 << 24..1 << 29];
    let name = proptest::option::of("[A-Za-z0-9äöü ._-]{0,30}[a-zß]");
    // Bits 3 to 47 are reserved and mean nothing to sfdisk.
    let attrs = (0_u64..8, 0_u64..1 << 16).prop_map(|(low, high)| low | high << 48);
    (length(), length(), any::<[u8; 16]>(), name, attrs).prop_map(|(gap, sectors, bytes, name, attrs)| {
        Piece {
            gap,
            sectors,
            bytes,
            name,
            attrs,
        }
    })
}

/// Generates any GPT: up to 12 partitions, each with a number of its own between 1 and 128.
pub(crate) fn any_gpt(sector_size: u32) -> impl Strategy<Value = PartitionTable> {
    let numbers = proptest::sample::subsequence((1_u32..=128).collect::<Vec<_>>(), 1..=12);
    let pieces = proptest::collection::vec(any_piece(), 12);
    (numbers, pieces, any::<u64>()).prop_map(move |(numbers, pieces, seed)| {
        // The room needed before the first and after the last partition, at any sector size.
        let mut at = 64;
        let mut partitions: Vec<Partition> = Vec::new();
        for (number, piece) in shuffled(&numbers, seed).into_iter().zip(&pieces) {
            let start = at + piece.gap;
            at = start + piece.sectors;
            partitions.push(Partition {
                name: piece.name.clone(),
                attrs: piece.attrs,
                uuid: Some(uuid::Builder::from_random_bytes(piece.bytes).into_uuid()),
                bootable: piece.attrs >> 2 & 1 == 1,
                kind: PartType::Gpt(Uuid::from_u128(u128::from(number) + 1)),
                ..partition(number, start, piece.sectors, sector_size)
            });
        }
        partitions.sort_by_key(|part| part.number);
        PartitionTable {
            pmbr_boot: false,
            kind: TableKind::Gpt,
            disk_id: DiskId::Gpt(Uuid::from_u128(u128::from(seed) + 1)),
            sector_size,
            disk_bytes: (at + 64) * u64::from(sector_size),
            partitions,
        }
    })
}

/// Generates any MBR within 32-bit sectors, with logical partitions in any order in its extended one.
pub(crate) fn any_mbr(sector_size: u32) -> impl Strategy<Value = PartitionTable> {
    let numbers = proptest::sample::subsequence(vec![1_u32, 2, 3, 4], 1..=4);
    let pieces = proptest::collection::vec(any_piece(), 4);
    let logicals = proptest::collection::vec(any_piece(), 0..8);
    (numbers, pieces, logicals, 0_usize..5, any::<u64>()).prop_map(
        move |(numbers, pieces, logicals, extended_at, seed)| {
            let mut at = 0;
            let mut partitions = Vec::new();
            for (index, (number, piece)) in shuffled(&numbers, seed).into_iter().zip(&pieces).enumerate() {
                let start = at + piece.gap;
                let extended = index == extended_at;
                let inside = if extended {
                    place_logicals(&mut partitions, &logicals, start, sector_size, seed)
                } else {
                    0
                };
                let sectors = piece.sectors.max(inside);
                let kind = PartType::Mbr(if extended { 0x0f } else { piece.bytes[0] % 4 + 0x80 });
                let bootable = piece.attrs & 1 == 1;
                partitions.push(Partition {
                    kind,
                    bootable,
                    ..partition(number, start, sectors, sector_size)
                });
                at = start + sectors;
            }
            partitions.sort_by_key(|part| part.number);
            let disk_bytes = (at + 64) * u64::from(sector_size);
            let disk_id = DiskId::Mbr(u32::try_from(seed >> 33).unwrap() + 1);
            PartitionTable {
                pmbr_boot: false,
                kind: TableKind::Mbr,
                disk_id,
                sector_size,
                disk_bytes,
                partitions,
            }
        },
    )
}

/// Puts logical partitions behind `base`; returns the sectors they take.
fn place_logicals(
    into: &mut Vec<Partition>,
    pieces: &[Piece],
    base: u64,
    sector_size: u32,
    seed: u64,
) -> u64 {
    let numbers: Vec<u32> = (5..).take(pieces.len()).collect();
    let mut at = base;
    for (number, piece) in shuffled(&numbers, seed).into_iter().zip(pieces) {
        let start = at + piece.gap;
        at = start + piece.sectors;
        let kind = PartType::Mbr(0x83);
        into.push(Partition {
            kind,
            logical: true,
            ..partition(number, start, piece.sectors, sector_size)
        });
    }
    at - base
}

fn partition(number: u32, start: u64, sectors: u64, sector_size: u32) -> Partition {
    let bytes = |sectors: u64| sectors * u64::from(sector_size);
    Partition::new(number, bytes(start), bytes(sectors), PartType::Mbr(0x83))
}

/// Returns the numbers in some other order; half of all tables keep that of the disk.
fn shuffled(numbers: &[u32], seed: u64) -> Vec<u32> {
    let mut numbers = numbers.to_vec();
    if seed % 2 == 1 {
        let by = usize::try_from(seed / 2 % numbers.len().max(1) as u64).unwrap();
        numbers.rotate_left(by);
    }
    numbers
}
