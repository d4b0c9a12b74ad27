//! The boot part of a run, looked at before images are made: what is known at once is said at once, by `--dry-run` too.

use std::path::Path;

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;

use super::plan::BootSettings;
use crate::failure::Faults;

/// Checks interface, addresses, pool, boot programs, the node list's drives and the kernel. Gives what the operator should
/// know.
///
/// # Errors
/// A line for each option, file or kernel that cannot work.
pub(crate) fn check(settings: &BootSettings, root: &Path, spec: &InstallSpec) -> Result<Vec<String>> {
    let Some(plan) = &settings.pxe else {
        return Ok(Vec::new());
    };
    let mut faults = Faults::default();
    let warnings = faults.keep(plan.check_needs());
    faults.keep(plan.check_drives(&spec.drives));
    let kernel = ka_initrd::kernel_release(root, plan.kernel.as_deref());
    faults.keep(kernel.context("making the boot image (stage1)"));
    faults.check()?;
    Ok(warnings.unwrap_or_default())
}
