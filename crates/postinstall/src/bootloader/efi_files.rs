//! Loaders that consist of their files on the EFI system partition: rEFInd, Limine, unified kernel images.
//! They came with the clone. The remaining steps are a program at the fallback path, and a check that they
//! lead to this clone.

use ka_disk::spec::Loader;
use ka_distro::config::LIMINE_CONFIGS;
use ka_distro::efi::{Arch, FALLBACK_DIR};

use crate::boot_entries;
use crate::error::PostError;
use crate::esp::{self, Program};
use crate::facts::Facts;
use crate::files::{Files, Kind, text_or_empty};
use crate::names::ids::expect_own;
use crate::plan::Plan;

/// A loader's own directory has a few drivers and icons in directories of their own.
const MAX_DEPTH: usize = 3;

/// Copies the loader's program to the fallback path, if nothing is there, with everything beside it: each of
/// these loaders reads its configuration from its own directory.
pub(super) fn plan(files: &dyn Files, facts: &Facts, loader: Loader, esp: &str) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    if esp::fallback(files, esp).is_some() {
        return Ok(plan);
    }
    let to = format!("{esp}/EFI/{FALLBACK_DIR}");
    match program(files, facts, loader, esp)? {
        Found::Loader(program) => copy_dir(&mut plan, files, &program, &program.dir, &to, MAX_DEPTH)?,
        Found::Image(path) => copy(&mut plan, files, &path, format!("{to}/{}", Arch::HERE.fallback()))?,
    }
    Ok(plan)
}

/// Insists on the program and on configurations that name no golden file system. Returns the program's path.
pub(super) fn check(
    files: &dyn Files,
    facts: &Facts,
    loader: Loader,
    esp: &str,
) -> Result<String, PostError> {
    let (path, dir) = match program(files, facts, loader, esp)? {
        Found::Loader(program) => (program.path(), program.dir),
        Found::Image(path) => return Ok(path),
    };
    let beside =
        ["refind.conf", "refind_linux.conf", "limine.conf", "limine.cfg"].map(|name| format!("{dir}/{name}"));
    let elsewhere = [
        "/boot/refind_linux.conf".to_owned(),
        format!("{esp}/limine.conf"),
        format!("{esp}/limine.cfg"),
    ];
    let limine = LIMINE_CONFIGS.map(ToOwned::to_owned);
    for config in beside.into_iter().chain(elsewhere).chain(limine) {
        expect_own(&config, &text_or_empty(files, &config)?, facts)?;
    }
    Ok(path)
}

enum Found {
    Loader(Program),
    Image(String),
}

fn program(files: &dyn Files, facts: &Facts, loader: Loader, esp: &str) -> Result<Found, PostError> {
    let golden = facts
        .boot
        .golden
        .program
        .as_deref()
        .map(|place| format!("{esp}{place}"));
    let is_golden = |path: &String| {
        golden
            .as_ref()
            .is_some_and(|golden| golden.eq_ignore_ascii_case(path))
    };
    let missing = || PostError::Wrong(format!("{loader} is not in {esp} any more"));
    let Some(role) = esp::role_of(loader, false) else {
        let inside = boot_entries::unified(files)
            .into_iter()
            .filter(|path| path.starts_with(esp));
        let mut images: Vec<String> = inside.collect();
        // The newest one, if the firmware has not told.
        images.sort_by(|a, b| ka_distro::kernel::by_version(a, b));
        let image = images.iter().find(|path| is_golden(path)).or(images.last());
        return image.cloned().map(Found::Image).ok_or_else(missing);
    };
    let programs = esp::programs(files, esp);
    let mut fitting = programs.iter().filter(|program| program.role == role);
    let first = fitting.clone().next();
    let chosen = fitting.find(|program| is_golden(&program.path())).or(first);
    chosen.cloned().map(Found::Loader).ok_or_else(missing)
}

fn copy_dir(
    plan: &mut Plan,
    files: &dyn Files,
    program: &Program,
    from: &str,
    to: &str,
    depth_left: usize,
) -> Result<(), PostError> {
    for name in files.names(from) {
        let path = format!("{from}/{name}");
        let is_program = path == program.path();
        let name = if is_program { Arch::HERE.fallback() } else { &name };
        match files.kind(&path) {
            Some(Kind::File) => copy(plan, files, &path, format!("{to}/{name}"))?,
            Some(Kind::Dir) if depth_left > 0 => {
                copy_dir(
                    plan,
                    files,
                    program,
                    &path,
                    &format!("{to}/{name}"),
                    depth_left - 1,
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy(plan: &mut Plan, files: &dyn Files, from: &str, to: String) -> Result<(), PostError> {
    let bytes = files.read(from).map_err(PostError::reading(from))?;
    plan.write(to, bytes.unwrap_or_default(), vec![format!("copied from {from}")]);
    Ok(())
}
