//! The initramfs of each installed kernel, rebuilt in the clone by the clone's own tool, with this hardware's drivers.

use std::cmp::Ordering;
use std::time::Duration;

use crate::facts::Facts;
use crate::files::{Files, has_program, text};
use crate::modprobe::Needed;
use crate::plan::{Plan, PostError};

/// One kernel's initramfs takes 20 seconds on a fast disk and many minutes in an emulated machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

const MODULE_LISTS: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
const BEGIN: &str = "# KA: what this machine's hardware needs";
const END: &str = "# KA: end";

/// Who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Debian's initramfs-tools.
    InitramfsTools,
    /// dracut.
    Dracut,
    /// Arch's mkinitcpio.
    Mkinitcpio,
    /// Red Hat's old mkinitrd, and scripts of that name with its options.
    Mkinitrd,
}

impl Tool {
    /// The one that is installed.
    #[must_use]
    pub fn of(files: &dyn Files) -> Option<Self> {
        [
            ("update-initramfs", Self::InitramfsTools),
            ("dracut", Self::Dracut),
            ("mkinitcpio", Self::Mkinitcpio),
            ("mkinitrd", Self::Mkinitrd),
        ]
        .into_iter()
        .find(|(name, _)| has_program(files, name))
        .map(|(_, tool)| tool)
    }
}

/// The installed kernels, by release, newest first: those with modules and an image to boot.
#[must_use]
pub fn releases(files: &dyn Files) -> Vec<String> {
    let has_image = |release: &String| {
        let images = [
            format!("/boot/vmlinuz-{release}"),
            format!("/boot/vmlinux-{release}"),
            format!("/lib/modules/{release}/vmlinuz"),
            format!("/usr/lib/modules/{release}/vmlinuz"),
        ];
        images.iter().any(|image| files.exists(image))
    };
    let mut releases: Vec<String> = MODULE_LISTS
        .iter()
        .flat_map(|dir| files.names(dir).into_iter().map(move |name| (dir, name)))
        .filter(|(dir, name)| files.exists(&format!("{dir}/{name}/modules.dep")))
        .map(|(_, name)| name)
        .filter(has_image)
        .collect();
    releases.sort_by(|a, b| by_version(b, a));
    releases.dedup();
    releases
}

/// Runs of digits compare as numbers: 6.1.0-9 is older than 6.1.0-10.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest[..digits].parse().unwrap_or(0);
            let tail = &rest[digits..];
            let word = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            parts.push((number, tail[..word].to_owned()));
            rest = &tail[word..];
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

/// Plans the module list and the rebuilding.
///
/// # Errors
/// A configuration file cannot be read.
pub fn plan(files: &dyn Files, facts: &Facts, needed: &Needed) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    let releases = releases(files);
    if releases.is_empty() {
        return Ok(plan);
    }
    let Some(tool) = Tool::of(files) else {
        plan.warnings.push(
            "no update-initramfs, dracut, mkinitcpio or mkinitrd: the initramfs stays the golden node's"
                .to_owned(),
        );
        return Ok(plan);
    };
    let (modules, options) = wanted(needed, &facts.boot.initrd_options);
    match tool {
        Tool::InitramfsTools => initramfs_tools(&mut plan, files, &releases, &modules, &options)?,
        Tool::Dracut => dracut(&mut plan, files, &releases, &modules, &options),
        Tool::Mkinitcpio => mkinitcpio(&mut plan, files, &modules, &options)?,
        Tool::Mkinitrd => mkinitrd(&mut plan, files, &releases, &modules, &options),
    }
    Ok(plan)
}

/// The hardware's modules and those of `--with=MODULE` (mkinitrd's option, understood for every tool), and the other
/// options, which go to the tool as they are.
fn wanted(needed: &Needed, options: &[String]) -> (Vec<String>, Vec<String>) {
    let mut modules = needed.initramfs.clone();
    let mut others = Vec::new();
    for option in options {
        match option
            .strip_prefix("--with=")
            .or_else(|| option.strip_prefix("--preload="))
        {
            Some(module) if !modules.iter().any(|known| known == module) => modules.push(module.to_owned()),
            Some(_) => {}
            None => others.push(option.clone()),
        }
    }
    (modules, others)
}

fn run(plan: &mut Plan, release: &str, argv: &[&str], options: &[String]) {
    let words: Vec<&str> = argv
        .iter()
        .copied()
        .chain(options.iter().map(String::as_str))
        .collect();
    plan.run(
        format!("building the initramfs of {release}"),
        BUILD_LIMIT,
        &words,
    );
}

fn initramfs_tools(
    plan: &mut Plan,
    files: &dyn Files,
    releases: &[String],
    modules: &[String],
    options: &[String],
) -> Result<(), PostError> {
    const LIST: &str = "/etc/initramfs-tools/modules";
    let old = text(files, LIST)
        .map_err(PostError::reading(LIST))?
        .unwrap_or_default();
    let new = with_block(&old, modules);
    if new != old {
        plan.write(LIST, new, vec![modules.join(" ")]);
    }
    for release in releases {
        let known = files.exists(&format!("/boot/initrd.img-{release}"));
        let how = if known { "-u" } else { "-c" };
        run(plan, release, &["update-initramfs", how, "-k", release], options);
    }
    Ok(())
}

/// The text with our lines in it, those of an earlier run replaced.
fn with_block(old: &str, modules: &[String]) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in old.lines() {
        match line.trim() {
            BEGIN => inside = true,
            END => inside = false,
            _ if inside => {}
            _ => text += &format!("{line}\n"),
        }
    }
    if modules.is_empty() {
        return text;
    }
    text + &format!("{BEGIN}\n{}\n{END}\n", modules.join("\n"))
}

fn dracut(plan: &mut Plan, files: &dyn Files, releases: &[String], modules: &[String], options: &[String]) {
    if !modules.is_empty() {
        let text = format!("# Written by KA\nadd_drivers+=\" {} \"\n", modules.join(" "));
        plan.write(
            "/etc/dracut.conf.d/90-ka-hardware.conf",
            text,
            vec![modules.join(" ")],
        );
    }
    for release in releases {
        for image in images(files, release, &format!("/boot/initramfs-{release}.img")) {
            run(plan, release, &["dracut", "--force", &image, release], options);
        }
    }
}

/// The images of a kernel, by the names they have here; `otherwise` when there is none yet. Where kernel-install keeps one
/// on the ESP beside the one in /boot, the loader takes the former and the latter is what the next update starts from: both
/// hold the golden node's drivers.
fn images(files: &dyn Files, release: &str, otherwise: &str) -> Vec<String> {
    let mut names = vec![
        format!("/boot/initramfs-{release}.img"),
        format!("/boot/initrd.img-{release}"),
        format!("/boot/initrd-{release}"),
        format!("/boot/initrd-{release}.img"),
    ];
    names.retain(|name| files.exists(name));
    // Boot Loader Specification: below a directory named for the installation. kernel-install calls it initrd, Debian's
    // hook keeps the name that it has in /boot.
    for esp in ["/boot/efi", "/efi", "/boot"] {
        for token in files.names(esp) {
            let dir = format!("{esp}/{token}/{release}");
            let found = files.names(&dir).into_iter();
            let found = found.filter(|name| name.starts_with("initrd") || name.starts_with("initramfs"));
            names.extend(found.map(|name| format!("{dir}/{name}")));
        }
    }
    if names.is_empty() {
        names.push(otherwise.to_owned());
    }
    names
}

fn mkinitcpio(
    plan: &mut Plan,
    files: &dyn Files,
    modules: &[String],
    options: &[String],
) -> Result<(), PostError> {
    const CONFIG: &str = "/etc/mkinitcpio.conf";
    let old = text(files, CONFIG)
        .map_err(PostError::reading(CONFIG))?
        .unwrap_or_default();
    let line = format!("MODULES=({})", modules.join(" "));
    let mut found = false;
    let mut lines: Vec<String> = old
        .lines()
        .map(|old| {
            let Some(value) = old.strip_prefix("MODULES=") else {
                return old.to_owned();
            };
            found = true;
            format!("MODULES=({})", merged(value, modules).join(" "))
        })
        .collect();
    if !found {
        lines.push(line);
    }
    plan.write(CONFIG, format!("{}\n", lines.join("\n")), vec![modules.join(" ")]);
    run(plan, "all kernels", &["mkinitcpio", "-P"], options);
    Ok(())
}

/// The modules of `(a b)` or `"a b"` and ours, each once.
fn merged(value: &str, modules: &[String]) -> Vec<String> {
    let plain = value.trim().trim_matches(['(', ')', '"', '\'']);
    let mut all: Vec<String> = plain.split_whitespace().map(ToOwned::to_owned).collect();
    for module in modules {
        if !all.contains(module) {
            all.push(module.clone());
        }
    }
    all
}

fn mkinitrd(plan: &mut Plan, files: &dyn Files, releases: &[String], modules: &[String], options: &[String]) {
    for release in releases {
        let with: Vec<String> = modules.iter().map(|module| format!("--with={module}")).collect();
        for image in images(files, release, &format!("/boot/initrd-{release}.img")) {
            let mut argv = vec!["mkinitrd", "-f"];
            argv.extend(with.iter().map(String::as_str));
            argv.extend(options.iter().map(String::as_str));
            argv.extend([image.as_str(), release]);
            run(plan, release, &argv, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;
    use crate::plan::Action;

    fn system(tool: &str) -> Texts {
        Texts::new(&[
            ("/boot/vmlinuz-6.1.0-9", ""),
            ("/boot/vmlinuz-6.1.0-10", ""),
            ("/lib/modules/6.1.0-9/modules.dep", ""),
            ("/lib/modules/6.1.0-10/modules.dep", ""),
            ("/lib/modules/5.10.0-1/modules.dep", ""),
            ("/boot/initrd.img-6.1.0-10", ""),
        ])
        .with(&format!("/usr/sbin/{tool}"), "")
    }

    fn needed() -> Needed {
        Needed {
            initramfs: vec!["libata".to_owned(), "ahci".to_owned()],
            ..Needed::default()
        }
    }

    fn commands(plan: &Plan) -> Vec<String> {
        let run = |action: &Action| match action {
            Action::Run(command) => Some(command.argv.join(" ")),
            _ => None,
        };
        plan.actions.iter().filter_map(run).collect()
    }

    fn written(plan: &Plan, file: &str) -> String {
        let found = plan.actions.iter().find_map(|action| match action {
            Action::Write { path, bytes, .. } if path == file => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{file} is not written:\n{plan}"))
    }

    #[test]
    fn kernels_with_modules_and_an_image_count_and_the_newest_is_first() {
        assert_eq!(releases(&system("dracut")), ["6.1.0-10", "6.1.0-9"]);
    }

    #[test]
    fn debian_gets_its_module_list_and_every_kernel_is_rebuilt() {
        let files = system("update-initramfs").with(
            "/etc/initramfs-tools/modules",
            "# mine\nloop\n# KA: what this machine's hardware needs\nmegaraid_sas\n# KA: end\n",
        );
        let plan = plan(&files, &facts(), &needed()).unwrap();
        assert_eq!(
            commands(&plan),
            [
                "update-initramfs -u -k 6.1.0-10",
                "update-initramfs -c -k 6.1.0-9"
            ]
        );
        assert_eq!(
            written(&plan, "/etc/initramfs-tools/modules"),
            "# mine\nloop\n# KA: what this machine's hardware needs\nlibata\nahci\n# KA: end\n"
        );
    }

    #[test]
    fn options_of_r_reach_the_tool_and_with_names_a_module_for_all() {
        let mut facts = facts();
        facts.boot.initrd_options = vec!["--with=ata_piix".to_owned(), "-v".to_owned()];
        let debian = plan(&system("update-initramfs"), &facts, &needed()).unwrap();
        assert_eq!(commands(&debian)[0], "update-initramfs -u -k 6.1.0-10 -v");
        assert!(written(&debian, "/etc/initramfs-tools/modules").contains("\nata_piix\n"));
        let redhat = plan(&system("dracut"), &facts, &needed()).unwrap();
        assert_eq!(
            commands(&redhat),
            [
                "dracut --force /boot/initrd.img-6.1.0-10 6.1.0-10 -v",
                "dracut --force /boot/initramfs-6.1.0-9.img 6.1.0-9 -v"
            ]
        );
        assert!(
            written(&redhat, "/etc/dracut.conf.d/90-ka-hardware.conf").contains("\" libata ahci ata_piix \"")
        );
        let old = plan(&system("mkinitrd"), &facts, &needed()).unwrap();
        assert_eq!(
            commands(&old)[1],
            "mkinitrd -f --with=libata --with=ahci --with=ata_piix -v /boot/initrd-6.1.0-9.img 6.1.0-9"
        );
    }

    #[test]
    fn the_image_that_the_loader_takes_from_the_esp_is_rebuilt_beside_the_one_in_boot() {
        let files = system("dracut")
            .with("/boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10", "")
            .with("/boot/efi/0123abcd/6.1.0-10/linux", "")
            .with("/efi/debian/6.1.0-9/initrd", "");
        assert_eq!(
            commands(&plan(&files, &facts(), &needed()).unwrap()),
            [
                "dracut --force /boot/initrd.img-6.1.0-10 6.1.0-10",
                "dracut --force /boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10 6.1.0-10",
                "dracut --force /efi/debian/6.1.0-9/initrd 6.1.0-9"
            ]
        );
    }

    #[test]
    fn arch_keeps_the_modules_it_had() {
        let files =
            system("mkinitcpio").with("/etc/mkinitcpio.conf", "MODULES=(ext4 ahci)\nHOOKS=(base udev)\n");
        let plan = plan(&files, &facts(), &needed()).unwrap();
        assert_eq!(
            written(&plan, "/etc/mkinitcpio.conf"),
            "MODULES=(ext4 ahci libata)\nHOOKS=(base udev)\n"
        );
        assert_eq!(commands(&plan), ["mkinitcpio -P"]);
    }

    #[test]
    fn a_system_without_kernel_has_nothing_to_build_and_one_without_tool_is_warned_of() {
        assert!(plan(&Texts::default(), &facts(), &needed()).unwrap().is_empty());
        let plan = plan(&system("nothing"), &facts(), &needed()).unwrap();
        assert!(plan.is_empty() && plan.warnings.len() == 1, "{plan}");
    }
}
