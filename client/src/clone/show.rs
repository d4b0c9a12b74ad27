//! The plan for people and for machines: `--dry-run`.

use std::io::Write;

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::plan::ClonePlan;
use crate::session::Session;

/// The JSON of `--dry-run --json`.
#[derive(Serialize)]
struct JsonPlan<'a> {
    /// What the server would have been told.
    plan: ka_status::report::NodePlan,
    /// The partition tables, one a disk.
    tables: Vec<&'a ka_disk::layout::PartitionPlan>,
}

/// Prints the plan on standard output and leaves the run.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn plan(session: &Session<'_>, plan: &ClonePlan) -> anyhow::Result<()> {
    let text = if session.options.json {
        json(plan)?
    } else {
        text(plan)
    };
    session.give_up(
        "dry run",
        "this node was started with --dry-run: it only shows its plan",
    );
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("printing the plan")
}

fn json(plan: &ClonePlan) -> anyhow::Result<String> {
    let tables = plan.disks.iter().map(|disk| &disk.partitions).collect();
    let mut text = serde_json::to_string(&JsonPlan {
        plan: plan.summary(),
        tables,
    })
    .context("writing JSON")?;
    text.push('\n');
    Ok(text)
}

fn text(plan: &ClonePlan) -> String {
    let mut text = String::new();
    for planned in &plan.disks {
        text.push_str(&format!(
            "{} becomes {}\n{}\n",
            planned.disk, planned.drive, planned.partitions
        ));
    }
    let mut actions = Table::new();
    actions.load_preset(NOTHING);
    for (index, action) in plan.summary().actions.into_iter().enumerate() {
        actions.add_row([format!("{}.", index + 1), action]);
    }
    text.push_str(&format!("{actions}\n"));
    for note in &plan.spec.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str("nothing was written (--dry-run)\n");
    text
}
