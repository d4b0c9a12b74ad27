//! UUID, label and type of a device, as blkid(8) finds them on the device itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ka_host::run::Tool;
use serde::{Deserialize, Serialize};

use super::FsError;

/// Time limit of blkid: a disk that does not answer within it is broken.
const BLKID_LIMIT: Duration = Duration::from_secs(60);
/// blkid's exit code for "nothing found", also on an empty device.
const NOTHING_FOUND: i32 = 2;
/// blkid's exit code for "several signatures contradict each other".
const AMBIVALENT: i32 = 8;

/// UUID, label and type of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// Device node.
    pub path: PathBuf,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// Type as blkid names it: `ext4`, `swap`, `LVM2_member`, `crypto_LUKS`.
    pub fstype: Option<String>,
    /// Version of the type, if blkid tells one: `FAT32`.
    pub version: Option<String>,
    /// The smallest block that the file system reads or writes, in bytes.
    pub block_size: Option<u32>,
}

/// Asks blkid what is on a device, without blkid's cache and without udev.
///
/// # Errors
/// [`FsError::Run`] when blkid is missing or cannot read the device.
pub fn probe(device: &Path) -> Result<DeviceIdentity, FsError> {
    let tool = Tool::new("blkid").describe(format!("looking for a file system on {}", device.display()));
    // Without -d, unusual characters of a label come as hexadecimal escapes.
    let tool = tool.args(["-p", "-d", "-o", "export", "--"]).arg(device);
    let output = tool
        .accept(NOTHING_FOUND)
        .accept(AMBIVALENT)
        .timeout(BLKID_LIMIT)
        .run()?;
    Ok(parse_export(device, &output.text()))
}

/// Asks blkid what is in the `len_bytes` of a disk or image that begin at `start_bytes`. The partition needs
/// no device node.
///
/// # Errors
/// As [`probe`].
pub fn probe_area(disk: &Path, start_bytes: u64, len_bytes: u64) -> Result<DeviceIdentity, FsError> {
    let described = format!("looking for a file system on {}", disk.display());
    let (offset, size) = (start_bytes.to_string(), len_bytes.to_string());
    let output = Tool::new("blkid")
        .describe(described)
        .args(["-p", "-d", "-o", "export", "-O", &offset, "-S", &size, "--"])
        .arg(disk)
        .accept(NOTHING_FOUND)
        .accept(AMBIVALENT)
        .timeout(BLKID_LIMIT)
        .run()?;
    Ok(parse_export(disk, &output.text()))
}

fn parse_export(device: &Path, text: &str) -> DeviceIdentity {
    let values: HashMap<&str, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, unquoted(value)))
        .collect();
    let value = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
    DeviceIdentity {
        path: device.to_owned(),
        uuid: value("UUID"),
        label: value("LABEL"),
        fstype: value("TYPE"),
        version: value("VERSION"),
        block_size: value("BLOCK_SIZE").and_then(|size| size.parse().ok()),
    }
}

/// Undoes the shell escapes of the export format: a backslash before every unusual character.
fn unquoted(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            c
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_exports_is_understood() {
        let text =
            "DEVNAME=/dev/loop0\nLABEL=my\\ disk\nUUID=973A-AFD3\nVERSION=FAT16\nBLOCK_SIZE=512\nTYPE=vfat\n";
        let found = parse_export(Path::new("/dev/loop0"), text);
        assert_eq!(found.label.as_deref(), Some("my disk"));
        assert_eq!(
            (found.uuid.as_deref(), found.block_size),
            (Some("973A-AFD3"), Some(512))
        );
        assert_eq!(
            (found.fstype.as_deref(), found.version.as_deref()),
            (Some("vfat"), Some("FAT16"))
        );
    }

    #[test]
    fn an_empty_device_has_no_identity() {
        let found = parse_export(Path::new("/dev/loop0"), "");
        assert_eq!(
            found,
            DeviceIdentity {
                path: PathBuf::from("/dev/loop0"),
                ..DeviceIdentity::default()
            }
        );
    }
}
