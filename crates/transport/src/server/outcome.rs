//! The outputs of the run machine, carried out: messages are sent, waiting callers answered, and events
//! shown.

use ka_proto::NodeId;
use ka_proto::Reason;
use ka_proto::control::Successor;
use ka_proto::run::{HeadOrder, RunEvent, RunOutput, RunResult};

use super::core::Core;
use super::types::ServerEvent;
use crate::stream::PumpInput;

/// Longest event of a node that is kept for display, in bytes. Some thousands wait if they are not read.
pub(crate) const MAX_EVENT_BYTES: usize = 64 << 10;

impl Core {
    /// Carries out the outputs of the machine.
    pub(super) fn obey(&mut self) {
        while let Some(output) = self.run.poll_output() {
            match output {
                RunOutput::Send { conn, message } => {
                    if !self.connections.send(conn, &message) {
                        self.connections.close(conn);
                        self.run.handle_closed(
                            self.now(),
                            conn,
                            &Reason::new("it does not read what it is sent"),
                        );
                    }
                }
                RunOutput::Close { conn } => self.connections.close(conn),
                RunOutput::Head(order) => self.steer_head(order),
                RunOutput::Result(result) => self.answer(result),
                RunOutput::Event(event) => self.pass_on(event),
            }
        }
    }

    fn steer_head(&mut self, order: HeadOrder) {
        match order {
            HeadOrder::Successor { stream, successor } => {
                let successor = match successor {
                    Successor::Node(node) => Some((node, self.run.link_key(stream, node, NodeId::SERVER))),
                    Successor::Nobody => None,
                };
                self.streams.name_successor(stream, successor);
            }
            HeadOrder::Receipts { stream, keys } => {
                self.streams.post(stream, PumpInput::Receipts(keys));
            }
            HeadOrder::GroupReport { stream, node, report } => {
                self.streams.post(stream, PumpInput::GroupReport { node, report });
            }
            HeadOrder::Probe { node, answer } => self.probes.answer(node, answer),
            HeadOrder::LeftGroup { stream, node } => {
                self.streams.post(stream, PumpInput::LeftGroup(node));
            }
            HeadOrder::OpenBranch { stream, node } => self.open_branch(stream, node),
            HeadOrder::CloseBranch { stream, node } => self.streams.close_branch(stream, node),
        }
    }

    fn answer(&mut self, result: RunResult) {
        match result {
            RunResult::Gathered(nodes) => self.begin_probe(nodes),
            RunResult::NobodyCame => {
                self.call
                    .set_gathered(Err("nobody came in the time given (--wait)"));
            }
            RunResult::StageDone { outcomes, .. } => self.call.end_stage(outcomes),
            RunResult::StreamDone { stream, outcomes } => {
                let endings = outcomes
                    .into_iter()
                    .map(|(node, outcome)| (node, outcome.map(drop)));
                self.streams.end(stream, endings.collect());
            }
            RunResult::Over => self.end_round(),
        }
    }

    /// Passes an event on to the user interface. Links come and go with every loss: they are for the log.
    fn pass_on(&mut self, event: RunEvent) {
        match &event {
            RunEvent::LinkUp {
                node,
                stream,
                side,
                offset,
            } => {
                return tracing::debug!(%node, %stream, ?side, %offset, "data link up");
            }
            RunEvent::LinkLost {
                node,
                stream,
                side,
                offset,
                reason,
            } => {
                return tracing::warn!(%node, %stream, ?side, %offset, %reason, "data link lost");
            }
            RunEvent::NodeEvent { node, payload } if payload.0.len() > MAX_EVENT_BYTES => {
                let bytes = payload.0.len();
                return tracing::warn!(%node, bytes, "an event over its bound is dropped");
            }
            RunEvent::NodeReported { node, report } => {
                self.call.report((node.clone(), report.0.clone()));
            }
            RunEvent::NodeJoined { .. } => self.probes.note_joined(self.now()),
            _ => {}
        }
        self.event(ServerEvent::Run(event));
    }

    /// Shows an event.
    pub(super) fn event(&self, event: ServerEvent) {
        self.events.send(event);
    }
}
