//! The faults of the bench: those of the chain, and those of a multicast group.

use crate::bench::cases::Kind;

/// Name of the transfer that the others are compared with.
pub(crate) const UNDISTURBED: &str = "undisturbed";
/// Name of the fault that slows a member's line.
pub(crate) const MEMBER_SLOW: &str = "member four times slower";
/// Name of the fault of the switch.
pub(crate) const GROUP_DARK: &str = "group goes dark";

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// No fault.
    Nothing,
    /// SIGKILL: the kernel closes the connections.
    Killed,
    /// SIGSTOP: the kernel goes on answering for a process that does nothing.
    Stopped,
    /// The node's port of the switch goes down: no connection closes.
    Unplugged,
    /// The node's line falls to a quarter of its rate.
    Slowed,
    /// The switch forgets the members of all groups, as one does that hears no querier any more.
    Dark,
}

/// A fault, with the nodes that it hits, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Name in the table.
    pub(crate) name: &'static str,
    /// Kind.
    pub(crate) what: What,
    /// Nodes that are lost or left behind by it. The others must get every byte.
    pub(crate) nodes: &'static [usize],
}

/// All faults of the chain. The others are compared with the first one.
const OF_THE_CHAIN: [Fault; 8] = [
    fault(UNDISTURBED, What::Nothing, &[]),
    fault("first node killed", What::Killed, &[1]),
    fault("middle node killed", What::Killed, &[4]),
    fault("last node killed", What::Killed, &[8]),
    fault("two neighbours killed", What::Killed, &[4, 5]),
    fault("two places killed", What::Killed, &[2, 6]),
    fault("middle node stopped", What::Stopped, &[4]),
    fault("middle node unplugged", What::Unplugged, &[4]),
];

/// All faults of a multicast group. The others are compared with the first one.
const OF_A_GROUP: [Fault; 6] = [
    fault(UNDISTURBED, What::Nothing, &[]),
    fault("member killed", What::Killed, &[4]),
    fault("member stopped", What::Stopped, &[4]),
    fault("member unplugged", What::Unplugged, &[4]),
    fault(MEMBER_SLOW, What::Slowed, &[4]),
    fault(GROUP_DARK, What::Dark, &[]),
];

const fn fault(name: &'static str, what: What, nodes: &'static [usize]) -> Fault {
    Fault { name, what, nodes }
}

impl Fault {
    /// Returns the faults of a case, the undisturbed transfer first.
    pub(crate) const fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::GroupFault => &OF_A_GROUP,
            _ => &OF_THE_CHAIN,
        }
    }

    /// True if the fault hits this node, counted from 1.
    pub(crate) fn hits(&self, number: usize) -> bool {
        self.nodes.contains(&number)
    }

    /// True if a line of the server names the node because of this fault.
    pub(crate) fn is_named_in(&self, line: &str, number: usize) -> bool {
        let name = format!("n{number}");
        let names_node = line
            .split(|letter: char| !letter.is_alphanumeric())
            .any(|word| word == name);
        let says_why = match self.what {
            What::Slowed => ["no multicast any more", "it is set aside", "FAILED"]
                .iter()
                .any(|text| line.contains(text)),
            _ => line.contains("FAILED"),
        };
        names_node && says_why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(what: What, line: &str) -> bool {
        fault("", what, &[4]).is_named_in(line, 4)
    }

    #[test]
    fn a_fault_is_noticed_when_a_line_names_its_own_node_and_the_reason() {
        let left = "warning: n3, n4: no multicast any more: 12 % lost; the nodes before them go on";
        assert!(named(What::Slowed, left));
        let slow = "[0:03] n4 is slow: its line carries 6 MB/s";
        assert!(!named(What::Slowed, slow), "it is only named");
        assert!(named(What::Slowed, &format!("{slow}; it is set aside")));
        assert!(!named(What::Slowed, "n40: no multicast any more"));
        assert!(!named(What::Slowed, "[0:00] n4 (10.77.0.105) is here"));
        assert!(named(
            What::Killed,
            "[0:03] node 4 n4 (10.77.0.105): FAILED: gone"
        ));
        assert!(!named(What::Killed, left), "a member that left has not failed");
    }

    #[test]
    fn the_first_fault_of_each_kind_of_case_is_none() {
        for kind in [Kind::Fault, Kind::GroupFault] {
            assert_eq!(Fault::of(kind)[0].what, What::Nothing);
        }
    }
}
