//! The survey of a whole disk: its partition table, then every area of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka_host::blkpg::KernelPartition;
use ka_host::block;
use uuid::{Uuid, uuid};

use super::region::Region;
use super::{Area, Contents, member, shown};
use crate::fs::probe_area;
use crate::table::{self, PartType, Partition, PartitionTable};

/// `DISKMAGIC` of BSD, little-endian.
const BSD_MAGIC: [u8; 4] = [0x57, 0x45, 0x56, 0x82];

/// The most partitions that are looked at: a GPT of the usual size holds no more.
const MOST_PARTITIONS: usize = 128;

/// GPT types of partitions that belong to something that spans disks: Windows dynamic disks and Storage
/// Spaces, and VMware.
const MEMBER_TYPES: [(Uuid, &str); 4] = [
    (
        uuid!("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"),
        "a Windows dynamic disk group",
    ),
    (
        uuid!("af9b60a0-1431-4f62-bc68-3311714a69ad"),
        "a Windows dynamic disk group",
    ),
    (
        uuid!("e75caf8f-f680-4cee-afa3-b001e56efc2d"),
        "a Windows Storage Spaces pool",
    ),
    (
        uuid!("aa31e02a-400f-11db-9590-000c2911d1b8"),
        "a VMware VMFS volume",
    ),
];

/// Looks at what is on a disk or image. `kernel` lists the partitions that the kernel knows on it: they are
/// looked at even if the kernel reads a kind of table that KA does not.
#[must_use]
pub fn look(path: &Path, sector_size: u32, kernel: &[KernelPartition]) -> Contents {
    let looked = File::open(path).and_then(|file| look_at(&file, path, sector_size, kernel));
    looked.unwrap_or_else(|error| Contents {
        unreadable: Some(error.to_string()),
        ..Contents::default()
    })
}

fn look_at(file: &File, path: &Path, sector_size: u32, kernel: &[KernelPartition]) -> io::Result<Contents> {
    let disk_bytes = block::size_bytes(file)?;
    // The cache may be older than what was written through a partition's own node. Image files have no such
    // cache.
    block::flush(file).ok();
    let (table, word) = read_table(file, sector_size);
    let mut contents = Contents {
        table: word,
        ..Contents::default()
    };
    let whole = Area {
        len_bytes: disk_bytes,
        ..Area::default()
    };
    let parts = table.as_ref().map_or(&[][..], |table| &table.partitions);
    let is_bare = contents.table.is_none();
    for (area, kind) in std::iter::once((whole, None)).chain(areas(parts, kernel, disk_bytes)) {
        match describe(file, path, area, kind) {
            Ok(area) => contents.areas.extend(area),
            Err(error) => contents.unreadable = Some(error.to_string()),
        }
    }
    // Unknown data may be a database's own format or encryption without a header: the disk does not count as
    // empty.
    if is_bare && contents.areas.is_empty() && !is_zero(file, disk_bytes)? {
        contents.areas.push(Area {
            len_bytes: disk_bytes,
            ..Area::default()
        });
    }
    Ok(contents)
}

/// True if the first MiB holds nothing but zeros.
fn is_zero(file: &File, disk_bytes: u64) -> io::Result<bool> {
    let region = Region::read(file, 0, disk_bytes)?;
    Ok(region.head().iter().all(|byte| *byte == 0))
}

/// Returns the table and the word for its kind. A GPT whose first sectors are gone is read from its backup.
fn read_table(file: &File, sector_size: u32) -> (Option<PartitionTable>, Option<String>) {
    match table::read(file, sector_size) {
        Ok(Some(table)) => {
            let word = table.kind.to_string();
            (Some(table), Some(word))
        }
        Ok(None) => match table::read_lost_gpt(file, sector_size) {
            Some(table) => (Some(table), Some("gpt (only its backup)".to_owned())),
            None => (None, foreign_table(file).map(str::to_owned)),
        },
        Err(_) => (None, Some("a damaged partition table".to_owned())),
    }
}

/// Recognises tables of other systems, which KA neither reads nor writes, by their magic (libblkid,
/// `libblkid/src/partitions/`).
fn foreign_table(file: &File) -> Option<&'static str> {
    let mut start = [0; 1024];
    file.read_exact_at(&mut start, 0).ok()?;
    let has = |at: usize, magic: &[u8]| start[at..].starts_with(magic);
    if has(512, &BSD_MAGIC) || has(64, &BSD_MAGIC) {
        Some("a BSD disklabel")
    } else if has(508, &[0xda, 0xbe]) {
        Some("a Sun disklabel")
    } else if has(0, &[0x0b, 0xe5, 0xa9, 0x41]) {
        Some("an SGI disklabel")
    } else if has(0, b"ER") && has(512, b"PM") {
        Some("an Apple partition map")
    } else {
        None
    }
}

/// The partitions of the table, and those that only the kernel knows.
fn areas<'a>(
    parts: &'a [Partition],
    kernel: &'a [KernelPartition],
    disk_bytes: u64,
) -> impl Iterator<Item = (Area, Option<PartType>)> + 'a {
    let of_table = parts.iter().filter(|part| !part.kind.is_extended()).map(|part| {
        let area = Area {
            partition: Some(part.number),
            start_bytes: part.start_bytes,
            len_bytes: part.len_bytes,
            ..Area::default()
        };
        (area, Some(part.kind))
    });
    let is_in_table = |start: u64| parts.iter().any(|part| part.start_bytes == start);
    let of_kernel = kernel
        .iter()
        .filter(move |part| !is_in_table(part.start_bytes))
        .map(|part| {
            let area = Area {
                partition: Some(part.number),
                start_bytes: part.start_bytes,
                len_bytes: part.len_bytes,
                ..Area::default()
            };
            (area, None)
        });
    let is_on_disk = move |(area, _): &(Area, Option<PartType>)| {
        let end = area.start_bytes.checked_add(area.len_bytes);
        end.is_some_and(|end| end <= disk_bytes)
    };
    of_table.chain(of_kernel).filter(is_on_disk).take(MOST_PARTITIONS)
}

/// Describes one area; `None` if nothing is known of it.
fn describe(file: &File, path: &Path, mut area: Area, kind: Option<PartType>) -> io::Result<Option<Area>> {
    let region = Region::read(file, area.start_bytes, area.len_bytes)?;
    // Without blkid, members are found all the same: only the names of file systems are missing.
    let found = probe_area(path, area.start_bytes, area.len_bytes).unwrap_or_default();
    let by_word = || found.fstype.as_deref().and_then(member::of_blkid_word);
    area.member = member::find(&region).or_else(by_word).or_else(|| of_type(kind?));
    area.label = found.label.map(|label| shown(&label));
    area.fstype = found.fstype;
    Ok((area.member.is_some() || area.fstype.is_some()).then_some(area))
}

fn of_type(kind: PartType) -> Option<String> {
    let what = match kind {
        PartType::Mbr(0x42) => "a Windows dynamic disk group",
        PartType::Mbr(0xfb) => "a VMware VMFS volume",
        PartType::Gpt(kind) => MEMBER_TYPES.iter().find(|(uuid, _)| *uuid == kind)?.1,
        _ => return None,
    };
    Some(what.to_owned())
}
