//! A desc file of mount points, for a golden node whose file systems lie on no plain partitions.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use super::SurveyError;
use super::device::{BlockDevice, Drive};
use super::found::{Found, FoundMount, is_boot_place};
use crate::desc::{Desc, DescEntry, Size};
use crate::fs_type::FsType;
use crate::table::{KnownType, PartType, PartitionTable, TableKind};

const MIB: u64 = 1 << 20;
/// Spare room in MiB: a suggested partition has twice what is in use, and this.
const SPARE_MIB: u64 = 256;
/// Size in MiB that is suggested for a swap area of unknown size.
const SWAP_MIB: u64 = 1024;

/// Refuses the mount points that have neither a desc line nor a partition of their own, all of them in one
/// error.
pub(super) fn check_places(
    found: &Found,
    is_placed: impl Fn(&FoundMount) -> bool,
) -> Result<(), SurveyError> {
    let unplaced: Vec<&FoundMount> = found.mounts.iter().filter(|mount| !is_placed(mount)).collect();
    if unplaced.is_empty() {
        return Ok(());
    }
    let what: Vec<String> = unplaced.iter().map(|mount| described(mount)).collect();
    let made = MountDesc::of(found, &unplaced);
    let mut lines = String::new();
    for line in made.desc.to_string().lines() {
        // Writing into a string cannot fail.
        let _ = write!(lines, "\n  {line}");
    }
    let (verb, where_now) = if unplaced.len() == 1 {
        ("has", "it is on no plain partition of the golden node")
    } else {
        ("have", "they are on no plain partition of the golden node")
    };
    let name = made.drive;
    Err(SurveyError::Unplaced {
        what: what.join(", "),
        advice: format!(
            "{verb} no place in the clone: {where_now}. Say where with a desc file for the clones' disk, with lines such as \
             these (sizes in MiB, room to grow is in them; mount= says what goes where; `ka-desc --golden` writes the file):{lines}\n\
             and run: ka-server -p {name} FILE …"
        ),
    })
}

fn described(mount: &FoundMount) -> String {
    if mount.golden.path.is_empty() {
        format!("{} (etc/fstab has no line for it)", mount.mount_point)
    } else {
        format!("{} ({})", mount.mount_point, mount.golden.path)
    }
}

/// Finds the drive below a whole-disk file system, a volume group or another layer: the first one found.
fn drive_below(found: &Found, unplaced: &[&FoundMount]) -> Option<Drive> {
    let under = unplaced
        .iter()
        .filter_map(|mount| mount.device.as_ref())
        .find_map(|device| lowest(&device.block.name, 0));
    let beside = || {
        found
            .mounts
            .iter()
            .find_map(|mount| Some(mount.on.as_ref()?.0.clone()))
    };
    Drive::open(&under.or_else(beside)?).ok().flatten()
}

/// Follows `slaves` of sysfs down to the drive: a mapped device lies on other devices.
fn lowest(name: &str, depth: u32) -> Option<String> {
    const MAX_LAYERS: u32 = 8;
    if depth > MAX_LAYERS {
        return None;
    }
    let slaves = fs::read_dir(format!("/sys/class/block/{}/slaves", name.replace('/', "!")));
    let below = slaves.ok().and_then(|mut slaves| slaves.find_map(Result::ok));
    match below {
        Some(slave) => lowest(&slave.file_name().to_string_lossy(), depth + 1),
        None => Some(BlockDevice::from_name(name)?.drive().to_owned()),
    }
}

/// A desc file with a line for each golden mount point and swap area, whatever they lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountDesc {
    /// Golden drive that it stands for (`-p DRIVE FILE`); `sda` where none can be told.
    pub drive: String,
    /// The lines.
    pub desc: Desc,
    /// The content of each line, for a comment above it.
    pub remarks: Vec<String>,
    /// Notes about the golden node.
    pub notes: Vec<String>,
}

impl MountDesc {
    /// Describes everything that was found; `on` are the mount points whose drive gives its name and kind of table.
    pub(super) fn of(found: &Found, on: &[&FoundMount]) -> Self {
        let drive = drive_below(found, on);
        let table = drive.as_ref().and_then(|drive| drive.table.as_ref());
        let (kind, lines) = laid_out(table, lines_for(found));
        let (entries, remarks) = lines.into_iter().unzip();
        Self {
            drive: drive.map_or_else(|| "sda".to_owned(), |drive| drive.name),
            desc: Desc {
                origin: String::new(),
                table: kind,
                pmbr_boot: false,
                entries,
            },
            remarks,
            notes: found.notes.clone(),
        }
    }
}

impl fmt::Display for MountDesc {
    /// The desc file, with a comment above each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Mount points of the golden node, each on a plain partition of the clone; written by ka-desc --golden.\n\
             # Sizes are MiB, with room to grow: edit them. Then run: ka-server -p {} FILE …",
            self.drive
        )?;
        for note in &self.notes {
            writeln!(f, "# note: {}", note.replace(char::is_control, " "))?;
        }
        if let Some(kind) = self.desc.table {
            writeln!(f, "table {kind}")?;
        }
        for (entry, remark) in self.desc.entries.iter().zip(&self.remarks) {
            writeln!(f, "# {remark}\n{entry}")?;
        }
        Ok(())
    }
}

type Line = (DescEntry, String);

/// Gives the kind of table to ask for, and the lines as such a table can hold them: an MBR has four primary partitions.
fn laid_out(table: Option<&PartitionTable>, mut lines: Vec<Line>) -> (Option<TableKind>, Vec<Line>) {
    const PRIMARIES: usize = 4;
    let has = |lines: &[Line], wanted| {
        let mut kinds = lines.iter().map(|(entry, _)| entry.kind.known());
        kinds.any(|kind| kind == Some(wanted))
    };
    let is_gpt = table.map_or_else(
        || has(&lines, KnownType::Esp),
        |table| table.kind == TableKind::Gpt,
    );
    let mut kinds = table
        .iter()
        .flat_map(|table| &table.partitions)
        .map(|part| part.kind.known());
    if is_gpt {
        if kinds.any(|kind| kind == Some(KnownType::Bios)) {
            let bios = DescEntry::new(0, PartType::Named(KnownType::Bios), Size::Mib(1));
            lines.insert(0, (bios, "GRUB's own partition".to_owned()));
        }
        return (Some(TableKind::Gpt), lines);
    }
    if lines.len() > PRIMARIES {
        for (entry, _) in &mut lines[PRIMARIES - 1..] {
            entry.logical = true;
        }
        let extended = DescEntry::new(0, PartType::EXTENDED, Size::Fill);
        lines.insert(PRIMARIES - 1, (extended, "logical partitions".to_owned()));
    }
    (None, lines)
}

/// Gives a line for each file system and swap area; the root comes last and takes what is left.
fn lines_for(found: &Found) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut last = None;
    let (boot, other): (Vec<_>, Vec<_>) = found
        .mounts
        .iter()
        .partition(|mount| is_boot_place(&mount.mount_point));
    for mount in boot.into_iter().chain(other) {
        // All subvolumes of a btrfs share one partition.
        if mount.fstype == FsType::Btrfs && seen.contains(&mount.golden.path.as_str()) {
            continue;
        }
        seen.push(&mount.golden.path);
        let kind = match mount.fstype {
            FsType::Vfat => KnownType::Esp,
            _ => KnownType::Linux,
        };
        let used_mib = mount.used_bytes / MIB;
        let size = match mount.mount_point.as_str() {
            "/" => Size::Fill,
            _ => Size::Mib((used_mib * 2 + SPARE_MIB).next_multiple_of(64)),
        };
        let entry = DescEntry {
            fs: Some(mount.fstype),
            mount: Some(mount.mount_point.clone()),
            ..DescEntry::new(0, PartType::Named(kind), size)
        };
        let line = (
            entry,
            format!("{}: {}, {used_mib} MiB in use", described(mount), mount.fstype),
        );
        if size == Size::Fill {
            last = Some(line);
        } else {
            lines.push(line);
        }
    }
    for swap in &found.swaps {
        let block = BlockDevice::from_node(Path::new(&swap.golden.path));
        let mib = block.map_or(SWAP_MIB, |block| block.bytes.div_ceil(MIB));
        let entry = DescEntry::new(0, PartType::Named(KnownType::Swap), Size::Mib(mib));
        lines.push((entry, format!("swap space ({})", swap.golden.path)));
    }
    lines.extend(last);
    lines
}

#[cfg(test)]
mod tests {
    use super::{Line, laid_out};
    use crate::desc::{Desc, DescEntry};

    fn lines(text: &str) -> Vec<Line> {
        let desc = Desc::parse(text, "desc").unwrap();
        let line = |entry: &DescEntry| {
            (
                DescEntry {
                    line: 0,
                    ..entry.clone()
                },
                String::new(),
            )
        };
        desc.entries.iter().map(line).collect()
    }

    #[test]
    fn more_than_four_lines_go_into_an_extended_partition_where_there_is_no_gpt() {
        let few = "linux 1 mount=/boot\nlinux 1 mount=/a\nswap 1\nlinux fill mount=/\n";
        assert_eq!(laid_out(None, lines(few)), (None, lines(few)));
        let many = format!("linux 1 mount=/b\n{few}");
        let expected = lines(
            "linux 1 mount=/b\nlinux 1 mount=/boot\nlinux 1 mount=/a\nextended fill\nlogical swap 1\nlogical linux fill \
             mount=/\n",
        );
        let (kind, mut made) = laid_out(None, lines(&many));
        made.iter_mut().for_each(|(_, remark)| remark.clear());
        assert_eq!((kind, made), (None, expected));
    }

    #[test]
    fn a_system_partition_on_a_disk_without_a_table_asks_for_a_gpt() {
        let (kind, _) = laid_out(None, lines("esp 64 mount=/boot/efi\nlinux fill mount=/\n"));
        assert_eq!(kind, Some(crate::table::TableKind::Gpt));
    }
}
