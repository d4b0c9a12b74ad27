//! The tables of `--dry-run`.

use comfy_table::{Cell, CellAlignment, Table, presets};
use ka_disk::spec::{FsSpec, InstallSpec, StreamKind};
use ka_report::text::size;

use super::planned::Planned;
use crate::settings::Settings;

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Returns the table of the clone's drives.
pub(super) fn drives(spec: &InstallSpec, plans: &[Planned]) -> Table {
    let mut table = table(
        &[
            "drive",
            "golden size",
            "sector",
            "table",
            "partitions from",
            "boot code",
        ],
        &[1, 2],
    );
    for (drive, planned) in spec.drives.iter().zip(plans) {
        let source = match &drive.source {
            ka_disk::layout::Source::Desc(desc) => desc.origin.clone(),
            ka_disk::layout::Source::AsIs(_) => "the golden drive's own table".to_owned(),
        };
        let kind = planned.plan.table.kind;
        table.add_row([
            drive.name.clone(),
            if drive.golden_bytes == 0 {
                "none".to_owned()
            } else {
                size(drive.golden_bytes)
            },
            drive.golden_sector_size.to_string(),
            kind.to_string(),
            source,
            if drive.boot_code.is_some() {
                "copied".to_owned()
            } else {
                "none".to_owned()
            },
        ]);
    }
    table
}

/// Returns the table of planned partitions.
pub(super) fn partitions(spec: &InstallSpec, plans: &[Planned]) -> Table {
    let header = [
        "partition",
        "start",
        "size",
        "type",
        "file system",
        "label",
        "in use",
        "golden device",
    ];
    let mut table = table(&header, &[1, 2, 6]);
    for planned in plans {
        let Planned { drive, plan, .. } = planned;
        for partition in plan.partitions() {
            let fs = spec
                .filesystems_of(drive)
                .find(|fs| fs.place.partition == partition.number);
            let raw = spec
                .raw
                .iter()
                .find(|raw| raw.place.drive == *drive && raw.place.partition == partition.number);
            let golden = fs
                .and_then(|fs| fs.golden.as_ref())
                .or_else(|| raw.map(|raw| &raw.golden));
            table.add_row([
                ka_disk::spec::partition_name(drive, partition.number),
                size(partition.start_bytes),
                planned.size_text(partition.number, partition.len_bytes),
                partition
                    .kind
                    .known()
                    .map_or_else(|| partition.kind.to_string(), |known| known.name().to_owned()),
                fs.map_or_else(
                    || raw.map_or("", |_| "raw copy").to_owned(),
                    |fs| fs.fstype.to_string(),
                ),
                fs.and_then(|fs| fs.label.clone()).unwrap_or_default(),
                fs.filter(|fs| fs.used_bytes > 0)
                    .map_or_else(String::new, |fs| size(fs.used_bytes)),
                golden.map_or_else(String::new, |golden| golden.path.clone()),
            ]);
        }
    }
    table
}

/// Returns the table of mounts, in the order of the paths.
pub(super) fn mounts(spec: &InstallSpec) -> Table {
    let mut table = table(
        &[
            "mounted on",
            "partition",
            "file system",
            "options",
            "mode",
            "owner",
        ],
        &[],
    );
    let mut rows: Vec<_> = spec
        .filesystems
        .iter()
        .flat_map(|fs| fs.mounts.iter().map(move |mount| (mount, fs)))
        .collect();
    rows.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    for (mount, FsSpec { place, fstype, .. }) in rows {
        table.add_row([
            mount.path.clone(),
            place.to_string(),
            fstype.to_string(),
            mount.options.clone(),
            format!("{:04o}", mount.mode & 0o7777),
            format!("{}:{}", mount.uid, mount.gid),
        ]);
    }
    table
}

/// Returns the table of swap files.
pub(super) fn swap_files(spec: &InstallSpec) -> Table {
    let mut table = table(&["file", "size"], &[1]);
    for file in &spec.swap_files {
        table.add_row([file.path.clone(), size(file.size_bytes)]);
    }
    table
}

/// Returns the table of the run's sessions and their contents.
pub(super) fn streams(spec: &InstallSpec, settings: &Settings) -> Table {
    let mut table = table(&["stream", "what", "about"], &[2]);
    let plan_bytes = spec.to_json().map_or(0, |json| json.len() as u64);
    let plan = "partitions, file systems and mounts".to_owned();
    table.add_row([format!("{}1", settings.session), plan, size(plan_bytes)]);
    for stream in &spec.streams {
        let (what, bytes) = match stream.kind {
            StreamKind::Tree => {
                let paths: Vec<_> = spec.trees.iter().map(|tree| tree.path.as_str()).collect();
                let bytes = spec.trees.iter().map(|tree| tree.used_bytes).sum();
                (format!("files of {}", paths.join(", ")), bytes)
            }
            StreamKind::Raw { index } => {
                let raw = usize::try_from(index).ok().and_then(|index| spec.raw.get(index));
                raw.map_or_else(Default::default, |raw| {
                    (format!("{} raw", raw.golden.path), raw.bytes)
                })
            }
        };
        table.add_row([Cell::new(&stream.name), Cell::new(what), Cell::new(size(bytes))]);
    }
    table
}
