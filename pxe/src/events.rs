//! Events of the boot server for the program that embeds it, through a bounded channel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ka_mac::MacAddr;

use crate::machine::{Arch, Stage};
use crate::menu::Entry;

/// Largest number of unread events. 64 machines cause about ten each while booting. A reader that pauses for
/// longer loses events, and is told how many.
pub const MAX_WAITING_EVENTS: usize = 4096;

/// An event of the boot server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// A machine asks what to boot (DHCP).
    Asked {
        /// MAC address of its card.
        mac: MacAddr,
        /// Processor and firmware.
        arch: Arch,
        /// Stage of its network boot.
        stage: Stage,
    },
    /// A machine got an address from this server.
    Leased {
        /// MAC address of its card.
        mac: MacAddr,
        /// The address that it got.
        addr: Ipv4Addr,
    },
    /// A machine got its menu.
    Menu {
        /// MAC address of its card.
        mac: MacAddr,
        /// The entry that boots if nobody presses a key.
        entry: Entry,
    },
    /// A file was fetched completely.
    Fetched {
        /// Address of the machine.
        peer: IpAddr,
        /// Name of the file.
        file: String,
        /// Number of bytes sent.
        bytes: u64,
        /// Service that sent it.
        service: Service,
        /// Time from the request to the last byte.
        took: Duration,
    },
    /// A client that is neither PXE nor our own node asks for an address. It is an operating system, but it
    /// may also be U-Boot, a management board that shares the machine's card, or the system of another disk.
    SeenAgain {
        /// MAC address of its card.
        mac: MacAddr,
        /// Vendor class (option 60), if it sends one.
        vendor_class: Option<String>,
        /// Host name (option 12 or 81), if it sends one.
        host_name: Option<String>,
    },
    /// A warning for the operator.
    Warning {
        /// The text, one line.
        text: String,
    },
}

/// A service that sends files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// RFC 1350: one packet at a time, unless the program asks for a window.
    Tftp,
    /// RFC 9112: GET and HEAD.
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

/// Sender of events. Never waits: booting machines are worth more than a line about them.
#[derive(Debug, Clone)]
pub struct Events {
    sender: SyncSender<BootEvent>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Creates a bounded channel: its sender and its receiver.
    #[must_use]
    pub fn channel() -> (Self, Receiver<BootEvent>) {
        let (sender, receiver) = sync_channel(MAX_WAITING_EVENTS);
        let lost = Arc::default();
        (Self { sender, lost }, receiver)
    }

    /// Sends an event. If the channel is full, the event is lost and counted; a warning before the next event
    /// that fits says how many were lost.
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

    /// Sends a warning.
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
