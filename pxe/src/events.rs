//! What the boot server tells whoever embeds it, through a bounded channel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::machine::{Arch, MacAddr, Stage};
use crate::menu::Entry;

/// Events that may wait to be read: 64 machines make about ten each while booting; a reader that sleeps for longer loses
/// some, and is told how many.
pub const MAX_WAITING_EVENTS: usize = 4096;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// A machine asks what to boot (DHCP).
    Asked {
        /// Its card.
        mac: MacAddr,
        /// Its firmware.
        arch: Arch,
        /// How far its boot is.
        stage: Stage,
    },
    /// A machine has an address of ours.
    Leased {
        /// Its card.
        mac: MacAddr,
        /// The address.
        addr: Ipv4Addr,
    },
    /// A machine was given its menu.
    Menu {
        /// Its card.
        mac: MacAddr,
        /// The entry that boots by itself.
        entry: Entry,
    },
    /// A file was fetched completely.
    Fetched {
        /// By whom.
        peer: IpAddr,
        /// Its name.
        file: String,
        /// How many bytes went out.
        bytes: u64,
        /// By which service.
        service: Service,
        /// From the request to the last byte.
        took: Duration,
    },
    /// Something that is neither PXE nor our own init asks for an address: an operating system, but also U-Boot, a management
    /// board on the machine's card, or the system of another disk.
    SeenAgain {
        /// Its card.
        mac: MacAddr,
        /// What it calls itself (option 60).
        vendor_class: Option<String>,
        /// Its host name (option 12 or 81), if it says one.
        host_name: Option<String>,
    },
    /// Something the operator should know.
    Warning {
        /// One line.
        text: String,
    },
}

/// A service that sends files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// RFC 1350: one packet at a time, unless the program asks for a window.
    Tftp,
    /// RFC 9112.
    Http,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        })
    }
}

impl fmt::Display for BootEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { mac, arch, stage } => write!(f, "{mac} asks what to boot ({arch}, {stage})"),
            Self::Leased { mac, addr } => write!(f, "{mac} has address {addr}"),
            Self::Menu { mac, entry } => write!(f, "{mac} boots {entry}"),
            Self::Fetched {
                peer,
                file,
                bytes,
                service,
                took,
            } => {
                let secs = took.as_secs_f64();
                write!(
                    f,
                    "{peer} fetched {file} ({bytes} bytes by {service} in {secs:.1} s)"
                )
            }
            Self::SeenAgain {
                mac, vendor_class, ..
            } => match vendor_class {
                Some(class) => write!(f, "{mac} asks for an address, and is no network boot ({class})"),
                None => write!(f, "{mac} asks for an address, and is no network boot"),
            },
            Self::Warning { text } => write!(f, "warning: {text}"),
        }
    }
}

/// Where the services put their events. Never waits: booting machines are worth more than a line about them.
#[derive(Debug, Clone)]
pub struct Events {
    sender: SyncSender<BootEvent>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// A bounded channel.
    #[must_use]
    pub fn channel() -> (Self, Receiver<BootEvent>) {
        let (sender, receiver) = sync_channel(MAX_WAITING_EVENTS);
        let lost = Arc::default();
        (Self { sender, lost }, receiver)
    }

    /// Tells an event; when nobody reads, it is counted and the next one that fits says how many were lost.
    pub fn tell(&self, event: BootEvent) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} events were lost because nobody read them");
            if self.sender.try_send(BootEvent::Warning { text }).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.tell(BootEvent::Warning { text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_sleeps_is_told_how_many_events_it_lost() {
        let (events, receiver) = Events::channel();
        for _ in 0..MAX_WAITING_EVENTS + 3 {
            events.warn("x");
        }
        assert_eq!(receiver.try_iter().count(), MAX_WAITING_EVENTS);
        events.warn("last");
        let told: Vec<_> = receiver.try_iter().map(|event| event.to_string()).collect();
        assert_eq!(
            told,
            [
                "warning: 3 events were lost because nobody read them",
                "warning: last"
            ]
        );
    }
}
