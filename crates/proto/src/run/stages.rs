//! Stages in which every node is asked one thing: prepare, go, report; and the ways out of the run.

use super::member::MemberState;
use super::{
    Duration, Failure, NodeId, NodeInfo, Payload, Phase, Reason, Run, RunError, RunEvent, Stage, StreamId,
    ToNode,
};

impl Run {
    /// Asks every node to plan and check; ends with [`RunEvent::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] when something else is going on or nobody is left.
    pub fn prepare(&mut self, now: Duration, payload: Payload) -> Result<(), RunError> {
        let timeout = self.config.timeouts.prepare;
        self.ask(now, "prepare", Stage::Prepare, &ToNode::Prepare(payload), timeout)
    }

    /// Asks every node to prepare its disks; ends with [`RunEvent::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] when something else is going on or nobody is left.
    pub fn go(&mut self, now: Duration) -> Result<(), RunError> {
        let timeout = self.config.timeouts.go;
        self.ask(now, "go", Stage::Go, &ToNode::Go, timeout)
    }

    fn ask(
        &mut self,
        now: Duration,
        command: &'static str,
        stage: Stage,
        question: &ToNode,
        timeout: Duration,
    ) -> Result<(), RunError> {
        let mut asked = self.ready_for(command)?;
        asked.retain(|node| {
            self.members
                .get(node)
                .is_some_and(|member| !member.holds_clone && matches!(member.state, MemberState::Waiting))
        });
        if asked.is_empty() {
            return Err(RunError::NobodyLeft);
        }
        self.put(now, stage, question, asked, timeout);
        Ok(())
    }

    /// Asks these nodes.
    fn put(&mut self, now: Duration, stage: Stage, question: &ToNode, asked: Vec<NodeId>, timeout: Duration) {
        for &node in &asked {
            self.set_state(node, MemberState::Asked);
            self.send(node, question.clone());
        }
        self.phase = Phase::Asking {
            stage,
            asked,
            deadline: now + timeout,
        };
    }

    /// Tells every node whose report is here, and that was not refused ([`Self::reject`]), to make its clone bootable; ends
    /// with [`RunEvent::StageDone`]. Whoever does not answer has failed.
    ///
    /// # Errors
    /// [`RunError`] when something else is going on or nobody is left.
    pub fn commit(&mut self, now: Duration) -> Result<(), RunError> {
        let mut asked = self.ready_for("commit")?;
        asked.retain(|node| self.awaits_verdict(*node));
        if asked.is_empty() {
            return Err(RunError::NobodyLeft);
        }
        let timeout = self.config.timeouts.go;
        self.put(now, Stage::Commit, &ToNode::Commit, asked, timeout);
        Ok(())
    }

    /// The clone of this node is no good: it is told why, undoes what it did, and is out. `again`: it may begin anew in the
    /// next round.
    pub fn reject(&mut self, now: Duration, node: NodeId, reason: &Reason, again: bool) {
        if !self.awaits_verdict(node) {
            return;
        }
        let failure = Failure {
            stage: Stage::Report,
            reason: reason.clone(),
            again: again && self.config.round < self.config.rounds,
        };
        self.fail(node, failure);
        self.dismiss(node, reason.clone());
        self.after_failure(now);
    }

    fn awaits_verdict(&self, node: NodeId) -> bool {
        let state = self.members.get(&node).map(|member| &member.state);
        matches!(
            state,
            Some(MemberState::Reported {
                committed: false,
                released: false,
                ..
            })
        )
    }

    /// Waits for every node's report, many of which may be here already; ends with [`RunEvent::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] when something else is going on or nobody is left.
    pub fn collect_reports(&mut self, now: Duration) -> Result<(), RunError> {
        let asked = self.ready_for("collect_reports")?;
        for &node in &asked {
            if self.outcome(node, Stage::Report).is_none() {
                self.send(node, ToNode::Finish);
            }
        }
        self.phase = Phase::Asking {
            stage: Stage::Report,
            asked,
            deadline: now + self.config.timeouts.report,
        };
        self.finish_stage();
        Ok(())
    }

    /// The nodes that a command goes to.
    pub(super) fn ready_for(&self, command: &'static str) -> Result<Vec<NodeId>, RunError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(RunError::WrongPhase { command });
        }
        let active = self.active();
        if active.is_empty() {
            Err(RunError::NobodyLeft)
        } else {
            Ok(active)
        }
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: MemberState) {
        if let Some(old) = self.state_mut(node) {
            *old = state;
        }
    }

    pub(super) fn handle_answer(&mut self, now: Duration, node: NodeId, answered: Stage, payload: Payload) {
        let asked = matches!(&self.phase, Phase::Asking { stage, .. } if *stage == answered)
            && self
                .members
                .get(&node)
                .is_some_and(|member| matches!(member.state, MemberState::Asked));
        if !asked {
            self.lose(now, node, &Reason::new("it answered what it was not asked"));
            return;
        }
        self.set_state(node, MemberState::Answered(payload));
        self.finish_stage();
    }

    /// A report may come as soon as the node is through, before it is asked for.
    pub(super) fn handle_report(&mut self, now: Duration, node: NodeId, report: Payload) {
        let waiting = self
            .members
            .get(&node)
            .filter(|member| matches!(member.state, MemberState::Waiting));
        let in_time = match &self.phase {
            Phase::Idle
            | Phase::Asking {
                stage: Stage::Report, ..
            } => true,
            Phase::Streaming(run) => run.is_done(node),
            _ => false,
        };
        let in_time = in_time || self.members.get(&node).is_some_and(|member| member.holds_clone);
        let Some(info) = waiting.filter(|_| in_time).map(|member| member.info.clone()) else {
            self.lose(now, node, &Reason::new("it reported before it was finished"));
            return;
        };
        self.set_state(
            node,
            MemberState::Reported {
                report: report.clone(),
                committed: false,
                released: false,
            },
        );
        self.event(RunEvent::NodeReported { node: info, report });
        self.release_the_reported();
        self.finish_stage();
    }

    /// Those that need not wait for [`Self::release`] go as soon as nobody needs them as a relay.
    pub(super) fn release_the_reported(&mut self) {
        if self.config.hold_release || self.config.commits || matches!(self.phase, Phase::Streaming(_)) {
            return;
        }
        let mut going = Vec::new();
        for member in self.members.values_mut().filter(|member| !member.wants_release) {
            if let MemberState::Reported {
                released: released @ false,
                ..
            } = &mut member.state
            {
                *released = true;
                going.push(member.info.id);
            }
        }
        for node in going {
            self.send(node, ToNode::Release { delay_ms: 0 });
        }
    }

    pub(super) fn handle_step_failed(&mut self, now: Duration, node: NodeId, stage: Stage, reason: Reason) {
        if matches!(self.phase, Phase::Gathering { .. }) {
            self.lose(now, node, &reason);
            return;
        }
        self.fail(
            node,
            Failure {
                stage,
                reason: reason.clone(),
                again: false,
            },
        );
        if !self.is_relay(node, stage) {
            self.dismiss(node, reason);
            self.leave_chain(now, node);
        }
        self.after_failure(now);
    }

    /// The stream cannot be completed at a node. Where its end was refused, what the node said of it before was through no fault
    /// of its own either: records that make no sense, a block that does not decrypt.
    pub(super) fn handle_stream_failed(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        reason: &Reason,
        unproved: bool,
    ) {
        self.accuse_those_above(node);
        let running = matches!(&self.phase, Phase::Streaming(run) if run.stream() == stream);
        if !(unproved && running) {
            return self.lose_for_next_round(now, node, reason);
        }
        let reason = Reason::new(format!("the stream was not proved: {reason}"));
        if let Some(state) = self.state_mut(node)
            && matches!(state, MemberState::Failed(failure) if failure.stage == Stage::Stream(stream))
        {
            *state = MemberState::Waiting;
        }
        self.lose_for_next_round(now, node, &reason);
    }

    /// A node is gone or must go, and is not wanted back: its connection is closed, and its neighbours in the stream
    /// are seen to.
    pub(super) fn lose(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        self.give_up(now, node, reason, false);
    }

    /// As [`Self::lose`], but through no fault of its own: it is slow, or what it misses is retained nowhere any more,
    /// or it vanished and may be back. It is told to join again, and the next round waits a while for it.
    pub(super) fn lose_for_next_round(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        self.give_up(now, node, reason, self.config.round < self.config.rounds);
    }

    fn give_up(&mut self, now: Duration, node: NodeId, reason: &Reason, again: bool) {
        let queued = self.members.get(&node).is_some_and(super::Member::is_queued);
        if queued || matches!(self.phase, Phase::Gathering { .. }) {
            self.dismiss(node, reason.clone());
            self.leave_gathering(node, reason.clone());
            return;
        }
        let stage = self.stage();
        // The clone of a node that has reported is finished: that it goes before it is released is no failure, unless the
        // clone waits for its verdict. The node holds it, and comes back with it.
        let commits = self.config.commits;
        if let Some(MemberState::Reported {
            released, committed, ..
        }) = self.state_mut(node)
            && (*committed || !commits)
        {
            *released = true;
        } else {
            let reason = match self.members.get(&node).map(|member| &member.state) {
                Some(MemberState::Reported { .. }) => Reason::new(format!(
                    "{reason}; its clone is complete, and it may come back with it"
                )),
                _ => reason.clone(),
            };
            self.fail(node, Failure { stage, reason, again });
        }
        self.dismiss(node, reason.clone());
        self.leave_chain(now, node);
        self.after_failure(now);
    }

    fn after_failure(&mut self, now: Duration) {
        self.finish_stage();
        self.finish_stream();
        self.finish_leaving(now);
    }

    pub(super) fn fail(&mut self, node: NodeId, failure: Failure) {
        let Some(member) = self.members.get_mut(&node).filter(|member| member.is_active()) else {
            return;
        };
        member.state = MemberState::Failed(failure.clone());
        let node = member.info.clone();
        self.event(RunEvent::NodeFailed { node, failure });
    }

    pub(super) fn dismiss(&mut self, node: NodeId, reason: Reason) {
        if !self.is_released(node) {
            let failure = self.members.get(&node).and_then(super::Member::failure);
            let again = failure.is_some_and(|failure| failure.again);
            self.send(node, ToNode::Abort { reason, again });
        }
        self.close(node);
    }

    fn state_mut(&mut self, node: NodeId) -> Option<&mut MemberState> {
        self.members.get_mut(&node).map(|member| &mut member.state)
    }

    pub(super) fn is_released(&self, node: NodeId) -> bool {
        self.members
            .get(&node)
            .is_some_and(|member| matches!(member.state, MemberState::Reported { released: true, .. }))
    }

    fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Gathering { .. } => Stage::Gather,
            Phase::Asking { stage, .. } => *stage,
            Phase::Streaming(run) => Stage::Stream(run.stream()),
            Phase::Leaving { .. } | Phase::Over => Stage::Release,
            Phase::Idle if self.streams_opened > 0 => Stage::Report,
            Phase::Idle => Stage::Prepare,
        }
    }

    /// Ends the stage when nobody's answer is missing.
    pub(super) fn finish_stage(&mut self) {
        let Phase::Asking { stage, asked, .. } = &self.phase else {
            return;
        };
        let (stage, asked) = (*stage, asked.clone());
        let missing = |node: &NodeId| self.outcome(*node, stage).is_none();
        if asked.iter().any(missing) {
            return;
        }
        let outcomes = asked
            .iter()
            .filter_map(|node| self.outcome(*node, stage))
            .collect();
        for node in asked {
            if stage != Stage::Report && self.members.get(&node).is_some_and(super::Member::is_active) {
                self.set_state(node, answered(stage));
            }
        }
        self.phase = Phase::Idle;
        self.event(RunEvent::StageDone { stage, outcomes });
    }

    fn outcome(&self, node: NodeId, stage: Stage) -> Option<(NodeInfo, Result<Payload, Failure>)> {
        let member = self.members.get(&node)?;
        let outcome = match &member.state {
            MemberState::Failed(failure) => Err(failure.clone()),
            MemberState::Reported { report, .. } if stage == Stage::Report => Ok(report.clone()),
            MemberState::Answered(payload) if stage != Stage::Report => Ok(payload.clone()),
            _ => return None,
        };
        Some((member.info.clone(), outcome))
    }

    /// The stage took too long: those that did not answer are out. They are listed first, because the loss of the
    /// last of them ends the stage and with it the answers of the others.
    pub(super) fn stage_timeout(&mut self, now: Duration, stage: Stage, asked: &[NodeId]) {
        let missing = asked.iter().filter(|node| self.outcome(**node, stage).is_none());
        for node in missing.copied().collect::<Vec<_>>() {
            self.lose(now, node, &Reason::new("no answer in the time for this stage"));
        }
    }

    /// Lets every node go that has reported, `stagger` apart in their order; ends with [`RunEvent::Over`].
    ///
    /// # Errors
    /// [`RunError::WrongPhase`] when something else is going on.
    pub fn release(&mut self, now: Duration, stagger: Duration) -> Result<(), RunError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(RunError::WrongPhase { command: "release" });
        }
        let mut delay = Duration::ZERO;
        for node in self.active() {
            let Some(member) = self.members.get_mut(&node) else {
                continue;
            };
            match &mut member.state {
                MemberState::Reported { released: true, .. } => {}
                MemberState::Reported { released, .. } => {
                    *released = true;
                    let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
                    delay += stagger;
                    self.send(node, ToNode::Release { delay_ms });
                }
                _ => self.lose(now, node, &Reason::new("the run ended before its report came")),
            }
        }
        self.phase = Phase::Leaving {
            deadline: now + self.config.timeouts.leave,
        };
        self.finish_leaving(now);
        Ok(())
    }

    pub(super) fn finish_leaving(&mut self, now: Duration) {
        let mut in_round = self.members.values().filter(|member| !member.is_queued());
        let connected = in_round.any(|member| member.conn.is_some());
        if matches!(self.phase, Phase::Leaving { .. }) && !connected {
            self.be_over(now);
        }
    }

    /// Whoever did not close in time is closed.
    pub(super) fn leave_timeout(&mut self, now: Duration) {
        let nodes: Vec<NodeId> = self.in_round().collect();
        for node in nodes {
            if self.is_released(node)
                && self
                    .members
                    .get(&node)
                    .is_some_and(|member| member.conn.is_some())
            {
                self.event(RunEvent::NodeGone { node });
            }
            self.close(node);
        }
        self.finish_leaving(now);
    }
}

/// What a node is after it has answered.
fn answered(stage: Stage) -> MemberState {
    match stage {
        Stage::Commit => MemberState::Reported {
            report: Payload::default(),
            committed: true,
            released: false,
        },
        _ => MemberState::Waiting,
    }
}
