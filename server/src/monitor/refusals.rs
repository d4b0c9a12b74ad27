//! The connections that the server turned away, as events that an operator should see.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ka_report::run::RunEvent;

/// Most refused connections shown one by one. A port scanner must not push the nodes' own lines away.
pub(super) const MAX_REFUSALS_SHOWN: u32 = 50;

/// Most nodes whose return is told one by one.
const MAX_LATE: usize = 1000;

/// The refusals so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: u32,
    /// True while first boots are awaited. A machine that is refused then boots again and again.
    are_boots_awaited: bool,
    /// Nodes of which the operator knows that they came too late.
    late: BTreeSet<String>,
}

impl Refusals {
    /// Records that the run waits for first boots from now on.
    pub(super) fn await_boots(&mut self) {
        self.are_boots_awaited = true;
    }

    /// Takes in a refusal and returns the event to show, if there is one. `name` is that of a node that knows the
    /// join code.
    pub(super) fn take(&mut self, from: IpAddr, name: Option<String>, reason: String) -> Option<RunEvent> {
        let addr = from.to_canonical().to_string();
        if let Some(name) = name.as_ref().filter(|_| self.are_boots_awaited) {
            return self.came_late(name, &addr, &reason);
        }
        self.count = self.count.saturating_add(1);
        if self.count <= MAX_REFUSALS_SHOWN {
            return Some(RunEvent::NodeRefused { addr, name, reason });
        }
        (self.count == MAX_REFUSALS_SHOWN + 1).then(|| RunEvent::Warning {
            text: format!(
                "more than {MAX_REFUSALS_SHOWN} connections were refused; the next ones are not shown"
            ),
        })
    }

    /// Returns one line about a node for all its tries, with what the operator can do.
    fn came_late(&mut self, name: &str, addr: &str, reason: &str) -> Option<RunEvent> {
        let is_new = self.late.len() < MAX_LATE && self.late.insert(name.to_owned());
        is_new.then(|| RunEvent::Warning {
            text: format!(
                "{name} ({addr}) came back too late ({reason}), and will be refused each time: to clone it, run ka-server \
                 again with this node; to let it boot from its disk, ka-pxe disarm its hardware address"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_back_while_first_boots_are_awaited_is_told_once_with_what_to_do() {
        let (mut refusals, addr) = (Refusals::default(), IpAddr::from([10, 0, 0, 1]));
        let take = |refusals: &mut Refusals, name: Option<&str>| {
            let event = refusals.take(addr, name.map(str::to_owned), "the run is over".to_owned());
            event.map(|event| ka_view::event_line(&event).unwrap())
        };
        let before = take(&mut refusals, Some("n1")).unwrap();
        assert_eq!(before, "n1 (10.0.0.1) refused: the run is over");
        refusals.await_boots();
        let line = take(&mut refusals, Some("n1")).unwrap();
        assert!(
            line.contains("n1 (10.0.0.1) came back too late (the run is over)")
                && line.contains("run ka-server again")
                && line.contains("ka-pxe disarm"),
            "{line}"
        );
        assert_eq!(take(&mut refusals, Some("n1")), None);
        assert!(take(&mut refusals, Some("n2")).is_some());
        let stranger = take(&mut refusals, None).unwrap();
        assert_eq!(stranger, "10.0.0.1 refused: the run is over");
    }

    #[test]
    fn an_address_of_ipv4_is_shown_as_one() {
        let from = "::ffff:10.0.0.1".parse().unwrap();
        let shown = Refusals::default().take(from, None, "garbage".into());
        assert!(matches!(shown, Some(RunEvent::NodeRefused { addr, .. }) if addr == "10.0.0.1"));
    }
}
