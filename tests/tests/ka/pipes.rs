//! Output that is not read or not taken. No program panics, none writes to a pipe whose reader has ended, and
//! none calls a file whole that the disk did not take.

use anyhow::{Result, ensure};
use ka_tests::binaries::{self, workspace};
use ka_tests::process::{Ended, Program};
use ka_tests::scratch::Scratch;

/// Runs `line` in a shell with the programs' directory first in the path.
fn shell(line: &str) -> Result<Ended> {
    let dir = binaries::path("ka-server")?;
    let dir = dir
        .parent()
        .map(|dir| dir.display().to_string())
        .unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    Program::new("bash")
        .args(["-c", line])
        .env("PATH", format!("{dir}:{path}"))
        .finish()
}

/// Returns lines that print something and end well.
fn talkative(scratch: &Scratch) -> Result<Vec<String>> {
    let image = scratch.path().join("image");
    let list = scratch.path().join("nodes");
    let state = scratch.path().join("state");
    shell(&format!(
        "cd /etc && ls passwd group | cpio -o -H newc --quiet > {}",
        image.display()
    ))?
    .expect(0)?;
    std::fs::write(&list, "52:54:00:00:00:01 n1\n52:54:00:00:00:02 n2\n")?;
    let (image, list, state) = (image.display(), list.display(), state.display());
    shell(&format!("ka-pxe arm --nodes {list} --state-dir {state}"))?.expect(0)?;
    let mut lines = vec![
        format!(
            "ka-desc --check {}/desc-examples/classic.desc",
            workspace().display()
        ),
        format!("ka-initrd list {image}"),
        format!("ka-pxe arm --nodes {list} --state-dir {state}"),
        format!("ka-pxe list --state-dir {state}"),
    ];
    for program in [
        "ka-server",
        "ka-client",
        "ka-status",
        "ka-desc",
        "ka-initrd",
        "ka-pxe",
        "ka-image",
    ] {
        lines.extend(["--help", "--version", "--man"].map(|option| format!("{program} {option}")));
    }
    Ok(lines)
}

#[test]
fn a_pipe_that_has_read_enough_ends_no_program_in_disorder() -> Result<()> {
    let scratch = Scratch::new("pipes")?;
    for line in talkative(&scratch)? {
        let whole = shell(&line)?;
        whole.expect(0)?;
        // The pipe is closed before the first byte, and after the first line.
        for reader in ["true", "head -n 1 > /dev/null"] {
            let ended = shell(&format!(
                "{{ sleep 0.05; {line}; }} | {reader}; exit ${{PIPESTATUS[0]}}"
            ))?;
            ended.expect(0)?;
            ensure!(
                ended.stderr == whole.stderr,
                "{line} | {reader}: {}",
                ended.stderr
            );
        }
    }
    Ok(())
}

#[test]
fn an_error_that_nobody_hears_is_an_error_all_the_same() -> Result<()> {
    for (line, code) in [
        ("ka-desc --check /no/such", 1),
        ("ka-initrd list /no/such", 1),
        ("ka-pxe list --state-dir /proc/version/x", 1),
        ("ka-status --state-dir /no/such 127.0.0.1", 1),
        ("ka-status --state-dir /no/such 127.0.0.1 exec true", 255),
        ("ka-client --mount-dir /proc/version/x --join-file /no/such", 2),
        ("ka-server key show --state-dir /no/such", 1),
        ("ka-server --no-such", 2),
        ("ka-client --no-such", 2),
        ("ka-status --no-such", 2),
        ("ka-desc --no-such", 2),
        ("ka-initrd --no-such", 2),
        ("ka-pxe --no-such", 2),
        ("ka-image --store /no/such list", 1),
        ("ka-image --no-such", 2),
    ] {
        shell(line)?.expect(code)?;
        for nowhere in ["2>&-", "2> /dev/full", "2>&1 | true"] {
            let ended = shell(&format!(
                "{{ sleep 0.05; {line}; }} {nowhere}; exit ${{PIPESTATUS[0]}}"
            ))?;
            ensure!(ended.code == Some(code), "{line} {nowhere}: {}", ended.how());
        }
    }
    Ok(())
}

/// A desc file that is cut describes half a disk, and a list that is cut lacks its last machines.
#[test]
fn what_a_full_disk_does_not_take_is_an_error() -> Result<()> {
    let scratch = Scratch::new("fulldisk")?;
    for line in talkative(&scratch)? {
        if shell(&line)?.stdout.is_empty() {
            continue;
        }
        let ended = shell(&format!("{line} > /dev/full"))?;
        ensure!(ended.code == Some(1), "{line}: {}", ended.how());
        let said = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: writing to standard output: "));
        ensure!(
            said.count() == 1 && ended.stderr.lines().count() == 1,
            "{line}: {}",
            ended.stderr
        );
    }
    Ok(())
}
