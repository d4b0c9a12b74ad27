//! The record of the run for a restarted server. The run goes on without it, so each fault is only shown.

use std::sync::Arc;

use anyhow::Result;
use ka_proto::identity::Identity;
use ka_proto::run::NodeInfo;
use ka_report::report::NodeReport;
use ka_report::run::RunEvent;

use crate::monitor::Monitor;
use crate::unfinished::{Done, Unfinished};

/// The record of the run, and the monitor that shows its faults.
pub(super) struct Record {
    unfinished: Unfinished,
    monitor: Arc<Monitor>,
}

impl Record {
    pub(super) fn new(unfinished: Unfinished, monitor: Arc<Monitor>) -> Self {
        Self { unfinished, monitor }
    }

    /// Returns the nodes that are done.
    pub(super) fn done(&self) -> &[Done] {
        self.unfinished.done()
    }

    /// True if this process or an earlier one compared this report with the streams sent, and found it good.
    pub(super) fn knows_complete(&self, report: &NodeReport) -> bool {
        self.unfinished.knows_complete(report)
    }

    /// Keeps nodes that are done.
    pub(super) fn add(&mut self, done: Vec<Done>) {
        let kept = self.unfinished.add(done);
        self.warn(kept, || {
            "a server started again would clone this round's nodes once more".to_owned()
        });
    }

    /// Keeps the report of a node whose clone is complete and waits for its verdict.
    pub(super) fn add_complete(&mut self, node: &NodeInfo, complete: Done) {
        let kept = self.unfinished.add_complete(complete);
        self.warn(kept, || {
            format!("a server started again would clone {node} once more")
        });
    }

    /// Forgets nodes whose clones are not good after all.
    pub(super) fn remove(&mut self, identities: &[Identity]) {
        let removed = self.unfinished.remove(identities);
        self.warn(removed, || {
            "a server started again would take clones for good that are not".to_owned()
        });
    }

    /// Ends the record. The run is not taken up.
    pub(super) fn close(&mut self) {
        let closed = self.unfinished.close();
        self.warn(closed, || "a server started again takes this run up".to_owned());
    }

    /// Shows a fault and its consequence.
    fn warn(&self, kept: Result<()>, consequence: impl FnOnce() -> String) {
        if let Err(error) = kept {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: {}", consequence()),
            });
        }
    }
}
