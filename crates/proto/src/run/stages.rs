//! Stages in which every node is asked one question: prepare, go, report. Also the ways out of the run.

use super::member::{Member, MemberState};
use super::{
    Duration, Failure, NodeId, NodeInfo, Payload, Phase, Reason, Run, RunError, RunEvent, RunResult, Stage,
    StreamId, ToNode,
};

impl Run {
    /// Asks every node to plan and check. Ends with [`RunResult::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, or if no node is left.
    pub fn prepare(&mut self, now: Duration, payload: Payload) -> Result<(), RunError> {
        let timeout = self.config.timeouts.prepare;
        self.ask(now, "prepare", Stage::Prepare, &ToNode::Prepare(payload), timeout)
    }

    /// Asks every node to prepare its disks. Ends with [`RunResult::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, or if no node is left.
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
        asked.retain(|node| self.roster.get(*node).is_some_and(Member::is_free));
        if asked.is_empty() {
            return Err(RunError::NobodyLeft);
        }
        self.put(now, stage, question, asked, timeout);
        Ok(())
    }

    /// Sends a question to these nodes.
    fn put(&mut self, now: Duration, stage: Stage, question: &ToNode, asked: Vec<NodeId>, timeout: Duration) {
        for &node in &asked {
            self.roster.set_state(node, MemberState::Asked);
            self.send(node, question.clone());
        }
        self.phase = Phase::Asking {
            stage,
            asked,
            deadline: now + timeout,
        };
    }

    /// Tells every node whose report is here, and that was not refused ([`Self::reject`]), to make its clone
    /// bootable. Ends with [`RunResult::StageDone`]. A node that does not answer has failed.
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, or if no node is left.
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

    /// Rejects the clone of this node. The node gets the reason, undoes its work, and is out. With `again` it
    /// may begin anew in the next round.
    pub fn reject(&mut self, now: Duration, node: NodeId, reason: &Reason, again: bool) {
        if !self.awaits_verdict(node) {
            return;
        }
        let failure = Failure {
            stage: Stage::Report,
            reason: reason.clone(),
            again: again && self.rounds.has_next(),
        };
        self.fail(node, failure);
        self.dismiss(node, reason.clone());
        self.after_failure(now);
    }

    fn awaits_verdict(&self, node: NodeId) -> bool {
        let state = self.roster.get(node).map(|member| &member.state);
        matches!(
            state,
            Some(MemberState::Reported {
                committed: false,
                released: false,
                ..
            })
        )
    }

    /// Waits for every node's report, many of which may be here already. Ends with [`RunResult::StageDone`].
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, or if no node is left.
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

    /// Returns the nodes that a command goes to.
    pub(super) fn ready_for(&self, command: &'static str) -> Result<Vec<NodeId>, RunError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(RunError::WrongPhase { command });
        }
        let active = self.roster.active();
        if active.is_empty() {
            Err(RunError::NobodyLeft)
        } else {
            Ok(active)
        }
    }

    pub(super) fn handle_answer(&mut self, now: Duration, node: NodeId, answered: Stage, payload: Payload) {
        let asked = matches!(&self.phase, Phase::Asking { stage, .. } if *stage == answered)
            && self
                .roster
                .get(node)
                .is_some_and(|member| matches!(member.state, MemberState::Asked));
        if !asked {
            self.lose(
                now,
                node,
                &Reason::new("it sent an answer that the server had not asked for"),
            );
            return;
        }
        self.roster.set_state(node, MemberState::Answered(payload));
        self.finish_stage();
    }

    /// Handles a report. It may come as soon as the node has finished, before it is asked for.
    pub(super) fn handle_report(&mut self, now: Duration, node: NodeId, report: Payload) {
        let waiting = self
            .roster
            .get(node)
            .filter(|member| matches!(member.state, MemberState::Waiting));
        let in_time = match &self.phase {
            Phase::Idle
            | Phase::Asking {
                stage: Stage::Report, ..
            } => true,
            Phase::Streaming(stream) => stream.is_done(node),
            _ => false,
        };
        let in_time = in_time || self.roster.get(node).is_some_and(|member| member.holds_clone);
        let Some(info) = waiting.filter(|_| in_time).map(|member| member.info.clone()) else {
            self.lose(now, node, &Reason::new("it reported before it was finished"));
            return;
        };
        self.roster.set_state(
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

    /// Releases the nodes that need not wait for [`Self::release`], as soon as no other node needs them as a
    /// relay.
    pub(super) fn release_the_reported(&mut self) {
        if self.config.hold_release || self.config.commits || matches!(self.phase, Phase::Streaming(_)) {
            return;
        }
        let mut going = Vec::new();
        for member in self.roster.members_mut().filter(|member| !member.wants_release) {
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
        let is_relay = matches!(&self.phase, Phase::Streaming(stream) if stream.is_relay(node, stage));
        if !is_relay {
            self.dismiss(node, reason);
            self.leave_chain(now, node);
        }
        self.after_failure(now);
    }

    /// Handles that the stream cannot be completed at a node. If the stream's end was refused, an earlier
    /// complaint of the node was no fault of its own either: records that make no sense, a block that does
    /// not decrypt.
    pub(super) fn handle_stream_failed(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        reason: &Reason,
        unproved: bool,
    ) {
        self.accuse_those_above(node);
        let running = matches!(&self.phase, Phase::Streaming(running) if running.id() == stream);
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

    /// Removes a node that is gone or must go, and is not wanted back. Its connection is closed, and its
    /// neighbours in the stream get new links.
    pub(super) fn lose(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        self.give_up(now, node, reason, false);
    }

    /// Removes a node as [`Self::lose`] does, but through no fault of its own. It is slow, or the data that
    /// it misses is retained nowhere any more, or it vanished and may be back. It is told to join again, and
    /// the next round waits a while for it.
    pub(super) fn lose_for_next_round(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        self.give_up(now, node, reason, self.rounds.has_next());
    }

    fn give_up(&mut self, now: Duration, node: NodeId, reason: &Reason, again: bool) {
        let queued = self.roster.get(node).is_some_and(Member::is_queued);
        if queued || matches!(self.phase, Phase::Gathering { .. }) {
            self.dismiss(node, reason.clone());
            self.leave_gathering(node, reason.clone());
            return;
        }
        let stage = self.stage();
        // The clone of a node that has reported is finished. If the node goes before it is released, that is
        // no failure, unless the clone waits for its verdict. The node holds the clone, and comes back with
        // it.
        let commits = self.config.commits;
        if let Some(MemberState::Reported {
            released, committed, ..
        }) = self.state_mut(node)
            && (*committed || !commits)
        {
            *released = true;
        } else {
            let reason = match self.roster.get(node).map(|member| &member.state) {
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
        let Some(member) = self.roster.get_mut(node).filter(|member| member.is_active()) else {
            return;
        };
        member.state = MemberState::Failed(failure.clone());
        let node = member.info.clone();
        self.event(RunEvent::NodeFailed { node, failure });
    }

    pub(super) fn dismiss(&mut self, node: NodeId, reason: Reason) {
        if !self.roster.is_released(node) {
            let failure = self.roster.get(node).and_then(Member::failure);
            let again = failure.is_some_and(|failure| failure.again);
            self.send(node, ToNode::Abort { reason, again });
        }
        self.close(node);
    }

    fn state_mut(&mut self, node: NodeId) -> Option<&mut MemberState> {
        self.roster.get_mut(node).map(|member| &mut member.state)
    }

    fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Gathering { .. } => Stage::Gather,
            Phase::Asking { stage, .. } => *stage,
            Phase::Streaming(stream) => Stage::Stream(stream.id()),
            Phase::Leaving { .. } | Phase::Over => Stage::Release,
            Phase::Idle if self.rounds.has_streamed() => Stage::Report,
            Phase::Idle => Stage::Prepare,
        }
    }

    /// Ends the stage if no answer is missing.
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
            if stage != Stage::Report && self.roster.get(node).is_some_and(Member::is_active) {
                self.roster.set_state(node, answered(stage));
            }
        }
        self.phase = Phase::Idle;
        self.result(RunResult::StageDone { stage, outcomes });
    }

    fn outcome(&self, node: NodeId, stage: Stage) -> Option<(NodeInfo, Result<Payload, Failure>)> {
        let member = self.roster.get(node)?;
        let outcome = match &member.state {
            MemberState::Failed(failure) => Err(failure.clone()),
            MemberState::Reported { report, .. } if stage == Stage::Report => Ok(report.clone()),
            MemberState::Answered(payload) if stage != Stage::Report => Ok(payload.clone()),
            _ => return None,
        };
        Some((member.info.clone(), outcome))
    }

    /// Ends a stage that took too long. Nodes that did not answer are out. They are listed first, because the
    /// loss of the last of them ends the stage and with it the answers of the others.
    pub(super) fn stage_timeout(&mut self, now: Duration, stage: Stage, asked: &[NodeId]) {
        let missing = asked.iter().filter(|node| self.outcome(**node, stage).is_none());
        for node in missing.copied().collect::<Vec<_>>() {
            self.lose(now, node, &Reason::new("no answer in the time for this stage"));
        }
    }

    /// Releases every node that has reported, `stagger` apart in their order. Ends with [`RunResult::Over`].
    ///
    /// # Errors
    /// [`RunError::WrongPhase`] while another command is under way.
    pub fn release(&mut self, now: Duration, stagger: Duration) -> Result<(), RunError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(RunError::WrongPhase { command: "release" });
        }
        let mut delay = Duration::ZERO;
        for node in self.roster.active() {
            let Some(member) = self.roster.get_mut(node) else {
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
        let connected = self.roster.in_round().any(|member| member.conn.is_some());
        if matches!(self.phase, Phase::Leaving { .. }) && !connected {
            self.be_over(now);
        }
    }

    /// Closes the connections that nodes did not close in time.
    pub(super) fn leave_timeout(&mut self, now: Duration) {
        let nodes: Vec<NodeId> = self.roster.in_round().map(|member| member.info.id).collect();
        for node in nodes {
            if self.roster.is_released(node)
                && self.roster.get(node).is_some_and(|member| member.conn.is_some())
            {
                self.event(RunEvent::NodeGone { node });
            }
            self.close(node);
        }
        self.finish_leaving(now);
    }
}

/// Returns the state of a node that has answered the question of this stage.
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
