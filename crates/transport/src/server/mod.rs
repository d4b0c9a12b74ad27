//! The server's side: a blocking facade over one task that owns the run.
//!
//! Here: starting, and one method for each stage of a run. Not here: the decisions (`ka_proto::run`, driven
//! by [`core`]), and the meaning of the payloads. `docs/protocol.md`.

mod accept;
mod answers;
mod approvals;
mod branches;
mod call;
mod choice;
mod connections;
mod core;
mod messages;
mod outbox;
mod outcome;
mod probes;
mod start;
mod streams;
pub(crate) mod types;
mod via;
mod writer;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::Receiver;
use ka_mac::MacAddr;
use ka_proto::run::NodeInfo;
use ka_proto::via::Work;
use ka_proto::wiring::Wiring;
use ka_proto::{NodeId, StreamName};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::code::JoinCode;
use crate::error::TransportError;

pub use approvals::{ApprovalWanted, Approvals};
pub(crate) use core::sleep_until;
use messages::ended;
use messages::{Command, ask};
pub(crate) use outcome::MAX_EVENT_BYTES;
pub(crate) use start::runtime;
pub use types::{
    Admission, Answers, Contradiction, Endings, KnownMacs, ServerConfig, ServerEvent, StreamSummary,
};
use via::Works;
pub use writer::StreamWriter;

/// A running server. Dropping it ends the run for every node.
#[derive(Debug)]
pub struct Server {
    commands: mpsc::UnboundedSender<Command>,
    events: Receiver<ServerEvent>,
    join: JoinCode,
    approvals: Approvals,
    works: Works,
    local: LocalAddrs,
    runtime: Option<Runtime>,
}

/// The addresses that a server listens on.
#[derive(Debug, Clone)]
pub struct LocalAddrs {
    /// Control connections.
    pub control: SocketAddr,
    /// The data connection of the first node.
    pub data: SocketAddr,
    /// Addresses that nodes may be told with `-h`: the listening one, or those of every interface.
    pub reachable: Vec<IpAddr>,
}

impl Server {
    /// Binds all ports and begins to answer nodes.
    ///
    /// # Errors
    /// [`TransportError::Listen`] when the control or discovery port is taken.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a configuration holds a run's secret and is for one server"
    )]
    pub fn start(config: ServerConfig) -> Result<Self, TransportError> {
        start::start(&config)
    }

    /// Takes the control port of an address for a moment. `None` is every address of this machine. For
    /// callers with long preparations before [`Server::start`].
    ///
    /// # Errors
    /// [`TransportError::Listen`] if it is taken, or the address is not this machine's.
    pub fn check_listen(listen: Option<IpAddr>, control_port: u16) -> Result<(), TransportError> {
        start::check_listen(listen.unwrap_or(IpAddr::from([0; 16])), control_port)
    }

    /// Returns the join code of this run, which nodes need.
    #[must_use]
    pub const fn join_code(&self) -> &JoinCode {
        &self.join
    }

    /// Returns the nodes that wait for the operator's approval, when [`Admission::approval`] asks for one.
    #[must_use]
    pub const fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// Has `teller` tell the work of each node to operators who ask for the list of nodes. Only the first teller
    /// counts.
    pub fn tell_works(&self, teller: impl Fn(NodeId) -> Option<Work> + Send + Sync + 'static) {
        self.works.ask(teller);
    }

    /// Returns the addresses that it listens on.
    #[must_use]
    pub const fn local_addrs(&self) -> &LocalAddrs {
        &self.local
    }

    /// Returns the events of the run, for one user interface: each goes to the first receiver. If they are
    /// not read, the oldest stay and new ones are dropped after some thousands.
    #[must_use]
    pub fn events(&self) -> Receiver<ServerEvent> {
        self.events.clone()
    }

    /// Waits until the run may start: there are enough nodes, one starts the run (`-g`), or time is up with
    /// at least one node. No more nodes are taken then. The chain is in the order of the returned list.
    ///
    /// # Errors
    /// [`TransportError::Aborted`] after [`Server::abort`] from another thread.
    pub fn gather(&self) -> Result<Vec<NodeInfo>, TransportError> {
        self.ask(|reply| Command::Gather { reply })?
    }

    /// Sends `payload` to every node and waits until each has answered with its plan, failed, or used up its
    /// time.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] out of order or with a payload over the protocol's limit.
    pub fn prepare(&self, payload: Vec<u8>) -> Result<Answers, TransportError> {
        self.ask(|reply| Command::Prepare { payload, reply })?
    }

    /// Tells the nodes that are still in to do the destructive part, and waits for each to be ready, to have
    /// failed, or to have used up its time.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] out of order.
    pub fn go(&self) -> Result<Endings, TransportError> {
        self.ask(|reply| Command::Go { reply })?
    }

    /// Opens a stream along the chain of nodes that are still in. One stream at a time.
    ///
    /// # Errors
    /// [`TransportError::NoNodes`] when none is in, [`TransportError::Misuse`] while another stream is open.
    pub fn open_stream(&self, name: &StreamName) -> Result<StreamWriter, TransportError> {
        let head = self.ask(|reply| Command::OpenStream {
            name: name.clone(),
            reply,
        })??;
        Ok(StreamWriter::new(head, self.commands.clone()))
    }

    /// Tells the nodes that all streams are through, and waits until each has reported, failed, or used up
    /// its time. `each` gets every report as soon as it is here, on this thread: the first node may report
    /// long before the last one.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] while a stream is open.
    pub fn collect_reports(&self, mut each: impl FnMut(&NodeInfo, &[u8])) -> Result<Answers, TransportError> {
        let (reported, reports) = crossbeam_channel::unbounded();
        let (reply, answer) = crossbeam_channel::bounded(1);
        let command = Command::CollectReports {
            each: reported,
            reply,
        };
        self.commands.send(command).map_err(ended)?;
        // Ends when the core waits for no more.
        for (node, report) in reports {
            each(&node, &report);
        }
        answer.recv().map_err(ended)?
    }

    /// Rejects the clone of this node. The node gets the reason, leaves nothing that boots, and is out. With
    /// `again` it may begin anew in the next round. Only between its report and [`Self::commit`].
    pub fn reject(&self, node: NodeId, reason: &str, again: bool) {
        let (reason, commands) = (reason.to_owned(), &self.commands);
        // After the core's end there is no receiver.
        commands.send(Command::Reject { node, reason, again }).ok();
    }

    /// Tells the nodes that have reported and were not rejected to make their clones bootable. Waits until
    /// each is done, has failed, or has used up its time.
    ///
    /// # Errors
    /// [`TransportError::NoNodes`] when none is left; [`TransportError::Misuse`] out of order.
    pub fn commit(&self) -> Result<Endings, TransportError> {
        self.ask(|reply| Command::Commit { reply })?
    }

    /// Lets the nodes go, one after another `stagger` apart, and waits until they have left.
    ///
    /// # Errors
    /// [`TransportError::Aborted`] after [`Server::abort`].
    pub fn release(&self, stagger: Duration) -> Result<(), TransportError> {
        self.ask(|reply| Command::Release { stagger, reply })?
    }

    /// Begins the next round, and waits until it may start. Either all nodes that were told to come back are
    /// there, or `grace` is over with at least one node. Stages and streams begin anew then. Nodes keep their
    /// numbers.
    ///
    /// # Errors
    /// [`TransportError::NoNodes`] if no node waits and none came back: the run is over.
    /// [`TransportError::Aborted`] after [`Server::abort`]. [`TransportError::Misuse`] in a stage or after
    /// the last round.
    pub fn next_round(&self, grace: Duration) -> Result<Vec<NodeInfo>, TransportError> {
        self.ask(|reply| Command::NextRound { grace, reply })?
    }

    /// The clone of this node is good: when it comes again, it is told so and let go.
    pub fn mark_done(&self, node: NodeId) {
        // After the core's end there is no receiver.
        self.commands.send(Command::MarkDone { node }).ok();
    }

    /// Forgets that the machine with this MAC address was done, because it is armed again. When it comes, it
    /// is cloned.
    pub fn forget_done(&self, mac: MacAddr) {
        self.commands.send(Command::ForgetDone { mac }).ok();
    }

    /// Takes in the switch port at the other end of this machine's line. It counts for the next order of a chain.
    pub fn set_wiring(&self, wiring: Wiring) {
        self.commands.send(Command::SetWiring { wiring }).ok();
    }

    /// Ends the run on every node; blocked calls of other threads return.
    pub fn abort(&self, reason: &str) {
        // After the core's end there is no receiver.
        self.ask(|reply| Command::Abort {
            reason: reason.to_owned(),
            reply,
        })
        .ok();
    }

    /// Sends a command to the core and waits for its answer. The core bounds every wait, or goes away and
    /// closes the channel.
    fn ask<T>(
        &self,
        command: impl FnOnce(crossbeam_channel::Sender<T>) -> Command,
    ) -> Result<T, TransportError> {
        ask(&self.commands, command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.abort("the server has ended");
        if let Some(runtime) = self.runtime.take() {
            // Tasks hold sockets only; what they would still send has been sent by the abort.
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
