//! The signed repositories, read by apt and dnf themselves.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::debian;
use ka_tests::packages::{Packages, chroot};
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;

fn make(packages: &Packages, out: &Path, key: &Path, url: &str) -> Result<()> {
    Program::new(binaries::path("xtask")?)
        .args(["repository", "--url", url, "--packages"])
        .arg(packages.dir())
        .arg("--out")
        .arg(out)
        .arg("--key")
        .arg(key)
        .run()
        .map(drop)
}

#[test]
fn apt_takes_the_signed_repository_and_refuses_an_altered_one() -> Result<()> {
    let scratch = Scratch::new("apt")?;
    let root = scratch.dir("root")?;
    debian::unpack(&debian::with_sysvinit()?, &root)?;
    let (out, key) = (root.join("srv/repository"), scratch.path().join("key.asc"));
    make(Packages::first()?, &out, &key, "file:///srv/repository")?;
    fs::remove_file(root.join("etc/apt/sources.list")).ok();
    fs::copy(
        out.join("ka.sources"),
        root.join("etc/apt/sources.list.d/ka.sources"),
    )?;
    let apt = |words: &[&str]| chroot(&root, &[&["apt-get", "-q", "-y"], words].concat());
    apt(&["update"]).run()?;
    apt(&["--no-install-recommends", "install", "ka=0.1.0-1"]).run()?;

    // The same key signs the next version into the same repository, which then has both.
    make(Packages::second()?, &out, &key, "file:///srv/repository")?;
    apt(&["update"]).run()?;
    let said = chroot(&root, &["apt-cache", "madison", "ka"]).run()?;
    ensure!(
        said.contains("0.1.0-1") && said.contains("0.1.0-2"),
        "apt knows {said}"
    );

    let release = out.join("apt/dists/stable/InRelease");
    let altered = fs::read_to_string(&release)?.replace("Label: KA", "Label: ka");
    fs::write(&release, altered)?;
    let ended = apt(&["--error-on=any", "update"]).finish()?;
    ensure!(
        ended.code != Some(0),
        "an altered list was taken:\n{}",
        ended.all()
    );
    Ok(())
}

#[test]
fn dnf_takes_the_signed_repository_and_refuses_an_altered_one() -> Result<()> {
    let scratch = Scratch::new("dnf")?;
    let (out, key) = (scratch.path().join("repository"), scratch.path().join("key.asc"));
    make(
        Packages::first()?,
        &out,
        &key,
        &format!("file://{}", out.display()),
    )?;
    let root = scratch.dir("root")?;
    let package = fs::read_dir(out.join("rpm"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "rpm"))
        .context("no RPM in the repository")?;
    let rpmkeys = |words: &[&str]| Program::new("rpmkeys").arg("--root").arg(&root).args(words);
    rpmkeys(&["--import"]).arg(out.join("ka.asc")).run()?;
    let said = rpmkeys(&["--checksig", "--verbose"]).arg(&package).run()?;
    ensure!(
        said.contains("Signature, key ID") && !said.contains("NOKEY"),
        "rpm says {said}"
    );

    // It is the repository's own file for clients; dnf reads the index only when its signature is the key's.
    let dnf = || {
        Program::new("dnf")
            .args(["--assumeyes", "--quiet", "--installroot"])
            .arg(&root)
            .args(["--releasever=1", "--setopt=keepcache=0"])
            .arg(format!("--setopt=reposdir={}", out.display()))
            .arg(format!(
                "--setopt=cachedir={}",
                scratch.path().join("cache").display()
            ))
            .args(["repoquery", "--refresh", "ka"])
    };
    let said = dnf().run()?;
    ensure!(said.contains("ka-0:0.1.0-1.x86_64"), "dnf knows {said}");

    let index = out.join("rpm/repodata/repomd.xml");
    let altered = fs::read_to_string(&index)?.replace("<revision>", "<revision>9");
    fs::write(&index, altered)?;
    let ended = dnf().finish()?;
    ensure!(
        !ended.stdout.contains("ka-0:0.1.0-1"),
        "an altered index was taken:\n{}",
        ended.all()
    );
    Ok(())
}
