//! The programs of a package: built for users or taken ready, without symbols.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::process::Program;

/// The programs, each stripped, in a directory of the package's own.
#[derive(Debug)]
pub(super) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Builds the programs with the profile `dist`, into `target/dist`, and the static client beside them.
    ///
    /// # Errors
    /// cargo fails; it has said why.
    pub(super) fn built(work: &Path) -> Result<Self> {
        let target = binaries::workspace().join("target");
        println!("building the programs for users (profile dist); the first time takes some ten minutes …");
        cargo(&target, None)?;
        println!("building the static client …");
        let triple = format!("{}-unknown-linux-gnu", super::MACHINE);
        cargo(&target.join("static"), Some(&triple))?;
        let dist = target.join("dist");
        let client = target.join("static").join(triple).join("dist/ka-client");
        fs::copy(&client, dist.join(binaries::STATIC_CLIENT))
            .with_context(|| format!("copying {}", client.display()))?;
        Self::taken(&dist, work)
    }

    /// Takes the programs out of a directory in which they were built.
    ///
    /// # Errors
    /// One is missing.
    pub(super) fn taken(from: &Path, work: &Path) -> Result<Self> {
        let dir = work.join("programs");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for name in Self::names().chain([binaries::STATIC_CLIENT]) {
            let program = from.join(name);
            ensure!(
                program.is_file(),
                "--programs {}: there is no {name}; `cargo build --workspace` and `cargo xtask static` make them",
                from.display()
            );
            Program::new("strip")
                .args(["--strip-all", "--remove-section=.comment", "-o"])
                .args([dir.join(name), program])
                .run()?;
        }
        Ok(Self { dir })
    }

    /// The names of the programs that go to `/usr/bin`.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        binaries::PACKAGES.into_iter()
    }

    /// A stripped program.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The text that a program prints about itself: its manual page, or a completion script.
    ///
    /// # Errors
    /// The program fails.
    pub(super) fn says(&self, name: &str, options: &[&str]) -> Result<String> {
        // ka looks for the others beside itself.
        Program::new(self.path(name)).args(options).run()
    }
}

/// Builds for users: optimized, and without this machine's paths in messages. With a triple, the static client alone.
fn cargo(target_dir: &Path, static_for: Option<&str>) -> Result<()> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let workspace = binaries::workspace();
    let paths = [(home.as_str(), "/cargo"), (&workspace.to_string_lossy(), "/ka")];
    let mut rust: Vec<String> = Vec::new();
    let mut c: Vec<String> = Vec::new();
    for (from, to) in paths {
        rust.push(format!("--remap-path-prefix={from}={to}"));
        c.push(format!("-ffile-prefix-map={from}={to}"));
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--profile", "dist", "--target-dir"])
        .arg(target_dir);
    match static_for {
        Some(triple) => {
            rust.push("-Ctarget-feature=+crt-static".to_owned());
            // Always with --target: without it build scripts and macros would be made static, too, which breaks them.
            cargo.args(["--package", "ka-client", "--bin", "ka-client", "--target", triple]);
        }
        None => {
            cargo.arg("--bins");
            cargo.args(Programs::names().flat_map(|name| ["--package", name]));
        }
    }
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env("CFLAGS", c.join(" "))
        .current_dir(&workspace)
        .stdin(Stdio::null());
    let status = cargo.status().context("running cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}
