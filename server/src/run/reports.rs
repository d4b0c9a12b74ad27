//! The end of a round: what the nodes report is compared with what was sent, and kept.
//!
//! Each report is kept as it comes, not when the last one is here: between them may lie minutes in which this process is
//! killed, while the first clones restart from their own disks.

use std::sync::Arc;

use anyhow::Result;
use ka_proto::identity::Identity;
use ka_status::report::NodeReport;
use ka_status::run::RunEvent;
use ka_transport::NodeInfo;

use super::Run;
use crate::identities::Compared;
use crate::unfinished::Done;
use crate::verdict::compare;

impl Run<'_> {
    /// Waits for the nodes' reports and compares each with what was sent.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn collect_reports(&mut self) -> Result<()> {
        self.enter("finishing")?;
        let server = Arc::clone(&self.server);
        let mut kept = Vec::new();
        let answers = server.collect_reports(|node, payload| {
            if let Ok(report) = self.judge(payload) {
                self.keep_done(node, report);
                kept.push(node.identity());
            }
        })?;
        let mut good = Vec::new();
        for (node, payload) in self.survivors(answers)? {
            match self.judge(&payload) {
                Ok(report) => good.push((node, report)),
                Err((stage, reason)) => self.monitor.node_failed(node.id.0, stage, &reason),
            }
        }
        let done = self.settle_reports(good);
        kept.retain(|identity| !done.contains(identity));
        self.keep_no_more(&kept);
        Ok(())
    }

    /// The report of a good clone; of another one, the stage and what is wrong.
    fn judge(&self, payload: &[u8]) -> Result<NodeReport, (&'static str, String)> {
        let report = NodeReport::decode(payload).map_err(|error| ("reporting", error.to_string()))?;
        compare(&self.expected, &report).map_err(|reason| ("comparing digests", reason))?;
        Ok(report)
    }

    fn keep_done(&mut self, node: &NodeInfo, report: NodeReport) {
        let identity = node.identity();
        if let Err(error) = self.unfinished.add(Done { identity, report }) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: a server started again would clone {node} once more"),
            });
        }
    }

    fn keep_no_more(&mut self, identities: &[Identity]) {
        if let Err(error) = self.unfinished.remove(identities) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: a server started again would take clones for good that are not"),
            });
        }
    }

    /// Calls those done that have nothing in common which no two machines may have, and gives them; the others failed, and
    /// with them whoever was called done before and has the same.
    fn settle_reports(&mut self, good: Vec<(NodeInfo, NodeReport)>) -> Vec<Identity> {
        for (node, report) in &good {
            let identity = report.identity.as_deref().cloned().unwrap_or_default();
            let name = self
                .monitor
                .node(node.id.0)
                .map_or_else(|| node.name.clone(), |node| node.to_string());
            self.identities.add(node.id.0, name, identity);
        }
        let twins = self.identities.twins();
        for (id, reason) in &twins {
            self.monitor.node_revoked(*id, "comparing identities", reason);
        }
        let is_twin = |node: &NodeInfo| twins.iter().any(|(twin, _)| *twin == node.id.0);
        let revoked = self.done.iter().filter(|node| is_twin(node));
        let revoked: Vec<_> = revoked.map(NodeInfo::identity).collect();
        self.keep_no_more(&revoked);
        // The boot server has been told of the first ones; what it is to be told of comes behind them.
        let known = self.done.iter().take(self.finished);
        self.finished = known.filter(|node| !is_twin(node)).count();
        self.done.retain(|node| !is_twin(node));
        let mut done = Vec::new();
        for (node, report) in good.into_iter().filter(|(node, _)| !is_twin(node)) {
            self.monitor.node_done(node.id.0, report);
            self.server.mark_done(node.id);
            done.push(node.identity());
            self.done.push(node);
        }
        done
    }

    /// What no two of the clones may have in common.
    pub(crate) fn compare_identities(&mut self, compared: Compared) {
        self.identities.compare(compared);
    }
}
