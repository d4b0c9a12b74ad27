//! What the server above the run machine does: one command after another.

use std::time::Duration;

use super::event::{Event, SERVER};
use super::rounds::host_of;
use super::scenario::{Fault, Sabotage, Scenario};
use super::world::{CONTROL_SILENCE, HEARTBEAT, IDLE_SILENCE, LINK_SILENCE, World};
use super::{Accused, Violation};
use crate::control::{Stage, Successor};
use crate::ids::{NodeId, RunId, StreamId};
use crate::pace::Bottleneck;
use crate::relay::Source;
use crate::run::{Failure, MinRate, NodeInfo, RunConfig, RunError, RunEvent, RunOutput, StageTimeouts};
use crate::text::{Reason, SessionName, StreamName};
use crate::wire::{FRAME_PREFIX, Payload};

pub(super) fn config(scenario: &Scenario) -> RunConfig {
    RunConfig {
        run: RunId([1; 16]),
        run_key: [2; 32],
        cipher: None,
        session: SessionName::new("kainstall").unwrap_or_else(|_| unreachable!("a good name")),
        offer: crate::run::Offer::Anything,
        round: 1,
        rounds: scenario.rounds,
        wanted: u32::try_from(scenario.wanted).ok(),
        wait: Some(Duration::from_secs(15)),
        data_port: 30764,
        hold_release: scenario.hold_release,
        commits: scenario.commits,
        unique_names: None,
        heal: scenario.heal,
        tolerance: scenario.tolerance,
        spool: scenario.spool,
        min_rate: MinRate::Share,
        link_silence: LINK_SILENCE,
        heartbeat: HEARTBEAT,
        silence: CONTROL_SILENCE,
        any_address: false,
        idle_silence: IDLE_SILENCE,
        timeouts: StageTimeouts {
            prepare: Duration::from_secs(20),
            go: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            report: Duration::from_secs(30),
            leave: Duration::from_secs(10),
        },
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
                RunOutput::Event(event) => {
                    self.check_slow(&event)?;
                    self.follow_event(&event)?;
                }
            }
        }
        Ok(busy)
    }

    /// No fast one is blamed: who is set aside could really do less than the others, or something happened to it; and the
    /// golden node is not called slow where it reads as fast as it is asked to.
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
        // Of a liar's word nothing is claimed here, but of what it costs.
        if *node == NodeId::SERVER || !set_aside || has_liar {
            return Ok(());
        }
        self.set_aside.insert(host);
        let could = |host: usize| {
            let rates = &self.scenario;
            let own = rates.disk_rates[host - 1].min(rates.link_rates[host - 1]);
            // Which end of the first line is slow shows only when another node hangs on it.
            let own = if host == 1 {
                own.min(rates.golden_port)
            } else {
                own
            };
            own.min(rates.processor_rates[host - 1])
        };
        let mut others: Vec<u64> = (1..self.hosts.len())
            .filter(|other| *other != host)
            .map(could)
            .collect();
        others.sort_unstable();
        let is_slow = others
            .get(others.len() / 2)
            .is_some_and(|median| could(host) < *median);
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

    fn follow_event(&mut self, event: &RunEvent) -> Result<(), Violation> {
        if !matches!(event, RunEvent::Progress { .. }) {
            self.note(SERVER, || format!("{event:?}"));
        }
        let next = match *event {
            RunEvent::Gathered(_) if self.scenario.generic || self.scenario.tools_first => self.next_stream(),
            RunEvent::Gathered(_) => self.prepare(),
            RunEvent::StageDone { stage, ref outcomes } => self.stage_done(stage, outcomes),
            RunEvent::StreamDone { stream, .. } => {
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
            RunEvent::Branch { stream, node } => {
                self.open_branch(stream, node);
                Ok(())
            }
            RunEvent::NodeReported { ref node, .. } => {
                if !self.scenario.commits {
                    self.keep_report(node);
                }
                Ok(())
            }
            RunEvent::NodeRejoined { .. } => {
                self.branches.rejoined += 1;
                Ok(())
            }
            RunEvent::BranchClosed { node, .. } => {
                if let Some(&host) = self.by_id.get(&node) {
                    self.close_branch(host);
                }
                Ok(())
            }
            RunEvent::HeadSuccessor { stream, successor } => {
                self.name_head_successor(stream, successor);
                Ok(())
            }
            RunEvent::HeadReceipts { stream, ref keys } => {
                self.name_receipts(SERVER, stream, keys);
                Ok(())
            }
            RunEvent::Over => {
                self.server_over = !self.begin_round()?;
                Ok(())
            }
            _ => Ok(()),
        };
        match next {
            Err(RunError::NobodyLeft) => self.nobody_left(event),
            _ => Ok(()),
        }
    }

    /// Nobody is there for the next command: only those that came with a clone, which take no part but to report; or nobody at
    /// all, or the abort of that is under way.
    fn nobody_left(&mut self, event: &RunEvent) -> Result<(), Violation> {
        let is_judged = matches!(
            event,
            RunEvent::StageDone {
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

    /// The verdict over all clones of the round: a bad one is turned down, the others are made bootable.
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
