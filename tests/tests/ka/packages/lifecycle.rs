//! A system gets the packages, upgrades them while a run goes on, and loses them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::lab::Lab;
use ka_tests::mounts::Mounted;
use ka_tests::packages::{Packages, chroot, copy_in};
use ka_tests::process::Running;
use ka_tests::scratch::Scratch;

/// A stream that flows until the upgrade is done, and then for a second more.
const STREAM: &str = "more() { head -c 100000 /dev/urandom | tee -a /root/sent; sleep 0.2; }
    while ! [ -e /root/upgraded ]; do more; done; for i in 1 2 3 4 5; do more; done";
/// Files that stay on a system when a package is removed, and those that the test itself puts there.
const NOT_OURS: [&str; 12] = [
    "dev",
    "proc",
    "root",
    "run",
    "tmp",
    "srv",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log/dpkg.log",
    "var/log/apt",
    // The group stays: files may still be its own.
    "etc/.pwd.lock",
];
const COPIES_OF_GROUPS: [&str; 2] = ["etc/group-", "etc/gshadow-"];

#[test]
fn a_system_upgrades_during_a_run_and_keeps_nothing_after_a_purge() -> Result<()> {
    let lab = Lab::new("upgrade", 1, None)?;
    let root = lab.scratch().dir("root")?;
    debian::unpack(&debian::bootable()?, &root)?;
    let _proc = Mounted::new(Path::new("/proc"), &root.join("proc"), "bind")?;
    let _dev = Mounted::new(Path::new("/dev"), &root.join("dev"), "bind")?;
    let before = files(&root)?;

    install(&root, &Packages::first()?.deb()?)?;
    ensure!(version(&root)? == "0.1.0-1", "{} is installed", version(&root)?);
    for (dir, mode) in [("var/lib/ka", "700 root root"), ("var/log/ka", "2750 root ka")] {
        let said = chroot(&root, &["stat", "-c", "%a %U %G", &format!("/{dir}")]).run()?;
        ensure!(said.trim() == mode, "{dir} is {said}");
    }
    // The administrator's configuration must survive.
    fs::write(root.join("etc/ka/pxe.conf"), "KA_PXE_OPTIONS=--iface eth1\n")?;

    let (mut server, client) = run(&lab, &root)?;
    install(&root, &Packages::second()?.deb()?)?;
    ensure!(version(&root)? == "0.1.0-2", "{} is installed", version(&root)?);
    ensure!(!server.has_ended()?, "the run was over before the upgrade was");
    fs::write(root.join("root/upgraded"), "")?;
    let (server, client) = (server.wait()?, client.wait()?);
    client.expect(0).context("the node")?;
    server.expect(0).context("the server")?;
    let (sent, got) = (
        fs::read(root.join("root/sent"))?,
        fs::read(root.join("root/got"))?,
    );
    ensure!(
        sent.len() > 500_000 && sent == got,
        "{} bytes sent, {} received",
        sent.len(),
        got.len()
    );

    chroot(&root, &["apt-get", "-y", "-q", "remove", "ka"]).run()?;
    ensure!(
        !root.join("usr/bin/ka-server").exists(),
        "a program is still there"
    );
    ensure!(
        root.join("etc/ka/pxe.conf").exists() && root.join("var/lib/ka").exists(),
        "removed like a purge"
    );
    chroot(&root, &["apt-get", "-y", "-q", "purge", "ka"]).run()?;
    let after = files(&root)?;
    let left: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    ensure!(
        left.is_empty() && lost.is_empty(),
        "left behind: {left:?}; lost: {lost:?}"
    );
    Ok(())
}

/// Begins a run of the installed programs, and returns it in the middle of its stream.
fn run(lab: &Lab, root: &Path) -> Result<(Running, Running)> {
    let network = lab.network();
    let mut server = chroot(
        root,
        &["ka-server", "-n", "1", "--join-file", "/root/join", "-e", STREAM],
    )
    .inside(network.golden())
    .spawn()?;
    let join = root.join("root/join");
    server.wait_until("it could be joined", |_| {
        Ok(fs::metadata(&join).is_ok_and(|file| file.len() > 0))
    })?;
    let client = [
        "ka-client",
        "--no-reboot",
        "--join-file",
        "/root/join",
        "-e",
        "cat > /root/got",
    ];
    let client = chroot(root, &client).inside(network.node(1)).spawn()?;
    let sent = root.join("root/sent");
    server.wait_until("the stream flowed", |_| {
        Ok(fs::metadata(&sent).is_ok_and(|file| file.len() > 300_000))
    })?;
    Ok((server, client))
}

#[test]
fn an_rpm_is_installed_upgraded_verified_and_removed() -> Result<()> {
    let scratch = Scratch::new("rpm-root")?;
    let root = scratch.dir("root")?;
    // Its scripts need a shell; rpm does not mind that the rest of the system has no package of its own.
    debian::unpack(&debian::with_sysvinit()?, &root)?;
    let rpm = |words: &[&str]| {
        ka_tests::process::Program::new("rpm")
            .arg("--root")
            .arg(&root)
            .args(words)
            .limit(Duration::from_secs(200))
    };
    let (first, second) = (Packages::first()?.rpm()?, Packages::second()?.rpm()?);
    // The other packages of this system are in dpkg's database, not in rpm's.
    rpm(&["--install", "--nodeps"]).arg(first).run()?;
    rpm(&["--verify", "--nodeps", "ka"]).run()?;
    chroot(&root, &["ka", "--version"]).run()?;
    let said = chroot(&root, &["stat", "-c", "%a %U %G", "/var/log/ka"]).run()?;
    ensure!(said.trim() == "2750 root ka", "the logs' directory is {said}");
    rpm(&["--upgrade", "--nodeps"]).arg(second).run()?;
    let said = rpm(&["--query", "ka"]).run()?;
    ensure!(said.trim() == "ka-0.1.0-2.x86_64", "{said} is installed");
    rpm(&["--erase", "ka"]).run()?;
    for path in [
        "usr/bin/ka-server",
        "usr/lib/ka",
        "usr/share/doc/ka",
        "etc/rc.d/init.d/ka-pxe",
    ] {
        ensure!(!root.join(path).exists(), "{path} is still there");
    }
    Ok(())
}

fn install(root: &Path, package: &Path) -> Result<()> {
    copy_in(package, root, "/srv/ka.deb")?;
    // There are no lists and no network: all dependencies must be installed already.
    let words = [
        "apt-get",
        "-y",
        "-q",
        "--no-install-recommends",
        "install",
        "/srv/ka.deb",
    ];
    chroot(root, &words)
        .limit(Duration::from_secs(200))
        .run()
        .map(drop)
}

fn version(root: &Path) -> Result<String> {
    chroot(root, &["dpkg-query", "-W", "-f", "${Version}", "ka"]).run()
}

/// Returns the paths of a system, without those of [`NOT_OURS`].
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            let inside = path.strip_prefix(root)?;
            let skipped = NOT_OURS.iter().chain(&COPIES_OF_GROUPS);
            if skipped.into_iter().any(|skipped| inside == Path::new(skipped)) {
                continue;
            }
            found.insert(inside.to_owned());
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(found)
}
