//! Drivers by what the hardware says of itself: every `modalias` in `/sys` against the index of the modules
//! in this image.
//!
//! A driver may find a bus with more hardware behind it, seconds later (virtio, USB, SCSI), so the hardware
//! is looked at again until nothing new turns up. Built-in drivers, drivers that are loaded already, and
//! drivers that are not in this image are nothing to tell of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ka_host::modules::{Inserted, insert};
use ka_kmod::{Index, ModuleName, hardware_modaliases, read_module};

use super::mounts;

/// Nothing new for so long: the buses are quiet. A SCSI bus answers within a second or two of its driver's
/// start.
const QUIET: Duration = Duration::from_millis(1500);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for a machine with many slow controllers, before it goes on with the present disks.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// A machine without any disk yet is given longer: RAID controllers take their time to show one.
const NO_DISK_LIMIT: Duration = Duration::from_secs(60);

/// The modules of this image, and which of them were handed to the kernel.
#[derive(Debug)]
pub(super) struct Drivers {
    dir: PathBuf,
    index: Index,
    seen: BTreeSet<ModuleName>,
}

/// The result of a round of loading.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LoadSummary {
    /// Modules that run now and did not before.
    pub(super) names: Vec<String>,
    /// The failures of others.
    pub(super) problems: Vec<String>,
}

impl Drivers {
    /// Returns the modules for the running kernel.
    ///
    /// # Errors
    /// There are none in this image.
    pub(super) fn open() -> anyhow::Result<Self> {
        let release =
            fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
        let dir = Path::new("/lib/modules").join(release.trim());
        let index = Index::load(&dir).with_context(|| {
            format!(
                "the boot image has no modules for its kernel {} (was it made for another one?)",
                release.trim()
            )
        })?;
        Ok(Self {
            dir,
            index,
            seen: BTreeSet::new(),
        })
    }

    /// Modules by name or alias.
    pub(super) fn resolve(&self, word: &str) -> Vec<ModuleName> {
        self.index.resolve(word)
    }

    /// True if the kernel itself contains the module of this name or alias.
    pub(super) fn has_builtin(&self, word: &str) -> bool {
        self.index.knows_builtin(word)
    }

    /// Loads the drivers that the hardware needs now.
    pub(super) fn scan(&mut self) -> LoadSummary {
        let wanted: BTreeSet<ModuleName> = hardware_modaliases(Path::new("/sys"))
            .iter()
            .flat_map(|alias| self.index.for_modalias(alias))
            .filter(|name| !self.seen.contains(name))
            .collect();
        self.load(&Vec::from_iter(wanted))
    }

    /// Loads these with what they depend on.
    pub(super) fn load(&mut self, names: &[ModuleName]) -> LoadSummary {
        let mut loaded = LoadSummary::default();
        for module in self.index.with_dependencies(names) {
            let path = self.dir.join(&module.path);
            // The index may know modules that this image leaves out: sound, graphics.
            if !self.seen.insert(module.name.clone()) || !path.exists() {
                continue;
            }
            let inserted = read_module(&path)
                .map_err(|error| error.to_string())
                .and_then(|image| insert(module.name.as_str(), &image).map_err(|error| error.to_string()));
            match inserted {
                Ok(Inserted::Loaded) => loaded.names.push(module.name.as_str().to_owned()),
                Ok(Inserted::WasThere | Inserted::NothingToDrive) => {}
                Err(problem) => loaded.problems.push(problem),
            }
        }
        loaded
    }

    /// Loads until the hardware has been quiet for a while and `enough` says so, at most `limit`. `enough`
    /// gets the time since the beginning.
    pub(super) fn settle(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(Duration) -> bool,
    ) -> LoadSummary {
        let began = Instant::now();
        let mut last_news = began;
        let mut all = LoadSummary::default();
        let mut known = things();
        loop {
            let mut loaded = self.scan();
            let now_known = things();
            if !loaded.names.is_empty() || now_known != known {
                last_news = Instant::now();
            }
            known = now_known;
            all.names.append(&mut loaded.names);
            all.problems.append(&mut loaded.problems);
            let is_quiet = last_news.elapsed() >= QUIET;
            if began.elapsed() >= limit || is_quiet && enough(began.elapsed()) {
                return all;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl LoadSummary {
    /// The first problem, if there is one.
    pub(super) fn into_result(self) -> anyhow::Result<()> {
        self.problems
            .into_iter()
            .next()
            .map_or(Ok(()), |problem| Err(anyhow!(problem)))
    }

    /// One line for the log.
    pub(super) fn describe(&self) -> String {
        if self.names.is_empty() {
            "nothing to load".to_owned()
        } else {
            self.names.join(" ")
        }
    }
}

/// Loads the drivers of disks and firmware variables that came with the tools, and waits until no more disks
/// turn up. Returns a line for the operator, and warnings.
///
/// # Errors
/// The tools brought no modules for this kernel.
pub(crate) fn prepare_disks() -> anyhow::Result<(String, Vec<String>)> {
    let mut drivers = Drivers::open()?;
    let loaded = drivers.settle(NO_DISK_LIMIT, |waited| waited >= SETTLE_LIMIT || has_disk());
    let mut problems = loaded.problems.clone();
    if let Err(error) = mounts::efi_variables() {
        problems.push(error.to_string());
    }
    Ok((loaded.describe(), problems))
}

/// Names of disks and interfaces that the kernel knows: a new one is a reason to look on.
fn things() -> BTreeSet<PathBuf> {
    ["/sys/block", "/sys/class/net"]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect()
}

/// True if there is a disk with a device behind it: no loop device, no RAM disk.
fn has_disk() -> bool {
    fs::read_dir("/sys/block").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().join("device").exists())
    })
}
