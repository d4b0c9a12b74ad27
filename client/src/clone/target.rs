//! The destructive part before the data: wipe, partition, format, mount. Each step is a function over the
//! [`Target`]; dropping that undoes what would be in the way of a next try.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use ka_disk::fs::{self, DeviceIdentity};
use ka_disk::mounts::{MountStep, MountTree};
use ka_report::event::Step;
use ka_report::report::StreamReport;
use ka_report::text::seconds;
use ka_tree::tree::Ledger;
use rustix::fs::syncfs;

use super::held::HeldDisk;
use super::plan::ClonePlan;
use crate::journal::Journal;
use crate::steps::StepDef;

/// The steps that follow the order to go.
pub(crate) const BUILD: [StepDef<Target>; 3] = [
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

/// The clone's disks and file systems, from the first write on, and the data they have received.
///
/// Fields are dropped in this order: file systems are unmounted before their partitions go.
#[derive(Debug)]
pub(crate) struct Target {
    /// The root directory of each mount, open from before the first byte of data: syncfs(2) reports what
    /// could not be written back only since its descriptor was opened. They also keep the mounts busy, so
    /// they go first.
    watches: Vec<(PathBuf, File)>,
    mounts: Option<MountTree>,
    /// The disks, in the order of the plan's.
    pub(super) disks: Vec<HeldDisk>,
    /// The plan.
    pub(super) plan: ClonePlan,
    /// The number and identity of each new file system, in the order of the plan's.
    pub(super) identities: Vec<(u32, DeviceIdentity)>,
    /// The streams received so far.
    pub(super) streams: Vec<StreamReport>,
    /// The record of the tree's restore, to be compared with the tree that is read back.
    pub(super) ledger: Option<Arc<Ledger>>,
    /// The time of the first write.
    pub(super) began: Instant,
}

impl Target {
    /// Returns the disks before the first write.
    pub(crate) fn new(plan: ClonePlan, disks: Vec<HeldDisk>) -> Self {
        Self {
            watches: Vec::new(),
            mounts: None,
            disks,
            plan,
            identities: Vec::new(),
            streams: Vec::new(),
            ledger: None,
            began: Instant::now(),
        }
    }

    /// True once a byte of a disk may have been written.
    pub(crate) fn is_touched(&self) -> bool {
        self.disks.iter().any(HeldDisk::is_touched)
    }

    /// Returns the directories where the file systems are mounted.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.watches.iter().map(|(root, _)| root.as_path())
    }

    /// Takes the mounted file systems, and watches them for what cannot be written back.
    ///
    /// # Errors
    /// A mounted directory cannot be opened; everything is unmounted when this is dropped.
    pub(super) fn keep_mounts(&mut self, mounts: MountTree) -> anyhow::Result<()> {
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

    /// Writes everything cached to the disks.
    ///
    /// # Errors
    /// Something could not be written: a disk that dies here must not pass for a clone.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        for (root, watch) in &self.watches {
            syncfs(watch).with_context(|| format!("writing {} to the disk", root.display()))?;
        }
        Ok(())
    }

    /// Lets go of the mounted directories, which are busy until then.
    pub(super) fn release_watches(&mut self) {
        self.watches.clear();
    }

    /// Unmounts the file systems; everything has to be synced before.
    ///
    /// # Errors
    /// A file system is still in use.
    pub(super) fn unmount(&mut self) -> anyhow::Result<()> {
        self.release_watches();
        self.mounts.take().map_or(Ok(()), |mounts| Ok(mounts.unmount()?))
    }
}

fn partition(target: &mut Target, journal: &Journal) -> anyhow::Result<()> {
    // Steps that can still fail harmlessly come before the first write to the first disk.
    let dir = &target.plan.mount_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    target.disks.iter().try_for_each(HeldDisk::recheck)?;
    for (held, planned) in target.disks.iter_mut().zip(&target.plan.disks) {
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
    for fs in &target.plan.filesystems {
        if !fs.device.exists() {
            bail!("the kernel has not made the device node {}", fs.device.display());
        }
    }
    Ok(())
}

fn format(target: &mut Target, journal: &Journal) -> anyhow::Result<()> {
    for planned in &target.plan.filesystems {
        for run in &planned.runs {
            let started = Instant::now();
            run.run()?;
            let what = run.description.trim_start_matches("Formatting ");
            journal.news(
                Step::Format,
                format!("{what}...OK ({} s)", seconds(started.elapsed())),
            );
        }
        target.identities.push((planned.id, fs::probe(&planned.device)?));
    }
    Ok(())
}

fn mount(target: &mut Target, journal: &Journal) -> anyhow::Result<()> {
    let mounts = target.plan.mounts.mount_all(&target.plan.mount_dir)?;
    target.keep_mounts(mounts)?;
    for step in &target.plan.mounts.steps {
        if let MountStep::Mount {
            device, path, fstype, ..
        } = step
        {
            journal.news(Step::Mount, format!("{} on {path} as {fstype}", device.display()));
        }
    }
    Ok(())
}
