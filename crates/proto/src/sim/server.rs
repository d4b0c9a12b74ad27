//! The server above the run machine. It gives one command after another.

use std::time::Duration;

use super::event::{Event, SERVER};
use super::rounds::host_of;
use super::scenario::{Fault, Sabotage, Scenario};
use super::world::{
    SCALED_CONTROL_SILENCE, SCALED_HEARTBEAT, SCALED_IDLE_SILENCE, SCALED_LINK_SILENCE, World,
};
use super::{Accused, Violation};
use crate::control::{Stage, Successor};
use crate::ids::{NodeId, RunId, StreamId};
use crate::pace::Bottleneck;
use crate::relay::Source;
use crate::run::{
    Failure, HeadOrder, NodeInfo, RunConfig, RunError, RunEvent, RunOutput, RunResult, StageTimeouts,
};
use crate::text::{Reason, SessionName, StreamName};
use crate::wire::{FRAME_PREFIX, Payload};

pub(super) fn config(scenario: &Scenario) -> RunConfig {
    let session = SessionName::new("kainstall").unwrap_or_else(|_| unreachable!("a good name"));
    RunConfig {
        rounds: scenario.rounds,
        wanted: u32::try_from(scenario.wanted).ok(),
        wait: Some(Duration::from_secs(15)),
        hold_release: scenario.hold_release,
        commits: scenario.commits,
        tolerance: scenario.tolerance,
        spool: scenario.spool,
        link_silence: SCALED_LINK_SILENCE,
        heartbeat: SCALED_HEARTBEAT,
        silence: SCALED_CONTROL_SILENCE,
        idle_silence: SCALED_IDLE_SILENCE,
        timeouts: StageTimeouts {
            prepare: Duration::from_secs(20),
            go: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            report: Duration::from_secs(30),
            leave: Duration::from_secs(10),
        },
        ..RunConfig::new(RunId([1; 16]), [2; 32], session, 30764)
    }
}

/// The results of a stage, node by node.
type Outcomes = [(NodeInfo, Result<Payload, Failure>)];

impl World {
    pub(super) fn drain_server(&mut self) -> Result<bool, Violation> {
        let mut busy = false;
        while let Some(output) = self.server.poll_output() {
            busy = true;
            match output {
                RunOutput::Send { conn, message } => {
                    let (host, life) = host_of(conn);
                    let frame = message
                        .encode()
                        .map_err(|err| self.violation(SERVER, err.to_string()))?;
                    let body = frame[FRAME_PREFIX..].to_vec();
                    self.push(
                        host,
                        Some(SERVER),
                        self.scenario.latency,
                        Event::Control {
                            from: SERVER,
                            life,
                            body,
                        },
                    );
                }
                RunOutput::Close { conn } => {
                    let (host, life) = host_of(conn);
                    self.push(
                        host,
                        Some(SERVER),
                        self.scenario.latency,
                        Event::ControlClosed { from: SERVER, life },
                    );
                }
                RunOutput::Head(order) => self.carry_out(&order),
                RunOutput::Result(result) => self.follow_result(&result)?,
                RunOutput::Event(event) => {
                    self.check_slow(&event)?;
                    self.follow_event(&event);
                }
            }
        }
        Ok(busy)
    }

    /// Checks that no fast host is blamed. A host that is set aside could really do less than the others, or
    /// a fault hit it. The golden node is not called slow if it reads as fast as it is asked to.
    fn check_slow(&mut self, event: &RunEvent) -> Result<(), Violation> {
        let RunEvent::SlowNode {
            node,
            set_aside,
            slow,
        } = event
        else {
            return Ok(());
        };
        let host = self.by_id.get(node).copied().unwrap_or(SERVER);
        self.accused.push(Accused {
            at: self.now,
            host,
            why: slow.why,
            set_aside: *set_aside,
        });
        let has_liar = self.scenario.liar.is_some();
        if slow.why == Bottleneck::Reading && !has_liar && self.scenario.golden_rate == u64::MAX {
            return Err(self.violation(host, format!("it reads at once, but: {event:?}")));
        }
        // A liar's word may be about anything. Only its cost is checked.
        if *node == NodeId::SERVER || !set_aside || has_liar {
            return Ok(());
        }
        self.set_aside.insert(host);
        let could = |host: usize| {
            let rates = &self.scenario;
            // A member gets its data from the group, until it leaves.
            let group = rates.group.as_ref().filter(|group| group.reaches(host));
            let line = rates.link_rates[host - 1].max(group.map_or(0, |group| group.rate));
            let own = rates.disk_rates[host - 1].min(line);
            // The slow end of the first line shows only when another node hangs on it.
            let own = if host == 1 {
                own.min(rates.golden_port)
            } else {
                own
            };
            own.min(rates.processor_rates[host - 1])
        };
        let is_slower_than = |others: &dyn Fn(usize) -> bool| {
            let others = (1..self.hosts.len()).filter(|other| *other != host && others(*other));
            let mut others: Vec<u64> = others.map(could).collect();
            others.sort_unstable();
            let median = others.get(others.len() / 2);
            median.is_some_and(|median| could(host) < *median)
        };
        // A host that a fault hit may be gone already.
        let is_spared = |other: usize| self.scenario.is_spared(other) && !self.set_aside.contains(&other);
        let is_slow = is_slower_than(&|_| true) || is_slower_than(&is_spared);
        let mut faults = self.scenario.faults.iter();
        let is_hit = |planned: &super::Planned| {
            planned.host == host && !matches!(planned.fault, Fault::StepFails(_) | Fault::StepHangs(_))
        };
        if is_slow || faults.any(is_hit) {
            Ok(())
        } else {
            Err(self.violation(host, format!("it is as fast as the others, but: {event:?}")))
        }
    }

    fn follow_event(&mut self, event: &RunEvent) {
        if !matches!(event, RunEvent::Progress { .. }) {
            self.note(SERVER, || format!("{event:?}"));
        }
        match event {
            RunEvent::NodeReported { node, .. } if !self.scenario.commits => self.keep_report(node),
            RunEvent::NodeRejoined { .. } => self.branches.rejoined += 1,
            _ => {}
        }
    }

    fn carry_out(&mut self, order: &HeadOrder) {
        self.note(SERVER, || format!("{order:?}"));
        match *order {
            HeadOrder::Successor { stream, successor } => self.name_head_successor(stream, successor),
            HeadOrder::Receipts { stream, ref keys } => self.name_receipts(SERVER, stream, keys),
            HeadOrder::OpenBranch { stream, node } => self.open_branch(stream, node),
            HeadOrder::GroupReport { .. } | HeadOrder::Probe { .. } | HeadOrder::LeftGroup { .. } => {}
            HeadOrder::CloseBranch { node, .. } => {
                if let Some(&host) = self.by_id.get(&node) {
                    self.close_branch(host);
                }
            }
        }
    }

    fn follow_result(&mut self, result: &RunResult) -> Result<(), Violation> {
        self.note(SERVER, || format!("{result:?}"));
        let next = match *result {
            RunResult::Gathered(_) if self.scenario.generic || self.scenario.tools_first => {
                self.next_stream()
            }
            RunResult::Gathered(_) => self.prepare(),
            RunResult::NobodyCame => Ok(()),
            RunResult::StageDone { stage, ref outcomes } => self.stage_done(stage, outcomes),
            RunResult::StreamDone { stream, .. } => {
                self.end_endpoint(SERVER, stream);
                self.clear_branches();
                let nth = self.rounds.stream_of_round(stream.0);
                if nth == 1 && self.scenario.tools_first {
                    self.prepare()
                } else if nth < self.scenario.streams {
                    self.next_stream()
                } else {
                    self.server.collect_reports(self.now)
                }
            }
            RunResult::Over => {
                self.server_over = !self.begin_round()?;
                Ok(())
            }
        };
        match next {
            Err(RunError::NobodyLeft) => self.nobody_left(result),
            _ => Ok(()),
        }
    }

    /// Handles that no node is there for the next command. Either only nodes with a complete clone are left,
    /// which take no part but to report, or no node at all, or the abort is under way.
    fn nobody_left(&mut self, result: &RunResult) -> Result<(), Violation> {
        let is_judged = matches!(
            result,
            RunResult::StageDone {
                stage: Stage::Report | Stage::Commit,
                ..
            }
        );
        if self.scenario.commits && !is_judged && self.server.collect_reports(self.now).is_ok() {
            return Ok(());
        }
        if !self.begin_round()? {
            self.server.abort(self.now, &Reason::new("no node is left"));
        }
        Ok(())
    }

    fn stage_done(&mut self, stage: Stage, outcomes: &Outcomes) -> Result<(), RunError> {
        match stage {
            Stage::Prepare => self.server.go(self.now),
            Stage::Go => self.next_stream(),
            Stage::Report if self.scenario.commits => self.judge(outcomes),
            _ => {
                if stage == Stage::Commit {
                    self.keep_bootable(outcomes);
                }
                self.server.release(self.now, Duration::from_millis(300))
            }
        }
    }

    /// Judges all clones of the round. A bad one is turned down, and the others are made bootable.
    fn judge(&mut self, outcomes: &Outcomes) -> Result<(), RunError> {
        let reported = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
        for (node, _) in reported {
            let host = self.by_id.get(&node.id).copied().unwrap_or(SERVER);
            if self.is_bad(host) && !self.breaks(Sabotage::ReleasesTheTwin) {
                let reason = Reason::new("another clone has the same identity");
                self.server.reject(self.now, node.id, &reason, true);
            }
        }
        self.server.commit(self.now)
    }

    fn keep_bootable(&mut self, outcomes: &Outcomes) {
        for (node, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
            self.keep_report(node);
        }
    }

    fn prepare(&mut self) -> Result<(), RunError> {
        self.server.prepare(self.now, Payload(vec![1; 1000]))
    }

    fn next_stream(&mut self) -> Result<(), RunError> {
        let name = StreamName::new("stream").unwrap_or_else(|_| unreachable!("a good name"));
        let head = self.server.open_stream(self.now, &name)?;
        self.rounds.opened(head.stream.0);
        self.produced = 0;
        self.clear_branches();
        self.form_group(head.stream);
        self.new_endpoint(
            SERVER,
            head.stream,
            Source::Producer,
            Some(head.successor),
            &head.receipts,
        );
        Ok(())
    }

    fn name_head_successor(&mut self, stream: StreamId, successor: Successor) {
        let endpoint = self.hosts[SERVER]
            .endpoint
            .as_mut()
            .filter(|endpoint| endpoint.stream == stream);
        if let Some(endpoint) = endpoint {
            endpoint.relay.set_successor(self.now, successor);
        }
    }
}
