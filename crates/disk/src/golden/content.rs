//! The content of the clone's file systems, where it differs from what the golden file systems count: files
//! that share their blocks, compression, snapshots that are not cloned.

use std::collections::HashSet;
use std::fs::File;

use ka_host::HostError;
use ka_host::btrfs_tree::{self, Held};

use super::SurveyError;
use super::found::FoundMount;
use super::subvolumes::Volume;
use super::usage::{self, Usage};
use crate::fs_type::FsType;
use crate::spec::{FsFeatures, FsSpec};

/// The content of one file system of the clone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Bytes that all of it takes without compression.
    plain_bytes: u64,
}

/// Measures the content that comes to `fs`.
pub(super) fn measure(
    fs: &FsSpec,
    first: &FoundMount,
    volume: Option<&Volume>,
) -> Result<Content, SurveyError> {
    let counted = Content {
        bytes: first.used_bytes,
        inodes: first.used_inodes,
        plain_bytes: first.used_bytes,
    };
    match (first.fstype, volume) {
        (FsType::Btrfs, Some(volume)) => Ok(held(first, volume)?.map_or(counted, |held| {
            let bytes = match (fs.fstype, is_compressed(fs)) {
                (FsType::Btrfs, true) => held.stored_bytes,
                (FsType::Btrfs, false) => held.marked_bytes,
                _ => held.plain_bytes,
            };
            Content {
                bytes,
                inodes: held.inodes,
                plain_bytes: held.plain_bytes,
            }
        })),
        (FsType::Xfs, _) if first.device.is_some() && may_share(first) => {
            let tree = usage::of_tree(&first.source, &HashSet::new());
            Ok(Content {
                bytes: counted.bytes.max(tree.bytes),
                ..counted
            })
        }
        _ => Ok(counted),
    }
}

impl Content {
    /// Subtracts what `-x` excludes. It was measured file by file, without compression.
    pub(super) fn without(self, excluded: Usage) -> Self {
        let stored =
            u128::from(excluded.bytes) * u128::from(self.bytes) / u128::from(self.plain_bytes.max(1));
        let stored = u64::try_from(stored).unwrap_or(u64::MAX).min(excluded.bytes);
        Self {
            bytes: self.bytes.saturating_sub(stored),
            ..self
        }
    }
}

/// True if the clone is mounted with an option that compresses.
fn is_compressed(fs: &FsSpec) -> bool {
    let mut options = fs.mounts.iter().flat_map(|mount| mount.options.split(','));
    options.any(|option| {
        let (name, how) = option.split_once('=').unwrap_or((option, ""));
        (name == "compress" || name == "compress-force") && !["no", "none"].contains(&how)
    })
}

/// True if files may share blocks: on every XFS of today, but not on one made without `reflink`.
fn may_share(first: &FoundMount) -> bool {
    let Some(device) = &first.device else { return false };
    let read = super::features::read(
        first.fstype,
        &device.block.node,
        &device.identity,
        Some(&first.source),
    );
    let flag_off = |(name, on): &(String, bool)| name == "reflink" && !on;
    !matches!(read, Ok(FsFeatures::Xfs(found)) if found.flags.iter().any(flag_off))
}

/// Measures the subvolumes that travel. `None` if this kernel or missing rights prevent it: the file system's
/// own count has to do then.
fn held(first: &FoundMount, volume: &Volume) -> Result<Option<Held>, SurveyError> {
    let doing = || format!("opening {}", first.source.display());
    let at = File::open(&first.source).map_err(|error| HostError::new(doing(), error))?;
    let mut all = Held::default();
    for id in &volume.choice.travelling {
        match btrfs_tree::held(&at, *id) {
            Ok(one) => all.add(one),
            Err(_) => return Ok(None),
        }
    }
    Ok((all.inodes > 0).then_some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MountSpec, Place};

    #[test]
    fn compression_counts_when_the_clone_is_mounted_with_it() {
        let with = |options: &str| {
            let place = Place {
                drive: "sda".to_owned(),
                partition: 1,
            };
            let mount = MountSpec {
                path: "/".to_owned(),
                options: options.to_owned(),
                options_changed: false,
                subvol: None,
                mode: 0o755,
                uid: 0,
                gid: 0,
            };
            let fs = FsSpec {
                mounts: vec![mount],
                ..FsSpec::new(0, place, FsType::Btrfs)
            };
            is_compressed(&fs)
        };
        assert!(with("noatime,compress=zstd:1") && with("compress-force=lzo") && with("compress"));
        assert!(!with("compress=no,noatime") && !with("compress-force=none") && !with("subvol=@"));
    }

    #[test]
    fn what_is_left_out_shrinks_as_the_rest_does() {
        let content = Content {
            bytes: 100,
            inodes: 1,
            plain_bytes: 1000,
        };
        let excluded = Usage {
            bytes: 500,
            ..Usage::default()
        };
        assert_eq!(content.without(excluded).bytes, 50);
    }
}
