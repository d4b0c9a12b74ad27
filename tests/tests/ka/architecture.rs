//! The house rules of ARCHITECTURE.md that a machine can check.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};
use ka_tests::binaries::workspace;

use circles::Modules;

/// The dependencies that are allowed between our crates. A crate that is not listed may depend on none of
/// them.
///
/// These go beyond the drawing of the architecture:
///
/// - `server → host`: host's runner runs the operator's `-e` command, because it is the only place with exec.
/// - `report`: both ends write their account of a run in its types.
/// - `kmod` and `cpio`: the maker of an image and the node that unpacks it must agree on them.
/// - `distro`: it is the one table of distributions' names.
/// - `ka-status` speaks the transport's TLS.
/// - `ka-pxe` names machines by the rule under which they join.
/// - `dhcp`: its server and the node's client must agree on it.
/// - `lldp`: server and node both listen to the switch, and what they hear is a type of the protocol.
/// - `mac`: it is the address by which all of them name a machine.
/// - `units`: it reads sizes and times, the same on command lines and in desc files.
const ALLOWED: [(&str, &[&str]); 23] = [
    (
        "ka-server",
        &[
            "ka-transport",
            "ka-tree",
            "ka-disk",
            "ka-postinstall",
            "ka-report",
            "ka-view",
            "ka-proto",
            "ka-host",
            "ka-pxe",
            "ka-initrd",
            "ka-cli",
            "ka-lldp",
            "ka-mac",
        ],
    ),
    (
        "ka-client",
        &[
            "ka-transport",
            "ka-tree",
            "ka-disk",
            "ka-postinstall",
            "ka-report",
            "ka-host",
            "ka-proto",
            "ka-kmod",
            "ka-distro",
            "ka-cpio",
            "ka-dhcpc",
            "ka-cli",
            "ka-dhcp",
            "ka-lldp",
            "ka-mac",
        ],
    ),
    ("ka", &["ka-cli", "ka-host"]),
    ("ka-transport", &["ka-proto", "ka-mac"]),
    ("ka-status", &["ka-proto", "ka-transport", "ka-cli"]),
    ("ka-desc", &["ka-disk", "ka-host", "ka-cli", "ka-units"]),
    ("ka-image", &["ka-store", "ka-tree", "ka-cli"]),
    ("ka-cli", &["ka-units"]),
    ("ka-report", &["ka-proto"]),
    ("ka-view", &["ka-report", "ka-proto"]),
    ("ka-disk", &["ka-host", "ka-units"]),
    ("ka-tree", &["ka-host"]),
    ("ka-store", &["ka-tree"]),
    ("ka-dhcpc", &["ka-host", "ka-dhcp", "ka-mac"]),
    ("ka-dhcp", &["ka-mac"]),
    ("ka-lldp", &["ka-host", "ka-proto", "ka-mac"]),
    ("ka-proto", &["ka-mac"]),
    ("ka-host", &["ka-mac"]),
    ("ka-postinstall", &["ka-disk", "ka-host", "ka-kmod", "ka-distro"]),
    ("ka-initrd", &["ka-kmod", "ka-cpio", "ka-distro", "ka-cli"]),
    (
        "ka-pxe",
        &["ka-distro", "ka-proto", "ka-dhcp", "ka-mac", "ka-cli"],
    ),
    // Development only: the lab judges from outside, knows none of our crates, and is linked into nothing that
    // is shipped.
    ("ka-tests", &["ka-lab"]),
    ("xtask", &["ka-tests"]),
];

/// More dependencies that are allowed in tests: DHCP's server and client test each other, and tests make
/// addresses.
const ALLOWED_IN_TESTS: [(&str, &str); 4] = [
    ("ka-pxe", "ka-dhcpc"),
    ("ka-status", "ka-mac"),
    ("ka-report", "ka-mac"),
    ("ka-view", "ka-mac"),
];

/// The directories of the programs.
const PROGRAMS: [&str; 8] = [
    "server", "client", "pxe", "initrd", "status", "desc", "image", "ka",
];
/// The most lines of a source file; a longer one must be cut up (STYLE: about 300, a hard look at 600).
const MAX_LINES: usize = 600;
/// The most lines of a `main.rs`: it parses, calls one function, prints the error and sets the exit code.
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
            // The tests of the real binaries may use all of our crates, and the tests of any crate may use the
            // lab.
            let for_tests = dependency.kind == DependencyKind::Development
                && (package.name.as_str() == "ka-tests"
                    || dependency.name == "ka-lab"
                    || ALLOWED_IN_TESTS.contains(&(package.name.as_str(), dependency.name.as_str())));
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

/// A test writes to no disk but the lab's, so that nothing else may attach a loop device.
#[test]
fn only_the_lab_makes_loop_devices() -> Result<()> {
    let control = ["/dev/loop", "control"].join("-");
    let mut wrong = Vec::new();
    for file in all_sources()? {
        let text = fs::read_to_string(&file)?;
        let attaches = text.contains("Program::new(\"losetup\")") && text.contains("\"--find\", ");
        if (attaches || text.contains(&control)) && !file.starts_with(workspace().join("tests/lab")) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "use ka_lab::disk::Disk: {wrong:?}");
    Ok(())
}

#[test]
fn proto_and_dhcp_have_no_file_socket_thread_or_clock() -> Result<()> {
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
    let pure = ["crates/proto/src", "crates/dhcp/src", "crates/mac/src"];
    let files: Vec<Vec<PathBuf>> = pure
        .iter()
        .map(|dir| rust_files(&workspace().join(dir)))
        .collect::<Result<_>>()?;
    for file in files.into_iter().flatten() {
        for (number, line) in numbered_code(&file)? {
            if let Some(word) = forbidden.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "proto and dhcp must be pure:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn libraries_never_print() -> Result<()> {
    let mut wrong = Vec::new();
    for file in product_sources()? {
        if !file.starts_with(workspace().join("crates")) {
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

/// These macros panic if standard output or error takes nothing: a closed terminal, `| head -1`.
#[test]
fn no_program_prints_by_a_macro_that_panics() -> Result<()> {
    let mut wrong = Vec::new();
    for file in product_sources()? {
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

#[test]
fn no_files_of_a_crate_name_each_other_in_a_circle() -> Result<()> {
    let mut found = BTreeSet::new();
    for src in source_dirs()? {
        let package = src.parent().context("src lies in a package")?;
        let package = package.strip_prefix(workspace())?.display().to_string();
        for circle in Modules::read(&src)?.circles() {
            found.insert((package.clone(), circle));
        }
    }
    assert!(
        found.is_empty(),
        "files that name each other in a circle: {found:#?}"
    );
    Ok(())
}

#[test]
fn no_type_is_named_like_one_of_the_prelude() -> Result<()> {
    // Aliases such as `type Result<T>` have the prelude's meaning and are not looked at.
    let taken = [
        "Box", "Clone", "Copy", "Default", "Drop", "Eq", "Extend", "Fn", "From", "Into", "Iterator",
        "Option", "Ord", "Result", "Send", "Sized", "String", "Sync", "Vec",
    ];
    let mut wrong = Vec::new();
    for file in product_sources()? {
        for (number, line) in numbered_code(&file)? {
            let words: Vec<&str> = line
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .collect();
            let named = words
                .windows(2)
                .find(|pair| ["struct", "enum", "trait", "union"].contains(&pair[0]));
            if named.is_some_and(|pair| taken.contains(&pair[1])) {
                wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a reader takes these for the prelude's:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// A reader of this repository has no tracker, so comments and pages must not refer to one.
#[test]
fn nothing_refers_to_a_tracker() -> Result<()> {
    let mut files = all_sources()?;
    for dir in ["docs", "desc-examples", "systemd", "."] {
        for entry in fs::read_dir(workspace().join(dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    let mut wrong = Vec::new();
    for file in files {
        for (index, line) in fs::read_to_string(&file)?.lines().enumerate() {
            if names_a_ticket(line) {
                wrong.push(format!("{}:{}: {}", file.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// True if a line has a ticket's number in it, such as "issue" or "ticket" and a number.
fn names_a_ticket(line: &str) -> bool {
    let words: Vec<String> = line
        .split(|letter: char| !letter.is_alphanumeric() && letter != '#')
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(2).any(|pair| {
        let number = pair[1].trim_start_matches('#');
        ["issue", "ticket", "milestone"].contains(&pair[0].as_str())
            && !number.is_empty()
            && number.chars().all(|letter| letter.is_ascii_digit())
    })
}

#[test]
fn a_ticket_is_known_by_its_number() {
    let word = "issue";
    assert!(names_a_ticket(&format!("// {word} 7, section 4")));
    assert!(names_a_ticket(&format!("see I{} #12", &word[1..])));
    assert!(!names_a_ticket("an issue of 1987, GPT 2 and issue by issue"));
}

/// The `src` directory of each package that is shipped.
fn source_dirs() -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<PathBuf> = PROGRAMS
        .iter()
        .map(|name| workspace().join(name).join("src"))
        .collect();
    for entry in fs::read_dir(workspace().join("crates"))? {
        dirs.push(entry?.path().join("src"));
    }
    Ok(dirs)
}

/// Returns the lines outside of comments and of `#[cfg(test)]` modules, which by custom end the file.
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
    let mut files = Vec::new();
    for dir in source_dirs()? {
        files.extend(rust_files(&dir)?);
    }
    // By custom, a module that is only compiled for tests has the file or directory name `tests`.
    files.retain(|file| {
        let mut parts = file.components().skip_while(|part| part.as_os_str() != "src");
        !parts.any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
    });
    Ok(files)
}

fn all_sources() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in PROGRAMS.iter().chain(&["crates", "tests", "xtask"]) {
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
