//! The initramfs of each installed kernel, rebuilt in the clone by the clone's own tool, with this hardware's
//! drivers.
//!
//! The image that is booted may differ from the one that the tool makes. systemd-boot takes a copy on the EFI
//! system partition (`boot_entries.rs`), and in a clone the hooks that copy it do nothing or harm. So it is
//! copied here.

use std::time::Duration;

use ka_distro::kernel;

use crate::boot_entries;
use crate::configured;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, Kind, has_program, text, text_or_empty};
use crate::kernels::{self, releases};
use crate::modprobe::NeededModules;
use crate::plan::{Action, Plan};

/// One kernel's initramfs takes 20 seconds on a fast disk and many minutes in an emulated machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// 100 MB onto a slow stick.
const COPY_LIMIT: Duration = Duration::from_secs(600);

const BEGIN: &str = "# KA: what this machine's hardware needs";
const END: &str = "# KA: end";

/// The tool that makes an initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Debian's initramfs-tools.
    InitramfsTools,
    /// The tool dracut.
    Dracut,
    /// Arch's mkinitcpio.
    Mkinitcpio,
    /// Alpine's mkinitfs.
    Mkinitfs,
    /// Red Hat's old mkinitrd, and scripts of that name with its options.
    Mkinitrd,
}

impl Tool {
    /// Returns the installed tool.
    #[must_use]
    pub fn of(files: &dyn Files) -> Option<Self> {
        if has_program(files, "dracut") && update_initramfs_is_dracuts(files) {
            return Some(Self::Dracut);
        }
        [
            ("update-initramfs", Self::InitramfsTools),
            ("dracut", Self::Dracut),
            ("mkinitcpio", Self::Mkinitcpio),
            ("mkinitfs", Self::Mkinitfs),
            ("mkinitrd", Self::Mkinitrd),
        ]
        .into_iter()
        // Slackware's mkinitrd has nothing but the name in common with Red Hat's.
        .filter(|(name, _)| *name != "mkinitrd" || !files.exists("/etc/slackware-version"))
        .find(|(name, _)| has_program(files, name))
        .map(|(_, tool)| tool)
    }
}

/// Debian's newer dracut brings an `update-initramfs` of its own, which hands over to it and reads none of
/// initramfs-tools' lists.
fn update_initramfs_is_dracuts(files: &dyn Files) -> bool {
    ["/usr/sbin/update-initramfs", "/sbin/update-initramfs"]
        .iter()
        .any(|path| matches!(text(files, path), Ok(Some(script)) if script.contains("dracut")))
}

/// Plans the module list and the rebuilding.
///
/// # Errors
/// A configuration file cannot be read.
pub fn plan(files: &dyn Files, facts: &Facts, needed: &NeededModules) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    let releases = releases(files);
    if releases.is_empty() {
        return Ok(plan);
    }
    let Some(tool) = Tool::of(files) else {
        // A kernel with everything built in needs none.
        if kernels::has_initramfs(files) {
            plan.warnings.push(
                "no update-initramfs, dracut, mkinitcpio, mkinitfs or Red Hat's mkinitrd: the initramfs stays the golden \
                 node's"
                    .to_owned(),
            );
        }
        return Ok(plan);
    };
    let (modules, options) = wanted(needed, &facts.boot.initrd_options);
    match tool {
        Tool::InitramfsTools => initramfs_tools(&mut plan, files, &releases, &modules, &options)?,
        Tool::Dracut => dracut(&mut plan, files, &releases, &modules, &options),
        Tool::Mkinitcpio => mkinitcpio(&mut plan, files, &releases, &modules, &options)?,
        Tool::Mkinitfs => mkinitfs(&mut plan, files, &releases, &modules, &options)?,
        Tool::Mkinitrd => mkinitrd(&mut plan, files, &releases, &modules, &options),
    }
    if tool != Tool::Mkinitcpio {
        warn_of_others(&mut plan, files);
    }
    for image in boot_entries::unified(files) {
        plan.warnings.push(format!(
            "{image} is a unified kernel image: its initramfs and command line stay the golden node's unless a hook in \
             /etc/ka/hooks.d makes it anew"
        ));
    }
    Ok(plan)
}

/// Warns of images that a boot loader loads and that the plan does not make: they have the golden node's
/// drivers. Only mkinitcpio knows the images of its presets.
fn warn_of_others(plan: &mut Plan, files: &dyn Files) {
    let runs = plan.actions.iter().filter_map(|action| match action {
        Action::Run(command) => Some(command),
        _ => None,
    });
    // `update-initramfs -u -k R` makes initrd.img-R, all others say which file.
    let words = runs.flat_map(|command| command.argv.iter());
    let made: Vec<&str> = words
        .map(|word| word.rsplit('/').next().unwrap_or_default())
        .collect();
    let is_made = |image: &str| {
        let of_debian = image.strip_prefix("initrd.img-");
        let links = files.kind(&format!("/boot/{image}")) == Some(Kind::Link);
        links || made.contains(&image) || of_debian.is_some_and(|release| made.contains(&release))
    };
    let others = configured::initrds(files)
        .into_iter()
        .filter(|named| !is_made(&named.image));
    let warnings = others.map(|named| {
        format!(
            "{} loads {}, which is not made anew: it has the drivers of the golden node's hardware",
            named.config, named.image
        )
    });
    let warnings: Vec<String> = warnings.collect();
    plan.warnings.extend(warnings);
}

/// Returns the hardware's modules and those of `--with=MODULE` (mkinitrd's option, understood for every
/// tool), and the other options, which go to the tool as they are.
fn wanted(needed: &NeededModules, options: &[String]) -> (Vec<String>, Vec<String>) {
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
    // Without /etc/kernel/cmdline (kernel-install(8)), Debian's hook (systemd-boot's
    // /etc/initramfs/post-update.d) would write boot entries with the command line of the running kernel,
    // which is stage1's.
    plan.set_env("KERNEL_INSTALL_BYPASS", "1");
}

/// Builds `images` and puts the copies beside them up to date.
fn build(plan: &mut Plan, release: &str, images: &Images, mut tool: impl FnMut(&mut Plan, &str)) {
    for image in &images.built {
        tool(plan, image);
    }
    let Some(from) = images.built.first() else { return };
    copies(plan, release, from, &images.copies);
}

fn copies(plan: &mut Plan, release: &str, from: &str, to: &[String]) {
    for copy in to {
        plan.run(
            format!("copying the initramfs of {release} to {copy}"),
            COPY_LIMIT,
            &["cp", from, copy],
        );
    }
}

fn initramfs_tools(
    plan: &mut Plan,
    files: &dyn Files,
    releases: &[String],
    modules: &[String],
    options: &[String],
) -> Result<(), PostError> {
    const LIST: &str = "/etc/initramfs-tools/modules";
    let old = text_or_empty(files, LIST)?;
    let new = with_lines(&old, modules);
    if new != old {
        plan.write(LIST, new, vec![modules.join(" ")]);
    }
    for release in releases {
        let known = files.exists(&format!("/boot/initrd.img-{release}"));
        let how = if known { "-u" } else { "-c" };
        run(plan, release, &["update-initramfs", how, "-k", release], options);
        let image = format!("/boot/initrd.img-{release}");
        copies(plan, release, &image, &kernels::entry_images(files, release));
    }
    Ok(())
}

/// Returns the text with our lines at its end, those of an earlier run replaced. Nothing else of it changes.
fn with_lines(old: &str, lines: &[String]) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in old.split_inclusive('\n') {
        match line.trim() {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => text += line,
        }
    }
    if lines.is_empty() {
        return text;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
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
        let images = images(files, release, &format!("/boot/initramfs-{release}.img"));
        build(plan, release, &images, |plan, image| {
            run(plan, release, &["dracut", "--force", image, release], options);
        });
    }
}

/// The images of one kernel.
struct Images {
    /// The images that the tool is to make, one at least.
    built: Vec<String>,
    /// Other places that must hold the same image as the first of them.
    copies: Vec<String>,
}

/// Returns the images of a kernel, by their present names, or `otherwise` if there is none yet.
/// kernel-install may keep one on the ESP beside the one in /boot. Then the loader takes the former, and the
/// next update starts from the latter.
fn images(files: &dyn Files, release: &str, otherwise: &str) -> Images {
    let mut built = kernel::initramfs(release, &|dir| files.names(dir));
    built.retain(|name| files.exists(name));
    // One name may be a link to another.
    if built.iter().any(|name| files.kind(name) == Some(Kind::File)) {
        built.retain(|name| files.kind(name) == Some(Kind::File));
    }
    let mut copies = kernels::entry_images(files, release);
    if built.is_empty() && !copies.is_empty() {
        built.push(copies.remove(0));
    }
    if built.is_empty() {
        built.push(otherwise.to_owned());
    }
    Images { built, copies }
}

fn mkinitcpio(
    plan: &mut Plan,
    files: &dyn Files,
    releases: &[String],
    modules: &[String],
    options: &[String],
) -> Result<(), PostError> {
    const CONFIG: &str = "/etc/mkinitcpio.conf";
    let old = text_or_empty(files, CONFIG)?;
    // bash reads the file. The last line adds to the value before it, in any form (array, text, several
    // lines). It is not `+=`, which would leave a text of several names one name.
    let addition = match modules.is_empty() {
        true => Vec::new(),
        false => vec![format!("MODULES=(${{MODULES[@]}} {})", modules.join(" "))],
    };
    let new = with_lines(&old, &addition);
    if new != old {
        plan.write(CONFIG, new, vec![modules.join(" ")]);
    }
    drop_in(plan, files, &addition);
    run(plan, "all kernels", &["mkinitcpio", "-P"], options);
    // With kernel-install there are no presets, and -P makes nothing.
    for release in releases {
        for image in kernels::entry_images(files, release) {
            run(
                plan,
                release,
                &["mkinitcpio", "-k", release, "-g", &image],
                options,
            );
        }
    }
    Ok(())
}

/// Alpine's tool takes features, lists of modules' paths: ours is one more of them (mkinitfs(1)). Its image
/// has no name of its own but the flavour's.
fn mkinitfs(
    plan: &mut Plan,
    files: &dyn Files,
    releases: &[String],
    modules: &[String],
    options: &[String],
) -> Result<(), PostError> {
    const CONFIG: &str = "/etc/mkinitfs/mkinitfs.conf";
    const FEATURE: &str = "ka-hardware";
    let mut paths: Vec<String> = Vec::new();
    for release in releases {
        let index = text_or_empty(files, &format!("/lib/modules/{release}/modules.dep"))?;
        paths.extend(modules.iter().filter_map(|module| module_glob(&index, module)));
    }
    paths.sort();
    paths.dedup();
    let old = text_or_empty(files, CONFIG)?;
    // The shell reads the file: the last line adds to whatever is before it.
    let addition = match paths.is_empty() {
        true => Vec::new(),
        false => vec![format!("features=\"$features {FEATURE}\"")],
    };
    let new = with_lines(&old, &addition);
    if new != old {
        plan.write(CONFIG, new, vec![modules.join(" ")]);
    }
    if !paths.is_empty() {
        let list = format!("/etc/mkinitfs/features.d/{FEATURE}.modules");
        plan.write(list, format!("{}\n", paths.join("\n")), vec![modules.join(" ")]);
    }
    for release in releases {
        let flavour = kernel::flavour_initramfs(release).filter(|image| files.exists(image));
        let images = match flavour {
            Some(image) => Images {
                built: vec![image],
                copies: kernels::entry_images(files, release),
            },
            None => images(files, release, &format!("/boot/initramfs-{release}")),
        };
        build(plan, release, &images, |plan, image| {
            run(plan, release, &["mkinitfs", "-o", image, release], options);
        });
    }
    Ok(())
}

/// The path of a module below its release's directory, whatever it is compressed with:
/// `kernel/fs/ext4/ext4.ko*`. Files are named with hyphens or underscores, which mean the same (modprobe(8)).
fn module_glob(index: &str, module: &str) -> Option<String> {
    let plain = |name: &str| name.replace('-', "_");
    let paths = index.lines().filter_map(|line| line.split(':').next());
    let mut stems = paths.filter_map(|path| path.split_once(".ko").map(|(stem, _)| stem));
    let stem = stems.find(|stem| {
        let name = stem.rsplit('/').next().unwrap_or_default();
        plain(name) == plain(module)
    })?;
    Some(format!("{stem}.ko*"))
}

/// Files of their own may set the list anew, and are read after the main one: ours is the last of them.
fn drop_in(plan: &mut Plan, files: &dyn Files, lines: &[String]) {
    const DIR: &str = "/etc/mkinitcpio.conf.d";
    const OURS: &str = "zz-ka-hardware.conf";
    let names = files.names(DIR);
    let path = format!("{DIR}/{OURS}");
    if lines.is_empty() {
        if names.iter().any(|name| name == OURS) {
            plan.remove(path, "nothing more is needed here");
        }
    } else if names.iter().any(|name| name.ends_with(".conf")) {
        plan.write(
            path,
            format!("# Written by KA\n{}\n", lines.join("\n")),
            lines.to_vec(),
        );
    }
}

fn mkinitrd(plan: &mut Plan, files: &dyn Files, releases: &[String], modules: &[String], options: &[String]) {
    for release in releases {
        let with: Vec<String> = modules.iter().map(|module| format!("--with={module}")).collect();
        let images = images(files, release, &format!("/boot/initrd-{release}.img"));
        build(plan, release, &images, |plan, image| {
            let mut argv = vec!["mkinitrd", "-f"];
            argv.extend(with.iter().map(String::as_str));
            argv.extend(options.iter().map(String::as_str));
            argv.extend([image, release]);
            run(plan, release, &argv, &[]);
        });
    }
}

#[cfg(test)]
#[path = "initramfs_tests.rs"]
mod tests;
