//! `--dry-run`: everything that would be sent and done, as tables or as JSON. Touches nothing, binds nothing.
//!
//! The partitions are shown as planned on a disk like the golden one; each node plans anew for its own disk.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Table, presets};
use ka_disk::layout::{Geometry, PartitionPlan, plan};
use ka_disk::spec::{DriveSpec, FsSpec, InstallSpec, StreamKind};
use ka_status::text::size;
use serde::Serialize;
use serde_json::json;

use crate::cli::Options;
use crate::generic::describe;
use crate::settings::{Input, Settings};

/// Shows a clone.
///
/// # Errors
/// A drive cannot be planned, or standard output cannot be written.
pub(crate) fn of_clone(spec: &InstallSpec, settings: &Settings, options: &Options) -> Result<()> {
    let plans = spec
        .drives
        .iter()
        .map(|drive| planned(drive, spec.keep_uuids))
        .collect::<Result<Vec<_>>>()?;
    if options.json {
        return print_json(&json!({ "run": RunJson::new(settings, options), "spec": spec, "plans": plans }));
    }
    let mut text = run_text(settings, options);
    for (title, table) in [
        ("Drives", drives(spec, &plans)),
        (
            "Partitions, on a disk like the golden one",
            partitions(spec, &plans),
        ),
        ("Mounts", mounts(spec)),
        ("Swap files, made anew", swap_files(spec)),
        ("Streams", streams(spec, settings)),
    ] {
        if table.row_count() > 0 {
            writeln!(text, "\n{title}:\n{table}")?;
        }
    }
    excluded(&mut text, spec)?;
    for note in &spec.notes {
        writeln!(text, "\nwarning: {note}")?;
    }
    print_text(&text)
}

/// Shows the generic mode.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn of_generic(input: &Input, settings: &Settings, options: &Options) -> Result<()> {
    let stream = format!("{}1", settings.session);
    if options.json {
        let what = match input {
            Input::Command(command) => json!({ "command": command }),
            Input::File(path) => json!({ "file": path.display().to_string() }),
        };
        let stream = json!({ "name": stream, "input": what });
        return print_json(&json!({ "run": RunJson::new(settings, options), "streams": [stream] }));
    }
    print_text(&format!(
        "{}\n{stream}: {}\n",
        run_text(settings, options),
        describe(input)
    ))
}

/// What the run itself would be, for machines.
#[derive(Debug, Serialize)]
struct RunJson {
    session: String,
    nodes_wanted: Option<u32>,
    wait_secs: Option<u64>,
    release_delay_tenths: u32,
    buffer_bytes: usize,
    block_bytes: Option<usize>,
}

impl RunJson {
    fn new(settings: &Settings, options: &Options) -> Self {
        Self {
            session: settings.session.to_string(),
            nodes_wanted: options.nodes,
            wait_secs: options.wait,
            release_delay_tenths: options.release_delay,
            buffer_bytes: options.buffer.0,
            block_bytes: settings.block_bytes,
        }
    }
}

/// A drive with its plan; none where the golden node has no such drive to take the size from.
#[derive(Debug, Serialize)]
struct Planned {
    drive: String,
    plan: Option<PartitionPlan>,
}

fn planned(drive: &DriveSpec, keep_ids: bool) -> Result<Planned> {
    let name = drive.name.clone();
    if drive.golden_bytes == 0 {
        return Ok(Planned {
            drive: name,
            plan: None,
        });
    }
    let geometry = Geometry {
        disk_bytes: drive.golden_bytes,
        sector_size: drive.golden_sector_size,
    };
    let planned = plan(
        &drive.source,
        &geometry,
        drive.golden_table,
        keep_ids,
        &mut uuid::Uuid::new_v4,
    );
    let planned =
        planned.with_context(|| format!("planning {name} on a disk of {}", size(drive.golden_bytes)))?;
    Ok(Planned {
        drive: name,
        plan: Some(planned),
    })
}

fn run_text(settings: &Settings, options: &Options) -> String {
    let nodes = options.nodes.map_or_else(
        || "until a node says go".to_owned(),
        |nodes| format!("for {nodes} nodes"),
    );
    let wait = options
        .wait
        .map_or_else(String::new, |secs| format!(", at most {secs} s"));
    format!(
        "Session {}: waits {nodes}{wait}. Nothing has been touched.\n",
        settings.session
    )
}

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

fn drives(spec: &InstallSpec, plans: &[Planned]) -> Table {
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
        let kind = planned
            .plan
            .as_ref()
            .map_or(drive.golden_table, |plan| plan.table.kind);
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

fn partitions(spec: &InstallSpec, plans: &[Planned]) -> Table {
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
    for Planned { drive, plan } in plans {
        for partition in plan.iter().flat_map(PartitionPlan::partitions) {
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
                size(partition.len_bytes),
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

fn mounts(spec: &InstallSpec) -> Table {
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

fn swap_files(spec: &InstallSpec) -> Table {
    let mut table = table(&["file", "size"], &[1]);
    for file in &spec.swap_files {
        table.add_row([file.path.clone(), size(file.size_bytes)]);
    }
    table
}

fn streams(spec: &InstallSpec, settings: &Settings) -> Table {
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

fn excluded(text: &mut String, spec: &InstallSpec) -> Result<()> {
    if spec.excluded.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nExcluded, empty on the clone:")?;
    for path in &spec.excluded {
        writeln!(
            text,
            "  {}",
            PathBuf::from(OsString::from_vec(path.clone())).display()
        )?;
    }
    Ok(())
}

fn print_text(text: &str) -> Result<()> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}

fn print_json(value: &serde_json::Value) -> Result<()> {
    print_text(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
