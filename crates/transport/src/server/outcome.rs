//! What the run machine says, carried out: messages sent, waiting callers answered, events shown.

use ka_proto::control::{Stage, Successor};
use ka_proto::run::{self, Received, RunEvent, RunOutput};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, Reason, StreamId, StreamName};

use super::core::Core;
use super::messages::Waiting;
use super::types::{Answers, Endings, Failure, NodeInfo, Outcome, ServerEvent};
use crate::error::TransportError;
use crate::stream::Input as PumpInput;

/// Longest event of a node that is kept for display: some thousands wait when nobody reads them.
pub(crate) const MAX_EVENT_BYTES: usize = 64 << 10;

type Outcomes<T> = Vec<(run::NodeInfo, Result<T, run::Failure>)>;

impl Core {
    /// Does what the machine says.
    pub(super) fn obey(&mut self) {
        while let Some(output) = self.run.poll_output() {
            match output {
                RunOutput::Send { conn, message } => {
                    let Some(connection) = self.connections.get(&conn) else {
                        continue;
                    };
                    connection.questions.note(&message);
                    let sent = message.encode().map(|frame| connection.frames.try_send(frame));
                    if !matches!(sent, Ok(Ok(()))) {
                        self.close(conn);
                        self.run.handle_closed(
                            self.now(),
                            conn,
                            &Reason::new("it does not read what it is sent"),
                        );
                    }
                }
                RunOutput::Close { conn } => self.close(conn),
                RunOutput::Event(event) => self.handle_event(event),
            }
        }
    }

    fn handle_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Gathered(nodes) => {
                self.gathered = Some(Ok(nodes.iter().map(|node| self.info(node)).collect()));
                self.answer_gather();
            }
            RunEvent::NobodyCame => {
                self.gathered = Some(Err("nobody came in the time given (--wait)"));
                self.answer_gather();
            }
            RunEvent::StageDone { stage, outcomes } => self.end_stage(stage, outcomes),
            RunEvent::HeadSuccessor { stream, successor } => {
                if let Some(open) = self.open.as_ref().filter(|open| open.stream == stream) {
                    open.links.name_successor(match successor {
                        Successor::Node(node) => {
                            Some((node, self.run.link_key(stream, node, NodeId::SERVER)))
                        }
                        Successor::Nobody => None,
                    });
                    open.shared.post(PumpInput::Relink {
                        predecessor: None,
                        successor: Some(successor),
                    });
                }
            }
            RunEvent::HeadReceipts { stream, keys } => {
                if let Some(open) = self.open.as_ref().filter(|open| open.stream == stream) {
                    open.shared.post(PumpInput::Receipts(keys));
                }
            }
            RunEvent::Branch { stream, node } => self.open_branch(stream, node),
            RunEvent::BranchClosed { stream, node } => self.close_branch(stream, node),
            RunEvent::StreamDone { stream, outcomes } => self.end_stream(stream, outcomes),
            RunEvent::Over => self.end_run(),
            other => self.show(other),
        }
    }

    fn end_stage(&mut self, stage: Stage, outcomes: Outcomes<Payload>) {
        let outcomes: Answers = outcomes
            .into_iter()
            .map(|(node, outcome)| {
                let node = self.info(&node);
                if outcome.is_ok() && !matches!(stage, Stage::Report | Stage::Commit) {
                    self.event(ServerEvent::NodeReady { node: node.id });
                }
                (node, outcome_of(outcome.map(|payload| payload.0)))
            })
            .collect();
        match std::mem::replace(&mut self.waiting, Waiting::Nobody) {
            Waiting::Prepare(reply) | Waiting::Reports { reply, .. } => drop(reply.send(Ok(outcomes))),
            Waiting::Go(reply) | Waiting::Commit(reply) => drop(reply.send(Ok(without_payload(outcomes)))),
            other => self.waiting = other,
        }
    }

    /// Gives those that wait for reports the ones that are here.
    pub(super) fn pass_on_reports(&mut self) {
        if let Waiting::Reports { each, .. } = &self.waiting {
            for report in self.reported.drain(..) {
                // Whoever has gone wants none.
                each.send(report).ok();
            }
        }
    }

    fn end_stream(&mut self, stream: StreamId, outcomes: Outcomes<Received>) {
        let outcomes: Endings = outcomes
            .into_iter()
            .map(|(node, outcome)| (self.info(&node), outcome_of(outcome.map(drop))))
            .collect();
        for (node, outcome) in &outcomes {
            if matches!(outcome, Outcome::Done(())) {
                self.event(ServerEvent::StreamDone {
                    node: node.id,
                    stream,
                });
            }
        }
        let Some(open) = self.open.as_mut().filter(|open| open.stream == stream) else {
            return;
        };
        let someone_has_it = outcomes
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Done(())));
        open.shared.post(if someone_has_it {
            PumpInput::EndStream
        } else {
            PumpInput::Abort("no node is left that takes it".to_owned())
        });
        if let Some(kept) = open.kept.take() {
            kept.end(|| PumpInput::EndStream);
        }
        if let Some(reply) = open.waiting.take() {
            reply.send(Ok(outcomes.clone())).ok();
        }
        open.outcomes = Some(outcomes);
    }

    fn end_run(&mut self) {
        let reason = self
            .over
            .get_or_insert_with(|| "the run is over".to_owned())
            .clone();
        let aborted = || TransportError::Aborted {
            reason: reason.clone(),
        };
        if let Some(open) = &mut self.open {
            open.shared.post(PumpInput::Abort(reason.clone()));
            if let Some(kept) = open.kept.take() {
                kept.end(|| PumpInput::Abort(reason.clone()));
            }
            if let Some(reply) = open.waiting.take() {
                reply.send(Err(aborted())).ok();
            }
        }
        match std::mem::replace(&mut self.waiting, Waiting::Nobody) {
            Waiting::Nobody => {}
            Waiting::Gather(reply) => drop(reply.send(Err(aborted()))),
            Waiting::Prepare(reply) | Waiting::Reports { reply, .. } => drop(reply.send(Err(aborted()))),
            Waiting::Go(reply) | Waiting::Commit(reply) => drop(reply.send(Err(aborted()))),
            // The end of the run is what a release waits for.
            Waiting::Release(reply) => drop(reply.send(Ok(()))),
        }
    }

    /// Passes on what is only for display.
    fn show(&mut self, event: RunEvent) {
        match event {
            event @ (RunEvent::NodeJoined { .. }
            | RunEvent::NodeLeft { .. }
            | RunEvent::NodeQueued { .. }
            | RunEvent::NodeDoneAlready { .. }
            | RunEvent::NodeLooked { .. }
            | RunEvent::NodeRefused { .. }) => self.show_coming(event),
            RunEvent::NodeFailed { node, failure } => {
                let node = self.info(&node);
                self.event(ServerEvent::NodeFailed {
                    node,
                    failure: failure_of(&failure),
                });
            }
            RunEvent::NodeGone { node } => self.event(ServerEvent::NodeGone { node }),
            RunEvent::NodeEvent { node, payload } => self.show_node_event(node, payload),
            RunEvent::NodeEventsLeftOut { node, so_far } => {
                self.event(ServerEvent::NodeEventsLeftOut { node, so_far });
            }
            RunEvent::Progress { node, progress } => self.event(ServerEvent::Progress {
                node,
                stream: progress.stream,
                received: progress.received.0,
                consumed: progress.consumed.0,
                buffered: progress.buffered,
            }),
            RunEvent::SlowNode {
                node,
                slow,
                set_aside,
            } => {
                self.event(ServerEvent::SlowNode {
                    node,
                    slow,
                    set_aside,
                });
            }
            RunEvent::NodeReported { node, report } => {
                let node = self.info(&node);
                self.event(ServerEvent::Reported { node: node.id });
                self.reported.push((node, report.0));
                self.pass_on_reports();
            }
            event @ (RunEvent::NodeAway { .. } | RunEvent::NodeRejoined { .. }) => self.show_stray(event),
            RunEvent::LinkUp { .. } | RunEvent::LinkLost { .. } => log_link(&event),
            // Handled before.
            RunEvent::Gathered(_)
            | RunEvent::NobodyCame
            | RunEvent::StageDone { .. }
            | RunEvent::HeadSuccessor { .. }
            | RunEvent::HeadReceipts { .. }
            | RunEvent::StreamDone { .. }
            | RunEvent::Branch { .. }
            | RunEvent::BranchClosed { .. }
            | RunEvent::Over => {}
        }
    }

    /// Who lost its place in the chain, and goes on.
    fn show_stray(&self, event: RunEvent) {
        match event {
            RunEvent::NodeAway {
                node,
                reason,
                silence,
            } => self.event(ServerEvent::NodeAway {
                node: self.info(&node),
                reason: reason.to_string(),
                silence,
            }),
            RunEvent::NodeRejoined { node, offset, .. } => self.event(ServerEvent::NodeRejoined {
                node: self.info(&node),
                stream: self
                    .open
                    .as_ref()
                    .map_or_else(String::new, |open| open.shared.name.to_string()),
                offset: offset.0,
            }),
            // Of what else there is, nothing is about that.
            _ => {}
        }
    }

    /// Who comes, waits, goes, or is sent away.
    fn show_coming(&mut self, event: RunEvent) {
        match event {
            RunEvent::NodeJoined { node, present, .. } => {
                let wants_release = self.joining_wants_release;
                // One that has waited for its round said it when it came.
                self.wants_release.entry(node.id).or_insert(wants_release);
                let node = self.info(&node);
                self.event(ServerEvent::NodeJoined { node, present });
            }
            RunEvent::NodeQueued { node, round, reason } => {
                self.wants_release.insert(node.id, self.joining_wants_release);
                let node = self.info(&node);
                let reason = reason.to_string();
                self.event(ServerEvent::NodeQueued { node, round, reason });
            }
            RunEvent::NodeLooked { node, plan } => self.event(ServerEvent::NodeLooked {
                node: self.info(&node),
                plan: plan.map(|plan| plan.0).map_err(|reason| reason.to_string()),
            }),
            RunEvent::NodeDoneAlready { addr, name } => {
                let name = name.to_string();
                self.event(ServerEvent::NodeDoneAlready { from: addr, name });
            }
            RunEvent::NodeLeft {
                node,
                reason,
                present,
            } => {
                let node = self.info(&node);
                self.event(ServerEvent::NodeLeft {
                    node,
                    reason: reason.to_string(),
                    present,
                });
            }
            RunEvent::NodeRefused { addr, name, reason } => {
                self.event(ServerEvent::Turned {
                    from: addr,
                    reason: format!("node {name}: {reason}"),
                });
            }
            // Of what else there is, nothing is about that.
            _ => {}
        }
    }

    fn show_node_event(&self, node: NodeId, payload: Payload) {
        if payload.0.len() > MAX_EVENT_BYTES {
            tracing::warn!(%node, bytes = payload.0.len(), "an event over its bound is dropped");
            return;
        }
        self.event(ServerEvent::NodeEvent {
            node,
            payload: payload.0,
        });
    }

    /// Shows who is in the chain of a stream that begins; gives their number.
    pub(super) fn show_chain(&self, stream: StreamId, name: &StreamName) -> usize {
        let nodes = self.run.nodes();
        let chain: Vec<NodeInfo> = nodes
            .iter()
            .filter(|(_, failure)| failure.is_none())
            .map(|(node, _)| self.info(node))
            .collect();
        let count = chain.len();
        self.event(ServerEvent::StreamOpened {
            stream,
            name: name.to_string(),
            chain,
        });
        count
    }

    /// Shows an event.
    pub(super) fn event(&self, event: ServerEvent) {
        self.events.send(event);
    }

    fn info(&self, node: &run::NodeInfo) -> NodeInfo {
        NodeInfo {
            id: node.id,
            name: node.name.to_string(),
            addr: node.addr.ip(),
            mac: node.mac,
            position: node.position,
            wants_release: self.wants_release.get(&node.id).copied().unwrap_or(false),
            holds_clone: node.holds_clone,
        }
    }
}

/// Links come and go with every loss; only who was lost is the operator's business.
fn log_link(event: &RunEvent) {
    match event {
        RunEvent::LinkUp {
            node,
            stream,
            side,
            offset,
        } => tracing::debug!(%node, %stream, ?side, %offset, "data link up"),
        RunEvent::LinkLost {
            node,
            stream,
            side,
            offset,
            reason,
        } => tracing::warn!(%node, %stream, ?side, %offset, %reason, "data link lost"),
        _ => {}
    }
}

fn failure_of(failure: &run::Failure) -> Failure {
    Failure {
        stage: failure.stage.to_string(),
        reason: failure.reason.to_string(),
        again: failure.again,
    }
}

fn outcome_of<T>(result: Result<T, run::Failure>) -> Outcome<T> {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(failure) => Outcome::Failed(failure_of(&failure)),
    }
}

fn without_payload(answers: Answers) -> Endings {
    answers
        .into_iter()
        .map(|(node, outcome)| match outcome {
            Outcome::Done(_) => (node, Outcome::Done(())),
            Outcome::Failed(failure) => (node, Outcome::Failed(failure)),
        })
        .collect()
}
