//! One run of `ka-client`: find the server, do what the mode asks for, end with one clear line.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ka_status::event::Step;
use ka_status::report::NodeReport;
use ka_transport::{JoinEvent, Joined, Node, NodeConfig, OperatorDoor, Order};

use crate::cli::Options;
use crate::clone::{Ending, Me};
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
    run_with(options, setup)
}

/// Runs the whole node.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with(options: &Options, setup: Setup) -> Result<(), Failure> {
    let mode = Mode::of(options).map_err(Failure::Usage)?;
    let config = settings::node_config(options).map_err(Failure::Usage)?;
    let log = settings::log_file(options).map_err(Failure::Usage)?;
    if mode == Mode::Clone {
        clone::enter().map_err(Failure::NothingDone)?;
    }
    let format = match setup.system {
        System::Full => settings::format(options),
        System::Memory => Format::LogOnly,
    };
    let journal = Journal::new(format, log, setup.log);
    let stop = Stop::on_signals().map_err(Failure::NothingDone)?;
    let door = answer_operators(options, &config, &journal);
    let _door = match setup.system {
        System::Full => door,
        // A node that waits for its restart, or stays (ka.reboot=no), can still be looked at.
        System::Memory => {
            std::mem::forget(door);
            None
        }
    };
    let node = find_server(config, options.retries, &journal, &stop).map_err(Failure::NothingDone)?;
    let session = Session {
        options,
        journal: &journal,
        stop: &stop,
        system: setup.system,
        node: &node,
    };
    let ended = match &mode {
        Mode::Clone => clone::run(&session),
        Mode::Generic(consumer) => generic::run(&session, consumer).map(|()| Ending::Stay),
    };
    journal.disconnect();
    drop(node);
    match ended? {
        Ending::Reboot if !options.no_reboot => reboot(&journal).map_err(Failure::Began),
        Ending::Reboot | Ending::Stay => Ok(()),
    }
}

/// Opens the status port. A node that cannot be looked at is cloned all the same.
fn answer_operators(options: &Options, config: &NodeConfig, journal: &Journal) -> Option<OperatorDoor> {
    let port = options.status_port;
    if port == 0 {
        return None;
    }
    let opened = status::open(
        options.listen,
        port,
        &config.join,
        config.name.clone(),
        journal.log(),
    );
    opened
        .map_err(|error| journal.news(Step::FindServer, format!("ka-status will not work here: {error}")))
        .ok()
}

fn find_server(config: NodeConfig, tries: u32, journal: &Journal, stop: &Stop) -> anyhow::Result<Node> {
    let began = Instant::now();
    journal.started(Step::FindServer);
    // Nothing has been done that would need cleaning up, and no connection could carry a farewell.
    stop.when_requested(|cause| {
        eprintln!("error: stopped by {cause}");
        std::process::exit(1);
    });
    let session = config.session.clone();
    let node = Node::join(config, |event| tell_try(journal, tries, event)).inspect_err(|error| {
        journal.failed(Step::FindServer, &error.to_string());
    })?;
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
    Ok(node)
}

fn tell_try(journal: &Journal, tries: u32, event: &JoinEvent) {
    match event {
        JoinEvent::Trying { attempt, what } => {
            journal.news(Step::FindServer, format!("try {attempt} of {tries}: {what}"))
        }
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
        Ok(order?)
    }

    /// Answers with the plan.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn prepared(&self, plan: Vec<u8>) -> anyhow::Result<()> {
        Ok(self.node.prepared(plan)?)
    }

    /// Answers that the disks are ready for data.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn ready(&self) -> anyhow::Result<()> {
        Ok(self.node.ready()?)
    }

    /// Hands in the report.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn report(&self, report: &NodeReport) -> anyhow::Result<()> {
        Ok(self.node.report(report.encode())?)
    }

    /// Tells the server that this node is out, and why. The server may be gone: then the node's own exit tells.
    pub(crate) fn give_up(&self, stage: &str, reason: &str) {
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
