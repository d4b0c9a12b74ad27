//! A file system of the clone, with what it is on the golden node.

use serde::{Deserialize, Serialize};

use super::{FsFeatures, FsType, Place};

/// How the golden node knows the device of a file system: everything that a reference to it may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenDevice {
    /// Its device node: `/dev/sda2`, `/dev/mapper/vg-home`.
    pub path: String,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// GUID of the partition, or `signature-number` on MBR.
    pub partuuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// GPT name of the partition.
    pub partlabel: Option<String>,
    /// Other ways in which fstab names it, as they stand there (escapes undone):
    /// `/dev/disk/by-id/ata-X-part2`, `/dev/vg/home`.
    pub aliases: Vec<String>,
}

/// A drive, partition or volume of the golden node, cloned or not: what its configuration may name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// All its names.
    pub device: GoldenDevice,
    /// Its place on a golden drive, in the golden table; partition 0 is the drive itself. `None` for volumes.
    pub on: Option<Place>,
    /// Its content in blkid's word: `ext4`, `crypto_LUKS`, `LVM2_member`; none where blkid knows nothing.
    pub content: Option<String>,
    /// A drive's own id: the GUID of its GPT, or the signature of its MBR.
    pub table_id: Option<String>,
}

/// A file system or swap area of the clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FsSpec {
    /// Its number within the spec.
    pub id: u32,
    /// The partition it lives on.
    pub place: Place,
    /// What is made.
    pub fstype: FsType,
    /// What the golden node has in its stead; `None` for one that only the desc file asks for.
    pub golden: Option<GoldenDevice>,
    /// What the golden node's type is, where it differs from [`FsSpec::fstype`].
    pub golden_fstype: Option<FsType>,
    /// Its label.
    pub label: Option<String>,
    /// The UUID to give it; `None`: a new one.
    pub uuid: Option<String>,
    /// What of the golden file system's features matters.
    pub features: FsFeatures,
    /// Bytes that the clone's files take, as far as that is known; else those in use on the golden node. 0 for swap.
    pub used_bytes: u64,
    /// The part of them that the golden file system does not use itself: shared blocks and compression.
    #[serde(default)]
    pub expanded_bytes: u64,
    /// Inodes in use on the golden node; 0 where the type does not count them.
    pub used_inodes: u64,
    /// Size of the golden device in bytes; 0 where that is not known.
    pub golden_bytes: u64,
    /// Size of the golden file system's blocks in bytes; 0 where that is not known.
    #[serde(default)]
    pub golden_block_bytes: u32,
    /// Where it is mounted; empty for swap.
    pub mounts: Vec<MountSpec>,
}

/// One mount point of a file system. Only btrfs has several, one a subvolume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the clone: `/`, `/home`.
    pub path: String,
    /// The clone's options, as fstab has them (fourth field).
    pub options: String,
    /// The desc line's `options=` replaces the golden ones in the clone's fstab.
    pub options_changed: bool,
    /// The btrfs subvolume, without a leading slash: `@home`; empty for the top level. `None` on other types.
    pub subvol: Option<String>,
    /// Mode bits of the mounted directory.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl FsSpec {
    /// An empty one of the tool's own make-up, which the golden node has nothing to do with.
    #[must_use]
    pub fn new(id: u32, place: Place, fstype: FsType) -> Self {
        Self {
            id,
            place,
            fstype,
            golden: None,
            golden_fstype: None,
            label: None,
            uuid: None,
            features: FsFeatures::Default,
            used_bytes: 0,
            expanded_bytes: 0,
            used_inodes: 0,
            golden_bytes: 0,
            golden_block_bytes: 0,
            mounts: Vec::new(),
        }
    }
}
