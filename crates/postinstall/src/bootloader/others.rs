//! The other loaders: systemd-boot, EXTLINUX, LILO. Their configuration was rewritten as text before
//! ([`crate::references`]).

use crate::facts::efi_root;
use crate::files::{Files, first_of, has_program};
use crate::plan::{Action, Plan, PostError};

use super::LOADER_LIMIT;

/// Boot code that ends before the disk signature, bytes.
const CODE_LEN: usize = 440;

pub(super) fn systemd_boot(files: &dyn Files, esp: &str) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    if !has_program(files, "bootctl") {
        // Its two programs came with the files.
        systemd_boot_loader(files, esp)?;
        return Ok(plan);
    }
    let path = format!("--esp-path={esp}");
    plan.run(
        format!("installing systemd-boot in {esp}"),
        LOADER_LIMIT,
        &["bootctl", &path, "--no-variables", "install"],
    );
    if let Some(Action::Run(command)) = plan.actions.last_mut() {
        // The table on the disk is a provisional one in which nothing is an EFI system partition.
        command
            .env
            .push(("SYSTEMD_RELAX_ESP_CHECKS".to_owned(), "1".to_owned()));
    }
    Ok(plan)
}

/// The program to enter in the firmware's boot menu.
pub(super) fn systemd_boot_loader(files: &dyn Files, esp: &str) -> Result<String, PostError> {
    let missing = || PostError::Wrong(format!("there is no systemd-boot below {esp}/EFI/systemd"));
    let dir = format!("{}/systemd", efi_root(files, esp).ok_or_else(missing)?);
    let name = files
        .names(&dir)
        .into_iter()
        .find(|name| name.to_ascii_lowercase().starts_with("systemd-boot"))
        .ok_or_else(missing)?;
    Ok(format!("{dir}/{name}"))
}

/// Where its configuration is.
pub(super) fn extlinux_dir(files: &dyn Files) -> &'static str {
    if files.exists("/boot/syslinux/syslinux.cfg") && !files.exists("/boot/extlinux") {
        "/boot/syslinux"
    } else {
        "/boot/extlinux"
    }
}

pub(super) fn extlinux(files: &dyn Files) -> Plan {
    let dir = extlinux_dir(files);
    let mut plan = Plan::default();
    plan.run(
        format!("installing EXTLINUX in {dir}"),
        LOADER_LIMIT,
        &["extlinux", "--install", dir],
    );
    plan
}

/// EXTLINUX leaves the disk's boot record to its administrator; the code for it comes with syslinux.
pub(super) fn syslinux_boot_code(files: &dyn Files, gpt: bool) -> Result<Vec<u8>, PostError> {
    let name = if gpt { "gptmbr.bin" } else { "mbr.bin" };
    let places = [
        "/usr/lib/syslinux/mbr",
        "/usr/lib/syslinux",
        "/usr/share/syslinux",
        "/usr/lib/EXTLINUX",
    ]
    .map(|dir| format!("{dir}/{name}"));
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let path = first_of(files, &places).ok_or_else(|| {
        PostError::Wrong(format!(
            "the clone has no {name} of syslinux: install syslinux-common on the golden node"
        ))
    })?;
    let code = files
        .read(path)
        .map_err(PostError::reading(path))?
        .unwrap_or_default();
    if code.is_empty() || code.len() > CODE_LEN {
        return Err(PostError::Wrong(format!(
            "{path} has {} bytes, boot code has 1 to {CODE_LEN}",
            code.len()
        )));
    }
    Ok(code)
}

pub(super) fn lilo(files: &dyn Files) -> Result<Plan, PostError> {
    if !has_program(files, "lilo") {
        return Err(PostError::Wrong(
            "the clone has no lilo: install it on the golden node, or choose another boot loader with -r"
                .to_owned(),
        ));
    }
    let mut plan = Plan::default();
    plan.run("installing LILO", LOADER_LIMIT, &["lilo"]);
    Ok(plan)
}
