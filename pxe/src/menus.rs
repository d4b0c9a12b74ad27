//! Makes a machine's menu: identifies the machine, looks up whether it is armed, and fills the model.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_mac::MacAddr;

use crate::arming::Arming;
use crate::config::PerMachine;
use crate::error::PxeError;
use crate::events::{BootEvent, Events};
use crate::menu::names::{Asked, Who};
use crate::menu::{Entry, Form, Menu, Origin, check_command_line, grub, ipxe};
use crate::nodes::NodeEntry;

/// Parts that all menus share.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) kernel: String,
    pub(crate) initrds: Vec<String>,
    pub(crate) append: String,
    pub(crate) loaders: Vec<String>,
    pub(crate) timeout: Duration,
}

/// Maker of the menus.
pub(crate) struct MenuMaker {
    common: Common,
    nodes: BTreeMap<MacAddr, NodeEntry>,
    per_machine: PerMachine,
    arming: Arming,
    events: Events,
}

impl MenuMaker {
    pub(crate) fn new(
        common: Common,
        nodes: &[NodeEntry],
        per_machine: PerMachine,
        arming: Arming,
        events: Events,
    ) -> Self {
        Self {
            common,
            nodes: nodes.iter().map(|node| (node.mac, node.clone())).collect(),
            per_machine,
            arming,
            events,
        }
    }

    pub(crate) fn arming(&self) -> &Arming {
        &self.arming
    }

    /// Returns the text of the requested menu. `None` means that the name does not identify a machine, and
    /// that the boot program has further names to try.
    pub(crate) fn answer(&self, asked: Asked, peer: Ipv4Addr, origin: Origin) -> Option<String> {
        let mac = match asked.who {
            Who::Mac(mac) => Some(mac),
            // SMBIOS UUIDs are not unique (whole series of boards share one), and the sender does not prove its
            // own. A menu by UUID could be that of another machine, with its disk. PXELINUX asks by MAC next.
            Who::Uuid => return None,
            Who::Peer => neighbour(peer),
        };
        if asked.form == Form::PxelinuxHttp {
            // The machine has the main menu already. This is a part of it.
            let menu = self.menu(mac?, Entry::Local, origin).ok()?;
            return Some(menu.write(asked.form));
        }
        let Some(mac) = mac else {
            return Some(match asked.form {
                Form::Grub => grub::bounce(origin),
                Form::Ipxe => ipxe::bounce(origin),
                // The program asked by its MAC before, and will not ask again. A menu for no machine must
                // erase nothing.
                Form::Pxelinux | Form::PxelinuxHttp => self
                    .fill(peer.to_string(), Entry::Local, origin, String::new())
                    .write(asked.form),
            });
        };
        let taken = if self.is_its_own(mac, peer) {
            self.arming.take(mac)
        } else {
            self.arming.entry_without_taking(mac)
        };
        let entry = taken.unwrap_or_else(|err| {
            self.events
                .warn(format!("{mac} boots local, whether it is armed or not: {err}"));
            Entry::Local
        });
        let menu = self.menu(mac, entry, origin).unwrap_or_else(|text| {
            self.events.warn(format!(
                "{mac} boots local, because of its kernel command line: {text}"
            ));
            self.fill(mac.to_string(), Entry::Local, origin, String::new())
        });
        self.events.tell(BootEvent::Menu {
            mac,
            entry: menu.default,
        });
        Some(menu.write(asked.form))
    }

    /// True if the requested menu belongs to the card that asks, as far as the kernel's neighbour table
    /// tells. All boot programs of a machine ask through the card that its menu is named by. Behind a router
    /// the table tells nothing, and the answer is true.
    fn is_its_own(&self, mac: MacAddr, peer: Ipv4Addr) -> bool {
        neighbour(peer).is_none_or(|card| card == mac)
    }

    /// The menu that a machine would get. Takes no place.
    pub(crate) fn preview(&self, mac: MacAddr, origin: Origin) -> Result<Menu, PxeError> {
        let entry = self.arming.entry_for(mac)?;
        self.menu(mac, entry, origin).map_err(|text| PxeError::Setting {
            option: "--append",
            text,
        })
    }

    fn menu(&self, mac: MacAddr, entry: Entry, origin: Origin) -> Result<Menu, String> {
        let node = self.nodes.get(&mac);
        let title = match node {
            Some(node) => format!("{} ({mac})", node.name),
            None => mac.to_string(),
        };
        let extra = (self.per_machine)(&mac, node);
        let menu = self.fill(title, entry, origin, extra);
        check_command_line(&menu.append)?;
        Ok(menu)
    }

    fn fill(&self, title: String, default: Entry, origin: Origin, extra: String) -> Menu {
        let common = self.common.clone();
        let words = [common.append, extra];
        let words: Vec<&str> = words
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
            .collect();
        Menu {
            default,
            timeout: common.timeout,
            title,
            origin,
            kernel: common.kernel,
            initrds: common.initrds,
            append: words.join(" "),
            loaders: common.loaders,
        }
    }
}

impl std::fmt::Debug for MenuMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MenuMaker")
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}

/// The card of an address, from the kernel's ARP table. The card has just sent a packet, so the table has it,
/// unless a router is in between.
fn neighbour(peer: Ipv4Addr) -> Option<MacAddr> {
    // The table of this thread, not of the process: tests start servers in namespaces of their own.
    let table = fs::read_to_string("/proc/thread-self/net/arp").ok()?;
    in_arp_table(&table, peer)
}

/// Finds an address in the kernel's table: `IP address  HW type  Flags  HW address  Mask  Device`. Flag 0x2
/// marks a complete entry.
fn in_arp_table(table: &str, peer: Ipv4Addr) -> Option<MacAddr> {
    let peer = peer.to_string();
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, "0x1", flags, mac, ..] = words[..] else {
            return None;
        };
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        (address == peer && flags & 2 != 0).then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_behind_its_address_when_the_entry_is_complete() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         52:54:00:00:00:01     *        eth0
10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0
";
        let mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!(in_arp_table(table, Ipv4Addr::new(10, 0, 0, 1)), mac);
        assert_eq!(in_arp_table(table, Ipv4Addr::new(10, 0, 0, 2)), None);
        assert_eq!(in_arp_table(table, Ipv4Addr::new(10, 0, 0, 3)), None);
    }
}
