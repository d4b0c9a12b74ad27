//! The images that nodes receive first: stage1 and stage2. They are made from the golden system before a port
//! is opened, so that anything missing is reported at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;
use ka_initrd::{Stage1Options, Stage2Options};
use ka_report::text::count;

use crate::settings::{BootSettings, ImageOptions};

/// The files of the boot server.
#[derive(Debug)]
pub(crate) struct Stage1 {
    /// The kernel's release.
    pub(crate) release: String,
    /// The kernel, a file of the golden system.
    pub(crate) kernel: PathBuf,
    /// The boot image, without the join code.
    pub(crate) image: Vec<u8>,
    /// The golden node's own EFI loader, as a path on its EFI system partition. The clones have it at the
    /// same path.
    pub(crate) loader: Option<String>,
}

/// All images of a run.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Files for the boot server, if there is one.
    pub(crate) stage1: Option<Stage1>,
    /// Tools and storage drivers, sent as the first stream.
    pub(crate) stage2: Option<Vec<u8>>,
    /// Notes about the images for the operator.
    pub(crate) notes: Vec<String>,
    /// Items that a note sums up, for the log.
    pub(crate) details: Vec<String>,
}

/// Most drivers that a note names. More are counted, and named in the log.
const MAX_NAMED: usize = 3;

impl Images {
    /// Notes the drivers whose firmware the golden node does not have. Most cards work without it. An operator
    /// with one that does not must be able to find this line.
    fn note_firmware(&mut self, drivers: &BTreeSet<String>) {
        let names: Vec<&str> = drivers.iter().map(String::as_str).collect();
        let named = if names.len() <= MAX_NAMED {
            names.join(", ")
        } else {
            let list = names.join(", ");
            self.details
                .push(format!("the golden node has no firmware for the drivers {list}"));
            "run.log and -v name them".to_owned()
        };
        let counted = count(names.len(), "driver");
        if !names.is_empty() {
            self.notes.push(format!(
                "no firmware for {counted} on the golden node ({named}): it matters only if a node finds no link or no disk, \
                 and then the package with its firmware is wanted here"
            ));
        }
    }
}

/// Makes the images that `settings` require from the golden system below `root`, for the file systems of
/// `spec`.
///
/// # Errors
/// A kernel, driver, tool or library is missing. The line names it and the option that changes it.
pub(crate) fn make(settings: &BootSettings, root: &Path, spec: &InstallSpec) -> Result<Images> {
    let mut images = Images::default();
    let mut without_firmware = BTreeSet::new();
    if let Some(plan) = &settings.pxe {
        images.stage1 = Some(stage1(
            settings,
            plan.client.clone(),
            root,
            spec,
            &mut without_firmware,
        )?);
    }
    images.stage2 = match (&settings.images.stage2, &settings.pxe, &images.stage1) {
        (Some(path), ..) => {
            Some(fs::read(path).with_context(|| format!("reading --stage2 {}", path.display()))?)
        }
        (None, Some(_), Some(stage1)) => {
            let release = stage1.release.clone();
            Some(stage2(
                &settings.images,
                release,
                root,
                spec,
                &mut without_firmware,
            )?)
        }
        _ => None,
    };
    images.note_firmware(&without_firmware);
    Ok(images)
}

fn stage1(
    settings: &BootSettings,
    client: PathBuf,
    root: &Path,
    spec: &InstallSpec,
    without_firmware: &mut BTreeSet<String>,
) -> Result<Stage1> {
    let made = ka_initrd::stage1(&Stage1Options {
        root: root.to_owned(),
        kernel: settings.images.kernel.clone(),
        client,
        drivers: settings.images.stage1_drivers.clone(),
    });
    let made = made.context("making the boot image (stage1)")?;
    without_firmware.extend(made.missing_firmware.into_keys());
    Ok(Stage1 {
        release: made.release,
        kernel: made.kernel,
        image: made.image,
        loader: spec.boot.golden.program.clone(),
    })
}

fn stage2(
    options: &ImageOptions,
    release: String,
    root: &Path,
    spec: &InstallSpec,
    without_firmware: &mut BTreeSet<String>,
) -> Result<Vec<u8>> {
    let names = spec.filesystems.iter().map(|fs| fs.fstype.name().to_owned());
    let made = ka_initrd::stage2_image(&Stage2Options {
        root: root.to_owned(),
        kernel: Some(release),
        drivers: options.stage1_drivers.clone(),
        file_systems: names.collect::<BTreeSet<_>>().into_iter().collect(),
    });
    let made = made.context("making the nodes' tools (stage2)")?;
    without_firmware.extend(made.missing_firmware.into_keys());
    Ok(made.image)
}

#[cfg(test)]
mod tests {
    use super::Images;

    fn noted(drivers: &[&str]) -> Images {
        let mut images = Images::default();
        images.note_firmware(&drivers.iter().map(|name| (*name).to_owned()).collect());
        images
    }

    #[test]
    fn drivers_without_firmware_are_one_line_and_many_are_listed_in_the_log() {
        assert!(noted(&[]).notes.is_empty());
        let two = noted(&["tg3", "bnx2"]);
        assert_eq!((two.notes.len(), two.details.len()), (1, 0));
        assert!(
            two.notes[0].contains("2 drivers on the golden node (bnx2, tg3)"),
            "{:?}",
            two.notes
        );
        let many = noted(&["a", "b", "c", "d"]);
        assert!(
            many.notes[0].contains("4 drivers") && !many.notes[0].contains("a, b"),
            "{:?}",
            many.notes
        );
        assert_eq!(
            many.details,
            ["the golden node has no firmware for the drivers a, b, c, d"]
        );
    }
}
