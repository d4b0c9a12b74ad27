//! A file system of the clone, with its golden original.

use serde::{Deserialize, Serialize};

use super::{FsFeatures, Place};
use crate::fs_type::FsType;

/// The golden node's names for the device of a file system: everything that a reference to it may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenDevice {
    /// Device node: `/dev/sda2`, `/dev/mapper/vg-home`.
    pub path: String,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// GUID of the partition, or `signature-number` on MBR.
    pub partuuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// GPT name of the partition.
    pub partlabel: Option<String>,
    /// Other names that fstab uses for it, as written there (escapes undone): `/dev/disk/by-id/ata-X-part2`,
    /// `/dev/vg/home`.
    pub aliases: Vec<String>,
}

/// A drive, partition or volume of the golden node, cloned or not, that its configuration may name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// All its names.
    pub device: GoldenDevice,
    /// Its place on a golden drive, in the golden table; partition 0 is the drive itself. `None` for volumes.
    pub on: Option<Place>,
    /// Content as blkid names it: `ext4`, `crypto_LUKS`, `LVM2_member`; `None` if blkid knows nothing.
    pub content: Option<String>,
    /// A drive's own id: the GUID of its GPT, or the signature of its MBR.
    pub table_id: Option<String>,
}

/// A file system or swap area of the clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FsSpec {
    /// Number within the spec; trees refer to it.
    pub id: u32,
    /// The partition it is made on.
    pub place: Place,
    /// Type to make.
    pub fstype: FsType,
    /// The golden device in its place; `None` for a file system that only the desc file asks for.
    pub golden: Option<GoldenDevice>,
    /// The golden node's type, if it differs from [`FsSpec::fstype`].
    pub golden_fstype: Option<FsType>,
    /// Label to give it.
    pub label: Option<String>,
    /// UUID to give it; `None` for a new one.
    pub uuid: Option<String>,
    /// Golden features to share.
    pub features: FsFeatures,
    /// Bytes that the clone's files take if that is known, else those in use on the golden node. 0 for swap.
    pub used_bytes: u64,
    /// The part of `used_bytes` that the golden file system saves by shared blocks and compression.
    pub expanded_bytes: u64,
    /// Inodes in use on the golden node; 0 if the type does not count them.
    pub used_inodes: u64,
    /// Size of the golden device in bytes; 0 if it is not known.
    pub golden_bytes: u64,
    /// Block size of the golden file system in bytes; 0 if it is not known.
    pub golden_block_bytes: u32,
    /// Mount points; empty for swap.
    pub mounts: Vec<MountSpec>,
}

/// One mount point of a file system. Only btrfs has several, one for each mounted subvolume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the clone: `/`, `/home`.
    pub path: String,
    /// The clone's options, as fstab has them (fourth field).
    pub options: String,
    /// True if the desc line's `options=` replaces the golden options in the clone's fstab.
    pub options_changed: bool,
    /// The btrfs subvolume, without a leading slash: `@home`; empty for the top level. `None` on other types.
    pub subvol: Option<String>,
    /// Mode bits of the mounted directory.
    pub mode: u32,
    /// User id of the owner of the mounted directory.
    pub uid: u32,
    /// Group id of the mounted directory.
    pub gid: u32,
}

impl FsSpec {
    /// Makes an empty file system with the tool's defaults and no golden original.
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
