//! `--dry-run`: shows everything that would be sent and done, as tables or as JSON. It changes nothing and
//! binds no port.
//!
//! The partitions are shown as planned on a disk like the golden one. Each node plans anew for its own disk.

mod boot;
mod order;
mod planned;
mod tables;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;
use serde::Serialize;
use serde_json::json;

use crate::settings::{Input, Settings};
use boot::{BootJson, BootText};
use order::PlannedOrder;
use planned::Planned;

/// Shows a clone, and warnings about problems of a real run.
///
/// # Errors
/// A drive cannot be planned, or standard output cannot be written.
pub(crate) fn of_clone(spec: &InstallSpec, settings: &Settings, warnings: &[String]) -> Result<()> {
    let plans = planned::all(spec)?;
    let order = PlannedOrder::new(settings);
    let pxe = settings.boot.pxe.as_ref();
    if settings.output.json {
        let boot = pxe.map(|plan| BootJson::new(plan, &settings.boot.images));
        let run = RunJson::new(settings);
        return print_json(
            &json!({ "run": run, "spec": spec, "plans": plans, "boot": boot, "order": order, "warnings": warnings }),
        );
    }
    let warnings = warning_lines(warnings);
    print_text(&format!(
        "{}{}{}{order}{warnings}",
        run_text(settings),
        clone_text(spec, &plans, settings)?,
        pxe.map_or_else(String::new, |plan| {
            let images = &settings.boot.images;
            BootText { plan, images }.to_string()
        })
    ))
}

fn warning_lines(warnings: &[String]) -> String {
    warnings
        .iter()
        .map(|text| format!("\nwarning: {text}\n"))
        .collect()
}

fn clone_text(spec: &InstallSpec, plans: &[Planned], settings: &Settings) -> Result<String> {
    let mut text = String::new();
    for (title, table) in [
        ("Drives", tables::drives(spec, plans)),
        ("Partitions", tables::partitions(spec, plans)),
        ("Mounts", tables::mounts(spec)),
        ("Swap files, made anew", tables::swap_files(spec)),
        ("Streams", tables::streams(spec, settings)),
    ] {
        if table.row_count() > 0 {
            writeln!(text, "\n{title}:\n{table}")?;
        }
    }
    writeln!(text, "\nBoot loader: {}", boot_loader(spec))?;
    excluded(&mut text, spec)?;
    for note in plans.iter().filter_map(|planned| planned.note.as_ref()) {
        writeln!(text, "\nnote: {note}")?;
    }
    for note in &spec.notes {
        writeln!(text, "\nwarning: {note}")?;
    }
    Ok(text)
}

/// Returns a description of the clones' boot loader.
fn boot_loader(spec: &InstallSpec) -> String {
    let boot = &spec.boot;
    let program = boot.golden.program.as_deref();
    match (boot.loader.as_deref(), boot.golden.loader) {
        (Some("none"), _) => "none (-r none): something else has to make the clones bootable".to_owned(),
        (Some(word), _) => format!("{word} (-r)"),
        (None, Some(loader)) => match program {
            Some(program) => format!("{loader}, as on the golden node; UEFI machines start {program}"),
            None => format!("{loader}, as on the golden node"),
        },
        (None, None) => "none known".to_owned(),
    }
}

/// Shows the generic mode.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn of_generic(input: &Input, settings: &Settings, warnings: &[String]) -> Result<()> {
    let order = PlannedOrder::new(settings);
    let stream = format!("{}1", settings.session);
    if settings.output.json {
        let what = match input {
            Input::Command(command) => json!({ "command": command }),
            Input::File(path) => json!({ "file": path.display().to_string() }),
        };
        let stream = json!({ "name": stream, "input": what });
        let run = RunJson::new(settings);
        return print_json(&json!({ "run": run, "streams": [stream], "order": order, "warnings": warnings }));
    }
    print_text(&format!(
        "{}\n{stream}: {}\n{order}{}",
        run_text(settings),
        input.describe(),
        warning_lines(warnings)
    ))
}

/// The settings of the run, as `--dry-run --json` shows them.
#[derive(Debug, Serialize)]
struct RunJson {
    session: String,
    nodes_wanted: Option<u32>,
    wait_secs: Option<u64>,
    release_delay_tenths: u64,
    wait_boot_secs: u64,
    beacon: bool,
    buffer_bytes: usize,
    block_bytes: Option<usize>,
}

impl RunJson {
    fn new(settings: &Settings) -> Self {
        Self {
            session: settings.session.to_string(),
            nodes_wanted: settings.wanted,
            wait_secs: settings.nodes.wait.map(|wait| wait.as_secs()),
            release_delay_tenths: u64::try_from(settings.nodes.release_delay.as_millis() / 100)
                .unwrap_or(u64::MAX),
            wait_boot_secs: settings.boot.wait_boot.as_secs(),
            beacon: settings.boot.beacon,
            buffer_bytes: settings.stream.buffer.0,
            block_bytes: settings.stream.block_size.map(|size| size.0),
        }
    }
}

fn run_text(settings: &Settings) -> String {
    let nodes = settings.wanted.map_or_else(
        || "until a node says go".to_owned(),
        |nodes| format!("for {nodes} nodes"),
    );
    let wait = settings
        .nodes
        .wait
        .map_or_else(String::new, |wait| format!(", at most {} s", wait.as_secs()));
    format!(
        "Session {}: waits {nodes}{wait}. Nothing has been touched.\n",
        settings.session
    )
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

#[cfg(test)]
mod tests {
    use ka_disk::desc::Desc;
    use ka_disk::fs_type::FsType;
    use ka_disk::layout::Source;
    use ka_disk::spec::{
        BootSpec, DriveSpec, FsFeatures, FsSpec, GoldenDevice, InstallSpec, MountSpec, Place, ReadBackWhen,
        SPEC_VERSION, StreamKind, StreamPlan, SwapFileSpec, TreeSpec,
    };
    use ka_disk::table::TableKind;

    use super::{clone_text, planned};
    use crate::cli::Options;
    use crate::settings::Settings;

    fn settings() -> Settings {
        match ka_cli::parse::<Options>(["ka-server"]) {
            Ok(options) => Settings::check(&options).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn root(mounted: &str) -> FsSpec {
        FsSpec {
            id: 0,
            place: Place {
                drive: "sda".into(),
                partition: 2,
            },
            fstype: FsType::Ext4,
            golden: Some(GoldenDevice {
                path: "/dev/sda2".into(),
                ..GoldenDevice::default()
            }),
            golden_fstype: None,
            label: Some("groot".into()),
            uuid: None,
            features: FsFeatures::Default,
            used_bytes: 300 << 20,
            expanded_bytes: 0,
            used_inodes: 1000,
            golden_bytes: 600 << 20,
            golden_block_bytes: 4096,
            mounts: vec![MountSpec {
                path: mounted.into(),
                options: "errors=remount-ro".into(),
                options_changed: false,
                subvol: None,
                mode: 0o40755,
                uid: 0,
                gid: 0,
            }],
        }
    }

    fn spec(golden_mib: u64) -> InstallSpec {
        let desc = Desc::parse("swap 100\nlinux 900\n", "a.desc").unwrap();
        InstallSpec {
            version: SPEC_VERSION,
            golden_host: "golden".into(),
            drives: vec![DriveSpec {
                name: "sda".into(),
                source: Source::Desc(desc),
                golden_table: TableKind::Mbr,
                golden_bytes: golden_mib << 20,
                golden_sector_size: 512,
                boot_code: Some(vec![0; 446]),
            }],
            filesystems: vec![root("/")],
            trees: vec![TreeSpec {
                id: 0,
                path: "/".into(),
                filesystem: 0,
                used_bytes: 300 << 20,
            }],
            swap_files: vec![SwapFileSpec {
                path: "/swapfile".into(),
                size_bytes: 64 << 20,
                mode: 0o600,
            }],
            raw: vec![],
            known: Vec::new(),
            excluded: vec![b"/tmp".to_vec()],
            skipped: vec![],
            keep_uuids: false,
            boot: BootSpec::default(),
            verify: ReadBackWhen::default(),
            streams: vec![StreamPlan {
                name: "kainstall2".into(),
                kind: StreamKind::Tree,
            }],
            notes: vec!["/mnt/usb is left out".into()],
        }
    }

    fn lines(spec: &InstallSpec) -> String {
        let text = clone_text(spec, &planned::all(spec).unwrap(), &settings()).unwrap();
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(squeeze).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_that_would_be_done_is_shown() {
        let text = lines(&spec(2000));
        for line in [
            "sda 1.9 GiB 512 mbr a.desc copied",
            "sda1 1.0 MiB 100.0 MiB swap",
            "sda2 101.0 MiB 900.0 MiB linux ext4 groot 300.0 MiB /dev/sda2",
            "/ sda2 ext4 errors=remount-ro 0755 0:0",
            "/swapfile 64.0 MiB",
            "kainstall2 files of / 300.0 MiB",
            "Excluded, empty on the clone:\n/tmp",
            "warning: /mnt/usb is left out",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("note:"), "{text}");
    }

    #[test]
    fn a_desc_for_larger_disks_than_the_golden_one_is_shown_all_the_same() {
        let text = lines(&spec(500));
        assert!(
            text.contains("note: sda is shown on the smallest disk that it fits with its files, 1001.0 MiB"),
            "{text}"
        );
        assert!(text.contains("sda2 101.0 MiB 900.0 MiB"), "{text}");
    }
}
