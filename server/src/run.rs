//! One run of `ka-server`: from checked settings to an exit code. The stages of a clone are in [`crate::clone`],
//! those of the generic mode in [`crate::generic`]; what both share is [`Run`].

mod reports;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ka_disk::spec::{BeaconSpec, InstallSpec};
use ka_proto::run::Offer;
use ka_proto::wire::Payload;
use ka_status::run::RunEvent;
use ka_status::summary::{GoldenTotals, RunSummary, StreamTotals};
use ka_status::text::error_line;
use ka_transport::{NodeInfo, Outcome, RunLock, Server, StreamSummary, StreamWriter};

use crate::approve::Desk;
use crate::boot::{self, Images, Serving};
use crate::cli::Options;
use crate::failure::{Failure, OrFail};
use crate::identities::Identities;
use crate::monitor::Monitor;
use crate::settings::{Job, Settings};
use crate::still::Still;
use crate::stop::Stop;
use crate::unfinished::Unfinished;
use crate::verdict::{Content, Expected};
use crate::{clone, command, dry_run, generic, precheck, report_file, start};

/// How long the transport may take to end with its last events.
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(5);

/// Addresses of ours that clones call at their first boot: more than a server has that they could reach.
const MAX_BEACON_ADDRS: usize = 16;

/// Between two looks at who came back: a machine boots in tens of seconds.
const BOOT_LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// From a system's first DHCP message to its lease: an ARP probe of a second, and a repetition or two.
const LAST_LEASE_TIME: Duration = Duration::from_secs(10);

/// Between two looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Rounds for those that come while first boots are awaited: a machine that fails each time must not keep us here for ever.
const MAX_LATE_ROUNDS: u32 = 64;

/// Between two rounds: how long those that were lost have to come back. They clean up first, which is a sync of what is
/// half written, and try again with pauses of up to 15 s.
const RETURN_GRACE: Duration = Duration::from_secs(20);

/// What [`start`] makes a run of.
pub(crate) struct Parts<'a> {
    /// What was asked for.
    pub(crate) settings: &'a Settings,
    /// Where everything is shown and remembered.
    pub(crate) monitor: Arc<Monitor>,
    /// Whether somebody asked for the end.
    pub(crate) stop: Stop,
    /// The nodes.
    pub(crate) server: Arc<Server>,
    /// What of this machine belongs to the run itself and stays here.
    pub(crate) own_files: Vec<PathBuf>,
    /// Tools for nodes that were booted from the network.
    pub(crate) stage2: Option<Arc<Vec<u8>>>,
    /// The boot server, if there is one.
    pub(crate) serving: Option<Serving>,
    /// Token of the clones' beacons, where they are waited for.
    pub(crate) beacon: Option<[u8; 32]>,
    /// Keeps the server's key from being changed meanwhile.
    pub(crate) run_lock: RunLock,
    /// What is kept for a restart.
    pub(crate) unfinished: Unfinished,
    /// This run's log directory.
    pub(crate) log_dir: Option<PathBuf>,
    /// Where questions about nodes are answered.
    pub(crate) desk: Option<Desk>,
}

/// A run whose ports are bound.
pub(crate) struct Run<'a> {
    /// What was asked for.
    pub(crate) settings: &'a Settings,
    /// Where everything is shown and remembered.
    pub(crate) monitor: Arc<Monitor>,
    /// Whether somebody asked for the end.
    pub(crate) stop: Stop,
    /// The nodes.
    pub(crate) server: Arc<Server>,
    /// What of this machine belongs to the run itself and stays here.
    pub(crate) own_files: Vec<PathBuf>,
    /// Tools for nodes that were booted from the network, for each round.
    pub(crate) stage2: Option<Arc<Vec<u8>>>,
    serving: Option<Serving>,
    beacon: Option<[u8; 32]>,
    _run_lock: RunLock,
    unfinished: Unfinished,
    log_dir: Option<PathBuf>,
    _desk: Option<Desk>,
    /// Nodes whose clone is good, and how many of them the boot server knows.
    done: Vec<NodeInfo>,
    finished: usize,
    round: u32,
    is_sending: bool,
    watcher: JoinHandle<()>,
    stage: String,
    expected: Vec<Expected>,
    /// The same of earlier rounds, for those that come late with a complete clone.
    earlier: Vec<Vec<Expected>>,
    /// What the clones are known by, of all rounds.
    identities: Identities,
    summary: RunSummary,
}

/// Does everything that `options` ask for and gives the exit code.
///
/// # Errors
/// [`Failure`] when it ends before there is a run.
pub(crate) fn run(options: &Options) -> Result<u8, Failure> {
    if let Err(error) = ka_host::secrets::leave_no_core() {
        tracing::warn!(%error, "a crash may leave keys in a core dump");
    }
    if let Some(command) = &options.command {
        return command::run(command).or_nothing_done();
    }
    let (settings, warnings) = precheck::check(options)?;
    ka_host::privileges::keep_for_golden(settings.boot.pxe.is_some()).or_nothing_done()?;
    // Looked at before the golden node is, which takes a while, and said before it: by a dry run beside what it shows.
    let here = precheck::faults(options, Some(&settings));
    let in_the_way: Vec<String> = here
        .lines()
        .map(|line| format!("a run would not start now: {line}"))
        .collect();
    if !options.dry_run {
        here.check().or_nothing_done()?;
    }
    match &settings.job {
        Job::Clone(survey) => {
            ka_host::kernel::check().or_nothing_done()?;
            let spec = clone::survey(survey, &settings)?;
            let largest = Some(clone::largest_stream(&spec));
            precheck::check_surveyed(&settings, &survey.root, &spec, largest).or_usage()?;
            if options.dry_run {
                let warnings = [warnings, in_the_way].concat();
                dry_run::of_clone(&spec, &settings, options, &warnings).or_nothing_done()?;
                return Ok(0);
            }
            let images = make_images(&settings, options, &survey.root, &spec).or_nothing_done()?;
            let offer = Offer::Clone(Payload(
                spec.to_json().map_err(anyhow::Error::from).or_nothing_done()?,
            ));
            let run = start::start(options, &settings, images, offer).or_nothing_done()?;
            run.tell_spool(largest);
            for text in spec.notes.clone() {
                run.monitor.emit(&RunEvent::Warning { text });
            }
            Ok(run.carry_out(options, |run| clone::run(run, &spec)))
        }
        Job::Generic(input) => {
            let largest = generic::size(input);
            settings.check_spool(largest).or_usage()?;
            if options.dry_run {
                dry_run::of_generic(input, &settings, options, &in_the_way).or_nothing_done()?;
                return Ok(0);
            }
            let run = start::start(options, &settings, Images::default(), Offer::Stream).or_nothing_done()?;
            run.tell_spool(largest);
            Ok(run.carry_out(options, |run| generic::run(run, input)))
        }
    }
}

/// Packing a golden system's modules and tools takes seconds, on a slow machine minutes.
fn make_images(settings: &Settings, options: &Options, root: &Path, spec: &InstallSpec) -> Result<Images> {
    let _still = settings.boot.pxe.is_some().then(|| {
        let what = format!("Making the boot images from {}", root.display());
        Still::doing(&what, options.quiet)
    });
    boot::make(&settings.boot, root, spec)
}

impl<'a> Run<'a> {
    /// A run of which nothing has happened yet.
    pub(crate) fn new(parts: Parts<'a>) -> Result<Self> {
        let watcher = parts.monitor.watch().context("starting the monitor")?;
        let settings = parts.settings;
        let mut identities = Identities::default();
        // By the numbers that the monitor knows them by.
        for (id, done) in (1..).zip(parts.unfinished.done()) {
            let identity = done.report.identity.as_deref().cloned().unwrap_or_default();
            let name = &done.identity.name;
            identities.add(id, (name.clone(), name), identity);
        }
        Ok(Self {
            settings,
            monitor: parts.monitor,
            stop: parts.stop,
            server: parts.server,
            own_files: parts.own_files,
            stage2: parts.stage2,
            serving: parts.serving,
            beacon: parts.beacon,
            _run_lock: parts.run_lock,
            unfinished: parts.unfinished,
            log_dir: parts.log_dir,
            _desk: parts.desk,
            done: Vec::new(),
            finished: 0,
            round: 1,
            is_sending: true,
            watcher,
            stage: "waiting for the start".to_owned(),
            expected: Vec::new(),
            earlier: Vec::new(),
            identities,
            summary: RunSummary {
                session: settings.session.to_string(),
                unreadable_allowed: settings.allow_unreadable,
                clones: matches!(settings.job, Job::Clone(_)),
                ..RunSummary::default()
            },
        })
    }

    /// Says where streams are kept, if they are, and what room there is.
    fn tell_spool(&self, largest_bytes: Option<u64>) {
        if let Some(dir) = &self.settings.spool {
            self.monitor.emit(&RunEvent::Spooling {
                dir: dir.path().display().to_string(),
                free_bytes: dir.free(),
                expected_bytes: largest_bytes,
            });
        }
    }

    /// Runs the stages for each round, tells everybody how it ended, and gives the exit code.
    fn carry_out(mut self, options: &Options, stages: impl Fn(&mut Self) -> Result<()>) -> u8 {
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
        self.conclude(options)
    }

    /// Whether the run before had all the nodes that are wanted.
    fn is_complete(&self) -> bool {
        let wanted = self
            .settings
            .wanted
            .and_then(|wanted| usize::try_from(wanted).ok());
        wanted.is_some_and(|wanted| self.unfinished.done().len() >= wanted)
    }

    /// Whether another round may follow one that ended so.
    fn may_go_on(&self, ended: &Result<()>) -> bool {
        let is_lost = ended.is_err();
        self.summary.ended_by.is_none()
            && self.round < self.settings.rounds
            && self.stop.cause().is_none()
            && (!is_lost || self.monitor.nobody_left())
    }

    /// Waits for those that were late or lost; false when nobody is there for another round.
    fn next_round(&mut self) -> bool {
        self.monitor.round_ended(self.round, RETURN_GRACE);
        let expected = std::mem::take(&mut self.expected);
        if !expected.is_empty() {
            self.earlier.push(expected);
        }
        let Ok(nodes) = self.server.next_round(RETURN_GRACE) else {
            return false;
        };
        self.round += 1;
        self.monitor.emit(&RunEvent::RoundStarted {
            round: self.round,
            rounds: self.settings.rounds,
        });
        self.let_go(&nodes);
        true
    }

    fn let_go(&mut self, nodes: &[NodeInfo]) {
        self.monitor.lets_go(nodes);
        self.is_sending = !nodes.iter().all(|node| node.holds_clone);
    }

    /// Whether a node of this round is to be sent anything: those that come with a complete clone wait for the verdict only.
    pub(crate) const fn is_sending(&self) -> bool {
        self.is_sending
    }

    fn conclude(mut self, options: &Options) -> u8 {
        if let Some(serving) = self.serving.take() {
            serving.stop();
        }
        self.close_book();
        // The core ends with its last handle, and the watcher with the core: every event has been shown then.
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
        self.summary.nodes = self.monitor.settle_all(&self.stage, &reason);
        self.summary.took_ms = milliseconds(self.monitor.elapsed());
        if matches!(self.settings.job, Job::Clone(_)) && !self.summary.nodes.is_empty() {
            keep_report(
                &mut self.summary,
                &self.monitor,
                &options.state_dir,
                self.log_dir.as_deref(),
            );
        }
        self.monitor.emit(&RunEvent::Ended {
            summary: self.summary.clone(),
        });
        self.monitor.drain(LAST_EVENTS_LIMIT);
        if !options.json {
            // A closed pipe: whoever wanted the totals has gone.
            write!(io::stdout(), "{}", self.summary).ok();
        }
        self.summary.exit_code()
    }

    /// The run has ended in order, or was ended by the operator: there is nothing to take up. Where it failed on this side,
    /// those that are done need not be done again.
    fn close_book(&mut self) {
        let failed_here = self.summary.ended_by.is_some() && self.stop.cause().is_none();
        if failed_here && !self.unfinished.done().is_empty() {
            return;
        }
        if let Err(error) = self.unfinished.close() {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: a server started again takes this run up"),
            });
        }
    }

    /// Ends the run on every node with what went wrong here. The first reason counts.
    pub(crate) fn abort(&mut self, error: &anyhow::Error) {
        if self.summary.ended_by.is_none() {
            let stopped = self.stop.cause().map(|cause| format!("stopped by {cause}"));
            let reason = stopped.unwrap_or_else(|| error_line(error.as_ref()));
            self.server.abort(&reason);
            self.summary.ended_by = Some(reason);
        }
    }

    /// Passes on what a feed says about itself. The nodes are told before their stream breaks off.
    ///
    /// # Errors
    /// Those of the feed.
    pub(crate) fn told<T, E: Into<anyhow::Error>>(&mut self, fed: Result<T, E>) -> Result<T> {
        fed.map_err(|error| {
            let error = error.into();
            // Where no node is left that takes it, only the round is lost.
            if self.round >= self.settings.rounds || !self.monitor.nobody_left() {
                self.abort(&error);
            }
            error
        })
    }

    /// Waits for the nodes and orders the chain.
    ///
    /// # Errors
    /// Stopped while waiting.
    pub(crate) fn gather(&mut self) -> Result<()> {
        let nodes = self.server.gather()?;
        self.let_go(&nodes);
        Ok(())
    }

    /// Names what the nodes are doing, for those that never come back from it.
    pub(crate) fn enter(&mut self, stage: &str) -> Result<()> {
        stage.clone_into(&mut self.stage);
        self.stop.check()
    }

    /// Names the failed ones of a stage and gives the others.
    ///
    /// # Errors
    /// No node is left.
    pub(crate) fn survivors<T>(&self, outcomes: Vec<(NodeInfo, Outcome<T>)>) -> Result<Vec<(NodeInfo, T)>> {
        let mut good = Vec::new();
        for (node, outcome) in outcomes {
            match outcome {
                Outcome::Done(value) => good.push((node, value)),
                Outcome::Failed(failure) => {
                    self.monitor
                        .node_failed(node.id.0, &failure.stage, &failure.reason);
                }
            }
        }
        ensure!(!good.is_empty(), "no node is left");
        Ok(good)
    }

    /// Ends a stream and keeps its totals and what the nodes must report of it.
    ///
    /// # Errors
    /// No node has it, or the run was stopped.
    pub(crate) fn finish_stream(&mut self, writer: StreamWriter, golden: Option<GoldenTotals>) -> Result<()> {
        let summary = writer.finish()?;
        let totals = totals(&summary, self.round, golden);
        let content = golden.map_or(Content::Bytes(totals.bytes), |golden| {
            Content::Digest(golden.digest)
        });
        self.expected.push(Expected {
            name: totals.name.clone(),
            content,
        });
        self.monitor.stream_ended(&totals);
        self.summary.streams.push(totals);
        self.survivors(summary.nodes)?;
        Ok(())
    }

    /// Ends the stream of tools, which no report says anything about: what a node cannot use shows when it plans.
    ///
    /// # Errors
    /// No node has it, or the run was stopped.
    pub(crate) fn finish_tools(&mut self, writer: StreamWriter) -> Result<()> {
        let summary = writer.finish()?;
        let totals = totals(&summary, self.round, None);
        self.monitor.stream_ended(&totals);
        self.summary.streams.push(totals);
        self.survivors(summary.nodes)?;
        Ok(())
    }

    /// Keeps what the golden node could not give as it was.
    pub(crate) fn note_problems(&mut self, problems: &ka_image::Problems) {
        self.summary.golden_problem_count += problems.count();
        self.summary.golden_unreadable_count += problems.unreadable();
        let (unreadable, others): (Vec<_>, Vec<_>) = problems
            .kept()
            .iter()
            .partition(|problem| problem.kind.is_unreadable());
        // What a clone lacks comes first: only so many are shown.
        let named = &mut self.summary.golden_problems;
        named.splice(0..0, unreadable.iter().map(ToString::to_string));
        named.extend(others.iter().map(ToString::to_string));
    }

    /// Where clones tell their first boot, if anybody waits for that.
    pub(crate) fn beacon_spec(&self) -> Option<BeaconSpec> {
        let local = self.server.local_addrs();
        // Discovery listens on IPv4 wherever it listens on more than one address.
        let has_v4 = local.reachable.iter().any(IpAddr::is_ipv4);
        // A clone is another machine: our loopback is not ours there.
        let is_ours = |addr: &&IpAddr| !addr.is_loopback() && (addr.is_ipv4() || !has_v4);
        let addrs = local.reachable.iter().filter(is_ours);
        let addrs = addrs.map(|addr| SocketAddr::new(*addr, local.control.port()));
        self.beacon.map(|token| BeaconSpec {
            addrs: addrs.take(MAX_BEACON_ADDRS).collect(),
            token,
        })
    }

    /// The machines whose clones are good boot from their own disks from now on; the others stay armed. Before the
    /// release: whoever boots from the network at once gets the right menu.
    pub(crate) fn finish_machines(&mut self) {
        let new = self
            .done
            .iter()
            .skip(std::mem::replace(&mut self.finished, self.done.len()));
        let Some(serving) = &self.serving else { return };
        for node in new {
            if let Some(mac) = serving.finished(node) {
                self.monitor.learn_mac(node.id.0, mac);
            }
        }
    }

    /// Waits for the clones to be seen again. The boot server goes on meanwhile: firmware that boots from the network
    /// first must be told to go on with the disk. Who comes late, or comes back, is cloned as long as we are here.
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
                return self.monitor.emit(&RunEvent::Warning { text });
            }
            if self.monitor.waiting() > 0 && late_rounds < MAX_LATE_ROUNDS && self.next_round() {
                late_rounds += 1;
                if let Err(error) = stages(self) {
                    let text = format!("round {}: {}", self.round, error_line(error.as_ref()));
                    self.monitor.emit(&RunEvent::Warning { text });
                }
                until = Instant::now() + wait;
            }
            std::thread::sleep(BOOT_LOOK_INTERVAL);
        }
        self.give_last_leases();
    }

    fn has_boots_to_wait_for(&self) -> bool {
        let is_wanted =
            self.monitor.missing_boots() > 0 || (self.settings.rounds > 1 && self.monitor.waiting() > 0);
        self.summary.ended_by.is_none() && is_wanted
    }

    /// The last clone may have been seen by its first word to our DHCP; without us it would get no address.
    fn give_last_leases(&self) {
        let gives_addresses = self.serving.as_ref().is_some_and(Serving::gives_addresses);
        let until = Instant::now() + LAST_LEASE_TIME;
        while gives_addresses && Instant::now() < until && self.stop.cause().is_none() {
            std::thread::sleep(BOOT_LOOK_INTERVAL);
        }
    }

    /// Lets the nodes go. They are done: what goes wrong now is only worth a warning.
    pub(crate) fn release(&self) {
        if !self.settings.boot.wait_boot.is_zero() {
            self.monitor.expect_boots(&self.done);
        }
        if let Err(error) = self.server.release(self.settings.release_delay) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("releasing the nodes: {error}"),
            });
        }
    }
}

/// Writes the signed report. The clones are what they are without it: when it cannot be written, that is told.
fn keep_report(summary: &mut RunSummary, monitor: &Monitor, state_dir: &Path, log_dir: Option<&Path>) {
    let written = report_file::place(state_dir, &summary.session).and_then(|path| {
        summary.report_file = Some(path.display().to_string());
        report_file::write(summary, state_dir, &path, log_dir)
    });
    let amiss = written.unwrap_or_else(|error| {
        summary.report_file = None;
        vec![format!("there is no signed report of this run: {error:#}")]
    });
    for text in amiss {
        monitor.emit(&RunEvent::Warning { text });
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
