//! `--golden`: writes a desc file of the golden node's mount points.

use ka_disk::golden;
use serde_json::json;

use crate::args::Options;

pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    let made = golden::describe(&options.root)?;
    if !options.json {
        return Ok(made.to_string());
    }
    let lines = made.desc.entries.iter().zip(&made.remarks);
    let value = json!({
        "drive": made.drive,
        "lines": lines
            .map(|(entry, remark)| json!({ "line": entry.to_string(), "entry": entry, "remark": remark }))
            .collect::<Vec<_>>(),
        "notes": made.notes,
        "desc": made.desc.to_string(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}
