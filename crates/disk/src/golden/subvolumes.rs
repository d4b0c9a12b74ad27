//! The subvolumes of a golden btrfs: those that travel, snapshots that stay at home, and those that no mount
//! shows.
//!
//! A subvolume that a line of the plan mounts travels once, by that line. A subvolume inside it travels with
//! it, as a subvolume. Snapshots are the exception, because each would travel in full.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ka_host::run::{RunError, Tool};

use super::features::TOOL_LIMIT;
use super::found::FoundMount;
use crate::fs_type::FsType;
use crate::spec::InstallSpec;

/// Number of the top level: `BTRFS_FS_TREE_OBJECTID`.
const TOP_LEVEL: u64 = 5;
/// Path of snapper's snapshots: `.snapshots/NUMBER/snapshot`.
const SNAPPER: (&str, &str) = (".snapshots", "snapshot");
/// Path of Timeshift's snapshots, from the top level.
const TIMESHIFT: &str = "timeshift-btrfs/snapshots";
/// The most subvolumes that a note names; the others are counted.
const NAMED: usize = 3;

/// A subvolume as `btrfs subvolume list` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subvolume {
    pub(super) id: u64,
    /// Path from the top level, without a leading slash.
    pub(super) path: String,
    is_read_only: bool,
    /// True if it was made from another subvolume.
    has_parent: bool,
}

impl Subvolume {
    /// True for a state of other files that is kept to go back to. It is read-only and made from another
    /// subvolume, or in the place of snapper's or Timeshift's snapshots.
    fn is_snapshot(&self) -> bool {
        let timeshift = Path::new(&self.path).starts_with(TIMESHIFT);
        (self.is_read_only && self.has_parent) || timeshift || snapper_directory(&self.path).is_some()
    }
}

/// Lists the subvolumes of a btrfs, except the top level. The btrfs shows its subvolume `mounted` at
/// `mount_point`.
fn list(mount_point: &Path, mounted: &str) -> Result<Vec<Subvolume>, RunError> {
    let output = |args: &[&str]| {
        let tool =
            Tool::new("btrfs").describe(format!("listing the subvolumes of {}", mount_point.display()));
        let tool = tool.args(["subvolume", "list"]).args(args).arg(mount_point);
        tool.timeout(TOOL_LIMIT).run().map(|output| output.text())
    };
    Ok(parse(&output(&["-q"])?, &output(&["-r"])?, mounted))
}

/// Parses the lists. Paths inside the mounted subvolume are relative to it, all others start from the top
/// level.
fn parse(all: &str, read_only: &str, mounted: &str) -> Vec<Subvolume> {
    let id = |line: &str| line.split(' ').nth(1).and_then(|id| id.parse::<u64>().ok());
    let read_only: HashSet<u64> = read_only.lines().filter_map(id).collect();
    let parents: HashMap<u64, u64> = all.lines().filter_map(parent_of).collect();
    let path_of = |line: &str| line.split_once(" path ").map_or("", |(_, path)| path).to_owned();
    let top = all.lines().find(|line| path_of(line) == mounted).and_then(id);
    let lies_in_mounted = |id: u64| {
        let mut above = parents.get(&id);
        // No chain is longer than the number of subvolumes.
        for _ in 0..parents.len() {
            match above {
                Some(one) if Some(*one) == top => return true,
                Some(one) => above = parents.get(one),
                None => return false,
            }
        }
        false
    };
    let one = |line: &str| {
        let (head, path) = line.split_once(" path ")?;
        let id = id(head)?;
        let origin = head
            .split_once(" parent_uuid ")
            .map_or("-", |(_, uuid)| uuid.trim());
        let path = if lies_in_mounted(id) && !is_below(path, mounted) {
            format!("{mounted}/{path}")
        } else {
            path.to_owned()
        };
        Some(Subvolume {
            id,
            path,
            is_read_only: read_only.contains(&id),
            has_parent: origin != "-",
        })
    };
    all.lines().filter_map(one).collect()
}

/// Returns the number of a subvolume and of the one that contains it: `ID 259 gen 7 top level 257 …`.
fn parent_of(line: &str) -> Option<(u64, u64)> {
    let (head, _) = line.split_once(" path ")?;
    let above = head.split_once(" top level ")?.1;
    let number = |text: &str| text.split(' ').next()?.parse().ok();
    Some((number(head.strip_prefix("ID ")?)?, number(above)?))
}

/// A mount of the plan: the mount point, and the subvolume (empty for the top level).
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) mount_point: &'a str,
    pub(super) subvolume: &'a str,
}

impl<'a> View<'a> {
    pub(super) fn of(mount: &'a FoundMount) -> Option<Self> {
        (mount.fstype == FsType::Btrfs).then_some(Self {
            mount_point: &mount.mount_point,
            subvolume: mount.subvol.as_deref().unwrap_or(""),
        })
    }

    /// Returns the path of a subvolume in this mount.
    fn sees(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.subvolume).ok()?;
        Some(Path::new(self.mount_point).join(below))
    }
}

/// The decision about the subvolumes of one btrfs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Numbers of the subvolumes whose files travel.
    pub(super) travelling: Vec<u64>,
    /// Paths on the golden node that do not travel, because they are snapshots.
    pub(super) skipped: Vec<PathBuf>,
    /// Paths of snapshots that a mount shows and that stay at home.
    pub(super) snapshots: Vec<PathBuf>,
    /// Subvolumes that no mount of the plan shows, as paths from the top level.
    pub(super) unseen: Vec<String>,
}

/// Sorts the subvolumes of one btrfs. `views` are its mounts in the plan, `mount_points` all mount points of
/// the plan, `excluded` the directories of `-x`.
pub(super) fn choose(
    all: &[Subvolume],
    views: &[View<'_>],
    mount_points: &[&str],
    excluded: &[PathBuf],
    with_snapshots: bool,
) -> Choice {
    let mut choice = Choice::default();
    if views.iter().any(|view| view.subvolume.is_empty()) {
        choice.travelling.push(TOP_LEVEL);
    }
    let mut all: Vec<&Subvolume> = all.iter().collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let mut left_out: Vec<&str> = Vec::new();
    for subvolume in all {
        let path = subvolume.path.as_str();
        let inside = |outer: &&str| is_below(path, outer);
        if views.iter().any(|view| view.subvolume == path) {
            choice.travelling.push(subvolume.id);
            continue;
        }
        let seen = seen_at(path, views, mount_points);
        let is_excluded = |at: &PathBuf| excluded.iter().any(|dir| at.starts_with(dir));
        let holds_a_view = views.iter().any(|view| is_below(view.subvolume, path));
        match seen {
            _ if left_out.iter().any(inside) => {}
            Some(at) if is_excluded(&at) => {}
            Some(at) if subvolume.is_snapshot() && !holds_a_view && !with_snapshots => {
                choice.skipped.push(whole_snapshot(path, at.clone(), views));
                choice.snapshots.push(at);
                left_out.push(path);
            }
            Some(_) => choice.travelling.push(subvolume.id),
            None if holds_a_view => {}
            None => choice.unseen.push(path.to_owned()),
        }
    }
    choice
}

impl Choice {
    /// Returns the notes for the operator.
    fn notes(&self, device: &str) -> Vec<String> {
        let snapshots: Vec<String> = self
            .snapshots
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let kept = (!snapshots.is_empty()).then(|| {
            format!(
                "on the btrfs of {device} {} left out: {}; --snapshots clones them too, each in full",
                counted(snapshots.len(), "snapshot"),
                some_of(&snapshots)
            )
        });
        let unseen = (!self.unseen.is_empty()).then(|| {
            format!(
                "on the btrfs of {device} {} mounted nowhere and left out: {}; a line of etc/fstab that mounts one \
                 clones it",
                counted(self.unseen.len(), "subvolume"),
                some_of(&self.unseen)
            )
        });
        kept.into_iter().chain(unseen).collect()
    }
}

/// The btrfs file systems of a golden node.
#[derive(Debug, Default)]
pub(super) struct Volumes(Vec<Volume>);

/// One btrfs file system.
#[derive(Debug)]
pub(super) struct Volume {
    /// Kernel name of its device.
    device: String,
    pub(super) all: Vec<Subvolume>,
    pub(super) choice: Choice,
}

impl Volumes {
    /// Looks at each btrfs among `mounts`, and lists in `spec` what does not travel.
    pub(super) fn choose(spec: &mut InstallSpec, mounts: &[FoundMount], with_snapshots: bool) -> Self {
        let points: Vec<&str> = mounts.iter().map(|mount| mount.mount_point.as_str()).collect();
        let as_path = |bytes: &Vec<u8>| PathBuf::from(OsStr::from_bytes(bytes));
        let excluded: Vec<PathBuf> = spec.excluded.iter().map(as_path).collect();
        let mut volumes = Self::default();
        for mount in mounts {
            let Some(device) = mount.device.as_ref().filter(|_| mount.fstype == FsType::Btrfs) else {
                continue;
            };
            let name = &device.block.name;
            if volumes.of(mount).is_some() {
                continue;
            }
            let is_here =
                |other: &&FoundMount| other.device.as_ref().is_some_and(|it| it.block.name == *name);
            let views: Vec<View<'_>> = mounts.iter().filter(is_here).filter_map(View::of).collect();
            let all = list(&mount.source, mount.subvol.as_deref().unwrap_or("")).unwrap_or_else(|error| {
                let what = format!("{}: its subvolumes cannot be listed", mount.mount_point);
                spec.notes.push(format!("{what}: {error}"));
                Vec::new()
            });
            let choice = choose(&all, &views, &points, &excluded, with_snapshots);
            spec.notes.extend(choice.notes(&mount.golden.path));
            let skipped = choice
                .skipped
                .iter()
                .map(|path| path.as_os_str().as_bytes().to_vec());
            spec.skipped.extend(skipped);
            let device = name.clone();
            volumes.0.push(Volume { device, all, choice });
        }
        volumes
    }

    /// Returns the file system that a mount shows.
    pub(super) fn of(&self, mount: &FoundMount) -> Option<&Volume> {
        let name = &mount.device.as_ref()?.block.name;
        self.0.iter().find(|volume| volume.device == *name)
    }
}

impl Volume {
    /// Returns the subvolumes that must be made before anything is mounted: the mounted ones and those that
    /// contain them, parents first.
    pub(super) fn to_make(&self, mounted: &[String]) -> Vec<String> {
        let holds = |path: &str| mounted.iter().any(|mounted| is_below(mounted, path));
        let above = self
            .all
            .iter()
            .map(|subvolume| &subvolume.path)
            .filter(|path| holds(path));
        // Sorted by bytes, a parent comes before what is nested in it.
        let all: BTreeSet<String> = above.chain(mounted).cloned().collect();
        all.into_iter().collect()
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what} is")
    } else {
        format!("{count} {what}s are")
    }
}

fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len().min(NAMED)].join(", ");
    if more == 0 {
        named
    } else {
        format!("{named} and {more} more")
    }
}

/// Returns the path where the walk meets a subvolume. The deepest subvolume of the plan above it shows it,
/// unless something is mounted over the path to it.
fn seen_at(path: &str, views: &[View<'_>], mount_points: &[&str]) -> Option<PathBuf> {
    let above = views.iter().filter(|view| is_below(path, view.subvolume));
    let deepest = above.clone().map(|view| view.subvolume.len()).max()?;
    let shown = |view: &View<'_>| {
        let at = view.sees(path)?;
        let holding = mount_points.iter().filter(|point| at.starts_with(point));
        let holder = holding.max_by_key(|point| point.len());
        (holder == Some(&view.mount_point)).then_some(at)
    };
    above
        .filter(|view| view.subvolume.len() == deepest)
        .find_map(shown)
}

/// Extends a snapshot to snapper's directory around it: the description of a snapshot is of no use without
/// the snapshot.
fn whole_snapshot(path: &str, at: PathBuf, views: &[View<'_>]) -> PathBuf {
    let holds_a_view = |directory: &str| views.iter().any(|view| is_below(view.subvolume, directory));
    match (snapper_directory(path), at.parent()) {
        (Some(directory), Some(parent)) if !holds_a_view(directory) => parent.to_owned(),
        _ => at,
    }
}

/// Returns `.snapshots/7` of `.snapshots/7/snapshot`.
fn snapper_directory(path: &str) -> Option<&str> {
    let (directory, name) = path.rsplit_once('/')?;
    let (above, number) = directory.rsplit_once('/')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let above = Path::new(above).file_name()?;
    (name == SNAPPER.1 && is_number && above == SNAPPER.0).then_some(directory)
}

/// True if the subvolume `inner` lies below `outer`; all lie below the top level.
fn is_below(inner: &str, outer: &str) -> bool {
    inner != outer && Path::new(inner).starts_with(outer)
}

#[cfg(test)]
#[path = "subvolumes_tests.rs"]
mod tests;
