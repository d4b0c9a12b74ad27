//! Who is in the run and what each is at, for an operator who asks the server (`ka-status --via`).

use std::net::IpAddr;

use super::member::{Member, MemberState};
use super::{ConnId, NodeInfo, Phase, Reason, Run};
use crate::via::ListedNode;

impl Run {
    /// Every node that ever joined, in the order in which they came.
    #[must_use]
    pub fn roll(&self) -> Vec<ListedNode> {
        let listed = self.members.values().map(|member| ListedNode {
            name: member.info.name.clone(),
            mac: member.info.mac,
            addr: member.info.addr.ip(),
            state: Reason::new(self.state_of(member)),
        });
        listed.collect()
    }

    /// The one node that is called `wanted`: by its address, its hardware address, or its name; and the connection to it.
    ///
    /// # Errors
    /// For the operator: nobody or several are called so, or it cannot be reached.
    pub fn find(&self, wanted: &str) -> Result<(NodeInfo, ConnId), Reason> {
        let called: Vec<&Member> = self
            .members
            .values()
            .filter(|member| is_called(&member.info, wanted))
            .collect();
        // One that failed and came back has two places: the one that is connected is meant.
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

    /// What the run is at, as far as it concerns this node.
    fn at(&self, member: &Member) -> String {
        match (&self.phase, &member.state) {
            (Phase::Gathering { .. }, _) => "waiting for other nodes".to_owned(),
            (Phase::Asking { stage, .. }, MemberState::Asked) => stage.to_string(),
            (Phase::Streaming(stream), _) if stream.is_done(member.info.id) => {
                format!("stream {}: done", stream.stream())
            }
            (Phase::Streaming(stream), _) => format!(
                "stream {}: {} bytes taken",
                stream.stream(),
                stream.consumed(member.info.id)
            ),
            (Phase::Leaving { .. }, _) => "leaving".to_owned(),
            (Phase::Over, _) => "the run is over".to_owned(),
            (Phase::Asking { .. } | Phase::Idle, _) => "ready".to_owned(),
        }
    }
}

/// A queued node hears pings and nothing else until its round begins.
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
    let by_mac = node
        .mac
        .is_some_and(|mac| mac.to_string().eq_ignore_ascii_case(&wanted.replace('-', ":")));
    by_addr || by_mac || node.name.as_str() == wanted
}
