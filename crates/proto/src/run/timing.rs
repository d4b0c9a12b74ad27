//! A run's timers.

use super::{Duration, NodeId, Phase, Reason, Run};

/// Number of pings by which a late call shows that the server itself was away (stopped, swapped out). The
/// machine is called at every ping at least. Messages of the nodes from that time are still unread.
const LATE_PINGS: u32 = 2;
/// Least delay that counts. Any timer may be late by less.
const LEAST_DELAY: Duration = Duration::from_millis(20);

impl Run {
    /// Returns the time at which [`Self::handle_timeout`] must be called. `None` only if all is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let phase = match &self.phase {
            // Between two rounds the waiting nodes are still there.
            Phase::Over
                if self.rounds.has_ended()
                    || self.claims.is_empty() && self.roster.connected().next().is_none() =>
            {
                return None;
            }
            Phase::Over => None,
            Phase::Gathering { until } => *until,
            Phase::Idle => None,
            Phase::Asking { deadline, .. } | Phase::Leaving { deadline } => Some(*deadline),
            Phase::Streaming(stream) => Some(stream.look_at()),
        };
        // Lost nodes are found at the next ping at the latest, so that a thousand nodes need no timer each.
        let due = [
            Some(self.next_ping),
            phase,
            self.suspects_due(),
            self.claims.due(),
            self.leavers_due(),
        ];
        due.into_iter().flatten().min()
    }

    /// Takes in the time of a call. Every call passes here.
    pub(super) fn tick(&mut self, now: Duration) {
        if now >= self.last_call + self.config.heartbeat * (1 + LATE_PINGS) {
            self.awake_since = now;
        }
        self.last_call = self.last_call.max(now);
    }

    /// Excuses the server's own delay. On a loaded machine the server is late again and again, by less than
    /// what counts as being away. No node was silent while the server did not look.
    fn excuse_own_delay(&mut self, now: Duration) {
        let late = self
            .poll_timeout()
            .map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late >= LEAST_DELAY {
            for member in self.roster.members_mut() {
                member.heard = (member.heard + late).min(now);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(due) = self.poll_timeout()
            && now >= due + self.config.silence / 2
        {
            // The server itself was away, so messages of the nodes from that time are still unread.
            self.roster.members_mut().for_each(|member| member.heard = now);
            if let Phase::Streaming(stream) = &mut self.phase {
                stream.excuse(now, now.saturating_sub(due));
            }
        }
        self.excuse_own_delay(now);
        self.tick(now);
        self.judge_suspects(now);
        self.settle_claims(now);
        self.tell_leavers(now);
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
            Phase::Streaming(stream) if now >= stream.look_at() => self.stream_timeout(now),
            _ => {}
        }
    }

    fn ping(&mut self, now: Duration) {
        let silence = if matches!(self.phase, Phase::Streaming(_)) {
            self.config.silence
        } else {
            self.config.idle_silence
        };
        let connected = self.roster.connected();
        let (silent, alive): (Vec<_>, Vec<_>) = connected.partition(|member| now >= member.heard + silence);
        let silent: Vec<NodeId> = silent.into_iter().map(|member| member.info.id).collect();
        let alive: Vec<NodeId> = alive.into_iter().map(|member| member.info.id).collect();
        let number = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for node in alive {
            self.ping_node(now, node);
        }
        self.ping_lookers(now, number);
        for node in silent {
            let reason = format!("nothing heard from it for {} s", silence.as_secs_f32());
            self.lose_for_next_round(now, node, &Reason::new(reason));
        }
    }
}
