//! The kernels of a system, and the initramfs images they are started with.

use ka_distro::config::ESP_PLACES;
use ka_distro::kernel;

use crate::files::Files;

/// Returns the installed kernels, by release, those with modules and an image to boot: the plain ones before
/// special ones (a cloud's, for debugging), newest first.
#[must_use]
pub fn releases(files: &dyn Files) -> Vec<String> {
    let has_image = |release: &String| {
        let images = kernel::images(release, &|dir| files.names(dir));
        images.iter().any(|image| files.exists(image))
    };
    let mut releases: Vec<String> = kernel::MODULE_DIRS
        .iter()
        .flat_map(|dir| files.names(dir).into_iter().map(move |name| (dir, name)))
        .filter(|(dir, name)| files.exists(&format!("{dir}/{name}/modules.dep")))
        .map(|(_, name)| name)
        .filter(has_image)
        .collect();
    releases.sort_by(|a, b| kernel::by_preference(b, a));
    releases.dedup();
    releases
}

/// Returns the initramfs images of a kernel in directories of entries. kernel-install calls it `initrd`,
/// Debian keeps the name that it has in /boot; other files there (microcode, device trees) are none.
pub(crate) fn entry_images(files: &dyn Files, release: &str) -> Vec<String> {
    let mut images = Vec::new();
    for place in ESP_PLACES {
        for token in files.names(place) {
            let dir = format!("{place}/{token}/{release}");
            let found = files.names(&dir).into_iter();
            let found = found.filter(|name| name.starts_with("initrd") || name.starts_with("initramfs"));
            images.extend(found.map(|name| format!("{dir}/{name}")));
        }
    }
    images
}

/// Returns true if kernels are started with an initramfs here.
pub(crate) fn has_initramfs(files: &dyn Files) -> bool {
    let is_image = |name: &String| {
        ["initrd", "initramfs", "booster"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let releases = files.names("/lib/modules");
    files.names("/boot").iter().any(is_image)
        || releases
            .iter()
            .any(|release| !entry_images(files, release).is_empty())
}
