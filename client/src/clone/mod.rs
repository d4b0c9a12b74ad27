//! Becoming a clone: the server's orders, one after the other, each met with a list of steps (issue 2 §4).
//!
//! Prepare plans and checks and writes nothing; go wipes, partitions, formats and mounts; streams bring the data;
//! finish makes the tree this node's own and the disk bootable, last of all. Whatever ends the run before that
//! leaves a disk without a partition table, nothing mounted, no partition in the kernel.

mod build;
mod checks;
mod configure;
mod facts;
mod fallback;
mod finish;
mod held;
mod identity;
mod plan;
mod read_back;
mod show;
mod streams;
mod write_out;

use anyhow::anyhow;
use ka_disk::fs::ToolVersions;
use ka_disk::spec::{InstallSpec, STAGE2_STREAM};
use ka_postinstall::bootloader;
use ka_status::event::Step;
use ka_status::report::{MAX_CHANGES, NodeReport};
use ka_status::text::error_line;
use ka_transport::Order;

use self::build::{BUILD, Installation};
pub(crate) use self::checks::check_options;
pub(crate) use self::facts::Me;
use self::finish::{COMMIT, ENTER, FINISH};
use self::held::HeldDisk;
use self::plan::ClonePlan;
use crate::beacon;
use crate::failure::Failure;
use crate::session::Session;
use crate::stage2;
use crate::steps::{StepError, run_step, run_steps};

/// The end of a node that never heard the verdict.
const UNJUDGED: &str =
    "the clone is complete, but the server has not judged it, and nothing boots from the disk";

/// How far this node is.
enum Stage {
    /// Joined, waiting for the specification.
    Waiting,
    /// Planned and checked, the disks taken, nothing written.
    Prepared(Box<ClonePlan>, Vec<HeldDisk>),
    /// The disks are ready for data.
    Ready(Box<Installation>),
    /// Complete; the server's verdict is awaited, and nothing boots from it.
    Complete(Box<Complete>),
    /// Judged good and bootable.
    Bootable,
}

/// A clone that lacks nothing but the server's verdict. It outlives a lost connection: the node joins again with it.
/// Dropped, it leaves a disk without a table.
pub(crate) struct Complete {
    work: Box<Installation>,
    report: NodeReport,
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The clone is complete and may boot.
    Reboot,
    /// The plan was shown, or the clone is complete but somebody wants to have a look first.
    Stay,
}

/// What must come before any thread is started: being root, and mounts that nobody else sees and that end with
/// this process, however it ends.
///
/// # Errors
/// Not root.
pub(crate) fn enter() -> anyhow::Result<()> {
    checks::check_machine()?;
    // The restore shares the limit out among its writers: with the usual 1024 it works, with more it is faster.
    if let Err(error) = ka_host::system::raise_nofile() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    Ok(ka_host::namespace::own_mounts()?)
}

/// Follows the server's orders to the release. `kept` is the clone that this node has joined with, if it holds one; where
/// the server is lost before its verdict, the clone is there again afterwards.
///
/// # Errors
/// How it ended, with the exit code that follows from how far it was.
pub(crate) fn run(session: &Session<'_>, kept: &mut Option<Box<Complete>>) -> Result<Ending, Failure> {
    let mut stage = match kept.take() {
        Some(complete) => hand_in(session, complete, kept)?,
        None => Stage::Waiting,
    };
    loop {
        let order = match session.next_order() {
            Ok(order) => order,
            Err(error) => return lost(session, stage, error, kept),
        };
        stage = match (order, stage) {
            (Order::Prepare(payload), Stage::Waiting) => {
                let (plan, disks) = prepare(session, &payload).map_err(Failure::NothingDone)?;
                if session.options.dry_run {
                    show::plan(session, &plan).map_err(Failure::NothingDone)?;
                    return Ok(Ending::Stay);
                }
                session
                    .prepared(plan.summary().encode())
                    .map_err(Failure::NothingDone)?;
                Stage::Prepared(Box::new(plan), disks)
            }
            (Order::Stream(reader), Stage::Waiting) if reader.name().as_str() == STAGE2_STREAM => {
                stage2::receive(session, reader).map_err(Failure::NothingDone)?;
                Stage::Waiting
            }
            (Order::Go, Stage::Prepared(plan, disks)) => {
                Stage::Ready(Box::new(build(session, *plan, disks)?))
            }
            (Order::Stream(reader), Stage::Ready(mut work)) => {
                if let Err(error) = streams::receive(session, &mut work, reader) {
                    drop(work);
                    session.linger();
                    return Err(Failure::Began(anyhow!(error)));
                }
                Stage::Ready(work)
            }
            (Order::Finish, Stage::Ready(work)) => {
                let complete = finish(session, work).map_err(Failure::Began)?;
                hand_in(session, complete, kept)?
            }
            // It crossed with the report of a clone that this node has joined with.
            (Order::Finish, stage @ Stage::Complete(_)) => stage,
            (Order::Commit, Stage::Complete(complete)) => {
                session.goes_on_without_server();
                let mut work = commit(session, *complete).map_err(Failure::Began)?;
                let told = session.bootable();
                enter_in_firmware(session, &mut work);
                match told {
                    Ok(()) => Stage::Bootable,
                    Err(error) => return lost(session, Stage::Bootable, error, kept),
                }
            }
            (Order::Release, Stage::Bootable) => return Ok(Ending::Reboot),
            (Order::Aborted { reason, .. }, stage) => {
                return Err(Failure::after(
                    stage.has_begun(),
                    anyhow!("the server ended the run: {reason}"),
                ));
            }
            (order, stage) => return Err(unexpected(session, &order, &stage)),
        };
    }
}

impl Stage {
    fn has_begun(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Complete(_) | Self::Bootable)
    }
}

/// The server is gone, or somebody wants us to end. A clone that waits for its verdict is kept for the next try. After the
/// verdict neither costs more than the release: a node that does not insist on one (`-w`) goes on, but for Ctrl-C.
fn lost(
    session: &Session<'_>,
    stage: Stage,
    error: anyhow::Error,
    kept: &mut Option<Box<Complete>>,
) -> Result<Ending, Failure> {
    match stage {
        Stage::Bootable => {
            let text = format!("{error}; the clone is complete");
            session.journal.warning(Step::Report, text);
            let stays = session.stop.is_requested() || session.options.wait_release;
            Ok(if stays { Ending::Stay } else { Ending::Reboot })
        }
        Stage::Complete(complete) => {
            *kept = Some(complete);
            Err(Failure::Began(error.context(UNJUDGED)))
        }
        stage => Err(Failure::after(stage.has_begun(), error)),
    }
}

fn unexpected(session: &Session<'_>, order: &Order, stage: &Stage) -> Failure {
    let reason = match (order, stage) {
        (Order::Stream(_), Stage::Waiting) => {
            "the server sends a plain stream; give this node -e COMMAND or --output FILE"
        }
        _ => "the server gave an order out of turn",
    };
    session.give_up("order", reason);
    Failure::after(stage.has_begun(), anyhow!(reason))
}

fn prepare(session: &Session<'_>, payload: &[u8]) -> anyhow::Result<(ClonePlan, Vec<HeldDisk>)> {
    let prepared = try_prepare(session, payload);
    prepared.map_err(|error| refuse(session, error))
}

fn try_prepare(session: &Session<'_>, payload: &[u8]) -> Result<(ClonePlan, Vec<HeldDisk>), StepError> {
    let (journal, stop, options) = (session.journal, session.stop, session.options);
    let (spec, choices) = run_step(Step::ChooseDisks, journal, stop, || {
        let spec = InstallSpec::from_json(payload)?;
        let choices = checks::choose_disks(&spec, options)?;
        for choice in &choices {
            let (disk, drive) = (&choice.disk, &choice.drive);
            let text = format!("{disk} for {drive}; it now holds {}", disk.contents);
            journal.news(Step::ChooseDisks, text);
        }
        Ok((spec, choices))
    })?;
    run_step(Step::Check, journal, stop, || {
        let mut plan = ClonePlan::new(spec, choices, &options.mount_dir, &ToolVersions::detect())?;
        plan.known_partitions = checks::known_partitions(&plan);
        plan.install = bootloader::choose(&facts::planned(&plan, &Me::of(session)))?;
        let disks = checks::check(&plan, options)?;
        Ok((plan, disks))
    })
}

fn build(session: &Session<'_>, plan: ClonePlan, disks: Vec<HeldDisk>) -> Result<Installation, Failure> {
    let beacon = plan.spec.boot.beacon.as_ref();
    let beacon = beacon.map(|spec| beacon::Facts::new(spec, session.joined()));
    let mut work = Installation::new(plan, disks, Me::of(session), beacon);
    let built =
        run_steps(&BUILD, &mut work, session.journal, session.stop).map_err(|error| refuse(session, error));
    let touched = work.disks.iter().any(HeldDisk::is_touched);
    built
        .and_then(|()| session.ready())
        .map_err(|error| Failure::after(touched, error))?;
    Ok(work)
}

fn finish(session: &Session<'_>, mut work: Box<Installation>) -> anyhow::Result<Box<Complete>> {
    let read_back = run_step(Step::VerifyData, session.journal, session.stop, || {
        read_back::verify(&mut work, session.journal, session.stop)
    });
    let read_back = read_back.map_err(|error| refuse(session, error))?;
    // Tens of bytes for each file, of no more use.
    work.ledger = None;
    run_steps(&FINISH, &mut *work, session.journal, session.stop).map_err(|error| refuse(session, error))?;
    let record = session.journal.record();
    work.changes.truncate(MAX_CHANGES);
    let report = NodeReport {
        disks: work.plan.disks.iter().map(plan::PlannedDisk::summary).collect(),
        streams: std::mem::take(&mut work.streams),
        steps: record.steps,
        warnings: record.warnings,
        changes: std::mem::take(&mut work.changes),
        peak_memory_bytes: ka_host::system::peak_memory_bytes(),
        read_back: Some(Box::new(read_back)),
        identity: work.identity.take().map(Box::new),
        beacon: work.has_beacon,
    };
    Ok(Box::new(Complete { work, report }))
}

/// Reports the clone, and waits for the verdict from then on.
fn hand_in(
    session: &Session<'_>,
    complete: Box<Complete>,
    kept: &mut Option<Box<Complete>>,
) -> Result<Stage, Failure> {
    if let Err(error) = session.report(&complete.report) {
        return lost(session, Stage::Complete(complete), error, kept).map(|_| Stage::Waiting);
    }
    let text =
        "the clone is complete; it is made bootable as soon as the server has judged all of this round";
    session.journal.news(Step::Report, text);
    Ok(Stage::Complete(complete))
}

/// Makes the clone bootable.
fn commit(session: &Session<'_>, mut complete: Complete) -> anyhow::Result<Box<Installation>> {
    let work = &mut *complete.work;
    run_steps(&COMMIT, work, session.journal, session.stop).map_err(|error| refuse(session, error))?;
    Ok(complete.work)
}

/// Tells the firmware of the clone. It boots by its fallback path, too, so that a failure is a warning.
fn enter_in_firmware(session: &Session<'_>, work: &mut Installation) {
    if let Err(error) = run_steps(&ENTER, work, session.journal, session.stop) {
        let reason = error_line(error.reason.as_ref());
        let text = format!("no boot entry was made ({reason}); the clone is complete");
        session.journal.warning(Step::BootEntry, text);
    }
}

/// Tells the server, and keeps the reason for our own last line.
fn refuse(session: &Session<'_>, error: StepError) -> anyhow::Error {
    session.give_up(error.step.doing(), &error_line(error.reason.as_ref()));
    error.into()
}
