//! The signed report of every clone run: `STATE_DIR/reports/SESSION-TIME.json`, with a copy in the run's log
//! directory. [`crate::proof`] defines its contents.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::proof;
use anyhow::{Context, Result, ensure};
use ka_report::summary::RunSummary;
use ka_transport::ServerKey;

use crate::log_dir::{file_name, utc};

/// Directory of the reports below the state directory.
const DIR: &str = "reports";
/// Most reports kept, the newest ones: a run a day for most of a year.
const MAX_KEPT: usize = 200;
/// Most runs that end in the same second. Each gets a number behind the time.
const MAX_SAME_SECOND: u32 = 100;

/// Writes the signed report of a run, and names its file in `summary`. The clones are good without it, so faults
/// are only lines for the operator.
pub(crate) fn keep(summary: &mut RunSummary, state_dir: &Path, log_dir: Option<&Path>) -> Vec<String> {
    let written = place(state_dir, &summary.session).and_then(|path| {
        summary.report_file = Some(path.display().to_string());
        write(summary, state_dir, &path, log_dir)
    });
    written.unwrap_or_else(|error| {
        summary.report_file = None;
        vec![format!("there is no signed report of this run: {error:#}")]
    })
}

/// Returns the path of this run's report: a name that is not taken yet. Makes the directory if needed.
///
/// # Errors
/// The directory cannot be made.
fn place(state_dir: &Path, session: &str) -> Result<PathBuf> {
    let dir = state_dir.join(DIR);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.with_context(|| format!("making {}", dir.display()))?;
    let name = format!("{}-{}", file_name(session), utc(now()));
    let taken = |path: &PathBuf| path.exists();
    let names = (1..=MAX_SAME_SECOND).map(|number| match number {
        1 => dir.join(format!("{name}.json")),
        more => dir.join(format!("{name}-{more}.json")),
    });
    names
        .into_iter()
        .find(|path| !taken(path))
        .with_context(|| format!("{} has too many reports of this second", dir.display()))
}

/// Signs the report, writes it to `path` and into `log_dir`, and removes the oldest ones. Returns the faults
/// of the steps after the report itself, which is written.
///
/// # Errors
/// The key cannot be read, or the report cannot be written.
fn write(summary: &RunSummary, state_dir: &Path, path: &Path, log_dir: Option<&Path>) -> Result<Vec<String>> {
    let key = ServerKey::load(state_dir)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("naming the run")?;
    let id = uuid::Uuid::from_bytes(id).simple().to_string();
    let text = proof::report(summary, &key, &id, &utc(now()))?;
    replace(path, &text).with_context(|| format!("writing {}", path.display()))?;
    let mut amiss = Vec::new();
    if let Some(copy) = log_dir.map(|dir| dir.join("report.json"))
        && let Err(error) = replace(&copy, &text)
    {
        amiss.push(format!("writing the report's copy {}: {error}", copy.display()));
    }
    if let Err(error) = forget_oldest(path.parent().unwrap_or(state_dir)) {
        amiss.push(format!("removing old reports: {error}"));
    }
    Ok(amiss)
}

/// Replaces a file whole or not at all, also at a power cut.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&staged).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    });
    if written.is_err() {
        // Half a report on a full disk is only in the way.
        fs::remove_file(&staged).ok();
    }
    written
}

fn forget_oldest(dir: &Path) -> io::Result<()> {
    let mut reports = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            reports.push((entry.metadata()?.modified()?, path));
        }
    }
    reports.sort();
    let surplus = reports.len().saturating_sub(MAX_KEPT);
    reports
        .iter()
        .take(surplus)
        .try_for_each(|(_, path)| fs::remove_file(path))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// `ka-server report check`: checks `file` against the key in `state_dir` and its earlier keys, or against
/// the key with this fingerprint. Returns one line.
///
/// # Errors
/// The report is wrong, or it cannot be checked.
pub(crate) fn check(file: &Path, state_dir: &Path, key: Option<&str>) -> Result<String> {
    let keys = match key {
        Some(key) => vec![key.to_ascii_lowercase()],
        None => {
            let now = ServerKey::load(state_dir)
                .context("--state-dir has no key to check with; name one with --key FINGERPRINT")?;
            let mut keys = vec![now.fingerprint_hex()];
            keys.extend(ServerKey::retired(state_dir)?);
            keys
        }
    };
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let read = opened
        .take(proof::MAX_REPORT_FILE_BYTES + 1)
        .read_to_end(&mut bytes);
    read.with_context(|| format!("reading {}", file.display()))?;
    ensure!(
        bytes.len() as u64 <= proof::MAX_REPORT_FILE_BYTES,
        "{} is larger than any report",
        file.display()
    );
    let good = proof::check(&bytes, &keys).with_context(|| file.display().to_string())?;
    let unreadable = match good.golden_unreadable {
        0 => String::new(),
        files => format!(" without {files} of the golden node's files that could not be read"),
    };
    Ok(format!(
        "{}: good: session {}, {} of {} nodes done{unreadable}, signed {} with key {}\n",
        file.display(),
        good.session,
        good.done,
        good.nodes,
        good.at,
        good.key
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_private_are_found_good_and_the_oldest_ones_go() {
        let state = tempfile::tempdir().unwrap();
        let key = ServerKey::load_or_create(state.path()).unwrap();
        let summary = RunSummary::default();
        let first = place(state.path(), "a room").unwrap();
        write(&summary, state.path(), &first, None).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&first).unwrap().permissions()) & 0o777,
            0o600
        );
        assert!(check(&first, state.path(), None).unwrap().contains(": good: "));
        assert!(check(&first, Path::new("/nowhere"), Some(&key.fingerprint_hex())).is_ok());
        assert!(check(&first, state.path(), Some(&"0".repeat(64))).is_err());
        ServerKey::rotate(state.path()).unwrap();
        assert!(
            check(&first, state.path(), None).is_ok(),
            "the key of then is remembered"
        );

        let dir = state.path().join(DIR);
        for number in 0..MAX_KEPT {
            fs::write(dir.join(format!("x-{number}.json")), "{}").unwrap();
        }
        let next = place(state.path(), "a room").unwrap();
        assert_ne!(next, first);
        write(&summary, state.path(), &next, None).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), MAX_KEPT);
        assert!(next.exists() && !first.exists());
    }
}
