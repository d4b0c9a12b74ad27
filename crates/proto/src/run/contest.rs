//! Two connections that claim to be one node: which of them is it?
//!
//! A machine that lost power comes again while its old connection still looks alive, and so does somebody who claims a
//! place that another one holds. What tells them apart is whether the holder still answers: it is asked, and the first
//! one with a connection that lives stays. A claim waits for the answer as long as a link may be silent, and no longer.

use super::{ConnId, Duration, IpAddr, Join, Member, NodeId, Reason, Run, SocketAddr, ToNode, limits};

/// A proved Join for a place that somebody has.
#[derive(Debug)]
pub(super) struct Claim {
    conn: ConnId,
    join: Join,
    local: IpAddr,
    remote: SocketAddr,
    holder: NodeId,
    since: Duration,
}

impl Run {
    /// Keeps a claim to a connected node's place until that node has answered, or has not. False when there is no such
    /// node, or it has been silent for as long as a link may be: then the newcomer is that node after a restart.
    pub(super) fn contest(
        &mut self,
        now: Duration,
        (conn, join): (ConnId, &Join),
        local: IpAddr,
        remote: SocketAddr,
    ) -> bool {
        let Some(holder) = self.holder(join, super::gather::data_addr(join, remote)) else {
            return false;
        };
        let heard = self.members.get(&holder).map(|member| member.heard);
        if heard.is_none_or(|heard| now >= heard + self.claim_patience()) {
            return false;
        }
        // Whoever holds the secret may claim; it may not make us keep more than all nodes together.
        if self.claims.len() >= limits::MAX_NODES {
            self.refuse(
                conn,
                join,
                remote,
                "too many claim places that others hold".to_owned(),
            );
            return true;
        }
        self.claims.push(Claim {
            conn,
            join: join.clone(),
            local,
            remote,
            holder,
            since: now,
        });
        let number = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.send(holder, ToNode::Ping(number));
        true
    }

    /// Who has the place that `join` claims, and a connection: a node of this name at this address, where two cannot
    /// listen, or one of this name and hardware address elsewhere.
    fn holder(&self, join: &Join, addr: SocketAddr) -> Option<NodeId> {
        let is_it = |member: &&Member| {
            let same_machine =
                join.mac.is_some() && member.info.mac == join.mac && member.info.addr.ip() != addr.ip();
            member.conn.is_some()
                && member.info.name == join.name
                && (member.info.addr == addr || same_machine)
        };
        self.members.values().find(is_it).map(|member| member.info.id)
    }

    /// A node has answered the ping of this number: it lives, and whoever claims its place is somebody else.
    pub(super) fn hold_place(&mut self, holder: NodeId, number: u64) {
        let is_answered = |claim: &Claim| {
            claim.holder == holder && number >= u64::try_from(claim.since.as_millis()).unwrap_or(u64::MAX)
        };
        let (refused, open) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(is_answered);
        self.claims = open;
        let refused: Vec<Claim> = refused;
        for Claim {
            conn, join, remote, ..
        } in refused
        {
            let reason = format!(
                "node {holder} is called {} too, has the same address or hardware address, and answers: two nodes need \
                 two names (--name)",
                join.name
            );
            self.refuse(conn, &join, remote, reason);
        }
    }

    /// The holder of a place is gone, or has not answered in time: who claims it has it.
    pub(super) fn settle_claims(&mut self, now: Duration) {
        let silence = self.claim_patience();
        let members = &self.members;
        let is_settled = |claim: &Claim| {
            let holder = members.get(&claim.holder);
            now >= claim.since + silence || holder.is_none_or(|holder| holder.conn.is_none())
        };
        let (settled, open) = std::mem::take(&mut self.claims).into_iter().partition(is_settled);
        self.claims = open;
        let settled: Vec<Claim> = settled;
        for claim in settled {
            let addr = super::gather::data_addr(&claim.join, claim.remote);
            if !claim.join.holds_clone && self.send_home(claim.conn, &claim.join, addr) {
                continue;
            }
            self.admit_or_refuse(now, claim.conn, claim.join, claim.local, claim.remote);
        }
    }

    /// When the first claim must be settled.
    pub(super) fn claims_due(&self) -> Option<Duration> {
        let first = self.claims.iter().map(|claim| claim.since).min();
        first.map(|since| since + self.claim_patience())
    }

    /// As long as a link may be silent, but shorter than a node waits for the answer to its Join.
    fn claim_patience(&self) -> Duration {
        self.config.link_silence.min(limits::JOIN_TIMEOUT / 2)
    }

    /// Whoever claimed a place has gone.
    pub(super) fn forget_claim(&mut self, conn: ConnId) {
        self.claims.retain(|claim| claim.conn != conn);
    }

    /// Nobody is let in any more.
    pub(super) fn refuse_claims(&mut self, reason: &Reason) {
        for claim in std::mem::take(&mut self.claims) {
            self.refuse(claim.conn, &claim.join, claim.remote, reason.to_string());
        }
    }
}
