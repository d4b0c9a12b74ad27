//! The install spec of a run: everything that a node must know about the golden node before the first byte of
//! data.
//!
//! The server makes an [`InstallSpec`] with [`crate::golden::survey`] and sends it as JSON to every node; the
//! node makes its plans from it. Nothing here reads a disk. The transport carries it as opaque bytes.

mod boot;
mod features;
mod filesystem;
mod fit;
mod loader;
mod read_back;

use serde::{Deserialize, Serialize};

pub use boot::{BeaconSpec, BootSpec};
pub use features::{BtrfsFeatures, ExtFeatures, F2fsFeatures, FatFeatures, FsFeatures, XfsFeatures};
pub use filesystem::{FsSpec, GoldenDevice, KnownDevice, MountSpec};
pub use fit::{FitError, check_fit, needed_bytes};
pub use loader::{GoldenBoot, Loader, SbatImage, UnknownLoader};
pub use read_back::ReadBackWhen;

use crate::layout;
use crate::table::TableKind;

/// Version of the JSON; a node refuses another one.
pub const SPEC_VERSION: u32 = 1;
/// The longest JSON in bytes: a control frame may be 8 MiB, and a spec of a thousand mounts is under one.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// Name of the stream that brings a node its tools, before the plan (the original KA method's session name).
pub const STAGE2_STREAM: &str = "getstage2";

/// The description of the golden drives that the server sends to each node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallSpec {
    /// Version of the format: [`SPEC_VERSION`].
    pub version: u32,
    /// The golden node's host name.
    pub golden_host: String,
    /// The drives that a clone has, in the order of their golden names.
    pub drives: Vec<DriveSpec>,
    /// The file systems and swap areas to make, in order of their ids.
    pub filesystems: Vec<FsSpec>,
    /// Trees that are copied file by file, parents before children.
    pub trees: Vec<TreeSpec>,
    /// Swap files to make anew.
    pub swap_files: Vec<SwapFileSpec>,
    /// Partitions copied byte by byte (`-D`).
    pub raw: Vec<RawSpec>,
    /// Every drive, partition and volume that the golden system may name.
    pub known: Vec<KnownDevice>,
    /// Directories whose contents stay at home (`-x`), as absolute paths below the golden root, raw bytes.
    pub excluded: Vec<Vec<u8>>,
    /// Paths that do not travel at all (btrfs snapshots), as absolute paths below the golden root, raw bytes.
    pub skipped: Vec<Vec<u8>>,
    /// True if clones get the golden UUIDs (`--keep-uuids`).
    pub keep_uuids: bool,
    /// Everything that makes a restored system boot as a clone of its own.
    pub boot: BootSpec,
    /// Condition on which a node reads back what it wrote (`--verify`).
    pub verify: ReadBackWhen,
    /// The data streams of the run, in order: `kainstall2`, `kainstall3`, …
    pub streams: Vec<StreamPlan>,
    /// Notes for the operator: what was left out of the clone and why.
    pub notes: Vec<String>,
}

/// A drive of the clone, by its golden name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriveSpec {
    /// The golden name without `/dev/`: `sda`, `nvme0n1`.
    pub name: String,
    /// Source of its partitions.
    pub source: layout::Source,
    /// Kind of the golden drive's table; MBR for a drive that only a desc file names.
    pub golden_table: TableKind,
    /// Size of the golden drive in bytes; 0 if there is none.
    pub golden_bytes: u64,
    /// Logical sector size of the golden drive in bytes.
    pub golden_sector_size: u32,
    /// The 446 bytes before the partition table (`-m`, `-M`).
    pub boot_code: Option<Vec<u8>>,
}

impl DriveSpec {
    /// Returns the boot code, if it has the right length.
    #[must_use]
    pub fn boot_code_array(&self) -> Option<&[u8; 446]> {
        self.boot_code.as_deref()?.try_into().ok()
    }
}

/// A partition of a clone: drive by golden name, and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Golden name of the drive.
    pub drive: String,
    /// Number in the table, from 1.
    pub partition: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&partition_name(&self.drive, self.partition))
    }
}

/// Returns the kernel's name of a partition: `sda1`, but `nvme0n1p1` after a digit.
#[must_use]
pub fn partition_name(drive: &str, number: u32) -> String {
    let separator = if drive.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{drive}{separator}{number}")
}

/// One tree of files, walked without crossing into another file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSpec {
    /// Number in the stream: the image's mount id.
    pub id: u32,
    /// Absolute path below the golden root, and below the clone's mount directory.
    pub path: String,
    /// Id of the file system it is on ([`FsSpec::id`]).
    pub filesystem: u32,
    /// Bytes in use on it, for progress; 0 if another tree already counts the same file system.
    pub used_bytes: u64,
}

/// A swap file that fstab names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapFileSpec {
    /// Absolute path in the clone.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Mode bits of the file.
    pub mode: u32,
}

/// A partition copied raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSpec {
    /// Partition of the clone that receives it.
    pub place: Place,
    /// Golden size in bytes; the clone's partition must be at least as large.
    pub bytes: u64,
    /// Golden device that it comes from.
    pub golden: GoldenDevice,
    /// The smallest block of the file system on it, in bytes; no disk with larger sectors can serve it. 0
    /// without a file system.
    pub block_size: u32,
}

/// One data stream of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlan {
    /// Session name of the stream: `kainstall2`.
    pub name: String,
    /// Contents of the stream.
    pub kind: StreamKind,
}

/// Contents of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// All of [`InstallSpec::trees`].
    Tree,
    /// The partition at this index of [`InstallSpec::raw`].
    Raw {
        /// Index into [`InstallSpec::raw`].
        index: u32,
    },
}

/// A spec that this node cannot use.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The spec has another version.
    #[error(
        "the server's install spec has version {found}, this client knows {SPEC_VERSION}: use the same release on both sides"
    )]
    Version {
        /// Version in the spec.
        found: u32,
    },
    /// The spec is longer than [`MAX_SPEC_BYTES`].
    #[error("the install spec is {bytes} bytes long, more than {MAX_SPEC_BYTES}")]
    TooLong {
        /// Length in bytes.
        bytes: usize,
    },
    /// The bytes are not the JSON of a spec.
    #[error("the install spec cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl InstallSpec {
    /// Makes a spec that installs nothing yet.
    #[must_use]
    pub fn empty(golden_host: String) -> Self {
        Self {
            version: SPEC_VERSION,
            golden_host,
            drives: Vec::new(),
            filesystems: Vec::new(),
            trees: Vec::new(),
            swap_files: Vec::new(),
            raw: Vec::new(),
            known: Vec::new(),
            excluded: Vec::new(),
            skipped: Vec::new(),
            keep_uuids: false,
            boot: BootSpec::default(),
            verify: ReadBackWhen::default(),
            streams: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Writes the spec as JSON.
    ///
    /// # Errors
    /// [`SpecError::TooLong`].
    pub fn to_json(&self) -> Result<Vec<u8>, SpecError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_SPEC_BYTES {
            Err(SpecError::TooLong { bytes: bytes.len() })
        } else {
            Ok(bytes)
        }
    }

    /// Reads the spec from JSON; another version is refused before anything else is looked at.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(SpecError::TooLong { bytes: bytes.len() });
        }
        let found = serde_json::from_slice::<OnlyVersion>(bytes)?.version;
        if found != SPEC_VERSION {
            return Err(SpecError::Version { found });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Returns the drive of that golden name.
    #[must_use]
    pub fn drive(&self, name: &str) -> Option<&DriveSpec> {
        self.drives.iter().find(|drive| drive.name == name)
    }

    /// Returns a golden device with all its names. In the fstab of a golden root elsewhere, a kernel name is
    /// the only thing known of a device; the survey found the other names on the device itself.
    #[must_use]
    pub fn completed(&self, golden: GoldenDevice) -> GoldenDevice {
        let mut found = self.known.iter().map(|known| &known.device);
        let Some(known) = found.find(|known| !golden.path.is_empty() && known.path == golden.path) else {
            return golden;
        };
        let mut aliases = golden.aliases;
        aliases.extend(known.aliases.clone());
        GoldenDevice {
            path: golden.path,
            uuid: golden.uuid.or_else(|| known.uuid.clone()),
            partuuid: golden.partuuid.or_else(|| known.partuuid.clone()),
            label: golden.label.or_else(|| known.label.clone()),
            partlabel: golden.partlabel.or_else(|| known.partlabel.clone()),
            aliases,
        }
    }

    /// Returns the file systems and swap areas of one drive.
    pub fn filesystems_of<'a>(&'a self, drive: &'a str) -> impl Iterator<Item = &'a FsSpec> {
        self.filesystems.iter().filter(move |fs| fs.place.drive == drive)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fs_type::FsType;

    fn sample() -> InstallSpec {
        let place = |partition| Place {
            drive: "nvme0n1".to_owned(),
            partition,
        };
        InstallSpec {
            filesystems: vec![
                FsSpec::new(0, place(1), FsType::Ext4),
                FsSpec::new(1, place(2), FsType::Swap),
            ],
            trees: vec![TreeSpec {
                id: 0,
                path: "/".to_owned(),
                filesystem: 0,
                used_bytes: 7,
            }],
            excluded: vec![b"/caf\xe9".to_vec()],
            keep_uuids: true,
            streams: vec![StreamPlan {
                name: "kainstall2".to_owned(),
                kind: StreamKind::Tree,
            }],
            notes: vec!["a note".to_owned()],
            ..InstallSpec::empty("golden".to_owned())
        }
    }

    #[test]
    fn a_spec_comes_back_as_it_went() {
        assert_eq!(
            InstallSpec::from_json(&sample().to_json().unwrap()).unwrap(),
            sample()
        );
    }

    #[test]
    fn a_truncated_spec_is_refused_at_every_byte() {
        let json = sample().to_json().unwrap();
        for end in 0..json.len() {
            assert!(InstallSpec::from_json(&json[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn another_version_and_too_many_bytes_are_named() {
        let newer = InstallSpec {
            version: SPEC_VERSION + 1,
            ..sample()
        };
        let error = InstallSpec::from_json(&newer.to_json().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("version 2") && error.contains("same release"),
            "{error}"
        );
        assert!(matches!(
            InstallSpec::from_json(&vec![b' '; MAX_SPEC_BYTES + 1]),
            Err(SpecError::TooLong { .. })
        ));
        let long = InstallSpec {
            notes: vec!["x".repeat(MAX_SPEC_BYTES)],
            ..sample()
        };
        assert!(matches!(long.to_json(), Err(SpecError::TooLong { .. })));
    }

    #[test]
    fn partition_names_are_the_kernels() {
        assert_eq!(partition_name("sda", 1), "sda1");
        assert_eq!(partition_name("nvme0n1", 12), "nvme0n1p12");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(InstallSpec::from_json(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..600, byte in any::<u8>()) {
            let mut json = sample().to_json().unwrap();
            let at = at % json.len();
            json[at] = byte;
            let _ = InstallSpec::from_json(&json);
        }
    }
}
