//! The record of a run until its end, so that a restarted server goes on. It holds the run's secrets, so that
//! the join code in nodes and boot images stays good, and every node that is done.
//!
//! There is one file for a session in the state directory, readable by its owner only. It is replaced as a
//! whole and on disk before the run goes on. It is removed when the run ends; the report holds its contents
//! then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ka_proto::identity::Identity;
use ka_proto::text::file_name;
use ka_report::report::NodeReport;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Version of the file. A file of another version is not read.
const VERSION: u32 = 1;
/// Largest file read, in bytes: 4096 nodes with a report of some ten KiB each.
const MAX_BYTES: u64 = 256 << 20;

/// A node that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The machine's identity.
    pub(crate) identity: Identity,
    /// The node's report.
    pub(crate) report: NodeReport,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    job: [u8; 32],
    secret: [u8; 16],
    beacon: [u8; 32],
    done: Vec<Done>,
    /// Clones that are complete and equal to the streams sent, but wait for the verdict over their round.
    #[serde(default)]
    complete: Vec<Done>,
}

/// The state of the earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// There is no unfinished run.
    Nothing,
    /// The run is resumed.
    TakenUp,
    /// The run was another job under the same name, and is given up.
    OtherJob,
    /// The run's file cannot be read.
    Unreadable,
    /// Another server runs this session with this state directory, so the run cannot be resumed.
    InUse,
}

/// A run that has not ended.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Path of the file. `None` if nothing is kept.
    path: Option<PathBuf>,
    /// Lock that is held as long as this process lives.
    _lock: File,
    kept: Kept,
}

impl Unfinished {
    /// Resumes the session's unfinished run, or begins one. `job` tells jobs apart.
    ///
    /// # Errors
    /// The state directory cannot be written to, or there are no random bytes.
    pub(crate) fn open(
        state_dir: &Path,
        session: &str,
        job: [u8; 32],
        fresh: bool,
    ) -> Result<(Self, Before)> {
        let path = file_of_session(state_dir, session);
        let lock = private(&path.with_extension("lock")).context("--state-dir")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let kept = Kept::new(job)?;
            let alone = Self {
                path: None,
                _lock: lock,
                kept,
            };
            return Ok((alone, Before::InUse));
        }
        let (before, kept) = match read(&path) {
            _ if fresh => (Before::Nothing, None),
            Ok(None) => (Before::Nothing, None),
            Ok(Some(kept)) if kept.job == job => (Before::TakenUp, Some(kept)),
            Ok(Some(_)) => (Before::OtherJob, None),
            Err(_) => (Before::Unreadable, None),
        };
        let opened = Self {
            path: Some(path),
            _lock: lock,
            kept: match kept {
                Some(kept) => kept,
                None => Kept::new(job)?,
            },
        };
        opened.write().context("--state-dir")?;
        Ok((opened, before))
    }

    /// Returns the run's secret, part of its join code.
    pub(crate) const fn secret(&self) -> [u8; 16] {
        self.kept.secret
    }

    /// Returns the token of its clones' beacons.
    pub(crate) const fn beacon(&self) -> [u8; 32] {
        self.kept.beacon
    }

    /// Returns the nodes that are done.
    pub(crate) fn done(&self) -> &[Done] {
        &self.kept.done
    }

    /// Keeps nodes that are done.
    ///
    /// # Errors
    /// The file cannot be written, so a restarted server would not know these nodes.
    pub(crate) fn add(&mut self, done: Vec<Done>) -> Result<()> {
        let is_new = |other: &Done| done.iter().any(|done| other.identity.is(&done.identity));
        self.kept.done.retain(|other| !is_new(other));
        self.kept.complete.retain(|other| !is_new(other));
        self.kept.done.extend(done);
        self.write()
    }

    /// Keeps the report of a clone that is complete and waits for its verdict.
    ///
    /// # Errors
    /// The file cannot be written, so a restarted server would clone the node once more.
    pub(crate) fn add_complete(&mut self, complete: Done) -> Result<()> {
        self.kept
            .complete
            .retain(|other| !other.identity.is(&complete.identity));
        self.kept.complete.push(complete);
        self.write()
    }

    /// True if this process or an earlier one compared this report with the streams sent, and found it good.
    pub(crate) fn knows_complete(&self, report: &NodeReport) -> bool {
        let kept = self.kept.complete.iter().chain(&self.kept.done);
        kept.map(|kept| &kept.report).any(|kept| kept == report)
    }

    /// Forgets nodes whose clones are not good after all.
    ///
    /// # Errors
    /// The file cannot be written, so a restarted server would take them for done.
    pub(crate) fn remove(&mut self, identities: &[Identity]) -> Result<()> {
        let count = |kept: &Kept| kept.done.len() + kept.complete.len();
        let before = count(&self.kept);
        let stays = |done: &Done| !identities.iter().any(|identity| done.identity.is(identity));
        self.kept.done.retain(stays);
        self.kept.complete.retain(stays);
        if count(&self.kept) == before {
            return Ok(());
        }
        self.write()
    }

    /// Ends the record. Nothing is resumed any more, and the run's secrets are removed.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec(&self.kept).context("writing down the run")?;
        replace(path, &text).with_context(|| format!("writing {}", path.display()))
    }
}

impl Kept {
    fn new(job: [u8; 32]) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            job,
            secret: random()?,
            beacon: random()?,
            done: Vec::new(),
            complete: Vec::new(),
        })
    }
}

/// Returns random bytes of the kernel, for secrets.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("making the run's secret: {error}"))?;
    Ok(bytes)
}

fn file_of_session(state_dir: &Path, session: &str) -> PathBuf {
    state_dir.join(format!("run-{}.json", file_name(session)))
}

fn read(path: &Path) -> Result<Option<Kept>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    let kept: Kept = serde_json::from_slice(&text)?;
    anyhow::ensure!(kept.version == VERSION, "it is of version {}", kept.version);
    Ok(Some(kept))
}

/// Replaces the file as a whole. After a power cut it is the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let written = private(&staged).and_then(|mut file| {
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    });
    if let Err(error) = written {
        // A file that does not fit must not stay there for ever.
        fs::remove_file(&staged).ok();
        return Err(error);
    }
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn open(dir: &Path, job: u8, fresh: bool) -> (Unfinished, Before) {
        Unfinished::open(dir, "a/b.c", [job; 32], fresh).unwrap()
    }

    fn done(name: &str) -> Done {
        Done {
            identity: Identity {
                mac: None,
                name: name.to_owned(),
                addr: [10, 0, 0, 1].into(),
            },
            report: NodeReport::default(),
        }
    }

    #[test]
    fn a_run_that_was_cut_short_is_taken_up_with_its_secret_and_those_that_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, before) = open(dir.path(), 1, false);
        assert_eq!(before, Before::Nothing);
        first.add(vec![done("n1")]).unwrap();
        let secret = first.secret();
        drop(first);
        let path = dir.path().join("run-a%2Fb%2Ec.json");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (mut second, before) = open(dir.path(), 1, false);
        assert_eq!(before, Before::TakenUp);
        assert_eq!((second.secret(), second.done()), (secret, &[done("n1")][..]));
        second.add(vec![done("n2")]).unwrap();
        second.remove(&[done("n1").identity]).unwrap();
        drop(second);
        let (mut second, _) = open(dir.path(), 1, false);
        assert_eq!(second.done(), &[done("n2")]);
        second.close().unwrap();
        assert!(!path.exists(), "the secret stays behind");
        drop(second);
        assert_eq!(open(dir.path(), 1, false).1, Before::Nothing);
    }

    #[test]
    fn who_is_done_is_written_as_servers_before_wrote_it() {
        let mut done = done("n1");
        done.identity.mac = Some(ka_mac::MacAddr([2, 0, 0, 0, 0, 255]));
        let text = serde_json::to_string(&done.identity).unwrap();
        assert_eq!(text, r#"{"mac":[2,0,0,0,0,255],"name":"n1","addr":"10.0.0.1"}"#);
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), done.identity);
    }

    #[test]
    fn another_job_a_damaged_file_and_fresh_begin_anew() {
        let dir = tempfile::tempdir().unwrap();
        let secret = open(dir.path(), 1, false).0.secret();
        let (other, before) = open(dir.path(), 2, false);
        assert_eq!(before, Before::OtherJob);
        assert_ne!(other.secret(), secret);
        let secret = other.secret();
        drop(other);
        let (fresh, before) = open(dir.path(), 2, true);
        assert_eq!(before, Before::Nothing);
        assert_ne!(fresh.secret(), secret);
        drop(fresh);
        fs::write(dir.path().join("run-a%2Fb%2Ec.json"), b"{\"version\":").unwrap();
        assert_eq!(open(dir.path(), 2, false).1, Before::Unreadable);
    }

    #[test]
    fn sessions_whose_names_look_alike_share_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["lab.1", "lab_1", "lab/1", "lab%2E1", "lab1"];
        let runs = names.map(|name| Unfinished::open(dir.path(), name, [1; 32], false).unwrap());
        assert!(runs.iter().all(|(_, before)| *before == Before::Nothing));
        let secrets: std::collections::BTreeSet<_> = runs.iter().map(|(run, _)| run.secret()).collect();
        assert_eq!(secrets.len(), names.len());
    }

    #[test]
    fn a_complete_clone_is_known_by_its_report_until_its_node_is_done_or_turned_down() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, _) = open(dir.path(), 1, false);
        let mut complete = done("n1");
        complete.report.warnings.push("a mark".into());
        first.add_complete(complete.clone()).unwrap();
        assert!(first.done().is_empty());
        drop(first);
        let (mut second, _) = open(dir.path(), 1, false);
        assert!(second.knows_complete(&complete.report));
        assert!(!second.knows_complete(&NodeReport::default()));
        second.remove(&[complete.identity.clone()]).unwrap();
        assert!(!second.knows_complete(&complete.report));
    }

    #[test]
    fn a_second_server_of_the_session_does_not_take_the_run_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = open(dir.path(), 1, false);
        let (mut second, before) = open(dir.path(), 1, false);
        assert_eq!(before, Before::InUse);
        assert_ne!(second.secret(), first.secret());
        second.close().unwrap();
        drop(first);
        assert_eq!(open(dir.path(), 1, false).1, Before::TakenUp);
    }
}
