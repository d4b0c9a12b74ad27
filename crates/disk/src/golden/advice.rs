//! What to write when mount points have no place in the clone: desc lines, ready to paste.

use std::fmt::Write as _;
use std::fs;

use super::SurveyError;
use super::device::{BlockDevice, Drive};
use super::found::{Found, FoundMount, is_boot_place};
use crate::spec::FsType;
use crate::table::{KnownType, TableKind};

const MIB: u64 = 1 << 20;
/// Room to live in, beside what is in use: as much again, and this.
const SPARE_MIB: u64 = 256;
/// What a swap area is given whose size is not known.
const SWAP_MIB: u64 = 1024;

/// Refuses mount points that no desc line and no partition of their own places, all of them at once.
pub(super) fn check_places(
    found: &Found,
    is_placed: impl Fn(&FoundMount) -> bool,
) -> Result<(), SurveyError> {
    let unplaced: Vec<&FoundMount> = found.mounts.iter().filter(|mount| !is_placed(mount)).collect();
    if unplaced.is_empty() {
        return Ok(());
    }
    let what: Vec<String> = unplaced.iter().map(|mount| described(mount)).collect();
    let drive = drive_below(found, &unplaced);
    let mut lines = String::new();
    for line in lines_for(found, drive.as_ref()) {
        // Writing into a string cannot fail.
        let _ = write!(lines, "\n  {line}");
    }
    let (verb, where_now) = if unplaced.len() == 1 {
        ("has", "it is on no plain partition of the golden node")
    } else {
        ("have", "they are on no plain partition of the golden node")
    };
    let name = drive.map_or_else(|| "sda".to_owned(), |drive| drive.name);
    Err(SurveyError::Unplaced {
        what: what.join(", "),
        advice: format!(
            "{verb} no place in the clone: {where_now}. Say where with a desc file for the clones' disk, with lines such as \
             these (sizes in MiB, room to grow is in them; mount= says what goes where):{lines}\nand run: ka-server -p {name} FILE …"
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

/// The drive that a whole-disk file system, a volume group or another layer lies on: the first one found.
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

/// Down through `slaves` of sysfs: a mapped device lies on others.
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

/// A line for each file system and swap area; the root comes last and takes what is left.
fn lines_for(found: &Found, drive: Option<&Drive>) -> Vec<String> {
    let mut lines = Vec::new();
    let table = drive.and_then(|drive| drive.table.as_ref());
    let is_gpt = table.is_some_and(|table| table.kind == TableKind::Gpt);
    lines.extend(is_gpt.then(|| "table gpt".to_owned()));
    let has_bios = table.is_some_and(|table| {
        let mut kinds = table.partitions.iter().map(|partition| partition.kind.known());
        kinds.any(|kind| kind == Some(KnownType::Bios))
    });
    lines.extend(has_bios.then(|| "bios 1".to_owned()));
    let mut seen: Vec<&str> = Vec::new();
    let mut last = String::new();
    let (boot, other): (Vec<_>, Vec<_>) = found
        .mounts
        .iter()
        .partition(|mount| is_boot_place(&mount.mount_point));
    for mount in boot.into_iter().chain(other) {
        // One partition for all subvolumes of a btrfs.
        if mount.fstype == FsType::Btrfs && seen.contains(&mount.golden.path.as_str()) {
            continue;
        }
        seen.push(&mount.golden.path);
        let kind = if mount.fstype == FsType::Vfat {
            "esp"
        } else {
            "linux"
        };
        let (path, fstype) = (&mount.mount_point, mount.fstype);
        if path == "/" {
            last = format!("{kind} fill fs={fstype} mount=/");
            continue;
        }
        let mib = (mount.used_bytes / MIB * 2 + SPARE_MIB).next_multiple_of(64);
        lines.push(format!("{kind} {mib} fs={fstype} mount={path}"));
    }
    for swap in &found.swaps {
        let block = BlockDevice::from_node(std::path::Path::new(&swap.golden.path));
        let mib = block.map_or(SWAP_MIB, |block| block.bytes.div_ceil(MIB));
        lines.push(format!("swap {mib}"));
    }
    lines.push(last);
    lines
}
