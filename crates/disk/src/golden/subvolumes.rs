//! The subvolumes of a golden btrfs: which travel, which are snapshots that stay at home, which nobody sees.
//!
//! A subvolume that a line of the plan mounts travels once, by that line. One that lies in such a subvolume travels with
//! it, as a subvolume, unless it is a snapshot: those would each travel in full.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ka_host::run::{RunError, Tool};

use super::features::TOOL_LIMIT;
use super::found::FoundMount;
use crate::spec::{FsType, InstallSpec};

/// `BTRFS_FS_TREE_OBJECTID`.
const TOP_LEVEL: u64 = 5;
/// Where snapper keeps snapshots: `.snapshots/NUMBER/snapshot`.
const SNAPPER: (&str, &str) = (".snapshots", "snapshot");
/// Where Timeshift keeps them, from the top level.
const TIMESHIFT: &str = "timeshift-btrfs/snapshots";
/// So many are named in a note; the others are counted.
const NAMED: usize = 3;

/// A subvolume, as `btrfs subvolume list` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subvolume {
    pub(super) id: u64,
    /// From the top level, without a leading slash.
    pub(super) path: String,
    is_read_only: bool,
    /// It was made from another one.
    has_parent: bool,
}

impl Subvolume {
    /// A state of other files, kept to go back to: read-only and made from another subvolume, or where snapper or
    /// Timeshift keep theirs.
    fn is_snapshot(&self) -> bool {
        let timeshift = Path::new(&self.path).starts_with(TIMESHIFT);
        (self.is_read_only && self.has_parent) || timeshift || snapper_directory(&self.path).is_some()
    }
}

/// Lists the subvolumes of the btrfs that shows its subvolume `mounted` at `mount_point`, but the top level.
fn list(mount_point: &Path, mounted: &str) -> Result<Vec<Subvolume>, RunError> {
    let output = |args: &[&str]| {
        let tool =
            Tool::new("btrfs").describe(format!("listing the subvolumes of {}", mount_point.display()));
        let tool = tool.args(["subvolume", "list"]).args(args).arg(mount_point);
        tool.timeout(TOOL_LIMIT).run().map(|output| output.text())
    };
    Ok(parse(&output(&["-q"])?, &output(&["-r"])?, mounted))
}

/// Paths of what lies in the mounted subvolume come relative to it, all others from the top level.
fn parse(all: &str, read_only: &str, mounted: &str) -> Vec<Subvolume> {
    let id = |line: &str| line.split(' ').nth(1).and_then(|id| id.parse::<u64>().ok());
    let read_only: HashSet<u64> = read_only.lines().filter_map(id).collect();
    let parents: HashMap<u64, u64> = all.lines().filter_map(parent_of).collect();
    let path_of = |line: &str| line.split_once(" path ").map_or("", |(_, path)| path).to_owned();
    let top = all.lines().find(|line| path_of(line) == mounted).and_then(id);
    let lies_in_mounted = |id: u64| {
        let mut above = parents.get(&id);
        // No chain is longer than there are subvolumes.
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

/// The number of a subvolume, and of the one that it lies in: `ID 259 gen 7 top level 257 …`.
fn parent_of(line: &str) -> Option<(u64, u64)> {
    let (head, _) = line.split_once(" path ")?;
    let above = head.split_once(" top level ")?.1;
    let number = |text: &str| text.split(' ').next()?.parse().ok();
    Some((number(head.strip_prefix("ID ")?)?, number(above)?))
}

/// A mount of the plan: where, and which subvolume (empty for the top level).
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

    /// Where a subvolume is seen in this mount.
    fn sees(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.subvolume).ok()?;
        Some(Path::new(self.mount_point).join(below))
    }
}

/// What becomes of the subvolumes of one btrfs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The numbers of those whose files travel.
    pub(super) travelling: Vec<u64>,
    /// Paths of the golden node that do not travel, because snapshots lie there.
    pub(super) skipped: Vec<PathBuf>,
    /// Snapshots that are seen and stay at home, as seen.
    pub(super) snapshots: Vec<PathBuf>,
    /// Those that no mount of the plan shows, from the top level.
    pub(super) unseen: Vec<String>,
}

/// Sorts the subvolumes of one btrfs. `views` are its mounts in the plan, `mount_points` all mount points of the plan,
/// `excluded` the directories of `-x`.
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
    /// What the operator should know.
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

/// One of them.
#[derive(Debug)]
pub(super) struct Volume {
    /// Kernel name of its device.
    device: String,
    pub(super) all: Vec<Subvolume>,
    pub(super) choice: Choice,
}

impl Volumes {
    /// Looks at each btrfs among `mounts`, and writes down in `spec` what does not travel.
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

    /// The one that a mount shows.
    pub(super) fn of(&self, mount: &FoundMount) -> Option<&Volume> {
        let name = &mount.device.as_ref()?.block.name;
        self.0.iter().find(|volume| volume.device == *name)
    }
}

impl Volume {
    /// The subvolumes that have to be made before anything is mounted: those that are mounted, and those that they lie in;
    /// parents first.
    pub(super) fn to_make(&self, mounted: &[String]) -> Vec<String> {
        let holds = |path: &str| mounted.iter().any(|mounted| is_below(mounted, path));
        let above = self
            .all
            .iter()
            .map(|subvolume| &subvolume.path)
            .filter(|path| holds(path));
        // Sorted by bytes, a parent stands before what is nested in it.
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

/// Where the walk meets a subvolume: the deepest subvolume of the plan above it shows it, unless something is mounted
/// over the way there.
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

/// Snapper's directory around a snapshot goes with it: what tells of a snapshot that is not there helps nobody.
fn whole_snapshot(path: &str, at: PathBuf, views: &[View<'_>]) -> PathBuf {
    let holds_a_view = |directory: &str| views.iter().any(|view| is_below(view.subvolume, directory));
    match (snapper_directory(path), at.parent()) {
        (Some(directory), Some(parent)) if !holds_a_view(directory) => parent.to_owned(),
        _ => at,
    }
}

/// `.snapshots/7` of `.snapshots/7/snapshot`.
fn snapper_directory(path: &str) -> Option<&str> {
    let (directory, name) = path.rsplit_once('/')?;
    let (above, number) = directory.rsplit_once('/')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let above = Path::new(above).file_name()?;
    (name == SNAPPER.1 && is_number && above == SNAPPER.0).then_some(directory)
}

/// Whether the subvolume `inner` lies below `outer`; all lie below the top level.
fn is_below(inner: &str, outer: &str) -> bool {
    inner != outer && Path::new(inner).starts_with(outer)
}

#[cfg(test)]
#[path = "subvolumes_tests.rs"]
mod tests;
