//! The facade's call that waits: one at a time, answered when the machine says that its stage has ended.

use crossbeam_channel::Sender;
use ka_proto::run::NodeInfo;

use super::messages::{Reply, Reported};
use super::types::{Answers, Endings};
use crate::error::TransportError;

/// A call of the facade and where its answer goes.
#[derive(Debug)]
pub(super) enum Call {
    Gather(Reply<Vec<NodeInfo>>),
    Prepare(Reply<Answers>),
    Go(Reply<Endings>),
    Reports {
        /// The way of each report as it comes.
        each: Sender<Reported>,
        reply: Reply<Answers>,
    },
    Commit(Reply<Endings>),
    Release(Reply<()>),
}

/// The call that waits, and the reports that came before they were asked for. A reply is never refused: its
/// caller waits, or has gone and needs none.
#[derive(Debug, Default)]
pub(super) struct PendingCall {
    waiting: Option<Call>,
    /// The nodes of this round, or the reason why there are none.
    gathered: Option<Result<Vec<NodeInfo>, &'static str>>,
    /// Reports of this round that were not asked for yet.
    reported: Vec<Reported>,
}

impl PendingCall {
    /// Remembers the caller that waits, or reports at once why the call is not possible.
    pub(super) fn begin<T>(
        &mut self,
        result: Result<(), TransportError>,
        reply: Reply<T>,
        call: impl FnOnce(Reply<T>) -> Call,
    ) {
        match result {
            Ok(()) => {
                self.waiting = Some(call(reply));
                self.pass_on_reports();
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Waits for the nodes of this round, unless they are known; `over` is the reason why the round is over.
    pub(super) fn gather(&mut self, reply: Reply<Vec<NodeInfo>>, over: Option<&str>) {
        self.waiting = Some(Call::Gather(reply));
        self.answer_gather(over);
    }

    /// The nodes of this round are known, or that there are none.
    pub(super) fn set_gathered(&mut self, gathered: Result<Vec<NodeInfo>, &'static str>) {
        self.gathered = Some(gathered);
        self.answer_gather(None);
    }

    /// The next round begins, of which nothing is known yet.
    pub(super) fn begin_round(&mut self) {
        self.gathered = None;
    }

    /// Reports of the round that is over are of no use any more.
    pub(super) fn forget_reports(&mut self) {
        self.reported.clear();
    }

    /// A node's report has come.
    pub(super) fn report(&mut self, report: Reported) {
        self.reported.push(report);
        self.pass_on_reports();
    }

    /// A stage has ended, with what each node answered.
    pub(super) fn end_stage(&mut self, answers: Answers) {
        match self.waiting.take() {
            Some(Call::Prepare(reply) | Call::Reports { reply, .. }) => drop(reply.send(Ok(answers))),
            Some(Call::Go(reply) | Call::Commit(reply)) => drop(reply.send(Ok(without_payload(answers)))),
            other => self.waiting = other,
        }
    }

    /// The run or its round is over. That is what a release waits for; every other call has failed.
    pub(super) fn end(&mut self, reason: &str) {
        let aborted = || TransportError::Aborted {
            reason: reason.to_owned(),
        };
        match self.waiting.take() {
            None => {}
            Some(Call::Gather(reply)) => drop(reply.send(Err(aborted()))),
            Some(Call::Prepare(reply) | Call::Reports { reply, .. }) => drop(reply.send(Err(aborted()))),
            Some(Call::Go(reply) | Call::Commit(reply)) => drop(reply.send(Err(aborted()))),
            Some(Call::Release(reply)) => drop(reply.send(Ok(()))),
        }
    }

    fn answer_gather(&mut self, over: Option<&str>) {
        let result = match (&self.gathered, over) {
            (Some(Ok(nodes)), _) => Ok(nodes.clone()),
            (Some(Err(reason)), _) => Err(TransportError::NoNodes {
                reason: format!(": {reason}"),
            }),
            (None, Some(reason)) => Err(TransportError::Aborted {
                reason: reason.to_owned(),
            }),
            (None, None) => return,
        };
        match self.waiting.take() {
            Some(Call::Gather(reply)) => drop(reply.send(result)),
            other => self.waiting = other,
        }
    }

    /// Passes the present reports to the callers that wait for them.
    fn pass_on_reports(&mut self) {
        if let Some(Call::Reports { each, .. }) = &self.waiting {
            for report in self.reported.drain(..) {
                // A caller that has gone needs none.
                each.send(report).ok();
            }
        }
    }
}

fn without_payload(answers: Answers) -> Endings {
    answers
        .into_iter()
        .map(|(node, outcome)| (node, outcome.map(drop)))
        .collect()
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use ka_proto::wire::Payload;
    use ka_proto::{ChainPosition, NodeId, NodeName};

    use super::*;

    fn node() -> NodeInfo {
        NodeInfo {
            id: NodeId(1),
            name: NodeName::new("n1").unwrap(),
            addr: ([10, 0, 0, 1], 30764).into(),
            mac: None,
            wiring: None,
            position: ChainPosition(1),
            holds_clone: false,
        }
    }

    #[test]
    fn nodes_that_gathered_before_somebody_asked_are_given_at_once() {
        let mut pending = PendingCall::default();
        pending.set_gathered(Ok(vec![node()]));
        let (reply, answer) = bounded(1);
        pending.gather(reply, None);
        assert_eq!(answer.try_recv().unwrap().unwrap(), [node()]);
        // The next round has no nodes yet, so the run's end is then the answer.
        pending.begin_round();
        let (reply, answer) = bounded(1);
        pending.gather(reply, None);
        assert!(answer.try_recv().is_err());
        pending.end("stopped");
        assert_eq!(
            answer.recv().unwrap().unwrap_err().to_string(),
            aborted("stopped")
        );
    }

    #[test]
    fn reports_that_came_early_are_passed_on_and_those_of_an_old_round_are_not() {
        let mut pending = PendingCall::default();
        pending.report((node(), b"old".to_vec()));
        pending.forget_reports();
        pending.report((node(), b"early".to_vec()));
        let ((each, reports), (reply, answer)) = (bounded(8), bounded(1));
        pending.begin(Ok(()), reply, |reply| Call::Reports { each, reply });
        pending.report((node(), b"late".to_vec()));
        let texts: Vec<_> = reports.try_iter().map(|(_, report)| report).collect();
        assert_eq!(texts, [b"early".to_vec(), b"late".to_vec()]);
        pending.end_stage(vec![(node(), Ok(Payload(b"early".to_vec())))]);
        assert_eq!(answer.recv().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn the_end_of_the_run_is_what_a_release_waits_for() {
        let mut pending = PendingCall::default();
        let (reply, answer) = bounded(1);
        pending.begin(Ok(()), reply, Call::Release);
        pending.end_stage(Vec::new());
        assert!(answer.try_recv().is_err(), "a stage's end does not concern it");
        pending.end("the run is over");
        assert!(answer.recv().unwrap().is_ok());
    }

    #[test]
    fn a_call_that_is_not_possible_is_answered_at_once() {
        let mut pending = PendingCall::default();
        let (reply, answer) = bounded(1);
        let error = TransportError::Misuse("out of order");
        pending.begin(Err(error), reply, Call::Go);
        assert!(answer.try_recv().unwrap().is_err());
        assert!(pending.waiting.is_none());
    }

    fn aborted(reason: &str) -> String {
        let reason = reason.to_owned();
        TransportError::Aborted { reason }.to_string()
    }
}
