//! A golden node whose disk cannot read one of its files.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::Program;

use crate::kit::Kit;

const DAMAGED: &str = "usr/lib/libdamaged.so";
const EXTENTS: u64 = 40;

/// A file with more extents than its inode has room for, and their block overwritten: every read of it fails.
fn damage(kit: &Kit) -> Result<()> {
    let root = kit.golden.root();
    let path = root.join(DAMAGED);
    fs::create_dir_all(path.parent().context("a directory")?)?;
    let file = fs::File::create(&path)?;
    for extent in 0..EXTENTS {
        file.write_all_at(&[b'x'; 4096], extent * 8192)?;
    }
    file.sync_all()?;
    drop(file);
    let device = kit.golden.disk().partition(2);
    Program::new("umount").arg(root).run()?;
    overwrite_extents(&device)?;
    Program::new("mount").arg(&device).arg(root).run()?;
    let read = fs::File::open(&path)?.read(&mut [0; 4096]);
    ensure!(read.is_err(), "the file can still be read");
    Ok(())
}

fn overwrite_extents(device: &Path) -> Result<()> {
    let stat = Program::new("debugfs")
        .args(["-R", &format!("stat /{DAMAGED}")])
        .arg(device)
        .run()?;
    let block = stat.split("(ETB0):").nth(1).context("no extent block")?;
    let digits: String = block.chars().take_while(char::is_ascii_digit).collect();
    let stats = Program::new("debugfs")
        .args(["-R", "stats -h"])
        .arg(device)
        .run()?;
    let size = stats.lines().find_map(|line| line.strip_prefix("Block size:"));
    let size: u64 = size.context("no block size")?.trim().parse()?;
    let mut disk = OpenOptions::new().write(true).open(device)?;
    disk.seek(SeekFrom::Start(digits.parse::<u64>()? * size))?;
    disk.write_all(&[0xa5; 1024])?;
    disk.sync_all()?;
    Ok(())
}

#[test]
fn a_file_that_the_golden_node_cannot_read_fails_the_run_unless_the_operator_lets_it_pass() -> Result<()> {
    let kit = Kit::small("unreadable", 1)?;
    damage(&kit)?;
    let disk = kit.same_disk("n1")?;
    let outcome = kit.clone_to(&[&disk], &["-r", "none"])?;
    outcome.server.expect(3)?;
    outcome
        .server
        .says("1 file of the golden node could not be read:")?
        .says(DAMAGED)?
        .says("--allow-unreadable")?;
    outcome.nodes[0].expect(0)?;
    let report = newest_report(&kit)?;
    let text = fs::read_to_string(&report)?;
    ensure!(
        text.contains(r#"\"exit_code\":3,\"golden_unreadable\":1"#),
        "not in the signed text:\n{text}"
    );
    let check = kit
        .lab
        .server_program()?
        .args(["report", "check"])
        .arg(&report)
        .finish()?;
    check.expect(0)?.says("without 1 of the golden node's files")?;

    let outcome = kit.clone_to(&[&kit.same_disk("n2")?], &["-r", "none", "--allow-unreadable"])?;
    outcome.expect_success()?;
    outcome.server.says(DAMAGED).map(drop)
}

fn newest_report(kit: &Kit) -> Result<std::path::PathBuf> {
    let reports = fs::read_dir(kit.lab.server_state().join("reports"))?;
    let mut paths = reports
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths.pop().context("no report")
}
