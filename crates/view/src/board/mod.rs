//! The state of a run at a moment, built from its events. The terminal view's screen and the plain view's
//! progress lines are made from it. Pure: times come with the events.

mod expected;
mod flow;
mod node;
mod rate;
mod session;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use expected::Expected;
pub(crate) use flow::Flow;
use node::NodeState;
pub(crate) use node::{Group, NodeLine, Trouble};
use session::{Last, Session};
pub(crate) use steps::StepTimes;

use ka_report::approval;
use ka_report::event::{NodeEvent, StepState};
use ka_report::run::{NodeProgress, NodeRef, RunEvent};
use ka_report::text::clock;

/// The state of a run, for views.
#[derive(Debug, Default)]
pub(crate) struct Board {
    phase: Phase,
    nodes: Vec<NodeLine>,
    expected: Expected,
    questions: Vec<Question>,
    /// Time since which the operator is asked to start.
    start_wanted: Option<Duration>,
    /// The reason why the golden node holds up the others.
    golden_slow: Option<String>,
    steps: StepTimes,
    /// True if the nodes make clones. Then more steps follow the data.
    makes_clones: bool,
}

/// The phase of the run as a whole.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing to show yet, or any more.
    #[default]
    Silent,
    /// The server waits for nodes.
    Gathering { present: usize, wanted: Option<u32> },
    /// The time between two rounds.
    Between {
        round: u32,
        waiting: usize,
        lost: usize,
        until: Duration,
    },
    /// The nodes partition and format their disks.
    Erasing,
    /// A session of the run.
    Session(Session),
    /// Every node has the stream of this session since that time.
    After { session: String, since: Duration },
    /// Clones come back from their own disks.
    Booting { seen: usize, all: usize },
}

/// A node that waits until the operator lets it in.
#[derive(Debug)]
pub(crate) struct Question {
    /// The number of the question.
    pub(crate) request: u64,
    /// The question itself, with the code that the node shows in front.
    pub(crate) text: String,
}

impl Board {
    /// Takes in an event that happened `at` this long after the run began.
    pub(crate) fn handle(&mut self, at: Duration, event: &RunEvent) {
        match event {
            RunEvent::Listening { wanted, .. } => self.gathering(0, *wanted),
            RunEvent::BootServing(serving) => self.expected.expect(&serving.machines),
            RunEvent::Machine { machine, news } => self.expected.seen(at, machine, news),
            RunEvent::LetsGo { nodes, .. } => self.order(nodes),
            RunEvent::SessionStarted {
                session,
                what,
                expected_bytes,
            } => {
                self.phase = Phase::Session(Session::new(session, what, at, *expected_bytes));
                self.golden_slow = None;
                self.nodes.iter_mut().for_each(NodeLine::begin);
            }
            RunEvent::Erasing { .. } => {
                self.makes_clones = true;
                self.phase = Phase::Erasing;
            }
            RunEvent::Progress {
                sent_bytes,
                content_bytes,
                nodes,
            } => self.progress(at, *sent_bytes, *content_bytes, nodes),
            RunEvent::SessionEnded { totals } => {
                let session = totals.name.clone();
                self.phase = Phase::After { session, since: at };
                self.golden_slow = None;
                self.nodes.iter_mut().for_each(NodeLine::end);
            }
            RunEvent::WaitingForBoots { nodes, .. } => self.phase = Phase::Booting { seen: 0, all: *nodes },
            RunEvent::Ended { .. } => {
                self.phase = Phase::Silent;
                self.questions.clear();
                self.start_wanted = None;
            }
            RunEvent::StartWanted => self.start_wanted = Some(at),
            RunEvent::StartGiven { .. } => self.start_wanted = None,
            RunEvent::RoundEnded {
                round,
                waiting,
                lost,
                secs,
            } => {
                self.start_wanted = None;
                let until = at + Duration::from_secs(*secs);
                let (round, waiting, lost) = (*round, *waiting, *lost);
                self.phase = Phase::Between {
                    round,
                    waiting,
                    lost,
                    until,
                };
            }
            RunEvent::ApprovalWanted { .. } | RunEvent::ApprovalSettled { .. } => self.question(event),
            other => self.of_node(at, other),
        }
    }

    /// Takes in an event about one node.
    fn of_node(&mut self, at: Duration, event: &RunEvent) {
        match event {
            RunEvent::NodeJoined {
                node,
                present,
                wanted,
            } => {
                self.gathering(*present, *wanted);
                self.expected.arrived(node);
                self.line(node).stands_at(NodeState::Waiting);
            }
            RunEvent::NodeQueued { node, round, .. } => {
                self.expected.arrived(node);
                self.line(node).stands_at(NodeState::Queued(*round));
            }
            RunEvent::NodePrepared { node, .. } => self.line(node).stands_at(NodeState::Ready),
            RunEvent::NodeStep { node, step } => self.step(node, step),
            RunEvent::SlowNode { node, slow, .. } => match node {
                Some(node) => self.line(node).suffers(Trouble::Slow(slow.text.clone())),
                None => self.golden_slow = Some(slow.text.clone()),
            },
            RunEvent::NodeAway { node, .. } => self.line(node).suffers(Trouble::Silent),
            RunEvent::NodeRejoined { node, .. } => self.line(node).suffers(Trouble::FedFromSpool),
            RunEvent::NodeFailed { node, stage, reason } => {
                let (stage, reason) = (stage.clone(), reason.clone());
                self.line(node).stands_at(NodeState::Failed { stage, reason });
            }
            RunEvent::NodeDone { node, .. } => {
                if let Phase::After { since, .. } = self.phase {
                    self.steps.finished(at.saturating_sub(since));
                }
                self.line(node).stands_at(NodeState::Done);
            }
            RunEvent::NodeBooted { node, .. } => {
                self.line(node).stands_at(NodeState::Booted);
                if let Phase::Booting { seen, .. } = &mut self.phase {
                    *seen += 1;
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, node: &NodeRef, step: &NodeEvent) {
        match step.state {
            StepState::Started => self.line(node).stands_at(NodeState::Working(step.step)),
            StepState::Done { took_ms } => self.steps.took(step.step, Duration::from_millis(took_ms)),
            StepState::News | StepState::Warning | StepState::Failed => {}
        }
    }

    fn progress(&mut self, at: Duration, sent_bytes: u64, content_bytes: u64, nodes: &[NodeProgress]) {
        for progress in nodes {
            if let Some(line) = self.nodes.iter_mut().find(|line| line.node.id == progress.id) {
                line.progress(at, progress);
            }
        }
        let last = self.last();
        if let Phase::Session(session) = &mut self.phase {
            session.progress(at, (sent_bytes, content_bytes), last);
        }
    }

    fn question(&mut self, event: &RunEvent) {
        if let RunEvent::ApprovalSettled { request } = event {
            self.questions.retain(|question| question.request != *request);
        } else if let RunEvent::ApprovalWanted {
            request,
            name,
            addr,
            mac,
            code,
            ..
        } = event
        {
            let text = approval::applicant(code, name, addr, mac.as_deref());
            self.questions.push(Question {
                request: *request,
                text,
            });
        }
    }

    /// Returns the nodes in chain order.
    pub(crate) fn nodes(&self) -> &[NodeLine] {
        &self.nodes
    }

    /// Returns the questions that wait for the operator, oldest first.
    pub(crate) fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Returns how long the operator has been asked to start. `None` if nobody is asked.
    pub(crate) fn start_wanted_for(&self, at: Duration) -> Option<Duration> {
        self.start_wanted.map(|since| at.saturating_sub(since))
    }

    /// True if the operator is asked something, and may be typing.
    pub(crate) fn asks(&self) -> bool {
        self.start_wanted.is_some() || !self.questions.is_empty()
    }

    /// Returns the machines that are expected.
    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Returns the times that steps usually take.
    pub(crate) fn step_times(&self) -> &StepTimes {
        &self.steps
    }

    /// Returns the reason why the golden node holds up the others, if it does.
    pub(crate) fn golden_slowness(&self) -> Option<&str> {
        self.golden_slow.as_deref()
    }

    /// True if data flows.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(&self.phase, Phase::Session(session) if session.has_begun())
    }

    /// Returns the number of nodes in each group, with the machines that are missing.
    pub(crate) fn counts(&self) -> BTreeMap<Group, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(node.group()).or_default() += 1;
        }
        match self.missing() {
            0 => {}
            missing => drop(counts.insert(Group::Missing, missing)),
        }
        counts
    }

    /// Returns the number of machines that are not here. With a node list it counts the machines of the list;
    /// otherwise it is the rest of the number waited for.
    pub(crate) fn missing(&self) -> usize {
        let of_number = match &self.phase {
            Phase::Gathering { present, wanted } => wanted.map(|wanted| {
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                wanted.saturating_sub(*present)
            }),
            _ => None,
        };
        self.expected.missing().max(of_number.unwrap_or(0))
    }

    /// Returns the current phase in a few words. `None` if there is nothing to show.
    pub(crate) fn headline(&self, at: Duration) -> Option<String> {
        Some(match &self.phase {
            Phase::Session(session) => session.title(),
            Phase::Erasing => "partitioning and formatting".to_owned(),
            Phase::Between {
                round,
                waiting,
                lost,
                until,
            } => {
                let next = round + 1;
                let left = clock(until.saturating_sub(at));
                match lost {
                    0 => format!("round {next} begins: {waiting} ready for it"),
                    lost => {
                        format!(
                            "round {next} in {left} at most: {waiting} ready for it, {lost} may come back"
                        )
                    }
                }
            }
            Phase::After { session, .. } => {
                let settled = self.nodes.iter().filter(|node| node.is_settled()).count();
                format!(
                    "finishing: {settled} of {} ({session} is through)",
                    self.nodes.len()
                )
            }
            _ => return self.total(at),
        })
    }

    /// Returns the figures of the current phase, if there are some.
    pub(crate) fn flow(&self, at: Duration) -> Option<Flow> {
        let usual = self.steps.usual_finishing();
        match &self.phase {
            Phase::Session(session) => {
                let mut flow = session.flow(at, self.last())?;
                if self.makes_clones {
                    flow.is_of_data = usual.is_none();
                    flow.left = flow.left.map(|left| left + usual.unwrap_or_default());
                }
                Some(flow)
            }
            Phase::After { since, .. } if self.nodes.iter().any(NodeLine::is_running) => {
                let elapsed = at.saturating_sub(*since);
                Some(Flow {
                    percent: None,
                    left: usual.map(|usual| usual.saturating_sub(elapsed)),
                    is_of_data: false,
                    elapsed,
                    per_second: None,
                    bytes: None,
                })
            }
            _ => None,
        }
    }

    /// Returns one line about the whole run for a log: phase, bytes, rate, time left. `None` if there is
    /// nothing to show.
    pub(crate) fn total(&self, at: Duration) -> Option<String> {
        match &self.phase {
            Phase::Silent => None,
            Phase::Gathering { present, wanted } => {
                let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
                Some(format!("waiting for nodes: {present}{of} present"))
            }
            Phase::Between { .. } | Phase::Erasing => self.headline(at),
            Phase::Session(session) => Some(session.text(at, self.last())),
            Phase::Booting { seen, all } => Some(format!("first boots: {seen} of {all} clones are back")),
            Phase::After { session, .. } => Some(format!("{session} is through, the nodes go on")),
        }
    }

    /// Returns the node for which all others wait at the end of the stream.
    fn last(&self) -> Option<Last> {
        let behind = self.last_node()?;
        Some(Last {
            written_bytes: behind.written_bytes(),
            per_second: behind.per_second(),
        })
    }

    fn running(&self) -> impl Iterator<Item = &NodeLine> {
        self.nodes.iter().filter(|line| line.is_running())
    }

    fn last_node(&self) -> Option<&NodeLine> {
        self.running().min_by_key(|line| line.written_bytes())
    }

    /// Returns the node that is furthest behind, if it is clearly behind the first one: by a twentieth of the
    /// first one's data.
    pub(crate) fn straggler(&self) -> Option<&NodeLine> {
        let first = self.running().map(NodeLine::written_bytes).max()?;
        let last = self.last_node().filter(|_| self.is_streaming())?;
        let behind = first.saturating_sub(last.written_bytes());
        (behind > first / 20).then_some(last)
    }

    /// Returns the node that holds up the others, if one was named. Otherwise returns the node that is
    /// furthest behind in the running stream.
    pub(crate) fn slowest(&self) -> Option<&NodeLine> {
        let slow = self.running().find(|line| line.slowness().is_some());
        slow.or_else(|| self.last_node())
    }

    fn gathering(&mut self, present: usize, wanted: Option<u32>) {
        self.phase = Phase::Gathering { present, wanted };
    }

    fn order(&mut self, nodes: &[NodeRef]) {
        self.phase = Phase::Silent;
        for node in nodes {
            self.expected.arrived(node);
            self.line(node).stands_at(NodeState::Waiting);
        }
        // A node that left before the start is not part of the run.
        let is_part = |line: &NodeLine| {
            line.is_settled()
                || line.group() == Group::Queued
                || nodes.iter().any(|node| node.id == line.node.id)
        };
        self.nodes.retain(is_part);
        self.nodes.sort_by_key(|line| line.node.position);
    }

    /// Returns the line of a node. A machine that was lost and comes back has one line, whatever number it
    /// has now.
    fn line(&mut self, node: &NodeRef) -> &mut NodeLine {
        let find = |known: &dyn Fn(&NodeLine) -> bool| self.nodes.iter().position(known);
        let known = find(&|line| line.node.id == node.id).or_else(|| find(&|line| line.comes_again_as(node)));
        let index = known.unwrap_or_else(|| {
            self.nodes.push(NodeLine::new(node.clone()));
            self.nodes.len() - 1
        });
        let line = &mut self.nodes[index];
        if line.node != *node {
            line.node = node.clone();
        }
        line
    }
}
