//! One run of `ka-client`: the options become a [`Client`], which joins and takes part as often as the server
//! wants it, and ends with one clear line.

use std::sync::Arc;

use anyhow::Context;
use ka_host::run;
use ka_lldp::{Listener, Sockets};
use ka_report::event::Step;
use ka_transport::{Node, NodeConfig, OperatorListener};

use crate::cli::Options;
use crate::clone::{self, CompleteClone};
use crate::ending::{Ending, NextMove, Setback};
use crate::failure::Failure;
use crate::journal::{Format, Journal};
use crate::line_place::LinePlace;
use crate::log_ring::LogRing;
use crate::session::Session;
use crate::settings::{self, Mode};
use crate::stage2::Tools;
use crate::stop::Stop;
use crate::{beacon, generic, join, status};

/// The system on which this program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// An installed system, which has tools and goes on afterwards.
    Installed,
    /// A system in memory, booted from the network: tools and drivers come from the server, consoles show the
    /// log.
    Memory,
}

/// The program with its log, its operators' connections and its signal handlers, from its start to its end.
/// Operators can look at the node until this is dropped.
pub(crate) struct Client {
    options: Options,
    mode: Mode,
    config: NodeConfig,
    system: System,
    journal: Arc<Journal>,
    stop: Stop,
    /// The place of this node's line, as it is heard.
    place: LinePlace,
    /// Held, not used: dropped, it turns operators away.
    _operators: Option<OperatorListener>,
}

/// Runs the whole node on an installed system.
///
/// # Errors
/// The failure, with its exit code.
pub(crate) fn run(options: Options) -> Result<(), Failure> {
    if let Some(facts) = &options.beacon {
        return beacon::run(facts).map_err(Failure::NothingDone);
    }
    let client = Client::start(options, System::Installed, Arc::default(), || {
        Listener::start(Sockets::open())
    });
    let ended = client.and_then(|client| client.run());
    // An operator's command, say, that still runs.
    run::end_all("the node has ended");
    ended
}

impl Client {
    /// Checks the options and starts the log, the signal handlers and the operators' connections. `log` is
    /// the log in memory, and `listen` makes the listener for LLDP.
    ///
    /// # Errors
    /// Wrong usage, or a machine that cannot be cloned.
    pub(crate) fn start(
        options: Options,
        system: System,
        log: Arc<LogRing>,
        listen: impl FnOnce() -> Listener,
    ) -> Result<Self, Failure> {
        let mode = Mode::of(&options).map_err(Failure::Usage)?;
        let mut config = settings::node_config(&options).map_err(Failure::Usage)?;
        match &mode {
            Mode::Clone => clone::check_options(&options, system == System::Installed),
            Mode::Generic(consumer) => generic::check(consumer),
        }
        .map_err(Failure::Usage)?;
        let file = settings::log_file(&options).map_err(Failure::Usage)?;
        if mode == Mode::Clone {
            clone::enter().map_err(Failure::NothingDone)?;
        }
        let format = match system {
            System::Installed => settings::format(&options),
            System::Memory => Format::LogOnly,
        };
        let journal = Arc::new(Journal::new(format, file, log));
        let stop = Stop::on_signals().map_err(Failure::NothingDone)?;
        let operators = let_operators_in(&options, &config, &journal);
        let place = LinePlace::listen(listen(), &journal);
        config.wiring = place.source();
        config.operators = operators.as_ref().and_then(OperatorListener::acceptor);
        Ok(Self {
            options,
            mode,
            config,
            system,
            journal,
            stop,
            place,
            _operators: operators,
        })
    }

    /// Takes part to the end.
    ///
    /// # Errors
    /// The failure, with its exit code.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self.take_part()? {
            Ending::Reboot if !self.options.no_reboot => reboot(&self.journal).map_err(Failure::Began),
            Ending::Reboot | Ending::Stay => Ok(()),
        }
    }

    /// Joins and takes part; again, as long as the server calls for that, or is lost and found.
    fn take_part(&self) -> Result<Ending, Failure> {
        let mut tools = match self.system {
            System::Installed => Tools::Installed,
            System::Memory => Tools::Awaited,
        };
        let mut earlier: Option<Failure> = None;
        let mut kept = None;
        loop {
            let joined = self.join(kept.is_some());
            let node = match joined {
                Ok(Some(node)) => node,
                Ok(None) => return Ok(Ending::Stay),
                Err(error) => return Err(self.not_joined(error, earlier)),
            };
            let ended = self.attempt(&node, &mut tools, &mut kept);
            self.journal.disconnect();
            self.place.disconnect();
            drop(node);
            let setback = match ended {
                Ok(ending) => return Ok(ending),
                Err(setback) => setback,
            };
            // A disk that an earlier attempt has touched stays touched.
            let failure = match earlier {
                Some(Failure::Began(_)) => setback.failure.into_began(),
                _ => setback.failure,
            };
            if setback.next == NextMove::GiveUp || self.is_last_attempt() {
                return Err(failure);
            }
            self.tell_another_attempt(&failure, kept.is_some());
            earlier = Some(failure);
        }
    }

    fn join(&self, holds_clone: bool) -> anyhow::Result<Option<Node>> {
        let mut config = self.config.clone();
        config.holds_clone = holds_clone;
        let joined = join::join(config, &self.journal, &self.stop, self.options.retries)?;
        if let Some(node) = &joined {
            self.place.connect(node);
        }
        Ok(joined)
    }

    fn attempt(
        &self,
        node: &Node,
        tools: &mut Tools,
        kept: &mut Option<Box<CompleteClone>>,
    ) -> Result<Ending, Setback> {
        let session = Session::new(&self.options, &self.journal, &self.stop, node);
        match &self.mode {
            Mode::Clone => clone::run(&session, tools, kept),
            Mode::Generic(consumer) => generic::run(&session, consumer),
        }
    }

    /// Returns the failure of a node that cannot join (again), behind the one that made it look for its
    /// server.
    fn not_joined(&self, error: anyhow::Error, earlier: Option<Failure>) -> Failure {
        let has_begun = earlier.as_ref().is_some_and(Failure::has_begun);
        let error = match earlier {
            Some(failure) if !self.stop.is_requested() => error.context(failure.to_string()),
            _ => error,
        };
        Failure::after(has_begun, error)
    }

    /// True when a node that could join again is to end: it only shows a plan, or a signal asked for the end.
    fn is_last_attempt(&self) -> bool {
        self.options.dry_run || self.stop.is_requested()
    }

    fn tell_another_attempt(&self, failure: &Failure, is_clone_kept: bool) {
        let state = if is_clone_kept {
            "the clone is kept"
        } else {
            "everything is undone"
        };
        let text = format!("{failure}; {state}, and this node looks for its server again");
        self.journal.news(Step::FindServer, text);
        self.journal.forget_record();
    }
}

/// Lets operators in. A node that cannot be looked at is cloned all the same.
fn let_operators_in(
    options: &Options,
    config: &NodeConfig,
    journal: &Arc<Journal>,
) -> Option<OperatorListener> {
    let port = options.status_port;
    if port == 0 {
        return None;
    }
    let opened = status::open(options.listen, port, &config.join, config.name.clone(), journal);
    opened
        .map_err(|error| journal.news(Step::FindServer, format!("ka-status will not work here: {error}")))
        .ok()
}

fn reboot(journal: &Journal) -> anyhow::Result<()> {
    journal.started(Step::Reboot);
    ka_host::system::reboot().context("the clone is complete, but the machine did not reboot")
}
