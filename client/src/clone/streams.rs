//! Receiving the data: the tree of all mount points, and raw partitions.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ka_disk::spec::{RawSpec, ReadBackWhen, StreamKind};
use ka_report::event::Step;
use ka_report::report::{Digest, MAX_NAMED_PROBLEMS, StreamReport};
use ka_report::text::{size, throughput};
use ka_transport::{Block, StreamReader};
use ka_tree::{Progress, raw, tree};

use super::target::Target;
use super::write_out::WriteOut;
use crate::incoming::{IncomingStream, StreamFailure};
use crate::journal::Journal;
use crate::session::Session;
use crate::steps::run_step;

/// Between two progress lines in the node's log; the server has its own counters.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Takes one stream to its place and tells the server how that went.
///
/// # Errors
/// The stream or its restore failed. The server knows already; this node goes on relaying while it lives.
pub(crate) fn receive(
    session: &Session<'_>,
    target: &mut Target,
    reader: StreamReader,
) -> Result<(), StreamFailure> {
    let mut stream = IncomingStream::new(reader);
    let name = stream.name().to_owned();
    let kind = target
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
        Some(StreamKind::Tree) => restore_tree(session, target, &mut stream),
        Some(StreamKind::Raw { index }) => {
            let raw = target.plan.spec.raw.get(*index as usize);
            let raw = raw.context("no such raw partition")?;
            restore_raw(session, target, raw, &mut stream)
        }
        None => bail!("the server sends a stream {name} that it did not announce"),
    });
    let report = stream.finish(received)?;
    target.streams.push(StreamReport { name, ..report });
    Ok(())
}

fn restore_tree(
    session: &Session<'_>,
    target: &mut Target,
    stream: &mut IncomingStream,
) -> anyhow::Result<StreamReport> {
    let targets: Vec<_> = target
        .plan
        .spec
        .trees
        .iter()
        .map(|tree| tree::TreeTarget {
            mount_id: tree.id,
            root: target.plan.below(&tree.path),
        })
        .collect();
    let progress = Progress::new();
    let options = tree::RestoreOptions {
        keep_ledger: target.plan.spec.verify != ReadBackWhen::Never,
        ..tree::RestoreOptions::default()
    };
    let next = pacing(session, Step::Restore, &progress, stream);
    let summary = std::thread::scope(|scope| {
        let roots = target.roots();
        let _writing = WriteOut::start(scope, roots, &progress)?;
        anyhow::Ok(tree::restore(&targets, &options, next, &progress)?)
    })?;
    target.ledger = summary.ledger;
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
    target: &Target,
    raw: &RawSpec,
    stream: &mut IncomingStream,
) -> anyhow::Result<StreamReport> {
    let (device, len_bytes) = target.plan.raw_target(raw)?;
    session
        .journal
        .news(Step::Raw, format!("{} to {}", raw.golden.path, device.display()));
    let doing = |what: &str, path: &Path| format!("{what} {}", path.display());
    let device_file = OpenOptions::new().write(true).read(true).open(&device);
    let device_file = device_file.with_context(|| doing("opening", &device))?;
    let progress = Progress::new();
    let options = raw::RawRestoreOptions {
        allow_larger: true,
        ..raw::RawRestoreOptions::default()
    };
    let next = pacing(session, Step::Raw, &progress, stream);
    let summary = raw::restore(&device_file, len_bytes, &options, next, &progress)?;
    device_file
        .sync_all()
        .with_context(|| doing("syncing", &device))?;
    Ok(StreamReport {
        name: String::new(),
        files: 0,
        bytes: summary.bytes,
        digest: Some(Digest(summary.digest.to_bytes())),
        problems: Vec::new(),
        problem_count: 0,
    })
}

/// Returns the reader's blocks for the tree, with a progress line now and then, and an end on request.
fn pacing<'a>(
    session: &'a Session<'_>,
    step: Step,
    progress: &'a Progress,
    stream: &'a mut IncomingStream,
) -> impl FnMut() -> io::Result<Option<Block>> + 'a {
    let mut pace = Pace::new(session.journal, step);
    move || {
        session.stop.check().map_err(io::Error::other)?;
        pace.look(progress);
        stream.recv().map_err(io::Error::other)
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
