//! The identity that no two machines share: names, machine-id, host keys, network cards, leases, seeds. Each
//! clone gets its own; `--keep-identity` leaves all of it.
//!
//! Files that a system makes anew by itself (leases, seeds) are removed. Those that it does not make, or only
//! on a "first boot" with more consequences (systemd enables and disables services by presets then), are made
//! here. Those that cannot be made here are named.

mod cards;
mod connections;
mod editor;
mod golden;
mod keys;
mod leases;
mod names;
mod secrets;
mod storage;

use uuid::Uuid;

pub use golden::known_by;

use self::editor::Editor;
use crate::boot_entries;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, Kind, text};
use crate::machine_id;
use crate::plan::Plan;

/// Plans the clone's own identity. `fresh` makes random ids; outside tests it is `&mut uuid::Uuid::new_v4`.
///
/// # Errors
/// A file cannot be read.
pub fn plan(files: &dyn Files, facts: &Facts, fresh: &mut dyn FnMut() -> Uuid) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    if facts.boot.keep_identity || !files.exists("/etc") {
        return Ok(plan);
    }
    machine_ids(&mut plan, files, fresh)?;
    keys::plan(&mut plan, files, facts)?;
    // This comes on top of the writes above, because a boot entry may hold a machine-id and a MAC address.
    let mut editor = Editor::new(files, &plan);
    names::plan(&mut plan, &mut editor, facts)?;
    storage::plan(&mut plan, &mut editor, fresh)?;
    leases::plan(&mut plan, &mut editor)?;
    connections::plan(&mut plan, &mut editor, fresh)?;
    cards::plan(&mut plan, &mut editor, facts)?;
    secrets::plan(&mut plan, files);
    editor.finish(&mut plan);
    Ok(plan)
}

/// systemd's and D-Bus' id. Written, not emptied: a missing one would make the next boot a "first boot".
fn machine_ids(plan: &mut Plan, files: &dyn Files, fresh: &mut dyn FnMut() -> Uuid) -> Result<(), PostError> {
    const DBUS: &str = "/var/lib/dbus/machine-id";
    let id = fresh().simple().to_string();
    let change = || vec![format!("machine-id {id}")];
    let file = machine_id::FILE;
    if let Some(golden) = text(files, file).map_err(PostError::reading(file))? {
        plan.write_mode(file, format!("{id}\n"), 0o444, change());
        entry_token(plan, files, golden.trim());
    }
    machine_id::plan_parameters(plan, files, &id)?;
    // A link to the other one on today's systems.
    if files.kind(DBUS) == Some(Kind::File) {
        plan.write_mode(DBUS, format!("{id}\n"), 0o444, change());
    }
    Ok(())
}

/// Plans the entry token. Boot entries are named for the machine-id (Boot Loader Specification). Those of the
/// golden node stay, and the next kernel must be installed beside them (kernel-install(8),
/// `/etc/kernel/entry-token`).
fn entry_token(plan: &mut Plan, files: &dyn Files, golden: &str) {
    const TOKEN: &str = "/etc/kernel/entry-token";
    let named = boot_entries::files_with_entries(files)
        .into_iter()
        .chain(boot_entries::unified(files))
        .any(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            !golden.is_empty() && name.starts_with(golden)
        });
    if named && !files.exists(TOKEN) {
        plan.write(
            TOKEN,
            format!("{golden}\n"),
            vec!["boot entries keep their name".to_owned()],
        );
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
