//! One run of `ka-client`: find the server, do what the mode asks for, end with one clear line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use ka_cli::say;
use ka_host::run;
use ka_status::event::Step;
use ka_status::report::NodeReport;
use ka_transport::{JoinEvent, Joined, Node, NodeConfig, OperatorDoor, Order, TransportError};

use crate::cli::Options;
use crate::clone::{Complete, Ending, Me};
use crate::failure::Failure;
use crate::journal::{Format, Journal};
use crate::log_ring::LogRing;
use crate::settings::{self, Mode};
use crate::stop::Stop;
use crate::{beacon, clone, generic, status};

/// What the node runs in.
pub(crate) struct Setup {
    /// The node's log, for whoever reads along.
    pub(crate) log: Arc<LogRing>,
    /// What is under this program.
    pub(crate) system: System,
}

/// What is under this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// An installed system, which has tools and goes on afterwards.
    Full,
    /// A root in memory, booted from the network: tools and drivers come from the server, consoles show the log.
    Memory,
}

/// What every part of a joined node needs.
pub(crate) struct Session<'a> {
    /// The command line.
    pub(crate) options: &'a Options,
    /// Where events go.
    pub(crate) journal: &'a Journal,
    /// Whether somebody asked us to end.
    pub(crate) stop: &'a Stop,
    /// What is under this program.
    pub(crate) system: System,
    node: &'a Node,
    returns: Returns,
}

/// Whether this node comes back after a run that did not end well.
#[derive(Debug, Default)]
struct Returns {
    /// The server is lost, or wants this node in its next round.
    is_wanted: AtomicBool,
    /// The failure is this node's own: another try would end in the same way.
    own_fault: AtomicBool,
    /// A stream broke off: what its consumer says about that is no fault of this node.
    stream_broke: AtomicBool,
}

/// Runs the whole node on an installed system.
///
/// # Errors
/// The ending, with its exit code.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(facts) = &options.beacon {
        return beacon::run(facts).map_err(Failure::NothingDone);
    }
    let setup = Setup {
        log: Arc::default(),
        system: System::Full,
    };
    let ended = run_with(options, setup);
    // An operator's command, say, that still runs.
    run::end_all("the node has ended");
    ended
}

/// Runs the whole node.
///
/// # Errors
/// As [`run()`].
pub(crate) fn run_with(options: &Options, setup: Setup) -> Result<(), Failure> {
    let mode = Mode::of(options).map_err(Failure::Usage)?;
    let mut config = settings::node_config(options).map_err(Failure::Usage)?;
    match &mode {
        Mode::Clone => clone::check_options(options, setup.system == System::Full),
        Mode::Generic(consumer) => generic::check(consumer),
    }
    .map_err(Failure::Usage)?;
    let log = settings::log_file(options).map_err(Failure::Usage)?;
    if mode == Mode::Clone {
        clone::enter().map_err(Failure::NothingDone)?;
    }
    let format = match setup.system {
        System::Full => settings::format(options),
        System::Memory => Format::LogOnly,
    };
    let journal = Arc::new(Journal::new(format, log, setup.log));
    let stop = Stop::on_signals().map_err(Failure::NothingDone)?;
    let door = answer_operators(options, &config, &journal);
    config.operators = door.as_ref().and_then(OperatorDoor::entrance);
    let _door = match setup.system {
        System::Full => door,
        // A node that waits for its restart, or stays (ka.reboot=no), can still be looked at.
        System::Memory => {
            std::mem::forget(door);
            None
        }
    };
    let shared = Shared {
        options,
        journal: &journal,
        stop: &stop,
        system: setup.system,
    };
    match until_it_ends(&shared, &config, &mode)? {
        Ending::Reboot if !options.no_reboot => reboot(&journal).map_err(Failure::Began),
        Ending::Reboot | Ending::Stay => Ok(()),
    }
}

/// What stays from one try to the next.
struct Shared<'a> {
    options: &'a Options,
    journal: &'a Journal,
    stop: &'a Stop,
    system: System,
}

/// Joins and takes part, again for as long as the server wants that, or is lost and found.
fn until_it_ends(shared: &Shared<'_>, config: &NodeConfig, mode: &Mode) -> Result<Ending, Failure> {
    let journal = shared.journal;
    let mut before: Option<Failure> = None;
    let mut kept = None;
    loop {
        let began = before.as_ref().is_some_and(Failure::has_begun);
        let mut config = config.clone();
        config.holds_clone = kept.is_some();
        let waiting = Arc::new(Mutex::new(kept.take()));
        let found = find_server(config, shared, began, &waiting);
        kept = taken(&waiting);
        let node = match found {
            Ok(Some(node)) => node,
            Ok(None) => return Ok(Ending::Stay),
            Err(error) => {
                let error = match &before {
                    Some(failure) => error.context(failure.to_string()),
                    None => error,
                };
                return Err(Failure::after(began, error));
            }
        };
        let session = Session {
            options: shared.options,
            journal,
            stop: shared.stop,
            system: shared.system,
            node: &node,
            returns: Returns::default(),
        };
        let ended = match mode {
            Mode::Clone => clone::run(&session, &mut kept),
            Mode::Generic(consumer) => generic::run(&session, consumer).map(|()| Ending::Stay),
        };
        let returns = session.returns();
        journal.disconnect();
        drop(node);
        match ended {
            Err(failure) if returns => {
                let state = if kept.is_some() {
                    "the clone is kept"
                } else {
                    "everything is undone"
                };
                let text = format!("{failure}; {state}, and this node looks for its server again");
                journal.news(Step::FindServer, text);
                journal.forget_record();
                let failure = if began { failure.into_began() } else { failure };
                before = Some(failure);
            }
            ended => return ended.map_err(|failure| if began { failure.into_began() } else { failure }),
        }
    }
}

/// Lets operators in. A node that cannot be looked at is cloned all the same.
fn answer_operators(options: &Options, config: &NodeConfig, journal: &Arc<Journal>) -> Option<OperatorDoor> {
    let port = options.status_port;
    if port == 0 {
        return None;
    }
    let opened = status::open(options.listen, port, &config.join, config.name.clone(), journal);
    opened
        .map_err(|error| journal.news(Step::FindServer, format!("ka-status will not work here: {error}")))
        .ok()
}

/// A clone that waits for its server to be found.
type Waiting = Arc<Mutex<Option<Box<Complete>>>>;

fn taken(waiting: &Waiting) -> Option<Box<Complete>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Joins; `None` when the server says that this node is done. `has_begun`: a disk was touched by an earlier try.
fn find_server(
    config: NodeConfig,
    shared: &Shared<'_>,
    has_begun: bool,
    waiting: &Waiting,
) -> anyhow::Result<Option<Node>> {
    let (journal, stop, tries) = (shared.journal, shared.stop, shared.options.retries);
    let began = Instant::now();
    journal.started(Step::FindServer);
    // No connection could carry a farewell; what there is to undo is a clone that waits for its verdict.
    let kept = Arc::clone(waiting);
    stop.when_requested(move |cause| {
        say(&format!("error: stopped by {cause}"));
        drop(taken(&kept));
        std::process::exit(if has_begun { 3 } else { 1 });
    });
    let session = config.session.clone();
    let node = match Node::join(config, |event| tell_try(journal, tries, event)) {
        Ok(node) => node,
        Err(error @ TransportError::DoneAlready { .. }) => {
            journal.news(Step::FindServer, format!(
                    "{error}: nothing is left to do, and nothing was written. If this is another machine with the same name \
                     and hardware address, give it a name of its own (--name)"
                ));
            return Ok(None);
        }
        Err(error) => {
            journal.failed(Step::FindServer, &error.to_string());
            return Err(error.into());
        }
    };
    // A tool or an operator's command may run for half an hour before the next order is asked for.
    node.when_aborted(|reason| run::end_work(&format!("the server ended the run: {reason}")));
    let events = node.event_sender();
    stop.when_requested({
        let sender = node.event_sender();
        move |cause| sender.leave(&format!("stopped by {cause}"))
    });
    let joined = node.joined();
    journal.connect(Box::new(move |event| {
        // An event that cannot be sent is the smaller half of the problem that follows: the server is lost.
        drop(events.event(event));
    }));
    journal.done(Step::FindServer, began.elapsed());
    journal.news(
        Step::FindServer,
        format!("joined session {session} at {} as {}", joined.server, joined.id),
    );
    Ok(Some(node))
}

fn tell_try(journal: &Journal, tries: u32, event: &JoinEvent) {
    match event {
        JoinEvent::Trying { attempt, what } => {
            journal.news(Step::FindServer, format!("try {attempt} of {tries}: {what}"))
        }
        JoinEvent::Queued { round, reason } => journal.news(
            Step::FindServer,
            format!("this node waits for round {round}: {reason}"),
        ),
        JoinEvent::Pending { code, limit } => journal.news(
            Step::FindServer,
            format!(
                "the server's operator is asked to let this node in, within {} s; its code is {code}",
                limit.as_secs()
            ),
        ),
        JoinEvent::Failed {
            attempt,
            reason,
            pause,
        } => {
            let next = pause.map_or(String::new(), |pause| format!("; again in {} s", pause.as_secs()));
            journal.news(
                Step::FindServer,
                format!("Can't reach a valid KA server (try {attempt} of {tries}): {reason}{next}"),
            );
        }
    }
}

fn reboot(journal: &Journal) -> anyhow::Result<()> {
    journal.started(Step::Reboot);
    ka_host::system::reboot().context("the clone is complete, but the machine did not reboot")
}

impl Session<'_> {
    /// Where and as whom this node has joined.
    pub(crate) const fn joined(&self) -> &Joined {
        self.node.joined()
    }

    /// What this node is known by.
    pub(crate) fn me(&self) -> Me {
        Me {
            name: self.joined().name.to_string(),
            named: self.options.name.is_some(),
            mac: self.joined().mac.map(|mac| mac.to_string()),
            server: self.joined().server.to_string(),
            session: self.options.session.clone(),
        }
    }

    /// The server's next order.
    ///
    /// # Errors
    /// The server is lost, or somebody asked us to end.
    pub(crate) fn next_order(&self) -> anyhow::Result<Order> {
        self.stop.check()?;
        let order = self.node.next_order();
        self.stop.check()?;
        if let Ok(Order::Aborted { again, .. }) = &order {
            self.returns.is_wanted.store(*again, Ordering::Relaxed);
        }
        self.unless_lost(order)
    }

    /// Notes where it is the server that is lost.
    fn unless_lost<T>(&self, result: Result<T, TransportError>) -> anyhow::Result<T> {
        if matches!(result, Err(TransportError::ServerLost { .. })) {
            self.returns.is_wanted.store(true, Ordering::Relaxed);
        }
        Ok(result?)
    }

    /// A stream broke off.
    pub(crate) fn note_broken_stream(&self) {
        self.returns.stream_broke.store(true, Ordering::Relaxed);
    }

    /// The consumer of a stream failed: its own fault, unless the stream broke off.
    pub(crate) fn note_failed_consumer(&self) {
        if !self.returns.stream_broke.load(Ordering::Relaxed) {
            self.returns.own_fault.store(true, Ordering::Relaxed);
        }
    }

    fn returns(&self) -> bool {
        let Returns {
            is_wanted, own_fault, ..
        } = &self.returns;
        let stays = self.options.dry_run || self.stop.is_requested();
        is_wanted.load(Ordering::Relaxed) && !own_fault.load(Ordering::Relaxed) && !stays
    }

    /// From now on the end of the run ends no program: a clone that was judged good is made bootable.
    pub(crate) fn goes_on_without_server(&self) {
        self.node.when_aborted(|_| ());
    }

    /// Answers with the plan.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn prepared(&self, plan: Vec<u8>) -> anyhow::Result<()> {
        self.unless_lost(self.node.prepared(plan))
    }

    /// Answers that the disks are ready for data.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn ready(&self) -> anyhow::Result<()> {
        self.unless_lost(self.node.ready())
    }

    /// Answers that the clone can be booted.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn bootable(&self) -> anyhow::Result<()> {
        self.unless_lost(self.node.bootable())
    }

    /// Hands in the report.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn report(&self, report: &NodeReport) -> anyhow::Result<()> {
        self.unless_lost(self.node.report(report.encode()))
    }

    /// Tells the server that this node is out, and why. The server may be gone: then the node's own exit tells.
    pub(crate) fn give_up(&self, stage: &str, reason: &str) {
        self.returns.own_fault.store(true, Ordering::Relaxed);
        if let Err(error) = self.node.step_failed(stage, reason) {
            tracing::debug!(%error, "the failure could not be reported");
        }
    }
    /// This node is out of the run but still part of the chain: relays until the server lets it go.
    pub(crate) fn linger(&self) {
        while let Ok(order) = self.next_order() {
            if matches!(order, Order::Release | Order::Aborted { .. }) {
                return;
            }
        }
    }
}
