//! The complete clone: nothing boots from it until the server has judged it and its partition table is
//! written, last of all.

use ka_disk::mounts::Access;
use ka_postinstall::bootloader::EfiProgram;
use ka_postinstall::chroot::Chroot;
use ka_postinstall::facts::Facts;
use ka_postinstall::plan::Destination;
use ka_report::event::Step;
use ka_report::report::{MAX_CHANGES, NodeReport, ReadBackReport};

use super::configure::store_text;
use super::held::HeldDisk;
use super::plan::{ClonePlan, PlannedDisk};
use super::system::{FirstBoot, RestoredSystem};
use crate::journal::{Journal, Record};
use crate::steps::StepDef;

/// The steps that follow the server's good judgement of this clone and of all others of the round. The table
/// comes last but for its own check: a run that stops anywhere before leaves a disk that nothing boots from.
pub(crate) const COMMIT: [StepDef<CompleteClone>; 2] = [
    StepDef {
        step: Step::WriteTable,
        run: write_table,
    },
    StepDef {
        step: Step::Verify,
        run: verify,
    },
];

/// The step that follows the message to the server that the clone can be booted. Firmware may hold the whole
/// machine for a minute while it writes a variable: the connection may be lost over it, and the clone is done
/// all the same.
pub(crate) const ENTER: [StepDef<CompleteClone>; 1] = [StepDef {
    step: Step::BootEntry,
    run: enter_in_firmware,
}];

/// A clone that lacks nothing but the server's judgement. It outlives a lost connection: the node joins again
/// with it. Dropped before its table is verified, it leaves a disk without one.
pub(crate) struct CompleteClone {
    disks: Vec<HeldDisk>,
    plan: ClonePlan,
    facts: Facts,
    /// The program that the firmware is to start; none on a BIOS.
    efi_program: Option<EfiProgram>,
    report: NodeReport,
}

impl CompleteClone {
    /// Returns the clone that `system` has become, with its report. `record` is the log's summary.
    pub(crate) fn new(system: RestoredSystem, read_back: ReadBackReport, record: Record) -> Self {
        let mut changes = system.changes;
        changes.truncate(MAX_CHANGES);
        let target = system.target;
        let report = NodeReport {
            disks: target.plan.disks.iter().map(PlannedDisk::summary).collect(),
            streams: target.streams,
            steps: record.steps,
            warnings: record.warnings,
            changes,
            peak_memory_bytes: ka_host::system::peak_memory_bytes(),
            read_back: Some(Box::new(read_back)),
            identity: system.identity.map(Box::new),
            beacon: matches!(system.beacon, FirstBoot::Left),
        };
        Self {
            disks: target.disks,
            plan: target.plan,
            facts: system.facts,
            efi_program: system.efi_program,
            report,
        }
    }

    /// Returns the report for the server.
    pub(crate) const fn report(&self) -> &NodeReport {
        &self.report
    }
}

/// The first drive holds what boots: its table comes last of all.
fn write_table(clone: &mut CompleteClone, journal: &Journal) -> anyhow::Result<()> {
    for (held, planned) in clone.disks.iter_mut().zip(&clone.plan.disks).rev() {
        journal.news(Step::WriteTable, held.path().display().to_string());
        held.write_table(planned.boot_code.as_ref())?;
    }
    Ok(())
}

fn verify(clone: &mut CompleteClone, _journal: &Journal) -> anyhow::Result<()> {
    clone.disks.iter().try_for_each(HeldDisk::verify_table)?;
    clone.disks.iter_mut().for_each(HeldDisk::finish);
    Ok(())
}

/// The firmware's boot entry: behind the final table, so that nothing leads to a clone that is not finished.
/// Firmware that keeps none is a warning: the clone's fallback path was found good, and boots it.
fn enter_in_firmware(clone: &mut CompleteClone, journal: &Journal) -> anyhow::Result<()> {
    let Some(program) = &clone.efi_program else {
        return Ok(());
    };
    let plan = &clone.plan;
    let mounted = plan.mounts.mount_again(&plan.mount_dir, Access::ReadWrite)?;
    let root = plan.open_root()?;
    let chroot = Chroot::enter(&root, &clone.facts)?;
    let destination = Destination {
        root: &root,
        chroot: Some(&chroot),
    };
    let warning = program.enter(&destination, &clone.facts, &mut |line| {
        journal.news(Step::BootEntry, line)
    });
    if let Some(warning) = warning {
        journal.warning(Step::BootEntry, warning);
    }
    chroot.leave()?;
    // The log in the clone was stored before: it tells of the boot menu, too.
    store_text(&root, journal)?;
    drop(root);
    Ok(mounted.unmount()?)
}
