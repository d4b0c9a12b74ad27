//! The destructive part before the data: wipe, partition, format, mount. Each step is a function over the
//! [`Installation`]; dropping that undoes what would be in the way of a next try.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use ka_disk::fs::{self, DeviceIdentity};
use ka_disk::mounts::{MountStep, MountTree};
use ka_image::tree::Ledger;
use ka_postinstall::bootloader::EfiProgram;
use ka_postinstall::chroot::Chroot;
use ka_postinstall::facts::Facts;
use ka_postinstall::modprobe::Needed;
use ka_postinstall::names::sweep::Needle;
use ka_postinstall::root::Root;
use ka_status::event::Step;
use ka_status::report::{NodeIdentity, StreamReport};
use ka_status::text::seconds;

use super::facts::Me;
use super::fallback::HiddenFallback;
use super::held::HeldDisk;
use super::plan::ClonePlan;
use crate::beacon;
use crate::journal::Journal;
use crate::steps::StepDef;

/// What the order to go sets in motion.
pub(crate) const BUILD: [StepDef<Installation>; 3] = [
    StepDef {
        step: Step::Partition,
        run: partition,
    },
    StepDef {
        step: Step::Format,
        run: format,
    },
    StepDef {
        step: Step::Mount,
        run: mount,
    },
];

/// A clone in the making.
///
/// Fields are dropped in this order: file systems are unmounted before their partitions go.
#[derive(Debug)]
pub(crate) struct Installation {
    /// The root directory of each mount, open from before the first byte of data: syncfs(2) reports what could not be
    /// written back only since its descriptor was opened. They also keep the mounts busy, so they go first.
    pub(crate) watches: Vec<(PathBuf, File)>,
    /// The place where the clone's programs run, once one has to: its mounts lie on top of the clone's.
    pub(crate) chroot: Option<Chroot>,
    /// What firmware would boot before the clone is finished.
    pub(crate) hidden: Option<HiddenFallback>,
    mounts: Option<MountTree>,
    /// The disks, in the order of the plan's.
    pub(crate) disks: Vec<HeldDisk>,
    /// What is to be done.
    pub(crate) plan: ClonePlan,
    /// What the new file systems are known by, in the order of the plan's.
    pub(crate) identities: Vec<(u32, DeviceIdentity)>,
    /// What was received.
    pub(crate) streams: Vec<StreamReport>,
    /// What the clone tells at its first boot, if anybody waits for that.
    pub(crate) beacon: Option<beacon::Facts>,
    /// That was left in the clone.
    pub(crate) has_beacon: bool,
    /// Who this node is.
    pub(crate) me: Me,
    /// What the post-installation plans from, once the file systems are made.
    pub(crate) facts: Option<Facts>,
    /// The modules that this hardware needs.
    pub(crate) needed: Needed,
    /// What differs from the golden node's files, for the report.
    pub(crate) changes: Vec<String>,
    /// What the golden node is known by beside its disks, read before the clone gets an identity of its own.
    pub(crate) golden_names: Vec<Needle>,
    /// What the tree's restore has written, to compare with what is read back.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// When the disks were begun.
    pub(crate) began: Instant,
    /// The program that the firmware is to start, to be entered in its boot menu last of all.
    pub(crate) efi_program: Option<EfiProgram>,
    /// What tells the clone from others, once it has it.
    pub(crate) identity: Option<NodeIdentity>,
}

impl Installation {
    /// Nothing done yet.
    pub(crate) fn new(plan: ClonePlan, disks: Vec<HeldDisk>, me: Me, beacon: Option<beacon::Facts>) -> Self {
        Self {
            watches: Vec::new(),
            chroot: None,
            hidden: None,
            mounts: None,
            disks,
            plan,
            identities: Vec::new(),
            streams: Vec::new(),
            beacon,
            has_beacon: false,
            me,
            facts: None,
            needed: Needed::default(),
            changes: Vec::new(),
            golden_names: Vec::new(),
            ledger: None,
            began: Instant::now(),
            efi_program: None,
            identity: None,
        }
    }

    /// Makes the place where the clone's programs run, unless it is there.
    ///
    /// # Errors
    /// A mount failed.
    pub(crate) fn enter_chroot(&mut self, root: &Root) -> anyhow::Result<()> {
        if self.chroot.is_none() {
            let facts = self
                .facts
                .as_ref()
                .context("the clone's file systems are not made yet")?;
            self.chroot = Some(Chroot::enter(root, facts)?);
        }
        Ok(())
    }

    /// Takes what is mounted into its care, and watches it for what cannot be written back.
    ///
    /// # Errors
    /// A mounted directory cannot be opened; everything is unmounted then.
    pub(crate) fn keep_mounts(&mut self, mounts: MountTree) -> anyhow::Result<()> {
        self.mounts = Some(mounts);
        for step in &self.plan.mounts.steps {
            if let MountStep::Mount { path, .. } = step {
                let root = self.plan.below(path);
                let watch = File::open(&root).with_context(|| format!("opening {}", root.display()))?;
                self.watches.push((root, watch));
            }
        }
        Ok(())
    }

    /// Takes the mounts out, to unmount them and hear whether that worked.
    pub(crate) fn take_mounts(&mut self) -> Option<MountTree> {
        self.mounts.take()
    }
}

fn partition(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    // What can still fail harmlessly comes before the first write to the first disk.
    let dir = &work.plan.mount_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    work.disks.iter().try_for_each(HeldDisk::recheck)?;
    for (held, planned) in work.disks.iter_mut().zip(&work.plan.disks) {
        let path = held.path().display().to_string();
        journal.news(
            Step::Partition,
            format!("{path} as {} ({})", planned.drive, planned.partitions.table.kind),
        );
        held.partition(&planned.partitions)?;
        for partition in planned.partitions.partitions() {
            held.node_of(partition.number)?;
        }
    }
    for fs in &work.plan.filesystems {
        if !fs.device.exists() {
            bail!("the kernel made no device node {}", fs.device.display());
        }
    }
    Ok(())
}

fn format(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    for planned in &work.plan.filesystems {
        for run in &planned.runs {
            let started = Instant::now();
            run.run()?;
            let what = run.description.trim_start_matches("Formatting ");
            journal.news(
                Step::Format,
                format!("{what}...OK ({} s)", seconds(started.elapsed())),
            );
        }
        work.identities.push((planned.id, fs::probe(&planned.device)?));
    }
    Ok(())
}

fn mount(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let mounts = work.plan.mounts.mount_all(&work.plan.mount_dir)?;
    work.keep_mounts(mounts)?;
    for step in &work.plan.mounts.steps {
        if let MountStep::Mount {
            device, path, fstype, ..
        } = step
        {
            journal.news(Step::Mount, format!("{} on {path} as {fstype}", device.display()));
        }
    }
    Ok(())
}
