//! The house rules of ARCHITECTURE.md that a machine can hold us to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};
use ka_tests::binaries::workspace;

/// Who may depend on whom. What is not named may depend on none of ours.
///
/// Beyond the drawing of the architecture: `server → host`, because the operator's `-e` command is run by host's runner,
/// the only place with exec; both ends tell their story in the types of `status`; `kmod` and `cpio` are what the maker
/// of an image and the node that unpacks it must agree on; `distro` is the one table of distributions' names; `ka-status`
/// speaks the transport's TLS; `ka-pxe` names machines by the rule under which they join.
const ALLOWED: [(&str, &[&str]); 11] = [
    (
        "ka-server",
        &[
            "ka-transport",
            "ka-image",
            "ka-disk",
            "ka-postinstall",
            "ka-status",
            "ka-proto",
            "ka-host",
            "ka-pxe",
            "ka-initrd",
            "ka-cli",
        ],
    ),
    (
        "ka-client",
        &[
            "ka-transport",
            "ka-image",
            "ka-disk",
            "ka-postinstall",
            "ka-status",
            "ka-host",
            "ka-proto",
            "ka-kmod",
            "ka-distro",
            "ka-cpio",
            "ka-dhcpc",
            "ka-cli",
        ],
    ),
    ("ka-transport", &["ka-proto"]),
    ("ka-status", &["ka-proto", "ka-transport", "ka-cli"]),
    ("ka-disk", &["ka-host", "ka-cli"]),
    ("ka-image", &["ka-host"]),
    ("ka-dhcpc", &["ka-host"]),
    ("ka-postinstall", &["ka-disk", "ka-host", "ka-kmod", "ka-distro"]),
    ("ka-initrd", &["ka-kmod", "ka-cpio", "ka-distro", "ka-cli"]),
    ("ka-pxe", &["ka-distro", "ka-proto", "ka-cli"]),
    // Development only: the lab judges from outside and is linked into nothing that is shipped.
    ("xtask", &["ka-tests"]),
];

/// Lines a source file may have before it must be cut up (STYLE: about 300, a hard look at 600).
const MAX_LINES: usize = 600;
/// `main.rs` parses, calls one function, prints the error and sets the exit code.
const MAX_MAIN_LINES: usize = 60;

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let metadata = MetadataCommand::new().current_dir(workspace()).no_deps().exec()?;
    let ours: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let may = allowed.get(package.name.as_str()).copied().unwrap_or_default();
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| ours.contains(&dependency.name))
        {
            // The lab may use all of ours, and tests anywhere may use the lab: it is linked into nothing that is shipped.
            let for_tests = dependency.kind == DependencyKind::Development
                && (package.name.as_str() == "ka-tests" || dependency.name == "ka-tests");
            if !for_tests && !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} → {}", package.name, dependency.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "dependencies that ARCHITECTURE.md does not allow: {wrong:?}"
    );
    Ok(())
}

#[test]
fn only_host_has_unsafe_or_exec() -> Result<()> {
    let mut wrong = Vec::new();
    for file in product_sources()? {
        if file.starts_with(workspace().join("crates/host")) {
            continue;
        }
        for (number, line) in numbered_code(&file)? {
            let is_exec =
                line.contains("process::Command") || line.contains("Command::new(") && !line.contains("clap");
            if is_exec
                || line.contains("unsafe {")
                || line.contains("unsafe fn")
                || line.contains("unsafe impl")
            {
                wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "only crates/host may have these:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn proto_has_no_file_socket_thread_or_clock() -> Result<()> {
    let forbidden = [
        "std::net::Tcp",
        "std::net::Udp",
        "std::fs",
        "std::thread",
        "std::process",
        "Instant",
        "SystemTime",
        "tokio",
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&workspace().join("crates/proto/src"))? {
        for (number, line) in numbered_code(&file)? {
            if let Some(word) = forbidden.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "proto must be pure:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn libraries_never_print() -> Result<()> {
    let mut wrong = Vec::new();
    for file in product_sources()? {
        let is_binary = file.components().any(|part| part.as_os_str() == "bin");
        let is_library = file.starts_with(workspace().join("crates")) && !is_binary;
        if !is_library || file.starts_with(workspace().join("crates/status")) {
            continue;
        }
        for (number, line) in numbered_code(&file)? {
            if ["println!(", "eprintln!(", "print!(", "eprint!("]
                .iter()
                .any(|word| line.contains(word))
            {
                wrong.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "libraries return events or log: {wrong:?}");
    Ok(())
}

/// These macros panic where standard output or error takes nothing: a closed terminal, `| head -1`.
#[test]
fn no_program_prints_by_a_macro_that_panics() -> Result<()> {
    let mut files = product_sources()?;
    for dir in ["pxe/src", "initrd/src"] {
        files.extend(rust_files(&workspace().join(dir))?);
    }
    let mut wrong = Vec::new();
    for file in files {
        for (number, line) in numbered_code(&file)? {
            if ["println!(", "print!("].iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "use writeln! and let its error go: {wrong:?}");
    Ok(())
}

#[test]
fn no_file_outgrows_a_reader() -> Result<()> {
    let mut wrong = Vec::new();
    for file in all_sources()? {
        let lines = fs::read_to_string(&file)?.lines().count();
        let is_main = file.file_name().is_some_and(|name| name == "main.rs")
            && !file.starts_with(workspace().join("tests"));
        let most = if is_main { MAX_MAIN_LINES } else { MAX_LINES };
        if lines > most {
            wrong.push(format!("{} has {lines} lines, {most} at most", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_source_file_says_what_it_is_for() -> Result<()> {
    let silent: Vec<_> = all_sources()?
        .into_iter()
        .filter(|file| !fs::read_to_string(file).is_ok_and(|text| text.starts_with("//!")))
        .collect();
    assert!(silent.is_empty(), "no module documentation: {silent:?}");
    Ok(())
}

/// Lines outside of comments and of `#[cfg(test)]` modules, which by custom end the file.
fn numbered_code(file: &Path) -> Result<Vec<(usize, String)>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let code = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    Ok(code.map(|(index, line)| (index + 1, line.to_owned())).collect())
}

fn product_sources() -> Result<Vec<PathBuf>> {
    let mut files = rust_files(&workspace().join("crates"))?;
    files.extend(rust_files(&workspace().join("server/src"))?);
    files.extend(rust_files(&workspace().join("client/src"))?);
    files.retain(|file| file.components().any(|part| part.as_os_str() == "src"));
    // A module whose file is only compiled for tests is called tests.rs here.
    files.retain(|file| file.file_name().is_some_and(|name| name != "tests.rs"));
    Ok(files)
}

fn all_sources() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in ["crates", "server", "client", "tests", "xtask"] {
        files.extend(rust_files(&workspace().join(dir))?);
    }
    Ok(files)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
