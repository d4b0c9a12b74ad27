//! The EFI system partition: vendor directories below `EFI`, and the names of the programs in them (UEFI
//! 2.10, sections 3.5.1.1 and 13.3.1.3). Names on FAT are compared without case.

/// Processor of EFI programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit PCs.
    X64,
    /// 32-bit firmware of PCs, also of some 64-bit ones.
    Ia32,
    /// 64-bit ARM.
    Aa64,
}

impl Arch {
    /// Processor of this program.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aa64
    } else {
        Self::X64
    };

    /// Suffix of program names for the processor, before `.efi`.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Ia32 => "ia32",
            Self::Aa64 => "aa64",
        }
    }

    /// Name of the platform in GRUB.
    #[must_use]
    pub const fn grub_platform(self) -> &'static str {
        match self {
            Self::X64 => "x86_64-efi",
            Self::Ia32 => "i386-efi",
            Self::Aa64 => "arm64-efi",
        }
    }

    /// Name of the program that firmware starts without a boot entry.
    #[must_use]
    pub const fn fallback(self) -> &'static str {
        match self {
            Self::X64 => "BOOTX64.EFI",
            Self::Ia32 => "BOOTIA32.EFI",
            Self::Aa64 => "BOOTAA64.EFI",
        }
    }

    const ALL: [Self; 3] = [Self::X64, Self::Ia32, Self::Aa64];
}

/// Directory of the fallback program, below `EFI`.
pub const FALLBACK_DIR: &str = "BOOT";

/// Name in GRUB of a PC with BIOS.
pub const BIOS_PLATFORM: &str = "i386-pc";

/// Role of a program on the EFI system partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The first program under Secure Boot, signed by Microsoft. It starts the GRUB in the same directory.
    Shim,
    /// The boot loader GRUB.
    Grub,
    /// The boot manager systemd-boot.
    SystemdBoot,
    /// The boot manager rEFInd.
    Refind,
    /// The boot loader Limine.
    Limine,
}

/// File names by role, with `@` for the processor's suffix. SUSE, Mageia and OpenMandriva omit the suffix.
const PROGRAMS: [(Role, &[&str]); 5] = [
    (Role::Shim, &["shim@.efi", "shim.efi", "shim@.efi.signed"]),
    (Role::Grub, &["grub@.efi", "grub.efi"]),
    (Role::SystemdBoot, &["systemd-boot@.efi"]),
    (Role::Refind, &["refind_@.efi", "refind.efi"]),
    (Role::Limine, &["limine@.efi", "limine_@.efi", "limine.efi"]),
];

/// Role of a program by its name, for this processor. `None` for other processors and other files.
#[must_use]
pub fn role(name: &str, arch: Arch) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    let found = PROGRAMS
        .into_iter()
        .find(|(_, names)| names.iter().any(|form| form.replace('@', arch.suffix()) == name));
    found.map(|(role, _)| role)
}

/// True if the name is that of an EFI program.
#[must_use]
pub fn is_program(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".efi")
}

/// True if the directory is that of the fallback program.
#[must_use]
pub fn is_fallback_dir(name: &str) -> bool {
    name.eq_ignore_ascii_case(FALLBACK_DIR)
}

/// A distribution's vendor directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    /// Name of the directory below `EFI`.
    pub directory: &'static str,
    /// Values of `ID` in os-release of the systems that use it.
    pub ids: &'static [&'static str],
    /// True if its shim and GRUB have no processor suffix in their names.
    pub short_names: bool,
}

const fn vendor(directory: &'static str, ids: &'static [&'static str]) -> Vendor {
    Vendor {
        directory,
        ids,
        short_names: false,
    }
}

const fn short(directory: &'static str, ids: &'static [&'static str]) -> Vendor {
    Vendor {
        directory,
        ids,
        short_names: true,
    }
}

/// Known vendor directories, the most common first.
pub const VENDORS: [Vendor; 48] = [
    vendor("debian", &["debian", "raspbian", "siduction", "pureos"]),
    vendor("ubuntu", &["ubuntu", "linuxmint", "elementary", "zorin", "neon"]),
    vendor("fedora", &["fedora", "nobara", "bazzite", "ultramarine"]),
    vendor("redhat", &["rhel", "ol", "redhat"]),
    vendor("centos", &["centos"]),
    vendor("rocky", &["rocky"]),
    vendor("almalinux", &["almalinux"]),
    vendor("ol", &["ol"]),
    short(
        "opensuse",
        &[
            "opensuse",
            "opensuse-leap",
            "opensuse-tumbleweed",
            "opensuse-slowroll",
        ],
    ),
    short("sles", &["sles", "sled", "sles_sap", "sle_hpc"]),
    vendor("arch", &["arch", "archarm"]),
    vendor("GRUB", &[]),
    vendor("gentoo", &["gentoo"]),
    vendor("void_grub", &["void"]),
    vendor("void", &["void"]),
    short("mageia", &["mageia"]),
    vendor("alpine", &["alpine"]),
    vendor("kali", &["kali"]),
    vendor("devuan", &["devuan"]),
    vendor("linuxmint", &["linuxmint"]),
    vendor("pop", &["pop"]),
    vendor("nobara", &["nobara"]),
    vendor("amzn", &["amzn"]),
    vendor("azurelinux", &["azurelinux", "mariner"]),
    vendor("Manjaro", &["manjaro"]),
    vendor("endeavouros", &["endeavouros"]),
    vendor("cachyos", &["cachyos"]),
    vendor("Garuda", &["garuda"]),
    vendor("artix", &["artix"]),
    vendor("proxmox", &["proxmox"]),
    vendor("parrot", &["parrot"]),
    vendor("deepin", &["deepin"]),
    vendor("uos", &["uos"]),
    vendor("neon", &["neon"]),
    vendor("mx", &["mx", "antix"]),
    vendor("slackware", &["slackware"]),
    short("openmandriva", &["openmandriva"]),
    vendor("altlinux", &["altlinux"]),
    vendor("rosa", &["rosa"]),
    vendor("astra", &["astra", "astralinux"]),
    vendor("openEuler", &["openeuler"]),
    vendor("anolis", &["anolis"]),
    vendor("kylin", &["kylin"]),
    vendor("eurolinux", &["eurolinux"]),
    vendor("cloudlinux", &["cloudlinux"]),
    vendor("virtuozzo", &["virtuozzo"]),
    vendor("qubes", &["qubes"]),
    vendor("NixOS-boot", &["nixos"]),
];

/// True if a system with this `ID` in os-release has its loader in this vendor directory.
#[must_use]
pub fn is_vendor_of(directory: &str, os_id: &str) -> bool {
    let known = VENDORS
        .iter()
        .filter(|vendor| vendor.directory.eq_ignore_ascii_case(directory));
    directory.eq_ignore_ascii_case(os_id) || known.into_iter().any(|vendor| vendor.ids.contains(&os_id))
}

/// Paths of boot loaders on an EFI system partition, in the order to try them. `first` has the golden node's
/// own loaders, as paths from the partition's root with slashes. Then come the distributions' shims, because
/// under Secure Boot the firmware refuses a GRUB alone. Then come their GRUBs, other loaders, and Windows.
/// The fallback path is last, because Debian's and Red Hat's fallback program there rewrites the machine's
/// boot entries.
#[must_use]
pub fn places(arch: Arch, first: &[String]) -> Vec<String> {
    let suffix = arch.suffix();
    let of = |vendor: &Vendor, program: &str| {
        let suffix = if vendor.short_names { "" } else { suffix };
        format!("/EFI/{}/{program}{suffix}.efi", vendor.directory)
    };
    let shims = VENDORS.iter().map(|vendor| of(vendor, "shim"));
    let grubs = VENDORS.iter().map(|vendor| of(vendor, "grub"));
    // SUSE's newer packages also have the usual name of GRUB.
    let short = VENDORS.iter().filter(|vendor| vendor.short_names);
    let long = short.map(|vendor| format!("/EFI/{}/grub{suffix}.efi", vendor.directory));
    let others = [
        format!("/EFI/systemd/systemd-boot{suffix}.efi"),
        format!("/EFI/refind/refind_{suffix}.efi"),
        format!("/EFI/limine/{}", arch.fallback()),
        format!("/EFI/limine/limine{suffix}.efi"),
        "/EFI/Microsoft/Boot/bootmgfw.efi".to_owned(),
        format!("/EFI/{FALLBACK_DIR}/{}", arch.fallback()),
    ];
    let mut all: Vec<String> = Vec::new();
    for place in first
        .iter()
        .cloned()
        .chain(shims)
        .chain(grubs)
        .chain(long)
        .chain(others)
    {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(&place)) {
            all.push(place);
        }
    }
    all
}

/// Processor of the fallback program with this name. `None` for other files.
#[must_use]
pub fn fallback_arch(name: &str) -> Option<Arch> {
    Arch::ALL
        .into_iter()
        .find(|arch| arch.fallback().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_every_distributions_name_and_processor() {
        for (name, is) in [
            ("shimx64.efi", Some(Role::Shim)),
            ("SHIM.EFI", Some(Role::Shim)),
            ("grubx64.efi", Some(Role::Grub)),
            ("grub.efi", Some(Role::Grub)),
            ("systemd-bootx64.efi", Some(Role::SystemdBoot)),
            ("refind_x64.efi", Some(Role::Refind)),
            ("shimaa64.efi", None),
            ("mmx64.efi", None),
            ("MokManager.efi", None),
            ("shim-notes.txt", None),
        ] {
            assert_eq!(role(name, Arch::X64), is, "{name}");
        }
        assert_eq!(role("shimaa64.efi", Arch::Aa64), Some(Role::Shim));
        assert_eq!(fallback_arch("bootaa64.efi"), Some(Arch::Aa64));
        assert_eq!(fallback_arch("fbx64.efi"), None);
    }

    #[test]
    fn every_vendor_is_tried_and_the_golden_nodes_own_loader_first() {
        let own = "/EFI/Rocky/shimx64.efi".to_owned();
        let places = places(Arch::X64, std::slice::from_ref(&own));
        assert_eq!(places[0], own);
        let at = |path: &str| places.iter().position(|place| place == path);
        for path in [
            "/EFI/debian/shimx64.efi",
            "/EFI/almalinux/shimx64.efi",
            "/EFI/ol/shimx64.efi",
            "/EFI/sles/shim.efi",
            "/EFI/opensuse/grubx64.efi",
            "/EFI/arch/grubx64.efi",
        ] {
            assert!(at(path).is_some(), "{path}");
        }
        assert!(at("/EFI/sles/shim.efi") < at("/EFI/debian/grubx64.efi"));
        // A path in another case is not listed twice.
        assert_eq!(at("/EFI/rocky/shimx64.efi"), None);
        assert_eq!(places.last().unwrap(), "/EFI/BOOT/BOOTX64.EFI");
    }

    #[test]
    fn a_vendor_directory_belongs_to_the_systems_that_use_it() {
        assert!(is_vendor_of("redhat", "rhel") && is_vendor_of("redhat", "ol"));
        assert!(is_vendor_of("ubuntu", "linuxmint") && is_vendor_of("opensuse", "opensuse-leap"));
        assert!(is_vendor_of("unheard-of", "unheard-of"));
        assert!(!is_vendor_of("debian", "ubuntu") && !is_vendor_of("GRUB", "arch"));
    }
}
