//! The rounds of a run: the number of this one, and the stage that it is in.

use ka_proto::run::NodeInfo;

/// The round that a run is in.
#[derive(Debug)]
pub(super) struct Rounds {
    number: u32,
    most: u32,
    is_sending: bool,
    /// The nodes' stage, for reports about nodes that never come back from it.
    stage: String,
}

impl Rounds {
    /// Returns the first of at most `most` rounds.
    pub(super) fn new(most: u32) -> Self {
        Self {
            number: 1,
            most,
            is_sending: true,
            stage: "waiting for the start".to_owned(),
        }
    }

    /// Returns the number of this round, counted from 1.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Returns the most rounds (`--rounds`).
    pub(super) const fn most(&self) -> u32 {
        self.most
    }

    /// True if `--rounds` allows no other round.
    pub(super) const fn is_last(&self) -> bool {
        self.number >= self.most
    }

    /// Begins another round.
    pub(super) const fn begin(&mut self) {
        self.number += 1;
    }

    /// Takes the nodes of the round. Nodes that come with a complete clone only wait for the verdict.
    pub(super) fn take(&mut self, nodes: &[NodeInfo]) {
        self.is_sending = !nodes.iter().all(|node| node.holds_clone);
    }

    /// True if a node of this round needs data.
    pub(super) const fn is_sending(&self) -> bool {
        self.is_sending
    }

    /// Names the nodes' next stage.
    pub(super) fn enter(&mut self, stage: &str) {
        stage.clone_into(&mut self.stage);
    }

    /// Returns the nodes' stage.
    pub(super) fn stage(&self) -> &str {
        &self.stage
    }
}
