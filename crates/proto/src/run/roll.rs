//! The nodes of the run with their present work, for an operator who asks the server (`ka-status --via`).

use std::net::IpAddr;

use ka_mac::MacAddr;

use super::member::{Member, MemberState};
use super::roster::Roster;
use super::{ConnId, NodeId, NodeInfo, Phase, Reason};
use crate::via::ListedNode;

/// The members, and the present work of the run.
pub(super) struct Roll<'a> {
    roster: &'a Roster,
    phase: &'a Phase,
}

impl<'a> Roll<'a> {
    pub(super) const fn new(roster: &'a Roster, phase: &'a Phase) -> Self {
        Self { roster, phase }
    }

    /// Returns every node that ever joined, in the order in which they came.
    pub(super) fn list(&self) -> Vec<(NodeId, ListedNode)> {
        let listed = self.roster.members().map(|member| {
            let node = ListedNode {
                name: member.info.name.clone(),
                mac: member.info.mac,
                addr: member.info.addr.ip(),
                state: Reason::new(self.state_of(member)),
                work: None,
            };
            (member.info.id, node)
        });
        listed.collect()
    }

    /// Returns the one node that is called `wanted`, by its address, its MAC address or its name, with its
    /// connection.
    ///
    /// # Errors
    /// For the operator: no node or several have that name, or the node cannot be reached.
    pub(super) fn find(&self, wanted: &str) -> Result<(NodeInfo, ConnId), Reason> {
        let called: Vec<&Member> = self
            .roster
            .members()
            .filter(|member| is_called(&member.info, wanted))
            .collect();
        // A node that failed and came back has two places. The connected one is meant.
        let mut connected = called.iter().filter(|member| member.conn.is_some());
        match (called.first(), connected.next(), connected.next()) {
            (None, ..) => Err(Reason::new(format!(
                "no node of this run is called {wanted}; ka-status --via SERVER alone lists them"
            ))),
            (_, Some(_), Some(_)) => Err(Reason::new(format!(
                "several nodes are called {wanted}; name the hardware address of the one you mean"
            ))),
            (Some(gone), None, _) => Err(Reason::new(format!(
                "{} is not connected: {}",
                gone.info.name,
                self.state_of(gone)
            ))),
            (_, Some(member), None) => reached(member),
        }
    }

    fn state_of(&self, member: &Member) -> String {
        let told = match &member.state {
            MemberState::Queued => "waiting for the next round".to_owned(),
            MemberState::Failed(failure) => format!("failed: {failure}"),
            MemberState::Reported { .. } => "finished".to_owned(),
            MemberState::Asked | MemberState::Waiting | MemberState::Answered(_) => self.at(member),
        };
        match member.conn {
            None if member.is_active() && !told.starts_with("finished") => format!("{told}; not connected"),
            _ => told,
        }
    }

    /// Returns the state of the run, as far as it concerns this node.
    fn at(&self, member: &Member) -> String {
        match (self.phase, &member.state) {
            (Phase::Gathering { .. }, _) => "waiting for other nodes".to_owned(),
            (Phase::Asking { stage, .. }, MemberState::Asked) => stage.to_string(),
            (Phase::Streaming(stream), _) if stream.is_done(member.info.id) => {
                format!("stream {}: done", stream.id())
            }
            (Phase::Streaming(stream), _) => format!(
                "stream {}: {} bytes taken",
                stream.id(),
                stream.consumed(member.info.id)
            ),
            (Phase::Leaving { .. }, _) => "leaving".to_owned(),
            (Phase::Over, _) => "the run is over".to_owned(),
            (Phase::Asking { .. } | Phase::Idle, _) => "ready".to_owned(),
        }
    }
}

/// Returns a node with its connection if it can be reached. A queued node hears pings and nothing else until
/// its round begins.
fn reached(member: &Member) -> Result<(NodeInfo, ConnId), Reason> {
    match member.conn {
        Some(conn) if !member.is_queued() => Ok((member.info.clone(), conn)),
        _ => Err(Reason::new(format!(
            "{} waits for the next round and can be reached through the server when that begins; \
             ka-status {} asks it directly",
            member.info.name,
            member.info.addr.ip()
        ))),
    }
}

fn is_called(node: &NodeInfo, wanted: &str) -> bool {
    let by_addr = wanted
        .parse::<IpAddr>()
        .is_ok_and(|addr| addr.to_canonical() == node.addr.ip().to_canonical());
    let by_mac = node.mac.is_some() && wanted.parse::<MacAddr>().ok() == node.mac;
    by_addr || by_mac || node.name.as_str() == wanted
}
