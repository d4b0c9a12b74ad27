//! Judgements of other programs on a disk that KA wrote.

use std::fs::File;
use std::path::Path;

use ka_disk::desc::Desc;
use ka_disk::layout::PartitionPlan;
use ka_disk::table::{Partition, TableKind, read};
use ka_host::run::Tool;
use serde_json::Value;

use crate::disks::Disk;

/// Writes the plan to a disk of its own and asks every program.
pub(crate) fn agree_with(plan: &PartitionPlan) -> Result<(), String> {
    let disk = Disk::with(plan);
    sfdisk_verify(&disk.path(), plan)?;
    sfdisk_json(&disk.path(), plan)?;
    if plan.table.kind == TableKind::Gpt {
        sgdisk_verify(&disk.path())?;
        gptman_reads(&disk.open(), plan)?;
    }
    ka_desc_makes_it_again(&disk.open(), plan)
}

fn run(program: &str, args: &[&str], disk: &Path) -> Result<String, String> {
    let output = Tool::new(program)
        .args(args)
        .arg(disk)
        .run()
        .map_err(|error| error.to_string())?;
    if !output.stderr_tail.is_empty() {
        return Err(format!("{program} {args:?}: {}", output.stderr_tail));
    }
    Ok(output.text())
}

/// Runs `sfdisk --verify`. Its lines about a sound table are known; its exit code is 0 also if it complains.
fn sfdisk_verify(disk: &Path, plan: &PartitionPlan) -> Result<(), String> {
    let text = run("sfdisk", &["--verify"], disk)?;
    let mut known = vec![
        "No errors detected.",
        "Remaining ",
        "Header version: 1.0",
        "Using ",
        "A total of ",
    ];
    if plan.find(1).is_some_and(|first| {
        plan.partitions()
            .iter()
            .any(|part| part.start_bytes < first.start_bytes)
    }) {
        // It counts the sectors before partition 1 as allocated (libfdisk, dos_verify_disklabel), and twice
        // those of partitions that lie there.
        known.push("Total allocated sectors ");
    }
    let lines = || text.lines().skip(1);
    let sound = lines().next() == Some(known[0]);
    if sound && lines().all(|line| known.iter().any(|words| line.starts_with(words))) {
        return Ok(());
    }
    Err(format!("sfdisk --verify: {text}"))
}

/// Runs `sgdisk -v`. A copied table lies where the golden one did, so sgdisk may complain about its
/// alignment.
fn sgdisk_verify(disk: &Path) -> Result<(), String> {
    let text = run("sgdisk", &["--verify"], disk)?;
    let flaw = |line: &&str| {
        let regret = line.starts_with("Caution: Partition ") && line.contains("-sector boundary. This may");
        !regret
            && ["Caution", "Warning", "Problem:", "rror"]
                .iter()
                .any(|word| line.contains(word))
    };
    let sound = text.contains("No problems found.") && text.lines().find(flaw).is_none();
    if sound {
        Ok(())
    } else {
        Err(format!("sgdisk -v: {text}"))
    }
}

/// Compares every field that `sfdisk --json` shows with the plan.
fn sfdisk_json(disk: &Path, plan: &PartitionPlan) -> Result<(), String> {
    let text = run("sfdisk", &["--json"], disk)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
    let table = &json["partitiontable"];
    let empty = Vec::new();
    let seen = table["partitions"].as_array().unwrap_or(&empty);
    let wanted: Vec<Value> = plan
        .partitions()
        .iter()
        .map(|part| expected(disk, plan, part))
        .collect();
    let label = if plan.table.kind == TableKind::Mbr {
        "dos"
    } else {
        "gpt"
    };
    let id = table["id"].as_str().unwrap_or_default().to_lowercase();
    let same = seen.len() == wanted.len()
        && seen
            .iter()
            .zip(&wanted)
            .all(|(seen, wanted)| lower(seen) == *wanted);
    if same && table["label"] == label && id == plan.table.disk_id.to_string() {
        return Ok(());
    }
    Err(format!(
        "sfdisk --json sees {text}, the plan is\n{plan}{wanted:#?}"
    ))
}

/// Returns one partition in sfdisk's words.
fn expected(disk: &Path, plan: &PartitionPlan, part: &Partition) -> Value {
    let disk = disk.display().to_string();
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    let sector_bytes = u64::from(plan.table.sector_size);
    let mut value = serde_json::json!({
        "node": format!("{disk}{separator}{}", part.number).to_lowercase(),
        "start": part.start_bytes / sector_bytes,
        "size": part.len_bytes / sector_bytes,
    });
    if plan.table.kind == TableKind::Mbr {
        let byte = format!("{:?}", part.kind)
            .trim_matches(|c: char| !c.is_ascii_digit())
            .parse::<u8>();
        value["type"] = format!("{:x}", byte.unwrap_or_default()).into();
        if part.bootable {
            value["bootable"] = true.into();
        }
        return value;
    }
    value["type"] = part.kind.to_string().into();
    value["uuid"] = part.uuid.map(|uuid| uuid.to_string()).into();
    if let Some(name) = &part.name {
        value["name"] = name.to_lowercase().into();
    }
    let attrs = attribute_words(part.attrs);
    if !attrs.is_empty() {
        value["attrs"] = attrs.to_lowercase().into();
    }
    value
}

/// Writes attributes as sfdisk does (sfdisk(8), "attrs"): three names, and GUID: with the numbers of the
/// type's own bits.
fn attribute_words(attrs: u64) -> String {
    let names = ["RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable"];
    let bit = |bit: usize| attrs >> bit & 1 == 1;
    let mut words: Vec<String> = (0..3)
        .filter(|at| bit(*at))
        .map(|at| names[at].to_owned())
        .collect();
    let own: Vec<String> = (48..64).filter(|at| bit(*at)).map(|at| at.to_string()).collect();
    if !own.is_empty() {
        words.push(format!("GUID:{}", own.join(",")));
    }
    words.join(" ")
}

/// Returns the value with all text in small letters: GUIDs and names of temporary files.
fn lower(value: &Value) -> Value {
    match value {
        Value::String(text) => text.to_lowercase().into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), lower(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Reads the table with gptman, an independent reader that the project does not use otherwise.
fn gptman_reads(mut disk: &File, plan: &PartitionPlan) -> Result<(), String> {
    let sector_bytes = u64::from(plan.table.sector_size);
    let gpt = gptman::GPT::read_from(&mut disk, sector_bytes).map_err(|error| error.to_string())?;
    let seen: Vec<_> = gpt.iter().filter(|(_, entry)| entry.is_used()).collect();
    let same = |(number, entry): &(u32, &gptman::GPTPartitionEntry), part: &Partition| {
        *number == part.number
            && entry.starting_lba * sector_bytes == part.start_bytes
            && (entry.ending_lba + 1) * sector_bytes == part.end_bytes()
            && entry.partition_name.as_str() == part.name.as_deref().unwrap_or_default()
    };
    let parts = plan.partitions();
    if seen.len() == parts.len() && seen.iter().zip(parts).all(|(seen, part)| same(seen, part)) {
        return Ok(());
    }
    Err(format!("gptman sees {seen:?}, the plan is\n{plan}"))
}

/// A desc file made from the disk reads back, and keeps numbers, types, flags and at least the sizes.
fn ka_desc_makes_it_again(disk: &File, plan: &PartitionPlan) -> Result<(), String> {
    let table = read(disk, plan.table.sector_size)
        .map_err(|error| error.to_string())?
        .ok_or("no table")?;
    if table.partitions.is_empty() {
        return Ok(());
    }
    let made = Desc::from_table(&table, "made");
    let text = made.to_string();
    let desc = Desc::parse(&text, "made").map_err(|error| format!("{error}\n{text}"))?;
    if desc != made {
        return Err(format!("written {made:?}, read {desc:?}"));
    }
    let numbers: Vec<u32> = desc.numbered().iter().map(|(number, _)| *number).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    let planned: Vec<u32> = plan.partitions().iter().map(|part| part.number).collect();
    if sorted == planned {
        Ok(())
    } else {
        Err(format!("numbers {numbers:?} for\n{plan}\n{text}"))
    }
}
