//! A node that has joined a run: the server's orders, and this node's answers to them.

use ka_report::report::NodeReport;
use ka_transport::{Joined, Node, Order};

use crate::cli::Options;
use crate::ending::Setback;
use crate::failure::Failure;
use crate::incoming::StreamFailure;
use crate::journal::Journal;
use crate::local_node::LocalNode;
use crate::stop::Stop;

/// One node's part in one run. It ends with the connection to the server.
pub(crate) struct Session<'a> {
    /// The command line.
    pub(crate) options: &'a Options,
    /// The node's log.
    pub(crate) journal: &'a Journal,
    /// The request to end, from a signal.
    pub(crate) stop: &'a Stop,
    node: &'a Node,
}

impl<'a> Session<'a> {
    /// Returns the session of a node that has joined.
    pub(crate) const fn new(
        options: &'a Options,
        journal: &'a Journal,
        stop: &'a Stop,
        node: &'a Node,
    ) -> Self {
        Self {
            options,
            journal,
            stop,
            node,
        }
    }

    /// The server this node has joined, and its number and name there.
    pub(crate) const fn joined(&self) -> &Joined {
        self.node.joined()
    }

    /// Returns the identity of this node in the run.
    pub(crate) fn local_node(&self) -> LocalNode {
        LocalNode {
            name: self.joined().name.to_string(),
            is_name_given: self.options.name.is_some(),
            mac: self.joined().mac.map(|mac| mac.to_string()),
            server: self.joined().server.to_string(),
            session: self.options.session.clone(),
        }
    }

    /// Waits for the server's next order.
    ///
    /// # Errors
    /// The server is lost, or a signal asked this node to end.
    pub(crate) fn next_order(&self) -> anyhow::Result<Order> {
        self.stop.check()?;
        let order = self.node.next_order();
        self.stop.check()?;
        Ok(order?)
    }

    /// From now on the end of the run ends no program on this node: a clone that was judged good is made
    /// bootable.
    pub(crate) fn goes_on_without_server(&self) {
        self.node.when_aborted(|_| ());
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

    /// Answers that the clone can be booted.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn bootable(&self) -> anyhow::Result<()> {
        Ok(self.node.bootable()?)
    }

    /// Hands in the report.
    ///
    /// # Errors
    /// The server is lost.
    pub(crate) fn report(&self, report: &NodeReport) -> anyhow::Result<()> {
        Ok(self.node.report(report.encode())?)
    }

    /// Tells the server that this node is out of the run, and why. If the server is gone, this node's own
    /// exit tells it.
    pub(crate) fn give_up(&self, stage: &str, reason: &str) {
        if let Err(error) = self.node.step_failed(stage, reason) {
            tracing::debug!(%error, "the failure could not be reported");
        }
    }

    /// Takes no further part after a stream has failed here, but relays the data that its successors still
    /// need until the server releases it. `fails` makes the node's failure from the stream's.
    pub(crate) fn sit_out(&self, failed: StreamFailure, fails: fn(anyhow::Error) -> Failure) -> Setback {
        let last = self.relay_to_the_end();
        match (failed, last) {
            (StreamFailure::Consumer(error), _) | (StreamFailure::Stream(error), Ok(Order::Release)) => {
                Setback::own(fails(error))
            }
            (StreamFailure::Stream(error), Ok(order)) => {
                let again = matches!(order, Order::Aborted { again: true, .. });
                Setback::ordered(fails(error), again)
            }
            (StreamFailure::Stream(error), Err(lost)) => Setback {
                failure: fails(error),
                ..Setback::of_connection(fails(lost))
            },
        }
    }

    /// Waits for the last order, [`Order::Release`] or [`Order::Aborted`].
    fn relay_to_the_end(&self) -> anyhow::Result<Order> {
        loop {
            let order = self.next_order()?;
            if matches!(order, Order::Release | Order::Aborted { .. }) {
                return Ok(order);
            }
        }
    }
}
