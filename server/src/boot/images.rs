//! What nodes boot and what they get before anything else: stage1 and stage2, made from the golden system before a port
//! is opened, so that whatever is missing is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;
use ka_initrd::{Stage1Options, Stage2Options};

use super::plan::{BootSettings, PxePlan};

/// What the boot server serves.
#[derive(Debug)]
pub(crate) struct Stage1 {
    /// The kernel's release.
    pub(crate) release: String,
    /// The kernel, a file of the golden system.
    pub(crate) kernel: PathBuf,
    /// The boot image, without the join code.
    pub(crate) image: Vec<u8>,
    /// The golden node's own EFI loader, as a path on its EFI system partition: the clones' is the same.
    pub(crate) loader: Option<String>,
}

/// All images of a run.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// For the boot server, if there is to be one.
    pub(crate) stage1: Option<Stage1>,
    /// Tools and storage drivers, sent as the first stream.
    pub(crate) stage2: Option<Vec<u8>>,
    /// What the operator may want to know of them.
    pub(crate) notes: Vec<String>,
}

/// Makes what `settings` ask for from the golden system below `root`, for the file systems of `spec`.
///
/// # Errors
/// A kernel, driver, tool or library is missing; the line names it and the option that changes it.
pub(crate) fn make(settings: &BootSettings, root: &Path, spec: &InstallSpec) -> Result<Images> {
    let mut images = Images::default();
    if let Some(plan) = &settings.pxe {
        images.stage1 = Some(stage1(plan, root, spec, &mut images.notes)?);
    }
    images.stage2 = match (&settings.stage2, &settings.pxe, &images.stage1) {
        (Some(path), ..) => {
            Some(fs::read(path).with_context(|| format!("reading --stage2 {}", path.display()))?)
        }
        (None, Some(plan), Some(stage1)) => {
            let release = stage1.release.clone();
            Some(stage2(plan, release, root, spec, &mut images.notes)?)
        }
        _ => None,
    };
    Ok(images)
}

fn stage1(plan: &PxePlan, root: &Path, spec: &InstallSpec, notes: &mut Vec<String>) -> Result<Stage1> {
    let made = ka_initrd::stage1(&Stage1Options {
        root: root.to_owned(),
        kernel: plan.kernel.clone(),
        client: plan.client.clone(),
        drivers: plan.drivers.clone(),
    });
    let made = made.context("making the boot image (stage1)")?;
    note_firmware(notes, "network", &made.missing_firmware);
    Ok(Stage1 {
        release: made.release,
        kernel: made.kernel,
        image: made.image,
        loader: spec.boot.golden.program.clone(),
    })
}

fn stage2(
    plan: &PxePlan,
    release: String,
    root: &Path,
    spec: &InstallSpec,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>> {
    let names = spec.filesystems.iter().map(|fs| fs.fstype.name().to_owned());
    let made = ka_initrd::stage2_image(&Stage2Options {
        root: root.to_owned(),
        kernel: Some(release),
        drivers: plan.drivers.clone(),
        file_systems: names.collect::<BTreeSet<_>>().into_iter().collect(),
    });
    let made = made.context("making the nodes' tools (stage2)")?;
    note_firmware(notes, "storage", &made.missing_firmware);
    Ok(made.image)
}

/// Most cards work without; whoever has one of the others must be able to find this line.
fn note_firmware(notes: &mut Vec<String>, what: &str, missing: &BTreeMap<String, Vec<String>>) {
    if !missing.is_empty() {
        let drivers: Vec<_> = missing.keys().map(String::as_str).collect();
        notes.push(format!(
            "the golden node has no firmware for the {what} drivers {}: a node that needs one of them wants the package \
             with its firmware here",
            drivers.join(", ")
        ));
    }
}
