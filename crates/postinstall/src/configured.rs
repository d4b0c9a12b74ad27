//! The initramfs images that boot loaders' configurations name. These are booted, whatever images the tools
//! have made.

use ka_distro::config::{ESP_PLACES, EXTLINUX_CONFIGS, GRUB_CONFIGS};

use crate::boot_entries;
use crate::bootloader::grub;
use crate::files::{Files, text};
use crate::names::text::is_comment;

/// A configuration and the name, without its directory, of an image that it has loaded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// Path of the configuration, such as `/boot/grub/grub.cfg`.
    pub(crate) config: String,
    /// File name of the image, such as `initrd.img-6.1.0-42-amd64`.
    pub(crate) image: String,
}

/// Returns the images that are there, each once for a configuration. Microcode, rescue systems and crash
/// kernels are none of this machine's hardware's business.
pub(crate) fn initrds(files: &dyn Files) -> Vec<Named> {
    let mut configs: Vec<String> = GRUB_CONFIGS.iter().map(|path| (*path).to_owned()).collect();
    configs.extend(EXTLINUX_CONFIGS.iter().map(|(_, path)| (*path).to_owned()));
    configs.extend(ESP_PLACES.iter().flat_map(|esp| grub::full_configs(files, esp)));
    configs.extend(boot_entries::files_with_entries(files));
    let mut found: Vec<Named> = configs
        .iter()
        .flat_map(|config| named_in(files, config))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn named_in(files: &dyn Files, config: &str) -> Vec<Named> {
    let text = text(files, config).ok().flatten().unwrap_or_default();
    let lines = text.lines().filter(|line| !is_comment(line));
    let words = lines.flat_map(|line| {
        let mut words = line.split(|c: char| c.is_whitespace() || c == ',');
        let command = words.find(|word| !word.is_empty()).unwrap_or_default();
        let loads = command.to_ascii_lowercase().starts_with("initrd");
        words.filter(move |word| loads && !word.is_empty())
    });
    let images = words.map(|word| {
        word.trim_matches(['"', '\''])
            .rsplit('/')
            .next()
            .unwrap_or_default()
    });
    let images = images.filter(|image| is_of_this_system(image) && files.exists(&format!("/boot/{image}")));
    images
        .map(|image| Named {
            config: config.to_owned(),
            image: image.to_owned(),
        })
        .collect()
}

fn is_of_this_system(image: &str) -> bool {
    let others = ["ucode", "rescue", "kdump", "fallback", "memtest", "$"];
    !image.is_empty() && !others.iter().any(|other| image.contains(other))
}
