//! The expected machines of the node list, and the last action of those that are not here yet.

use std::time::Duration;

use ka_report::boot::{MachineNews, MachineRef};
use ka_report::run::NodeRef;
use ka_report::text::clock;

/// The machines that boot into a clone by themselves.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    machines: Vec<Machine>,
}

#[derive(Debug)]
struct Machine {
    machine: MachineRef,
    /// The machine's last action and its time.
    last: Option<(Duration, MachineNews)>,
    is_here: bool,
}

impl Expected {
    /// Sets the machines to wait for.
    pub(super) fn expect(&mut self, machines: &[MachineRef]) {
        let machine = |machine: &MachineRef| Machine {
            machine: machine.clone(),
            last: None,
            is_here: false,
        };
        self.machines = machines.iter().map(machine).collect();
    }

    /// Records an action of a machine that is not a node yet.
    pub(super) fn seen(&mut self, at: Duration, machine: &MachineRef, news: &MachineNews) {
        let known = self.machines.iter_mut();
        for known in known.filter(|known| known.machine.mac == machine.mac) {
            known.last = Some((at, news.clone()));
        }
    }

    /// Records that a machine is a node now.
    pub(super) fn arrived(&mut self, node: &NodeRef) {
        for known in &mut self.machines {
            let machine = &known.machine;
            if machine.name.as_ref() == Some(&node.name) || machine.addr.as_ref() == Some(&node.addr) {
                known.is_here = true;
            }
        }
    }

    /// Returns the number of machines that are not here.
    pub(crate) fn missing(&self) -> usize {
        self.machines.iter().filter(|known| !known.is_here).count()
    }

    /// Returns the names of the machines that are not here, each with its last action.
    pub(crate) fn absent(&self, at: Duration) -> impl Iterator<Item = (&str, String)> {
        let absent = self.machines.iter().filter(|known| !known.is_here);
        absent.map(move |known| {
            let name = known.machine.name.as_ref().unwrap_or(&known.machine.mac);
            let seen = known.last.as_ref().map_or_else(
                || "has not asked what to boot".to_owned(),
                |(then, news)| format!("{news}, {} ago", clock(at.saturating_sub(*then))),
            );
            (name.as_str(), seen)
        })
    }
}
