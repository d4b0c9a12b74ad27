//! Reading back what was written, before anything of it is changed: the file systems are unmounted, the kernel forgets
//! what it has of their devices, they are mounted read-only, and every entry is compared with what the streams brought.
//!
//! Nothing of a file system stays in memory over its unmounting (its pages and inodes are evicted, and those of its device
//! when the last user closes it); BLKFLSBUF says so once more. A disk's own cache cannot be emptied from here: it is small
//! beside what is read. `docs/node.md`.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ka_disk::mounts::Access;
use ka_disk::spec::{RawSpec, ReadBackWhen, StreamKind};
use ka_host::{block, kernel};
use ka_image::tree::{self, TreeSource};
use ka_image::{Compress, Progress, SendError, raw};
use ka_status::event::Step;
use ka_status::report::{Digest, ReadBackReport, StreamReport};
use ka_status::text::clock;

use super::build::Installation;
use super::finish::sync;
use super::streams::Pace;
use crate::journal::Journal;
use crate::stop::Stop;

/// Of the run so far, `auto` may take one part in so many.
const AUTO_SHARE: u32 = 10;
/// `auto` does not look at what takes no longer than this: nobody notices less.
const AUTO_FREE: Duration = Duration::from_millis(250);
/// From then on, or when its share is used up, it is known how fast this disk is read.
const SAMPLE: Duration = Duration::from_millis(500);
/// A guess after a fifth of that, once something has been read, may be wrong by a factor, hardly by this one: more than
/// so many times the share is given up at once.
const SAMPLE_GUESS: u32 = 5;
const GUESS_BYTES: u64 = 2 << 20;
const CLEARLY: u32 = 3;
/// No more is said of what would take longer.
const MOST_SAID: Duration = Duration::from_secs(100 * 3600);
/// What opening and describing a file costs, as bytes read: about what a solid state disk reads meanwhile.
const FILE_BYTES: u64 = 32 << 10;

/// Reads back everything, if that is wanted, and leaves the clone mounted as it was.
///
/// # Errors
/// Something is not as it was written: what, by name. Something cannot be read, or not be mounted again.
pub(super) fn verify(
    work: &mut Installation,
    journal: &Journal,
    stop: &Stop,
) -> anyhow::Result<ReadBackReport> {
    if work.plan.spec.verify == ReadBackWhen::Never {
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
    let trees = work.plan.spec.streams.iter();
    let has_tree = trees.into_iter().any(|stream| stream.kind == StreamKind::Tree);
    if has_tree && work.ledger.is_none() {
        let reason = "it has more entries than can be remembered";
        if work.plan.spec.verify == ReadBackWhen::Always {
            bail!("the tree cannot be read back: {reason}; --verify=never clones it without");
        }
        return Ok(skipped(journal, reason));
    }
    let began = Instant::now();
    sync(work, journal)?;
    unmount(work)?;
    forget_caches(work)?;
    let mut budget = Budget::of(work);
    let read = compare(work, journal, stop, &mut budget);
    let report = match (read, budget.given_up) {
        (_, Some(reason)) => skipped(journal, &reason),
        (read, None) => done(read?, work, began, journal),
    };
    mount_again(work)?;
    Ok(report)
}

fn skipped(journal: &Journal, reason: &str) -> ReadBackReport {
    let report = ReadBackReport::Skipped {
        reason: reason.to_owned(),
    };
    journal.news(Step::VerifyData, report.to_string());
    report
}

fn done(
    (files, bytes): (u64, u64),
    work: &Installation,
    began: Instant,
    journal: &Journal,
) -> ReadBackReport {
    let content_only = work.ledger.as_ref().map_or(0, |ledger| ledger.content_only());
    let report = ReadBackReport::Done {
        files,
        bytes,
        content_only: u64::try_from(content_only).unwrap_or(u64::MAX),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    journal.news(Step::VerifyData, report.to_string());
    report
}

/// The descriptors that watch for errors of writing keep the mounts busy; everything is written by now.
fn unmount(work: &mut Installation) -> anyhow::Result<()> {
    work.watches.clear();
    work.take_mounts().map_or(Ok(()), |mounts| Ok(mounts.unmount()?))
}

fn forget_caches(work: &Installation) -> anyhow::Result<()> {
    let made = work.plan.filesystems.iter().map(|fs| fs.device.clone());
    let mut devices: Vec<PathBuf> = made.collect();
    for raw in &work.plan.spec.raw {
        devices.push(work.plan.raw_target(raw)?.0);
    }
    for device in devices {
        File::open(&device)
            .and_then(|file| block::flush(&file))
            .with_context(|| format!("dropping the cached copy of {}", device.display()))?;
    }
    Ok(())
}

/// What was read: files and bytes.
fn compare(
    work: &Installation,
    journal: &Journal,
    stop: &Stop,
    budget: &mut Budget,
) -> anyhow::Result<(u64, u64)> {
    let progress = Progress::new();
    let mut pace = Pace::new(journal, Step::VerifyData);
    let mut look = |found_nothing: bool| {
        stop.check().map_err(io::Error::other)?;
        pace.look(&progress);
        // Who has found something reads on: the whole list is wanted.
        if found_nothing {
            budget.look(&progress)
        } else {
            Ok(())
        }
    };
    let mut read = (0, 0);
    for stream in &work.plan.spec.streams {
        match stream.kind {
            StreamKind::Tree => {
                let (files, bytes) = compare_tree(work, &mut look, &progress)?;
                read = (read.0 + files, read.1 + bytes);
            }
            StreamKind::Raw { index } => {
                let raw = usize::try_from(index)
                    .ok()
                    .and_then(|index| work.plan.spec.raw.get(index));
                let report = work.streams.iter().find(|report| report.name == stream.name);
                let (Some(raw), Some(report)) = (raw, report) else {
                    continue;
                };
                read.1 += compare_raw(work, raw, report, &mut look, &progress)?;
            }
        }
    }
    Ok(read)
}

fn compare_tree(
    work: &Installation,
    look: &mut impl FnMut(bool) -> io::Result<()>,
    progress: &Progress,
) -> anyhow::Result<(u64, u64)> {
    let plan = &work.plan;
    let ledger = work.ledger.as_ref().context("nothing was kept to compare with")?;
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
    work: &Installation,
    raw: &RawSpec,
    report: &StreamReport,
    look: &mut impl FnMut(bool) -> io::Result<()>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let (device, _) = work.plan.raw_target(raw)?;
    let file = File::open(&device).with_context(|| format!("opening {}", device.display()))?;
    let options = raw::RawSendOptions {
        compress: Compress::Never,
        ..raw::RawSendOptions::default()
    };
    let read = raw::send(&file, raw.bytes, &options, |_| look(true), progress).map_err(plain)?;
    if report.digest != Some(Digest(read.digest.to_bytes())) {
        bail!(
            "{} is not as it was written: it does not have the content of {} any more",
            device.display(),
            raw.golden.path
        );
    }
    Ok(read.bytes)
}

/// What [`Budget`] and Ctrl-C say goes through the reader as an error of handing over; here it is itself again.
fn plain(error: SendError) -> anyhow::Error {
    match error {
        SendError::Emit(error) => anyhow::Error::from(error),
        other => anyhow::Error::from(other).context("reading back"),
    }
}

/// As before, for the steps that make the clone a system of its own.
fn mount_again(work: &mut Installation) -> anyhow::Result<()> {
    let dir = work.plan.mount_dir.clone();
    let mounts = work.plan.mounts.mount_again(&dir, Access::ReadWrite)?;
    work.keep_mounts(mounts)
}

/// Whether reading back is still worth its time.
struct Budget {
    /// None: whatever it costs.
    limit: Option<Duration>,
    /// The run so far.
    run: Duration,
    began: Instant,
    /// What is to be read, in bytes, with [`FILE_BYTES`] for each file.
    work: u64,
    given_up: Option<String>,
}

impl Budget {
    fn of(work: &Installation) -> Self {
        let run = work.began.elapsed();
        let streams = work.streams.iter();
        Self {
            // A kernel that does not tell of lost writes leaves no other way to hear of them.
            limit: (work.plan.spec.verify == ReadBackWhen::Auto && kernel::hears_of_lost_writes())
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

    /// How long it would take altogether, when that is too long.
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
