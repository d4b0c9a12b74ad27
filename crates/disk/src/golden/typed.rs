//! The one check of the operator's options about the golden node. No code behind it checks the spelling of an
//! option again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use super::device::BlockDevice;
use super::{BootCode, SurveyError, SurveyOptions};
use crate::desc::Desc;
use crate::table::BOOT_CODE_LEN;

/// The most bytes that are read of a desc file. A file for the most partitions that a table can hold has a
/// few KiB.
const MAX_DESC_BYTES: u64 = 1 << 20;

/// The kernel's name of a golden drive or partition: `sda`, `nvme0n1p2`.
///
/// The operator may have typed a link to it (`/dev/disk/by-id/…`). It need not exist: a desc file may
/// describe a drive that only the clones have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName(String);

impl DeviceName {
    /// Reads a name or path; `option` is the option that it was typed with, such as `-p`.
    ///
    /// # Errors
    /// [`SurveyError::Option`]: the text cannot name a device, or is a link that leads to none.
    pub fn parse(option: &str, text: &str) -> Result<Self, SurveyError> {
        let fail = |problem: &str| Err(SurveyError::option(format!("{option} {text:?}"), problem));
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let is_printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.starts_with(['.', '/']) || !is_printable {
            return fail("it is no drive or partition name: write it as in /dev, such as sda");
        }
        match BlockDevice::from_node(&Path::new("/dev").join(name)) {
            Some(device) => Ok(Self(device.name)),
            None if name.starts_with("disk/") => {
                fail("it leads to no device of the golden node: name one that lsblk lists")
            }
            None => Ok(Self(name.to_owned())),
        }
    }

    /// Returns the name, without `/dev/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<&str> for DeviceName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// The operator's options about the golden node, as they were typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct TypedOptions<'a> {
    /// `--root DIR`.
    pub root: &'a OsStr,
    /// `-p DRIVE DESC`: drive and desc file, in pairs.
    pub partitions: &'a [OsString],
    /// `-x DIR|DIR`.
    pub exclude: &'a [OsString],
    /// `-X DISK|DISK`.
    pub exclude_disks: &'a [String],
    /// `-m DRIVE`.
    pub boot_code: &'a [String],
    /// `-M DRIVE FILE`, in pairs.
    pub boot_code_file: &'a [OsString],
    /// `-D PARTITION`.
    pub raw: &'a [String],
}

/// The faults of several options.
#[derive(Debug, Default)]
struct Faults(Vec<SurveyError>);

impl Faults {
    fn keep<T: Default>(&mut self, checked: Result<T, SurveyError>) -> T {
        checked.map_err(|fault| self.0.push(fault)).unwrap_or_default()
    }
}

impl SurveyOptions {
    /// Checks the typed options. The caller sets the flags, which cannot be mistyped.
    ///
    /// # Errors
    /// Every fault, each with its option.
    pub fn parse(typed: &TypedOptions<'_>) -> Result<Self, Vec<SurveyError>> {
        let mut faults = Faults::default();
        // A default stands in for a faulty value until all faults are known; then they are returned instead.
        let options = Self {
            root: faults.keep(root(Path::new(typed.root))),
            drives: drives(&mut faults, typed.partitions),
            excluded_dirs: excluded_dirs(&mut faults, typed.exclude),
            excluded_disks: names(&mut faults, "-X", typed.exclude_disks),
            boot_code: boot_code(&mut faults, typed),
            raw: names(&mut faults, "-D", typed.raw),
            ..Self::default()
        };
        match faults.0.is_empty() {
            true => Ok(options),
            false => Err(faults.0),
        }
    }
}

fn root(typed: &Path) -> Result<PathBuf, SurveyError> {
    let fail = |problem: String| SurveyError::option(format!("--root {}", typed.display()), problem);
    let root = typed.canonicalize().map_err(|error| fail(error.to_string()))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(fail("it is not a directory".to_owned())),
    }
}

fn drives(faults: &mut Faults, pairs: &[OsString]) -> BTreeMap<DeviceName, Desc> {
    let mut drives = BTreeMap::new();
    for (typed, path) in two_by_two(pairs) {
        let name = DeviceName::parse("-p", &typed.to_string_lossy()).and_then(whole_drive);
        // Both are parsed, because each may have a fault of its own.
        let (name, desc) = (
            faults.keep(name.map(Some)),
            faults.keep(desc(Path::new(path)).map(Some)),
        );
        let Some((name, desc)) = name.zip(desc) else {
            continue;
        };
        if drives.insert(name.clone(), desc).is_some() {
            let problem = "the drive has a desc file already: give -p once for each drive";
            faults.0.push(SurveyError::option(format!("-p {name}"), problem));
        }
    }
    drives
}

fn whole_drive(name: DeviceName) -> Result<DeviceName, SurveyError> {
    match BlockDevice::from_name(name.as_str()).filter(|device| device.partition.is_some()) {
        None => Ok(name),
        Some(device) => {
            let problem = format!(
                "it is a partition; -p takes a whole drive, such as {}",
                device.drive()
            );
            Err(SurveyError::option(format!("-p {name}"), problem))
        }
    }
}

fn desc(path: &Path) -> Result<Desc, SurveyError> {
    let fail = |problem: String| SurveyError::option(format!("-p: desc file {}", path.display()), problem);
    let bytes = read(path, MAX_DESC_BYTES).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > MAX_DESC_BYTES {
        return Err(fail("it is too long for a desc file".to_owned()));
    }
    Ok(Desc::parse_bytes(&bytes, &path.display().to_string())?)
}

/// Splits `a|b` and requires absolute paths: there is no directory that a relative path could start from.
fn excluded_dirs(faults: &mut Faults, lists: &[OsString]) -> Vec<PathBuf> {
    let parts = lists
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b'|'));
    let typed = parts.filter(|part| !part.is_empty());
    let dirs = typed.filter_map(|part| {
        let dir = PathBuf::from(OsString::from_vec(part.to_vec()));
        faults.keep(excluded_dir(&dir).map(Some))
    });
    dirs.collect::<BTreeSet<_>>().into_iter().collect()
}

fn excluded_dir(typed: &Path) -> Result<PathBuf, SurveyError> {
    let fail = |problem: &str| Err(SurveyError::option(format!("-x {}", typed.display()), problem));
    if !typed.is_absolute() {
        return fail("it is not an absolute path; begin it with /");
    }
    if typed.components().any(|part| part == Component::ParentDir) {
        return fail("it goes up with `..`; write the path itself");
    }
    if typed == Path::new("/") {
        return fail("it would leave out everything");
    }
    // Doubled and trailing slashes go, so that it compares as a path.
    Ok(typed.components().collect())
}

/// Parses device names, also several between bars, each once.
fn names(faults: &mut Faults, option: &str, lists: &[String]) -> Vec<DeviceName> {
    let typed = lists.iter().flat_map(|list| list.split('|')).map(str::trim);
    let names = typed
        .filter(|name| !name.is_empty())
        .filter_map(|name| faults.keep(DeviceName::parse(option, name).map(Some)));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

fn boot_code(faults: &mut Faults, typed: &TypedOptions<'_>) -> Vec<BootCode> {
    let of_drives = names(faults, "-m", typed.boot_code);
    let mut all: Vec<_> = of_drives.into_iter().map(BootCode::OfDrive).collect();
    for (drive, file) in two_by_two(typed.boot_code_file) {
        let drive = faults.keep(DeviceName::parse("-M", &drive.to_string_lossy()).map(Some));
        let code = faults.keep(boot_code_file(Path::new(file)).map(Some));
        let Some((drive, code)) = drive.zip(code) else {
            continue;
        };
        if all.iter().any(|other| *other.drive() == drive) {
            let problem = "boot code of this drive is given twice; use -m or -M once for a drive";
            faults.0.push(SurveyError::option(format!("-M {drive}"), problem));
        }
        all.push(BootCode::FromFile {
            drive,
            file: PathBuf::from(file),
            code: Box::new(code),
        });
    }
    all
}

fn boot_code_file(path: &Path) -> Result<[u8; BOOT_CODE_LEN], SurveyError> {
    let fail =
        |problem: String| SurveyError::option(format!("-M: boot code file {}", path.display()), problem);
    // A whole disk given by mistake is not read: one byte too many reveals it.
    let bytes = read(path, BOOT_CODE_LEN as u64).map_err(|error| fail(error.to_string()))?;
    let length = path.metadata().map_or(bytes.len() as u64, |meta| meta.len());
    bytes.try_into().map_err(|_| {
        fail(format!(
            "it has {length} bytes, but boot code is exactly {BOOT_CODE_LEN} bytes: take the part of a master boot record \
             before its partition table (dd bs={BOOT_CODE_LEN} count=1)"
        ))
    })
}

/// Reads a file up to `most` bytes and one more, which shows that it is longer.
fn read(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn two_by_two(pairs: &[OsString]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    pairs
        .chunks_exact(2)
        .map(|pair| (pair[0].as_os_str(), pair[1].as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &TypedOptions<'_>) -> Result<SurveyOptions, Vec<String>> {
        let typed = TypedOptions {
            root: OsStr::new("/"),
            ..*typed
        };
        let faults = |faults: Vec<SurveyError>| faults.iter().map(ToString::to_string).collect();
        SurveyOptions::parse(&typed).map_err(faults)
    }

    #[test]
    fn every_fault_is_said_in_one_go_with_its_option() {
        let owned = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let faults = parse(&TypedOptions {
            partitions: &owned(&["s da", "/no/such/desc"]),
            exclude: &owned(&["tmp|/", "/a/../b"]),
            exclude_disks: &["sdb|/dev/".to_owned()],
            boot_code_file: &owned(&["sda", "/no/such/mbr"]),
            raw: &["disk/by-id/no-such-disk".to_owned()],
            ..TypedOptions::default()
        });
        let faults = faults.unwrap_err();
        let wanted = [
            "-p \"s da\": ",
            "-p: desc file /no/such/desc: ",
            "-x tmp: ",
            "-x /: ",
            "-x /a/../b: ",
            "-X \"/dev/\": ",
            "-M: boot code file /no/such/mbr: ",
            "-D \"disk/by-id/no-such-disk\": ",
        ];
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
        for (fault, wanted) in faults.iter().zip(wanted) {
            assert!(fault.starts_with(wanted), "{fault}");
        }
    }

    #[test]
    fn names_are_those_of_the_kernel_each_once() {
        let options = parse(&TypedOptions {
            exclude_disks: &["sdy|/dev/sdz".to_owned(), "sdy".to_owned()],
            raw: &["/dev/sdz9".to_owned()],
            ..TypedOptions::default()
        });
        let options = options.unwrap();
        assert_eq!(options.excluded_disks, ["sdy", "sdz"]);
        assert_eq!(options.raw, ["sdz9"]);
    }
}
