//! The way from a disk to its desc file.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ka_disk::contents;
use ka_disk::desc::{Desc, DescEntry, MIB, Size};
use ka_disk::table::{self, Partition, PartitionTable};
use ka_host::blkpg;
use serde_json::json;

use crate::args::Options;
use crate::probe::{self, Content};

/// Sector sizes that an image file may have been made with.
const IMAGE_SECTOR_SIZES: [u32; 2] = [512, 4096];

pub(crate) fn run(disk: &Path, options: &Options) -> anyhow::Result<String> {
    let path = find_disk(disk)?;
    check_kind(&path)?;
    let file = File::open(&path).map_err(|error| not_opened(&path, error))?;
    let table = read(&path, &file, options.sector_size)?;
    let oddities = table::oddities(&file, table.sector_size);
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let desc = Desc::from_table(&table, &name);
    if desc.entries.is_empty() {
        bail!(
            "{} has a {} table without partitions: there is nothing to describe",
            path.display(),
            table.kind
        );
    }
    let kernel = blkpg::list(&path).unwrap_or_default();
    let found = contents::look(&path, table.sector_size, &kernel);
    let contents: Vec<Content> = table
        .partitions
        .iter()
        .map(|part| probe::content(&path, &found, part))
        .collect();
    let made = Made {
        name: &name,
        table: &table,
        desc: &desc,
        contents: &contents,
        oddities: &oddities,
    };
    if options.json {
        made.json()
    } else {
        Ok(made.text())
    }
}

fn not_opened(path: &Path, error: io::Error) -> anyhow::Error {
    let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied;
    let error = anyhow::Error::from(error).context(format!("opening {}", path.display()));
    if is_forbidden {
        anyhow!("{error:#}: run ka-desc as root; in a container, let it have the device")
    } else {
        error
    }
}

/// Checks that the path is a disk or an image file. Nothing else holds a partition table.
fn check_kind(path: &Path) -> anyhow::Result<()> {
    let kind = path
        .metadata()
        .with_context(|| format!("looking at {}", path.display()))?
        .file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let what = if kind.is_dir() { "a directory" } else { "no disk" };
    bail!("{} is {what}: name a disk or an image file", path.display())
}

/// Finds the device of a name. If there is none, takes a file of that name in the current directory.
fn find_disk(disk: &Path) -> anyhow::Result<PathBuf> {
    let device = Path::new("/dev").join(disk);
    if disk.components().count() == 1 && device.exists() {
        return Ok(device);
    }
    if disk.exists() {
        return Ok(disk.to_owned());
    }
    if disk.components().count() == 1 {
        bail!(
            "there is no disk {} and no file {}: see lsblk for the names",
            device.display(),
            disk.display()
        );
    }
    bail!("there is no {}: see lsblk for the names of disks", disk.display());
}

fn read(path: &Path, file: &File, wanted: Option<u32>) -> anyhow::Result<PartitionTable> {
    let sizes = match wanted {
        Some(size) => vec![size],
        None if file.metadata()?.is_file() => IMAGE_SECTOR_SIZES.to_vec(),
        None => vec![ka_host::block::sector_size(file).context("finding the sector size")?],
    };
    let mut failure = None;
    for size in sizes {
        match table::read(file, size) {
            Ok(Some(table)) => return Ok(table),
            Ok(None) => {}
            // The first size is the likelier one, so its error is the one to show.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error).with_context(|| format!("{}", path.display())),
        None => bail!("{}", without_table(path, wanted.unwrap_or(512))),
    }
}

/// Returns the error for a disk without a table, and what to do about it.
fn without_table(path: &Path, sector_size: u32) -> String {
    let shown = path.display();
    let node = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = node.file_name().unwrap_or_default().to_string_lossy();
    let dir = Path::new("/sys/class/block").join(&*name);
    if dir.join("partition").exists() {
        let disk = dir.canonicalize().ok();
        let disk = disk.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let disk = disk.map_or_else(|| "a disk".into(), |disk| disk.to_string_lossy());
        return format!(
            "{shown} has no partition table, for it is a partition: name the whole disk ({disk})"
        );
    }
    let found = contents::look(path, sector_size, &[]);
    if let Some(table) = &found.table {
        return format!(
            "{shown} has {table}, which KA cannot read: write a desc file by hand (docs/desc.md)"
        );
    }
    if found.is_empty() {
        return format!(
            "{shown} has no partition table and nothing else on it: write a desc file by hand (docs/desc.md)"
        );
    }
    match found.areas.iter().find(|area| area.member.is_some()) {
        Some(_) => format!(
            "{shown} has no partition table; it is {found}. A clone gets plain partitions: write lines with mount=, as \
             desc-examples/from-lvm.desc does"
        ),
        None => format!(
            "{shown} has no partition table; it holds {found}. A clone gets a table: `table gpt`, then `linux fill mount=…` \
             for what is on it"
        ),
    }
}

struct Made<'a> {
    name: &'a str,
    table: &'a PartitionTable,
    desc: &'a Desc,
    /// The content of each partition of `table`.
    contents: &'a [Content],
    /// Oddities of the table, one line each.
    oddities: &'a [String],
}

impl Made<'_> {
    /// Returns the desc file, with a comment above each line about the present partition.
    fn text(&self) -> String {
        let table = self.table;
        let mut text = format!(
            "# {}: {} MiB, {}-byte sectors, id {}; written by ka-desc\n",
            self.name,
            table.disk_bytes / MIB,
            table.sector_size,
            table.disk_id
        );
        for oddity in self.oddities {
            writeln!(text, "# warning: {oddity}").ok();
        }
        let active = if table.pmbr_boot { " pmbr_boot" } else { "" };
        writeln!(text, "table {}{active}", table.kind).ok();
        let mut end_bytes = MIB;
        for (entry, part, content) in self.lines() {
            let gap_mib = part.start_bytes.saturating_sub(end_bytes) / MIB;
            // The MiB before a logical partition belongs to its boot record.
            if gap_mib > u64::from(part.logical) {
                writeln!(text, "# {gap_mib} MiB unused here").ok();
            }
            writeln!(
                text,
                "# {}{}",
                part_name(self.name, part.number),
                self.remark(entry, part, content)
            )
            .ok();
            for line in content.instead() {
                writeln!(text, "#   {line}").ok();
            }
            writeln!(text, "{entry}").ok();
            end_bytes = if part.kind.is_extended() {
                part.start_bytes
            } else {
                part.end_bytes()
            };
        }
        let end = self
            .table
            .partitions
            .iter()
            .map(Partition::end_bytes)
            .max()
            .unwrap_or(0);
        let left_mib = table.disk_bytes.saturating_sub(end) / MIB;
        // The backup of a GPT takes less than a MiB, and partitions end on a whole MiB.
        if left_mib > 1 {
            writeln!(text, "# {left_mib} MiB unused at the end").ok();
        }
        text
    }

    fn remark(&self, entry: &DescEntry, part: &Partition, content: &Content) -> String {
        let mut remark = if part.kind.is_extended() {
            ": logical partitions".to_owned()
        } else {
            format!(": {content}")
        };
        if entry.size == Size::Fill {
            write!(remark, "; {} MiB, up to the end", part.len_bytes.div_ceil(MIB)).ok();
        } else if !part.len_bytes.is_multiple_of(MIB) {
            write!(remark, "; rounded up from {} bytes", part.len_bytes).ok();
        }
        remark
    }

    /// Returns each line with the partition from which it was made.
    fn lines(&self) -> impl Iterator<Item = (&DescEntry, &Partition, &Content)> {
        self.desc.numbered().into_iter().filter_map(|(number, entry)| {
            let parts = self.table.partitions.iter().zip(self.contents);
            parts
                .into_iter()
                .find(|(part, _)| part.number == number)
                .map(|(part, content)| (entry, part, content))
        })
    }

    fn json(&self) -> anyhow::Result<String> {
        let line = |(entry, part, content): (&DescEntry, &Partition, &Content)| {
            json!({
                "line": entry.to_string(),
                "number": part.number,
                "partuuid": self.table.partuuid(part),
                "partition": part,
                "content": content,
            })
        };
        let value = json!({
            "disk": self.name,
            "table": self.table.kind,
            "disk_id": self.table.disk_id,
            "disk_bytes": self.table.disk_bytes,
            "sector_size": self.table.sector_size,
            "partitions": self.lines().map(line).collect::<Vec<_>>(),
            "warnings": self.oddities,
            "desc": self.desc.to_string(),
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

/// Returns the kernel's name of a partition: a `p` stands between two digits.
fn part_name(disk: &str, number: u32) -> String {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{separator}{number}")
}
