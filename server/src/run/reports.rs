//! The end of a round. The nodes' reports are compared with the streams sent and with each other. A clone is
//! made bootable only if its report is good; the others leave nothing that boots.
//!
//! Each report is kept as it comes, not when the last one is here. The first clones may wait minutes for
//! their verdict, and this process may be killed in that time.

use std::sync::Arc;

use anyhow::Result;
use ka_proto::run::NodeInfo;
use ka_report::report::NodeReport;

use super::Run;
use crate::unfinished::Done;
use crate::verdict::BadReport;

impl Run<'_> {
    /// Waits for the nodes' reports, compares each with the streams sent and with the others, and has the
    /// good clones made bootable.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn collect_reports(&mut self) -> Result<()> {
        self.enter("finishing")?;
        let server = Arc::clone(&self.server);
        let mut kept = Vec::new();
        let answers = server.collect_reports(|node, payload| {
            if let Ok(report) = self.judge(node, payload) {
                self.keep(node, report);
                kept.push(node.identity());
            }
        })?;
        let mut good = Vec::new();
        for (node, payload) in self.survivors(answers)? {
            match self.judge(&node, &payload.0) {
                Ok(report) => good.push((node, report)),
                Err(bad) => self.turn_down(&node, &bad),
            }
        }
        let good = self.without_twins(good);
        let good = if self.settings.makes_clones() {
            self.commit(good)?
        } else {
            good
        };
        let done: Vec<_> = good.iter().map(|(node, _)| node.identity()).collect();
        for (node, report) in good {
            self.monitor.node_done(node.id.0, report);
            self.server.mark_done(node.id);
            self.clones.add(node);
        }
        if !self.settings.makes_clones() {
            kept.retain(|identity| !done.contains(identity));
            self.record.remove(&kept);
        }
        Ok(())
    }

    /// Returns the report of a good clone, or the fault of another one.
    fn judge(&self, node: &NodeInfo, payload: &[u8]) -> Result<NodeReport, BadReport> {
        let is_kept = |report: &NodeReport| self.record.knows_complete(report);
        self.verdicts.judge(payload, node.holds_clone, is_kept)
    }

    /// Settles a clone that is not good, and has its node undo it.
    fn turn_down(&mut self, node: &NodeInfo, bad: &BadReport) {
        if bad.again {
            self.monitor.may_return(node.id.0);
        }
        self.monitor.node_revoked(node.id.0, bad.stage, &bad.reason);
        self.server
            .reject(node.id, &format!("{}: {}", bad.stage, bad.reason), bad.again);
        self.verdicts.forget_clone(node.id.0);
        self.record.remove(&[node.identity()]);
    }

    /// Has these clones made bootable, and returns those that are.
    fn commit(&mut self, good: Vec<(NodeInfo, NodeReport)>) -> Result<Vec<(NodeInfo, NodeReport)>> {
        if good.is_empty() {
            return Ok(good);
        }
        // This is kept before the nodes are told. A server that is killed in between must not clone them once
        // more, because they may be bootable by then.
        let done = good.iter().map(|(node, report)| Done {
            identity: node.identity(),
            report: report.clone(),
        });
        self.record.add(done.collect());
        let mut made = Vec::new();
        let endings = self.server.commit().inspect_err(|_| {
            let all: Vec<_> = good.iter().map(|(node, _)| node.identity()).collect();
            self.record.remove(&all);
        })?;
        for (node, outcome) in endings {
            match outcome {
                Ok(()) => made.push(node.id),
                Err(failure) => {
                    self.monitor.node_failed_by(node.id.0, &failure);
                    self.verdicts.forget_clone(node.id.0);
                }
            }
        }
        let is_made = |(node, _): &(NodeInfo, NodeReport)| made.contains(&node.id);
        let (made, lost): (Vec<_>, Vec<_>) = good.into_iter().partition(is_made);
        for (node, report) in lost {
            self.record.remove(&[node.identity()]);
            // The node's clone stays good, and the node may come back with it.
            self.keep(&node, report);
        }
        Ok(made)
    }

    /// Keeps a report as it comes. If nothing is to be made bootable, its node is done with it.
    fn keep(&mut self, node: &NodeInfo, report: NodeReport) {
        let identity = node.identity();
        let done = Done { identity, report };
        if self.settings.makes_clones() {
            self.record.add_complete(node, done);
        } else {
            self.record.add(vec![done]);
        }
    }

    /// Returns the clones that share no identity with another one. The others are turned down, and so are
    /// earlier clones with the same identity that were done before.
    fn without_twins(&mut self, good: Vec<(NodeInfo, NodeReport)>) -> Vec<(NodeInfo, NodeReport)> {
        for (node, report) in &good {
            let name = self
                .monitor
                .node(node.id.0)
                .map_or_else(|| node.name.to_string(), |node| node.to_string());
            self.verdicts
                .add_clone(node.id.0, (name, node.name.as_str()), report);
        }
        let twins = self.verdicts.twins();
        for (id, reason) in &twins {
            self.monitor.node_revoked(*id, "comparing identities", reason);
        }
        let is_twin = |node: &NodeInfo| twins.iter().any(|(twin, _)| *twin == node.id.0);
        let revoked = self.clones.remove(is_twin);
        self.record.remove(&revoked);
        let (bad, good): (Vec<_>, Vec<_>) = good.into_iter().partition(|(node, _)| is_twin(node));
        for (node, _) in bad {
            let reason = twins.iter().find(|(twin, _)| *twin == node.id.0);
            let reason = reason.map(|(_, reason)| reason.clone()).unwrap_or_default();
            self.turn_down(&node, &BadReport::new("comparing identities", reason));
        }
        good
    }
}
