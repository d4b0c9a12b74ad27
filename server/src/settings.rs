//! From options to settings: names, lists and files that the operator gave are checked here, before anything on
//! this machine is looked at, and every refusal names the option that changes it.
//!
//! Not here: whether a drive exists or a mount point has a place (`ka_disk::golden`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ka_disk::desc::Desc;
use ka_disk::golden::{BootCodeSource, SurveyOptions};
use ka_disk::spec::{Loader, ReadBackWhen};
use ka_image::Compress;
use ka_proto::SessionName;
use ka_transport::SpoolDir;

use crate::boot::{self, BootSettings};
use crate::cli::{CompressWhen, Options, VerifyWhen};
use crate::failure::Faults;

/// Boot code of a master boot record: everything before the disk signature's end and the partition table, bytes.
const BOOT_CODE_LEN: usize = 446;
/// A desc file of a disk with the most partitions a table can hold is a few KiB; more is not a desc file. Bytes.
const MAX_DESC_BYTES: u64 = 1 << 20;
/// Longest session name, bytes: `kainstall2` and so on must still fit the protocol's 64.
const MAX_SESSION_BYTES: usize = 60;

/// What to run, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the nodes must ask for.
    pub(crate) session: SessionName,
    /// What is sent.
    pub(crate) job: Job,
    /// Pause between two released nodes.
    pub(crate) release_delay: Duration,
    /// Bytes of a block (`--block-size`); none leaves it to the transport.
    pub(crate) block_bytes: Option<usize>,
    /// Nodes waited for: `-n`, else those of the node list.
    pub(crate) wanted: Option<u32>,
    /// Rounds at most.
    pub(crate) rounds: u32,
    /// Booting nodes, and their first boot.
    pub(crate) boot: BootSettings,
    /// When to compress.
    pub(crate) compress: Compress,
    /// When clones are read back.
    pub(crate) verify: ReadBackWhen,
    /// Golden files that cannot be read do not make the run a failure.
    pub(crate) allow_unreadable: bool,
    /// Where each stream is kept while it runs.
    pub(crate) spool: Option<SpoolDir>,
}

/// What is sent.
#[derive(Debug)]
pub(crate) enum Job {
    /// This golden node.
    Clone(Box<SurveyOptions>),
    /// A stream of the operator's.
    Generic(Input),
}

/// Where the generic stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// `-e`: output of a shell command.
    Command(String),
    /// `--input`: a file, device or named pipe.
    File(PathBuf),
}

impl Settings {
    /// Checks `options`.
    ///
    /// # Errors
    /// One line that names the option, what is wrong with it and what to do.
    pub(crate) fn check(options: &Options) -> Result<Self> {
        let mut faults = Faults::default();
        let session = faults.keep(session(&options.session));
        let job = faults.keep(job(options));
        let boot = BootSettings::check(&options.boot, options.nodes, &options.state_dir);
        let boot = faults.keep(boot);
        let plan = boot.as_ref().and_then(|boot| boot.pxe.as_ref());
        let listed = plan.and_then(|plan| faults.keep(plan.wanted())).flatten();
        if let Some(session) = session.as_ref().filter(|_| options.boot.pxe.is_some()) {
            faults.keep(boot::check_session(session));
        }
        let spool = options.spool.as_deref().map(SpoolDir::open).transpose();
        let spool = faults.keep(spool.context("--spool"));
        let found = session.zip(job).zip(boot.zip(spool));
        let ((session, job), (boot, spool)) = faults.finish(found)?;
        Ok(Self {
            session,
            job,
            wanted: options.nodes.or(listed),
            rounds: options.rounds,
            boot,
            spool,
            release_delay: Duration::from_millis(u64::from(options.release_delay) * 100),
            block_bytes: options.block_size.map(|size| size.0),
            compress: match options.compress {
                CompressWhen::Auto => Compress::Auto,
                CompressWhen::Never => Compress::Never,
                CompressWhen::Always => Compress::Always,
            },
            allow_unreadable: options.allow_unreadable,
            verify: match options.verify {
                VerifyWhen::Auto => ReadBackWhen::Auto,
                VerifyWhen::Always => ReadBackWhen::Always,
                VerifyWhen::Never => ReadBackWhen::Never,
            },
        })
    }
}

impl Settings {
    /// Whether the largest stream can be kept, where streams are.
    ///
    /// # Errors
    /// There is no room; names the directory, and how much is missing.
    pub(crate) fn check_spool(&self, largest_bytes: Option<u64>) -> Result<()> {
        let spool = self.spool.as_ref();
        let checked = spool.map(|dir| dir.check_room(largest_bytes.unwrap_or(0)));
        checked.transpose().context("--spool").map(drop)
    }

    /// What tells this job from another one under the same session name, over restarts of the server: what is sent, and
    /// how it is laid out. Not how many nodes there are, nor how they are found.
    pub(crate) fn job_digest(&self) -> [u8; 32] {
        let text = format!(
            "{} {:?} {:?} {} {}",
            env!("CARGO_PKG_VERSION"),
            self.session,
            self.job,
            self.boot.keep_identity,
            self.boot.kernel_names
        );
        blake3::derive_key("ka 2026 job of a run", text.as_bytes())
    }
}

fn session(name: &str) -> Result<SessionName> {
    ensure!(
        name.len() <= MAX_SESSION_BYTES,
        "session name (-s) has {} bytes, at most {MAX_SESSION_BYTES} are possible",
        name.len()
    );
    SessionName::new(name).context("session name (-s)")
}

fn job(options: &Options) -> Result<Job> {
    if let Some(command) = &options.exec {
        ensure!(
            !command.trim().is_empty(),
            "the command of -e is empty; name a command whose output is to be sent"
        );
        return Ok(Job::Generic(Input::Command(command.clone())));
    }
    if let Some(path) = &options.input {
        let what = fs::metadata(path).with_context(|| format!("looking at --input {}", path.display()))?;
        ensure!(
            !what.is_dir(),
            "--input {} is a directory; name a file or a device",
            path.display()
        );
        return Ok(Job::Generic(Input::File(path.clone())));
    }
    let mut faults = Faults::default();
    faults.keep(check_loader(options.boot_loader.as_deref()));
    let root = faults.keep(root(&options.root));
    let descs = faults.keep(descs(&options.partitions));
    let excluded_dirs = faults.keep(excluded_dirs(&options.exclude));
    let excluded = options.exclude_disks.iter().flat_map(|list| list.split('|'));
    let excluded_disks = faults.keep(drives("-X", excluded));
    let boot_code = faults.keep(boot_code(&options.boot_code, &options.boot_code_file));
    let raw = faults.keep(drives("-D", options.raw.iter().map(String::as_str)));
    // Nothing is replaced by a default, which would be another job.
    let excluded = excluded_dirs.zip(excluded_disks);
    let found = root.zip(descs).zip(excluded).zip(boot_code.zip(raw));
    let (((root, drives), (excluded_dirs, excluded_disks)), (boot_code, raw)) = faults.finish(found)?;
    Ok(Job::Clone(Box::new(SurveyOptions {
        root,
        drives,
        excluded_dirs,
        with_snapshots: options.snapshots,
        excluded_disks,
        boot_code,
        raw,
        boot_loader: options.boot_loader.clone(),
        keep_uuids: options.keep_uuids,
    })))
}

/// The first word of `-r`; what the clones then have to have for it is checked on each of them.
fn check_loader(option: Option<&str>) -> Result<()> {
    match option.map(|text| text.split_whitespace().next()) {
        None | Some(Some("none")) => Ok(()),
        Some(None) => {
            bail!("-r is empty; write grub, systemd-boot, extlinux, lilo, refind, limine, uki or none")
        }
        Some(Some(word)) => Ok(word.parse::<Loader>().map(drop)?),
    }
}

fn root(path: &Path) -> Result<PathBuf> {
    let root = fs::canonicalize(path).with_context(|| format!("looking at --root {}", path.display()))?;
    ensure!(root.is_dir(), "--root {} is not a directory", path.display());
    Ok(root)
}

fn descs(pairs: &[OsString]) -> Result<Vec<(String, Desc)>> {
    let mut descs: Vec<(String, Desc)> = Vec::new();
    for (drive, path) in two_by_two(pairs) {
        let drive = drive_name("-p", &drive.to_string_lossy())?;
        if descs.iter().any(|(other, _)| *other == drive) {
            bail!("-p names {drive} twice; one desc file a drive");
        }
        descs.push((drive, desc(Path::new(path))?));
    }
    Ok(descs)
}

fn desc(path: &Path) -> Result<Desc> {
    let reading = || format!("reading desc file {}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).with_context(reading)?;
    file.take(MAX_DESC_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(reading)?;
    ensure!(
        text.len() as u64 <= MAX_DESC_BYTES,
        "{} is too long for a desc file (-p)",
        path.display()
    );
    Ok(Desc::parse(&text, &path.display().to_string())?)
}

/// Splits `a|b`, and wants absolute paths: relative to what would a relative one be?
fn excluded_dirs(lists: &[OsString]) -> Result<Vec<PathBuf>> {
    let mut dirs = BTreeSet::new();
    for list in lists {
        for part in list
            .as_bytes()
            .split(|byte| *byte == b'|')
            .filter(|part| !part.is_empty())
        {
            let dir = PathBuf::from(OsString::from_vec(part.to_vec()));
            ensure!(
                dir.is_absolute(),
                "-x {} is not an absolute path; begin it with /",
                dir.display()
            );
            ensure!(dir != Path::new("/"), "-x / would leave out everything");
            ensure!(
                !dir.components().any(|part| part.as_os_str() == ".."),
                "-x {} goes up with `..`; write the path itself",
                dir.display()
            );
            // Without a trailing slash and doubled ones, so that it compares as a path.
            dirs.insert(dir.components().collect());
        }
    }
    Ok(dirs.into_iter().collect())
}

fn boot_code(of_drives: &[String], files: &[OsString]) -> Result<Vec<BootCodeSource>> {
    let names = drives("-m", of_drives.iter().map(String::as_str))?;
    let mut taken: BTreeSet<String> = names.iter().cloned().collect();
    let mut all: Vec<_> = names.into_iter().map(BootCodeSource::Drive).collect();
    for (drive, path) in two_by_two(files) {
        let (drive, file) = (drive_name("-M", &drive.to_string_lossy())?, PathBuf::from(path));
        if !taken.insert(drive.clone()) {
            bail!("boot code of {drive} is given twice; use -m or -M once for a drive");
        }
        check_boot_code(&file)?;
        all.push(BootCodeSource::File { drive, file });
    }
    Ok(all)
}

fn check_boot_code(path: &Path) -> Result<()> {
    let reading = || format!("reading boot code file {} (-M)", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(reading)?;
    // A whole disk given by mistake must not be read; one byte more than fits tells it apart.
    file.take(BOOT_CODE_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    let size = if bytes.len() > BOOT_CODE_LEN {
        "more".to_owned()
    } else {
        bytes.len().to_string()
    };
    ensure!(
        bytes.len() == BOOT_CODE_LEN,
        "boot code file {} (-M) has {size} bytes, not {BOOT_CODE_LEN}; make one with: dd bs={BOOT_CODE_LEN} count=1",
        path.display()
    );
    Ok(())
}

/// Drive or partition names without `/dev/`, each once.
fn drives<'a>(option: &str, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
    let names = names
        .filter(|name| !name.is_empty())
        .map(|name| drive_name(option, name));
    Ok(names.collect::<Result<BTreeSet<_>>>()?.into_iter().collect())
}

fn drive_name(option: &str, text: &str) -> Result<String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    ensure!(
        !name.is_empty() && !name.starts_with('.') && !name.contains(char::is_whitespace) && name.is_ascii(),
        "{option} {text:?} is no drive or partition name; write it as in /dev: sda"
    );
    Ok(name.to_owned())
}

fn two_by_two(pairs: &[OsString]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    pairs
        .chunks_exact(2)
        .map(|pair| (pair[0].as_os_str(), pair[1].as_os_str()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use ka_disk::golden::{BootCodeSource, SurveyOptions};

    use super::{Input, Job, Settings};
    use crate::cli::{Parsed, parse};

    fn check(line: &[&str]) -> anyhow::Result<Settings> {
        match parse(["ka-server"].iter().chain(line).map(Into::into)) {
            Parsed::Options(options) => Settings::check(&options),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn clone(line: &[&str]) -> SurveyOptions {
        match check(line).unwrap().job {
            Job::Clone(job) => *job,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &[&str]) -> String {
        format!("{:#}", check(line).unwrap_err())
    }

    #[test]
    fn lists_in_one_argument_and_repeated_options_mean_the_same() {
        let job = clone(&[
            "-x",
            "/tmp/|/var//tmp",
            "-x",
            "/srv",
            "-x",
            "/tmp",
            "-X",
            "sdb|/dev/sdc",
            "-D",
            "sda1",
        ]);
        assert_eq!(job.excluded_dirs, ["/srv", "/tmp", "/var/tmp"].map(PathBuf::from));
        assert_eq!(job.excluded_disks, ["sdb", "sdc"]);
        assert_eq!(job.raw, ["sda1"]);
    }

    #[test]
    fn a_bad_exclusion_is_refused() {
        for (dir, says) in [("tmp", "absolute"), ("/", "everything"), ("/a/../b", "..")] {
            assert!(refusal(&["-x", dir]).contains(says), "{dir}");
        }
    }

    #[test]
    fn boot_code_must_be_446_bytes_and_says_how_to_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mbr");
        let name = path.to_str().unwrap();
        for (bytes, says) in [
            (0, "has 0 bytes"),
            (445, "has 445 bytes"),
            (512, "has more bytes"),
        ] {
            fs::write(&path, vec![1; bytes]).unwrap();
            let text = refusal(&["-M", "sda", name]);
            assert!(
                text.contains(says) && text.contains(name) && text.contains("dd bs=446"),
                "{text}"
            );
        }
        fs::write(&path, [1; 446]).unwrap();
        let job = clone(&["-M", "/dev/sda", name, "-m", "sdb"]);
        assert!(matches!(&job.boot_code[0], BootCodeSource::Drive(drive) if drive == "sdb"));
        assert!(matches!(&job.boot_code[1], BootCodeSource::File { drive, .. } if drive == "sda"));
        assert!(refusal(&["-M", "sda", name, "-m", "sda"]).contains("twice"));
    }

    #[test]
    fn files_that_cannot_be_read_are_named_with_the_reason() {
        for line in [
            &["-p", "sda", "/no/such/desc"][..],
            &["-M", "sda", "/no/such/mbr"],
            &["--input", "/no/such/file"],
            &["--root", "/no/such/root"],
        ] {
            let text = refusal(line);
            assert!(
                text.contains("/no/such/") && text.contains("No such file"),
                "{text}"
            );
        }
        assert!(refusal(&["--input", "/"]).contains("is a directory"));
    }

    #[test]
    fn session_names_are_bounded_and_printable() {
        assert!(refusal(&["-s", &"x".repeat(61)]).contains("at most 60"));
        assert!(refusal(&["-s", ""]).contains("-s"));
        assert!(refusal(&["-s", "a\u{7}b"]).contains("-s"));
        assert_eq!(check(&["-s", "room 12"]).unwrap().session.as_str(), "room 12");
    }

    #[test]
    fn the_generic_mode_takes_a_command_or_a_file() {
        let dir = tempfile::NamedTempFile::new().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(matches!(
            check(&["-e", "cat f"]).unwrap().job,
            Job::Generic(Input::Command(_))
        ));
        assert!(matches!(
            check(&["--input", path]).unwrap().job,
            Job::Generic(Input::File(_))
        ));
        assert!(refusal(&["-e", "  "]).contains("-e"));
    }

    #[test]
    fn a_boot_loader_that_nobody_knows_is_refused_before_anything_starts() {
        assert!(refusal(&["-r", "grubb --with=ata_piix"]).contains("grubb"));
        assert!(refusal(&["-r", " "]).contains("-r"));
        for good in ["grub --with=ata_piix", "none", "lilo"] {
            assert!(check(&["-r", good]).is_ok(), "{good}");
        }
    }

    #[test]
    fn first_boots_are_waited_for_only_where_something_tells_of_them() {
        let boot = |line: &[&str]| check(line).unwrap().boot;
        assert!(boot(&[]).wait_boot.is_zero() && !boot(&[]).beacon);
        let waits = boot(&["--wait-boot", "60"]);
        assert_eq!((waits.wait_boot.as_secs(), waits.beacon), (60, true));
        assert!(refusal(&["--wait-boot", "60", "--no-beacon"]).contains("--no-beacon"));
        assert!(refusal(&["--pxe", "nosuch0"]).contains("nosuch0"));
    }

    #[test]
    fn drive_names_are_those_of_dev() {
        for name in ["", "/dev/", "../sda", "s da", "ä"] {
            assert!(refusal(&["-p", name, "/dev/null"]).contains("-p"), "{name}");
        }
    }
}
