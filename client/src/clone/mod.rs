//! One clone, from the server's first order to the release. Each order is answered by a list of named steps.
//!
//! The phases, in order, and the type in which each leaves the clone:
//!
//! | order | steps | result |
//! |---|---|---|
//! | prepare | [`checks`], [`plan`]: choose the disks, plan, check everything that can fail; nothing is written | [`ClonePlan`], [`HeldDisk`]s |
//! | go | [`target`]: wipe, partition, format, mount | [`Target`] |
//! | stream | [`streams`], [`write_out`]: restore the tree, write the raw partitions | [`Target`] with its data |
//! | finish | [`read_back`]; [`facts`]: learn the new devices; [`finish`](mod@finish), [`configure`]: make the tree a system of its own | [`CompleteClone`] |
//! | commit | [`complete`]: write the partition table, last of all; then the firmware's boot entry | a clone that boots |
//! | release | | the machine reboots into the clone |
//!
//! A run that ends before commit, for any reason, leaves a disk without a partition table, nothing mounted,
//! and no partition of it in the kernel: each type undoes its part when it is dropped.

mod checks;
mod complete;
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
mod system;
mod target;
mod write_out;

use anyhow::anyhow;
use ka_cli::error_line;
use ka_disk::fs::ToolVersions;
use ka_disk::spec::{InstallSpec, STAGE2_STREAM};
use ka_postinstall::bootloader;
use ka_report::event::Step;
use ka_transport::Order;

pub(crate) use self::checks::check_options;
pub(crate) use self::complete::CompleteClone;
use self::complete::{COMMIT, ENTER};
use self::finish::FINISH;
use self::held::HeldDisk;
use self::plan::ClonePlan;
use self::system::RestoredSystem;
use self::target::{BUILD, Target};
use crate::beacon;
use crate::ending::{Ending, NextMove, Setback};
use crate::failure::Failure;
use crate::session::Session;
use crate::stage2::{self, Tools};
use crate::steps::{StepError, run_step, run_steps};

/// The end of a node that never heard the server's judgement.
const UNJUDGED: &str =
    "the clone is complete, but the server has not judged it, and nothing boots from the disk";

/// The state of this node between two orders.
enum Phase {
    /// Joined, waiting for the specification.
    Waiting,
    /// Planned and checked, the disks held, nothing written.
    Prepared(Box<ClonePlan>, Vec<HeldDisk>),
    /// The disks are ready for data.
    Ready(Box<Target>),
    /// Complete; the server's judgement is awaited, and nothing boots from the disk.
    Complete(Box<CompleteClone>),
    /// Judged good, and bootable.
    Bootable,
}

/// Prepares this process for a clone, before any thread is started. It must be root's. It gets mounts of its
/// own, which no other process sees and which end with it, however it ends.
///
/// # Errors
/// Not root; a kernel that is too old.
pub(crate) fn enter() -> anyhow::Result<()> {
    checks::check_machine()?;
    // The restore shares the limit out among its writers: with the usual 1024 it works, with more it is
    // faster.
    if let Err(error) = ka_host::system::raise_nofile() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    Ok(ka_host::namespace::own_mounts()?)
}

/// Follows the server's orders to the release. `kept` is the complete clone with which this node has joined,
/// if it holds one. If the server is lost before it has judged the clone, the clone is there again for the next
/// attempt. `tools` are those of this machine.
///
/// # Errors
/// The failure, with the exit code that follows from the phase, and what this node does next.
pub(crate) fn run(
    session: &Session<'_>,
    tools: &mut Tools,
    kept: &mut Option<Box<CompleteClone>>,
) -> Result<Ending, Setback> {
    let mut phase = match kept.take() {
        Some(complete) => hand_in(session, complete, kept)?,
        None => Phase::Waiting,
    };
    loop {
        let order = match session.next_order() {
            Ok(order) => order,
            Err(error) => return lost(session, phase, error, kept),
        };
        phase = match (order, phase) {
            (Order::Prepare(payload), Phase::Waiting) => {
                let (plan, disks) = prepare(session, &payload)?;
                if session.options.dry_run {
                    let shown = show::plan(session, &plan);
                    shown.map_err(|error| Setback::own(Failure::NothingDone(error)))?;
                    return Ok(Ending::Stay);
                }
                let answered = session.prepared(plan.summary().encode());
                answered.map_err(|error| Setback::of_connection(Failure::NothingDone(error)))?;
                Phase::Prepared(Box::new(plan), disks)
            }
            (Order::Stream(reader), Phase::Waiting) if reader.name().as_str() == STAGE2_STREAM => {
                stage2::receive(session, tools, reader)?;
                Phase::Waiting
            }
            (Order::Go, Phase::Prepared(plan, disks)) => {
                Phase::Ready(Box::new(build(session, *plan, disks)?))
            }
            (Order::Stream(reader), Phase::Ready(mut target)) => {
                if let Err(failed) = streams::receive(session, &mut target, reader) {
                    drop(target);
                    return Err(session.sit_out(failed, Failure::Began));
                }
                Phase::Ready(target)
            }
            (Order::Finish, Phase::Ready(target)) => {
                let complete = finish(session, *target)?;
                hand_in(session, Box::new(complete), kept)?
            }
            // It crossed with the report of a clone with which this node has joined.
            (Order::Finish, phase @ Phase::Complete(_)) => phase,
            (Order::Commit, Phase::Complete(mut clone)) => {
                session.goes_on_without_server();
                commit(session, &mut clone)?;
                let told = session.bootable();
                enter_in_firmware(session, &mut clone);
                match told {
                    Ok(()) => Phase::Bootable,
                    Err(error) => return lost(session, Phase::Bootable, error, kept),
                }
            }
            (Order::Release, Phase::Bootable) => return Ok(Ending::Reboot),
            (Order::Aborted { reason, again }, phase) => {
                let error = anyhow!("the server ended the run: {reason}");
                let failure = Failure::after(phase.has_begun(), error);
                return Err(Setback::ordered(failure, again));
            }
            (order, phase) => return Err(unexpected(session, &order, &phase)),
        };
    }
}

impl Phase {
    /// True from the first write to a disk on.
    fn has_begun(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Complete(_) | Self::Bootable)
    }
}

/// Ends a run whose server is gone, or that a signal ends. A clone that waits for its judgement is kept for
/// the next attempt. After the judgement only the release is missing: a node that does not insist on it
/// (`-w`) reboots without, but not after a signal.
fn lost(
    session: &Session<'_>,
    phase: Phase,
    error: anyhow::Error,
    kept: &mut Option<Box<CompleteClone>>,
) -> Result<Ending, Setback> {
    match phase {
        Phase::Bootable => {
            let text = format!("{error}; the clone is complete");
            session.journal.warning(Step::Report, text);
            let stays = session.stop.is_requested() || session.options.wait_release;
            Ok(if stays { Ending::Stay } else { Ending::Reboot })
        }
        Phase::Complete(clone) => Err(unjudged(clone, error, kept)),
        phase => Err(Setback::of_connection(Failure::after(phase.has_begun(), error))),
    }
}

fn unexpected(session: &Session<'_>, order: &Order, phase: &Phase) -> Setback {
    let reason = match (order, phase) {
        (Order::Stream(_), Phase::Waiting) => {
            "the server sends a plain stream; give this node -e COMMAND or --output FILE"
        }
        _ => "the server gave an order out of turn",
    };
    session.give_up("order", reason);
    Setback::own(Failure::after(phase.has_begun(), anyhow!(reason)))
}

/// Plans, checks and takes the disks.
fn prepare(session: &Session<'_>, payload: &[u8]) -> Result<(ClonePlan, Vec<HeldDisk>), Setback> {
    let prepared = try_prepare(session, payload);
    prepared.map_err(|error| refuse(session, error, Failure::NothingDone))
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
        plan.install = bootloader::choose(&facts::planned(&plan, &session.local_node()))?;
        let disks = checks::check(&plan, options)?;
        Ok((plan, disks))
    })
}

/// Wipes, partitions, formats and mounts.
fn build(session: &Session<'_>, plan: ClonePlan, disks: Vec<HeldDisk>) -> Result<Target, Setback> {
    let mut target = Target::new(plan, disks);
    let built = run_steps(&BUILD, &mut target, session.journal, session.stop);
    let fails = if target.is_touched() {
        Failure::Began
    } else {
        Failure::NothingDone
    };
    built.map_err(|error| refuse(session, error, fails))?;
    let answered = session.ready();
    answered.map_err(|error| Setback::of_connection(fails(error)))?;
    Ok(target)
}

/// Reads the data back, learns the new devices, and makes the restored tree a system of its own.
fn finish(session: &Session<'_>, mut target: Target) -> Result<CompleteClone, Setback> {
    let (journal, stop) = (session.journal, session.stop);
    let refused = |error| refuse(session, error, Failure::Began);
    let read_back = run_step(Step::VerifyData, journal, stop, || {
        read_back::verify(&mut target, journal, stop)
    });
    let read_back = read_back.map_err(refused)?;
    // Tens of bytes for each file, of no more use.
    target.ledger = None;
    let facts = run_step(Step::Learn, journal, stop, || {
        facts::learn(&target, &session.local_node())
    });
    let facts = facts.map_err(refused)?;
    let beacon = target.plan.spec.boot.beacon.as_ref();
    let beacon = beacon.map(|spec| beacon::Facts::new(spec, session.joined()));
    let mut system = RestoredSystem::new(target, facts, beacon);
    run_steps(&FINISH, &mut system, journal, stop).map_err(refused)?;
    Ok(CompleteClone::new(system, read_back, journal.record()))
}

/// Reports the clone, and waits for the server's judgement from then on.
fn hand_in(
    session: &Session<'_>,
    clone: Box<CompleteClone>,
    kept: &mut Option<Box<CompleteClone>>,
) -> Result<Phase, Setback> {
    match session.report(clone.report()) {
        Ok(()) => {
            let text = "the clone is complete; it is made bootable as soon as the server has judged all of this round";
            session.journal.news(Step::Report, text);
            Ok(Phase::Complete(clone))
        }
        Err(error) => Err(unjudged(clone, error, kept)),
    }
}

/// Returns the setback of a node that lost its server before the judgement: its clone is kept for the next
/// attempt.
fn unjudged(
    clone: Box<CompleteClone>,
    error: anyhow::Error,
    kept: &mut Option<Box<CompleteClone>>,
) -> Setback {
    let setback = Setback::of_connection(Failure::Began(error.context(UNJUDGED)));
    if setback.next == NextMove::JoinAgain {
        *kept = Some(clone);
    }
    setback
}

/// Makes the clone bootable.
fn commit(session: &Session<'_>, clone: &mut CompleteClone) -> Result<(), Setback> {
    let committed = run_steps(&COMMIT, clone, session.journal, session.stop);
    committed.map_err(|error| refuse(session, error, Failure::Began))
}

/// Tells the firmware of the clone. The clone boots by its fallback path, too, so that a failure is a
/// warning.
fn enter_in_firmware(session: &Session<'_>, clone: &mut CompleteClone) {
    if let Err(error) = run_steps(&ENTER, clone, session.journal, session.stop) {
        let reason = error_line(error.reason.as_ref());
        let text = format!("no boot entry was made ({reason}); the clone is complete");
        session.journal.warning(Step::BootEntry, text);
    }
}

/// Tells the server that a step failed here, and keeps the reason for this node's own last line.
fn refuse(session: &Session<'_>, error: StepError, fails: fn(anyhow::Error) -> Failure) -> Setback {
    session.give_up(error.step.doing(), &error_line(error.reason.as_ref()));
    Setback::own(fails(error.into()))
}
