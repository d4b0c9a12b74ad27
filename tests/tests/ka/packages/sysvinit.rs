//! The boot server's init script, under a real sysvinit: the first process of a process namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::debian;
use ka_tests::lab::Lab;
use ka_tests::mounts::Mounted;
use ka_tests::packages::{Packages, chroot, copy_in};
use ka_tests::process::{Ended, Program, Running};

/// An inittab with the subject of this test only: no file system is checked, mounted or unmounted, and there
/// is no terminal.
const INITTAB: &str = "\
id:2:initdefault:
si::sysinit:/bin/mount -t proc proc /proc
l0:0:wait:/etc/init.d/rc 0
l2:2:wait:/etc/init.d/rc 2
";
const SIZE: u64 = 900 << 20;

/// A Debian whose init is sysvinit, in memory: nothing that its scripts do reaches a disk.
struct System {
    root: PathBuf,
    init: Option<Running>,
    _memory: Mounted,
    lab: Lab,
}

impl System {
    fn new() -> Result<Self> {
        let lab = Lab::new("sysvinit", 1, None)?;
        let root = lab.scratch().dir("root")?;
        let memory = Mounted::in_memory(&root, SIZE)?;
        debian::unpack(&debian::with_sysvinit()?, &root)?;
        copy_in(&Packages::first()?.deb()?, &root, "/srv/ka.deb")?;
        chroot(&root, &["dpkg", "-i", "/srv/ka.deb"]).run()?;
        fs::write(root.join("etc/inittab"), INITTAB)?;
        fs::write(root.join("etc/default/rcS"), "CONCURRENCY=none\n")?;
        for file in ["kernel", "initrd", "pxelinux.0", "ldlinux.c32"] {
            fs::write(root.join("srv").join(file), "content")?;
        }
        Ok(Self {
            root,
            init: None,
            _memory: memory,
            lab,
        })
    }

    /// Returns the links that init follows at a run level.
    fn links(&self, level: &str) -> Result<Vec<String>> {
        let names = fs::read_dir(self.root.join(format!("etc/rc{level}.d")))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        Ok(names)
    }

    fn has_link(&self, level: &str, kind: char) -> Result<bool> {
        let is_ours = |name: &String| name.starts_with(kind) && name.ends_with("ka-pxe");
        Ok(self.links(level)?.iter().any(is_ours))
    }

    /// Switches it on, with the links of the boot server and no others.
    fn boot(&mut self) -> Result<()> {
        for level in ["0", "2"] {
            for name in self.links(level)?.iter().filter(|name| !name.ends_with("ka-pxe")) {
                fs::remove_file(self.root.join(format!("etc/rc{level}.d")).join(name))?;
            }
        }
        let init = Program::new("unshare")
            .args([
                "--fork",
                "--pid",
                "--mount",
                "--uts",
                "--ipc",
                "--kill-child",
                "chroot",
            ])
            .arg(&self.root)
            .arg("/sbin/init")
            .inside(self.lab.network().golden())
            .spawn()?;
        self.init = Some(init);
        Ok(())
    }

    /// Runs a command at the system's own console.
    fn command(&self, words: &[&str]) -> Result<Ended> {
        let init = self.init.as_ref().context("it is not switched on")?;
        let said = Program::new("pgrep")
            .args(["--parent", &init.pid().to_string()])
            .run()?;
        Program::new("nsenter")
            .args(["--target", said.trim()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"])
            .args(["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(words)
            .finish()
    }

    /// Runs `service ka-pxe VERB`, which must end with this code.
    fn service(&self, verb: &str, code: i32) -> Result<String> {
        let ended = self.command(&["service", "ka-pxe", verb])?;
        ended
            .expect(code)
            .with_context(|| format!("service ka-pxe {verb}"))?;
        Ok(ended.all())
    }

    /// Waits until `service ka-pxe status` ends with this code.
    fn wait_for(&self, code: i32) -> Result<()> {
        for _ in 0..100 {
            if let Ok(ended) = self.command(&["service", "ka-pxe", "status"])
                && ended.code == Some(code)
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let said = self.command(&[
            "sh",
            "-c",
            "service ka-pxe status; cat /var/log/ka/pxe.log; ps ax",
        ])?;
        anyhow::bail!("status never was {code}:\n{}", said.all())
    }

    fn pid(&self) -> Result<String> {
        let path: &Path = &self.root.join("run/ka-pxe.pid");
        fs::read_to_string(path).context("the boot server's process id")
    }
}

#[test]
fn the_boot_server_is_started_watched_and_stopped_by_sysvinit() -> Result<()> {
    let mut system = System::new()?;
    ensure!(
        !system.has_link("2", 'S')?,
        "installing it makes every machine a boot server: {:?}",
        system.links("2")?
    );
    let said = chroot(&system.root, &["/etc/init.d/ka-pxe", "start"]).finish()?;
    said.expect(6)?.says("/etc/ka/pxe.conf is missing")?;

    let options = "--iface eth0 --dhcp proxy --kernel /srv/kernel --initrd /srv/initrd --boot-files /srv";
    fs::write(
        system.root.join("etc/ka/pxe.conf"),
        format!("# The room's boot server\nKA_PXE_OPTIONS=\"{options}\"\n"),
    )?;
    chroot(&system.root, &["update-rc.d", "ka-pxe", "enable"]).run()?;
    ensure!(
        system.has_link("2", 'S')? && system.has_link("0", 'K')?,
        "insserv made {:?} and {:?}",
        system.links("2")?,
        system.links("0")?
    );
    system.boot()?;
    system.wait_for(0)?;

    let first = system.pid()?;
    ensure!(
        system.service("start", 0)?.contains("runs already"),
        "a second one was started"
    );
    ensure!(system.pid()? == first, "start made another process");
    system.service("restart", 0)?;
    ensure!(system.pid()? != first, "restart left the process");
    system.service("status", 0)?;
    system
        .command(&["kill", "-KILL", system.pid()?.trim()])?
        .expect(0)?;
    system.wait_for(1)?;
    system.service("start", 0)?;
    system.service("stop", 0)?;
    system.service("status", 3)?;
    system.service("stop", 0)?;
    ensure!(system.service("frobnicate", 2)?.contains("usage: "), "no usage");

    // Faults of the options are reported, and nothing is left of the start.
    let config = system.root.join("etc/ka/pxe.conf");
    let wrong = options.replace("eth0", "nosuch0");
    fs::write(&config, format!("KA_PXE_OPTIONS={wrong}\n"))?;
    let said = system.service("start", 1)?;
    ensure!(said.contains("nosuch0"), "the reason is not told: {said}");
    system.service("status", 3)?;
    fs::write(
        system.root.join("etc/ka/pxe.conf"),
        format!("KA_PXE_OPTIONS={options}\n"),
    )?;
    system.service("start", 0)?;
    system.command(&["telinit", "0"])?.expect(0)?;
    system.wait_for(3)
}
