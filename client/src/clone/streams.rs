//! Receiving the data: the tree of all mount points, and raw partitions.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ka_disk::spec::{RawSpec, ReadBackWhen, StreamKind};
use ka_image::{Progress, raw, tree};
use ka_status::event::Step;
use ka_status::report::{Digest, MAX_NAMED_PROBLEMS, StreamReport};
use ka_status::text::{size, throughput};
use ka_transport::{Block, StreamReader};

use super::build::Installation;
use super::write_out::WriteOut;
use crate::journal::Journal;
use crate::session::Session;
use crate::steps::{StepError, run_step};

/// Between two progress lines on the node itself; the server has its own counters.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Takes one stream to its place and tells the server how that went.
///
/// # Errors
/// The step that failed. The server knows already; this node goes on relaying while it lives.
pub(crate) fn receive(
    session: &Session<'_>,
    work: &mut Installation,
    mut reader: StreamReader,
) -> Result<(), StepError> {
    let name = reader.name().to_string();
    let kind = work
        .plan
        .spec
        .streams
        .iter()
        .find(|stream| stream.name == name)
        .map(|stream| stream.kind.clone());
    let step = if matches!(kind, Some(StreamKind::Raw { .. })) {
        Step::Raw
    } else {
        Step::Restore
    };
    let received = run_step(step, session.journal, session.stop, || match &kind {
        Some(StreamKind::Tree) => restore_tree(session, work, &mut reader),
        Some(StreamKind::Raw { index }) => {
            let raw = work.plan.spec.raw.get(*index as usize);
            let raw = raw.context("no such raw partition")?;
            restore_raw(session, work, raw, &mut reader)
        }
        None => bail!("the server sends a stream {name} that it did not announce"),
    });
    match received {
        Ok(report) => {
            let ended = reader.finish(Ok(())).context("ending the stream");
            ended.map_err(|reason| StepError { step, reason })?;
            work.streams.push(StreamReport { name, ..report });
            Ok(())
        }
        Err(error) => {
            session.note_failed_consumer();
            // When it is the connection that failed, there is nobody left to tell.
            drop(reader.finish(Err(error.to_string())));
            Err(error)
        }
    }
}

fn restore_tree(
    session: &Session<'_>,
    work: &mut Installation,
    reader: &mut StreamReader,
) -> anyhow::Result<StreamReport> {
    let targets: Vec<_> = work
        .plan
        .spec
        .trees
        .iter()
        .map(|tree| tree::TreeTarget {
            mount_id: tree.id,
            root: work.plan.below(&tree.path),
        })
        .collect();
    let progress = Progress::new();
    let options = tree::RestoreOptions {
        keep_ledger: work.plan.spec.verify != ReadBackWhen::Never,
        ..tree::RestoreOptions::default()
    };
    let next = pacing(session, Step::Restore, &progress, reader);
    let summary = std::thread::scope(|scope| {
        let roots = work.watches.iter().map(|(root, _)| root.as_path());
        let _writing = WriteOut::start(scope, roots, &progress)?;
        anyhow::Ok(tree::restore(&targets, &options, next, &progress)?)
    })?;
    work.ledger = summary.ledger;
    let mut problems: Vec<String> = summary.warnings.iter().map(ToString::to_string).collect();
    for problem in &problems {
        session.journal.warning(Step::Restore, problem.clone());
    }
    let problem_count = summary.warnings.iter().map(|warning| warning.count).sum();
    problems.truncate(MAX_NAMED_PROBLEMS);
    let totals = summary.totals;
    session.journal.news(
        Step::Restore,
        format!("{} files, {}", totals.files, size(totals.bytes)),
    );
    Ok(StreamReport {
        name: String::new(),
        files: totals.files,
        bytes: totals.bytes,
        digest: Some(Digest(totals.digest.to_bytes())),
        problems,
        problem_count,
    })
}

fn restore_raw(
    session: &Session<'_>,
    work: &Installation,
    raw: &RawSpec,
    reader: &mut StreamReader,
) -> anyhow::Result<StreamReport> {
    let (device, len_bytes) = work.plan.raw_target(raw)?;
    session
        .journal
        .news(Step::Raw, format!("{} to {}", raw.golden.path, device.display()));
    let doing = |what: &str, path: &Path| format!("{what} {}", path.display());
    let target = OpenOptions::new().write(true).read(true).open(&device);
    let target = target.with_context(|| doing("opening", &device))?;
    let progress = Progress::new();
    let options = raw::RawRestoreOptions {
        allow_larger: true,
        ..raw::RawRestoreOptions::default()
    };
    let next = pacing(session, Step::Raw, &progress, reader);
    let summary = raw::restore(&target, len_bytes, &options, next, &progress)?;
    target.sync_all().with_context(|| doing("syncing", &device))?;
    Ok(StreamReport {
        name: String::new(),
        files: 0,
        bytes: summary.bytes,
        digest: Some(Digest(summary.digest.to_bytes())),
        problems: Vec::new(),
        problem_count: 0,
    })
}

/// The reader's blocks for the image, with a progress line now and then and an end when somebody asks for it.
fn pacing<'a>(
    session: &'a Session<'_>,
    step: Step,
    progress: &'a Progress,
    reader: &'a mut StreamReader,
) -> impl FnMut() -> io::Result<Option<Block>> + 'a {
    let mut pace = Pace::new(session.journal, step);
    move || {
        session.stop.check().map_err(io::Error::other)?;
        pace.look(progress);
        reader.recv().map_err(|error| {
            session.note_broken_stream();
            io::Error::other(error)
        })
    }
}

/// Says where a stream is, every few seconds.
pub(super) struct Pace<'a> {
    journal: &'a Journal,
    step: Step,
    last: Instant,
    last_bytes: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn new(journal: &'a Journal, step: Step) -> Self {
        Self {
            journal,
            step,
            last: Instant::now(),
            last_bytes: 0,
        }
    }

    pub(super) fn look(&mut self, progress: &Progress) {
        let elapsed = self.last.elapsed();
        if elapsed < PROGRESS_INTERVAL {
            return;
        }
        let (files, bytes) = (progress.files(), progress.bytes());
        let rate = throughput(bytes.saturating_sub(self.last_bytes), elapsed);
        self.journal
            .here(self.step, format!("{files} files, {}, {rate} MiB/s", size(bytes)));
        (self.last, self.last_bytes) = (Instant::now(), bytes);
    }
}
