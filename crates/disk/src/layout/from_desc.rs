//! Places for the lines of a desc file on a disk.
//!
//! Everything counts in whole MiB: the first partition starts at 1 MiB, the next at the end of the one before
//! it. A logical partition of an MBR leaves one MiB before itself for its boot record.

use uuid::Uuid;

use super::{Geometry, LayoutError};
use crate::desc::{Desc, DescEntry, DescError, LEGACY_BOOT_BIT, MIB, Problem, Size};
use crate::table::{DiskId, MBR_SECTORS, Partition, PartitionTable, TableKind};

/// Start of the first partition: 1 MiB, the usual place since 2009.
const FIRST_MIB: u64 = 1;

/// A stretch of the disk in MiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    len: u64,
}

/// Plans `desc` as a `kind` table.
pub(super) fn plan(
    desc: &Desc,
    geometry: &Geometry,
    kind: TableKind,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<PartitionTable, LayoutError> {
    desc.check_for(kind)?;
    let spans = Placing { desc, geometry, kind }.spans()?;
    let mut partitions = Vec::new();
    for ((number, entry), span) in desc.numbered().into_iter().zip(spans) {
        if kind == TableKind::Gpt && entry.kind.is_extended() {
            continue;
        }
        partitions.push(partition(desc, number, entry, span, kind)?);
    }
    partitions.sort_by_key(|part| part.number);
    let disk_id = match kind {
        TableKind::Mbr => DiskId::Mbr(super::fresh_mbr_id(fresh)),
        TableKind::Gpt => DiskId::Gpt(fresh()),
    };
    for part in partitions.iter_mut().filter(|_| kind == TableKind::Gpt) {
        part.uuid = Some(fresh());
    }
    let &Geometry {
        disk_bytes,
        sector_size,
    } = geometry;
    Ok(PartitionTable {
        pmbr_boot: desc.pmbr_boot && kind == TableKind::Gpt,
        kind,
        disk_id,
        sector_size,
        disk_bytes,
        partitions,
    })
}

fn partition(
    desc: &Desc,
    number: u32,
    entry: &DescEntry,
    span: Span,
    kind: TableKind,
) -> Result<Partition, DescError> {
    let gpt = kind == TableKind::Gpt;
    let refused = || match kind {
        TableKind::Mbr => desc.error(entry.line, Problem::NotOnMbr(entry.kind.to_string())),
        TableKind::Gpt => desc.error(entry.line, Problem::NotOnGpt(entry.kind.to_string())),
    };
    Ok(Partition {
        number,
        start_bytes: span.start * MIB,
        len_bytes: span.len * MIB,
        kind: entry.kind.resolve(kind).ok_or_else(refused)?,
        name: entry.name.clone(),
        attrs: entry.attrs | u64::from(entry.boot && gpt) << LEGACY_BOOT_BIT,
        uuid: None,
        bootable: entry.boot || entry.attrs >> LEGACY_BOOT_BIT & 1 == 1,
        logical: entry.logical && !gpt,
    })
}

struct Placing<'a> {
    desc: &'a Desc,
    geometry: &'a Geometry,
    kind: TableKind,
}

impl Placing<'_> {
    /// Returns the place of each line, in their order.
    fn spans(&self) -> Result<Vec<Span>, DescError> {
        let &Geometry {
            disk_bytes,
            sector_size,
        } = self.geometry;
        let end = self.kind.usable_end_bytes(disk_bytes, sector_size) / MIB;
        let Some(whole) = end.checked_sub(FIRST_MIB).filter(|whole| *whole > 0) else {
            let line = self.desc.entries.first().map_or(1, |entry| entry.line);
            return Err(self.desc.error(
                line,
                Problem::TinyDisk {
                    disk_mib: disk_bytes / MIB,
                },
            ));
        };
        let disk = Span {
            start: FIRST_MIB,
            len: whole,
        };
        let mut primary = self.level(false, disk, whole)?.into_iter();
        let primaries = self.desc.entries.iter().filter(|entry| !entry.logical);
        let container = primaries
            .zip(primary.clone())
            .find(|(entry, _)| entry.kind.is_extended());
        let container = container.map_or(disk, |(_, span)| span);
        let mut logical = self.level(true, container, whole)?.into_iter();
        let own = |entry: &DescEntry| {
            if entry.logical {
                logical.next()
            } else {
                primary.next()
            }
        };
        let spans: Vec<Span> = self.desc.entries.iter().filter_map(own).collect();
        self.check_reach(&spans)?;
        Ok(spans)
    }

    /// Places the lines of one level, one after another in `room`; percentages are of `whole`.
    fn level(&self, logical: bool, room: Span, whole: u64) -> Result<Vec<Span>, DescError> {
        let lead = u64::from(logical && self.kind == TableKind::Mbr);
        let entries = || self.desc.entries.iter().filter(|entry| entry.logical == logical);
        let sizes: Vec<Option<u64>> = entries()
            .map(|entry| wanted_mib(entry.size, whole, lead))
            .collect();
        let mut left = room.len;
        // Lines with a size come first, wherever they stand: fill gets what they leave.
        for (entry, wanted) in entries().zip(&sizes) {
            let wanted = wanted.unwrap_or(0);
            left = left.checked_sub(wanted.saturating_add(lead)).ok_or_else(|| {
                let problem = Problem::DoesNotFit {
                    wanted,
                    left: left.saturating_sub(lead),
                    whole: room.len,
                    inside: inside(logical),
                };
                self.desc.error(entry.line, problem)
            })?;
        }
        let mut at = room.start;
        let mut spans = Vec::new();
        for (entry, wanted) in entries().zip(sizes) {
            let len = wanted.unwrap_or(left);
            if len == 0 {
                let problem = Problem::NothingLeft {
                    whole: room.len,
                    inside: inside(logical),
                };
                return Err(self.desc.error(entry.line, problem));
            }
            at += lead;
            spans.push(Span { start: at, len });
            at += len;
        }
        Ok(spans)
    }

    /// Refuses sectors that an MBR's 32-bit numbers cannot reach.
    fn check_reach(&self, spans: &[Span]) -> Result<(), DescError> {
        let sector_size = self.geometry.sector_size;
        let limit_mib = MBR_SECTORS * u64::from(sector_size) / MIB;
        let beyond = |(_, span): &(&DescEntry, &Span)| span.start + span.len > limit_mib;
        match self.desc.entries.iter().zip(spans).find(beyond) {
            Some((entry, span)) if self.kind == TableKind::Mbr => {
                let end_mib = span.start + span.len;
                Err(self.desc.error(
                    entry.line,
                    Problem::BeyondMbr {
                        end_mib,
                        sector_size,
                        limit_mib,
                    },
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the MiB that a line asks for, at least 1; `None` for `fill`. A share of the disk includes the
/// `lead` before a logical partition, so that shares that make up the extended one fit into it.
fn wanted_mib(size: Size, whole: u64, lead: u64) -> Option<u64> {
    match size {
        Size::Percent(percent) => Some(percent.of(whole).saturating_sub(lead).max(1)),
        Size::Fill => None,
        Size::Mib(_) | Size::Bytes(_) => size.fixed_mib(),
    }
}

fn inside(logical: bool) -> &'static str {
    if logical { " in the extended partition" } else { "" }
}
