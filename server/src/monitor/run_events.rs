//! The events of the run, as the protocol tells them, become those of the views.

use ka_proto::run::{self, NodeInfo};
use ka_report::run::{NodeProgress, RunEvent};
use ka_report::spool::Rejoined;

use super::State;

impl State {
    pub(super) fn run_event(&mut self, event: run::RunEvent) {
        match event {
            run::RunEvent::NodeJoined { node, present, .. } => self.joined(&node, present),
            run::RunEvent::NodeWired { node } => self.wired(&node),
            run::RunEvent::NodeLeft { node, reason, .. } => self.left(&node, reason.as_str()),
            run::RunEvent::NodeRefused { addr, name, reason } => {
                self.refused(addr, Some(name.to_string()), reason.to_string());
            }
            run::RunEvent::NodeLooked { node, plan } => self.looked(&node, plan),
            run::RunEvent::NodeQueued { node, round, reason } => {
                let node = self.roster.queue(&node);
                let reason = reason.to_string();
                self.show(&RunEvent::NodeQueued { node, round, reason });
            }
            run::RunEvent::NodeDoneAlready { addr, name } => self.came_again(addr, name.to_string()),
            run::RunEvent::NodeFailed { node, failure } => {
                if failure.again {
                    self.roster.may_return(node.id.0);
                }
                self.node_failed(node.id.0, &failure.stage.to_string(), failure.reason.as_str());
            }
            run::RunEvent::NodeAway {
                node,
                reason,
                silence,
            } => {
                if let Some(node) = self.roster.find(node.id.0) {
                    let (reason, secs) = (reason.to_string(), silence.as_secs());
                    self.show(&RunEvent::NodeAway { node, reason, secs });
                }
            }
            run::RunEvent::NodeRejoined { node, stream, offset } => {
                let rejoined = Rejoined {
                    stream: stream.to_string(),
                    offset_bytes: offset.0,
                };
                if let Some(node) = self.roster.rejoined(node.id.0, rejoined.clone()) {
                    self.show(&RunEvent::NodeRejoined { node, rejoined });
                }
            }
            run::RunEvent::NodeEvent { node, payload } => self.step(node.0, &payload.0),
            run::RunEvent::NodeEventsLeftOut { node, so_far } => self.left_out(node.0, so_far),
            run::RunEvent::Progress { node, progress } => self.note(NodeProgress {
                id: node.0,
                received_bytes: progress.received.0,
                consumed_bytes: progress.consumed.0,
                buffered_bytes: progress.buffered,
            }),
            run::RunEvent::SlowNode {
                node,
                slow,
                set_aside,
            } => {
                let node = self.roster.find(node.0);
                let slow = slow.into();
                self.show(&RunEvent::SlowNode {
                    node,
                    slow,
                    set_aside,
                });
            }
            run::RunEvent::LeftGroup { nodes, left, reason } => {
                self.left_group(&nodes, left, reason.as_str())
            }
            run::RunEvent::NodeGone { node } => self.roster.gone(node.0),
            // The flow gets each report as the answer of its command; links are the log's.
            run::RunEvent::NodeReported { .. }
            | run::RunEvent::LinkUp { .. }
            | run::RunEvent::LinkLost { .. } => {}
        }
    }

    fn left_group(&mut self, nodes: &[NodeInfo], multicast: u32, reason: &str) {
        let found = nodes.iter().filter_map(|node| self.roster.find(node.id.0));
        let event = RunEvent::LeftGroup {
            left: found.collect(),
            multicast,
            reason: reason.to_owned(),
        };
        self.show(&event);
    }
}
