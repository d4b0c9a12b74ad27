//! A run's timers.

use super::{Duration, NodeId, Phase, Reason, Run, ToNode};

/// The machine is called at every ping at least. When a call comes this many pings late, the server itself was away
/// (stopped, swapped out), and what the nodes sent meanwhile is still unread.
const LATE_PINGS: u32 = 2;
/// Less is what a timer is late by anyway.
const LEAST_DELAY: Duration = Duration::from_millis(20);

impl Run {
    /// When [`Self::handle_timeout`] wants to be called; `None` only when all is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let phase = match &self.phase {
            // Between two rounds those that wait are still there.
            Phase::Over
                if self.ended
                    || self.claims.is_empty()
                        && self.members.values().all(|member| member.conn.is_none()) =>
            {
                return None;
            }
            Phase::Over => None,
            Phase::Gathering { until } => *until,
            Phase::Idle => None,
            Phase::Asking { deadline, .. } | Phase::Leaving { deadline } => Some(*deadline),
            Phase::Streaming(run) => Some(run.deadline()),
        };
        // Lost nodes are found at the next ping at the latest, so that a thousand nodes need no timer each.
        let due = [
            Some(self.next_ping),
            phase,
            self.suspects_due(),
            self.claims_due(),
        ];
        due.into_iter().flatten().min()
    }

    /// Every call passes here.
    pub(super) fn tick(&mut self, now: Duration) {
        if now >= self.last_call + self.config.heartbeat * (1 + LATE_PINGS) {
            self.awake_since = now;
        }
        self.last_call = self.last_call.max(now);
    }

    /// On a loaded machine the server itself is late, again and again, by less than what counts as being away. Time in which
    /// it did not look is no silence of anybody's.
    fn excuse_own_delay(&mut self, now: Duration) {
        let late = self
            .poll_timeout()
            .map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late >= LEAST_DELAY {
            for member in self.members.values_mut() {
                member.heard = (member.heard + late).min(now);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(due) = self.poll_timeout()
            && now >= due + self.config.silence / 2
        {
            // The server itself was away: what the nodes sent meanwhile is still unread.
            self.members.values_mut().for_each(|member| member.heard = now);
            self.excuse_still(now, now.saturating_sub(due));
        }
        self.excuse_own_delay(now);
        self.tick(now);
        self.judge_suspects(now);
        self.settle_claims(now);
        if now >= self.next_ping {
            self.next_ping = now + self.config.heartbeat;
            self.judge_paces(now);
            self.announce();
            self.ping(now);
        }
        match &self.phase {
            Phase::Gathering { until: Some(until) } if now >= *until => self.gather_timeout(now),
            Phase::Asking {
                stage,
                asked,
                deadline,
            } if now >= *deadline => {
                let (stage, asked) = (*stage, asked.clone());
                self.stage_timeout(now, stage, &asked);
            }
            Phase::Leaving { deadline } if now >= *deadline => self.leave_timeout(now),
            Phase::Streaming(run) if now >= run.deadline() => self.stream_timeout(now),
            _ => {}
        }
    }

    fn ping(&mut self, now: Duration) {
        let silence = if matches!(self.phase, Phase::Streaming(_)) {
            self.config.silence
        } else {
            self.config.idle_silence
        };
        let connected = self.members.values().filter(|member| member.conn.is_some());
        let (silent, alive): (Vec<_>, Vec<_>) = connected.partition(|member| now >= member.heard + silence);
        let silent: Vec<NodeId> = silent.into_iter().map(|member| member.info.id).collect();
        let alive: Vec<NodeId> = alive.into_iter().map(|member| member.info.id).collect();
        let number = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for node in alive {
            self.send(node, ToNode::Ping(number));
        }
        self.ping_lookers(now, number);
        for node in silent {
            let reason = format!("nothing heard from it for {} s", silence.as_secs_f32());
            self.lose_for_next_round(now, node, &Reason::new(reason));
        }
    }
}
