//! The boot part of a run, looked at before images are made: what is known at once is said at once, by `--dry-run` too.

use std::path::Path;

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;

use super::plan::BootSettings;
use crate::failure::Faults;

/// Holds the node list's drives and the kernel against the surveyed golden node.
///
/// # Errors
/// A line for each machine or kernel that cannot work.
pub(crate) fn check(settings: &BootSettings, root: &Path, spec: &InstallSpec) -> Result<()> {
    let Some(plan) = &settings.pxe else {
        return Ok(());
    };
    let mut faults = Faults::default();
    faults.keep(plan.check_drives(&spec.drives));
    let kernel = ka_initrd::kernel_release(root, plan.kernel.as_deref());
    faults.keep(kernel.context("making the boot image (stage1)"));
    faults.check()
}
