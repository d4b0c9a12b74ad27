//! The end of a round: what the nodes report is compared with what was sent and with each other. Only then, and only where
//! it is good, a clone is made bootable; the others leave nothing that boots.
//!
//! Each report is kept as it comes, not when the last one is here: between them may lie minutes in which this process is
//! killed, while the first clones wait for their verdict.

use std::sync::Arc;

use anyhow::Result;
use ka_proto::identity::Identity;
use ka_status::report::NodeReport;
use ka_status::run::RunEvent;
use ka_transport::{NodeInfo, Outcome};

use super::Run;
use crate::identities::Compared;
use crate::settings::Job;
use crate::unfinished::Done;
use crate::verdict::compare;

/// Why a report is no good.
struct Bad {
    stage: &'static str,
    reason: String,
    /// The node did nothing wrong, and may be cloned anew.
    again: bool,
}

impl Bad {
    fn new(stage: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            stage,
            reason,
            again: false,
        }
    }
}

impl Run<'_> {
    /// Waits for the nodes' reports, compares each with what was sent and with the others, and has the good clones made
    /// bootable.
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
            match self.judge(&node, &payload) {
                Ok(report) => good.push((node, report)),
                Err(bad) => self.turn_down(&node, &bad),
            }
        }
        let good = self.without_twins(good);
        let good = if self.makes_clones() {
            self.commit(good)?
        } else {
            good
        };
        let done: Vec<_> = good.iter().map(|(node, _)| node.identity()).collect();
        for (node, report) in good {
            self.monitor.node_done(node.id.0, report);
            self.server.mark_done(node.id);
            self.done.push(node);
        }
        if !self.makes_clones() {
            kept.retain(|identity| !done.contains(identity));
            self.keep_no_more(&kept);
        }
        Ok(())
    }

    const fn makes_clones(&self) -> bool {
        matches!(self.settings.job, Job::Clone(_))
    }

    /// The report of a good clone; of another one, what is wrong with it. A node that came with its clone took it in an
    /// earlier round, or from an earlier process of this run.
    fn judge(&self, node: &NodeInfo, payload: &[u8]) -> Result<NodeReport, Bad> {
        let report = NodeReport::decode(payload).map_err(|error| Bad::new("reporting", error.to_string()))?;
        if node.holds_clone {
            let of_before = |expected: &Vec<_>| compare(expected, &report).is_ok();
            if self.earlier.iter().any(of_before) || self.unfinished.knows_complete(&report) {
                return Ok(report);
            }
            let reason =
                "its clone was made before this server began, which cannot judge it: it is cloned anew";
            let again = true;
            return Err(Bad {
                again,
                ..Bad::new("comparing digests", reason)
            });
        }
        compare(&self.expected, &report).map_err(|reason| Bad::new("comparing digests", reason))?;
        Ok(report)
    }

    /// Names a clone that is no good, and has its node undo it.
    fn turn_down(&mut self, node: &NodeInfo, bad: &Bad) {
        if bad.again {
            self.monitor.may_return(node.id.0);
        }
        self.monitor.node_revoked(node.id.0, bad.stage, &bad.reason);
        self.server
            .reject(node.id, &format!("{}: {}", bad.stage, bad.reason), bad.again);
        self.identities.forget(node.id.0);
        self.keep_no_more(&[node.identity()]);
    }

    /// Has these clones made bootable, and gives those that are.
    fn commit(&mut self, good: Vec<(NodeInfo, NodeReport)>) -> Result<Vec<(NodeInfo, NodeReport)>> {
        if good.is_empty() {
            return Ok(good);
        }
        // Before they are told: whoever is killed in between must not clone once more what may be bootable by then.
        let done = good.iter().map(|(node, report)| Done {
            identity: node.identity(),
            report: report.clone(),
        });
        self.keep_done(done.collect());
        let mut made = Vec::new();
        let endings = self.server.commit().inspect_err(|_| {
            let all: Vec<_> = good.iter().map(|(node, _)| node.identity()).collect();
            self.keep_no_more(&all);
        })?;
        for (node, outcome) in endings {
            match outcome {
                Outcome::Done(()) => made.push(node.id),
                Outcome::Failed(failure) => {
                    self.monitor
                        .node_failed(node.id.0, &failure.stage, &failure.reason);
                    self.identities.forget(node.id.0);
                }
            }
        }
        let is_made = |(node, _): &(NodeInfo, NodeReport)| made.contains(&node.id);
        let (made, lost): (Vec<_>, Vec<_>) = good.into_iter().partition(is_made);
        for (node, report) in lost {
            self.keep_no_more(&[node.identity()]);
            // What it holds stays good: it may come back with it.
            self.keep(&node, report);
        }
        Ok(made)
    }

    /// Keeps a report as it comes. Where nothing is to be made bootable its node is done with it.
    fn keep(&mut self, node: &NodeInfo, report: NodeReport) {
        let identity = node.identity();
        let done = Done { identity, report };
        if !self.makes_clones() {
            return self.keep_done(vec![done]);
        }
        if let Err(error) = self.unfinished.add_complete(done) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: a server started again would clone {node} once more"),
            });
        }
    }

    fn keep_done(&mut self, done: Vec<Done>) {
        if let Err(error) = self.unfinished.add(done) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("{error:#}: a server started again would clone this round's nodes once more"),
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

    /// Gives those that have nothing in common which no two machines may have; the others are turned down, and whoever
    /// was called done before and has the same is so no more.
    fn without_twins(&mut self, good: Vec<(NodeInfo, NodeReport)>) -> Vec<(NodeInfo, NodeReport)> {
        for (node, report) in &good {
            let identity = report.identity.as_deref().cloned().unwrap_or_default();
            let name = self
                .monitor
                .node(node.id.0)
                .map_or_else(|| node.name.clone(), |node| node.to_string());
            self.identities
                .add(node.id.0, (name, node.name.as_str()), identity);
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
        let (bad, good): (Vec<_>, Vec<_>) = good.into_iter().partition(|(node, _)| is_twin(node));
        for (node, _) in bad {
            let reason = twins.iter().find(|(twin, _)| *twin == node.id.0);
            let reason = reason.map(|(_, reason)| reason.clone()).unwrap_or_default();
            self.turn_down(&node, &Bad::new("comparing identities", reason));
        }
        good
    }

    /// What no two of the clones may have in common.
    pub(crate) fn compare_identities(&mut self, compared: Compared) {
        self.identities.compare(compared);
    }
}
