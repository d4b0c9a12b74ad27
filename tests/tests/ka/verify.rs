//! Reading back: a clone is compared before anything boots from it, and no two clones are the same machine.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::Disk;
use ka_tests::process::{Program, Running};
use nix::sys::signal::Signal;

use crate::kit::{Kit, Outcome, finish};

/// Content that no other file has.
const MARK: &[u8] = b"a mark that is on the disk once: 7c1f9a";

#[test]
fn a_clone_is_read_back_and_server_and_node_say_so() -> Result<()> {
    let kit = Kit::small("readback", 1)?;
    let disk = kit.same_disk("n1")?;
    let outcome = kit.clone_to(&[&disk], &["--verify"])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("verifying data: read back: ")?;
    outcome.nodes[0].says("learning the new devices...OK")?;
    outcome.nodes[0].says("checking excluded directories...OK")?;
    let line = done_line(&outcome)?;
    ensure!(
        line.contains("read back: ") && line.contains(" files, "),
        "{line}"
    );
    ensure!(!line.contains("by content only"), "ext4 holds everything: {line}");
    kit.expect_clone(&disk)
}

/// The proof of the clone is checked without our code, by the description in `docs/report.md`.
#[test]
fn the_signed_report_holds_before_openssl_and_not_after_a_change() -> Result<()> {
    let kit = Kit::small("signed", 1)?;
    let disk = kit.same_disk("n1")?;
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    let state = kit.lab.server_state();
    let report = fs::read_dir(state.join("reports"))?
        .next()
        .context("no report")??
        .path();
    let check = |file: &Path| -> Result<_> {
        let program = Program::new(ka_tests::binaries::path("ka-server")?).args(["report", "check"]);
        program.arg(file).arg("--state-dir").arg(&state).finish()
    };
    check(&report)?.expect(0)?.says("1 of 1 nodes done")?;
    let shown: serde_json::Value = serde_json::from_slice(&fs::read(&report)?)?;
    let line: serde_json::Value =
        serde_json::from_str(shown["proof"]["nodes"][0]["text"].as_str().context("no line")?)?;
    ensure!(
        line["outcome"] == "done" && line["read_back"]["read_back"] == "done",
        "{line}"
    );
    ensure!(
        line["streams"][0]["digest"] == line["streams"][0]["golden_digest"],
        "{line}"
    );
    ensure!(
        line["identity"]["filesystem_uuids"]
            .as_array()
            .is_some_and(|uuids| uuids.len() == 2),
        "{line}"
    );

    let dir = kit.lab.scratch().dir("openssl")?;
    let take_apart = "import json, sys
proof = json.load(open(sys.argv[1]))['proof']
open('key.der', 'wb').write(bytes.fromhex(proof['public_key']))
for name, line in [('node', proof['nodes'][0]), ('run', proof['run'])]:
    open(name + '.msg', 'wb').write(('KA report 1: %s\\n' % name).encode() + line['text'].encode())
    open(name + '.sig', 'wb').write(bytes.fromhex(line['signature']))
";
    fs::write(dir.join("take-apart.py"), take_apart)?;
    let within = |script: &str| -> Result<_> {
        let script = format!("cd {} && {script}", dir.display());
        Program::new("sh")
            .args(["-c", &script, "sh"])
            .arg(&report)
            .finish()
    };
    within("python3 take-apart.py \"$1\"")?.expect(0)?;
    let verify = "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin";
    for name in ["node", "run"] {
        within(&format!("{verify} -in {name}.msg -sigfile {name}.sig"))?.expect(0)?;
    }
    ensure!(within(&format!("{verify} -in node.msg -sigfile run.sig"))?.code != Some(0));

    let altered = dir.join("altered.json");
    fs::write(
        &altered,
        fs::read_to_string(&report)?.replace("\\\"outcome\\\":\\\"done\\\"", "\\\"outcome\\\":\\\"fine\\\""),
    )?;
    check(&altered)?.expect(1)?.says("line 1 was altered")?;
    check(&dir.join("no-such-report"))?
        .expect(1)?
        .says("no-such-report")?;
    Ok(())
}

#[test]
fn who_wants_no_reading_back_is_told_that_there_was_none() -> Result<()> {
    let kit = Kit::small("notback", 1)?;
    let disk = kit.same_disk("n1")?;
    let outcome = kit.clone_to(&[&disk], &["--verify=never"])?;
    outcome.expect_success()?;
    let line = done_line(&outcome)?;
    ensure!(line.contains("not read back: --verify=never"), "{line}");
    kit.expect_clone(&disk)
}

fn done_line(outcome: &Outcome) -> Result<String> {
    let mut lines = outcome.server.stdout.lines();
    let line = lines.find(|line| line.contains("n1") && line.contains(": done"));
    Ok(line.with_context(|| outcome.server.all())?.to_owned())
}

/// Clones to two nodes. The first one is stopped as soon as it begins to verify, its disk is harmed, and it
/// goes on.
fn with_harm(label: &str, harm: impl FnOnce(&Disk) -> Result<()>) -> Result<(Kit, [Disk; 2], Outcome)> {
    let kit = Kit::slow(label, 2)?;
    fs::write(
        kit.golden.root().join("home/marked"),
        [MARK, &[b'.'; 8000]].concat(),
    )?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let server = kit.server(&["-n", "2", "--verify"])?;
    let mut bad = kit.node(1, &server, &disks[0], &[])?;
    let good = kit.node(2, &server, &disks[1], &[])?;
    // 60 MB are still to be written back then: it stops before it reads.
    bad.wait_for("verifying data")?;
    bad.signal(Signal::SIGSTOP)?;
    let harmed = harm(&disks[0]);
    bad.signal(Signal::SIGCONT)?;
    harmed?;
    let outcome = finish(server, vec![bad, good])?;
    Ok((kit, disks, outcome))
}

fn expect_one_failed(kit: &Kit, disks: &[Disk; 2], outcome: &Outcome, says: &str) -> Result<()> {
    outcome.nodes[0].expect(3)?.says("verifying data")?.says(says)?;
    outcome.nodes[1].expect(0)?;
    outcome.server.expect(3)?;
    // Only the line about the disks follows it.
    let failed = |line: &&str| line.starts_with("failed: ");
    let last = outcome.server.stdout.lines().rfind(failed).unwrap_or_default();
    outcome
        .server
        .says("disks erased, and nothing boots from them: n1;")?;
    ensure!(
        last.contains("n1") && last.contains("verifying data: ") && last.contains(says),
        "{last}"
    );
    ensure!(!disks[0].looks_finished()?, "the failed disk looks finished");
    kit.lab.expect_unmounted(1)?;
    ensure!(
        disks[0].listed_partitions()? == 0,
        "partitions stay in the kernel"
    );
    kit.expect_clone(&disks[1])
}

#[test]
fn a_sector_that_the_disk_spoils_behind_the_cache_is_found_and_the_disk_does_not_boot() -> Result<()> {
    let (kit, disks, outcome) = with_harm("spoilt", |disk| {
        write_back(disk)?;
        spoil(disk.file())
    })?;
    let says =
        "1 entry of the clone is not as it was written: /home/marked: its content is not what was written";
    expect_one_failed(&kit, &disks, &outcome, says)
}

#[test]
fn a_disk_that_cannot_be_read_any_more_fails_its_node_only() -> Result<()> {
    let (kit, disks, outcome) = with_harm("unread", |disk| {
        write_back(disk)?;
        // Reads behind the end of the file beneath are I/O errors. The part that is left holds the tables of
        // the file system. If the unmount still writes something behind that end, the space between reads as
        // zeros instead: it is lost all the same.
        let file = OpenOptions::new().write(true).open(disk.file())?;
        let marked = position(&fs::read(disk.file())?)?;
        Ok(file.set_len(marked as u64 / 4096 * 4096)?)
    })?;
    expect_one_failed(&kit, &disks, &outcome, "verifying data: ")
}

/// Writes back all data of the stopped node that is still on its way to the disk.
fn write_back(disk: &Disk) -> Result<()> {
    Program::new("sync").run()?;
    Ok(File::open(disk.file())?.sync_all()?)
}

fn position(bytes: &[u8]) -> Result<usize> {
    let mut windows = bytes.windows(MARK.len());
    windows
        .rposition(|window| window == MARK)
        .context("the marked file is not on the disk yet")
}

fn spoil(file: &Path) -> Result<()> {
    let at = position(&fs::read(file)?)?;
    let file = OpenOptions::new().write(true).open(file)?;
    file.write_all_at(b"A", at as u64)?;
    Ok(file.sync_all()?)
}

/// Runs three nodes; the first two get `args`.
fn twins(kit: &Kit, args: &[&str], server_args: &[&str]) -> Result<(Vec<Disk>, Outcome)> {
    let disks = (1..=3).map(|number| kit.same_disk(&format!("n{number}")));
    let disks = disks.collect::<Result<Vec<_>>>()?;
    let server = kit.server(&[&["-n", "3"], server_args].concat())?;
    let nodes = disks.iter().enumerate().map(|(index, disk)| {
        let args = if index < 2 { args } else { &[] };
        kit.node(index + 1, &server, disk, args)
    });
    let nodes = nodes.collect::<Result<Vec<Running>>>()?;
    Ok((disks, finish(server, nodes)?))
}

/// A node's golden name proves nothing when it joins, because every live system of a room may have it; but
/// once it is assigned, it is a name.
#[test]
fn clones_that_are_one_machine_are_all_named_and_none_of_them_is_made_bootable() -> Result<()> {
    let kit = Kit::small("twins", 3)?;
    let (disks, outcome) = twins(&kit, &["--name", "golden"], &[])?;
    outcome.server.expect(3)?;
    let last: Vec<&str> = outcome.server.stdout.lines().collect();
    let failed: Vec<_> = last.iter().filter(|line| line.starts_with("failed: ")).collect();
    ensure!(failed.len() == 2, "{}", outcome.server.all());
    for line in failed {
        ensure!(
            line.contains("at comparing identities: it has the same host name as node "),
            "{line}"
        );
    }
    for index in [0, 1] {
        outcome.nodes[index]
            .expect(3)?
            .says("it has the same host name as node")?;
        ensure!(!disks[index].looks_finished()?, "n{} boots", index + 1);
        ensure!(
            disks[index].listed_partitions()? == 0,
            "partitions stay in the kernel"
        );
        kit.lab.expect_unmounted(index + 1)?;
    }
    outcome.nodes[2].expect(0)?;
    kit.expect_clone(&disks[2])
}

#[test]
fn the_second_machine_of_one_name_is_refused_before_anything_is_written() -> Result<()> {
    let kit = Kit::small("namesake", 2)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let before = fs::read(disks[1].file())?;
    let mut server = kit.server(&["-n", "2"])?;
    let mut first = kit.node(1, &server, &disks[0], &["--name", "same"])?;
    first.wait_for("joined session")?;
    let second = kit.node(2, &server, &disks[1], &["--name", "same"])?.wait()?;
    second.expect(1)?.says("is called same already")?;
    server.run.wait_for("is called same already")?;
    ensure!(fs::read(disks[1].file())? == before, "it was written to");
    let second = kit.node(2, &server, &disks[1], &["--name", "other"])?;
    let outcome = finish(server, vec![first, second])?;
    outcome.expect_success()?;
    disks.iter().try_for_each(|disk| kit.expect_clone(disk))
}

/// The server ends between the reports and its verdict: nothing boots from a clone without a verdict.
#[test]
fn a_clone_that_was_never_judged_does_not_boot_and_waits_for_the_server_that_is_started_again() -> Result<()>
{
    let kit = Kit::slow("unjudged", 2)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let mut server = kit.server(&["-n", "2", "--verify"])?;
    let mut first = kit.node(1, &server, &disks[0], &["--retries", "9"])?;
    let mut second = kit.node(2, &server, &disks[1], &["--retries", "9"])?;
    second.wait_for("verifying data")?;
    second.signal(Signal::SIGSTOP)?;
    let complete = first.wait_for("the clone is complete; it is made bootable");
    if complete.is_err() {
        second.signal(Signal::SIGCONT)?;
    }
    complete?;
    ensure!(!disks[0].looks_finished()?, "it boots before the verdict");
    let kept = kit.lab.server_state().join("run-kainstall.json");
    server.run.wait_until("the report is kept", |_| {
        Ok(fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"complete\":[{")))
    })?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    second.signal(Signal::SIGCONT)?;
    first.wait_for("the clone is kept")?;
    ensure!(!disks[0].looks_finished()?, "it boots without a verdict");
    let server = kit.server(&["-n", "2", "--verify"])?;
    let outcome = finish(server, vec![first, second])?;
    outcome.expect_success()?;
    outcome.server.says("2 nodes done")?;
    ensure!(
        outcome.nodes[0].all().matches("partitioning...OK").count() == 1,
        "it was cloned twice: {}",
        outcome.nodes[0].all()
    );
    disks.iter().try_for_each(|disk| kit.expect_clone(disk))
}

#[test]
fn names_and_uuids_that_were_to_be_kept_make_no_twins() -> Result<()> {
    let kit = Kit::small("kept", 3)?;
    let (_, outcome) = twins(&kit, &["--name", "twin"], &["--keep-identity", "--keep-uuids"])?;
    outcome.expect_success()
}
