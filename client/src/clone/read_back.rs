//! Reading back the written data, before any of it is changed. The file systems are unmounted, the kernel
//! forgets the cached data of their devices, and they are mounted read-only. Then every entry is compared
//! with the streams' data.
//!
//! Nothing of a file system stays in memory over its unmounting: its pages and inodes are evicted, and those
//! of its device when the last user closes it. BLKFLSBUF repeats that. A disk's own cache cannot be emptied
//! from here, but it is small beside the data. `docs/node.md`.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ka_disk::mounts::Access;
use ka_disk::spec::{RawSpec, ReadBackWhen, StreamKind};
use ka_host::{block, kernel};
use ka_report::event::Step;
use ka_report::report::{Digest, ReadBackReport, StreamReport};
use ka_report::text::clock;
use ka_tree::tree::{self, TreeSource};
use ka_tree::{Compress, Progress, SendError, raw};

use super::streams::Pace;
use super::target::Target;
use crate::journal::Journal;
use crate::stop::Stop;

/// Part of the run so far that `auto` may take: one in so many.
const AUTO_SHARE: u32 = 10;
/// Time up to which `auto` always reads back. No operator notices less.
const AUTO_FREE: Duration = Duration::from_millis(250);
/// Time after which the rate of this disk is known, or when the share is used up.
const SAMPLE: Duration = Duration::from_millis(500);
/// A guess is made after a fifth of that, once some data has been read. It may be wrong by a factor, but
/// hardly by `CLEARLY`. If the time is more than so many times the share, reading back is given up at once.
const SAMPLE_GUESS: u32 = 5;
const GUESS_BYTES: u64 = 2 << 20;
const CLEARLY: u32 = 3;
/// Longest estimate that is shown.
const MOST_SAID: Duration = Duration::from_secs(100 * 3600);
/// The cost of opening and describing a file, as bytes read: about as many as a solid state disk reads
/// meanwhile.
const FILE_BYTES: u64 = 32 << 10;

/// Reads back everything, if that is wanted, and leaves the clone mounted as it was.
///
/// # Errors
/// Something is not as it was written: what, by name. Something cannot be read, or not be mounted again.
pub(super) fn verify(target: &mut Target, journal: &Journal, stop: &Stop) -> anyhow::Result<ReadBackReport> {
    if target.plan.spec.verify == ReadBackWhen::Never {
        let mut reason = "--verify=never".to_owned();
        if !kernel::hears_of_lost_writes() {
            let release = kernel::release();
            reason += &format!(
                ", and this kernel ({release}) does not tell of writes that its disk lost: Linux {} and newer do",
                kernel::MINIMUM
            );
        }
        return Ok(skipped(journal, &reason));
    }
    let trees = target.plan.spec.streams.iter();
    let has_tree = trees.into_iter().any(|stream| stream.kind == StreamKind::Tree);
    if has_tree && target.ledger.is_none() {
        let reason = "it has more entries than can be remembered";
        if target.plan.spec.verify == ReadBackWhen::Always {
            bail!("the tree cannot be read back: {reason}; --verify=never clones it without");
        }
        return Ok(skipped(journal, reason));
    }
    let began = Instant::now();
    target.sync()?;
    target.unmount()?;
    forget_caches(target)?;
    let mut budget = Budget::of(target);
    let read = compare(target, journal, stop, &mut budget);
    let report = match (read, budget.given_up) {
        (_, Some(reason)) => skipped(journal, &reason),
        (read, None) => done(read?, target, began, journal),
    };
    mount_again(target)?;
    Ok(report)
}

fn skipped(journal: &Journal, reason: &str) -> ReadBackReport {
    let report = ReadBackReport::Skipped {
        reason: reason.to_owned(),
    };
    journal.news(Step::VerifyData, report.to_string());
    report
}

fn done((files, bytes): (u64, u64), target: &Target, began: Instant, journal: &Journal) -> ReadBackReport {
    let content_only = target.ledger.as_ref().map_or(0, |ledger| ledger.content_only());
    let report = ReadBackReport::Done {
        files,
        bytes,
        content_only: u64::try_from(content_only).unwrap_or(u64::MAX),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    journal.news(Step::VerifyData, report.to_string());
    report
}

fn forget_caches(target: &Target) -> anyhow::Result<()> {
    let made = target.plan.filesystems.iter().map(|fs| fs.device.clone());
    let mut devices: Vec<PathBuf> = made.collect();
    for raw in &target.plan.spec.raw {
        devices.push(target.plan.raw_target(raw)?.0);
    }
    for device in devices {
        File::open(&device)
            .and_then(|file| block::flush(&file))
            .with_context(|| format!("dropping the cached copy of {}", device.display()))?;
    }
    Ok(())
}

/// Compares everything, and returns the files and bytes that were read.
fn compare(
    target: &Target,
    journal: &Journal,
    stop: &Stop,
    budget: &mut Budget,
) -> anyhow::Result<(u64, u64)> {
    let progress = Progress::new();
    let mut pace = Pace::new(journal, Step::VerifyData);
    let mut look = |found_nothing: bool| {
        stop.check().map_err(io::Error::other)?;
        pace.look(&progress);
        // After a difference the reading goes on, because the whole list is wanted.
        if found_nothing {
            budget.look(&progress)
        } else {
            Ok(())
        }
    };
    let mut read = (0, 0);
    for stream in &target.plan.spec.streams {
        match stream.kind {
            StreamKind::Tree => {
                let (files, bytes) = compare_tree(target, &mut look, &progress)?;
                read = (read.0 + files, read.1 + bytes);
            }
            StreamKind::Raw { index } => {
                let raw = usize::try_from(index)
                    .ok()
                    .and_then(|index| target.plan.spec.raw.get(index));
                let report = target.streams.iter().find(|report| report.name == stream.name);
                let (Some(raw), Some(report)) = (raw, report) else {
                    continue;
                };
                read.1 += compare_raw(target, raw, report, &mut look, &progress)?;
            }
        }
    }
    Ok(read)
}

fn compare_tree(
    target: &Target,
    look: &mut impl FnMut(bool) -> io::Result<()>,
    progress: &Progress,
) -> anyhow::Result<(u64, u64)> {
    let plan = &target.plan;
    let ledger = target
        .ledger
        .as_ref()
        .context("nothing was kept to compare with")?;
    let mounted = plan.mounts.mount_again(&plan.mount_dir, Access::ReadOnly)?;
    let sources: Vec<_> = plan
        .spec
        .trees
        .iter()
        .map(|tree| TreeSource {
            mount_id: tree.id,
            root: plan.below(&tree.path),
        })
        .collect();
    let made = ka_disk::mounts::made_directories(&plan.spec);
    let look = |found: &tree::Differences| look(found.is_empty());
    let read = tree::read_back(&sources, &plan.mount_dir, ledger, &made, look, progress).map_err(plain)?;
    mounted.unmount()?;
    if read.differences.is_empty() {
        return Ok((read.files, read.bytes));
    }
    match read.differences.count() {
        1 => bail!(
            "1 entry of the clone is not as it was written: {}",
            read.differences
        ),
        count => bail!(
            "{count} entries of the clone are not as they were written: {}",
            read.differences
        ),
    }
}

fn compare_raw(
    target: &Target,
    raw: &RawSpec,
    report: &StreamReport,
    look: &mut impl FnMut(bool) -> io::Result<()>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let (device, _) = target.plan.raw_target(raw)?;
    let file = File::open(&device).with_context(|| format!("opening {}", device.display()))?;
    let options = raw::RawSendOptions {
        compress: Compress::Never,
        ..raw::RawSendOptions::default()
    };
    let read = raw::send(&file, raw.bytes, &options, |_| look(true), progress).map_err(plain)?;
    if report.digest != Some(Digest(read.digest.to_bytes())) {
        bail!(
            "{} is not as it was written: it no longer has the content of {}",
            device.display(),
            raw.golden.path
        );
    }
    Ok(read.bytes)
}

/// Unpacks the error of [`Budget`] or Ctrl-C, which the reader hands on as an error of its consumer.
fn plain(error: SendError) -> anyhow::Error {
    match error {
        SendError::Emit(error) => anyhow::Error::from(error),
        other => anyhow::Error::from(other).context("reading back"),
    }
}

/// As before, for the steps that make the clone a system of its own.
fn mount_again(target: &mut Target) -> anyhow::Result<()> {
    let dir = target.plan.mount_dir.clone();
    let mounts = target.plan.mounts.mount_again(&dir, Access::ReadWrite)?;
    target.keep_mounts(mounts)
}

/// The time that reading back may take.
struct Budget {
    /// None: whatever it costs.
    limit: Option<Duration>,
    /// The run so far.
    run: Duration,
    began: Instant,
    /// The work: bytes to be read, with [`FILE_BYTES`] for each file.
    work: u64,
    given_up: Option<String>,
}

impl Budget {
    fn of(target: &Target) -> Self {
        let run = target.began.elapsed();
        let streams = target.streams.iter();
        Self {
            // A kernel that does not tell of lost writes leaves no other way to hear of them.
            limit: (target.plan.spec.verify == ReadBackWhen::Auto && kernel::hears_of_lost_writes())
                .then(|| (run / AUTO_SHARE).max(AUTO_FREE)),
            run,
            began: Instant::now(),
            work: streams.map(|stream| weigh(stream.files, stream.bytes)).sum(),
            given_up: None,
        }
    }

    fn look(&mut self, progress: &Progress) -> io::Result<()> {
        let took = self.began.elapsed();
        let Some(needed) = self.too_long(took, weigh(progress.files(), progress.bytes())) else {
            return Ok(());
        };
        self.given_up = Some(format!(
            "it would have taken about {} after {} of the run; --verify does it always",
            clock(needed.min(MOST_SAID)),
            clock(self.run)
        ));
        Err(io::Error::other("reading back takes too long"))
    }

    /// Returns the time that the whole would take, if that is too long.
    fn too_long(&self, took: Duration, done: u64) -> Option<Duration> {
        let limit = self.limit?;
        let sample = SAMPLE.min(limit);
        let is_early = took < sample;
        if took < sample / SAMPLE_GUESS || (is_early && done < GUESS_BYTES) {
            return None;
        }
        let needed = took.mul_f64(part(self.work.max(done), done.max(1)));
        let margin = if is_early { CLEARLY } else { 1 };
        (needed > limit * margin).then_some(needed)
    }
}

fn weigh(files: u64, bytes: u64) -> u64 {
    bytes.saturating_add(files.saturating_mul(FILE_BYTES))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate of seconds")]
fn part(whole: u64, done: u64) -> f64 {
    whole as f64 / done as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: Option<u64>) -> Budget {
        Budget {
            limit: limit.map(Duration::from_secs),
            run: Duration::from_secs(100),
            began: Instant::now(),
            work: 1000 << 20,
            given_up: None,
        }
    }

    #[test]
    fn auto_goes_on_while_the_whole_takes_less_than_its_share() {
        let auto = budget(Some(10));
        let at = |seconds, mib: u64| auto.too_long(Duration::from_secs(seconds), mib << 20);
        assert_eq!(at(1, 200), None, "5 s in all");
        assert_eq!(at(1, 50), Some(Duration::from_secs(20)));
        let early = |millis, mib: u64| auto.too_long(Duration::from_millis(millis), mib << 20);
        assert_eq!(early(99, 3), None, "too early to say");
        assert_eq!(early(499, 1), None, "too little to say");
        assert_eq!(early(200, 100), None, "2 s in all");
        assert_eq!(early(200, 10), None, "20 s in all, a guess that may be wrong");
        assert_eq!(early(200, 5), Some(Duration::from_secs(40)), "clearly too long");
        assert_eq!(
            at(11, 1100),
            Some(Duration::from_secs(11)),
            "more than was expected"
        );
    }

    #[test]
    fn after_a_short_run_auto_stops_when_its_share_is_used_up() {
        let auto = Budget {
            limit: Some(AUTO_FREE),
            ..budget(None)
        };
        assert_eq!(auto.too_long(Duration::from_millis(40), 10 << 20), None);
        assert_eq!(auto.too_long(Duration::from_millis(240), 400 << 20), None);
        assert_eq!(
            auto.too_long(Duration::from_millis(260), 500 << 20),
            Some(Duration::from_millis(520))
        );
    }

    #[test]
    fn always_has_no_limit() {
        assert_eq!(budget(None).too_long(Duration::from_secs(9999), 1), None);
    }

    #[test]
    fn who_gives_up_says_what_it_would_have_taken_and_what_to_do() {
        let mut auto = budget(Some(10));
        auto.began = Instant::now() - Duration::from_secs(5);
        assert!(auto.look(&Progress::new()).is_err());
        let reason = auto.given_up.unwrap();
        assert!(
            reason.contains("after 1:40 of the run; --verify does it always"),
            "{reason}"
        );
    }
}
