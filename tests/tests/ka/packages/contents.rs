//! The contents of the packages.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries::{self, PACKAGES};
use ka_tests::packages::Packages;
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;

#[test]
fn the_same_programs_give_the_same_bytes() -> Result<()> {
    let (first, again) = (Packages::first()?, Packages::make(1)?);
    for (one, other) in [(first.deb()?, again.deb()?), (first.rpm()?, again.rpm()?)] {
        ensure!(one.file_name() == other.file_name());
        ensure!(
            fs::read(&one)? == fs::read(&other)?,
            "{} is another one when it is made again",
            one.display()
        );
    }
    Ok(())
}

#[test]
fn the_distributions_judges_have_nothing_unexplained() -> Result<()> {
    let packages = Packages::first()?;
    // Tests run as root, which lintian otherwise complains about.
    let said = Program::new("lintian")
        .args([
            "--allow-root",
            "--tag-display-limit",
            "0",
            "--fail-on",
            "error,warning",
        ])
        .arg(packages.deb()?)
        .finish()?;
    said.expect(0).context("lintian")?;
    let settings = binaries::workspace().join("packaging/rpm/rpmlint.toml");
    let said = Program::new("rpmlint")
        .arg("-c")
        .arg(settings)
        .arg(packages.rpm()?)
        .finish()?;
    said.expect(0).context("rpmlint")?;
    ensure!(
        said.all().contains(" 0 errors, 0 warnings"),
        "rpmlint found:\n{}",
        said.all()
    );
    Ok(())
}

#[test]
fn every_program_comes_with_its_page_and_its_completions() -> Result<()> {
    let (packages, scratch) = (Packages::first()?, Scratch::new("unpacked")?);
    let (deb, rpm) = (scratch.dir("deb")?, scratch.dir("rpm")?);
    Program::new("dpkg-deb")
        .arg("-x")
        .arg(packages.deb()?)
        .arg(&deb)
        .run()?;
    unpack_rpm(&packages.rpm()?, &rpm)?;
    for (root, zsh) in [(&deb, "vendor-completions"), (&rpm, "site-functions")] {
        for name in PACKAGES {
            for path in [
                format!("usr/bin/{name}"),
                format!("usr/share/man/man8/{name}.8.gz"),
                format!("usr/share/bash-completion/completions/{name}"),
                format!("usr/share/zsh/{zsh}/_{name}"),
                format!("usr/share/fish/vendor_completions.d/{name}.fish"),
            ] {
                ensure!(root.join(&path).is_file(), "{path} is not in {}", root.display());
            }
            let page = Program::new("gzip")
                .arg("-dc")
                .arg(root.join(format!("usr/share/man/man8/{name}.8.gz")))
                .run()?;
            ensure!(
                page.contains(&format!(".TH {name} 8")),
                "{name}: its page is of another section"
            );
        }
        units_name_what_is_there(root)?;
    }
    Ok(())
}

/// The programs that units start, the pages that they name, and the static client where `ka-server --pxe` looks for it.
fn units_name_what_is_there(root: &Path) -> Result<()> {
    for unit in ["ka-pxe.service", "ka-server@.service"] {
        let text = fs::read_to_string(root.join("usr/lib/systemd/system").join(unit))?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let page = value("Documentation=man:").context("no manual page")?;
        let name = page.trim_end_matches("(8)");
        ensure!(
            root.join(format!("usr/share/man/man8/{name}.8.gz")).is_file(),
            "{unit}: there is no {page}"
        );
        let program = value("ExecStart=/").and_then(|line| line.split(' ').next());
        let program = root.join(program.context("no program")?);
        ensure!(program.is_file(), "{unit}: there is no {}", program.display());
    }
    let client = root.join("usr/lib/ka/ka-client-static");
    let kind = Program::new("objdump").arg("-p").arg(&client).run()?;
    ensure!(!kind.contains("NEEDED"), "{} needs libraries", client.display());
    Ok(())
}

#[test]
fn every_crate_that_is_linked_in_is_named_with_its_licence() -> Result<()> {
    let (packages, scratch) = (Packages::first()?, Scratch::new("unpacked")?);
    Program::new("dpkg-deb")
        .arg("-x")
        .arg(packages.deb()?)
        .arg(scratch.path())
        .run()?;
    let doc = scratch.path().join("usr/share/doc/ka");
    let text = Program::new("gzip")
        .arg("-dc")
        .arg(doc.join("third-party-licences.txt.gz"))
        .run()?;
    let sbom: serde_json::Value = serde_json::from_str(&fs::read_to_string(doc.join("sbom.cdx.json"))?)?;
    ensure!(sbom["bomFormat"] == "CycloneDX" && sbom["specVersion"] == "1.5");
    let components = sbom["components"].as_array().context("no components")?;
    ensure!(components.len() > 100, "only {} components", components.len());
    // cargo's own account of the crates in the client, which has most.
    let said = Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "ka-client",
            "-e",
            "normal,no-proc-macro",
        ])
        .args([
            "--prefix",
            "none",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--manifest-path",
        ])
        .arg(binaries::workspace().join("Cargo.toml"))
        .run()?;
    let mut seen = 0;
    for line in said.lines().filter(|line| !line.contains("(/")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let version = version.trim_start_matches('v');
        ensure!(
            text.contains(&format!("{name} {version}: ")),
            "no licence of {name} {version}"
        );
        let is_it = |one: &&serde_json::Value| one["name"] == name && one["version"] == version;
        let component = components.iter().find(is_it);
        let component = component.with_context(|| format!("{name} {version} is not in the SBOM"))?;
        ensure!(component["hashes"][0]["alg"] == "SHA-256", "{name}: no checksum");
        seen += 1;
    }
    ensure!(seen > 80, "cargo tree named {seen} crates only");
    for part in [
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "standard library of Rust",
        "Apache License",
    ] {
        ensure!(text.contains(part), "{part} is not among the licences");
    }
    Ok(())
}

fn unpack_rpm(package: &Path, root: &Path) -> Result<()> {
    let script = "rpm2cpio \"$0\" | (cd \"$1\" && cpio -idm --quiet)";
    Program::new("sh")
        .args(["-c", script])
        .args([package, root])
        .run()
        .map(drop)
}
