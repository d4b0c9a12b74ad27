//! Nodes that a neighbour does not hear: each is asked at once, and what it answers, or that it does not, decides.
//!
//! A link that is given up falsely costs next to nothing this way: the node answers within a round trip, and the same
//! two are joined again. A node that is gone is believed to be gone by two witnesses, its neighbour and the server.

use super::{Duration, NodeId, Phase, Reason, Run, Side, StreamId, ToNode};

/// Who does not hear the suspect, on which side, and what it saw.
#[derive(Debug, Clone)]
pub(super) struct Witness {
    pub(super) node: NodeId,
    pub(super) side: Side,
    pub(super) reason: Reason,
}

/// A node that was asked whether it lives.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) node: NodeId,
    /// None when the chain was closed beside it and nobody has tried to reach it yet.
    pub(super) witness: Option<Witness>,
}

impl Run {
    /// Asks a node whether it lives. Until it answers nothing is done about its link; when it does not, it is lost.
    pub(super) fn suspect(&mut self, now: Duration, node: NodeId, witness: Option<Witness>) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        if run.index_of(node).is_none() {
            return;
        }
        let is_same = |other: &Suspect| {
            let places = (&other.witness, &witness);
            other.node == node
                && match places {
                    (Some(one), Some(two)) => (one.node, one.side) == (two.node, two.side),
                    (one, two) => one.is_none() && two.is_none(),
                }
        };
        run.suspects.retain(|other| !is_same(other));
        run.suspects.push(Suspect { node, witness });
        let number = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.send(node, ToNode::Ping(number));
    }

    /// A node said something: it lives, and the links that others lost to it are made again.
    pub(super) fn acquit(&mut self, now: Duration, node: NodeId) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        if run.suspects.iter().all(|suspect| suspect.node != node) {
            return;
        }
        let stream = run.stream;
        let all = std::mem::take(&mut run.suspects);
        let (acquitted, others) = all.into_iter().partition(|suspect| suspect.node == node);
        run.suspects = others;
        let acquitted: Vec<Suspect> = acquitted;
        for witness in acquitted.into_iter().filter_map(|suspect| suspect.witness) {
            self.mend_if_neighbours(now, stream, node, &witness);
        }
    }

    /// Only while the two are still neighbours: the chain may have been closed around one of them meanwhile.
    fn mend_if_neighbours(&mut self, now: Duration, stream: StreamId, node: NodeId, witness: &Witness) {
        let Some(run) = self.streaming(stream) else { return };
        let other = match witness.side {
            Side::Upstream => Some(run.before(witness.node)),
            Side::Downstream => run.after(witness.node),
        };
        if other == Some(node) {
            self.mend(now, stream, witness);
        }
    }

    /// When the first suspect will have been silent for too long.
    pub(super) fn suspects_due(&self) -> Option<Duration> {
        let Phase::Streaming(run) = &self.phase else {
            return None;
        };
        let due = run.suspects.iter().map(|suspect| self.quiet_at(suspect.node));
        due.min().filter(|_| !self.is_cut_off(self.last_call))
    }

    /// Whether the server hears nobody at all. Then it is the server that is cut off, and nobody is to blame for it; if
    /// it lasts, the control silence decides.
    fn is_cut_off(&self, now: Duration) -> bool {
        let mut connected = self.members.values().filter(|member| member.conn.is_some());
        !connected.any(|member| now < self.quiet_at(member.info.id))
    }

    /// When a node will have been silent towards the server for as long as a link may be. What it said while the server
    /// itself was away is not heard yet.
    fn quiet_at(&self, node: NodeId) -> Duration {
        let heard = self
            .members
            .get(&node)
            .map_or(self.awake_since, |member| member.heard.max(self.awake_since));
        heard + self.config.link_silence
    }

    /// Two witnesses are enough: a neighbour hears nothing, and neither does the server.
    pub(super) fn judge_suspects(&mut self, now: Duration) {
        while let Phase::Streaming(run) = &self.phase
            && !self.is_cut_off(now)
            && let Some(index) = run
                .suspects
                .iter()
                .position(|suspect| now >= self.quiet_at(suspect.node))
        {
            let Suspect { node, witness } = self.take_suspect(index);
            let reason = witness.map_or_else(
                || {
                    format!(
                        "the server has heard nothing from it for {} s",
                        self.config.link_silence.as_secs_f32()
                    )
                },
                |witness| {
                    let by = self.name_of(witness.node);
                    format!("neither {by} nor the server hears from it: {}", witness.reason)
                },
            );
            self.lose_or_await(now, node, &Reason::new(reason));
        }
    }

    fn take_suspect(&mut self, index: usize) -> Suspect {
        match &mut self.phase {
            Phase::Streaming(run) => run.suspects.remove(index),
            _ => Suspect {
                node: NodeId::SERVER,
                witness: None,
            },
        }
    }
}
