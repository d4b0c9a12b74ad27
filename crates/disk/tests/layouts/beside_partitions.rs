//! A table written beside partitions that already hold data, as in a run: the table comes last.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use ka_disk::layout::{Geometry, Source, plan};
use ka_disk::table::{DiskId, KnownType, PartType, Partition, PartitionTable, TableKind};
use ka_host::{blkpg, block, system};
use uuid::Uuid;

use crate::disks::Disk;

/// Length of a sector in bytes; several share a page of the kernel's cache.
const SECTOR: u64 = 512;

/// The kernel caches a disk and its partitions apart, in whole pages. A table that is written through a page
/// cached before the partition was filled would put the old content beside it back.
#[test]
fn a_table_written_last_leaves_data_beside_it_alone() {
    assert!(
        system::is_root(),
        "partitions of a loop device need root: run `cargo xtask test`"
    );
    let disk_bytes = 64 << 20;
    let sectors = disk_bytes / SECTOR;
    // The last partition ends right before the backup table, as sgdisk makes it, in the middle of a page.
    let gpt = golden(
        TableKind::Gpt,
        disk_bytes,
        &[(1, 34, 1000), (2, 2048, sectors - 33 - 2048)],
    );
    // The boot record of partition 6 has one sector between two partitions.
    let mbr = golden(
        TableKind::Mbr,
        disk_bytes,
        &[(1, 2048, 8192), (5, 2049, 101), (6, 2151, 1000)],
    );
    for table in [gpt, mbr] {
        let geometry = Geometry {
            disk_bytes,
            sector_size: 512,
        };
        let kind = table.kind;
        let plan = plan(&Source::AsIs(table), &geometry, kind, true, &mut Uuid::new_v4).unwrap();
        let disk = Disk::on_loop(&geometry);
        let file = disk.open();
        plan.wipe(&file).unwrap();
        let data: Vec<&Partition> = plan
            .partitions()
            .iter()
            .filter(|part| !part.kind.is_extended())
            .collect();
        for part in &data {
            blkpg::add(&file, part.number, part.start_bytes, part.len_bytes).unwrap();
            let node = blkpg::node_of(&disk.path(), part.number).unwrap();
            let through_node = OpenOptions::new().write(true).open(node).unwrap();
            through_node
                .write_all_at(&vec![0xd5; usize::try_from(part.len_bytes).unwrap()], 0)
                .unwrap();
            through_node.sync_all().unwrap();
        }
        plan.write(&file, None).unwrap();
        plan.verify(&file).unwrap();
        for part in data {
            blkpg::del(&file, part.number).unwrap();
            assert!(
                is_whole(&file, part),
                "{kind}: partition {} was written over",
                part.number
            );
        }
    }
}

fn is_whole(disk: &File, part: &Partition) -> bool {
    block::flush(disk).unwrap();
    let mut bytes = vec![0; usize::try_from(part.len_bytes).unwrap()];
    disk.read_exact_at(&mut bytes, part.start_bytes).unwrap();
    bytes.iter().all(|byte| *byte == 0xd5)
}

fn golden(kind: TableKind, disk_bytes: u64, parts: &[(u32, u64, u64)]) -> PartitionTable {
    let gpt = kind == TableKind::Gpt;
    let part = |(number, start, sectors): &(u32, u64, u64)| {
        let logical = !gpt && *number > 4;
        let byte = if gpt || logical { 0x83 } else { 0x05 };
        let kind = if gpt {
            PartType::Gpt(KnownType::Linux.guid())
        } else {
            PartType::Mbr(byte)
        };
        let uuid = gpt.then(|| Uuid::from_u128(1 + u128::from(*number)));
        Partition {
            logical,
            uuid,
            ..Partition::new(*number, start * SECTOR, sectors * SECTOR, kind)
        }
    };
    let disk_id = if gpt {
        DiskId::Gpt(Uuid::from_u128(1))
    } else {
        DiskId::Mbr(1)
    };
    PartitionTable {
        pmbr_boot: false,
        kind,
        disk_id,
        sector_size: 512,
        disk_bytes,
        partitions: parts.iter().map(part).collect(),
    }
}
