//! The plan for people and for machines: `--dry-run`.

use std::io::Write;

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use ka_report::text::size;
use serde::Serialize;

use super::plan::ClonePlan;
use crate::session::Session;

/// The JSON of `--dry-run --json`.
#[derive(Serialize)]
struct JsonPlan<'a> {
    /// The plan as the server gets it.
    plan: ka_report::report::NodePlan,
    /// The partition tables, one a disk.
    tables: Vec<&'a ka_disk::layout::PartitionPlan>,
    /// The golden node's notes: the parts that are not cloned, and the reasons.
    notes: &'a [String],
}

/// Prints the plan on standard output, shows it to the server too, and leaves.
///
/// # Errors
/// Standard output is closed, or the server is lost.
pub(crate) fn plan(session: &Session<'_>, plan: &ClonePlan) -> anyhow::Result<()> {
    let text = if session.options.json {
        json(plan)?
    } else {
        text(plan)
    };
    session.prepared(plan.summary().encode())?;
    // The server releases the node as soon as it has the plan. Anything else that comes does not concern a
    // node that only looks.
    session.next_order().ok();
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("printing the plan")
}

fn json(plan: &ClonePlan) -> anyhow::Result<String> {
    let tables = plan.disks.iter().map(|disk| &disk.partitions).collect();
    let mut text = serde_json::to_string(&JsonPlan {
        plan: plan.summary(),
        tables,
        notes: &plan.spec.notes,
    })
    .context("writing JSON")?;
    text.push('\n');
    Ok(text)
}

fn text(plan: &ClonePlan) -> String {
    let mut text = String::new();
    for planned in &plan.disks {
        text += &format!(
            "{} becomes {}\n{}\n",
            planned.disk, planned.drive, planned.partitions
        );
    }
    text += &filesystems(plan);
    for (index, action) in plan.summary().actions.into_iter().enumerate() {
        text += &format!("{:>3}. {action}\n", index + 1);
    }
    for note in &plan.spec.notes {
        text += &format!("note: {note}\n");
    }
    text + "nothing was written (--dry-run)\n"
}

/// Returns one row for each file system: its origin, its place and its type.
fn filesystems(plan: &ClonePlan) -> String {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["golden", "here", "type", "label", "in use", "mounted at"]);
    for (fs, planned) in plan.spec.filesystems.iter().zip(&plan.filesystems) {
        let mounts: Vec<_> = fs.mounts.iter().map(|mount| mount.path.as_str()).collect();
        table.add_row([
            fs.golden
                .as_ref()
                .map_or_else(|| "-".to_owned(), |golden| golden.path.clone()),
            planned.device.display().to_string(),
            fs.fstype.to_string(),
            fs.label.clone().unwrap_or_else(|| "-".to_owned()),
            size(fs.used_bytes),
            if mounts.is_empty() {
                "-".to_owned()
            } else {
                mounts.join(", ")
            },
        ]);
    }
    format!("{}\n\n", table.trim_fmt())
}
