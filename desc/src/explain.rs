//! `--check`: explains a desc file, line by line.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use ka_disk::desc::{Desc, DescError};
use ka_disk::layout::{self, Geometry, Source};
use ka_disk::table::TableKind;
use serde_json::json;
use uuid::Uuid;

use crate::args::Options;
use crate::explained::Explained;

pub(crate) fn run(file: &Path, options: &Options) -> anyhow::Result<String> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let explained = explain(&bytes, &file.display().to_string(), options);
    match explained {
        Ok(explained) if options.json => explained.json(),
        Ok(explained) => Ok(explained.to_string()),
        Err(error) => {
            if options.json {
                let line = error.downcast_ref::<DescError>().map(|error| error.line);
                let value = json!({ "file": file, "line": line, "error": format!("{error:#}") });
                writeln!(io::stdout(), "{value}").ok();
            }
            Err(error)
        }
    }
}

fn explain(bytes: &[u8], origin: &str, options: &Options) -> anyhow::Result<Explained> {
    let desc = Desc::parse_bytes(bytes, origin)?;
    let assumption = gpt_because(&desc);
    let likely = if assumption.is_some() {
        TableKind::Gpt
    } else {
        TableKind::Mbr
    };
    let golden = options.table.unwrap_or(likely);
    let sector_size = options.sector_size.unwrap_or(512);
    let source = Source::Desc(desc.clone());
    let minimum = layout::minimum_bytes(&source, sector_size, golden).map_err(flat);
    let (disk_bytes, minimum_bytes) = match options.disk_size {
        Some(disk_bytes) => (disk_bytes, minimum.ok()),
        None => minimum.map(|minimum| (minimum, Some(minimum)))?,
    };
    let geometry = Geometry {
        disk_bytes,
        sector_size,
    };
    let plan = layout::plan(&source, &geometry, golden, false, &mut Uuid::new_v4).map_err(flat)?;
    let not_on_mbr = if desc.table.is_none() {
        not_on_mbr(&desc, &geometry)
    } else {
        None
    };
    Ok(Explained {
        not_on_mbr,
        desc,
        plan,
        minimum_bytes,
        is_smallest: options.disk_size.is_none(),
        assumed: if options.table.is_none() { assumption } else { None },
    })
}

/// Returns a desc file's own error without its wrapper, so that JSON can name the line.
fn flat(error: layout::LayoutError) -> anyhow::Error {
    match error {
        layout::LayoutError::Desc(error) => error.into(),
        other => other.into(),
    }
}

/// Returns the reason why a file without a `table` line is refused for a golden drive with an MBR.
fn not_on_mbr(desc: &Desc, geometry: &Geometry) -> Option<DescError> {
    if let Err(error) = desc.check_for(TableKind::Mbr) {
        return Some(error);
    }
    // A larger disk gets a GPT, whatever table the golden drive has.
    if desc.table_for(TableKind::Mbr, geometry.disk_bytes) != TableKind::Mbr {
        return None;
    }
    let source = Source::Desc(desc.clone());
    match layout::plan(&source, geometry, TableKind::Mbr, false, &mut Uuid::new_v4) {
        Err(layout::LayoutError::Desc(error)) => Some(error),
        _ => None,
    }
}

/// Returns the line that no MBR can hold, with the reason, for a file without a `table` line. In a run the
/// golden drive decides about its table. Here that drive is unknown, so the lines show which tables are
/// possible.
fn gpt_because(desc: &Desc) -> Option<String> {
    let error = desc.check_for(TableKind::Mbr).err()?;
    let is_for_gpt = desc.table.is_none() && desc.check_for(TableKind::Gpt).is_ok();
    is_for_gpt.then(|| format!("line {}, on an mbr: {}", error.line, error.problem))
}
