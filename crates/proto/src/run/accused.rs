//! Who may have cost others a round: in the next one it comes last in the chain, where nobody is below it.
//!
//! Data comes through every node of a chain, so one that alters it, or stops passing it on, can cost those below it
//! a round. Which of two neighbours it was that lied is not known. Both places cost nothing: who comes last gets
//! everything as the others do, and who comes last harms nobody.

use super::{IpAddr, NodeId, Run};

/// Addresses remembered at most.
const MAX_ACCUSED: usize = 4096;

impl Run {
    /// `node` may be the reason why one below it lost its place.
    pub(super) fn accuse(&mut self, node: NodeId) {
        let Some(addr) = self.members.get(&node).map(|member| member.info.addr.ip()) else {
            return;
        };
        if !self.is_accused(addr) && self.accused.len() < MAX_ACCUSED {
            self.accused.push(addr);
        }
    }

    /// Those above `node` in its stream that its data came through: the one that is there, and those that were there.
    pub(super) fn accuse_those_above(&mut self, node: NodeId) {
        let super::Phase::Streaming(run) = &self.phase else {
            return;
        };
        let mut above = run.formerly_above.get(&node).cloned().unwrap_or_default();
        above.push(run.before(node));
        for node in above {
            self.accuse(node);
        }
    }

    /// Whether somebody at this address was accused.
    pub(super) fn is_accused(&self, addr: IpAddr) -> bool {
        self.accused.contains(&addr)
    }
}
