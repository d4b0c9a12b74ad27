//! The golden node's kernels: which there are, and what the chosen one can do.

use std::cmp::Ordering;
use std::path::PathBuf;

use crate::InitrdError;
use crate::compress::Compression;
use crate::root::Root;

/// A kernel with its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` says under it.
    pub(crate) release: String,
    /// The bootable image, a path of the host.
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`, a path of the host.
    pub(crate) modules: PathBuf,
    /// Its configuration, when it is there.
    config: Option<String>,
}

impl Kernel {
    /// The kernel asked for, or the newest that is complete.
    pub(crate) fn find(root: &Root, wanted: Option<&str>) -> Result<Self, InitrdError> {
        let mut kernels: Vec<Self> = root
            .names("lib/modules")
            .into_iter()
            .filter_map(|release| Self::complete(root, release))
            .collect();
        kernels.sort_by(|a, b| by_version(&a.release, &b.release));
        let have: Vec<String> = kernels.iter().map(|kernel| kernel.release.clone()).collect();
        let found = match wanted {
            Some(wanted) => kernels.into_iter().find(|kernel| kernel.release == wanted),
            None => kernels.pop(),
        };
        found.ok_or_else(|| InitrdError::NoKernel {
            root: root.dir().to_owned(),
            wanted: wanted.map(str::to_owned),
            have,
        })
    }

    /// How an image for it is compressed: zstd is smallest for the time, and kernels before 5.9 have it not.
    pub(crate) fn compression(&self) -> Result<Compression, InitrdError> {
        let unfit = |what| InitrdError::UnfitKernel {
            release: self.release.clone(),
            what,
        };
        let Some(config) = &self.config else {
            // Every distribution's kernel can do gzip.
            return Ok(Compression::Gzip);
        };
        let has = |option: &str| config.lines().any(|line| line.strip_suffix("=y") == Some(option));
        if !has("CONFIG_BLK_DEV_INITRD") {
            return Err(unfit("it takes no initrd (CONFIG_BLK_DEV_INITRD)"));
        }
        let known = [
            ("CONFIG_RD_ZSTD", Compression::Zstd),
            ("CONFIG_RD_XZ", Compression::Xz),
            ("CONFIG_RD_GZIP", Compression::Gzip),
        ];
        let found = known.into_iter().find(|(option, _)| has(option));
        found
            .map(|(_, compression)| compression)
            .ok_or_else(|| unfit("it unpacks neither zstd nor xz nor gzip (CONFIG_RD_*)"))
    }

    fn complete(root: &Root, release: String) -> Option<Self> {
        let modules = root.find(format!("lib/modules/{release}"))?;
        root.find(format!("lib/modules/{release}/modules.dep"))?;
        // Debian, Fedora and SUSE; Fedora's own place; Gentoo.
        let images = [
            format!("boot/vmlinuz-{release}"),
            format!("lib/modules/{release}/vmlinuz"),
            format!("boot/vmlinux-{release}"),
            format!("boot/kernel-{release}"),
            format!("boot/Image-{release}"),
        ];
        let image = images.iter().find_map(|path| root.find(path))?;
        let configs = [
            format!("boot/config-{release}"),
            format!("lib/modules/{release}/config"),
            format!("lib/modules/{release}/build/.config"),
        ];
        Some(Self {
            config: configs.iter().find_map(|path| root.text(path)),
            release,
            image,
            modules,
        })
    }
}

/// 6.1.0-9 before 6.1.0-10: digits count as numbers, all else as text.
fn by_version(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (left, right) = (piece(&mut a), piece(&mut b));
        let order = match (left.parse::<u64>(), right.parse::<u64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            // 6.1.0 is newer than 6.1.0~rc1, and 6.1-rc1 counts as text does.
            _ => left.cmp(right),
        };
        if order != Ordering::Equal || left.is_empty() && right.is_empty() {
            return order;
        }
    }
}

/// Takes the longest beginning of only digits, or of none.
fn piece<'a>(text: &mut &'a str) -> &'a str {
    let is_digit = |c: char| c.is_ascii_digit();
    let number = text.starts_with(is_digit);
    let end = text.find(|c| is_digit(c) != number).unwrap_or(text.len());
    let (piece, rest) = text.split_at(end);
    *text = rest;
    piece
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn install(root: &tempfile::TempDir, release: &str, config: Option<&str>) {
        let modules = root.path().join("lib/modules").join(release);
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        fs::write(modules.join("modules.dep"), "").unwrap();
        fs::write(root.path().join(format!("boot/vmlinuz-{release}")), "kernel").unwrap();
        if let Some(config) = config {
            fs::write(root.path().join(format!("boot/config-{release}")), config).unwrap();
        }
    }

    #[test]
    fn the_newest_is_the_default_and_versions_are_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-99-amd64"] {
            install(&dir, release, None);
        }
        // Modules without a kernel, as removed packages leave them behind.
        fs::create_dir_all(dir.path().join("lib/modules/7.0.0")).unwrap();
        let root = Root::new(dir.path());
        assert_eq!(Kernel::find(&root, None).unwrap().release, "6.1.0-56-amd64");
        let err = Kernel::find(&root, Some("6.2")).unwrap_err().to_string();
        assert!(
            err.ends_with("there are: 5.10.0-99-amd64, 6.1.0-9-amd64, 6.1.0-56-amd64"),
            "{err}"
        );
        let empty = tempfile::tempdir().unwrap();
        let err = Kernel::find(&Root::new(empty.path()), None)
            .unwrap_err()
            .to_string();
        assert!(err.contains("no kernel with its modules"), "{err}");
    }

    #[test]
    fn the_kernels_configuration_decides_the_compression() {
        let of = |config: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            install(&dir, "6.1", config);
            Kernel::find(&Root::new(dir.path()), None).unwrap().compression()
        };
        let initrd = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n";
        assert_eq!(of(None).unwrap(), Compression::Gzip);
        assert_eq!(of(Some(initrd)).unwrap(), Compression::Gzip);
        assert_eq!(
            of(Some(&format!(
                "{initrd}CONFIG_RD_XZ=y\n# CONFIG_RD_ZSTD is not set\n"
            )))
            .unwrap(),
            Compression::Xz
        );
        assert_eq!(
            of(Some(&format!("{initrd}CONFIG_RD_XZ=y\nCONFIG_RD_ZSTD=y\n"))).unwrap(),
            Compression::Zstd
        );
        let err = of(Some("CONFIG_RD_ZSTD=y\n")).unwrap_err().to_string();
        assert!(
            err.contains("CONFIG_BLK_DEV_INITRD") && err.contains("--kernel"),
            "{err}"
        );
    }
}
