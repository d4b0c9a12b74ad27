//! The other loaders: systemd-boot, EXTLINUX, LILO. Their configuration was rewritten as text before
//! ([`crate::references`]).

use ka_distro::config::{EXTLINUX_CONFIGS, SYSLINUX_CODE_DIRS};
use ka_distro::efi::Role;

use crate::error::PostError;
use crate::esp;
use crate::facts::Facts;
use crate::files::{Files, first_of, has_program, text_or_empty};
use crate::names::ids::expect_own;
use crate::plan::Plan;

use super::install::LOADER_LIMIT;

/// Boot code that ends before the disk signature, bytes.
const CODE_LEN: usize = 440;

pub(super) fn systemd_boot(files: &dyn Files, esp: &str) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    if !has_program(files, "bootctl") {
        // Its two programs came with the files.
        let programs = esp::programs(files, esp);
        if programs.iter().any(|program| program.role == Role::SystemdBoot) {
            return Ok(plan);
        }
        return Err(PostError::Wrong(format!(
            "there is no systemd-boot below {esp}/EFI/systemd"
        )));
    }
    let path = format!("--esp-path={esp}");
    plan.run(
        format!("installing systemd-boot in {esp}"),
        LOADER_LIMIT,
        &["bootctl", &path, "--no-variables", "install"],
    );
    // The table on the disk is a provisional one in which nothing is an EFI system partition.
    plan.set_env("SYSTEMD_RELAX_ESP_CHECKS", "1");
    Ok(plan)
}

/// Returns the places of its configuration.
pub(super) fn extlinux_dir(files: &dyn Files) -> &'static str {
    let found = EXTLINUX_CONFIGS.iter().find(|(_, config)| files.exists(config));
    found.map_or("/boot/extlinux", |(dir, _)| dir)
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

/// Insists on what `extlinux --install` leaves behind, on a kernel to boot, and on a configuration that names
/// no golden disk.
pub(super) fn check_extlinux(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let dir = extlinux_dir(files);
    let second_stage = format!("{}/ldlinux.sys", dir.trim_end_matches('/'));
    // On btrfs it is no file: it lies before the superblock, in the partition's first 64 KiB.
    let is_file = facts.mount_of(dir).is_none_or(|mount| mount.fstype != "btrfs");
    if is_file && !files.exists(&second_stage) {
        return Err(PostError::Wrong(format!("extlinux left no {second_stage}")));
    }
    check_extlinux_configs(files, facts)
}

/// Checks the part of it that is there before anything is installed, and the boot code for the disk.
pub(super) fn foresee_extlinux(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    check_extlinux_configs(files, facts)?;
    // Which kind of table a clone gets is the node's to know.
    syslinux_boot_code(files, false)
        .or_else(|error| syslinux_boot_code(files, true).map_err(|_| error))
        .map(drop)
}

fn check_extlinux_configs(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let dir = extlinux_dir(files);
    let is_config = |name: &String| name.ends_with(".conf") || name.ends_with(".cfg");
    let mut boots = false;
    for name in files.names(dir).into_iter().filter(is_config) {
        let path = format!("{dir}/{name}");
        let text = text_or_empty(files, &path)?;
        expect_own(&path, &text, facts)?;
        boots |= kernels(&text).any(|kernel| files.exists(&as_extlinux_reads(kernel, dir, facts)));
    }
    if boots {
        return Ok(());
    }
    Err(PostError::Wrong(format!(
        "no file in {dir} names a kernel that is there: a path in it begins at the root of the file system with {dir}"
    )))
}

/// Returns the kernels of a configuration, without the menus that are loaded in the same way (SYSLINUX wiki,
/// "Config").
fn kernels(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        let is_kernel = key.eq_ignore_ascii_case("linux") || key.eq_ignore_ascii_case("kernel");
        let value = value.trim();
        (is_kernel && !value.ends_with(".c32")).then_some(value)
    })
}

fn as_extlinux_reads(path: &str, dir: &str, facts: &Facts) -> String {
    if !path.starts_with('/') {
        return format!("{dir}/{path}");
    }
    let mount = facts.mount_of(dir).map_or("/", |mount| mount.path.as_str());
    format!("{}{path}", mount.trim_end_matches('/'))
}

/// EXTLINUX leaves the disk's boot record to its administrator; the code for it comes with syslinux.
pub(super) fn syslinux_boot_code(files: &dyn Files, gpt: bool) -> Result<Vec<u8>, PostError> {
    let name = if gpt { "gptmbr.bin" } else { "mbr.bin" };
    let places = SYSLINUX_CODE_DIRS.map(|dir| format!("{dir}/{name}"));
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

/// Checks LILO's configuration. LILO itself insists on the kernels in it, but not on the root file systems,
/// which it only copies.
pub(super) fn check_lilo(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    const CONFIG: &str = "/etc/lilo.conf";
    expect_own(CONFIG, &text_or_empty(files, CONFIG)?, facts)
}
