//! GRUB 2: `grub-install`, `grub-mkconfig`, and what must be true of their work.

use ka_distro::config::{GRUB_CONFIGS, GRUB_DIRS};
use ka_distro::efi::{Arch, BIOS_PLATFORM, FALLBACK_DIR, Role, is_fallback_dir, is_program, role};

use crate::boot_entries;
use crate::error::PostError;
use crate::esp;
use crate::facts::Facts;
use crate::files::{Files, first_of, has_program, program, text, text_or_empty};
use crate::names::ids::expect_own;
use crate::plan::Plan;

use super::install::LOADER_LIMIT;
use super::{choice, pe};

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
    config(&mut plan, files, None)?;
    debconf(&mut plan, files, disk);
    Ok(plan)
}

pub(super) fn uefi(files: &dyn Files, facts: &Facts, esp: &str, shim: bool) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    device_map(&mut plan, files, facts);
    // Debian's and Ubuntu's grub-install can do more than the others'.
    let debian = files.exists("/etc/debian_version");
    let (target, directory) = (
        format!("--target={}", Arch::HERE.grub_platform()),
        format!("--efi-directory={esp}"),
    );
    let doing = format!("installing GRUB in {esp}");
    if shim && installs_shim(files) {
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
        // Signed programs are installed by the packages that bring them. They came with the files.
        keep_shim(&mut plan, files, esp)?;
    } else {
        let tool = install_tool(files)?;
        let mut argv = vec![tool, &target, &directory, "--no-nvram"];
        if debian {
            argv.extend(["--no-uefi-secure-boot", "--force-extra-removable"]);
            plan.run(doing, LOADER_LIMIT, &argv);
        } else {
            let id = own_directory(facts).map(|name| format!("--bootloader-id={name}"));
            let with_id: Vec<&str> = argv.iter().copied().chain(id.as_deref()).collect();
            plan.run(doing.clone(), LOADER_LIMIT, &with_id);
            argv.push("--removable");
            plan.run(format!("{doing}, fallback path"), LOADER_LIMIT, &argv);
        }
    }
    config(&mut plan, files, Some(esp))?;
    Ok(plan)
}

/// Returns the golden GRUB's directory on the EFI system partition: its place is the clone's, too, and no old
/// one is left behind.
fn own_directory(facts: &Facts) -> Option<&str> {
    let mut parts = facts.boot.golden.program.as_deref()?.rsplit('/');
    let (program, dir) = (parts.next()?, parts.next()?);
    (role(program, Arch::HERE) == Some(Role::Grub) && !is_fallback_dir(dir)).then_some(dir)
}

/// The fallback path is what firmware boots that has lost its variables, or never heard of this disk.
pub(super) fn check_fallback(
    files: &dyn Files,
    facts: &Facts,
    esp: &str,
    shim: bool,
) -> Result<(), PostError> {
    let path = choice::check_fallback(files, esp)?;
    let bytes = files.read(&path).map_err(PostError::reading(&path))?;
    if shim && !pe::is_signed(&bytes.unwrap_or_default()) {
        return Err(PostError::Wrong(format!(
            "{path} is not signed, though the golden node boots through shim"
        )));
    }
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let config = format!("{dir}/grub.cfg");
    expect_own(&config, &text_or_empty(files, &config)?, facts)
}

/// Checks that the configurations exist, boot a system, and name the clone's root and no golden file system.
/// The same holds for the files that they read: boot entries, and the environment blocks, in which Red Hat 8
/// keeps the kernel's command line.
pub(super) fn check_config(files: &dyn Files, facts: &Facts, esp: Option<&str>) -> Result<(), PostError> {
    let mut paths: Vec<String> = GRUB_CONFIGS.iter().map(|path| (*path).to_owned()).collect();
    paths.retain(|path| files.exists(path));
    paths.extend(esp.map(|esp| full_configs(files, esp)).unwrap_or_default());
    if paths.is_empty() {
        return Err(PostError::Wrong(format!("there is no {}", config_path(files))));
    }
    for path in &paths {
        let text = text_or_empty(files, path)?;
        if text.contains("blscfg") {
            boot_entries::check_names(files, facts)?;
        }
        judge_config(path, &text, facts)?;
    }
    let dirs = GRUB_DIRS.map(ToOwned::to_owned).into_iter();
    let vendors = esp.map(|esp| esp::directories(files, esp)).unwrap_or_default();
    for dir in dirs.chain(vendors) {
        let block = format!("{dir}/grubenv");
        // Its unused rest is one long comment behind the last line.
        expect_own(&block, &text_or_empty(files, &block)?, facts)?;
    }
    Ok(())
}

/// Checks that the golden node has all that [`config`] and [`check_config`] need.
///
/// # Errors
/// Something is missing; with what to do.
pub(crate) fn check_golden(files: &dyn Files, esp: Option<&str>) -> Result<(), PostError> {
    let on_esp = esp.map(|esp| full_configs(files, esp)).unwrap_or_default();
    let elsewhere = first_of(files, &GRUB_CONFIGS);
    if mkconfig(files).is_some() || elsewhere.is_none() && !on_esp.is_empty() {
        return Ok(());
    }
    Err(PostError::Wrong(format!(
        "the golden node has no grub-mkconfig to write {} for a clone: install GRUB's tools there, or use -r none",
        elsewhere.unwrap_or("grub.cfg")
    )))
}

/// Checks the part of [`config`] and [`check_config`] that can be told before: the tool, and what no tool
/// makes anew.
pub(super) fn foresee(files: &dyn Files, facts: &Facts, esp: Option<&str>) -> Result<(), PostError> {
    check_golden(files, esp)?;
    if mkconfig(files).is_none() {
        check_config(files, facts, esp)?;
    }
    Ok(())
}

/// Returns the configurations on the EFI system partition that are whole ones, as Red Hat 8 has them, not
/// stubs that lead to another.
pub(crate) fn full_configs(files: &dyn Files, esp: &str) -> Vec<String> {
    let dirs = esp::directories(files, esp).into_iter();
    let paths = dirs.map(|dir| format!("{dir}/grub.cfg"));
    paths
        .filter(|path| text(files, path).ok().flatten().is_some_and(|text| boots(&text)))
        .collect()
}

fn boots(config: &str) -> bool {
    config.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("linux") || line.starts_with("blscfg")
    })
}

fn judge_config(path: &str, text: &str, facts: &Facts) -> Result<(), PostError> {
    if !boots(text) {
        return Err(PostError::Wrong(format!("{path} boots no kernel")));
    }
    expect_own(path, text, facts)
}

/// Copies the golden node's shim to the fallback path, with everything beside it, if no tool puts it there.
fn keep_shim(plan: &mut Plan, files: &dyn Files, esp: &str) -> Result<(), PostError> {
    if esp::fallback(files, esp).is_some() {
        return Ok(());
    }
    let dir = esp::shim_directory(files, esp)
        .ok_or_else(|| PostError::Wrong(format!("the shim that was in {esp} on the golden node is gone")))?;
    for name in files.names(&dir).into_iter().filter(|name| is_program(name)) {
        let from = format!("{dir}/{name}");
        let bytes = files
            .read(&from)
            .map_err(PostError::reading(&from))?
            .unwrap_or_default();
        let is_shim = role(&name, Arch::HERE) == Some(Role::Shim);
        let name = if is_shim { Arch::HERE.fallback() } else { &name };
        plan.write(
            format!("{esp}/EFI/{FALLBACK_DIR}/{name}"),
            bytes,
            vec![format!("copied from {from}")],
        );
    }
    Ok(())
}

/// Debian's `grub-install` brings shim along; elsewhere it stays as its package left it.
pub(super) fn installs_shim(files: &dyn Files) -> bool {
    files.exists("/etc/debian_version") && has_signed_parts(files) && install_tool(files).is_ok()
}

/// Debian's packages of shim and of the signed GRUB are there.
pub(crate) fn has_signed_parts(files: &dyn Files) -> bool {
    let (suffix, platform) = (Arch::HERE.suffix(), Arch::HERE.grub_platform());
    files.exists(&format!("/usr/lib/shim/shim{suffix}.efi.signed"))
        && files.exists(&format!(
            "/usr/lib/grub/{platform}-signed/grub{suffix}.efi.signed"
        ))
}

fn install_tool(files: &dyn Files) -> Result<&'static str, PostError> {
    program(files, &["grub-install", "grub2-install"]).ok_or_else(|| {
        PostError::Wrong("the clone has no grub-install: install GRUB on the golden node".to_owned())
    })
}

fn config_path(files: &dyn Files) -> &'static str {
    first_of(files, &GRUB_CONFIGS).unwrap_or({
        if has_program(files, "grub-mkconfig") {
            "/boot/grub/grub.cfg"
        } else {
            "/boot/grub2/grub.cfg"
        }
    })
}

fn mkconfig(files: &dyn Files) -> Option<&'static str> {
    program(files, &["grub-mkconfig", "grub2-mkconfig"])
}

/// Every whole configuration is made anew. One on the EFI system partition whose tool is not there was
/// translated as text before ([`crate::references`]).
fn config(plan: &mut Plan, files: &dyn Files, esp: Option<&str>) -> Result<(), PostError> {
    let on_esp = esp.map(|esp| full_configs(files, esp)).unwrap_or_default();
    let elsewhere = first_of(files, &GRUB_CONFIGS).is_some();
    let mut paths: Vec<&str> = on_esp.iter().map(String::as_str).collect();
    if elsewhere || paths.is_empty() {
        paths.insert(0, config_path(files));
    }
    let Some(tool) = mkconfig(files) else {
        return match elsewhere || on_esp.is_empty() {
            true => Err(PostError::Wrong("the clone has no grub-mkconfig".to_owned())),
            false => Ok(()),
        };
    };
    for path in paths {
        plan.run("writing grub.cfg", LOADER_LIMIT, &[tool, "-o", path]);
    }
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
        check_config(&files, &facts(), None).unwrap();
        let golden = files.with(entry, "options root=UUID=11111111-0003-4000-8000-000000000003\n");
        let error = check_config(&golden, &facts(), None).unwrap_err().to_string();
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
