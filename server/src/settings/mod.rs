//! Checks of the options. Names, lists and files of the operator are checked here before this machine is
//! examined. Every refusal names the option that changes it.
//!
//! `ka_disk::golden` checks whether a drive exists or a mount point has a place.

mod boot;
mod order;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ka_disk::golden::{SurveyOptions, TypedOptions};
use ka_disk::spec::{Loader, ReadBackWhen};
use ka_proto::SessionName;
use ka_proto::order::OrderList;
use ka_transport::SpoolDir;

use crate::cli::{
    DEFAULT_STATE_DIR, FileOptions, GenericOptions, GoldenOptions, NetworkOptions, NodeOptions, Options,
    OutputOptions, StreamOptions,
};
use crate::failure::Faults;

pub(crate) use crate::cli::ImageOptions;
pub(crate) use boot::{BootSettings, PxePlan};

/// Longest session name, in bytes. `kainstall2` and so on must still fit the protocol's 64.
const MAX_SESSION_BYTES: usize = 60;

/// The checked options of a run. Options that need no check are here as they were given, by subject.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The session that nodes must ask for.
    pub(crate) session: SessionName,
    /// The content to send.
    pub(crate) job: Job,
    /// Nodes waited for: `-n`, else the number of nodes on the list.
    pub(crate) wanted: Option<u32>,
    /// Booting nodes, and their first boot.
    pub(crate) boot: BootSettings,
    /// Directory that keeps each stream while it runs (`--spool`).
    pub(crate) spool: Option<SpoolDir>,
    /// The operator's order of the chain.
    pub(crate) order: OrderList,
    /// Nodes and rounds.
    pub(crate) nodes: NodeOptions,
    /// The chain and the data in it.
    pub(crate) stream: StreamOptions,
    /// Addresses and ports.
    pub(crate) network: NetworkOptions,
    /// Standard output and the terminal.
    pub(crate) output: OutputOptions,
    /// The server's own files.
    pub(crate) files: FileOptions,
}

/// The content to send.
#[derive(Debug)]
pub(crate) enum Job {
    /// This golden node.
    Clone(Box<CloneJob>),
    /// A stream of the operator's.
    Generic(Input),
}

/// The golden node as it is to be cloned.
#[derive(Debug)]
pub(crate) struct CloneJob {
    /// The parts that are cloned.
    pub(crate) survey: SurveyOptions,
    /// Reading back of clones.
    pub(crate) verify: ReadBackWhen,
}

/// Source of the generic stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// `-e`: output of a shell command.
    Command(String),
    /// `--input`: a file, device or named pipe.
    File(PathBuf),
}

impl Input {
    /// Returns a description of the source.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Command(command) => format!("sending the output of `{command}`"),
            Self::File(path) => format!("sending {}", path.display()),
        }
    }

    /// Returns the stream's size in bytes if it is known, which is for a plain file only.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Command(_) => None,
            Self::File(path) => path
                .metadata()
                .ok()
                .filter(fs::Metadata::is_file)
                .map(|meta| meta.len()),
        }
    }
}

impl Settings {
    /// Checks `options`.
    ///
    /// # Errors
    /// One line that names the option, what is wrong with it and what to do.
    pub(crate) fn check(options: &Options) -> Result<Self> {
        let mut faults = Faults::default();
        let session = faults.keep(session(&options.nodes.session));
        let job = faults.keep(job(&options.golden, &options.generic));
        let boot = BootSettings::check(&options.boot, options.nodes.wanted, &options.files.state_dir);
        let boot = faults.keep(boot);
        let plan = boot.as_ref().and_then(|boot| boot.pxe.as_ref());
        let listed = plan.and_then(|plan| faults.keep(plan.wanted())).flatten();
        if let Some(session) = session.as_ref().filter(|_| options.boot.pxe.is_some()) {
            faults.keep(boot::check_session(session));
        }
        let spool = options.stream.spool.as_deref().map(SpoolDir::open).transpose();
        let spool = faults.keep(spool.context("--spool"));
        let order = faults.keep(order::read(options.nodes.order.as_deref()));
        let found = session.zip(job).zip(boot.zip(spool)).zip(order);
        let (((session, job), (boot, spool)), order) = faults.finish(found)?;
        let listed_nodes = boot.pxe.as_ref().map_or(&[][..], |plan| &plan.nodes);
        Ok(Self {
            session,
            job,
            wanted: options.nodes.wanted.or(listed),
            order: order::with_groups(order, listed_nodes),
            boot,
            spool,
            nodes: options.nodes.clone(),
            stream: options.stream.clone(),
            network: options.network.clone(),
            output: options.output,
            files: options.files.clone(),
        })
    }

    /// Returns true if nodes make clones, not only take a stream.
    pub(crate) const fn makes_clones(&self) -> bool {
        matches!(self.job, Job::Clone(_))
    }

    /// Returns the bytes of a block: `--block-size`, else what suits the chain.
    pub(crate) fn block_bytes(&self, chain_block_bytes: usize) -> usize {
        self.stream.block_size.map_or(chain_block_bytes, |size| size.0)
    }

    /// Returns the run's own files as absolute paths without links, because the golden tree is walked that way.
    /// A clone that had the server's key could pose as the server, so the golden tree's own key is among them.
    /// Logs and join code belong to this run. Files that do not exist need no care.
    pub(crate) fn own_files(&self, log_dir: Option<&Path>) -> Vec<PathBuf> {
        let files = [
            Some(self.files.state_dir.as_path()),
            self.files.join_file.as_deref(),
            log_dir,
        ];
        let existing = files
            .into_iter()
            .flatten()
            .filter_map(|path| path.canonicalize().ok());
        let of_golden = match &self.job {
            Job::Clone(job) => Some(job.survey.root.join(DEFAULT_STATE_DIR.trim_start_matches('/'))),
            Job::Generic(_) => None,
        };
        existing.chain(of_golden).collect()
    }

    /// Checks that the largest stream fits into the spool directory, if there is one.
    ///
    /// # Errors
    /// There is not enough room. Names the directory, and how much is missing.
    pub(crate) fn check_spool(&self, largest_bytes: Option<u64>) -> Result<()> {
        let spool = self.spool.as_ref();
        let checked = spool.map(|dir| dir.check_room(largest_bytes.unwrap_or(0)));
        checked.transpose().context("--spool").map(drop)
    }

    /// Returns the digest that tells this job from another one under the same session name, over restarts of
    /// the server. It covers the content and its layout. It does not cover the number of nodes, nor how they
    /// are found.
    pub(crate) fn job_digest(&self) -> [u8; 32] {
        let job = match &self.job {
            Job::Clone(job) => format!("Clone({:?})", job.survey),
            Job::Generic(input) => format!("Generic({input:?})"),
        };
        let text = format!(
            "{} {:?} {job} {} {}",
            env!("CARGO_PKG_VERSION"),
            self.session,
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

fn job(golden: &GoldenOptions, generic: &GenericOptions) -> Result<Job> {
    if let Some(command) = &generic.exec {
        ensure!(
            !command.trim().is_empty(),
            "the command of -e is empty; name a command whose output is to be sent"
        );
        return Ok(Job::Generic(Input::Command(command.clone())));
    }
    if let Some(path) = &generic.input {
        let what = fs::metadata(path).with_context(|| format!("looking at --input {}", path.display()))?;
        ensure!(
            !what.is_dir(),
            "--input {} is a directory; name a file or a device",
            path.display()
        );
        return Ok(Job::Generic(Input::File(path.clone())));
    }
    let mut faults = Faults::default();
    faults.keep(check_loader(golden.boot_loader.as_deref()));
    let typed = TypedOptions {
        root: golden.root.as_os_str(),
        partitions: &golden.partitions,
        exclude: &golden.exclude,
        exclude_disks: &golden.exclude_disks,
        boot_code: &golden.boot_code,
        boot_code_file: &golden.boot_code_file,
        raw: &golden.raw,
    };
    let survey = match SurveyOptions::parse(&typed) {
        Ok(survey) => Some(survey),
        Err(found) => {
            found.into_iter().for_each(|fault| faults.add(fault.into()));
            None
        }
    };
    // No fault is replaced by a default, which would be another job.
    let survey = faults.finish(survey)?;
    let survey = SurveyOptions {
        with_snapshots: golden.snapshots,
        boot_loader: golden.boot_loader.clone(),
        keep_uuids: golden.keep_uuids,
        ..survey
    };
    Ok(Job::Clone(Box::new(CloneJob {
        survey,
        verify: golden.verify,
    })))
}

/// Checks the first word of `-r`. Each clone is checked separately for the needs of that boot loader.
fn check_loader(option: Option<&str>) -> Result<()> {
    match option.map(|text| text.split_whitespace().next()) {
        None | Some(Some("none")) => Ok(()),
        Some(None) => {
            bail!("-r is empty; write grub, systemd-boot, extlinux, lilo, refind, limine, uki or none")
        }
        Some(Some(word)) => Ok(word.parse::<Loader>().map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use ka_disk::golden::{BootCode, SurveyOptions};

    use super::{Input, Job, Settings};
    use crate::cli::Options;

    fn check(line: &[&str]) -> anyhow::Result<Settings> {
        match ka_cli::parse::<Options>(["ka-server"].iter().chain(line).copied()) {
            Ok(options) => Settings::check(&options),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn clone(line: &[&str]) -> SurveyOptions {
        match check(line).unwrap().job {
            Job::Clone(job) => job.survey,
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
        for (bytes, says) in [(0, "has 0 bytes"), (445, "has 445 bytes"), (512, "has 512 bytes")] {
            fs::write(&path, vec![1; bytes]).unwrap();
            let text = refusal(&["-M", "sda", name]);
            assert!(
                text.contains(says) && text.contains(name) && text.contains("dd bs=446"),
                "{text}"
            );
        }
        fs::write(&path, [1; 446]).unwrap();
        let job = clone(&["-M", "/dev/sda", name, "-m", "sdb"]);
        assert!(matches!(&job.boot_code[0], BootCode::OfDrive(drive) if *drive == "sdb"));
        assert!(matches!(&job.boot_code[1], BootCode::FromFile { drive, .. } if *drive == "sda"));
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
