//! Names of modules: `snd-hda_intel` and `snd_hda-intel` are the same name.

use std::fmt;

/// A module's name in the kernel's spelling: with `_` where the file name may have `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleName(String);

impl ModuleName {
    /// Creates a name from any spelling.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.replace('-', "_"))
    }

    /// Name of the module in a file: `ext4` for `kernel/fs/ext4/ext4.ko.xz`. `None` if the path is not that
    /// of a module.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let file = path.rsplit('/').next()?;
        let stem = file.strip_suffix(".ko").or_else(|| {
            let (stem, suffix) = file.rsplit_once(".ko.")?;
            matches!(suffix, "xz" | "zst" | "gz").then_some(stem)
        })?;
        (!stem.is_empty()).then(|| Self::new(stem))
    }

    /// The name, with `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ModuleName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dash_and_underscore_are_one_name() {
        assert_eq!(ModuleName::new("snd-hda_intel"), ModuleName::new("snd_hda-intel"));
    }

    #[test]
    fn a_path_gives_the_name_however_it_is_compressed() {
        for path in [
            "kernel/a/crc32c-intel.ko",
            "crc32c-intel.ko.xz",
            "/x/crc32c_intel.ko.zst",
            "x.ko/crc32c-intel.ko.gz",
        ] {
            assert_eq!(
                ModuleName::of_path(path),
                Some(ModuleName::new("crc32c_intel")),
                "{path}"
            );
        }
        for path in ["", ".ko", "a.ko.bz2", "a.o", "a.ko/readme"] {
            assert_eq!(ModuleName::of_path(path), None, "{path}");
        }
    }
}
