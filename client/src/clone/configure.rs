//! The finishing steps that make the restored tree a system of its own, each a plan of `ka_postinstall`
//! carried out, with every line told and kept for the report. The boot loader comes last of them.

use std::path::Path;

use anyhow::{Context, bail};
use ka_disk::fs;
use ka_kmod::Index;
use ka_postinstall::files::Files;
use ka_postinstall::hooks::Point;
use ka_postinstall::modprobe::{Hardware, NeededModules};
use ka_postinstall::names::sweep::{self, Needle};
use ka_postinstall::plan::{Action, Destination, Plan};
use ka_postinstall::root::Root;
use ka_postinstall::{bootloader, fstab, hooks, identity, initramfs, kernels, labels, modprobe, references};
use ka_report::event::Step;

use super::facts::SYS;
use super::fallback::HiddenFallback;
use super::identity as known_by;
use super::system::{FirstBoot, RestoredSystem};
use crate::journal::Journal;

/// The node's log in the clone.
const LOG: &str = "/var/log/ka/clone.log";
/// Files that still name the golden node, of which each is told.
const MAX_TOLD: usize = 50;
/// fstab of the clone.
const FSTAB: &str = "/etc/fstab";

pub(super) fn rewrite_fstab(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let root = system.open_root()?;
    let Some(text) = root.read(FSTAB).context("reading the clone's /etc/fstab")? else {
        journal.warning(Step::Fstab, "the clone has no /etc/fstab");
        return Ok(());
    };
    let plan = fstab::plan(&text, &root, &system.facts)?;
    if plan.text != text {
        root.write(Path::new(FSTAB), &plan.text, 0o644)
            .context("writing the clone's /etc/fstab")?;
    }
    for change in &plan.changes {
        let line = format!("line {}: {} becomes {}", change.line, change.before, change.after);
        journal.news(Step::Fstab, line.clone());
        system.changes.push(format!("{FSTAB}: {line}"));
    }
    for warning in plan.warnings {
        journal.warning(Step::Fstab, format!("{FSTAB} {warning}"));
    }
    Ok(())
}

pub(super) fn rewrite_references(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let plan = references::plan(&system.open_root()?, &system.facts)?;
    apply(system, journal, Step::References, &plan)
}

pub(super) fn write_identity(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let facts = &system.facts;
    if facts.boot.keep_identity {
        journal.news(Step::Identity, "left as the golden node's (--keep-identity)");
        return Ok(());
    }
    let root = system.open_root()?;
    let known = identity::known_by(&root, facts)?;
    let known = known.iter().map(|(class, name)| Needle::new(class, name));
    let golden_names = sweep::machine_id(&root)?.into_iter().chain(known).collect();
    let plan = identity::plan(&root, facts, &mut uuid::Uuid::new_v4)?;
    system.golden_names = golden_names;
    apply(system, journal, Step::Identity, &plan)
}

pub(super) fn write_modprobe(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let root = system.open_root()?;
    let Some(release) = kernels::releases(&root).into_iter().next() else {
        journal.news(Step::Modprobe, "the clone has no kernel of its own");
        return Ok(());
    };
    let dir = root
        .real_dir(Path::new(&format!("/lib/modules/{release}")))
        .with_context(|| format!("opening the modules of {release}"))?;
    let index = Index::load(&dir).with_context(|| format!("reading the modules of {release}"))?;
    let mounts = ["/", "/usr"].map(|path| system.facts.mount_of(path));
    let filesystems: Vec<&str> = mounts
        .iter()
        .flatten()
        .map(|mount| mount.fstype.as_str())
        .collect();
    system.needed = NeededModules::of(&Hardware::read(Path::new(SYS)), &index, &filesystems);
    if !system.needed.initramfs.is_empty() {
        journal.news(
            Step::Modprobe,
            format!("{release} needs {} here", system.needed.initramfs.join(" ")),
        );
    }
    let plan = modprobe::plan(&root, &system.needed)?;
    apply(system, journal, Step::Modprobe, &plan)
}

pub(super) fn post_restore_hooks(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    run_hooks(system, journal, Point::PostRestore)
}

pub(super) fn pre_boot_hooks(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    run_hooks(system, journal, Point::PreBoot)?;
    tell_golden_names(system, journal)?;
    match bootloader::confirm_last(&system.open_root()?, &system.facts) {
        // An operator who wants no boot loader gets a warning, and brings the files that boot.
        Err(error) if system.target.plan.install.is_none() => journal.warning(Step::Hooks, error.to_string()),
        other => other?,
    }
    Ok(())
}

/// Tells what still names the golden node after everything that could have changed it.
fn tell_golden_names(system: &RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let facts = &system.facts;
    let mut needles = sweep::needles(facts);
    needles.extend(system.golden_names.iter().cloned());
    let left = sweep::search(&system.open_root()?, facts, &needles)?;
    for file in left.iter().take(MAX_TOLD) {
        journal.warning(Step::References, file.to_string());
    }
    if left.len() > MAX_TOLD {
        let more = format!("{} more files still name the golden node", left.len() - MAX_TOLD);
        journal.warning(Step::References, more);
    }
    Ok(())
}

fn run_hooks(system: &mut RestoredSystem, journal: &Journal, point: Point) -> anyhow::Result<()> {
    let root = system.open_root()?;
    let is_executable = |path: &str| root.is_executable(path);
    let plan = hooks::plan(&root, &system.facts, point, &is_executable);
    apply(system, journal, Step::Hooks, &plan)?;
    if plan.runs_programs() {
        confirm_uuids(system)?;
    }
    Ok(())
}

/// Checks that no hook has changed a UUID: fstab, initramfs and boot loader name file systems by it, and the
/// server compares it.
fn confirm_uuids(system: &RestoredSystem) -> anyhow::Result<()> {
    for ((_, made), planned) in system
        .target
        .identities
        .iter()
        .zip(&system.target.plan.filesystems)
    {
        let device = &planned.device;
        let found = fs::probe(device)?;
        if found.uuid != made.uuid {
            let words = |uuid: &Option<String>| uuid.clone().unwrap_or_else(|| "none".to_owned());
            bail!(
                "a hook has changed the UUID of {} from {} to {}, and the clone would not find it: each clone has UUIDs of \
                 its own, leave them as they are",
                device.display(),
                words(&made.uuid),
                words(&found.uuid)
            );
        }
    }
    Ok(())
}

pub(super) fn build_initramfs(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let plan = initramfs::plan(&system.open_root()?, &system.facts, &system.needed)?;
    apply(system, journal, Step::Initramfs, &plan)
}

/// Installs the boot loader on a table from which nothing boots. Code that the loader puts into sector 0 is
/// withdrawn until the real table is written.
pub(super) fn install_boot_loader(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let Some(install) = system.target.plan.install.clone() else {
        let why = match system.target.plan.spec.boot.loader.as_deref() {
            Some(word) => format!("none installed (-r {word})"),
            None => "none installed".to_owned(),
        };
        journal.news(Step::BootLoader, why);
        return Ok(());
    };
    journal.news(Step::BootLoader, install.to_string());
    system.target.sync()?;
    if let Some(esp) = install.esp() {
        system.hidden = Some(HiddenFallback::hide(&system.target.plan.below(esp))?);
    }
    for disk in &mut system.target.disks {
        disk.write_provisional()?;
    }
    let root = system.open_root()?;
    let before = bootloader::Before::of(&root, &install);
    let plan = bootloader::plan(&root, &system.facts, &install)?;
    apply(system, journal, Step::BootLoader, &plan)?;
    system.efi_program = bootloader::confirm(&root, &system.facts, &install, &before)?;
    if let Some(path) = install.boot_disk() {
        let code = install.boot_code(&root)?;
        let held = system
            .target
            .disks
            .iter_mut()
            .find(|disk| disk.path() == Path::new(path));
        held.with_context(|| format!("{path} is not one of the clone's disks"))?
            .withdraw_boot_code(code.as_deref())?;
    }
    Ok(())
}

/// Leaves the beacon of the first boot in the clone, if the server waits for one.
pub(super) fn leave_beacon(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let FirstBoot::Wanted(facts) = &system.beacon else {
        return Ok(());
    };
    match facts.leave_in(&system.open_root()?)? {
        Ok(()) => system.beacon = FirstBoot::Left,
        Err(why) => journal.news(Step::Beacon, why),
    }
    Ok(())
}

/// Stores the log so far. Only unmounting and the table follow, which no file of an unmounted file system can
/// record.
pub(super) fn store_log(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let root = system.open_root()?;
    if let Some(said) = labels::complete(&root)? {
        journal.news(Step::StoreLog, said);
    }
    // Nothing changes the clone's files after this.
    let made = system
        .target
        .identities
        .iter()
        .filter_map(|(_, made)| made.uuid.clone());
    let identity = known_by::of(&root, &system.facts, made.collect());
    system.identity = Some(identity.context("reading what the clone is known by")?);
    let said = if store_text(&root, journal)? {
        LOG
    } else {
        "the clone has no /var/log"
    };
    journal.news(Step::StoreLog, said);
    Ok(())
}

/// Writes the log so far into the clone. Returns false if the clone has no `/var/log`.
pub(super) fn store_text(root: &Root, journal: &Journal) -> anyhow::Result<bool> {
    let has_place = root.exists("/var/log");
    if has_place {
        root.write(Path::new(LOG), journal.text().as_bytes(), 0o640)
            .with_context(|| format!("writing the clone's {LOG}"))?;
    }
    Ok(has_place)
}

/// Carries a plan out, shows every line and keeps those that change files.
fn apply(system: &mut RestoredSystem, journal: &Journal, step: Step, plan: &Plan) -> anyhow::Result<()> {
    for warning in &plan.warnings {
        journal.warning(step, warning.clone());
    }
    let root = system.open_root()?;
    if plan.runs_programs() {
        system.enter_chroot(&root)?;
    }
    for action in &plan.actions {
        if !matches!(action, Action::Run(_)) {
            system.changes.extend(action.lines());
        }
    }
    let clone = Destination {
        root: &root,
        chroot: system.chroot(),
    };
    Ok(plan.apply(&clone, &mut |line| journal.news(step, line))?)
}
