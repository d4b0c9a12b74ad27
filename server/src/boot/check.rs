//! The boot part of a run, looked at before images are made: what is known at once is said at once, by `--dry-run` too.

use std::path::Path;

use anyhow::{Context, Result};
use ka_disk::spec::InstallSpec;

use super::plan::BootSettings;

/// Checks interface, addresses, pool, boot programs, the node list's drives and the kernel. Gives what the operator should
/// know.
///
/// # Errors
/// One line that names the option, file or kernel that cannot work.
pub(crate) fn check(settings: &BootSettings, root: &Path, spec: &InstallSpec) -> Result<Vec<String>> {
    let Some(plan) = &settings.pxe else {
        return Ok(Vec::new());
    };
    let warnings = plan.check_needs(&spec.drives)?;
    ka_initrd::kernel_release(root, plan.kernel.as_deref()).context("making the boot image (stage1)")?;
    Ok(warnings)
}

/// Takes every port of the boot server for a moment.
///
/// # Errors
/// A port is in use, or may not be had; the line names it.
pub(crate) fn check_ports(settings: &BootSettings) -> Result<()> {
    settings.pxe.as_ref().map_or(Ok(()), |plan| plan.check_ports())
}
