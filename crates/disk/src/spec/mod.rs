//! What a run installs: everything a node must know about the golden node before the first byte of data.
//!
//! The server makes an [`InstallSpec`] with [`crate::golden::survey`] and sends it as JSON to every node; the
//! node makes its plans from it. Nothing here reads a disk. The transport carries it as opaque bytes.

mod boot;
mod features;
mod filesystem;
mod fit;
mod fs_type;
mod loader;
mod read_back;

use serde::{Deserialize, Serialize};

pub use boot::{BeaconSpec, BootSpec};
pub use features::{BtrfsFeatures, ExtFeatures, F2fsFeatures, FatFeatures, FsFeatures, XfsFeatures};
pub use filesystem::{FsSpec, GoldenDevice, KnownDevice, MountSpec};
pub use fit::{FitError, check_fit, needed_bytes};
pub use fs_type::{FsType, UnknownFsType};
pub use loader::{GoldenBoot, Loader, SbatImage, UnknownLoader};
pub use read_back::ReadBackWhen;

use crate::layout;
use crate::table::TableKind;

/// Version of the JSON; a node refuses another one.
pub const SPEC_VERSION: u32 = 1;
/// The JSON is at most this long: a control frame may be 8 MiB, and a spec of a thousand mounts is under one.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// Name of the stream that brings a node its tools, before the plan (the original's session of that name).
pub const STAGE2_STREAM: &str = "getstage2";

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallSpec {
    /// [`SPEC_VERSION`].
    pub version: u32,
    /// The golden node's host name.
    pub golden_host: String,
    /// The drives that a clone has, in the order of their golden names.
    pub drives: Vec<DriveSpec>,
    /// The file systems and swap areas to make, in order of their ids.
    pub filesystems: Vec<FsSpec>,
    /// What is copied file by file, parents before children.
    pub trees: Vec<TreeSpec>,
    /// Swap files to make anew.
    pub swap_files: Vec<SwapFileSpec>,
    /// Partitions copied byte by byte (`-D`).
    pub raw: Vec<RawSpec>,
    /// Every drive, partition and volume that the golden system may name; a server of before has none.
    #[serde(default)]
    pub known: Vec<KnownDevice>,
    /// Directories whose contents stay at home (`-x`), as absolute paths below the golden root, raw bytes.
    pub excluded: Vec<Vec<u8>>,
    /// What does not travel at all (btrfs snapshots), as absolute paths below the golden root, raw bytes.
    #[serde(default)]
    pub skipped: Vec<Vec<u8>>,
    /// Clones get the golden UUIDs (`--keep-uuids`).
    pub keep_uuids: bool,
    /// What `-r` asked for.
    pub boot_loader: Option<String>,
    /// What makes a restored system a clone of its own that boots; a server of before has none.
    #[serde(default)]
    pub boot: BootSpec,
    /// When a node reads back what it wrote (`--verify`); a server of before does not say.
    #[serde(default)]
    pub verify: ReadBackWhen,
    /// The data streams of the run, in order: `kainstall2`, `kainstall3`, …
    pub streams: Vec<StreamPlan>,
    /// What the operator should know: what was left out of the clone and why.
    pub notes: Vec<String>,
}

/// A drive of the clone, by its golden name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriveSpec {
    /// The golden name without `/dev/`: `sda`, `nvme0n1`.
    pub name: String,
    /// Where its partitions come from.
    pub source: layout::Source,
    /// The kind of the golden drive's table; MBR where a desc file names a drive that the golden node has not.
    pub golden_table: TableKind,
    /// Size of the golden drive in bytes; 0 where there is none.
    pub golden_bytes: u64,
    /// Logical sector size of the golden drive in bytes.
    pub golden_sector_size: u32,
    /// The 446 bytes before the partition table (`-m`, `-M`).
    pub boot_code: Option<Vec<u8>>,
}

impl DriveSpec {
    /// The boot code, where there is one of the right length.
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

/// The kernel's name of a partition: `sda1`, but `nvme0n1p1` after a digit.
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
    /// Its number in the stream: the image's mount id.
    pub id: u32,
    /// Absolute path below the golden root, and below the clone's mount directory.
    pub path: String,
    /// The file system it is on.
    pub filesystem: u32,
    /// Bytes in use on it, for progress; 0 where it shares a file system that another tree counts.
    pub used_bytes: u64,
}

/// A swap file that fstab names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapFileSpec {
    /// Absolute path in the clone.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Mode bits.
    pub mode: u32,
}

/// A partition copied raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSpec {
    /// Where it goes.
    pub place: Place,
    /// Its golden size in bytes; the clone's partition must be at least as large.
    pub bytes: u64,
    /// Where it comes from.
    pub golden: GoldenDevice,
    /// The smallest block of the file system on it, in bytes; no disk with larger sectors can serve it. 0 where
    /// there is none.
    pub block_size: u32,
}

/// One data stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlan {
    /// Its session name: `kainstall2`.
    pub name: String,
    /// What it carries.
    pub kind: StreamKind,
}

/// What a stream carries.
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

/// A spec that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It is of another version.
    #[error(
        "the server's install spec has version {found}, this client knows {SPEC_VERSION}: use the same release on both sides"
    )]
    Version {
        /// What it says.
        found: u32,
    },
    /// It is longer than [`MAX_SPEC_BYTES`].
    #[error("the install spec is {bytes} bytes long, more than {MAX_SPEC_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is no spec at all.
    #[error("the install spec cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl InstallSpec {
    /// A spec that installs nothing yet.
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
            boot_loader: None,
            boot: BootSpec::default(),
            verify: ReadBackWhen::default(),
            streams: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// As JSON bytes.
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

    /// From JSON bytes; another version is refused before anything else is looked at.
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

    /// The drive of that golden name.
    #[must_use]
    pub fn drive(&self, name: &str) -> Option<&DriveSpec> {
        self.drives.iter().find(|drive| drive.name == name)
    }

    /// All names of a golden device. One that fstab of a golden root elsewhere names as the kernel does is known by that
    /// name alone; what else it is called the survey found on the device itself.
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

    /// The file systems and swap areas of one drive.
    pub fn filesystems_of<'a>(&'a self, drive: &'a str) -> impl Iterator<Item = &'a FsSpec> {
        self.filesystems.iter().filter(move |fs| fs.place.drive == drive)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            boot_loader: Some("grub".to_owned()),
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
