//! Faults of one node in the middle of a run. It fails with its reason, its disk boots nothing, nothing of it
//! stays in the kernel, and the others do not notice. `failures.rs` tests full disks and failing tools,
//! `verify.rs` bad reads after the restore.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{Plan, Volume};
use ka_tests::mounts::Mounted;
use ka_tests::process::{Program, Running};

use crate::kit::{Kit, Outcome, finish, mib, small_plan};

/// Runs two nodes, the second one sound.
fn beside_a_sound_one(
    kit: &Kit,
    bad: &Disk,
    begin: impl FnOnce(&ka_tests::lab::Server) -> Result<Running>,
) -> Result<(Disk, Outcome)> {
    let good = kit.same_disk("n2")?;
    let logs = logs(kit).display().to_string();
    let server = kit.server(&["-n", "2", "--log-dir", &logs])?;
    let nodes = vec![begin(&server)?, kit.node(2, &server, &good, &[])?];
    let outcome = finish(server, nodes)?;
    outcome.nodes[1].expect(0)?;
    kit.expect_clone(&good)?;
    kit.lab.expect_unmounted(1)?;
    ensure!(!bad.looks_finished()?, "the failed disk looks finished");
    ensure!(bad.listed_partitions()? == 0, "partitions stay in the kernel");
    Ok((good, outcome))
}

/// Returns the directory of the server's logs.
fn logs(kit: &Kit) -> PathBuf {
    kit.lab.scratch().path().join("server-logs")
}

/// Insists that the node and the server's file of its log repeat what the kernel said of the disk.
fn expect_kernel_named(kit: &Kit, outcome: &Outcome, disk: &Disk) -> Result<()> {
    let name = disk.name();
    let said = &outcome.nodes[0].stderr;
    let of_disk = |line: &&str| line.contains(": kernel: [") && line.contains(&name);
    let told = said
        .lines()
        .find(of_disk)
        .with_context(|| format!("no word of {name}'s kernel: {said}"))?;
    let run = fs::read_dir(logs(kit))?.next().context("no log of the run")??;
    let mut files = fs::read_dir(run.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_log = |path: &PathBuf| path.display().to_string().ends_with("-n1.log");
    let file = files.find(is_log).context("no log of n1")?;
    let kept = fs::read_to_string(&file)?;
    ensure!(kept.contains(told), "{} lacks {told:?}:\n{kept}", file.display());
    Ok(())
}

fn expect_named(outcome: &Outcome, says: &str) -> Result<()> {
    outcome.nodes[0].expect(3)?.says(says)?;
    outcome.server.expect(3)?;
    // Only the line about the disks follows it.
    let failed = |line: &&str| line.starts_with("failed: ");
    let last = outcome.server.stdout.lines().rfind(failed).unwrap_or_default();
    outcome
        .server
        .says("disks erased, and nothing boots from them: n1;")?;
    ensure!(
        last.starts_with("failed: ") && last.contains("n1") && last.contains(says),
        "{last}"
    );
    Ok(())
}

#[test]
fn a_disk_with_write_errors_behind_some_offset_fails_its_node_only() -> Result<()> {
    let kit = Kit::slow("eio", 2)?;
    // The file beneath the disk cannot grow beyond this: a later write is an I/O error.
    let small = Mounted::in_memory(&kit.lab.scratch().path().join("small"), mib(30))?;
    let bad = Disk::over(small.point().join("n1.img"), kit.plan.size, kit.plan.sector_size)?;
    let (_, outcome) = beside_a_sound_one(&kit, &bad, |server| kit.node(1, server, &bad, &[]))?;
    expect_named(&outcome, "Input/output error")?;
    expect_kernel_named(&kit, &outcome, &bad)?;
    drop(bad);
    drop(small);
    Ok(())
}

#[test]
fn a_tool_that_is_killed_fails_its_node_with_the_signal() -> Result<()> {
    let kit = Kit::small("killed", 2)?;
    let bad = kit.same_disk("n1")?;
    let path = path_with(&kit, "mke2fs", "#!/bin/sh\nkill -SEGV $$\n")?;
    let choice = kit.choice(&bad)?;
    let (_, outcome) = beside_a_sound_one(&kit, &bad, |server| {
        let client = kit.lab.client_program(1, server)?;
        client.args(["--disk", &choice]).env("PATH", path).spawn()
    })?;
    expect_named(&outcome, "signal")
}

/// Returns a search path that begins with a directory of one program.
fn path_with(kit: &Kit, name: &str, script: &str) -> Result<String> {
    let bin = kit.lab.scratch().dir("bin")?;
    fs::write(bin.join(name), script)?;
    Program::new("chmod").arg("+x").arg(bin.join(name)).run()?;
    Ok(format!("{}:{}", bin.display(), std::env::var("PATH")?))
}

/// The limit is that of a small machine: the node's writes count, too, and must go to the disk in time.
#[test]
fn a_node_with_little_memory_is_cloned_or_fails_with_its_reason() -> Result<()> {
    const LIMIT: u64 = 96 << 20;
    let kit = Kit::slow("memory", 1)?;
    let disk = kit.same_disk("n1")?;
    let group = MemoryGroup::new(LIMIT)?;
    let server = kit.server(&["-n", "1"])?;
    let choice = kit.choice(&disk)?;
    let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.path.display());
    let node = kit.lab.client_program(1, &server)?.args(["--disk", &choice]);
    let node = node.wrapped(&["sh", "-c", &enter, "sh"]).spawn()?;
    let outcome = finish(server, vec![node])?;
    ensure!(group.peak()? <= LIMIT, "the limit is none");
    kit.lab.expect_unmounted(1)?;
    if outcome.nodes[0].code == Some(0) {
        outcome.server.expect(0)?;
        return kit.expect_clone(&disk);
    }
    // Only the line about the disks follows it.
    let failed = |line: &&str| line.starts_with("failed: ");
    let last = outcome.server.stdout.lines().rfind(failed).unwrap_or_default();
    outcome
        .server
        .says("disks erased, and nothing boots from them: n1;")?;
    ensure!(last.starts_with("failed: ") && last.contains("n1"), "{last}");
    ensure!(!disk.looks_finished()?, "the failed disk looks finished");
    Ok(())
}

/// A control group with a bound on memory (cgroup-v1/memory.rst, cgroup-v2.rst), removed on drop.
struct MemoryGroup {
    path: PathBuf,
    peak: &'static str,
}

impl MemoryGroup {
    fn new(limit: u64) -> Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (base, bound, peak) = if v1.is_dir() {
            (v1, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max", "memory.peak")
        };
        let path = base.join(format!("ka-{}-memory", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self { path, peak };
        fs::write(group.path.join(bound), limit.to_string())?;
        Ok(group)
    }

    fn peak(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.path.join(self.peak))?.trim().parse()?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Insists that the signed text of the run counts the unread file, and that the program that checks it
/// reports it.
fn expect_signed(kit: &Kit) -> Result<()> {
    let reports = fs::read_dir(kit.lab.server_state().join("reports"))?;
    let report = reports.into_iter().next().context("no report")??.path();
    let text = fs::read_to_string(&report)?;
    ensure!(
        text.contains(r#"\"exit_code\":3,\"golden_unreadable\":1"#),
        "not in the signed text:\n{text}"
    );
    let check = Program::new(ka_tests::binaries::path("ka-server")?).args(["report", "check"]);
    let check = check.arg("--state-dir").arg(kit.lab.server_state()).arg(&report);
    check
        .finish()?
        .expect(0)?
        .says("without 1 of the golden node's files")
        .map(drop)
}

/// Btrfs notices a damaged block: reading such a file is an I/O error.
#[test]
fn a_golden_file_that_cannot_be_read_is_named_and_no_node_hangs() -> Result<()> {
    const MARK: &[u8] = b"what was written before the disk went bad";
    let plan = Plan {
        volumes: vec![Volume::new(1, "btrfs", "/")],
        table: "label: gpt\nsize=700MiB\n",
        size: GIB,
        ..small_plan()
    };
    let kit = Kit::with_plan("rotten", 2, plan)?;
    let rotten = kit.golden.root().join("home/rotten");
    let mut content = MARK.to_vec();
    content.resize(1 << 20, b'x');
    fs::write(&rotten, content)?;
    let file = fs::File::open(&rotten)?;
    file.sync_all()?;
    Program::new("sync").run()?;
    let disk = kit.golden.disk().file();
    let bytes = fs::read(disk)?;
    let at = bytes.windows(MARK.len()).rposition(|window| window == MARK);
    let at = at.context("the file is not on the disk")?;
    fs::OpenOptions::new()
        .write(true)
        .open(disk)?
        .write_all_at(b"W", at as u64)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    ensure!(fs::read(&rotten).is_err(), "it can still be read");

    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let outcome = kit.clone_to(&[&disks[0], &disks[1]], &[])?;
    for node in &outcome.nodes {
        node.expect(0)?;
    }
    // The clones are as good as they can be, but a file is missing: the exit code must not mean success.
    outcome.server.expect(3)?;
    let said = &outcome.server.stdout;
    outcome
        .server
        .says("1 file of the golden node could not be read:")?
        .says("not whole: 1 file of the golden node")?
        .says("--allow-unreadable")?;
    expect_signed(&kit)?;
    let named = said.lines().find(|line| line.contains("home/rotten"));
    ensure!(
        named.is_some_and(|line| line.contains("cannot be read: at byte 0: Input/output error")),
        "{said}"
    );
    kit.lab.expect_unmounted(2)?;
    for disk in &disks {
        let clone = kit.mounted(disk, &kit.plan.volumes)?;
        let there = fs::read(clone.root().join("home/rotten"));
        ensure!(
            !there.is_ok_and(|bytes| bytes.windows(4).any(|window| window == b"What")),
            "the clone has what the disk spoilt"
        );
        ensure!(fs::read(clone.root().join("etc/fstab"))?.len() > 10);
    }
    let allowed = kit.clone_to(&[&disks[0]], &["--allow-unreadable"])?;
    allowed.expect_success()?;
    allowed.server.says("home/rotten").map(drop)
}
