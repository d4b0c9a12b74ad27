//! GRUB 2: `grub-install`, `grub-mkconfig`, and what must be true of their work.

use crate::boot_entries;
use crate::facts::{Facts, efi_directories, efi_root, is_efi, shim_directory};
use crate::files::{Files, first_of, has_program, program, text};
use crate::plan::{Plan, PostError};
use crate::references::expect_own;

use super::{LOADER_LIMIT, pe};

/// GRUB's name of a PC with BIOS.
pub(super) const BIOS_PLATFORM: &str = "i386-pc";
/// GRUB's name of this architecture with UEFI, and the suffix of its programs.
pub(super) const EFI_PLATFORM: &str = if cfg!(target_arch = "aarch64") {
    "arm64-efi"
} else {
    "x86_64-efi"
};
/// How this architecture's EFI programs end: `grubx64.efi`, `BOOTX64.EFI`.
const EFI_SUFFIX: &str = if cfg!(target_arch = "aarch64") {
    "aa64"
} else {
    "x64"
};

pub(super) fn bios(files: &dyn Files, facts: &Facts, disk: &str) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    device_map(&mut plan, files, facts);
    let target = format!("--target={BIOS_PLATFORM}");
    let tool = install_tool(files)?;
    plan.run(
        format!("installing GRUB on {disk}"),
        LOADER_LIMIT,
        &[tool, &target, disk],
    );
    config(&mut plan, files)?;
    debconf(&mut plan, files, disk);
    Ok(plan)
}

pub(super) fn uefi(files: &dyn Files, facts: &Facts, esp: &str, shim: bool) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    device_map(&mut plan, files, facts);
    // Debian's and Ubuntu's grub-install can do more than the others'.
    let debian = files.exists("/etc/debian_version");
    let (target, directory) = (
        format!("--target={EFI_PLATFORM}"),
        format!("--efi-directory={esp}"),
    );
    let doing = format!("installing GRUB in {esp}");
    if shim && debian && has_signed_parts(files) {
        let tool = install_tool(files)?;
        plan.run(
            doing,
            LOADER_LIMIT,
            &[
                tool,
                &target,
                &directory,
                "--uefi-secure-boot",
                "--force-extra-removable",
                "--no-nvram",
            ],
        );
    } else if shim {
        // What is signed is installed by the packages that bring it; it came with the files.
        keep_shim(&mut plan, files, esp)?;
    } else {
        let tool = install_tool(files)?;
        let mut argv = vec![tool, &target, &directory, "--no-nvram"];
        if debian {
            argv.extend(["--no-uefi-secure-boot", "--force-extra-removable"]);
            plan.run(doing, LOADER_LIMIT, &argv);
        } else {
            plan.run(doing.clone(), LOADER_LIMIT, &argv);
            argv.push("--removable");
            plan.run(format!("{doing}, fallback path"), LOADER_LIMIT, &argv);
        }
    }
    config(&mut plan, files)?;
    Ok(plan)
}

/// The program to enter in the firmware's boot menu, as a path in the clone.
pub(super) fn efi_loader(files: &dyn Files, esp: &str, shim: bool) -> Result<String, PostError> {
    let prefix = if shim { "shim" } else { "grub" };
    let wanted = format!("{prefix}{EFI_SUFFIX}.efi");
    let found = efi_directories(files, esp)
        .into_iter()
        .filter(|dir| !dir.to_ascii_lowercase().ends_with("/boot"))
        .find_map(|dir| {
            let name = files
                .names(&dir)
                .into_iter()
                .find(|name| name.eq_ignore_ascii_case(&wanted))?;
            Some(format!("{dir}/{name}"))
        });
    found.ok_or_else(|| PostError::Wrong(format!("there is no {wanted} below {esp}/EFI")))
}

/// The fallback path is what firmware boots that has lost its variables, or never heard of this disk.
pub(super) fn check_fallback(files: &dyn Files, esp: &str, shim: bool) -> Result<(), PostError> {
    let missing = || PostError::Wrong(format!("there is no boot{EFI_SUFFIX}.efi in {esp}/EFI/BOOT"));
    let path = fallback(files, esp).ok_or_else(missing)?;
    let bytes = files
        .read(&path)
        .map_err(PostError::reading(&path))?
        .ok_or_else(missing)?;
    if shim && !pe::is_signed(&bytes) {
        return Err(PostError::Wrong(format!(
            "{path} is not signed, though the golden node boots through shim"
        )));
    }
    Ok(())
}

/// `grub.cfg` is there, boots something, and names the clone's root and no golden file system.
pub(super) fn check_config(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let path = config_path(files);
    let text = text(files, path)
        .map_err(PostError::reading(path))?
        .ok_or_else(|| PostError::Wrong(format!("there is no {path}")))?;
    if text.contains("blscfg") {
        boot_entries::check_names(files, facts)?;
    }
    judge_config(path, &text, facts)
}

fn judge_config(path: &str, text: &str, facts: &Facts) -> Result<(), PostError> {
    let boots = text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("linux") || line.starts_with("blscfg")
    });
    if !boots {
        return Err(PostError::Wrong(format!("{path} boots no kernel")));
    }
    expect_own(path, text, facts)
}

fn fallback(files: &dyn Files, esp: &str) -> Option<String> {
    let efi = efi_root(files, esp)?;
    let boot = files
        .names(&efi)
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case("boot"))?;
    let wanted = format!("boot{EFI_SUFFIX}.efi");
    let dir = format!("{efi}/{boot}");
    let name = files
        .names(&dir)
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(&wanted))?;
    Some(format!("{dir}/{name}"))
}

/// Where no tool puts it, the golden node's shim goes to the fallback path with everything beside it.
fn keep_shim(plan: &mut Plan, files: &dyn Files, esp: &str) -> Result<(), PostError> {
    if fallback(files, esp).is_some() {
        return Ok(());
    }
    let dir = shim_directory(files, esp)
        .ok_or_else(|| PostError::Wrong(format!("the shim that was in {esp} on the golden node is gone")))?;
    for name in files.names(&dir).into_iter().filter(|name| is_efi(name)) {
        let from = format!("{dir}/{name}");
        let bytes = files
            .read(&from)
            .map_err(PostError::reading(&from))?
            .unwrap_or_default();
        let is_shim = name.eq_ignore_ascii_case(&format!("shim{EFI_SUFFIX}.efi"));
        let name = if is_shim {
            format!("BOOT{}.EFI", EFI_SUFFIX.to_ascii_uppercase())
        } else {
            name
        };
        plan.write(
            format!("{esp}/EFI/BOOT/{name}"),
            bytes,
            vec![format!("copied from {from}")],
        );
    }
    Ok(())
}

/// Debian's packages of shim and of the signed GRUB are there.
pub(crate) fn has_signed_parts(files: &dyn Files) -> bool {
    files.exists(&format!("/usr/lib/shim/shim{EFI_SUFFIX}.efi.signed"))
        && files.exists(&format!(
            "/usr/lib/grub/{EFI_PLATFORM}-signed/grub{EFI_SUFFIX}.efi.signed"
        ))
}

fn install_tool(files: &dyn Files) -> Result<&'static str, PostError> {
    program(files, &["grub-install", "grub2-install"]).ok_or_else(|| {
        PostError::Wrong("the clone has no grub-install: install GRUB on the golden node".to_owned())
    })
}

fn config_path(files: &dyn Files) -> &'static str {
    first_of(files, &["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"]).unwrap_or({
        if has_program(files, "grub-mkconfig") {
            "/boot/grub/grub.cfg"
        } else {
            "/boot/grub2/grub.cfg"
        }
    })
}

fn config(plan: &mut Plan, files: &dyn Files) -> Result<(), PostError> {
    let tool = program(files, &["grub-mkconfig", "grub2-mkconfig"])
        .ok_or_else(|| PostError::Wrong("the clone has no grub-mkconfig".to_owned()))?;
    plan.run(
        "writing grub.cfg",
        LOADER_LIMIT,
        &[tool, "-o", config_path(files)],
    );
    Ok(())
}

/// Older systems keep a list of disks by the names that they had at installation.
fn device_map(plan: &mut Plan, files: &dyn Files, facts: &Facts) {
    let Some(path) = first_of(files, &["/boot/grub/device.map", "/boot/grub2/device.map"]) else {
        return;
    };
    let lines: Vec<String> = facts
        .disks
        .iter()
        .enumerate()
        .map(|(index, disk)| format!("(hd{index})\t{}", disk.path))
        .collect();
    plan.write(path, format!("{}\n", lines.join("\n")), lines);
}

/// Debian asks its own database, at every update of GRUB, which disk to install it on.
fn debconf(plan: &mut Plan, files: &dyn Files, disk: &str) {
    const ANSWERS: &str = "/run/ka-debconf";
    if !files.exists("/var/lib/dpkg/info/grub-pc.list") || !has_program(files, "debconf-set-selections") {
        return;
    }
    let text = format!(
        "grub-pc grub-pc/install_devices multiselect {disk}\ngrub-pc grub-pc/install_devices_disks_changed multiselect {disk}\n"
    );
    plan.write(ANSWERS, text, vec![format!("GRUB's updates go to {disk}")]);
    plan.run(
        "telling debconf where GRUB is",
        LOADER_LIMIT,
        &["debconf-set-selections", ANSWERS],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;

    #[test]
    fn entries_that_grub_boots_are_judged_like_its_configuration() {
        let entry = "/boot/loader/entries/fedora.conf";
        let files = Texts::new(&[
            ("/boot/grub2/grub.cfg", "insmod blscfg\nblscfg\n"),
            (
                entry,
                "linux /vmlinuz\noptions root=UUID=aaaaaaaa-0003-4000-8000-000000000003\n",
            ),
        ]);
        check_config(&files, &facts()).unwrap();
        let golden = files.with(entry, "options root=UUID=11111111-0003-4000-8000-000000000003\n");
        let error = check_config(&golden, &facts()).unwrap_err().to_string();
        assert!(error.contains(entry), "{error}");
    }

    #[test]
    fn a_configuration_with_a_golden_uuid_or_without_kernel_is_refused() {
        let good = "menuentry x {\n  linux /vmlinuz root=UUID=aaaaaaaa-0003-4000-8000-000000000003\n}\n";
        judge_config("grub.cfg", good, &facts()).unwrap();
        let golden = good.replace("aaaaaaaa", "11111111");
        let error = judge_config("grub.cfg", &golden, &facts())
            .unwrap_err()
            .to_string();
        assert!(error.contains("still names the golden file system"), "{error}");
        let kept = Facts {
            keep_uuids: true,
            ..facts()
        };
        judge_config("grub.cfg", &golden, &kept).unwrap();
        assert!(judge_config("grub.cfg", "set timeout=5\n", &facts()).is_err());
    }
}
