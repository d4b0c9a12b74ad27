//! The drives of the clone, with their golden tables and boot code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::device::{BlockDevice, Drive};
use super::place::Placer;
use super::{BootCodeSource, SurveyError};
use crate::desc::Desc;
use crate::layout::Source;
use crate::spec::{DriveSpec, InstallSpec, partition_name};
use crate::table::{KnownType, PartType, TableKind};

/// The part of a master boot record before the disk signature and the table.
const BOOT_CODE_BYTES: usize = 446;

/// Makes the drives that anything is placed on, or that `-p` names.
pub(super) fn build(
    spec: &mut InstallSpec,
    descs: &BTreeMap<String, Desc>,
    placer: &Placer<'_>,
    boot_code: &[BootCodeSource],
) -> Result<(), SurveyError> {
    let of_fs = spec.filesystems.iter().map(|fs| fs.place.drive.clone());
    let of_raw = spec.raw.iter().map(|raw| raw.place.drive.clone());
    let used: BTreeSet<String> = of_fs.chain(of_raw).collect();
    // Where a desc file names a drive that the golden node has not, the files' own drive says what kind of table it is.
    let files_on = spec
        .filesystems
        .iter()
        .find(|fs| fs.mounts.iter().any(|mount| mount.path == "/"));
    let files_on = files_on.and_then(|fs| fs.golden.as_ref()).and_then(|golden| {
        let device = BlockDevice::from_node(Path::new(&golden.path))?;
        Drive::open(device.drive()).ok().flatten()
    });
    let usual_table = files_on.and_then(|drive| drive.table).map(|table| table.kind);
    let names: BTreeSet<String> = used.iter().chain(descs.keys()).cloned().collect();
    for name in names {
        let golden = Drive::open(&name)?;
        let desc = descs.get(&name);
        if golden.is_none() && !placer.uses(&name) {
            let there = used.iter().cloned().collect::<Vec<_>>().join(", ");
            let problem = format!(
                "the golden node has no drive of that name (its files are on {there}), and no line of the desc \
                 file takes one of its mount points with mount="
            );
            return Err(SurveyError::option(format!("-p {name}"), problem));
        }
        let drive = match desc {
            Some(desc) => with_desc(&name, golden.as_ref(), desc, usual_table)?,
            None => as_it_is(&name, golden, placer, &mut spec.notes)?,
        };
        spec.drives.push(drive);
    }
    for source in boot_code {
        let (name, bytes) = read_boot_code(source)?;
        let Some(drive) = spec.drives.iter_mut().find(|drive| drive.name == name) else {
            let problem = format!(
                "nothing is cloned onto a drive {name}: name one of {}",
                drive_names(&spec.drives)
            );
            return Err(SurveyError::option(source.option(), problem));
        };
        drive.boot_code = Some(bytes);
    }
    Ok(())
}

fn with_desc(
    name: &str,
    golden: Option<&Drive>,
    desc: &Desc,
    usual_table: Option<TableKind>,
) -> Result<DriveSpec, SurveyError> {
    let table = golden.and_then(|drive| drive.table.as_ref());
    let golden_table = table
        .map(|table| table.kind)
        .or(usual_table)
        .unwrap_or(TableKind::Mbr);
    let kind = desc.table.unwrap_or(golden_table);
    desc.check_for(kind).map_err(|error| SurveyError::Desc {
        origin: error.origin.clone(),
        line: error.line,
        problem: error.problem.to_string(),
    })?;
    Ok(DriveSpec {
        name: name.to_owned(),
        source: Source::Desc(desc.clone()),
        golden_table,
        golden_bytes: golden.map_or(0, |drive| drive.bytes),
        golden_sector_size: golden.map_or(512, |drive| drive.sector_size),
        boot_code: None,
    })
}

fn as_it_is(
    name: &str,
    golden: Option<Drive>,
    placer: &Placer<'_>,
    notes: &mut Vec<String>,
) -> Result<DriveSpec, SurveyError> {
    let device = Path::new("/dev").join(name);
    let problem = |problem: String| SurveyError::Device {
        device: device.clone(),
        problem,
    };
    let advice = format!("describe the clone's partitions with -p {name} DESC");
    let drive = golden.ok_or_else(|| {
        problem(format!(
            "the golden node has no such drive to copy the table of: {advice}"
        ))
    })?;
    let table = drive
        .table
        .ok_or_else(|| problem(format!("there is no partition table on it to copy: {advice}")))?;
    for partition in table
        .partitions
        .iter()
        .filter(|partition| !partition.kind.is_extended() && !holds_boot_code(partition.kind))
    {
        if !placer.is_taken(name, partition.number) {
            let partition_name = partition_name(name, partition.number);
            notes.push(format!(
                "the clone gets a partition like {partition_name}, but nothing is put on it: no fstab line that is \
                 cloned names it (-D {partition_name} copies it raw)"
            ));
        }
    }
    Ok(DriveSpec {
        name: drive.name,
        golden_table: table.kind,
        source: Source::AsIs(table),
        golden_bytes: drive.bytes,
        golden_sector_size: drive.sector_size,
        boot_code: None,
    })
}

/// Returns true for partitions that a boot loader's own tool fills, and that no line of fstab names.
fn holds_boot_code(kind: PartType) -> bool {
    let kinds = [KnownType::Bios, KnownType::Prep];
    kinds.into_iter().any(|known| match kind {
        PartType::Named(kind) => kind == known,
        PartType::Gpt(guid) => guid == known.guid(),
        PartType::Mbr(byte) => Some(byte) == known.mbr_byte(),
    })
}

fn read_boot_code(source: &BootCodeSource) -> Result<(String, Vec<u8>), SurveyError> {
    let fail = |problem: String| SurveyError::option(source.option(), problem);
    match source {
        BootCodeSource::Drive(drive) => {
            let name = super::kernel_name(drive);
            let device = BlockDevice::from_name(&name).ok_or_else(|| {
                fail("the golden node has no such drive: name one that lsblk lists".to_owned())
            })?;
            let mut code = vec![0; BOOT_CODE_BYTES];
            let file = File::open(&device.node).map_err(|error| fail(error.to_string()))?;
            file.read_exact_at(&mut code, 0)
                .map_err(|error| fail(format!("reading its first sector: {error}")))?;
            Ok((name, code))
        }
        BootCodeSource::File { drive, file } => {
            let shown = file.display();
            let opened = File::open(file).map_err(|error| fail(format!("opening {shown}: {error}")))?;
            let mut code = Vec::new();
            // One byte more than allowed shows that the file is too long, however long it is.
            opened
                .take(BOOT_CODE_BYTES as u64 + 1)
                .read_to_end(&mut code)
                .map_err(|error| fail(format!("reading {shown}: {error}")))?;
            if code.len() != BOOT_CODE_BYTES {
                let length = opened_length(file, code.len());
                return Err(fail(format!(
                    "{shown} has {length} bytes, but boot code is exactly {BOOT_CODE_BYTES} bytes: take the part of a \
                     master boot record before its partition table (dd bs=446 count=1)"
                )));
            }
            Ok((super::kernel_name(drive), code))
        }
    }
}

fn opened_length(file: &Path, read: usize) -> u64 {
    file.metadata().map_or(read as u64, |meta| meta.len())
}

fn drive_names(drives: &[DriveSpec]) -> String {
    drives
        .iter()
        .map(|drive| drive.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
