//! One run of `ka-server` after its start, up to its exit code. The stages of a clone are in [`crate::clone`],
//! those of the generic mode in [`crate::generic`]; both work through [`Run`].
//!
//! [`Run`] has the order of things: gather, the stages of each round, first boots, the end. Its parts own the
//! state: the server of the chain, the monitor with all nodes, the round, the verdicts over clones, the record
//! for a restart, and the clones that are done.

mod clones;
mod record;
mod reports;
mod rounds;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ka_cli::error_line;
use ka_disk::spec::BeaconSpec;
use ka_proto::StreamName;
use ka_proto::order::OrderRule;
use ka_proto::run::{self, NodeInfo};
use ka_proto::wire::Payload;
use ka_report::run::{NodeRef, RunEvent};
use ka_report::summary::{GoldenTotals, RunSummary, StreamTotals};
use ka_transport::{RunLock, Server, StreamSummary};

use crate::approve::Desk;
use crate::boot::Serving;
use crate::consent::Consent;
use crate::feed::Sink;
use crate::golden_place::GoldenPlace;
use crate::identities::Compared;
use crate::monitor::Monitor;
use crate::report_file;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::unfinished::Unfinished;
use crate::verdict::{Content, Verdicts};

use clones::FinishedClones;
use record::Record;
use rounds::Rounds;

/// Longest wait for the transport's last events.
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(5);

/// Interval of the checks for clones that came back. A machine boots in tens of seconds.
const BOOT_LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Time from a system's first DHCP message to its lease: an ARP probe of a second, and a repetition or two.
const LAST_LEASE_TIME: Duration = Duration::from_secs(10);

/// Interval of the checks for the transport's last events.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Most rounds for nodes that come while first boots are awaited. A machine that fails each time must not
/// keep the server here for ever.
const MAX_LATE_ROUNDS: u32 = 64;

/// Time between two rounds that lost nodes have to come back. They first clean up, which is a sync of
/// half-written data, and then try again with pauses of up to 15 s.
const RETURN_GRACE: Duration = Duration::from_secs(20);

/// The resources that a run holds until its end.
pub(crate) struct Held {
    /// Lock that keeps the server's key from being changed during the run.
    _run_lock: RunLock,
    /// The threads that take answers about nodes (`--approve`).
    _desk: Option<Desk>,
    /// The operator's consent to erase disks.
    consent: Consent,
    /// This run's log directory.
    log_dir: Option<PathBuf>,
    /// The place of this machine's line.
    place: GoldenPlace,
}

impl Held {
    /// Returns the resources: the lock on the key, the threads for `--approve`, the consent to erase disks, the log
    /// directory, and the place of this machine's line.
    pub(crate) const fn new(
        run_lock: RunLock,
        desk: Option<Desk>,
        consent: Consent,
        log_dir: Option<PathBuf>,
        place: GoldenPlace,
    ) -> Self {
        Self {
            _run_lock: run_lock,
            _desk: desk,
            consent,
            log_dir,
            place,
        }
    }
}

/// A run whose ports are bound.
pub(crate) struct Run<'a> {
    settings: &'a Settings,
    server: Arc<Server>,
    stop: Stop,
    monitor: Arc<Monitor>,
    watcher: JoinHandle<()>,
    rounds: Rounds,
    verdicts: Verdicts,
    record: Record,
    clones: FinishedClones,
    summary: RunSummary,
    held: Held,
}

impl<'a> Run<'a> {
    /// Returns a run in which nothing has happened yet.
    ///
    /// # Errors
    /// The monitor's thread cannot be started.
    pub(crate) fn new(
        settings: &'a Settings,
        server: Arc<Server>,
        stop: Stop,
        monitor: Arc<Monitor>,
        unfinished: Unfinished,
        serving: Option<Serving>,
        held: Held,
    ) -> Result<Self> {
        let watcher = monitor.watch().context("starting the monitor")?;
        let mut verdicts = Verdicts::default();
        // With the numbers by which the monitor knows them.
        for (id, done) in (1..).zip(unfinished.done()) {
            let name = &done.identity.name;
            verdicts.add_clone(id, (name.clone(), name), &done.report);
        }
        let beacon = settings.boot.beacon.then_some(unfinished.beacon());
        Ok(Self {
            settings,
            server,
            stop,
            watcher,
            rounds: Rounds::new(settings.nodes.rounds),
            verdicts,
            record: Record::new(unfinished, Arc::clone(&monitor)),
            clones: FinishedClones::new(serving, beacon),
            monitor,
            summary: RunSummary {
                session: settings.session.to_string(),
                unreadable_allowed: settings.output.allow_unreadable,
                clones: settings.makes_clones(),
                ..RunSummary::default()
            },
            held,
        })
    }

    /// Returns the checked options.
    pub(crate) const fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// Returns the operator's request to end the run.
    pub(crate) const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Returns the files of this machine that belong to the run itself and are not cloned.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        self.settings.own_files(self.held.log_dir.as_deref())
    }

    /// Shows an event.
    pub(crate) fn emit(&self, event: &RunEvent) {
        self.monitor.emit(event);
    }

    /// Shows warnings.
    pub(crate) fn warn(&self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.emit(&RunEvent::Warning { text });
        }
    }

    /// Shows the directory that keeps the streams, if there is one, and its free space.
    pub(crate) fn tell_spool(&self, largest_bytes: Option<u64>) {
        if let Some(dir) = &self.settings.spool {
            self.emit(&RunEvent::Spooling {
                dir: dir.path().display().to_string(),
                free_bytes: dir.free(),
                expected_bytes: largest_bytes,
            });
        }
    }

    /// Runs the stages for each round, tells all nodes how it ended, and returns the exit code.
    pub(crate) fn carry_out(mut self, stages: impl Fn(&mut Self) -> Result<()>) -> u8 {
        let mut ended = if self.is_complete() {
            Ok(())
        } else {
            self.gather().and_then(|()| stages(&mut self))
        };
        while self.may_go_on(&ended) && self.next_round() {
            ended = stages(&mut self);
        }
        if let Err(error) = ended {
            self.abort(&error);
        }
        self.await_first_boots(&stages);
        self.conclude()
    }

    /// Returns true if the earlier process had all the nodes that are wanted.
    fn is_complete(&self) -> bool {
        let wanted = self
            .settings
            .wanted
            .and_then(|wanted| usize::try_from(wanted).ok());
        wanted.is_some_and(|wanted| self.record.done().len() >= wanted)
    }

    /// Returns true if another round may follow one with this end.
    fn may_go_on(&self, ended: &Result<()>) -> bool {
        let is_lost = ended.is_err();
        self.summary.ended_by.is_none()
            && !self.rounds.is_last()
            && self.stop.cause().is_none()
            && (!is_lost || self.monitor.nobody_left())
    }

    /// Waits for nodes that were late or lost. Returns false if no node is there for another round.
    fn next_round(&mut self) -> bool {
        self.monitor.round_ended(self.rounds.number(), RETURN_GRACE);
        self.verdicts.end_round();
        let Ok(nodes) = self.server.next_round(RETURN_GRACE) else {
            return false;
        };
        self.rounds.begin();
        self.emit(&RunEvent::RoundStarted {
            round: self.rounds.number(),
            rounds: self.rounds.most(),
        });
        self.let_go(&nodes);
        true
    }

    fn let_go(&mut self, nodes: &[NodeInfo]) {
        let golden = self.held.place.wiring();
        let rule = OrderRule {
            list: &self.settings.order,
            golden: golden.as_ref(),
        };
        let chain: Vec<_> = nodes.iter().map(NodeInfo::candidate).collect();
        self.monitor.lets_go(nodes, rule.crossings(&chain));
        self.rounds.take(nodes);
    }

    /// Returns true if a node of this round needs data. Nodes that come with a complete clone only wait for
    /// the verdict.
    pub(crate) const fn is_sending(&self) -> bool {
        self.rounds.is_sending()
    }

    fn conclude(mut self) -> u8 {
        self.clones.stop_serving();
        self.close_record();
        // The core ends with its last handle, and the watcher with the core. Every event has been shown then.
        drop(self.server);
        let limit = Instant::now() + LAST_EVENTS_LIMIT;
        while !self.watcher.is_finished() && Instant::now() < limit {
            std::thread::sleep(LOOK_INTERVAL);
        }
        let reason = self
            .summary
            .ended_by
            .clone()
            .unwrap_or_else(|| "it never reported".to_owned());
        self.summary.nodes = self.monitor.settle_all(self.rounds.stage(), &reason);
        self.summary.took_ms = milliseconds(self.monitor.elapsed());
        if self.settings.makes_clones() && !self.summary.nodes.is_empty() {
            let state_dir = &self.settings.files.state_dir;
            let log_dir = self.held.log_dir.as_deref();
            for text in report_file::keep(&mut self.summary, state_dir, log_dir) {
                self.monitor.emit(&RunEvent::Warning { text });
            }
        }
        self.monitor.emit(&RunEvent::Ended {
            summary: self.summary.clone(),
        });
        self.monitor.drain(LAST_EVENTS_LIMIT);
        if !self.settings.output.json {
            // The pipe is closed: its reader did not want the totals.
            write!(io::stdout(), "{}", self.summary).ok();
        }
        self.summary.exit_code()
    }

    /// Ends the record for a restart. A run that ended in order, or by the operator, is not resumed. After a
    /// failure on this side the record stays, because nodes that are done need not be cloned again.
    fn close_record(&mut self) {
        let failed_here = self.summary.ended_by.is_some() && self.stop.cause().is_none();
        if failed_here && !self.record.done().is_empty() {
            return;
        }
        self.record.close();
    }

    /// Ends the run on every node with the fault of this side. The first reason counts.
    fn abort(&mut self, error: &anyhow::Error) {
        if self.summary.ended_by.is_none() {
            let stopped = self.stop.cause().map(|cause| format!("stopped by {cause}"));
            let reason = stopped.unwrap_or_else(|| error_line(error.as_ref()));
            self.server.abort(&reason);
            self.summary.ended_by = Some(reason);
        }
    }

    /// Passes on the result of a feed. After an error the nodes are told before their stream breaks off.
    ///
    /// # Errors
    /// Those of the feed.
    pub(crate) fn told<T, E: Into<anyhow::Error>>(&mut self, fed: Result<T, E>) -> Result<T> {
        fed.map_err(|error| {
            let error = error.into();
            // If no node is left that takes the stream, only the round is lost.
            if self.rounds.is_last() || !self.monitor.nobody_left() {
                self.abort(&error);
            }
            error
        })
    }

    /// Waits for the nodes and orders the chain.
    ///
    /// # Errors
    /// The run was stopped.
    fn gather(&mut self) -> Result<()> {
        let nodes = self.server.gather()?;
        self.let_go(&nodes);
        Ok(())
    }

    /// Names the nodes' next stage, for reports about nodes that never come back from it.
    ///
    /// # Errors
    /// The run was stopped.
    pub(crate) fn enter(&mut self, stage: &str) -> Result<()> {
        self.rounds.enter(stage);
        self.stop.check()
    }

    /// Waits for the operator's consent to erase disks, if it is needed and not given yet.
    ///
    /// # Errors
    /// The run was stopped.
    pub(crate) fn await_consent(&mut self) -> Result<()> {
        self.enter("waiting for your word to start")?;
        self.held.consent.ask(
            |event| self.monitor.emit(event),
            || self.stop.check().map(|()| !self.monitor.nobody_left()),
        )
    }

    /// Settles the nodes that failed a stage and returns the others.
    ///
    /// # Errors
    /// No node is left.
    fn survivors<T>(&self, outcomes: Vec<(NodeInfo, Result<T, run::Failure>)>) -> Result<Vec<(NodeInfo, T)>> {
        let mut good = Vec::new();
        for (node, outcome) in outcomes {
            match outcome {
                Ok(value) => good.push((node, value)),
                Err(failure) => self.monitor.node_failed_by(node.id.0, &failure),
            }
        }
        ensure!(!good.is_empty(), "no node is left");
        Ok(good)
    }

    /// Has every node plan and check `payload`. Returns those that can carry it out, each with its plan.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn prepare(&self, payload: Vec<u8>) -> Result<Vec<(NodeRef, Payload)>> {
        let planned = self.survivors(self.server.prepare(payload)?)?.into_iter();
        let known = planned.filter_map(|(node, plan)| Some((self.monitor.node(node.id.0)?, plan)));
        Ok(known.collect())
    }

    /// Starts the destructive part: partitions, file systems, mounts.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn make_disks_ready(&mut self) -> Result<()> {
        self.stop.disks_are_written();
        self.enter("partitioning and formatting")?;
        self.survivors(self.server.go()?)?;
        Ok(())
    }

    /// Opens a stream along the chain. `what` is its description for the operator.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn open_stream(&self, name: &str, what: &str, expected_bytes: Option<u64>) -> Result<Sink> {
        let stream = StreamName::new(name).context("naming the stream")?;
        let writer = self.server.open_stream(&stream)?;
        let progress = self.monitor.stream_started(name, what, expected_bytes);
        Ok(Sink::new(writer, progress))
    }

    /// Ends a stream. Keeps its totals and the contents that the nodes must report of it.
    ///
    /// # Errors
    /// No node has the stream, or the run was stopped.
    pub(crate) fn finish_stream(&mut self, sink: Sink, golden: Option<GoldenTotals>) -> Result<()> {
        let summary = sink.into_writer().finish()?;
        let content = golden.map_or(Content::Bytes(summary.bytes), |golden| {
            Content::Digest(golden.digest)
        });
        self.verdicts.expect(&summary.name, content);
        self.keep_totals(summary, golden)
    }

    /// Ends the stream of tools. No report covers it: a node that cannot use the tools fails when it plans.
    ///
    /// # Errors
    /// No node has the stream, or the run was stopped.
    pub(crate) fn finish_tools(&mut self, sink: Sink) -> Result<()> {
        let summary = sink.into_writer().finish()?;
        self.keep_totals(summary, None)
    }

    fn keep_totals(&mut self, summary: StreamSummary, golden: Option<GoldenTotals>) -> Result<()> {
        let totals = totals(&summary, self.rounds.number(), golden);
        self.monitor.stream_ended(&totals);
        self.summary.streams.push(totals);
        self.survivors(summary.nodes)?;
        Ok(())
    }

    /// Keeps the faults of the golden node's files.
    pub(crate) fn note_problems(&mut self, problems: &ka_tree::Problems) {
        self.summary.golden_problem_count += problems.count();
        self.summary.golden_unreadable_count += problems.unreadable();
        let (unreadable, others): (Vec<_>, Vec<_>) = problems
            .kept()
            .iter()
            .partition(|problem| problem.kind.is_unreadable());
        // Files that a clone lacks come first, because only some are shown.
        let named = &mut self.summary.golden_problems;
        named.splice(0..0, unreadable.iter().map(ToString::to_string));
        named.extend(others.iter().map(ToString::to_string));
    }

    /// Returns the data for the clones' beacons, if the run waits for first boots.
    pub(crate) fn beacon_spec(&self) -> Option<BeaconSpec> {
        self.clones.beacon_spec(self.server.local_addrs())
    }

    /// Sets the parts of an identity that no two clones may share.
    pub(crate) const fn compare_identities(&mut self, compared: Compared) {
        self.verdicts.compare_identities(compared);
    }

    /// Marks the machines whose clones are good to boot from their own disks.
    pub(crate) fn finish_machines(&mut self) {
        self.clones.tell_boot_server(&self.monitor);
    }

    /// Waits for the clones to be seen again. The boot server goes on meanwhile, because firmware that boots
    /// from the network first must be told to go on with the disk. Late or returning nodes are cloned as long
    /// as the run waits.
    fn await_first_boots(&mut self, stages: &impl Fn(&mut Self) -> Result<()>) {
        let wait = self.settings.boot.wait_boot;
        if wait.is_zero() || !self.has_boots_to_wait_for() {
            return;
        }
        self.monitor.wait_for_boots(wait);
        let mut until = Instant::now() + wait;
        let mut late_rounds = 0;
        while self.has_boots_to_wait_for() && Instant::now() < until {
            if let Some(cause) = self.stop.cause() {
                let text = format!(
                    "stopped by {cause} while waiting for the clones to come back; they are complete"
                );
                return self.emit(&RunEvent::Warning { text });
            }
            if self.monitor.waiting() > 0 && late_rounds < MAX_LATE_ROUNDS && self.next_round() {
                late_rounds += 1;
                if let Err(error) = stages(self) {
                    let text = format!("round {}: {}", self.rounds.number(), error_line(error.as_ref()));
                    self.emit(&RunEvent::Warning { text });
                }
                until = Instant::now() + wait;
            }
            std::thread::sleep(BOOT_LOOK_INTERVAL);
        }
        self.give_last_leases();
    }

    fn has_boots_to_wait_for(&self) -> bool {
        let is_wanted =
            self.monitor.missing_boots() > 0 || (self.rounds.most() > 1 && self.monitor.waiting() > 0);
        self.summary.ended_by.is_none() && is_wanted
    }

    /// Gives the last leases. The last clone may have been seen by its first message to our DHCP server;
    /// without the server it would get no address.
    fn give_last_leases(&self) {
        let gives_addresses = self.clones.gives_addresses();
        let until = Instant::now() + LAST_LEASE_TIME;
        while gives_addresses && Instant::now() < until && self.stop.cause().is_none() {
            std::thread::sleep(BOOT_LOOK_INTERVAL);
        }
    }

    /// Releases the nodes. They are done, so a fault here is only worth a warning.
    pub(crate) fn release(&self) {
        if !self.settings.boot.wait_boot.is_zero() {
            self.monitor.expect_boots(self.clones.nodes());
        }
        if let Err(error) = self.server.release(self.settings.nodes.release_delay) {
            self.emit(&RunEvent::Warning {
                text: format!("releasing the nodes: {error}"),
            });
        }
    }
}

fn totals(summary: &StreamSummary, round: u32, golden: Option<GoldenTotals>) -> StreamTotals {
    StreamTotals {
        round,
        name: summary.name.to_string(),
        bytes: summary.bytes,
        blocks: summary.blocks,
        sending_ms: milliseconds(summary.sending),
        emptied_in_ms: milliseconds(summary.emptied_in),
        golden,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
