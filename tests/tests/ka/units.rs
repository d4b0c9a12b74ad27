//! The systemd units: they are sound, they take away the powers that they promise, and a running boot server
//! has no more of root's.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::lab::Lab;
use ka_tests::process::{Program, is_installed};

/// Highest exposure by `systemd-analyze security`, in tenths: 100 (10.0) is no protection at all.
const MOST_EXPOSED: [(&str, u32); 2] = [("ka-pxe.service", 35), ("ka-server@.service", 55)];

fn units() -> PathBuf {
    binaries::workspace().join("systemd")
}

#[test]
fn the_units_are_sound_and_leave_little_open() -> Result<()> {
    if !is_installed("systemd-analyze") {
        eprintln!("no systemd-analyze here: the units are not checked");
        return Ok(());
    }
    for (unit, most) in MOST_EXPOSED {
        let path = units().join(unit);
        let text = fs::read_to_string(&path)?;
        // The tool wants the programs at the unit's paths; here they are in the build directory.
        let lab = ka_tests::scratch::Scratch::new("units")?;
        let built = binaries::dir()?.display().to_string();
        let copy = lab.path().join(unit);
        fs::write(
            &copy,
            text.replace("/usr/bin", &built)
                .replace("Documentation=man:", "Documentation=https://man/"),
        )?;
        let verified = Program::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&copy)
            .finish()?;
        let complaints: Vec<_> = verified
            .stderr
            .lines()
            .filter(|line| line.contains("ka-"))
            .map(str::to_owned)
            .collect();
        ensure!(complaints.is_empty(), "{unit}: {complaints:?}");
        let judged = Program::new("systemd-analyze")
            .args([
                "security",
                "--offline=true",
                "--no-pager",
                &format!("--threshold={most}"),
            ])
            .arg(&copy)
            .finish()?;
        judged
            .expect(0)
            .with_context(|| format!("{unit} is more exposed than it was"))?;
    }
    Ok(())
}

fn capabilities(pid: u32) -> Result<(u64, u64, bool)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let hex = |name: &str| u64::from_str_radix(field(name).unwrap_or_default(), 16);
    Ok((
        hex("CapPrm:")?,
        hex("CapBnd:")?,
        field("NoNewPrivs:") == Some("1"),
    ))
}

/// Bits of capabilities(7): DAC_READ_SEARCH, NET_BIND_SERVICE, NET_RAW.
const BOOT_SERVER: u64 = 1 << 2 | 1 << 10 | 1 << 13;
/// Capabilities that a server of clones has no use for: SYS_MODULE, SYS_BOOT, MKNOD, CHOWN, SETUID.
const NEVER_SERVER: u64 = 1 << 16 | 1 << 22 | 1 << 27 | 1 | 1 << 7;

#[test]
fn servers_keep_of_roots_power_only_what_they_need() -> Result<()> {
    let lab = Lab::new("privileges", 1, None)?;
    let file = |name: &str| -> Result<PathBuf> {
        let path = lab.scratch().path().join(name);
        fs::write(&path, "content")?;
        Ok(path)
    };
    let mut boots = Program::new(binaries::path("ka-pxe")?)
        .args(["serve", "--iface", "eth0", "--dhcp", "proxy", "--kernel"])
        .arg(file("kernel")?)
        .arg("--initrd")
        .arg(file("initrd")?)
        .arg("--state-dir")
        .arg(lab.scratch().path().join("pxe-state"))
        .inside(lab.network().golden())
        .spawn()?;
    boots.wait_for("serving eth0")?;
    for task in fs::read_dir(format!("/proc/{}/task", boots.pid()))? {
        let task = task?.file_name().to_string_lossy().parse()?;
        let (permitted, bounding, no_new) = capabilities(task)?;
        ensure!(
            permitted & !BOOT_SERVER == 0 && bounding & !BOOT_SERVER == 0 && no_new,
            "thread {task} of ka-pxe: {permitted:x} {bounding:x} {no_new}"
        );
    }
    let server = lab.server(&["-n", "1", "-e", "grep CapEff /proc/self/status"])?;
    for task in fs::read_dir(format!("/proc/{}/task", server.run.pid()))? {
        let task = task?.file_name().to_string_lossy().parse()?;
        let (permitted, ..) = capabilities(task)?;
        ensure!(
            permitted & NEVER_SERVER == 0,
            "thread {task} of ka-server: {permitted:x}"
        );
    }
    // The operator's own command has root's power.
    let node = lab.client(1, &server, &["-e", "cat"])?;
    let outcome = crate::kit::finish(server, vec![node])?;
    outcome.expect_success()?;
    let own = fs::read_to_string("/proc/self/status")?;
    let own = own
        .lines()
        .find(|line| line.starts_with("CapEff"))
        .context("own capabilities")?;
    outcome.nodes[0].says(own).map(drop)
}
