//! The questions about nodes (`--approve`) that the views show until they are over.

use std::mem;

use ka_transport::{ApprovalWanted, Approvals};

use crate::approve::Questions;

/// The questions that the views show.
#[derive(Default)]
pub(super) struct ShownQuestions {
    /// The questions of this run, with those that are still open.
    approvals: Approvals,
    /// The questions that the operator at the terminal has seen.
    seen: Questions,
    /// Numbers of the questions that the views show.
    shown: Vec<u64>,
}

impl ShownQuestions {
    /// Returns an empty list for a run with these questions.
    pub(super) fn of(approvals: Approvals) -> Self {
        Self {
            approvals,
            ..Self::default()
        }
    }

    /// Returns the questions that the operator at the terminal has seen.
    pub(super) fn seen(&self) -> Questions {
        self.seen.clone()
    }

    /// Adds a question that the views show from now on.
    pub(super) fn add(&mut self, wanted: &ApprovalWanted) {
        self.seen.asked(wanted.request);
        self.shown.push(wanted.request);
    }

    /// Removes the questions that are over, and returns their numbers.
    pub(super) fn take_settled(&mut self) -> Vec<u64> {
        if self.shown.is_empty() {
            return Vec::new();
        }
        let open = self.approvals.open();
        let is_open = |request: &u64| open.iter().any(|wanted| wanted.request == *request);
        let shown = mem::take(&mut self.shown);
        let (open, settled) = shown.into_iter().partition(is_open);
        self.shown = open;
        settled
    }
}
