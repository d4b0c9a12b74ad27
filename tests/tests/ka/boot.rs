//! The boot server inside `ka-server`: the boot menu of each machine, before and after the clone, over
//! restarts; the tools as first stream; and the clones that came back. Machines are curl and udhcpc here;
//! whole ones are in `tests/qemu`.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::disk::Disk;
use ka_tests::lab::{Lab, Server};
use ka_tests::netns::GOLDEN_ADDRESS;
use ka_tests::process::{Ended, Program, Running};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kit::Kit;

/// MAC address of a machine that is not listed.
const STRANGER: &str = "02:00:00:00:00:99";
/// MAC address of a machine that is listed and never switched on.
const ABSENT: &str = "02:00:00:00:00:42";
/// Time limit of a test of this file: a longer one hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// A golden system with a kernel, boot programs, tools to send, and a room of nodes.
pub(crate) struct Room {
    kit: Kit,
}

impl Room {
    pub(crate) fn new(label: &str, nodes: usize) -> Result<Self> {
        let kit = Kit::small(label, nodes)?;
        let root = kit.golden.root();
        // No machine boots this kernel; it is complete as far as files go.
        for (path, text) in [
            ("boot/vmlinuz-6.1.0-ka", "kernel\n"),
            ("lib/modules/6.1.0-ka/modules.dep", ""),
            ("lib/modules/6.1.0-ka/modules.alias", ""),
            ("etc/systemd/system/other.service", "[Unit]\n"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().context("a file in a directory")?)?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let room = Self { kit };
        let boot = room.path("boot-files");
        fs::create_dir_all(&boot)?;
        for name in ["pxelinux.0", "ldlinux.c32"] {
            fs::write(boot.join(name), name)?;
        }
        fs::write(room.path("stage2"), vec![7; 3_000_000])?;
        Ok(room)
    }

    /// Returns the root of its golden system.
    pub(crate) fn root(&self) -> &Path {
        self.kit.golden.root()
    }

    /// Returns its network and directory.
    pub(crate) fn lab(&self) -> &Lab {
        &self.kit.lab
    }

    /// Makes a disk for a node.
    pub(crate) fn disk(&self, name: &str) -> Result<Disk> {
        self.kit.same_disk(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.kit.lab.scratch().path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Returns the MAC address of a node (from 1).
    pub(crate) fn mac(&self, number: usize) -> Result<String> {
        let link = self.kit.lab.network().node(number).ip("-o link show eth0")?;
        let mut words = link.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).map(str::to_owned).context("a card has an address")
    }

    pub(crate) fn list(&self, lines: &[String]) -> Result<String> {
        fs::write(self.path("nodes"), lines.join("\n"))?;
        Ok(self.text("nodes"))
    }

    /// Returns the arguments of every server here, with `more`.
    pub(crate) fn args(&self, more: &[&str]) -> Result<Vec<String>> {
        let client = binaries::static_client()?.display().to_string();
        let boot = self.text("boot-files");
        let stage2 = self.text("stage2");
        let own = [
            "--pxe",
            "eth0",
            "--boot-files",
            &boot,
            "--client",
            &client,
            "--stage2",
            &stage2,
        ];
        Ok(own.iter().chain(more).map(|arg| (*arg).to_owned()).collect())
    }

    fn server(&self, more: &[&str]) -> Result<Server> {
        let args = self.args(more)?;
        self.kit
            .server(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs a server that must end by itself.
    pub(crate) fn refused(&self, more: &[&str]) -> Result<Ended> {
        let root = self.kit.golden.root().display().to_string();
        let program = self
            .kit
            .lab
            .server_program()?
            .args(["-r", "none", "--root", &root]);
        program.args(self.args(more)?).limit(LIMIT).finish()
    }

    /// Begins a program on a node.
    pub(crate) fn on_node(&self, number: usize, program: &str) -> Program {
        Program::new(program)
            .inside(self.kit.lab.network().node(number))
            .limit(LIMIT)
    }

    /// Fetches a file of this name by HTTP, as a machine does.
    fn http(&self, name: &str) -> Result<String> {
        let url = format!("http://{GOLDEN_ADDRESS}/{name}");
        self.on_node(1, "curl").args(["-fsS", &url]).run()
    }

    /// Fetches the menu of a machine by TFTP, as PXELINUX does.
    fn menu(&self, mac: &str) -> Result<String> {
        let name = format!("pxelinux.cfg/01-{}", mac.replace(':', "-"));
        let url = format!("tftp://{GOLDEN_ADDRESS}/{name}");
        self.on_node(1, "curl").args(["-fsS", &url]).run()
    }

    fn expect_default(&self, mac: &str, entry: &str) -> Result<()> {
        let menu = self.menu(mac)?;
        ensure!(
            menu.contains(&format!("DEFAULT {entry}\n")),
            "not {entry}:\n{menu}"
        );
        Ok(())
    }

    /// Starts a node on an installed system.
    pub(crate) fn full_node(&self, number: usize, server: &Server, disk: &Disk) -> Result<Running> {
        self.kit.node(number, server, disk, &[])
    }

    /// Starts the static client as a node boots it, but with the disk chosen.
    fn node(&self, number: usize, server: &Server, disk: &Disk) -> Result<Running> {
        Program::new(binaries::static_client()?)
            .args(["--no-reboot", "--mount-dir"])
            .arg(self.kit.lab.mount_dir(number))
            .arg("--join-file")
            .arg(server.join_file())
            .args([
                "--name",
                &format!("room-{number}"),
                "--disk",
                &self.kit.choice(disk)?,
            ])
            .inside(self.kit.lab.network().node(number))
            .limit(LIMIT)
            .spawn()
    }

    /// Prepares the beacon of a clone's first boot. The paths that it removes are in the lab, because the
    /// clone is not this machine.
    fn beacon(&self, number: usize, disk: &Disk) -> Result<(Program, Vec<PathBuf>)> {
        let clone = self.kit.mounted(disk, &self.kit.plan.volumes)?;
        let in_clone = |path: &str| clone.root().join(path);
        let mut facts: Value = serde_json::from_slice(&fs::read(in_clone("var/lib/ka/beacon.json"))?)?;
        let listed = facts["remove"].as_array().context("what is removed")?.clone();
        let mut left = Vec::new();
        for (index, path) in listed.iter().enumerate() {
            let path = path.as_str().context("a path")?.trim_start_matches('/');
            ensure!(
                in_clone(path).symlink_metadata().is_ok(),
                "the clone has no {path}"
            );
            let moved = self.path(&format!("moved-{number}-{index}"));
            fs::write(&moved, "x")?;
            left.push(moved);
        }
        let unit = fs::read_to_string(in_clone("etc/systemd/system/ka-beacon.service"))?;
        ensure!(unit.contains("--beacon /var/lib/ka/beacon.json"), "{unit}");
        let program = self.path(&format!("beacon-{number}"));
        fs::copy(in_clone("var/lib/ka/ka-beacon"), &program)?;
        facts["remove"] = left.iter().map(|path| path.display().to_string()).collect();
        let copy = self.path(&format!("facts-{number}"));
        fs::write(&copy, serde_json::to_vec(&facts)?)?;
        left.push(copy.clone());
        let run = self
            .on_node(number, &program.display().to_string())
            .arg("--beacon")
            .arg(copy);
        Ok((run, left))
    }
}

fn expect_one_error_line(ended: &Ended) -> Result<()> {
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error:"));
    ensure!(errors.count() == 1, "{}", ended.all());
    Ok(())
}

#[test]
fn a_listed_room_is_cloned_once_and_then_boots_from_its_own_disks() -> Result<()> {
    let room = Room::new("bootroom", 2)?;
    let macs = [room.mac(1)?, room.mac(2)?];
    let drive = room.kit.golden.disk().name();
    let lines = [
        format!("{} room-1 10.77.0.102 disk={drive}=/dev/vda", macs[0]),
        format!("{} room-2", macs[1]),
    ];
    let list = room.list(&lines)?;
    let report_dir = room.text("logs");
    let more = ["--nodes", &list, "--wait-boot", "30", "--log-dir", &report_dir];
    let mut server = room.server(&more)?;
    server.run.wait_for("boot server on eth0")?;

    let menu = room.menu(&macs[0])?;
    for part in [
        "DEFAULT kamethod\n",
        "ka.server=10.77.0.1 ",
        "ka.session=kainstall ",
        "ka.name=room-1 ",
        &format!("ka.disk={drive}=/dev/vda"),
    ] {
        ensure!(menu.contains(part), "no {part:?} in\n{menu}");
    }
    room.expect_default(&macs[1], "kamethod")?;
    room.expect_default(STRANGER, "local")?;
    ensure!(room.http("vmlinuz")? == "kernel\n");
    // The join code follows the image: a node that fetched both can join.
    let image = room.path("stage1.img");
    let url = format!("http://{GOLDEN_ADDRESS}/stage1.img");
    room.on_node(1, "curl")
        .args(["-fsS", "-o"])
        .arg(&image)
        .arg(&url)
        .run()?;
    let code = fs::read(server.join_file())?;
    let tail = fs::read(&image)?;
    ensure!(
        tail.windows(code.len()).any(|part| part == code),
        "no join code in the image"
    );

    let disks = [room.kit.same_disk("n1")?, room.kit.same_disk("n2")?];
    let nodes = [
        room.node(1, &server, &disks[0])?,
        room.node(2, &server, &disks[1])?,
    ];
    server.run.wait_for("waiting for 2 clones to come back")?;
    for node in nodes {
        node.wait()?.expect(0)?;
    }
    for mac in &macs {
        room.expect_default(mac, "local")?;
    }

    let (beacon, left) = room.beacon(1, &disks[0])?;
    beacon
        .finish()?
        .expect(0)?
        .says("knows that this clone has booted")?;
    ensure!(left.iter().all(|path| !path.exists()), "{left:?}");
    let ended = server.run.wait()?;
    ended.expect(3)?.says("1 booted, 1 never came back")?;
    ended.says("never came back: node 2 room-2")?;
    let report: Value =
        serde_json::from_slice(&fs::read(only_run(Path::new(&report_dir))?.join("report.json"))?)?;
    assert_eq!(report["nodes"][0]["first_boot"], "booted");
    assert_eq!(report["nodes"][0]["seen_by"], "beacon");
    assert_eq!(report["nodes"][1]["first_boot"], "never-came-back");
    assert_eq!(report["streams"][0]["name"], "getstage2");
    assert_eq!(report["streams"][0]["bytes"], 3_000_000);

    expect_still_local_after_a_restart(&room, &macs, &lines)
}

fn expect_still_local_after_a_restart(room: &Room, macs: &[String; 2], lines: &[String; 2]) -> Result<()> {
    let list = room.list(lines)?;
    let ended = room.refused(&["--nodes", &list])?;
    ended.expect(2)?.says("--arm listed")?;
    expect_one_error_line(&ended)?;

    let list = room.list(&[lines[0].clone(), lines[1].clone(), format!("{ABSENT} room-3")])?;
    let mut server = room.server(&["--nodes", &list])?;
    server.run.wait_for("waiting for 1 node")?;
    for (mac, entry) in [(&*macs[0], "local"), (&macs[1], "local"), (ABSENT, "kamethod")] {
        room.expect_default(mac, entry)?;
    }
    server.run.signal(Signal::SIGTERM)?;
    server.run.wait()?.expect(1)?;

    let mut server = room.server(&["--nodes", &list, "--arm", "listed"])?;
    server.run.wait_for("waiting for 3 nodes")?;
    room.expect_default(&macs[0], "kamethod")?;
    server.run.signal(Signal::SIGTERM)?;
    server.run.wait()?.expect(1).map(drop)
}

fn only_run(dir: &Path) -> Result<PathBuf> {
    let mut runs = fs::read_dir(dir)?;
    Ok(runs.next().context("a run's own directory")??.path())
}

#[test]
fn with_dhcp_of_our_own_a_clone_is_seen_again_by_its_request() -> Result<()> {
    let room = Room::new("bootdhcp", 1)?;
    let more = [
        "--dhcp",
        "full:10.77.0.200-10.77.0.209",
        "--arm",
        "all",
        "-n",
        "1",
        "--no-beacon",
    ];
    let mut server = room.server(&more)?;
    server.run.wait_for("DHCP full:10.77.0.200-10.77.0.209")?;
    room.expect_default(&room.mac(1)?, "kamethod")?;
    let disk = room.kit.same_disk("n1")?;
    room.node(1, &server, &disk)?.wait()?.expect(0)?;
    server.run.wait_for("waiting for 1 clone to come back")?;
    room.expect_default(&room.mac(1)?, "local")?;
    // Firmware, a management board and the system of another disk also ask for an address, under other names
    // or none: that proves nothing.
    let ask = ["udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true"];
    for other in [
        &[][..],
        &["-V", "U-Boot.armv8"],
        &["-V", ""],
        &["-x", "hostname:host1"],
        &["-V", "GRUB", "-x", "hostname:room-1"],
    ] {
        room.on_node(1, "busybox")
            .args(ask)
            .args(other)
            .finish()?
            .expect(0)?;
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    ensure!(!server.run.has_ended()?, "something else passed for the clone");
    // Its address stays the lab's own. The test is that the clone's system asks, and gets its lease although
    // the run could end at its first word.
    let named = ["-x", "hostname:room-1.lab.example"];
    room.on_node(1, "busybox")
        .args(ask)
        .args(named)
        .finish()?
        .expect(0)?;
    let ended = server.run.wait()?;
    ended
        .expect(0)?
        .says("(DHCP)")?
        .says("1 node done")?
        .says("1 booted")?;

    let clone = room.kit.mounted(&disk, &room.kit.plan.volumes)?;
    ensure!(
        !clone.root().join("var/lib/ka/beacon.json").exists(),
        "--no-beacon"
    );
    Ok(())
}

#[test]
fn a_node_on_a_full_system_drops_the_tools() -> Result<()> {
    let kit = Kit::small("bootdrop", 1)?;
    let stage2 = kit.lab.scratch().path().join("stage2");
    fs::write(&stage2, vec![9; 2_500_000])?;
    let disk = kit.same_disk("n1")?;
    let args = ["--stage2", &stage2.display().to_string(), "--json"].map(str::to_owned);
    let outcome = kit.clone_to(&[&disk], &args.each_ref().map(String::as_str))?;
    outcome.expect_success()?;
    let events = outcome.server.stdout.lines().map(serde_json::from_str::<Value>);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let sessions: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "session-started")
        .map(|event| event["session"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(sessions, ["getstage2", "kainstall1", "kainstall2"]);
    kit.expect_clone(&disk)
}

#[test]
fn dry_run_shows_the_boot_part_and_touches_nothing() -> Result<()> {
    let room = Room::new("bootdry", 1)?;
    let drive = room.kit.golden.disk().name();
    let list = room.list(&[format!("{ABSENT} room-3 10.77.0.50 disk={drive}=nvme0n1")])?;
    let more = [
        "--nodes",
        &list,
        "--dhcp",
        "full:10.77.0.200-10.77.0.209",
        "--append",
        "console=ttyS0",
        "--dry-run",
    ];
    let ended = room.refused(&more)?;
    ended.expect(0)?;
    for part in [
        "Boot server on eth0 (10.77.0.1)",
        "full:10.77.0.200-10.77.0.209",
        "console=ttyS0",
        &format!("02:00:00:00:00:42 room-3 10.77.0.50 {drive}=nvme0n1"),
        "such machines get no boot program",
    ] {
        ended.says(part)?;
    }
    let json = room.refused(&[&more[..], &["--json"]].concat())?;
    let json: Value = serde_json::from_str(&json.expect(0)?.stdout)?;
    assert_eq!(json["boot"]["nodes"][0]["name"], "room-3");
    assert_eq!(json["run"]["nodes_wanted"], 1);
    assert_eq!(json["run"]["wait_boot_secs"], 600);
    ensure!(
        !room.path("server-state").exists(),
        "--dry-run made the state directory"
    );
    Ok(())
}

/// Faults that are known at once are reported at once: before an image is made, and by the dry run with the
/// same words.
#[test]
fn what_keeps_a_boot_server_from_starting_is_said_before_images_are_made_and_by_the_dry_run() -> Result<()> {
    let room = Room::new("bootfirst", 1)?;
    let other_drive = room.list(&[format!("{ABSENT} room-3 disk=sdz=nvme0n1")])?;
    let elsewhere = room.text("elsewhere");
    fs::write(&elsewhere, format!("{ABSENT} room-3 10.99.0.3\n"))?;
    let cases: [(&[&str], &str); 4] = [
        (
            &["--dhcp", "full:10.1.0.100-10.1.0.120"],
            "10.1.0.100 is not in 10.77.0.0/24",
        ),
        (&["--nodes", &other_drive], "no drive sdz is sent"),
        (
            &["--nodes", &elsewhere, "--dhcp", "full:10.77.0.200-10.77.0.209"],
            "10.99.0.3",
        ),
        (&["--kernel", "9.9.9"], "9.9.9"),
    ];
    for (args, named) in cases {
        for dry in [&[][..], &["--dry-run"]] {
            let ended = room.refused(&[args, &["-n", "1"], dry].concat())?;
            ensure!(ended.code != Some(0), "{args:?} {dry:?}: {}", ended.all());
            ended.says(named).with_context(|| format!("{args:?} {dry:?}"))?;
            ensure!(!ended.all().contains("Making the boot images"), "{}", ended.all());
        }
    }
    // The server reports it before it looks at the golden node, which takes a while: with another fault that
    // is known at once.
    let args = [
        "--dhcp",
        "full:10.1.0.100-10.1.0.120",
        "--log-dir",
        "/proc/version/logs",
        "-n",
        "1",
    ];
    let ended = room.refused(&args)?;
    ended
        .expect(2)?
        .says("10.1.0.100 is not in 10.77.0.0/24")?
        .says("--log-dir")?;
    // A port is in use: the dry run shows the plan all the same.
    let golden = room.kit.lab.network().golden();
    let _held = golden.enter(|| TcpListener::bind(("10.77.0.1", 80)))??;
    let ended = room.refused(&["-n", "1", "--arm", "all", "--dry-run"])?;
    ended
        .expect(0)?
        .says("a run would not start now")?
        .says("HTTP port 10.77.0.1:80 is in use")?;
    let ended = room.refused(&["-n", "1", "--arm", "all"])?;
    ended.expect(1)?.says("HTTP port 10.77.0.1:80 is in use")?;
    ensure!(!ended.all().contains("Making the boot images"), "{}", ended.all());
    Ok(())
}

#[test]
fn bad_boot_options_are_one_line_each_before_anything_starts() -> Result<()> {
    let room = Room::new("bootbad", 1)?;
    let broken = room.list(&["52:54:00:00:00 short".to_owned()])?;
    let twice = room.text("twice");
    fs::write(&twice, format!("{ABSENT} a\n{ABSENT} b\n"))?;
    let cases: [(&[&str], i32, &str); 13] = [
        (&["--pxe", "eth0", "--dhcp", "sometimes"], 2, "full:FIRST-LAST"),
        (
            &["--pxe", "eth0", "--dhcp", "full:10.77.0.9-10.77.0.3"],
            2,
            "ends before it begins",
        ),
        (&["--pxe", "nosuch0", "--dhcp", "proxy"], 2, "nosuch0"),
        (
            &["--pxe", "eth0", "--dhcp", "full:10.77.0.1-10.77.0.9"],
            2,
            "10.77.0.1",
        ),
        (
            &["--pxe", "eth0", "--dhcp", "proxy", "--router", "10.77.0.254"],
            2,
            "--router",
        ),
        (&["--pxe", "eth0", "--nodes", "/no/such/list"], 2, "/no/such/list"),
        (&["--pxe", "eth0", "--nodes", &broken], 2, ":1:"),
        (&["--pxe", "eth0", "--nodes", &twice], 2, ":2:"),
        (&["--pxe", "eth0", "--arm", "all"], 2, "-n"),
        (&["--pxe", "eth0", "--arm", "listed"], 2, "--nodes"),
        (&["--pxe", "eth0", "-s", "room 12"], 2, "-s"),
        (&["--nodes", &broken], 2, "--pxe"),
        (&["--stage2", "/no/such/stage2"], 2, "/no/such/stage2"),
    ];
    let client = binaries::static_client()?;
    let root = room.kit.golden.root().display().to_string();
    for (args, code, named) in cases {
        let program = room.kit.lab.server_program()?.env("KA_STATIC_CLIENT", &client);
        let ended = program
            .args(["-r", "none", "--root", &root])
            .args(args)
            .limit(LIMIT)
            .finish()?;
        ended.expect(code).with_context(|| format!("{args:?}"))?;
        ended.says(named).with_context(|| format!("{args:?}"))?;
        expect_one_error_line(&ended).with_context(|| format!("{args:?}"))?;
    }
    let pxe = ["-r", "none", "--root", &root, "--pxe", "eth0"];
    for (args, named) in [
        (["--kernel", "9.9.9"], "9.9.9"),
        (["--client", "/bin/sh"], "/bin/sh"),
    ] {
        let program = room.kit.lab.server_program()?.env("KA_STATIC_CLIENT", &client);
        let ended = program.args(pxe).args(args).limit(LIMIT).finish()?;
        ensure!(ended.code != Some(0), "{args:?}: {}", ended.all());
        ended.says(named)?;
        expect_one_error_line(&ended).with_context(|| format!("{args:?}"))?;
    }
    Ok(())
}

#[test]
fn every_port_that_is_taken_is_said_before_anything_is_read_and_nothing_is_left() -> Result<()> {
    let room = Room::new("bootports", 1)?;
    let golden = room.kit.lab.network().golden();
    let tcp = |port: u16| golden.enter(move || TcpListener::bind(("0.0.0.0", port)));
    let udp = |port: u16| golden.enter(move || UdpSocket::bind(("0.0.0.0", port)));
    let _held = (tcp(80)??, tcp(30765)??, udp(67)??, udp(69)??);
    let logs = room.text("logs-of-ports");
    let dhcp = "full:10.77.0.200-10.77.0.209";
    let args = ["-n", "1", "--arm", "all", "--dhcp", dhcp, "--log-dir", &logs];
    let refused = room.refused(&args)?;
    refused.expect(1)?;
    let shown = room.refused(&[&args[..], &["--dry-run"]].concat())?;
    shown.expect(0)?;
    for named in ["10.77.0.1:80", ":30765", "67", "10.77.0.1:69"] {
        for (ended, begin) in [
            (&refused, "error: "),
            (&shown, "warning: a run would not start now: "),
        ] {
            let line = ended.stderr.lines().chain(ended.stdout.lines());
            let mut line = line.filter(|line| line.starts_with(begin));
            ensure!(line.any(|line| line.contains(named)), "{named}:\n{}", ended.all());
        }
    }
    ensure!(!Path::new(&logs).exists(), "{logs} was made");
    let state = room.kit.lab.server_state();
    let kept = fs::read_dir(&state).map(|entries| {
        entries
            .flatten()
            .map(|entry| entry.file_name())
            .collect::<Vec<_>>()
    });
    let kept = kept.unwrap_or_default();
    ensure!(
        !kept.iter().any(|name| name.to_string_lossy().starts_with("run-")),
        "{kept:?} is left"
    );
    Ok(())
}
