//! Nodes that only look (`ka-client --dry-run`): they get the plan's specification at once, answer with their plan, and
//! go. They are no members: they count for nothing, fail nothing, and the run neither waits for them nor ends with them.

use super::{
    ConnId, Duration, Join, NodeId, NodeInfo, Offer, Reason, Run, RunEvent, RunOutput, SocketAddr, ToNode,
    limits,
};
use crate::control::{Purpose, ToServer};

/// A node that looks, until it has answered.
#[derive(Debug)]
pub(super) struct Looker {
    info: NodeInfo,
    /// Given up then.
    until: Duration,
}

impl Run {
    /// Why a node of this purpose has no place in this session; `None` where it has one.
    pub(super) fn wrong_purpose(&self, join: &Join) -> Option<String> {
        let reason = match (join.purpose, &self.config.offer) {
            (Purpose::Stream, Offer::Clone(_)) => {
                "this session clones disks: start the node without -e and --output (and look twice at its disks)"
            }
            (Purpose::Clone, Offer::Stream) => {
                "this session sends a plain stream and clones no disk: start the node with -e COMMAND or --output FILE"
            }
            (Purpose::Look, Offer::Stream | Offer::Anything) => {
                "this session sends a plain stream: there is no plan that --dry-run could show"
            }
            _ => return None,
        };
        Some(reason.to_owned())
    }

    /// Gives the specification to a node that only wants to see what would be done.
    pub(super) fn let_look(
        &mut self,
        now: Duration,
        conn: ConnId,
        join: Join,
        remote: SocketAddr,
        addr: SocketAddr,
    ) {
        let offer = match &self.config.offer {
            Offer::Clone(offer) if !self.ended => offer.clone(),
            _ => return self.refuse(conn, &join, remote, "the run is over".to_owned()),
        };
        if self.lookers.len() >= limits::MAX_LOOKERS {
            let reason = format!(
                "{} nodes look already; try again in a minute",
                limits::MAX_LOOKERS
            );
            return self.refuse(conn, &join, remote, reason);
        }
        self.last_node += 1;
        let id = NodeId(self.last_node);
        let looker = Looker {
            info: NodeInfo::new(id, join, addr),
            until: now + self.config.timeouts.prepare,
        };
        self.lookers.insert(conn, looker);
        for message in [self.accepted(id), ToNode::Prepare(offer)] {
            self.outputs.push_back(RunOutput::Send { conn, message });
        }
    }

    /// A message of a connection that only looks; `false` where it is none.
    pub(super) fn handle_looker(&mut self, conn: ConnId, message: &ToServer) -> bool {
        let Some(looker) = self.lookers.get(&conn) else {
            return false;
        };
        let node = looker.info.clone();
        match message {
            ToServer::Prepared(plan) => {
                self.end_look(conn);
                self.event(RunEvent::NodeLooked {
                    node,
                    plan: Ok(plan.clone()),
                });
            }
            ToServer::StepFailed { reason, .. } | ToServer::Leaving { reason } => {
                self.end_look(conn);
                self.event(RunEvent::NodeLooked {
                    node,
                    plan: Err(reason.clone()),
                });
            }
            // Steps, answers to pings: nothing that anybody waits for.
            _ => {}
        }
        true
    }

    /// A connection broke; `false` where it belongs to no looker.
    pub(super) fn looker_left(&mut self, conn: ConnId, reason: &Reason) -> bool {
        let Some(looker) = self.lookers.remove(&conn) else {
            return false;
        };
        self.event(RunEvent::NodeLooked {
            node: looker.info,
            plan: Err(reason.clone()),
        });
        true
    }

    /// Keeps those that look alive, and sends away those that do not answer.
    pub(super) fn ping_lookers(&mut self, now: Duration, number: u64) {
        let late = self.lookers.iter().filter(|(_, looker)| now >= looker.until);
        let late: Vec<ConnId> = late.map(|(conn, _)| *conn).collect();
        for conn in late {
            self.outputs.push_back(RunOutput::Close { conn });
            self.looker_left(conn, &Reason::new("no answer"));
        }
        for conn in self.lookers.keys() {
            self.outputs.push_back(RunOutput::Send {
                conn: *conn,
                message: ToNode::Ping(number),
            });
        }
    }

    fn end_look(&mut self, conn: ConnId) {
        self.lookers.remove(&conn);
        let message = ToNode::Release { delay_ms: 0 };
        self.outputs.push_back(RunOutput::Send { conn, message });
        self.outputs.push_back(RunOutput::Close { conn });
    }
}
