//! The kernel command line as a node reads it. Pure. The table of words is in docs/boot.md.
//!
//! A mistake in a word that decides *which disk* or *which network* ends the node before it does anything.
//! Any other unknown word is a warning.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ka_dhcp::METHOD_WORD;
use ka_mac::MacAddr;
use ka_proto::NodeName;

use crate::cli::{DEFAULT_SESSION, DiskOption};

/// The requests of the kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `kamethod`: this machine shall be cloned. Without it nothing is done.
    pub(crate) kamethod: bool,
    /// Address of the server (`ka.server=ADDR[:PORT]`).
    pub(crate) server: Option<String>,
    /// Name of the session (`ka.session=NAME`).
    pub(crate) session: String,
    /// `ka.disk=DRIVE=DEVICE`, repeatable.
    pub(crate) disks: Vec<String>,
    /// True if a lone disk may be taken although it is a part of LVM, RAID, ZFS or LUKS (`ka.erase-members`).
    pub(crate) erase_members: bool,
    /// Host name of this node (`ka.name=NAME`).
    pub(crate) name: Option<String>,
    /// Source of the node's address (`ka.ip=`).
    pub(crate) ip: Addressing,
    /// True for a shell on the console (`ka.shell`).
    pub(crate) shell: bool,
    /// `ka.reboot=no` makes it false.
    pub(crate) reboot: bool,
    /// `BOOTIF=`: the interface that the firmware booted from.
    pub(crate) boot_interface: Option<MacAddr>,
    /// Warnings about words of ours that make no sense but do no harm.
    pub(crate) warnings: Vec<String>,
    /// Words that must be right and are not.
    pub(crate) errors: Vec<String>,
}

/// The source of this machine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// It asks a DHCP server.
    Dhcp,
    /// It is told.
    Static(StaticAddress),
}

/// A fixed address: `ka.ip=ADDR/PREFIX[,GATEWAY[,DNS]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StaticAddress {
    /// The address.
    pub(crate) addr: Ipv4Addr,
    /// Length of the network's prefix.
    pub(crate) prefix: u8,
    /// The way out.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// A name server.
    pub(crate) name_server: Option<Ipv4Addr>,
}

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. Of a word that is there twice the last one counts, as the kernel
    /// has it.
    pub(crate) fn parse(text: &str) -> Self {
        let mut line = Self {
            kamethod: false,
            server: None,
            session: DEFAULT_SESSION.to_owned(),
            disks: Vec::new(),
            erase_members: false,
            name: None,
            ip: Addressing::Dhcp,
            shell: false,
            reboot: true,
            boot_interface: None,
            warnings: Vec::new(),
            errors: Vec::new(),
        };
        for word in words(text) {
            line.take(&word);
        }
        line
    }

    fn take(&mut self, word: &str) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let given = value.filter(|value| !value.is_empty());
        match (key, given) {
            (METHOD_WORD, _) => self.kamethod = true,
            ("ka.shell", _) => self.shell = !matches!(given, Some("no" | "0")),
            ("ka.erase-members", _) => self.erase_members = !matches!(given, Some("no" | "0")),
            ("ka.reboot", Some("no" | "0")) => self.reboot = false,
            ("ka.reboot", Some("yes" | "1")) => self.reboot = true,
            ("ka.server", Some(server)) if is_server(server) => self.server = Some(server.to_owned()),
            ("ka.session", Some(name)) => name.clone_into(&mut self.session),
            ("ka.name", Some(name)) => match NodeName::new(name) {
                Ok(name) => self.name = Some(name.as_str().to_owned()),
                Err(error) => self.refuse(word, &error.to_string()),
            },
            ("ka.disk", Some(disk)) if disk.parse::<DiskOption>().is_ok() => self.disks.push(disk.to_owned()),
            ("ka.ip", Some("dhcp")) => self.ip = Addressing::Dhcp,
            ("ka.ip", Some(text)) if static_address(text).is_some() => {
                self.ip = static_address(text).map_or(Addressing::Dhcp, Addressing::Static);
            }
            ("BOOTIF", Some(text)) => match boot_interface(text) {
                Some(mac) => self.boot_interface = Some(mac),
                None => self.warn(word, "expected 01-52-54-00-12-34-56 or 52:54:00:12:34:56"),
            },
            ("ka.reboot", _) => self.warn(word, "expected ka.reboot=no"),
            ("ka.name", _) => self.warn(word, "expected ka.name=NAME"),
            // A room booted for one server must not be cloned by another one.
            ("ka.server", _) => self.refuse(
                word,
                "expected ka.server=ADDRESS or ka.server=ADDRESS:PORT, in numbers",
            ),
            ("ka.session", _) => self.refuse(word, "expected ka.session=NAME"),
            ("ka.disk", _) => self.refuse(
                word,
                "expected ka.disk=DRIVE=DEVICE, for example ka.disk=sda=/dev/nvme0n1",
            ),
            ("ka.ip", _) => self.refuse(
                word,
                "expected ka.ip=dhcp or ka.ip=ADDRESS/PREFIX[,GATEWAY[,DNS]]",
            ),
            (key, _) if key.starts_with("ka.") => self.warn(word, "no such word; see docs/boot.md"),
            _ => {}
        }
    }

    fn warn(&mut self, word: &str, what: &str) {
        self.warnings.push(format!("kernel command line: {word}: {what}"));
    }

    fn refuse(&mut self, word: &str, what: &str) {
        self.errors.push(format!("kernel command line: {word}: {what}"));
    }
}

/// Words are separated by blanks; quotes keep blanks together and are no part of a word (`next_arg` of the
/// kernel's lib/cmdline.c).
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// In numbers: the boot image has no resolver.
fn is_server(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

fn static_address(text: &str) -> Option<StaticAddress> {
    let mut parts = text.split(',');
    let (addr, prefix) = parts.next()?.split_once('/')?;
    let optional = |part: Option<&str>| match part {
        None | Some("") => Some(None),
        Some(text) => text.parse().ok().map(Some),
    };
    let address = StaticAddress {
        addr: addr.parse().ok()?,
        prefix: prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix))?,
        gateway: optional(parts.next())?,
        name_server: optional(parts.next())?,
    };
    parts.next().is_none().then_some(address)
}

/// PXELINUX writes the hardware type before the address, with dashes (`IPAPPEND 2`); iPXE and GRUB write the
/// address.
fn boot_interface(text: &str) -> Option<MacAddr> {
    let has_type = text.len() == "01-52-54-00-12-34-56".len();
    let address = if has_type {
        text.strip_prefix("01-").or_else(|| text.strip_prefix("01:"))?
    } else {
        text
    };
    address.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn every_word_is_read() {
        let line = CommandLine::parse(
            "BOOT_IMAGE=vmlinuz console=tty0 console=ttyS0,115200 kamethod ka.server=10.0.1.1:30765 ka.session=room2 \
             ka.disk=sda=/dev/nvme0n1 ka.disk=sdb=vda ka.name=node7 ka.ip=10.0.1.9/24,10.0.1.1,10.0.1.2 ka.shell \
             ka.reboot=no BOOTIF=01-52-54-00-12-34-56 quiet\n",
        );
        assert!(line.kamethod && line.shell && !line.reboot);
        assert_eq!(line.server.as_deref(), Some("10.0.1.1:30765"));
        assert_eq!(
            (line.session.as_str(), line.name.as_deref()),
            ("room2", Some("node7"))
        );
        assert_eq!(line.disks, ["sda=/dev/nvme0n1", "sdb=vda"]);
        assert_eq!(line.boot_interface, Some(MAC));
        let expected = StaticAddress {
            addr: Ipv4Addr::new(10, 0, 1, 9),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 1, 1)),
            name_server: Some(Ipv4Addr::new(10, 0, 1, 2)),
        };
        assert_eq!(line.ip, Addressing::Static(expected));
        assert_eq!((line.warnings, line.errors), (vec![], vec![]));
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        let line = CommandLine::parse("ro root=/dev/sda1 kamethodical");
        assert!(!line.kamethod && !line.shell && line.reboot);
        assert_eq!((line.session.as_str(), line.ip), ("kainstall", Addressing::Dhcp));
        assert_eq!((line.warnings, line.errors), (vec![], vec![]));
    }

    #[test]
    fn the_boot_interface_is_read_in_both_forms() {
        for text in [
            "01-52-54-00-12-34-56",
            "52:54:00:12:34:56",
            "52-54-00-12-34-56",
            "01:52:54:00:12:34:56",
        ] {
            let line = CommandLine::parse(&format!("BOOTIF={text}"));
            assert_eq!(line.boot_interface, Some(MAC), "{text}");
        }
        for text in ["eth0", "20-52-54-00-12-34-56", "01-52-54-00-12", ""] {
            let line = CommandLine::parse(&format!("BOOTIF={text}"));
            assert_eq!(line.boot_interface, None, "{text}");
        }
    }

    #[test]
    fn an_unknown_word_of_ours_is_a_warning() {
        let line = CommandLine::parse("kamethod ka.sesion=x ka.reboot=maybe ka=1 nomodeset");
        assert_eq!(line.warnings.len(), 2, "{:?}", line.warnings);
        assert!(line.warnings[0].contains("ka.sesion=x"));
        assert_eq!(line.errors, Vec::<String>::new());
        assert!(line.reboot);
    }

    #[test]
    fn a_disk_network_or_server_that_cannot_be_read_is_an_error() {
        for word in [
            "ka.disk=sda",
            "ka.disk",
            "ka.disk=",
            "ka.ip=10.0.0.1",
            "ka.ip=10.0.0.1/0",
            "ka.ip=10.0.0.1/33",
            "ka.ip=10.0.0.1/24,x",
            "ka.ip=10.0.0.1/24,,,",
            "ka.server=golden",
            "ka.server=",
            "ka.session=",
            "ka.name=a_b",
            "ka.name=n7$(id)",
            "ka.name=10.0.0.7",
        ] {
            let line = CommandLine::parse(word);
            assert_eq!(line.errors.len(), 1, "{word}: {line:?}");
            assert!(line.errors[0].contains(word), "{:?}", line.errors);
        }
    }

    #[test]
    fn gateway_and_name_server_may_be_left_out() {
        for (text, gateway, name_server) in [
            ("10.0.0.9/8", None, None),
            ("10.0.0.9/8,10.0.0.1", Some(Ipv4Addr::new(10, 0, 0, 1)), None),
            ("10.0.0.9/8,,10.0.0.2", None, Some(Ipv4Addr::new(10, 0, 0, 2))),
        ] {
            let found = static_address(text).unwrap();
            assert_eq!(
                (found.gateway, found.name_server),
                (gateway, name_server),
                "{text}"
            );
        }
    }

    #[test]
    fn quotes_keep_blanks_together() {
        assert_eq!(
            words("a \"b c\" d=\"e f\"g \"open x"),
            ["a", "b c", "d=e fg", "open x"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}") {
            let line = CommandLine::parse(&text);
            prop_assert!(line.disks.iter().all(|disk| disk.parse::<DiskOption>().is_ok()));
        }

        #[test]
        fn words_of_ours_with_any_value_are_taken_warned_of_or_refused(
            key in "ka\\.(server|session|disk|name|ip|shell|reboot)|BOOTIF",
            value in "[^\"\\s]{0,40}",
        ) {
            CommandLine::parse(&format!("{key}={value}"));
        }
    }
}
