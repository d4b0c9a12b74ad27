//! The restored system as a place to run its own programs in: /proc, /sys, /run, and a /dev with this clone's
//! disks and no others.
//!
//! The disks get their links below `/dev/disk` here: there is no udev in a boot image, and without them
//! `update-grub` writes `root=/dev/sdX` instead of `root=UUID=…`. With a /dev of our own nothing of that is
//! seen outside, and a program in the clone (os-prober, say) can reach no disk that is not being cloned to.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use ka_disk::fstab::{Tag, TaggedName};
use ka_host::mount::{self, MountGuard};
use ka_host::run::{self, Tool};
use rustix::fs::{CWD, FileType, Mode, major, makedev, minor, mknodat};

use crate::bootloader::pe;
use crate::error::PostError;
use crate::facts::{Facts, Firmware};
use crate::fstab::CloneDevice;
use crate::root::Root;

/// The directory where the kernel shows the firmware's variables.
const EFIVARS: &str = "sys/firmware/efi/efivars";

/// Character devices that programs expect: name, major and minor number (Linux' `devices.txt`).
const CHARACTER_DEVICES: [(&str, u32, u32); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
];

/// Everything mounted; unmounted in reverse order when dropped.
#[derive(Debug)]
#[must_use = "dropping it unmounts"]
pub struct Chroot {
    path: PathBuf,
    /// In the order of mounting.
    guards: Vec<MountGuard>,
    has_variables: bool,
}

impl Chroot {
    /// Mounts the file systems that programs need below the clone's root.
    ///
    /// # Errors
    /// A directory is missing in the clone, or a mount failed. The earlier mounts are undone.
    pub fn enter(root: &Root, facts: &Facts) -> Result<Self, PostError> {
        let path = root
            .real_dir(Path::new("/"))
            .map_err(PostError::file("entering", "/"))?;
        let mut chroot = Self {
            path,
            guards: Vec::new(),
            has_variables: false,
        };
        chroot.mount(root, "/proc", "proc", "nosuid,nodev,noexec")?;
        chroot.mount(root, "/sys", "sysfs", "nosuid,nodev,noexec")?;
        chroot.mount(root, "/dev", "tmpfs", "nosuid,noexec,mode=0755,size=8M")?;
        chroot.mount(root, "/run", "tmpfs", "nosuid,nodev,mode=0755")?;
        let dev = chroot.path.join("dev");
        fill_dev(&dev, facts).map_err(PostError::file("filling", "/dev"))?;
        chroot.mount(
            root,
            "/dev/pts",
            "devpts",
            "nosuid,noexec,mode=0620,ptmxmode=0666,newinstance",
        )?;
        if facts.firmware == Firmware::Uefi {
            chroot.mount_efivars(root)?;
        }
        Ok(chroot)
    }

    /// Returns a program of the clone, to be run there.
    pub fn tool(&self, program: &str) -> Tool {
        Tool::new(program).chroot(&self.path)
    }

    /// Ends the programs that the clone's programs have left running, also in sessions of their own. Returns
    /// their names.
    pub fn end_programs(&self) -> Vec<String> {
        run::end_programs_in(&self.path)
    }

    /// Ends the programs that still run there, unmounts, and returns the result.
    ///
    /// # Errors
    /// The first mount that stayed. The others are tried all the same.
    pub fn leave(mut self) -> Result<(), PostError> {
        self.end_programs();
        let mut first_error = None;
        while let Some(guard) = self.guards.pop() {
            if let Err(error) = guard.unmount() {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn mount(&mut self, root: &Root, at: &str, fstype: &str, options: &str) -> Result<(), PostError> {
        // Where a link of the clone's leads inside the clone.
        root.make_dirs(Path::new(at))
            .map_err(PostError::file("making", at))?;
        let target = root
            .real_dir(Path::new(at))
            .map_err(PostError::file("entering", at))?;
        self.guards
            .push(MountGuard::mount(Path::new(fstype), &target, fstype, options)?);
        Ok(())
    }

    /// The variables need a driver that is a module in many kernels; the clone has it for the running one.
    fn mount_efivars(&mut self, root: &Root) -> Result<(), PostError> {
        let target = self.path.join(EFIVARS);
        if !target.is_dir() {
            self.load_efivarfs();
        }
        if !target.is_dir() {
            // Without them everything but the boot entry can be done. The step that makes the entry reports
            // it.
            tracing::debug!("this kernel gives no access to the firmware's variables");
            return Ok(());
        }
        if self
            .mount(root, &format!("/{EFIVARS}"), "efivarfs", "nosuid,nodev,noexec")
            .is_err()
        {
            self.load_efivarfs();
            let mounted = self.mount(root, &format!("/{EFIVARS}"), "efivarfs", "nosuid,nodev,noexec");
            if let Err(error) = mounted {
                tracing::debug!(%error, "efivarfs");
                return Ok(());
            }
        }
        self.has_variables = true;
        Ok(())
    }

    /// True if the firmware's variables can be reached: not with `efi=noruntime`, which is what real-time
    /// kernels have by default.
    #[must_use]
    pub fn has_variables(&self) -> bool {
        self.has_variables
    }

    fn load_efivarfs(&self) {
        let loaded = self
            .tool("modprobe")
            .arg("efivarfs")
            .describe("loading efivarfs")
            .run();
        if let Err(error) = loaded {
            tracing::debug!(%error, "efivarfs");
        }
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        if !self.guards.is_empty() {
            self.end_programs();
        }
        // A vector drops from its beginning, but the last mount must go first.
        while let Some(guard) = self.guards.pop() {
            drop(guard);
        }
    }
}

fn fill_dev(dev: &Path, facts: &Facts) -> io::Result<()> {
    for (name, major, minor) in CHARACTER_DEVICES {
        let mode = Mode::from_raw_mode(if name == "console" { 0o600 } else { 0o666 });
        mknodat(
            CWD,
            dev.join(name),
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )?;
        rustix::fs::chmod(dev.join(name), mode)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))?;
    fs::create_dir(dev.join("shm"))?;
    fs::create_dir(dev.join("block"))?;
    for disk in &facts.disks {
        block_node(dev, &disk.path)?;
    }
    for device in &facts.partitions {
        block_node(dev, &device.path)?;
        links(dev, device)?;
    }
    Ok(())
}

/// Makes the same node as outside, under the same name, and udev's link by its number. From it dracut finds
/// the root file system and the drivers that it needs.
fn block_node(dev: &Path, path: &str) -> io::Result<()> {
    let Some(name) = path.strip_prefix("/dev/") else {
        return Ok(());
    };
    let node = dev.join(name);
    let number = fs::metadata(path)?.rdev();
    if let Some(parent) = node.parent() {
        fs::create_dir_all(parent)?;
    }
    mknodat(
        CWD,
        node,
        FileType::BlockDevice,
        Mode::from_raw_mode(0o660),
        number,
    )?;
    let by_number = dev.join(format!("block/{}:{}", major(number), minor(number)));
    symlink(path, by_number)
}

/// Makes the links that udev would make from the partition's contents.
fn links(dev: &Path, device: &CloneDevice) -> io::Result<()> {
    for (tag, value) in [
        (Tag::Uuid, &device.uuid),
        (Tag::PartUuid, &device.partuuid),
        (Tag::Label, &device.label),
        (Tag::PartLabel, &device.partlabel),
    ] {
        let Some(value) = value.clone().filter(|value| !value.is_empty()) else {
            continue;
        };
        let link = TaggedName {
            tag,
            is_link: true,
            value,
        }
        .to_string();
        let Some(name) = link.strip_prefix("/dev/") else {
            continue;
        };
        let link = dev.join(name);
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent)?;
        }
        match symlink(&device.path, &link) {
            // Two file systems of one label: the first has it, as with udev.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the state of Secure Boot; `None` where the firmware has no such thing or does not tell.
///
/// The variable is five bytes: its attributes, then 1 for on (UEFI 2.10 section 3.3).
#[must_use]
pub fn secure_boot(sys: &Path) -> Option<bool> {
    const VARIABLE: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = fs::read(sys.join(VARIABLE)).ok()?;
    bytes.get(4).map(|byte| *byte == 1)
}

/// Returns the least generations that the firmware's list of revocations demands, by component (shim's
/// `SBAT.md`); empty where there is no list. The variable is four bytes of attributes, then lines.
#[must_use]
pub fn sbat_level(sys: &Path) -> Vec<(String, u32)> {
    const VARIABLE: &str = "firmware/efi/efivars/SbatLevelRT-605dab50-e046-4300-abb6-3dd810dd8b23";
    let bytes = fs::read(sys.join(VARIABLE)).unwrap_or_default();
    pe::sbat_lines(bytes.get(4..).unwrap_or_default())
}

/// Returns the EFI program that the firmware has started this machine by, as its boot entry has it:
/// `\EFI\debian\shimx64.efi`. None where it was booted otherwise, or the firmware does not tell.
#[must_use]
pub fn started_program(sys: &Path) -> Option<String> {
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let variable = |name: &str| fs::read(sys.join(format!("firmware/efi/efivars/{name}-{GLOBAL}"))).ok();
    let current = variable("BootCurrent")?;
    let number = u16::from_le_bytes(current.get(4..6)?.try_into().ok()?);
    load_option_file(variable(&format!("Boot{number:04X}"))?.get(4..)?)
}

/// Returns the file in a load option (UEFI 2.10 section 3.1.3): attributes, length of the paths, a label in
/// UCS-2, then device path nodes, of which the file is of type 4, subtype 4 (section 10.3.5.4).
fn load_option_file(option: &[u8]) -> Option<String> {
    let paths_len = usize::from(u16::from_le_bytes(option.get(4..6)?.try_into().ok()?));
    let label_len = option.get(6..)?.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let mut nodes = option.get(6 + 2 * (label_len + 1)..)?;
    nodes = nodes.get(..paths_len).unwrap_or(nodes);
    while let Some([kind, subkind, low, high]) = nodes.first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let body = nodes.get(4..len)?;
        if (*kind, *subkind) == (4, 4) {
            let units = body
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            return Some(String::from_utf16_lossy(&units));
        }
        nodes = nodes.get(len..)?;
    }
    None
}

/// Mounts the firmware's variables in their place on this node, if they are not mounted. Best effort, for
/// [`secure_boot`].
pub fn mount_efivars_here() {
    let target = Path::new("/").join(EFIVARS);
    let is_empty = fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty
        && let Err(error) = mount::mount(Path::new("efivarfs"), &target, "efivarfs", "nosuid,nodev,noexec")
    {
        tracing::debug!(%error, "efivarfs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As firmware keeps `HD(1,GPT,…)/File(\EFI\debian\shimx64.efi)` under the label `debian`.
    fn load_option(label: &str, file: &str) -> Vec<u8> {
        let wide = |text: &str| {
            text.encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>()
        };
        let node = |kind: u8, subkind: u8, body: &[u8]| {
            let len = u16::try_from(body.len() + 4).unwrap().to_le_bytes();
            [&[kind, subkind, len[0], len[1]], body].concat()
        };
        let paths = [
            node(4, 1, &[7; 38]),
            node(4, 4, &wide(file)),
            node(0x7f, 0xff, &[]),
        ]
        .concat();
        let len = u16::try_from(paths.len()).unwrap().to_le_bytes();
        [&1_u32.to_le_bytes()[..], &len, &wide(label), &paths].concat()
    }

    #[test]
    fn the_program_that_started_this_machine_is_read_from_the_firmwares_variables() {
        let sys = tempfile::tempdir().unwrap();
        let vars = sys.path().join("firmware/efi/efivars");
        fs::create_dir_all(&vars).unwrap();
        assert_eq!(started_program(sys.path()), None);
        let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let write = |name: &str, bytes: &[u8]| {
            fs::write(vars.join(name), [&[7, 0, 0, 0], bytes].concat()).unwrap();
        };
        let file = "\\EFI\\ubuntu\\shimx64.efi";
        write(&format!("BootCurrent-{global}"), &[0x1a, 0]);
        write(&format!("Boot001A-{global}"), &load_option("ubuntu", file));
        assert_eq!(started_program(sys.path()).as_deref(), Some(file));
        write(
            "SbatLevelRT-605dab50-e046-4300-abb6-3dd810dd8b23",
            b"sbat,1,2024010900\nshim,4\ngrub,4\n",
        );
        assert_eq!(
            sbat_level(sys.path()),
            [("shim".to_owned(), 4), ("grub".to_owned(), 4)]
        );
    }

    #[test]
    fn a_load_option_that_is_cut_off_names_no_other_file() {
        let file = "\\EFI\\x\\y.efi";
        let whole = load_option("a", file);
        for len in 0..whole.len() {
            let read = load_option_file(&whole[..len]);
            assert!(read.is_none() || read.as_deref() == Some(file), "{len}");
        }
    }
}
