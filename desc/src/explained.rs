//! A desc file with the plan that results from it, for people and for machines.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use ka_disk::desc::{Desc, DescEntry, DescError, MIB, Size, mib_text};
use ka_disk::layout::PartitionPlan;
use ka_disk::table::Partition;
use serde_json::{Value, json};

pub(crate) struct Explained {
    pub(crate) desc: Desc,
    pub(crate) plan: PartitionPlan,
    /// Smallest disk that holds it, in bytes. `None` if only a disk over 2 TiB does, because of its other
    /// table.
    pub(crate) minimum_bytes: Option<u64>,
    /// True if the plan is for that disk, because no other was named.
    pub(crate) is_smallest: bool,
    /// Reason why a GPT is assumed for the golden drive, if the operator named no table.
    pub(crate) assumed: Option<String>,
    /// Reason why the file is refused for a golden drive with an MBR. `None` if it fits there, or names its
    /// table.
    pub(crate) not_on_mbr: Option<DescError>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.plan.table;
        let smallest = if self.is_smallest {
            " (the smallest that will do)"
        } else {
            ""
        };
        writeln!(
            f,
            "{}: {} table on a disk of {}{smallest} with {}-byte sectors",
            self.desc.origin,
            table.kind,
            mib_text(table.disk_bytes / MIB),
            table.sector_size
        )?;
        if let Some(assumed) = &self.assumed {
            writeln!(
                f,
                "(a golden drive with a gpt is assumed: {assumed}; --table says which it has)"
            )?;
        }
        let mut rows = Table::new();
        rows.load_preset(presets::NOTHING);
        rows.set_header(["line", "no", "type", "start MiB", "size MiB", "asked", "what"]);
        for index in [0, 1, 3, 4] {
            if let Some(column) = rows.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (number, entry) in self.desc.numbered() {
            rows.add_row(self.row(number, entry));
        }
        for line in rows.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        match self.minimum_bytes {
            Some(bytes) if !self.is_smallest => {
                writeln!(f, "It needs a disk of at least {}.", mib_text(bytes / MIB))?;
            }
            _ => {}
        }
        // If a GPT was assumed for it, the reason is shown above.
        match self.not_on_mbr.as_ref().filter(|_| self.assumed.is_none()) {
            Some(error) => writeln!(
                f,
                "It does not fit an mbr: line {}: {}",
                error.line, error.problem
            ),
            None => Ok(()),
        }
    }
}

impl Explained {
    fn row(&self, number: u32, entry: &DescEntry) -> [String; 7] {
        let part = self.plan.find(number);
        // The smallest disk leaves a `fill` line one MiB, which is not a size that the operator wants.
        let unknown = self.is_smallest && matches!(entry.size, Size::Fill | Size::Percent(_));
        let start = part.map_or("-".to_owned(), |part| (part.start_bytes / MIB).to_string());
        let size = part.map_or("-".to_owned(), |part| (part.len_bytes / MIB).to_string());
        let size = if unknown && part.is_some() {
            format!("≥ {size}")
        } else {
            size
        };
        let kind = entry
            .kind
            .known()
            .map_or_else(|| entry.kind.to_string(), |known| known.name().to_owned());
        let number = part.map_or("-".to_owned(), |_| number.to_string());
        [
            entry.line.to_string(),
            number,
            kind,
            start,
            size,
            entry.size.to_string(),
            what(entry, part),
        ]
    }

    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let line = |(number, entry): (u32, &DescEntry)| -> Value {
            json!({ "line": entry.line, "number": number, "asked": entry, "partition": self.plan.find(number) })
        };
        let value = json!({
            "file": self.desc.origin,
            "table": self.plan.table.kind,
            "disk_bytes": self.plan.table.disk_bytes,
            "sector_size": self.plan.table.sector_size,
            "minimum_bytes": self.minimum_bytes,
            "not_on_mbr": self.not_on_mbr.as_ref().map(|error| json!({
                "line": error.line,
                "problem": error.problem.to_string(),
            })),
            "lines": self.desc.numbered().into_iter().map(line).collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

/// Returns everything that a line states besides type and size.
fn what(entry: &DescEntry, part: Option<&Partition>) -> String {
    let mut words = Vec::new();
    match part {
        None => words.push("not written: gpt needs no extended partition".to_owned()),
        Some(part) if part.logical => words.push("logical".to_owned()),
        Some(_) if entry.logical => words.push("a plain partition on gpt".to_owned()),
        Some(_) => {}
    }
    let values = [
        ("", entry.fs.map(|fs| fs.to_string())),
        ("for ", entry.mount.clone()),
        ("label ", entry.label.as_ref().map(|label| format!("{label:?}"))),
        ("mounted with ", entry.options.clone()),
        ("named ", entry.name.as_ref().map(|name| format!("{name:?}"))),
        ("attributes ", entry.attribute_words()),
    ];
    words.extend(
        values
            .into_iter()
            .filter_map(|(word, value)| value.map(|value| format!("{word}{value}"))),
    );
    if entry.boot {
        words.push("boot".to_owned());
    }
    words.join(", ")
}
