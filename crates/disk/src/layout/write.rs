//! The writing of a plan onto a disk, which is unbootable first and bootable last.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use ka_host::block;

use super::{LayoutError, PartitionPlan};
use crate::desc::{LEGACY_BOOT_BIT, MIB};
use crate::table::{self, BOOT_CODE_LEN, KnownType, PartType, TableKind};

/// Offset of the disk signature: the boot code ends here.
const SIGNATURE_AT: usize = 440;

/// Zeroes to write: one piece.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

impl PartitionPlan {
    /// Makes the disk unbootable and removes the signatures on it. It zeroes the first and last MiB of the
    /// disk and of each planned partition, where old file systems, RAID members and boot records have their
    /// signatures.
    ///
    /// The start of the disk goes first: from then on nothing on it looks finished.
    ///
    /// # Errors
    /// [`LayoutError::Io`], or [`LayoutError::OtherDisk`] before anything is written.
    pub fn wipe(&self, disk: &File) -> Result<(), LayoutError> {
        self.check_disk(disk)?;
        let end = self.table.disk_bytes;
        let mut edges = vec![(0, MIB.min(end)), (end.saturating_sub(MIB), end)];
        for part in self.partitions() {
            let (start, end) = (part.start_bytes, part.end_bytes());
            edges.push((start, end.min(start + MIB)));
            // The space behind an extended partition's own record belongs to the logical partitions.
            if !part.kind.is_extended() {
                edges.push((start.max(end.saturating_sub(MIB)), end));
            }
        }
        for (index, (start, end)) in edges.into_iter().enumerate() {
            zero(disk, start, end).map_err(doing("wiping old partition tables and signatures"))?;
            if index == 0 {
                disk.sync_all().map_err(doing("wiping the start of the disk"))?;
            }
        }
        disk.sync_all()
            .map_err(doing("wiping old partition tables and signatures"))
    }

    /// Removes the table of a disk that must not boot yet, and leaves everything else as it is. It zeroes
    /// sector 0, and the headers of a GPT at both ends (UEFI specification 2.10, section 5.3.2). Firmware
    /// finds no partition then, whatever its file system holds.
    ///
    /// # Errors
    /// [`LayoutError::Io`], or [`LayoutError::OtherDisk`] before anything is written.
    pub fn withdraw(&self, disk: &File) -> Result<(), LayoutError> {
        self.check_disk(disk)?;
        let (sector, end) = (u64::from(self.table.sector_size), self.table.disk_bytes);
        let mut withdrawn = vec![(0, sector)];
        if self.table.kind == TableKind::Gpt {
            withdrawn.extend([(sector, 2 * sector), (end.saturating_sub(sector), end)]);
        }
        for (start, end) in withdrawn {
            zero(disk, start, end).map_err(doing("withdrawing the partition table"))?;
        }
        disk.sync_all().map_err(doing("withdrawing the partition table"))
    }

    /// Writes the table: everything else first, then, after a sync, sector 0, then a sync. The caller has
    /// synced before everything that it wrote through the partitions' own device nodes.
    ///
    /// Boot code that a boot loader has put into sector 0 stays, unless `boot_code` replaces it. Bytes 440 to
    /// 443 of `boot_code` are the golden disk's signature, not code, and are not copied.
    ///
    /// # Errors
    /// [`LayoutError::Io`]; [`LayoutError::OtherDisk`] or [`LayoutError::Impossible`] before anything is
    /// written.
    pub fn write(&self, disk: &File, boot_code: Option<&[u8; BOOT_CODE_LEN]>) -> Result<(), LayoutError> {
        self.check_disk(disk)?;
        let encoded = self.table.encode().map_err(LayoutError::Impossible)?;
        // The kernel caches a disk and its partitions apart, in pages. Pages of the disk from before the
        // partitions were filled would be written back over the partitions' edges together with our sectors.
        block::flush(disk).map_err(doing("dropping the cached copy of the disk"))?;
        let mut sector = [0; 512];
        disk.read_exact_at(&mut sector, 0)
            .map_err(doing("reading sector 0"))?;
        for chunk in &encoded.rest {
            disk.write_all_at(&chunk.bytes, chunk.offset)
                .map_err(doing("writing the partition table"))?;
        }
        disk.sync_all().map_err(doing("writing the partition table"))?;
        if let Some(code) = boot_code {
            sector[..SIGNATURE_AT].copy_from_slice(&code[..SIGNATURE_AT]);
        }
        sector[SIGNATURE_AT..].copy_from_slice(&encoded.head);
        disk.write_all_at(&sector, 0).map_err(doing("writing sector 0"))?;
        disk.sync_all().map_err(doing("writing sector 0"))
    }

    /// Returns a table of the same partitions from which nothing boots: no EFI system partition and no active
    /// one, the protective entry included. Boot loaders are installed on a disk with this table; the real one
    /// comes last.
    #[must_use]
    pub fn provisional(&self) -> Self {
        let mut plan = self.clone();
        let linux = PartType::Named(KnownType::Linux).resolve(plan.table.kind);
        for part in &mut plan.table.partitions {
            if part.kind.known() == Some(KnownType::Esp)
                && let Some(linux) = linux
            {
                part.kind = linux;
            }
            part.bootable = false;
            part.attrs &= !(1 << LEGACY_BOOT_BIT);
        }
        plan.table.pmbr_boot = false;
        plan
    }

    /// Reads the table back and compares it with the plan.
    ///
    /// # Errors
    /// [`LayoutError::NotAsPlanned`] naming the first difference, or why nothing could be read.
    pub fn verify(&self, disk: &File) -> Result<(), LayoutError> {
        let differs = |what: String| Err(LayoutError::NotAsPlanned(what));
        let Some(found) = table::read(disk, self.table.sector_size)? else {
            return differs("there is none".to_owned());
        };
        for planned in self.partitions() {
            if found.find(planned.number) != Some(planned) {
                return differs(format!("partition {}", planned.number));
            }
        }
        if found != self.table {
            return differs("the disk id or the number of partitions".to_owned());
        }
        Ok(())
    }

    fn check_disk(&self, mut disk: &File) -> Result<(), LayoutError> {
        let found = disk
            .seek(SeekFrom::End(0))
            .map_err(doing("finding the size of the disk"))?;
        let planned = self.table.disk_bytes;
        if found == planned {
            Ok(())
        } else {
            Err(LayoutError::OtherDisk { found, planned })
        }
    }
}

fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> LayoutError {
    move |source| LayoutError::Io { doing, source }
}

fn zero(disk: &File, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let len = ZEROES.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        disk.write_all_at(&ZEROES[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
