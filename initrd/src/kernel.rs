//! The golden node's kernels: their choice, and the abilities of the chosen one.

use std::path::{Path, PathBuf};

use ka_distro::kernel;

use crate::InitrdError;
use crate::compress::Compression;
use crate::root::Root;

/// A kernel with its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Release, as `uname -r` shows it.
    pub(crate) release: String,
    /// Bootable image, as a path of the host.
    pub(crate) image: PathBuf,
    /// Directory `lib/modules/RELEASE`, as a path of the host.
    pub(crate) modules: PathBuf,
    /// Configuration of the kernel, if the golden node has it.
    config: Option<String>,
}

impl Kernel {
    /// Finds the requested kernel. Without a request it takes the running kernel if the golden root is this
    /// machine's own, since that kernel has drivers for this machine. Otherwise it takes the newest complete
    /// kernel, and special ones (cloud, debugging) only if there is no plain one.
    pub(crate) fn find(root: &Root, wanted: Option<&str>) -> Result<Self, InitrdError> {
        let is_own = root.dir().canonicalize().is_ok_and(|dir| dir == Path::new("/"));
        Self::choose(root, wanted, is_own.then(running).flatten().as_deref())
    }

    fn choose(root: &Root, wanted: Option<&str>, running: Option<&str>) -> Result<Self, InitrdError> {
        let mut releases: Vec<String> = kernel::MODULE_DIRS
            .iter()
            .flat_map(|dir| root.names(dir))
            .collect();
        releases.sort_by(|a, b| kernel::by_preference(a, b));
        releases.dedup();
        let mut kernels: Vec<Self> = releases
            .into_iter()
            .filter_map(|release| Self::complete(root, release))
            .collect();
        let have: Vec<String> = kernels.iter().map(|kernel| kernel.release.clone()).collect();
        let found = match wanted {
            Some(wanted) => kernels.into_iter().find(|kernel| kernel.release == wanted),
            None => match kernels
                .iter()
                .position(|kernel| Some(kernel.release.as_str()) == running)
            {
                Some(at) => Some(kernels.swap_remove(at)),
                None => kernels.pop(),
            },
        };
        found.ok_or_else(|| InitrdError::NoKernel {
            root: root.dir().to_owned(),
            wanted: wanted.map(str::to_owned),
            have,
        })
    }

    /// Compression of an image for this kernel. zstd gives the smallest image for the time, but kernels
    /// before 5.9 lack it.
    pub(crate) fn compression(&self) -> Result<Compression, InitrdError> {
        let unfit = |what| InitrdError::UnfitKernel {
            release: self.release.clone(),
            what,
        };
        let Some(config) = &self.config else {
            // The kernel of every distribution supports gzip.
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
        let dir = kernel::MODULE_DIRS
            .iter()
            .map(|dir| format!("{dir}/{release}"))
            .find(|dir| root.find(format!("{dir}/modules.dep")).is_some())?;
        let modules = root.find(&dir)?;
        let images = kernel::images(&release, &|dir| root.names(dir));
        let image = images.iter().find_map(|path| root.find(path))?;
        let configs = [
            format!("boot/config-{release}"),
            format!("{dir}/config"),
            format!("{dir}/build/.config"),
        ];
        Some(Self {
            config: configs.iter().find_map(|path| root.text(path)),
            release,
            image,
            modules,
        })
    }
}

/// Release of the kernel that runs on this machine.
fn running() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
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
    fn the_running_kernel_is_taken_else_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["6.1.0-42-amd64", "6.1.0-42-cloud-amd64", "6.1.0-43-rt-amd64"] {
            install(&dir, release, None);
        }
        let root = Root::new(dir.path());
        let chosen = |running| Kernel::choose(&root, None, running).unwrap().release;
        assert_eq!(chosen(None), "6.1.0-42-amd64");
        assert_eq!(chosen(Some("6.1.0-43-rt-amd64")), "6.1.0-43-rt-amd64");
        // The system was started from another medium, or an update has removed the running kernel.
        assert_eq!(chosen(Some("6.1.0-41-amd64")), "6.1.0-42-amd64");
        let wanted = Kernel::choose(&root, Some("6.1.0-42-cloud-amd64"), Some("6.1.0-42-amd64"));
        assert_eq!(wanted.unwrap().release, "6.1.0-42-cloud-amd64");
    }

    #[test]
    fn kernels_of_every_distribution_are_found() {
        for name in ["kernel-R", "bzImage-R", "kernel-genkernel-x86_64-R", "Image-R"] {
            let (dir, release) = (tempfile::tempdir().unwrap(), "6.6.62-gentoo-dist");
            install(&dir, release, None);
            let boot = dir.path().join("boot");
            let name = name.replace('R', release);
            fs::rename(boot.join(format!("vmlinuz-{release}")), boot.join(&name)).unwrap();
            let found = Kernel::find(&Root::new(dir.path()), None).unwrap();
            assert!(found.image.ends_with(&name), "{name}");
        }
    }

    #[test]
    fn the_newest_is_the_default_and_versions_are_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-99-amd64"] {
            install(&dir, release, None);
        }
        // Removed packages leave modules without a kernel behind.
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
