//! Nodes that have proved that they know the run's secret and that the operator still has to let in
//! (`--approve`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_mac::MacAddr;
use ka_proto::limits::MAX_NODES;
use tokio::sync::oneshot;

/// A node that waits for the operator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalWanted {
    /// Number of the question, counted from 1 in this run.
    pub request: u64,
    /// Host name that the node gave. It may be false.
    pub name: String,
    /// The address that its connection comes from.
    pub addr: SocketAddr,
    /// MAC address that the node gave. It may be false.
    pub mac: Option<MacAddr>,
    /// The code that the node itself shows: only the other end of this very connection knows it.
    pub code: String,
    /// The time that the node waits.
    pub limit: Duration,
}

/// The open questions, shared by the waiting connections and the operators who answer.
#[derive(Debug, Clone, Default)]
pub struct Approvals(Arc<Mutex<OpenQuestions>>);

#[derive(Debug, Default)]
struct OpenQuestions {
    asked: u64,
    /// True if the operator has accepted all nodes, also those that come later.
    everybody: bool,
    open: BTreeMap<u64, OpenQuestion>,
}

#[derive(Debug)]
struct OpenQuestion {
    wanted: ApprovalWanted,
    answer: oneshot::Sender<bool>,
}

/// The result of asking the operator.
#[derive(Debug)]
pub(super) enum ApprovalRequest {
    /// The operator has approved every node; this one too.
    Everybody,
    /// More wait than a run may have nodes.
    TooMany,
    /// Wait for the answer.
    Question(Question),
}

/// An open question; withdrawn when it is dropped.
#[derive(Debug)]
pub(super) struct Question {
    approvals: Approvals,
    pub(super) wanted: ApprovalWanted,
    pub(super) answer: oneshot::Receiver<bool>,
}

impl Approvals {
    /// Returns the nodes that wait, first come first.
    #[must_use]
    pub fn open(&self) -> Vec<ApprovalWanted> {
        self.lock()
            .open
            .values()
            .map(|open| open.wanted.clone())
            .collect()
    }

    /// Answers the question of this number: the node joins, or is refused. `false`: no node waits under that
    /// number (any more).
    #[must_use]
    pub fn answer(&self, request: u64, is_welcome: bool) -> bool {
        let open = self.lock().open.remove(&request);
        open.is_some_and(|open| open.answer.send(is_welcome).is_ok())
    }

    /// Approves every node, also those that come later. Returns the number that waited.
    pub fn welcome_everybody(&self) -> usize {
        let mut state = self.lock();
        state.everybody = true;
        let open = std::mem::take(&mut state.open);
        drop(state);
        let told = open.into_values().map(|open| open.answer.send(true));
        told.filter(Result::is_ok).count()
    }

    /// Asks; the request's number is given here.
    pub(super) fn ask(&self, mut wanted: ApprovalWanted) -> ApprovalRequest {
        let mut state = self.lock();
        if state.everybody {
            return ApprovalRequest::Everybody;
        }
        if state.open.len() >= MAX_NODES {
            return ApprovalRequest::TooMany;
        }
        state.asked += 1;
        wanted.request = state.asked;
        let (sender, answer) = oneshot::channel();
        let open = OpenQuestion {
            wanted: wanted.clone(),
            answer: sender,
        };
        state.open.insert(wanted.request, open);
        ApprovalRequest::Question(Question {
            approvals: self.clone(),
            wanted,
            answer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, OpenQuestions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.approvals.lock().open.remove(&self.wanted.request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> ApprovalWanted {
        ApprovalWanted {
            request: 0,
            name: "n1".into(),
            addr: ([10, 0, 0, 1], 4000).into(),
            mac: None,
            code: "0001-2345".into(),
            limit: Duration::from_secs(60),
        }
    }

    fn ask(approvals: &Approvals) -> Question {
        match approvals.ask(wanted()) {
            ApprovalRequest::Question(question) => question,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_is_answered_once_and_withdrawn_when_the_node_has_gone() {
        let approvals = Approvals::default();
        let (mut one, two) = (ask(&approvals), ask(&approvals));
        assert!(approvals.answer(1, true) && !approvals.answer(1, false));
        assert_eq!(one.answer.try_recv(), Ok(true));
        drop(two);
        assert!(!approvals.answer(2, true) && approvals.open().is_empty());
    }

    #[test]
    fn everybody_means_those_who_wait_and_those_who_come() {
        let approvals = Approvals::default();
        let mut one = ask(&approvals);
        assert_eq!(approvals.welcome_everybody(), 1);
        assert_eq!(one.answer.try_recv(), Ok(true));
        assert!(matches!(approvals.ask(wanted()), ApprovalRequest::Everybody));
    }
}
