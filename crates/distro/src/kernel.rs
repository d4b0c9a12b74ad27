//! Kernel and initramfs files: their names for a release, the order of releases, and the plain kernel among
//! them.

use std::cmp::Ordering;

use crate::Names;

/// Directories of kernel modules, with one directory for each release.
pub const MODULE_DIRS: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Directory of kernel images.
const BOOT: &str = "/boot";

/// Prefixes of kernel images: the usual one, uncompressed images, Gentoo, 64-bit ARM, kernels installed by
/// hand, 32-bit ARM.
const IMAGE_PREFIXES: [&str; 8] = [
    "vmlinuz", "vmlinux", "kernel", "Image", "bzImage", "zImage", "uImage", "linux",
];
/// Suffixes of kernel images, behind the release.
const IMAGE_ENDINGS: [&str; 3] = ["", ".efi", ".gz"];

/// Prefixes of initramfs images.
const INITRAMFS_PREFIXES: [&str; 2] = ["initrd", "initramfs"];
/// Suffixes of initramfs images, behind the release. Backups and kdump's images have other suffixes.
const INITRAMFS_ENDINGS: [&str; 5] = ["", ".img", ".gz", ".cpio", ".cpio.gz"];

/// Paths of possible kernel images of this release, the likeliest first: named for it, in its modules'
/// directory, or (Alpine) named for its flavour. The caller must check that a link has a target.
#[must_use]
pub fn images(release: &str, names: Names<'_>) -> Vec<String> {
    let in_boot = names(BOOT);
    let of_release = in_boot.iter().filter(|name| is_image_of(name, release));
    let mut found: Vec<String> = of_release.map(|name| format!("{BOOT}/{name}")).collect();
    // Shorter names come first: `vmlinuz-R` before `kernel-genkernel-x86_64-R`.
    found.sort_by_key(|path| (path.len(), path.clone()));
    for dir in MODULE_DIRS {
        let dir = format!("{dir}/{release}");
        let inside = names(&dir);
        let own = ["vmlinuz", "vmlinux", "Image", "bzImage"];
        found.extend(
            own.iter()
                .filter(|own| inside.iter().any(|name| name == *own))
                .map(|own| format!("{dir}/{own}")),
        );
    }
    if let Some(flavour) = flavour(release) {
        let of_flavour = in_boot.iter().filter(|name| is_image_of_flavour(name, flavour));
        found.extend(of_flavour.map(|name| format!("{BOOT}/{name}")));
    }
    found
}

/// True if this name in `/boot` is that of the image of this package: `vmlinuz-linux-lts` of Arch's
/// `linux-lts`.
#[must_use]
pub fn is_image_of_package(name: &str, package: &str) -> bool {
    is_image_of_flavour(name, package)
}

/// True if the name in `/boot` is that of a kernel of any release.
#[must_use]
pub fn is_image(name: &str) -> bool {
    IMAGE_PREFIXES.iter().any(|prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || rest.starts_with('_'))
    })
}

/// Absolute paths of a release's initramfs images in `/boot`.
#[must_use]
pub fn initramfs(release: &str, names: Names<'_>) -> Vec<String> {
    let is_own = |name: &String| {
        let begins = INITRAMFS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        begins && !name.contains("kdump") && ends_with_release(name, release, &INITRAMFS_ENDINGS)
    };
    let of_release = names(BOOT).into_iter().filter(is_own);
    of_release.map(|name| format!("{BOOT}/{name}")).collect()
}

/// Path of a release's initramfs on Alpine, which is named for its flavour: `/boot/initramfs-lts`.
#[must_use]
pub fn flavour_initramfs(release: &str) -> Option<String> {
    flavour(release).map(|flavour| format!("{BOOT}/initramfs-{flavour}"))
}

fn is_image_of(name: &str, release: &str) -> bool {
    IMAGE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && ends_with_release(name, release, &IMAGE_ENDINGS)
}

/// True if the name ends with the release as a word of its own: `kernel-genkernel-x86_64-R`, `initrd.img-R`,
/// `initramfs-R.img`.
fn ends_with_release(name: &str, release: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| {
        let before = name
            .strip_suffix(ending)
            .and_then(|name| name.strip_suffix(release));
        before.is_some_and(|before| before.ends_with('-') || before.ends_with('_'))
    })
}

/// True for names such as `vmlinuz-lts` and `vmlinuz-virt`.
fn is_image_of_flavour(name: &str, flavour: &str) -> bool {
    let stem = name.strip_suffix(flavour).and_then(|name| name.strip_suffix('-'));
    stem.is_some_and(|stem| IMAGE_PREFIXES.contains(&stem))
}

/// Last word of a release, if it begins with a letter: `lts` of `6.6.1-0-lts`.
fn flavour(release: &str) -> Option<&str> {
    let (_, last) = release.rsplit_once('-')?;
    last.starts_with(|c: char| c.is_ascii_alphabetic())
        .then_some(last)
}

/// Suitability of a kernel as the default, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A kernel for one environment (a cloud, a hypervisor, a rescue system), with few drivers.
    Narrow,
    /// A kernel with all drivers and something unusual: debugging, real time.
    Unusual,
    /// The kernel that a distribution installs by default.
    Plain,
}

/// Words in releases of kernels that lack most drivers.
const NARROW: [&str; 25] = [
    "cloud", "kvm", "kvmsmall", "virt", "virtual", "aws", "azure", "gcp", "gke", "gkeop", "oracle", "ibm",
    "ec2", "rescue", "small", "minimal", "tiny", "zfcpdump", "kdump", "crash", "xenu", "domu", "raspi",
    "guest", "wsl",
];
/// Words in releases of kernels that have all drivers and differ in another way.
const UNUSUAL: [&str; 16] = [
    "debug",
    "dbg",
    "rt",
    "realtime",
    "preempt",
    "lowlatency",
    "oem",
    "64k",
    "16k",
    "trace",
    "vanilla",
    "kasan",
    "nvidia",
    "tdx",
    "snp",
    "test",
];

fn kind(release: &str) -> Kind {
    let lower = release.to_ascii_lowercase();
    let words = || lower.split(|c: char| !c.is_ascii_alphanumeric());
    if words().any(|word| NARROW.contains(&word)) {
        return Kind::Narrow;
    }
    // Real-time kernels: `rt7` of Red Hat, `rt15` of kernel.org.
    let is_rt = |word: &str| {
        let number = word.strip_prefix("rt");
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if words().any(|word| UNUSUAL.contains(&word) || is_rt(word)) {
        return Kind::Unusual;
    }
    Kind::Plain
}

/// Compares two kernels; the better default is the greater. Plain kernels are better than debugging,
/// real-time, cloud and rescue kernels. Of two of the same kind the newer one is better.
#[must_use]
pub fn by_preference(a: &str, b: &str) -> Ordering {
    kind(a).cmp(&kind(b)).then_with(|| by_version(a, b))
}

/// Compares two releases; the newer one is the greater. Runs of digits count as numbers (6.1.0-9 before
/// 6.1.0-10). A number is newer than a word, and a release candidate is older than its release (6.8.0-rc5
/// before 6.8.0).
#[must_use]
pub fn by_version(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (pieces(a), pieces(b));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (Some(piece), None) => rank(piece).cmp(&Rank::End),
            (None, Some(piece)) => Rank::End.cmp(&rank(piece)),
            (Some(left), Some(right)) => rank(left).cmp(&rank(right)),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Rank of a piece of a release, oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Candidate,
    End,
    Word(&'a str),
    Number(u128),
}

fn rank(piece: &str) -> Rank<'_> {
    if let Ok(number) = piece.parse() {
        return Rank::Number(number);
    }
    match piece {
        "rc" | "pre" | "alpha" | "beta" => Rank::Candidate,
        word => Rank::Word(word),
    }
}

/// Splits a release into runs of digits and of letters.
fn pieces(release: &str) -> impl Iterator<Item = &str> {
    let words = release.split(|c: char| !c.is_ascii_alphanumeric());
    words.flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let is_number = rest.chars().next()?.is_ascii_digit();
            let end = rest
                .find(|c: char| c.is_ascii_digit() != is_number)
                .unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            Some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(boot: &[&str], modules: &[&str]) -> impl Fn(&str) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (boot, modules) = (own(boot), own(modules));
        move |dir: &str| match dir {
            "/boot" => boot.clone(),
            _ if dir.starts_with("/lib/modules/") => modules.clone(),
            _ => Vec::new(),
        }
    }

    fn images_in(boot: &[&str], modules: &[&str], release: &str) -> Vec<String> {
        images(release, &names_of(boot, modules))
    }

    #[test]
    fn a_kernel_is_found_by_the_names_of_every_distribution() {
        let release = "6.6.62-gentoo-dist";
        for name in [
            "vmlinuz-6.6.62-gentoo-dist",
            "vmlinux-6.6.62-gentoo-dist",
            "kernel-6.6.62-gentoo-dist",
            "Image-6.6.62-gentoo-dist",
            "bzImage-6.6.62-gentoo-dist",
            "zImage-6.6.62-gentoo-dist",
            "kernel-genkernel-x86_64-6.6.62-gentoo-dist",
            "vmlinuz-6.6.62-gentoo-dist.efi",
        ] {
            assert_eq!(images_in(&[name], &[], release), [format!("/boot/{name}")]);
        }
        assert_eq!(
            images_in(&[], &["vmlinuz"], "6.12.1-arch1-1"),
            ["/lib/modules/6.12.1-arch1-1/vmlinuz"]
        );
        assert_eq!(
            images_in(&["vmlinuz-lts"], &[], "6.6.1-0-lts"),
            ["/boot/vmlinuz-lts"]
        );
        for name in [
            "vmlinuz-6.6.62-gentoo-dist.old",
            "config-6.6.62-gentoo-dist",
            "System.map-6.6.62-gentoo-dist",
            "vmlinuz-16.6.62-gentoo-dist",
            "initramfs-6.6.62-gentoo-dist.img",
            "vmlinuz-0-rescue-00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(images_in(&[name], &[], release), [""; 0], "{name}");
        }
        assert!(
            is_image("vmlinuz") && is_image("vmlinuz-lts") && !is_image("kernels") && !is_image("linux.cfg")
        );
    }

    #[test]
    fn an_initramfs_is_found_and_a_backup_or_a_crash_kernels_is_not() {
        let boot = [
            "initrd.img-6.1.0-42-amd64",
            "initramfs-6.1.0-42-amd64.img",
            "initramfs-genkernel-x86_64-6.1.0-42-amd64",
            "initrd-6.1.0-42-amd64-kdump",
            "initramfs-6.1.0-42-amd64kdump.img",
            "initrd.img-6.1.0-42-amd64.old-dkms",
            "initrd.img-6.1.0-42-cloud-amd64",
            "vmlinuz-6.1.0-42-amd64",
        ];
        assert_eq!(
            initramfs("6.1.0-42-amd64", &names_of(&boot, &[])),
            [
                "/boot/initrd.img-6.1.0-42-amd64",
                "/boot/initramfs-6.1.0-42-amd64.img",
                "/boot/initramfs-genkernel-x86_64-6.1.0-42-amd64",
            ]
        );
    }

    #[test]
    fn the_plain_kernel_comes_before_every_special_one() {
        for (plain, special) in [
            ("6.1.0-42-amd64", "6.1.0-42-cloud-amd64"),
            ("6.1.0-42-amd64", "6.1.0-43-rt-amd64"),
            ("5.14.0-503.el9.x86_64", "5.14.0-503.el9.x86_64+debug"),
            ("5.14.0-503.el9.x86_64", "5.14.0-503.el9.x86_64+rt"),
            ("4.18.0-553.el8.x86_64", "4.18.0-553.rt7.342.el8.x86_64"),
            ("3.10.0-1160.el7.x86_64", "3.10.0-1160.el7.x86_64.debug"),
            ("6.8.0-45-generic", "6.8.0-1017-aws"),
            ("5.15.0-91-generic", "5.15.0-1050-kvm"),
            ("6.8.0-45-generic", "6.8.0-1017-oem"),
            ("6.4.0-150600.23-default", "6.4.0-150600.23-kvmsmall"),
            ("5.3.18-150300.59.106-default", "5.3.18-150300.59.106-rt_debug"),
            ("6.12.1-lts", "6.6.8-rt"),
            ("6.6.1-0-lts", "6.6.1-0-virt"),
            ("6.1.0-9-amd64", "6.1.0-10-rescue"),
            ("5.14.0-503.el9.aarch64", "5.14.0-503.el9.aarch64+64k"),
        ] {
            assert_eq!(
                by_preference(plain, special),
                Ordering::Greater,
                "{plain} {special}"
            );
            assert_eq!(by_preference(special, plain), Ordering::Less, "{plain} {special}");
        }
        // A debugging kernel has drivers for this machine's disks; a cloud's kernel may not.
        assert_eq!(
            by_preference("6.1.0-1-rt-amd64", "6.1.0-2-cloud-amd64"),
            Ordering::Greater
        );
        // `art`, `smartos` and `kvmd` only resemble the special words.
        assert_eq!(kind("6.1.0-art1-smartos"), Kind::Plain);
    }

    #[test]
    fn newer_is_what_people_take_for_newer() {
        for (newer, older) in [
            ("6.1.0-10-amd64", "6.1.0-9-amd64"),
            ("6.10.0", "6.9.12"),
            ("6.8.0", "6.8.0-rc5"),
            ("6.8.0-1-amd64", "6.8.0~rc5-1-amd64"),
            ("6.8.1", "6.8"),
            ("5.14.0-503.11.1.el9_5.x86_64", "5.14.0-503.el9_5.x86_64"),
            ("6.6.62-gentoo-r1", "6.6.62-gentoo"),
            ("6.12.1-arch1-1", "6.6.8-arch1-1"),
        ] {
            assert_eq!(by_version(newer, older), Ordering::Greater, "{newer} {older}");
            assert_eq!(by_version(older, newer), Ordering::Less, "{newer} {older}");
        }
        assert_eq!(by_version("6.1", "6.1"), Ordering::Equal);
    }
}
