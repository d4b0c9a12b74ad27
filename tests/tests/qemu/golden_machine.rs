//! The golden node as a machine that runs: `ka-server -p … --pxe …` on its own `/`, as the user types it. A
//! bare machine becomes its clone while the golden one stays in service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::disk::GIB;
use ka_tests::process::Program;
use ka_tests::qemu::console::Mark;
use ka_tests::qemu::firmware::Firmware;
use ka_tests::qemu::golden;
use ka_tests::qemu::logs::reported;
use ka_tests::qemu::machine::{Bus, Card, Machine, Powered, Spec};
use ka_tests::qemu::room::{BOOT_LIMIT, CLONE_LIMIT, Node, Room};
use ka_tests::qemu::seats;

/// Directory of the binary and its libraries in the golden system: this machine's may be newer.
const PLACE: &str = "opt/ka";
/// The clone's layout: it differs from the golden one in every partition.
const DESC: &str = "# 1 = /, 2 = /srv, 3 = swap\nlinux 1400 boot\nlinux fill\nswap 100\n";
/// The golden machine's own address on the boot network.
const ADDRESS: &str = "10.77.0.200/24";
const POOL: &str = "full:10.77.0.210-10.77.0.219";
/// Boot programs that the golden system's packages would bring.
const PROGRAMS: [&str; 2] = [
    "/usr/lib/PXELINUX/pxelinux.0",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
];

#[test]
fn a_running_machine_clones_itself_onto_a_bare_one_and_stays_in_service() -> Result<()> {
    reported(|| {
        let plan = golden::plan(Firmware::Bios);
        let mut room = Room::new("running", &plan)?;
        install(room.golden.root())?;
        let mut spec = Spec::new("golden", 21, Firmware::Bios, Bus::Virtio, Card::Virtio);
        spec.memory_mib = 2048;
        spec.off_at_reset = false;
        spec.options = boot_options(&room)?;
        room.golden.unmount();
        let machine = Machine::new(room.lab.scratch(), room.lab.network(), spec)?;
        let bare = room.node(
            Spec::new("bare", 22, Firmware::Bios, Bus::Ahci, Card::E1000),
            3 * GIB,
        )?;
        let _seats = seats::take(2);
        let (scratch, network) = (room.lab.scratch(), room.lab.network());
        let golden = machine.power_on(scratch, network, room.golden.disk(), room.accel)?;
        golden.login(Mark::default(), BOOT_LIMIT)?;
        clone_itself(&room, &golden, &bare).with_context(|| format!("golden:\n{}", golden.console.text()))
    })
}

fn clone_itself(room: &Room, golden: &Powered, bare: &Node) -> Result<()> {
    let console = &golden.console;
    let card = console.command("ls /sys/class/net | grep -v '^lo$'")?;
    let card = card.trim();
    console.command(&format!(
        "ip addr add {ADDRESS} dev {card} && ip link set {card} up"
    ))?;
    let mac = bare.machine.mac();
    console.command(&format!("printf '{}' > /root/desc", DESC.replace('\n', "\\n")))?;
    console.command(&format!("echo '{mac} bare-clone' > /root/nodes"))?;
    let start = console.mark();
    console.send(&format!(
        "ka-server -n 1 -p vda /root/desc -x /tmp --pxe {card} --dhcp {POOL} --nodes /root/nodes --stage1-drivers e1000 \
         --append console=ttyS0,115200 --log-dir /var/log/ka; echo \"code=$?\"\n"
    ))?;
    golden.wait_for(start, "boot server on", BOOT_LIMIT)?;

    let cloning = room.power_on(bare)?;
    golden.wait_for(start, "Enter to start", CLONE_LIMIT)?;
    console.send("\n")?;
    let said = cloning.wait_off(CLONE_LIMIT)?;
    let finished = format!("({mac}) is finished");
    ensure!(
        console.since(start).contains(&finished),
        "the bare machine was not cloned:\n{said}"
    );
    let clone = room.power_on(bare)?;
    clone.login(Mark::default(), BOOT_LIMIT)?;
    is_a_clone(&clone)?;
    golden.wait_for(start, "code=0", BOOT_LIMIT)?;
    ensure!(
        console.since(start).contains("1 booted"),
        "it was not seen to boot"
    );

    let state = console.command("systemctl is-system-running")?;
    ensure!(state.trim() == "running", "the golden machine is {state}");
    let failed = console.command("hostname; sha256sum < /srv/data/noise; cat /etc/machine-id")?;
    let of_clone = clone
        .console
        .command("hostname; sha256sum < /srv/data/noise; cat /etc/machine-id")?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&failed), lines(&of_clone));
    ensure!(ours[1] == theirs[1], "the data differ: {ours:?}, {theirs:?}");
    ensure!(
        ours[0] != theirs[0] && ours[2] != theirs[2],
        "twins: {ours:?}, {theirs:?}"
    );
    clone.cut()?;
    Ok(())
}

/// Insists on root and data by the clone's own UUIDs, its own name, no failed unit, and nothing of the run
/// left on it.
fn is_a_clone(clone: &Powered) -> Result<()> {
    let console = &clone.console;
    ensure!(console.command("hostname")?.trim() == "bare-clone");
    let said =
        console.command("findmnt -n -o SOURCE /; findmnt -n -o FSTYPE /srv; swapon --noheadings | wc -l")?;
    ensure!(said == "/dev/sda1\nxfs\n1\n", "it runs from {said}");
    let root = console.command("findmnt -n -o UUID /")?;
    let line = console.command("cat /proc/cmdline; cat /etc/fstab")?;
    ensure!(
        line.matches(root.trim()).count() >= 2,
        "{root} is not its root: {line}"
    );
    let failed = console.command("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "services that failed:\n{failed}");
    let left = console.command("ls /var/lib/ka 2>/dev/null; ls /tmp; true")?;
    ensure!(
        !left.contains("join-"),
        "the golden node's join code is on the clone: {left}"
    );
    Ok(())
}

/// Puts `ka-server`, the static client and boot programs into the golden system, as its packages would.
fn install(root: &Path) -> Result<()> {
    let place = root.join(PLACE);
    fs::create_dir_all(&place)?;
    let server = binaries::path("ka-server")?;
    Program::new("objcopy")
        .arg("--strip-debug")
        .arg(&server)
        .arg(place.join("ka-server"))
        .run()?;
    let libraries = Program::new("ldd").arg(&server).run()?;
    for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let name = Path::new(path).file_name().context("a library has a name")?;
        fs::copy(path, place.join(name))?;
    }
    fs::copy(binaries::static_client()?, place.join("ka-client-static"))?;
    let script = format!(
        "#!/bin/sh\nexport KA_STATIC_CLIENT=/{PLACE}/ka-client-static\nexec /{PLACE}/ld-linux-x86-64.so.2 --library-path \
         /{PLACE} /{PLACE}/ka-server \"$@\"\n"
    );
    let program = root.join("usr/local/bin/ka-server");
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for program in PROGRAMS {
        let to = root.join(&program[1..]);
        fs::create_dir_all(to.parent().context("a file has a directory")?)?;
        fs::copy(program, &to).with_context(|| format!("copying {program}"))?;
    }
    Ok(())
}

/// Returns options that give the kernel to QEMU: the golden disk has no boot loader of its own yet.
fn boot_options(room: &Room) -> Result<Vec<String>> {
    let root = room.golden.root();
    let (kernel, initramfs) = (golden::kernel(root)?, golden::initramfs(root)?);
    let mut options = Vec::new();
    for (option, file) in [("-kernel", &kernel), ("-initrd", &initramfs)] {
        let copy = room.lab.scratch().path().join(format!("golden{option}"));
        fs::copy(file, &copy)?;
        options.extend([option.to_owned(), copy.display().to_string()]);
    }
    options.extend(["-append", "console=ttyS0 root=/dev/vda1 ro"].map(str::to_owned));
    Ok(options)
}
