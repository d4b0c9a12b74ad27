//! Nodes that only look (`ka-client --dry-run`). They get the plan's specification at once, answer with their
//! plan, and go. They are not members: they do not count and cannot fail. The run neither waits for them nor
//! ends with them.

use std::collections::BTreeMap;

use super::{ConnId, Duration, NodeInfo, Reason, limits};
use crate::control::ToServer;
use crate::wire::Payload;

/// A node that looks, until it has answered.
#[derive(Debug)]
struct Looker {
    info: NodeInfo,
    /// Time at which the server gives it up.
    until: Duration,
}

/// The nodes that look, by their connections.
#[derive(Debug, Default)]
pub(super) struct Lookers(BTreeMap<ConnId, Looker>);

impl Lookers {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= limits::MAX_LOOKERS
    }

    pub(super) fn add(&mut self, conn: ConnId, info: NodeInfo, until: Duration) {
        self.0.insert(conn, Looker { info, until });
    }

    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.0.contains_key(&conn)
    }

    /// Takes the plan out of a looker's message, or the reason why it has none. Then the looker is forgotten.
    /// `None` for steps and answers to pings, for which nothing waits.
    pub(super) fn take_answer(
        &mut self,
        conn: ConnId,
        message: &ToServer,
    ) -> Option<(NodeInfo, Result<Payload, Reason>)> {
        let plan = match message {
            ToServer::Prepared(plan) => Ok(plan.clone()),
            ToServer::StepFailed { reason, .. } | ToServer::Leaving { reason } => Err(reason.clone()),
            _ => return None,
        };
        Some((self.remove(conn)?, plan))
    }

    /// Forgets a looker.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<NodeInfo> {
        self.0.remove(&conn).map(|looker| looker.info)
    }

    /// Returns the connections of lookers that have not answered in time.
    pub(super) fn late(&self, now: Duration) -> Vec<ConnId> {
        let late = self.0.iter().filter(|(_, looker)| now >= looker.until);
        late.map(|(conn, _)| *conn).collect()
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.0.keys().copied()
    }
}
