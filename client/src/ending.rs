//! The end of one attempt to take part in a run, good ([`Ending`]) or bad ([`Setback`]), and this node's next
//! move.

use crate::failure::Failure;

/// The good end of an attempt, and what this machine does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The clone is complete: the machine reboots into it.
    Reboot,
    /// The machine stays as it is: the plan was shown, a stream was consumed, or the operator wants to look
    /// first.
    Stay,
}

/// The bad end of an attempt, with its failure and its consequence.
pub(crate) struct Setback {
    /// The failure, with its exit code.
    pub(crate) failure: Failure,
    /// The consequence.
    pub(crate) next: NextMove,
}

/// The consequence of a bad end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextMove {
    /// The node gives up. Another attempt would end in the same way, or the server does not want it any more.
    GiveUp,
    /// The node joins again: the server is lost, or calls this node to its next round.
    JoinAgain,
}

impl Setback {
    /// Returns a failure of this node itself.
    pub(crate) const fn own(failure: Failure) -> Self {
        Self {
            failure,
            next: NextMove::GiveUp,
        }
    }

    /// Returns a failed exchange with the server: the node joins again if the connection is what failed.
    pub(crate) fn of_connection(failure: Failure) -> Self {
        let next = if failure.is_server_lost() {
            NextMove::JoinAgain
        } else {
            NextMove::GiveUp
        };
        Self { failure, next }
    }

    /// Returns the end of the run for this node, by the server's order.
    pub(crate) const fn ordered(failure: Failure, again: bool) -> Self {
        let next = if again {
            NextMove::JoinAgain
        } else {
            NextMove::GiveUp
        };
        Self { failure, next }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use ka_transport::TransportError;

    use super::*;

    fn setback(error: TransportError) -> Setback {
        let error = Err::<(), _>(error).context("the clone is complete");
        Setback::of_connection(Failure::Began(error.unwrap_err()))
    }

    #[test]
    fn a_node_joins_again_when_its_server_is_lost_and_not_when_it_is_refused() {
        let lost = setback(TransportError::ServerLost {
            reason: "it is silent".to_owned(),
        });
        assert_eq!(lost.next, NextMove::JoinAgain);
        let refused = setback(TransportError::Misuse("out of order"));
        assert_eq!(refused.next, NextMove::GiveUp);
    }

    #[test]
    fn the_server_decides_who_joins_again_and_a_nodes_own_failure_ends_it() {
        let failure = || Failure::Began(anyhow::anyhow!("the server ended the run"));
        assert_eq!(Setback::ordered(failure(), true).next, NextMove::JoinAgain);
        assert_eq!(Setback::ordered(failure(), false).next, NextMove::GiveUp);
        assert_eq!(Setback::own(failure()).next, NextMove::GiveUp);
    }
}
