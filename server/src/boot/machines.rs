//! Machines by their MAC address: their names, their addresses, and the events of the boot server that an
//! operator should see. Pure: no clock, no socket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ka_mac::MacAddr;
use ka_pxe::{BootEvent, Entry, NodeEntry};
use ka_report::boot::{MachineNews, MachineRef};
use ka_report::run::RunEvent;

/// Most machines remembered. Invented MAC addresses must not fill the memory. A room has hundreds of
/// machines.
const MAX_MACHINES: usize = 16 << 10;
/// Period in which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Most lines of one machine in a window. A boot has about eight, and a machine that boots again every ten
/// seconds has fewer than this.
const MAX_LINES_OF_MACHINE: u32 = 40;
/// Most lines in a window of all machines that are not on the list. A room of 200 that is switched on has
/// more, but then they are listed, or `--arm all` is for fewer. Invented MAC addresses must not fill terminal
/// and log.
const MAX_LINES_OF_STRANGERS: u32 = 400;

/// Prefixes of the vendor class (option 60) of boot programs that are not PXE: U-Boot, GRUB's own client,
/// Etherboot and gPXE, Apple's firmware.
const FIRMWARE_CLASSES: [&str; 5] = ["U-Boot", "GRUB", "Etherboot", "gPXE", "AAPLBSDPC"];

/// The machines of the boot network.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    known: BTreeMap<MacAddr, Machine>,
    /// Files whose transfer is worth a line: kernel and boot image. The last one comes just before the kernel
    /// starts.
    files: Vec<String>,
    lines: Lines,
}

/// Lines shown in the current window.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    of_strangers: u32,
    left_out: u32,
}

#[derive(Debug, Default)]
struct Machine {
    is_listed: bool,
    /// Lines shown for this machine in the current window.
    lines: u32,
    name: Option<String>,
    addr: Option<IpAddr>,
    /// True if the machine has that address from us. Otherwise the node list only plans it.
    is_leased: bool,
    /// True if its last menu was kamethod. Then the node comes from the address that it has from us.
    is_sent: bool,
    /// The event shown last for this machine. ROMs ask for everything two or three times.
    last: Option<MachineNews>,
}

/// The meaning of an event of the boot server for the run.
#[derive(Debug, PartialEq)]
pub(crate) enum Meaning {
    /// An event to show.
    Show(RunEvent),
    /// A possible operating system asks for an address. It holds the machine's MAC address and the host name
    /// given.
    SystemAsks(MacAddr, Option<String>),
    /// An event that is not worth a line.
    Nothing,
}

impl Machines {
    /// Adds the machines of the list. `files` are those whose transfer is shown.
    pub(crate) fn know(&mut self, nodes: &[NodeEntry], files: Vec<String>) {
        let machine = |node: &NodeEntry| Machine {
            is_listed: true,
            lines: 0,
            name: Some(node.name.clone()),
            addr: node.address.map(IpAddr::V4),
            is_leased: false,
            is_sent: false,
            last: None,
        };
        self.known
            .extend(nodes.iter().map(|node| (node.mac, machine(node))));
        self.files = files;
    }

    /// Returns the evidence against a node at `addr` that claims this MAC address, if there is any. Either we
    /// gave that address to another machine, or we gave this machine another address.
    pub(crate) fn contradicts(&self, addr: IpAddr, said: MacAddr) -> Option<String> {
        let mut leased = self
            .known
            .iter()
            .filter(|(_, machine)| machine.is_leased && machine.is_sent);
        let (mac, machine) = leased.find(|(mac, machine)| (**mac == said) != (machine.addr == Some(addr)))?;
        let given = machine.addr?;
        Some(format!(
            "it comes from {addr} and says its hardware address is {said}, but the boot server gave {given} to {mac}; a \
             machine with an address of its own beside that one: ka-client --listen {given}"
        ))
    }

    /// Returns the MAC address of the machine that has this address.
    pub(crate) fn mac_of(&self, addr: IpAddr) -> Option<MacAddr> {
        let found = self.known.iter().find(|(_, machine)| machine.addr == Some(addr));
        found.map(|(mac, _)| *mac)
    }

    /// Returns the machine with its name from the node list and its address, as far as they are known.
    pub(crate) fn reference(&self, mac: MacAddr) -> MachineRef {
        let machine = self.known.get(&mac);
        MachineRef {
            mac: mac.to_string(),
            name: machine.and_then(|machine| machine.name.clone()),
            addr: machine
                .and_then(|machine| machine.addr)
                .map(|addr| addr.to_string()),
        }
    }

    /// Returns a warning that counts the lines left out, after a window in which there were too many.
    pub(crate) fn left_out(&mut self, now: Instant) -> Option<RunEvent> {
        let since = *self.lines.since.get_or_insert(now);
        if now.saturating_duration_since(since) < WINDOW {
            return None;
        }
        let ended = std::mem::take(&mut self.lines);
        for machine in self.known.values_mut() {
            machine.lines = 0;
        }
        (ended.left_out > 0).then(|| RunEvent::Warning {
            text: format!(
                "{} lines about machines that ask to boot were left out: more came than {MAX_LINES_OF_STRANGERS} a minute \
                 of machines that are not on the list, or {MAX_LINES_OF_MACHINE} of one",
                ended.left_out
            ),
        })
    }

    /// Takes in an event and returns its meaning.
    pub(crate) fn take(&mut self, event: BootEvent) -> Meaning {
        match event {
            BootEvent::Asked { mac, arch, stage } => self.news(
                mac,
                MachineNews::Asked {
                    firmware: arch.to_string(),
                    stage: stage.to_string(),
                },
            ),
            BootEvent::Leased { mac, addr } => {
                self.moved(mac, addr.into());
                self.news(mac, MachineNews::Leased)
            }
            BootEvent::Menu { mac, entry } => {
                if let Some(machine) = self.known.get_mut(&mac) {
                    machine.is_sent = entry == Entry::Kamethod;
                }
                self.news(
                    mac,
                    MachineNews::Menu {
                        entry: entry.name().to_owned(),
                        erases: entry == Entry::Kamethod,
                    },
                )
            }
            BootEvent::Fetched {
                peer, file, bytes, ..
            } => self.fetched(peer, file, bytes),
            BootEvent::SeenAgain {
                mac,
                vendor_class,
                host_name,
            } => {
                let class = vendor_class.unwrap_or_default();
                if FIRMWARE_CLASSES
                    .iter()
                    .any(|firmware| class.starts_with(firmware))
                {
                    return Meaning::Nothing;
                }
                Meaning::SystemAsks(mac, host_name)
            }
            BootEvent::Warning { text } => Meaning::Show(RunEvent::Warning { text }),
        }
    }

    fn fetched(&mut self, peer: IpAddr, file: String, bytes: u64) -> Meaning {
        let (true, Some(mac)) = (self.files.contains(&file), self.mac_of(peer)) else {
            return Meaning::Nothing;
        };
        let starts = self.files.last() == Some(&file);
        self.news(mac, MachineNews::Fetched { file, bytes, starts })
    }

    fn news(&mut self, mac: MacAddr, news: MachineNews) -> Meaning {
        let machine = if self.known.contains_key(&mac) || self.known.len() < MAX_MACHINES {
            self.known.entry(mac).or_default()
        } else {
            return Meaning::Nothing;
        };
        if machine.last.as_ref() == Some(&news) {
            return Meaning::Nothing;
        }
        machine.last = Some(news.clone());
        let strangers = &mut self.lines.of_strangers;
        let is_over = machine.lines >= MAX_LINES_OF_MACHINE
            || (!machine.is_listed && *strangers >= MAX_LINES_OF_STRANGERS);
        if is_over {
            self.lines.left_out += 1;
            return Meaning::Nothing;
        }
        machine.lines += 1;
        *strangers += u32::from(!machine.is_listed);
        let machine = self.reference(mac);
        Meaning::Show(RunEvent::Machine { machine, news })
    }

    /// Records that the machine has this address now. An address belongs to one machine, but a pool may give
    /// it to another one later.
    fn moved(&mut self, mac: MacAddr, addr: IpAddr) {
        for machine in self
            .known
            .values_mut()
            .filter(|machine| machine.addr == Some(addr))
        {
            (machine.addr, machine.is_leased) = (None, false);
        }
        if self.known.contains_key(&mac) || self.known.len() < MAX_MACHINES {
            let machine = self.known.entry(mac).or_default();
            (machine.addr, machine.is_leased) = (Some(addr), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ka_pxe::{Arch, Service, Stage};

    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn machines() -> Machines {
        let node = NodeEntry {
            mac: MAC,
            name: "n101".into(),
            address: Some(Ipv4Addr::new(10, 0, 1, 101)),
            group: None,
            disks: vec![],
        };
        let mut machines = Machines::default();
        machines.know(&[node], vec!["vmlinuz".into(), "stage1.img".into()]);
        machines
    }

    fn fetched(file: &str, last: u8) -> BootEvent {
        BootEvent::Fetched {
            peer: [10, 0, 1, last].into(),
            file: file.into(),
            bytes: 7,
            service: Service::Http,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_rom_that_asks_three_times_is_shown_once() {
        let mut machines = machines();
        let asked = || BootEvent::Asked {
            mac: MAC,
            arch: Arch::Bios,
            stage: Stage::Firmware,
        };
        assert!(matches!(machines.take(asked()), Meaning::Show(_)));
        assert_eq!(machines.take(asked()), Meaning::Nothing);
    }

    #[test]
    fn only_kernel_and_image_are_worth_a_line_and_the_last_one_starts_the_node() {
        let mut machines = machines();
        assert_eq!(
            machines.take(fetched("pxelinux.cfg/default", 101)),
            Meaning::Nothing
        );
        assert_eq!(
            machines.take(fetched("vmlinuz", 9)),
            Meaning::Nothing,
            "nobody we know"
        );
        for (file, starts) in [("vmlinuz", false), ("stage1.img", true)] {
            let Meaning::Show(RunEvent::Machine { machine, news }) = machines.take(fetched(file, 101)) else {
                panic!("{file}")
            };
            assert_eq!(machine.name.as_deref(), Some("n101"));
            assert!(matches!(news, MachineNews::Fetched { starts: found, .. } if found == starts));
        }
    }

    #[test]
    fn an_address_that_moves_belongs_to_its_new_machine() {
        let mut machines = machines();
        let addr = Ipv4Addr::new(10, 0, 1, 101);
        assert_eq!(machines.mac_of(addr.into()), Some(MAC));
        machines.take(BootEvent::Leased { mac: OTHER, addr });
        assert_eq!(machines.mac_of(addr.into()), Some(OTHER));
        assert_eq!(machines.reference(MAC).addr, None);
        assert_eq!(machines.reference(OTHER).addr.as_deref(), Some("10.0.1.101"));
    }

    #[test]
    fn who_says_the_hardware_address_of_a_machine_that_has_another_address_is_contradicted() {
        let mut machines = machines();
        let [own, foreign]: [IpAddr; 2] = [[10, 0, 1, 101].into(), [10, 0, 1, 99].into()];
        // The address is only planned: the machine may have been switched on without us.
        assert_eq!(machines.contradicts(foreign, MAC), None);
        machines.take(BootEvent::Leased {
            mac: MAC,
            addr: Ipv4Addr::new(10, 0, 1, 101),
        });
        assert_eq!(
            machines.contradicts(foreign, MAC),
            None,
            "its own system may have another one"
        );
        machines.take(BootEvent::Menu {
            mac: MAC,
            entry: Entry::Kamethod,
        });
        assert_eq!(machines.contradicts(own, MAC), None);
        assert!(machines.contradicts(foreign, MAC).unwrap().contains("10.0.1.101"));
        assert!(
            machines
                .contradicts(own, OTHER)
                .unwrap()
                .contains(&MAC.to_string())
        );
        assert_eq!(
            machines.contradicts(foreign, OTHER),
            None,
            "nothing is known of it"
        );
        // The machine got another address meanwhile, as stage1 may from another server's pool.
        machines.take(BootEvent::Leased {
            mac: MAC,
            addr: Ipv4Addr::new(10, 0, 1, 99),
        });
        assert_eq!(machines.contradicts(foreign, MAC), None);
        assert_eq!(machines.contradicts(own, OTHER), None);
    }

    #[test]
    fn invented_hardware_addresses_do_not_fill_the_memory() {
        let mut machines = machines();
        for number in 0..u32::try_from(MAX_MACHINES).unwrap() + 10 {
            let [a, b, c, d] = number.to_be_bytes();
            machines.take(BootEvent::Leased {
                mac: MacAddr([6, 0, a, b, c, d]),
                addr: Ipv4Addr::from(number),
            });
        }
        assert_eq!(machines.known.len(), MAX_MACHINES);
    }

    #[test]
    fn a_flood_of_boot_requests_is_counted_and_listed_machines_are_still_told() {
        let start = Instant::now();
        let mut machines = machines();
        let asked = |mac: MacAddr, arch: Arch| BootEvent::Asked {
            mac,
            arch,
            stage: Stage::Firmware,
        };
        assert_eq!(machines.left_out(start), None);
        let mut told = 0;
        for number in 0..5000_u32 {
            let [_, _, a, b] = number.to_be_bytes();
            told +=
                u32::from(machines.take(asked(MacAddr([6, 0, 0, 0, a, b]), Arch::Bios)) != Meaning::Nothing);
        }
        assert_eq!(told, MAX_LINES_OF_STRANGERS);
        assert_ne!(
            machines.take(asked(MAC, Arch::Bios)),
            Meaning::Nothing,
            "it is on the list"
        );
        // One machine that claims another firmware each time.
        let of_one = (0..200).filter(|number| {
            let arch = if number % 2 == 0 { Arch::Bios } else { Arch::EfiX64 };
            machines.take(asked(MAC, arch)) != Meaning::Nothing
        });
        assert!(of_one.count() < 50);
        assert_eq!(machines.left_out(start + WINDOW / 2), None, "not yet");
        let Some(RunEvent::Warning { text }) = machines.left_out(start + WINDOW) else {
            panic!("nothing is said of the lines left out")
        };
        assert!(text.starts_with("47") && text.contains("left out"), "{text}");
        assert_ne!(
            machines.take(asked(OTHER, Arch::Bios)),
            Meaning::Nothing,
            "a new window"
        );
        assert_eq!(
            machines.left_out(start + WINDOW * 3),
            None,
            "nothing was left out"
        );
    }
}
