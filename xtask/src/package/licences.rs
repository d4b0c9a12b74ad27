//! The crates that are linked into the programs, and the texts of their licences.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use ka_tests::binaries::{self, PACKAGES};
use ka_tests::process::Program;

use super::needs;

/// Beginnings of the names of licence files, in capitals.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];
/// Sources of C that a crate brings along below its own directory, with a licence of their own.
const BROUGHT_ALONG: [(&str, &str); 3] = [
    ("aws-lc-sys", "aws-lc/LICENSE"),
    ("zstd-sys", "zstd/LICENSE"),
    ("liblzma-sys", "xz/COPYING"),
];
/// glibc is part of the static client.
const GLIBC_TEXTS: [&str; 2] = [
    "/usr/share/doc/libc6/copyright",
    "/usr/share/common-licenses/LGPL-2.1",
];

/// A crate that is linked into one of the programs.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX, as the crate says it.
    pub(super) licence: String,
    /// One of this workspace.
    pub(super) is_ours: bool,
    /// The names and versions of the linked crates that it uses.
    pub(super) uses: Vec<(String, String)>,
    /// Its licence files; for a crate without any, those of a crate of the same repository.
    texts: Vec<PathBuf>,
}

/// The crates that are linked into the programs, by name and version. Tests' and build scripts' own are not among them.
///
/// # Errors
/// A crate without a licence text.
pub(super) fn linked_crates() -> Result<Vec<Linked>> {
    let metadata = MetadataCommand::new()
        .current_dir(binaries::workspace())
        .other_options(vec![
            "--locked".to_owned(),
            "--filter-platform".to_owned(),
            format!("{}-unknown-linux-gnu", super::MACHINE),
        ])
        .exec()
        .context("asking cargo for the dependencies")?;
    let used = reachable(&metadata)?;
    let by_id: HashMap<&PackageId, &Package> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package))
        .collect();
    let mut linked = Vec::new();
    for (id, uses) in &used {
        let package = by_id[id];
        let is_ours = package.source.is_none();
        let texts = if is_ours {
            Vec::new()
        } else {
            texts(package, &metadata)?
        };
        let mut uses: Vec<_> = uses
            .iter()
            .map(|id| (by_id[id].name.to_string(), by_id[id].version.to_string()))
            .collect();
        uses.sort();
        linked.push(Linked {
            name: package.name.to_string(),
            version: package.version.to_string(),
            licence: package.license.clone().unwrap_or_default().replace('/', " OR "),
            is_ours,
            uses,
            texts,
        });
    }
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

/// Each crate that a program is made of, and the crates that it uses.
fn reachable(metadata: &Metadata) -> Result<BTreeMap<&PackageId, BTreeSet<&PackageId>>> {
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo metadata resolved nothing")?;
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let ours = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_none() && PACKAGES.contains(&package.name.as_str()));
    let mut waiting: Vec<&PackageId> = ours.map(|package| &package.id).collect();
    let mut used = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if used.contains_key(id) {
            continue;
        }
        let uses: BTreeSet<&PackageId> = nodes[id]
            .deps
            .iter()
            .filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            })
            .map(|dep| &dep.pkg)
            .collect();
        waiting.extend(&uses);
        used.insert(id, uses);
    }
    Ok(used)
}

fn texts(package: &Package, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let mut texts = files_of(package)?;
    if texts.is_empty() && package.repository.is_some() {
        // Macros of a crate are often published without their repository's licence file.
        let of_same_repository = |other: &&Package| other.repository == package.repository;
        for sibling in metadata.packages.iter().filter(of_same_repository) {
            texts = files_of(sibling)?;
            if !texts.is_empty() {
                break;
            }
        }
    }
    ensure!(
        !texts.is_empty(),
        "{} {} ({}) comes without a licence text, and so do the crates of its repository",
        package.name,
        package.version,
        package.license.as_deref().unwrap_or("no licence")
    );
    Ok(texts)
}

fn files_of(package: &Package) -> Result<Vec<PathBuf>> {
    let dir = package
        .manifest_path
        .parent()
        .context("a manifest lies in a directory")?
        .as_std_path();
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|beginning| name.starts_with(beginning)) && entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    for (name, path) in BROUGHT_ALONG {
        if package.name.as_str() == name {
            let path = dir.join(path);
            ensure!(
                path.is_file(),
                "{name}: its C sources' licence is not at {}",
                path.display()
            );
            files.push(path);
        }
    }
    Ok(files)
}

/// One text with every licence that the programs are under, each text once, headed by the crates that it belongs to.
///
/// # Errors
/// A text cannot be read.
pub(super) fn third_party(linked: &[Linked]) -> Result<String> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut listed = String::new();
    for one in linked.iter().filter(|one| !one.is_ours) {
        writeln!(listed, "{} {}: {}", one.name, one.version, one.licence)?;
        for path in &one.texts {
            let name = format!("{} {}", one.name, one.version);
            owners.entry(read(path)?).or_default().insert(name);
        }
    }
    writeln!(
        listed,
        "\nThe standard library of Rust {}: MIT OR Apache-2.0",
        rust_version()?
    )?;
    for path in rust_texts()? {
        owners
            .entry(read(&path)?)
            .or_default()
            .insert("the standard library of Rust".to_owned());
    }
    let glibc = format!("GNU C Library {} (in ka-client-static)", needs::glibc_here()?);
    writeln!(listed, "{glibc}: LGPL-2.1-or-later")?;
    for path in GLIBC_TEXTS {
        owners
            .entry(read(Path::new(path))?)
            .or_default()
            .insert(glibc.clone());
    }
    let mut text = format!(
        "The programs of this package are made of KA itself (MIT OR Apache-2.0) and of the following. The texts of their licences \
         come after the list.\n\n{listed}"
    );
    // In the order of their owners, which a reader looks for.
    let mut sections: Vec<_> = owners
        .into_iter()
        .map(|(text, names)| (names.into_iter().collect::<Vec<_>>().join(", "), text))
        .collect();
    sections.sort();
    for (names, licence) in sections {
        write!(text, "\n{}\n{names}\n\n{}\n", "=".repeat(78), licence.trim_end())?;
    }
    Ok(text)
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading the licence text {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}

/// The licence texts that the compiler's own package brings. Debian's has them elsewhere.
fn rust_texts() -> Result<Vec<PathBuf>> {
    let root = Program::new("rustc").args(["--print", "sysroot"]).run()?;
    let licences = Path::new(root.trim()).join("share/doc/rust/licenses");
    let names = [
        "MIT.txt",
        "Apache-2.0.txt",
        "Unicode-3.0.txt",
        "LLVM-exception.txt",
    ];
    let texts: Vec<_> = names.map(|name| licences.join(name)).into_iter().collect();
    if texts.iter().all(|path| path.is_file()) {
        return Ok(texts);
    }
    let copyright = PathBuf::from("/usr/share/doc/libstd-rust-dev/copyright");
    ensure!(
        copyright.is_file(),
        "the licence of Rust's standard library is neither in {} nor at {}",
        licences.display(),
        copyright.display()
    );
    Ok(vec![copyright])
}

/// The compiler's version: `1.95.0`.
pub(super) fn rust_version() -> Result<String> {
    let said = Program::new("rustc").arg("--version").run()?;
    let version = said.split_whitespace().nth(1);
    version.map(str::to_owned).context("rustc names no version")
}
