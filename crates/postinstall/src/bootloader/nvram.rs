//! The firmware's boot menu (UEFI 2.10 section 3.1), through efibootmgr: an entry for the clone's loader,
//! checked by reading it back.
//!
//! Two kinds of entries are removed: those of overwritten partitions, and those of our name whose partition
//! is on no disk. A machine that is cloned every night would fill the firmware's memory with them. Those of
//! disks that were kept stay, whatever they are called. A machine that was booted from the network keeps the
//! network first, and gets the disk next. So it is cloned again when it is armed; otherwise the boot server
//! sends it on to its disk.

use crate::chroot::Chroot;
use crate::error::PostError;
use crate::facts::{Facts, KnownPartitions};
use crate::files::{Files, text};
use crate::plan::{Command, Destination};

use super::install::LOADER_LIMIT;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BootEntry {
    /// Four hexadecimal digits.
    number: String,
    label: String,
    /// Its device path, as efibootmgr writes it.
    path: String,
}

/// The boot menu as efibootmgr shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Menu {
    current: Option<String>,
    order: Vec<String>,
    entries: Vec<BootEntry>,
}

/// Makes the entry for `loader` (a path in the clone, below `esp`) and reads it back.
pub(super) fn enter(
    clone: &Destination<'_>,
    facts: &Facts,
    esp: &str,
    loader: &str,
    told: &mut dyn FnMut(&str),
) -> Result<(), PostError> {
    if !clone.chroot.is_some_and(Chroot::has_variables) {
        return Err(PostError::Wrong(
            "no boot entry: this kernel gives no access to the firmware's variables (efi=noruntime, or no efivarfs)".to_owned(),
        ));
    }
    let mount = facts
        .esp()
        .filter(|mount| mount.path == esp)
        .ok_or_else(|| PostError::Wrong(format!("nothing is mounted at {esp}")))?;
    let label = label(clone.root, loader);
    let path = firmware_path(esp, loader);
    let before = Menu::read(clone)?;
    remove_dead(
        clone,
        facts,
        &before,
        &label,
        mount.device.partuuid.as_deref(),
        told,
    )?;
    let number = mount.partition.to_string();
    efibootmgr(
        clone,
        "making a boot entry",
        &[
            "-q",
            "-c",
            "-d",
            &mount.disk,
            "-p",
            &number,
            "-L",
            &label,
            "-l",
            &path,
        ],
    )?;
    let after = Menu::read(clone)?;
    let partuuid = mount.device.partuuid.as_deref().unwrap_or_default();
    let made = after.find(&label, partuuid, &path).ok_or_else(|| {
        PostError::Wrong(format!(
            "the firmware has not kept the boot entry {label} for {path} on partition {number} of {}",
            mount.disk
        ))
    })?;
    if let Some(order) = after.with_network_first(&before, &made.number) {
        efibootmgr(
            clone,
            "ordering the boot entries",
            &["-q", "-o", &order.join(",")],
        )?;
    }
    let order = Menu::read(clone)?.order;
    if !order.contains(&made.number) {
        return Err(PostError::Wrong(format!(
            "the firmware has not taken boot entry {} into its order",
            made.number
        )));
    }
    told(&format!(
        "boot entry {} {label}: {path} on partition {number} of {}; order {}",
        made.number,
        mount.disk,
        order.join(",")
    ));
    Ok(())
}

/// Removes the entries that lead nowhere any more.
fn remove_dead(
    clone: &Destination<'_>,
    facts: &Facts,
    before: &Menu,
    label: &str,
    ours: Option<&str>,
    told: &mut dyn FnMut(&str),
) -> Result<(), PostError> {
    let known = &facts.known_partitions;
    for old in before
        .entries
        .iter()
        .filter(|entry| entry.is_dead(label, ours, known))
    {
        efibootmgr(
            clone,
            "removing an old boot entry",
            &["-q", "-b", &old.number, "-B"],
        )?;
        told(&format!(
            "boot entry {} {} removed: {} is no more",
            old.number, old.label, old.path
        ));
    }
    Ok(())
}

impl BootEntry {
    /// Returns the partition that it names, as the kernel calls it (PARTUUID): `HD(1,GPT,GUID,…)`, and of an
    /// MBR `HD(1,MBR,0x0badcafe,…)`.
    fn partuuid(&self) -> Option<String> {
        let (_, rest) = self.path.split_once("HD(")?;
        let mut fields = rest.split([',', ')']);
        let (number, kind, id) = (fields.next()?, fields.next()?, fields.next()?);
        let id = id.trim().to_ascii_lowercase();
        match kind {
            "GPT" => Some(id),
            "MBR" => {
                let signature = u32::from_str_radix(id.strip_prefix("0x").unwrap_or(&id), 16).ok()?;
                Some(format!(
                    "{signature:08x}-{:02x}",
                    number.trim().parse::<u32>().ok()?
                ))
            }
            _ => None,
        }
    }

    /// True if the partition that it names is gone: overwritten by this clone, or, of entries of our name, on
    /// no disk of this machine. What names the clone's own partition is made anew.
    fn is_dead(&self, label: &str, ours: Option<&str>, known: &KnownPartitions) -> bool {
        let Some(id) = self.partuuid() else { return false };
        let is_in = |list: &[String]| list.iter().any(|known| known.eq_ignore_ascii_case(&id));
        let is_ours = ours.is_some_and(|ours| ours.eq_ignore_ascii_case(&id));
        if self.label == label && is_ours || is_in(&known.erased) {
            return true;
        }
        let kept = known.kept.as_ref();
        self.label == label && kept.is_some_and(|kept| !is_in(kept))
    }
}

impl Menu {
    fn read(clone: &Destination<'_>) -> Result<Self, PostError> {
        efibootmgr(clone, "reading the boot entries", &["-v"]).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut menu = Self::default();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("BootCurrent:") {
                menu.current = Some(number.trim().to_owned());
            } else if let Some(order) = line.strip_prefix("BootOrder:") {
                menu.order = order.split(',').map(|number| number.trim().to_owned()).collect();
            } else if let Some(entry) = parse_entry(line) {
                menu.entries.push(entry);
            }
        }
        menu
    }

    /// Returns the entry with these values.
    fn find(&self, label: &str, partuuid: &str, path: &str) -> Option<&BootEntry> {
        // Of an MBR's partition, the firmware knows the disk signature alone: `HD(1,MBR,0x0badcafe,…)`.
        let (id, path) = (partuuid.to_ascii_lowercase(), path.to_ascii_lowercase());
        let id = if id.len() < 36 {
            id.split('-').next().unwrap_or_default()
        } else {
            &id
        };
        self.entries.iter().find(|entry| {
            let device = entry.path.to_ascii_lowercase();
            entry.label == label && !id.is_empty() && device.contains(id) && device.contains(&path)
        })
    }

    /// Returns the order in which the network entry that booted this machine stays first and `made` comes
    /// next; `None` where the order is good as it is.
    fn with_network_first(&self, before: &Self, made: &str) -> Option<Vec<String>> {
        let current = before.current.as_deref()?;
        let entry = before.entries.iter().find(|entry| entry.number == current)?;
        let network = ["/MAC(", "/IPv4(", "/IPv6(", "/Uri("]
            .iter()
            .any(|part| entry.path.contains(part));
        if !network || before.order.first().map(String::as_str) != Some(current) {
            return None;
        }
        let rest = self
            .order
            .iter()
            .filter(|number| *number != current && *number != made);
        let order: Vec<String> = [current, made]
            .into_iter()
            .map(ToOwned::to_owned)
            .chain(rest.cloned())
            .collect();
        (order != self.order).then_some(order)
    }
}

/// `Boot0003* debian<tab>HD(1,GPT,…)/File(\EFI\debian\shimx64.efi)`; the star says active.
fn parse_entry(line: &str) -> Option<BootEntry> {
    let rest = line.strip_prefix("Boot")?;
    let number = rest
        .get(..4)
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let rest = rest[4..].strip_prefix(['*', ' '])?.trim_start_matches(' ');
    let (label, path) = rest.split_once('\t').unwrap_or((rest, ""));
    Some(BootEntry {
        number: number.to_owned(),
        label: label.trim().to_owned(),
        path: path.to_owned(),
    })
}

/// Returns the name of the entry: the system's own name, as its installer does.
fn label(files: &dyn Files, loader: &str) -> String {
    if loader.contains("systemd-boot") {
        return "Linux Boot Manager".to_owned();
    }
    if loader.to_ascii_lowercase().contains("/refind") {
        return "rEFInd Boot Manager".to_owned();
    }
    let vendor = loader.rsplit('/').nth(1).unwrap_or("linux").to_owned();
    let release = text(files, "/etc/os-release").ok().flatten().unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("NAME="));
    // Debian's installer names the entry as the directory; Red Hat's as the system.
    match name {
        Some(name) if !files.exists("/etc/debian_version") => name.trim_matches('"').to_owned(),
        _ => vendor,
    }
}

/// `/boot/efi/EFI/debian/shimx64.efi` is `\EFI\debian\shimx64.efi` to the firmware.
fn firmware_path(esp: &str, loader: &str) -> String {
    loader.strip_prefix(esp).unwrap_or(loader).replace('/', "\\")
}

fn efibootmgr(clone: &Destination<'_>, description: &str, args: &[&str]) -> Result<String, PostError> {
    let argv = std::iter::once("efibootmgr").chain(args.iter().copied());
    Command {
        description: description.to_owned(),
        argv: argv.map(ToOwned::to_owned).collect(),
        env: Vec::new(),
        limit: LOADER_LIMIT,
    }
    .run(clone.chroot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Texts;

    /// efibootmgr 17 under OVMF.
    const OVMF: &str = "BootCurrent: 0002\nTimeout: 0 seconds\nBootOrder: 0003,0002,0000\n\
        Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)\n\
        Boot0002* UEFI PXEv4 (MAC:525400000007)\tPciRoot(0x0)/Pci(0x3,0x0)/MAC(525400000007,1)/IPv4(0.0.0.00.0.0.0,0,0)N.....YM\n\
        Boot0003* debian\tHD(1,GPT,8B4F1A62-1111-2222-3333-444455556666,0x800,0x82000)/File(\\EFI\\debian\\shimx64.efi)\n";
    const PARTUUID: &str = "8b4f1a62-1111-2222-3333-444455556666";
    const LOADER: &str = "\\EFI\\debian\\shimx64.efi";

    #[test]
    fn an_entry_is_found_by_label_partition_and_loader() {
        let menu = Menu::parse(OVMF);
        assert_eq!(menu.current.as_deref(), Some("0002"));
        assert_eq!(menu.find("debian", PARTUUID, LOADER).unwrap().number, "0003");
        assert_eq!(
            menu.find("debian", "8b4f1a62-0000-2222-3333-444455556666", LOADER),
            None
        );
        assert_eq!(menu.find("debian", PARTUUID, "\\EFI\\debian\\grubx64.efi"), None);
        assert_eq!(menu.find("debian", "", LOADER), None);
        let mbr = Menu::parse("Boot0001* x\tHD(1,MBR,0x0badcafe,0x800,0x82000)/\\EFI\\x\\grubx64.efi\n");
        assert!(mbr.find("x", "0badcafe-01", "\\EFI\\x\\grubx64.efi").is_some());
        assert_eq!(mbr.entries[0].partuuid().unwrap(), "0badcafe-01");
    }

    #[test]
    fn only_entries_of_what_is_gone_are_removed() {
        let entry = |label: &str, path: &str| BootEntry {
            number: "0001".to_owned(),
            label: label.to_owned(),
            path: path.to_owned(),
        };
        let hd = |id: &str| format!("HD(1,GPT,{id},0x800,0x100000)/File(\\EFI\\debian\\shimx64.efi)");
        let [erased, kept, nowhere] =
            ["aaaaaaaa", "bbbbbbbb", "cccccccc"].map(|id| format!("{id}-0000-4000-8000-000000000001"));
        let known = KnownPartitions {
            erased: vec![erased.clone()],
            kept: Some(vec![kept.to_ascii_uppercase()]),
        };
        let is_dead = |label: &str, path: &str| entry(label, path).is_dead("debian", Some(PARTUUID), &known);
        assert!(is_dead("debian", &hd(&erased)));
        assert!(is_dead("Windows Boot Manager", &hd(&erased.to_ascii_uppercase())));
        assert!(!is_dead("debian", &hd(&kept)), "a disk that is kept");
        assert!(is_dead("debian", &hd(&nowhere)));
        assert!(
            !is_dead("ubuntu", &hd(&nowhere)),
            "a disk that is not plugged in today"
        );
        assert!(is_dead("debian", &hd(PARTUUID)), "made by a run before");
        assert!(!is_dead(
            "debian",
            "PciRoot(0x0)/Pci(0x3,0x0)/MAC(525400aabbcc,1)/IPv4(0.0.0.0,0,0)"
        ));
        let unknown = KnownPartitions {
            kept: None,
            ..known.clone()
        };
        assert!(
            !entry("debian", &hd(&nowhere)).is_dead("debian", None, &unknown),
            "a disk could not be read"
        );
    }

    #[test]
    fn a_machine_booted_from_the_network_keeps_it_first_and_gets_the_disk_next() {
        let after = Menu::parse(OVMF);
        let before = Menu {
            order: vec!["0002".to_owned(), "0000".to_owned()],
            ..after.clone()
        };
        assert_eq!(
            after.with_network_first(&before, "0003").unwrap(),
            ["0002", "0003", "0000"]
        );
        // Booted from something else, or the network was not first: the loader stays where efibootmgr put it.
        let from_disk = Menu {
            current: Some("0000".to_owned()),
            ..before.clone()
        };
        assert_eq!(after.with_network_first(&from_disk, "0003"), None);
        let disk_first = Menu {
            order: vec!["0000".to_owned(), "0002".to_owned()],
            ..before
        };
        assert_eq!(after.with_network_first(&disk_first, "0003"), None);
    }

    #[test]
    fn paths_and_labels_are_the_firmwares() {
        assert_eq!(
            firmware_path("/boot/efi", "/boot/efi/EFI/debian/shimx64.efi"),
            LOADER
        );
        let debian = Texts::new(&[
            ("/etc/debian_version", "12"),
            ("/etc/os-release", "NAME=\"Debian GNU/Linux\"\n"),
        ]);
        assert_eq!(label(&debian, "/boot/efi/EFI/debian/shimx64.efi"), "debian");
        let fedora = Texts::new(&[("/etc/os-release", "NAME=\"Fedora Linux\"\n")]);
        assert_eq!(label(&fedora, "/boot/efi/EFI/fedora/shimx64.efi"), "Fedora Linux");
    }
}
