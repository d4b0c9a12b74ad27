//! The plan as text for the operator.

use std::fmt;

use super::PartitionPlan;
use crate::desc::MIB;

/// One line a partition: number, start, end and size in MiB, type, and its marks.
impl fmt::Display for PartitionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.table;
        writeln!(
            f,
            "{} table, {} MiB disk, {}-byte sectors, id {}",
            table.kind,
            table.disk_bytes / MIB,
            table.sector_size,
            table.disk_id
        )?;
        writeln!(
            f,
            "{:>4} {:>12} {:>12} {:>12}  type",
            "no", "start MiB", "end MiB", "size MiB"
        )?;
        for part in &table.partitions {
            let kind = part
                .kind
                .known()
                .map_or_else(|| part.kind.to_string(), |known| known.name().to_owned());
            write!(f, "{:>4}", part.number)?;
            for bytes in [part.start_bytes, part.end_bytes(), part.len_bytes] {
                write!(f, " {:>12}", in_mib(bytes))?;
            }
            write!(f, "  {kind}")?;
            if part.logical {
                f.write_str(" logical")?;
            }
            if part.bootable {
                f.write_str(" boot")?;
            }
            if let Some(name) = &part.name {
                write!(f, " {name:?}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Writes whole MiB, or three digits more for a copied table that does not lie on whole MiB.
fn in_mib(bytes: u64) -> String {
    let (whole, rest) = (bytes / MIB, bytes % MIB);
    if rest == 0 {
        whole.to_string()
    } else {
        format!("{whole}.{:03}", rest * 1000 / MIB)
    }
}
