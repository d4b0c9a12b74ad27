//! The drives of the clone, with their golden tables and boot code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::device::{BlockDevice, Drive};
use super::place::Placer;
use super::{BootCode, SurveyError};
use crate::desc::Desc;
use crate::layout::Source;
use crate::spec::{DriveSpec, InstallSpec, partition_name};
use crate::table::{BOOT_CODE_LEN, KnownType, PartType, TableKind};

/// Makes the drives that anything is placed on, or that `-p` names.
pub(super) fn build(
    spec: &mut InstallSpec,
    descs: &BTreeMap<String, Desc>,
    placer: &Placer<'_>,
    boot_code: &[BootCode],
) -> Result<(), SurveyError> {
    let of_fs = spec.filesystems.iter().map(|fs| fs.place.drive.clone());
    let of_raw = spec.raw.iter().map(|raw| raw.place.drive.clone());
    let used: BTreeSet<String> = of_fs.chain(of_raw).collect();
    // If the golden node lacks a drive that a desc file names, the golden root's drive decides the
    // kind of table.
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
        let (name, code) = (source.drive().as_str(), read_boot_code(source)?);
        let Some(drive) = spec.drives.iter_mut().find(|drive| drive.name == name) else {
            let problem = format!(
                "nothing is cloned onto a drive {name}: name one of {}",
                drive_names(&spec.drives)
            );
            return Err(SurveyError::option(source.option(), problem));
        };
        drive.boot_code = Some(code.to_vec());
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
    desc.check_for(kind)?;
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

/// Returns true for partitions that a boot loader's own tool fills and that no line of fstab names.
fn holds_boot_code(kind: PartType) -> bool {
    let kinds = [KnownType::Bios, KnownType::Prep];
    kinds.into_iter().any(|known| match kind {
        PartType::Named(kind) => kind == known,
        PartType::Gpt(guid) => guid == known.guid(),
        PartType::Mbr(byte) => Some(byte) == known.mbr_byte(),
    })
}

fn read_boot_code(source: &BootCode) -> Result<[u8; BOOT_CODE_LEN], SurveyError> {
    let drive = match source {
        BootCode::FromFile { code, .. } => return Ok(**code),
        BootCode::OfDrive(drive) => drive,
    };
    let fail = |problem: String| SurveyError::option(source.option(), problem);
    let device = BlockDevice::from_name(drive.as_str())
        .ok_or_else(|| fail("the golden node has no such drive: name one that lsblk lists".to_owned()))?;
    let mut code = [0; BOOT_CODE_LEN];
    let file = File::open(&device.node).map_err(|error| fail(error.to_string()))?;
    file.read_exact_at(&mut code, 0)
        .map_err(|error| fail(format!("reading its first sector: {error}")))?;
    Ok(code)
}

fn drive_names(drives: &[DriveSpec]) -> String {
    drives
        .iter()
        .map(|drive| drive.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
