//! One shape through the real binaries, and the judgement of its clone.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::names::Names;
use super::{Becomes, Kind, Shape, Verdict};
use crate::disk::Disk;
use crate::golden::{self, Golden, MountedTree};
use crate::lab::Lab;
use crate::matrix::Outcome;
use crate::process::Ended;

const GOLDEN_HOST: &str = "aurum";
const CLONE_HOST: &str = "solo";
const GOLDEN_MAC: &str = "52:54:00:aa:bb:cc";
/// The golden machine-id; shapes write it out, in names of boot entries, too.
pub(super) const MACHINE_ID: &str = "3f1c5a7b9d0e4c6a8b2d4f6071829304";
/// Bytes that a text may have; larger files are no texts.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Clones the shape, or sees it refused, and judges the result.
///
/// # Errors
/// The first thing that is not as it has to be.
pub(super) fn run(shape: &Shape) -> Result<Outcome> {
    let lab = Lab::new(shape.name, 1, None)?;
    let golden = Golden::new(lab.scratch(), "golden", &shape.plan)?;
    let names = Names::of(shape, golden.disk(), GOLDEN_HOST, GOLDEN_MAC)?;
    grow(shape, golden.root(), &names).context("making the golden system")?;
    let judged = match &shape.outcome {
        Verdict::Refused(words) => refused(shape, &lab, &golden, words),
        Verdict::Cloned => cloned(shape, &lab, &golden, &names).map(|()| Outcome::Cloned),
    };
    judged.with_context(|| format!("the shape {}: {}", shape.name, shape.about))
}

fn grow(shape: &Shape, root: &Path, names: &Names) -> Result<()> {
    for dir in [
        "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib",
        "var/log",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(dir))?;
        symlink(format!("usr/{dir}"), root.join(dir))?;
    }
    golden::install_shell(root)?;
    fs::write(root.join("etc/machine-id"), format!("{MACHINE_ID}\n"))?;
    for file in &shape.files {
        let path = root.join(file.path.as_ref());
        fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        match file.kind {
            Kind::Link => symlink(&file.text, &path)?,
            Kind::Text | Kind::Program => fs::write(&path, names.fill(&file.text)?)?,
        }
        if file.kind == Kind::Program {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    shape.last.map_or(Ok(()), |action| action(root))
}

fn server(lab: &Lab, golden: &Golden, args: &[&str]) -> Result<Ended> {
    let program = lab.server_program()?.args(["-n", "1", "--root"]);
    program.arg(golden.root()).args(args).finish()
}

/// Insists on a refusal in one line, in a dry run as well, and with a remedy.
fn refused(shape: &Shape, lab: &Lab, golden: &Golden, words: &[&str]) -> Result<Outcome> {
    let mut line = String::new();
    for more in [&["--dry-run"][..], &[]] {
        let ended = server(lab, golden, &[more, &shape.args].concat())?;
        ended.expect(1)?;
        let errors: Vec<&str> = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:"))
            .collect();
        ensure!(errors.len() == 1, "not one error:\n{}", ended.all());
        for word in words.iter().chain(&["-r none"]) {
            ensure!(errors[0].contains(word), "no {word:?} in {}", errors[0]);
        }
        errors[0].clone_into(&mut line);
    }
    server(lab, golden, &["--dry-run", "-r", "none"])?.expect(0)?;
    Ok(Outcome::Refused(line))
}

fn cloned(shape: &Shape, lab: &Lab, golden: &Golden, names: &Names) -> Result<()> {
    let disk = Disk::new(lab.scratch(), "n1", shape.plan.size, shape.plan.sector_size)?;
    let root = golden.root().display().to_string();
    let server = lab.server(&[&["-n", "1", "--root", &root][..], &shape.args].concat())?;
    let choice = format!("{}={}", golden.disk().name(), disk.checked()?.display());
    let node = lab.client(1, &server, &["--disk", &choice, "--name", CLONE_HOST])?;
    let node = node.wait()?;
    let server = server.run.wait()?;
    node.expect(0)
        .with_context(|| format!("the node; the server said:\n{}", server.all()))?;
    server.expect(0).context("the server")?;
    disk.show_partitions()?;
    let tree = MountedTree::new(&disk, &shape.plan.volumes, &lab.scratch().dir("clone")?)?;
    let own = Names::of(shape, &disk, CLONE_HOST, &card(lab)?)?;
    let all = [
        expect_files(shape, tree.root(), &own),
        expect_calls(shape, tree.root(), &own, &disk),
        expect_nothing_golden(shape, tree.root(), &names.forbidden(), &own.forbidden()),
        expect_warnings(shape, &server, &node),
        expect_identity(tree.root()),
    ];
    let wrong: Vec<String> = all
        .into_iter()
        .filter_map(|judged| Some(format!("{:#}", judged.err()?)))
        .collect();
    ensure!(
        wrong.is_empty(),
        "{}\nthe node said:\n{}",
        wrong.join("\n\n"),
        node.all()
    );
    Ok(())
}

/// Returns the MAC address of the node's card.
fn card(lab: &Lab) -> Result<String> {
    let links = lab.network().node(1).ip("-o link")?;
    let mut words = links.split_whitespace().skip_while(|word| *word != "link/ether");
    words
        .nth(1)
        .map(ToOwned::to_owned)
        .context("the node has no card")
}

/// Insists that each file is its own text with the clone's names, or the text that the shape states.
fn expect_files(shape: &Shape, root: &Path, own: &Names) -> Result<()> {
    let texts = shape.files.iter().filter(|file| file.kind == Kind::Text);
    let unsaid = texts.filter(|file| !shape.becomes.iter().any(|(path, _)| *path == file.path));
    let mut wrong = Vec::new();
    let mut compare = |path: &str, expected: &str| -> Result<()> {
        let expected = own.fill(expected)?;
        let found = fs::read(root.join(path)).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "/{path} is\n{}and not\n{}",
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(&expected)
            ));
        }
        Ok(())
    };
    for file in unsaid {
        compare(&file.path, &file.text)?;
    }
    for (path, becomes) in &shape.becomes {
        if let Becomes::Text(text) = becomes {
            compare(path, text)?;
        }
    }
    for (path, becomes) in &shape.becomes {
        let found = fs::read(root.join(path));
        let Becomes::Holds(parts) = becomes else { continue };
        let text = String::from_utf8_lossy(&found.unwrap_or_default()).into_owned();
        for part in parts {
            let part = own.text(part)?;
            if !text.contains(&part) {
                wrong.push(format!("/{path} has no {part:?}:\n{text}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Insists that the tools were called as declared, and that a loader for BIOS has left its code on the
/// clone's disk.
fn expect_calls(shape: &Shape, root: &Path, own: &Names, disk: &Disk) -> Result<()> {
    let found = fs::read_to_string(root.join("root/calls")).unwrap_or_default();
    let expected = shape
        .calls
        .iter()
        .map(|call| own.text(call))
        .collect::<Result<Vec<_>>>()?;
    let found: Vec<&str> = found.lines().map(str::trim_end).collect();
    ensure!(
        found == expected,
        "the tools were called {found:#?}, not {expected:#?}"
    );
    let mut sector = [0; 440];
    fs::File::open(disk.checked()?)?.read_exact_at(&mut sector, 0)?;
    let has = |code: &[u8]| sector.windows(code.len()).any(|window| window == code);
    for (tool, code) in [
        ("grub", &b"GRUB"[..]),
        ("lilo", b"LILO"),
        ("extlinux", b"SYSLINUX"),
    ] {
        let is_called = expected
            .iter()
            .any(|call| call.starts_with(tool) && call.contains("install") || call == tool);
        ensure!(
            !is_called || has(code),
            "{tool} left no code in the disk's first sector"
        );
    }
    Ok(())
}

/// Insists that no text of the clone holds a name of the golden node's, in any case or escape, except in
/// comments.
fn expect_nothing_golden(shape: &Shape, root: &Path, golden: &[String], own: &[String]) -> Result<()> {
    let golden: Vec<&String> = golden.iter().filter(|name| !own.contains(name)).collect();
    let mut left = Vec::new();
    for path in files_below(root)? {
        let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
        // A snapshot that is the root also appears below /.snapshots.
        let is_log = relative.contains("var/log/ka/");
        let is_told = shape
            .warnings
            .iter()
            .any(|warning| *warning == format!("/{relative} still names"));
        if is_log || is_told || fs::metadata(&path)?.len() > MAX_TEXT_BYTES {
            continue;
        }
        let bytes = fs::read(&path)?;
        for line in String::from_utf8_lossy(&bytes)
            .to_lowercase()
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            let mut named: Vec<&str> = golden
                .iter()
                .filter(|name| is_in(line, name))
                .map(|name| name.as_str())
                .collect();
            if line.contains(GOLDEN_HOST) {
                named.push(GOLDEN_HOST);
            }
            if line.contains(MACHINE_ID)
                && relative.starts_with("etc/")
                && relative != "etc/kernel/entry-token"
            {
                named.push(MACHINE_ID);
            }
            if !named.is_empty() {
                left.push(format!("/{relative}: {line} ({})", named.join(", ")));
            }
        }
    }
    ensure!(left.is_empty(), "golden names are left:\n{}", left.join("\n"));
    Ok(())
}

/// True if the name is in the line: `/dev/loop1` is not in `/dev/loop12`, and is in `/dev/loop1p2`.
fn is_in(line: &str, name: &str) -> bool {
    let follows = |at: usize| line[at + name.len()..].chars().next();
    line.match_indices(name)
        .any(|(at, _)| !follows(at).is_some_and(|c| c.is_ascii_digit()))
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Insists on the declared warnings, and no others.
fn expect_warnings(shape: &Shape, server: &Ended, node: &Ended) -> Result<()> {
    let said = format!("{}\n{}", server.all(), node.all());
    let warnings: Vec<&str> = said
        .lines()
        .filter(|line| line.to_lowercase().contains("warning"))
        .collect();
    let missing: Vec<&&str> = shape
        .warnings
        .iter()
        .filter(|part| !warnings.iter().any(|line| line.contains(**part)))
        .collect();
    ensure!(missing.is_empty(), "no warnings {missing:#?} in {warnings:#?}");
    let others: Vec<&&str> = warnings
        .iter()
        .filter(|line| !shape.warnings.iter().any(|part| line.contains(part)))
        .collect();
    ensure!(others.is_empty(), "unexpected warnings: {others:#?}");
    Ok(())
}

fn expect_identity(root: &Path) -> Result<()> {
    let id = fs::read_to_string(root.join("etc/machine-id"))?;
    let is_id = id.trim().len() == 32 && id.trim().chars().all(|c| c.is_ascii_hexdigit());
    ensure!(is_id && id.trim() != MACHINE_ID, "the machine-id is {id:?}");
    Ok(())
}
