//! The finishing steps that make the restored tree a system of its own, each a plan of `ka_postinstall` carried out, with
//! every line told and kept for the report. The boot loader comes last of them.

use std::path::Path;

use anyhow::{Context, bail};
use ka_disk::fs;
use ka_disk::mounts::Access;
use ka_kmod::Index;
use ka_postinstall::chroot::Chroot;
use ka_postinstall::facts::Facts;
use ka_postinstall::files::Files;
use ka_postinstall::hooks::Point;
use ka_postinstall::modprobe::{Hardware, Needed};
use ka_postinstall::names::sweep::{self, Needle};
use ka_postinstall::plan::{Action, Clone, Plan};
use ka_postinstall::root::Root;
use ka_postinstall::{bootloader, fstab, hooks, identity, initramfs, labels, modprobe, references};
use ka_status::event::Step;
use rustix::fs::syncfs;

use super::build::Installation;
use super::facts::{self, SYS};
use super::fallback::HiddenFallback;
use super::identity as known_by;
use crate::journal::Journal;

/// The node's log in the clone.
const LOG: &str = "/var/log/ka/clone.log";
/// Files that still name the golden node, of which each is told.
const MAX_TOLD: usize = 50;
/// fstab of the clone.
const FSTAB: &str = "/etc/fstab";

pub(super) fn rewrite_fstab(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(work)?;
    let Some(text) = root.read(FSTAB).context("reading the clone's /etc/fstab")? else {
        journal.warning(Step::Fstab, "the clone has no /etc/fstab");
        return Ok(());
    };
    let plan = fstab::plan(&text, &root, facts(work)?)?;
    if plan.text != text {
        root.write(Path::new(FSTAB), &plan.text, 0o644)
            .context("writing the clone's /etc/fstab")?;
    }
    for change in &plan.changes {
        let line = format!("line {}: {} becomes {}", change.line, change.before, change.after);
        journal.news(Step::Fstab, line.clone());
        work.changes.push(format!("{FSTAB}: {line}"));
    }
    for warning in plan.warnings {
        journal.warning(Step::Fstab, format!("{FSTAB} {warning}"));
    }
    Ok(())
}

pub(super) fn rewrite_references(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let plan = references::plan(&open_root(work)?, facts(work)?)?;
    apply(work, journal, Step::References, &plan)
}

pub(super) fn write_identity(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let facts = facts(work)?;
    if facts.boot.keep_identity {
        journal.news(Step::Identity, "left as the golden node's (--keep-identity)");
        return Ok(());
    }
    let root = open_root(work)?;
    let known = identity::known_by(&root, facts)?;
    let known = known.iter().map(|(class, name)| Needle::new(class, name));
    let golden_names = sweep::machine_id(&root)?.into_iter().chain(known).collect();
    let plan = identity::plan(&root, facts, &mut uuid::Uuid::new_v4)?;
    work.golden_names = golden_names;
    apply(work, journal, Step::Identity, &plan)
}

pub(super) fn write_modprobe(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(work)?;
    let Some(release) = initramfs::releases(&root).into_iter().next() else {
        journal.news(Step::Modprobe, "the clone has no kernel of its own");
        return Ok(());
    };
    let dir = root
        .real_dir(Path::new(&format!("/lib/modules/{release}")))
        .with_context(|| format!("opening the modules of {release}"))?;
    let index = Index::load(&dir).with_context(|| format!("reading the modules of {release}"))?;
    let mounts = ["/", "/usr"].map(|path| facts(work).ok()?.mount_of(path));
    let filesystems: Vec<&str> = mounts
        .iter()
        .flatten()
        .map(|mount| mount.fstype.as_str())
        .collect();
    work.needed = Needed::of(&Hardware::read(Path::new(SYS)), &index, &filesystems);
    if !work.needed.initramfs.is_empty() {
        journal.news(
            Step::Modprobe,
            format!("{release} needs {} here", work.needed.initramfs.join(" ")),
        );
    }
    let plan = modprobe::plan(&root, &work.needed)?;
    apply(work, journal, Step::Modprobe, &plan)
}

pub(super) fn post_restore_hooks(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    run_hooks(work, journal, Point::PostRestore)
}

pub(super) fn pre_boot_hooks(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    run_hooks(work, journal, Point::PreBoot)?;
    tell_golden_names(work, journal)?;
    match bootloader::confirm_last(&open_root(work)?, facts(work)?) {
        // Who wants no boot loader is told, and brings what boots.
        Err(error) if work.plan.install.is_none() => journal.warning(Step::Hooks, error.to_string()),
        other => other?,
    }
    Ok(())
}

/// Tells what still names the golden node after everything that could have changed it.
fn tell_golden_names(work: &Installation, journal: &Journal) -> anyhow::Result<()> {
    let facts = facts(work)?;
    let mut needles = sweep::needles(facts);
    needles.extend(work.golden_names.iter().cloned());
    let left = sweep::search(&open_root(work)?, facts, &needles)?;
    for file in left.iter().take(MAX_TOLD) {
        journal.warning(Step::References, file.to_string());
    }
    if left.len() > MAX_TOLD {
        let more = format!("{} more files still name the golden node", left.len() - MAX_TOLD);
        journal.warning(Step::References, more);
    }
    Ok(())
}

fn run_hooks(work: &mut Installation, journal: &Journal, point: Point) -> anyhow::Result<()> {
    let root = open_root(work)?;
    let is_executable = |path: &str| root.is_executable(path);
    let plan = hooks::plan(&root, facts(work)?, point, &is_executable);
    apply(work, journal, Step::Hooks, &plan)?;
    if plan.runs_programs() {
        confirm_uuids(work)?;
    }
    Ok(())
}

/// What fstab, initramfs and boot loader go by, and what the server compares, is what the devices still say.
fn confirm_uuids(work: &Installation) -> anyhow::Result<()> {
    for ((_, made), planned) in work.identities.iter().zip(&work.plan.filesystems) {
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

pub(super) fn build_initramfs(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let plan = initramfs::plan(&open_root(work)?, facts(work)?, &work.needed)?;
    apply(work, journal, Step::Initramfs, &plan)
}

/// On a table that nothing boots from; what the loader puts into sector 0 is withdrawn until the real one is written.
pub(super) fn install_boot_loader(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let Some(install) = work.plan.install.clone() else {
        let why = match work.plan.spec.boot.loader.as_deref() {
            Some(word) => format!("none installed (-r {word})"),
            None => "none installed".to_owned(),
        };
        journal.news(Step::BootLoader, why);
        return Ok(());
    };
    journal.news(Step::BootLoader, install.to_string());
    for (root, watch) in &work.watches {
        syncfs(watch).with_context(|| format!("writing {} to the disk", root.display()))?;
    }
    if let Some(esp) = install.esp() {
        work.hidden = Some(HiddenFallback::hide(&work.plan.below(esp))?);
    }
    for disk in &mut work.disks {
        disk.write_provisional()?;
    }
    let root = open_root(work)?;
    let before = bootloader::Before::of(&root, &install);
    let plan = bootloader::plan(&root, facts(work)?, &install)?;
    apply(work, journal, Step::BootLoader, &plan)?;
    work.efi_program = bootloader::confirm(&root, facts(work)?, &install, &before)?;
    if let Some(path) = install.boot_disk() {
        let code = install.boot_code(&root)?;
        let held = work.disks.iter_mut().find(|disk| disk.path() == Path::new(path));
        held.with_context(|| format!("{path} is none of the clone's disks"))?
            .withdraw_boot_code(code.as_deref())?;
    }
    Ok(())
}

/// The firmware's boot entry: behind the final table, so that nothing leads to a clone that is not finished. Firmware that
/// keeps none is a warning: the clone's fallback path was found good, and boots it.
pub(super) fn enter_in_firmware(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let Some(program) = work.efi_program.take() else {
        return Ok(());
    };
    let mounted = work
        .plan
        .mounts
        .mount_again(&work.plan.mount_dir, Access::ReadWrite)?;
    let root = open_root(work)?;
    let chroot = Chroot::enter(&root, facts(work)?)?;
    let clone = Clone {
        root: &root,
        chroot: Some(&chroot),
    };
    let warning = program.enter(&clone, facts(work)?, &mut |line| {
        journal.news(Step::BootEntry, line)
    });
    if let Some(warning) = warning {
        journal.warning(Step::BootEntry, warning);
    }
    chroot.leave()?;
    // The log in the clone was stored before: it tells of the boot menu, too.
    if root.exists("/var/log") {
        root.write(Path::new(LOG), journal.text().as_bytes(), 0o640)
            .with_context(|| format!("writing the clone's {LOG}"))?;
    }
    drop(root);
    Ok(mounted.unmount()?)
}

/// What the clone tells at its first boot, where the server waits for it.
pub(super) fn leave_beacon(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let Some(facts) = &work.beacon else { return Ok(()) };
    match facts.leave_in(&open_root(work)?)? {
        Ok(()) => work.has_beacon = true,
        Err(why) => journal.news(Step::Beacon, why),
    }
    Ok(())
}

/// The log so far: what is still to come is unmounting and the table, which nobody can write down in a file that is no
/// longer mounted.
pub(super) fn store_log(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(work)?;
    if let Some(said) = labels::complete(&root)? {
        journal.news(Step::StoreLog, said);
    }
    // Nothing changes the clone's files after this.
    let made = work.identities.iter().filter_map(|(_, made)| made.uuid.clone());
    let identity = known_by::of(&root, facts(work)?, made.collect());
    work.identity = Some(identity.context("reading what the clone is known by")?);
    if !root.exists("/var/log") {
        journal.news(Step::StoreLog, "the clone has no /var/log");
        return Ok(());
    }
    root.write(Path::new(LOG), journal.text().as_bytes(), 0o640)
        .with_context(|| format!("writing the clone's {LOG}"))?;
    journal.news(Step::StoreLog, LOG);
    Ok(())
}

/// Carries a plan out, tells every line and keeps those that change files.
fn apply(work: &mut Installation, journal: &Journal, step: Step, plan: &Plan) -> anyhow::Result<()> {
    for warning in &plan.warnings {
        journal.warning(step, warning.clone());
    }
    let root = open_root(work)?;
    if plan.runs_programs() {
        work.enter_chroot(&root)?;
    }
    for action in &plan.actions {
        if !matches!(action, Action::Run(_)) {
            work.changes.extend(action.lines());
        }
    }
    let clone = Clone {
        root: &root,
        chroot: work.chroot.as_ref(),
    };
    Ok(plan.apply(&clone, &mut |line| journal.news(step, line))?)
}

fn open_root(work: &Installation) -> anyhow::Result<Root> {
    let dir = &work.plan.mount_dir;
    Root::open(dir).with_context(|| format!("opening {}", dir.display()))
}

fn facts(work: &Installation) -> anyhow::Result<&Facts> {
    work.facts
        .as_ref()
        .context("the clone's file systems are not made yet")
}

/// Completes the facts once the file systems are there.
pub(super) fn learn(work: &mut Installation) -> anyhow::Result<()> {
    let before = facts::planned(&work.plan, &work.me);
    work.facts = Some(facts::made(&work.plan, &work.identities, before)?);
    Ok(())
}
