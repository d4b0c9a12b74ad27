//! The files of a package, and where each goes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ka_tests::binaries;

use super::licences::{self, Linked};
use super::nfpm::Format;
use super::programs::Programs;
use super::{Release, documents, gzip, sbom, write};

/// The treatment of a file by a package manager, beyond putting it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// The administrator's own version of it stays at an upgrade.
    Config,
    Doc,
    Licence,
    Dir,
}

/// A file or directory of a package.
#[derive(Debug)]
pub(super) struct File {
    /// The file to be copied; none for a directory.
    pub(super) source: Option<PathBuf>,
    pub(super) target: String,
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

/// The shells with completions: name, directory in a Debian and in an RPM, and the file's name around that of a program.
const SHELLS: [(&str, &str, &str, &str, &str); 3] = [
    (
        "bash",
        "/usr/share/bash-completion/completions",
        "/usr/share/bash-completion/completions",
        "",
        "",
    ),
    (
        "zsh",
        "/usr/share/zsh/vendor-completions",
        "/usr/share/zsh/site-functions",
        "_",
        "",
    ),
    (
        "fish",
        "/usr/share/fish/vendor_completions.d",
        "/usr/share/fish/vendor_completions.d",
        "",
        ".fish",
    ),
];
const UNITS: [&str; 2] = ["ka-pxe.service", "ka-server@.service"];
const DOC: &str = "/usr/share/doc/ka";

/// The files of a package, sorted by target.
///
/// # Errors
/// A file cannot be read or written, or a program does not say its manual page or completions.
pub(super) fn files(
    format: Format,
    release: &Release,
    programs: &Programs,
    linked: &[Linked],
    work: &Path,
) -> Result<Vec<File>> {
    let mut tree = Tree {
        format,
        work: work.join(format.name()),
        files: Vec::new(),
    };
    for name in Programs::names() {
        tree.add(
            programs.path(name),
            &format!("/usr/bin/{name}"),
            0o755,
            Kind::Plain,
        );
        tree.documented(programs, name)?;
    }
    let client = binaries::STATIC_CLIENT;
    tree.add(
        programs.path(client),
        &format!("/usr/lib/ka/{client}"),
        0o755,
        Kind::Plain,
    );
    tree.services();
    tree.documents(release, linked)?;
    tree.dirs();
    tree.files.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(tree.files)
}

/// The list as it grows.
#[derive(Debug)]
struct Tree {
    format: Format,
    /// The directory for files that are made for this package.
    work: PathBuf,
    files: Vec<File>,
}

impl Tree {
    fn add(&mut self, source: PathBuf, target: &str, mode: u32, kind: Kind) {
        self.files.push(File {
            source: Some(source),
            target: target.to_owned(),
            mode,
            kind,
        });
    }

    /// Adds a file of the workspace, or all files of one of its directories.
    fn workspace(&mut self, path: &str, target: &str, kind: Kind) -> Result<()> {
        let source = binaries::workspace().join(path);
        if source.is_dir() {
            for entry in fs::read_dir(&source).with_context(|| format!("reading {path}"))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                self.workspace(&format!("{path}/{name}"), &format!("{target}/{name}"), kind)?;
            }
        } else {
            self.add(source, target, 0o644, kind);
        }
        Ok(())
    }

    /// Adds a program's manual page and completions.
    fn documented(&mut self, programs: &Programs, name: &str) -> Result<()> {
        let page = programs.says(name, &["--man"])?;
        let page = gzip(&write(&self.work, &format!("man/{name}.8"), page)?)?;
        self.add(
            page,
            &format!("/usr/share/man/man8/{name}.8.gz"),
            0o644,
            Kind::Doc,
        );
        for (shell, debian, rpm, before, after) in SHELLS {
            let dir = match self.format {
                Format::Deb => debian,
                Format::Rpm => rpm,
            };
            let script = programs.says(name, &["--completions", shell])?;
            let script = write(&self.work, &format!("{shell}/{name}"), script)?;
            self.add(
                script,
                &format!("{dir}/{before}{name}{after}"),
                0o644,
                Kind::Plain,
            );
        }
        Ok(())
    }

    /// Adds what starts the boot server and runs, and what these need.
    fn services(&mut self) {
        let workspace = binaries::workspace();
        for unit in UNITS {
            let target = format!("/usr/lib/systemd/system/{unit}");
            self.add(workspace.join("systemd").join(unit), &target, 0o644, Kind::Plain);
        }
        // Debian's policy wants a script there to be configuration, Fedora's guidelines want it to be none.
        let (init, kind) = match self.format {
            Format::Deb => ("/etc/init.d/ka-pxe", Kind::Config),
            Format::Rpm => ("/etc/rc.d/init.d/ka-pxe", Kind::Plain),
        };
        for (name, target, mode, kind) in [
            ("ka.sysusers", "/usr/lib/sysusers.d/ka.conf", 0o644, Kind::Plain),
            ("ka.tmpfiles", "/usr/lib/tmpfiles.d/ka.conf", 0o644, Kind::Plain),
            ("ka.logrotate", "/etc/logrotate.d/ka", 0o644, Kind::Config),
            ("ka-pxe.init", init, 0o755, kind),
        ] {
            self.add(workspace.join("packaging").join(name), target, mode, kind);
        }
    }

    fn documents(&mut self, release: &Release, linked: &[Linked]) -> Result<()> {
        for path in ["README.md", "docs"] {
            self.workspace(path, &format!("{DOC}/{path}"), Kind::Doc)?;
        }
        self.workspace("packaging/examples", &format!("{DOC}/examples"), Kind::Doc)?;
        self.workspace("desc-examples", &format!("{DOC}/examples/desc"), Kind::Doc)?;
        let sbom = write(&self.work, "sbom.cdx.json", sbom::document(release, linked)?)?;
        self.add(sbom, &format!("{DOC}/sbom.cdx.json"), 0o644, Kind::Doc);
        let changes = fs::read(binaries::workspace().join("CHANGELOG.md")).context("reading CHANGELOG.md")?;
        let changes = gzip(&write(&self.work, "changelog", changes)?)?;
        self.add(changes, &format!("{DOC}/changelog.gz"), 0o644, Kind::Doc);
        let third_party = write(
            &self.work,
            "third-party-licences.txt",
            licences::third_party(linked)?,
        )?;
        let third_party = gzip(&third_party)?;
        match self.format {
            Format::Deb => {
                self.add(
                    third_party,
                    &format!("{DOC}/third-party-licences.txt.gz"),
                    0o644,
                    Kind::Doc,
                );
                let copyright = write(&self.work, "copyright", documents::copyright()?)?;
                self.add(copyright, &format!("{DOC}/copyright"), 0o644, Kind::Doc);
                let own = write(
                    &self.work,
                    "changelog.Debian",
                    documents::debian_changelog(release)?,
                )?;
                self.add(
                    gzip(&own)?,
                    &format!("{DOC}/changelog.Debian.gz"),
                    0o644,
                    Kind::Doc,
                );
                self.workspace(
                    "packaging/deb/lintian-overrides",
                    "/usr/share/lintian/overrides/ka",
                    Kind::Plain,
                )
            }
            Format::Rpm => {
                let dir = "/usr/share/licenses/ka";
                self.add(
                    third_party,
                    &format!("{dir}/third-party-licences.txt.gz"),
                    0o644,
                    Kind::Licence,
                );
                for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
                    self.workspace(name, &format!("{dir}/{name}"), Kind::Licence)?;
                }
                Ok(())
            }
        }
    }

    /// Adds the directories that no other package has. An RPM owns the directories of its documents, too.
    fn dirs(&mut self) {
        let own: &[&str] = match self.format {
            Format::Deb => &["/etc/ka"],
            Format::Rpm => &[
                "/etc/ka",
                "/usr/lib/ka",
                DOC,
                "/usr/share/doc/ka/docs",
                "/usr/share/doc/ka/examples",
                "/usr/share/doc/ka/examples/desc",
                "/usr/share/licenses/ka",
            ],
        };
        for target in own {
            self.files.push(File {
                source: None,
                target: (*target).to_owned(),
                mode: 0o755,
                kind: Kind::Dir,
            });
        }
    }
}
