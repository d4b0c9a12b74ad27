//! The boot server inside a run. It starts when the join code is known, learns which machines are finished,
//! and passes its events to the views.

use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ka_mac::MacAddr;
use ka_proto::SessionName;
use ka_proto::run::NodeInfo;
use ka_pxe::{BootConfig, BootEvent, BootServer, DhcpMode, Entry, METHOD_WORD, PxeError, Served, Source};
use ka_report::boot::{BootServing, MachineNews};
use ka_report::run::RunEvent;
use ka_transport::{CONTROL_PORT, Contradiction, JoinCode, Server};

use super::images::Stage1;
use super::machines::{Machines, Meaning};
use crate::monitor::Monitor;
use crate::settings::PxePlan;
use crate::unfinished::Done;

/// File names that machines request.
const KERNEL: &str = "vmlinuz";
const STAGE1: &str = "stage1.img";

/// Longest wait for the boot server's last events, and the interval of the checks.
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The data on a node's kernel command line and in its boot image: how it finds the server and proves itself.
#[derive(Debug)]
pub(crate) struct Contact<'a> {
    /// The session's name.
    pub(crate) session: &'a SessionName,
    /// The join code.
    pub(crate) join: &'a JoinCode,
    /// `--listen`, if it is one address.
    pub(crate) listen: Option<IpAddr>,
    /// The TCP control port.
    pub(crate) port: u16,
    /// More words for the kernel command line of nodes.
    pub(crate) append: &'a str,
}

/// The machines of the boot network, as far as the boot server knows them, and whoever asks for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedMachines(Arc<Mutex<Machines>>);

impl SharedMachines {
    /// Returns the check of a node's address against its MAC address. It objects if the boot server gave them
    /// to different machines.
    pub(crate) fn contradiction(&self) -> Contradiction {
        let machines = self.clone();
        Contradiction(Arc::new(move |addr, said| {
            machines.lock().contradicts(addr, said)
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A boot server whose ports are open.
pub(crate) struct Opened<'a> {
    server: BootServer,
    plan: &'a PxePlan,
    machines: SharedMachines,
    about: BootServing,
}

impl<'a> Opened<'a> {
    /// Opens the boot server's ports and begins to answer machines.
    ///
    /// # Errors
    /// A port, file or boot program is not available, or another DHCP server is on the network in `full`
    /// mode.
    pub(crate) fn new(
        plan: &'a PxePlan,
        stage1: Stage1,
        contact: &Contact<'_>,
        machines: SharedMachines,
        done: &[Done],
    ) -> Result<Self> {
        let (stage1_bytes, kernel) = (stage1.image.len() as u64, stage1.release.clone());
        let server = BootServer::start(config(plan, stage1, contact))
            .map_err(PxeError::without_option)
            .context("--pxe")?;
        // A resumed run has armed them before. Machines that are done since then stay done.
        let is_done = |mac: MacAddr| done.iter().any(|done| done.identity.mac == Some(mac));
        for mac in plan.rearm.iter().filter(|mac| !is_done(**mac)) {
            server.arm(*mac).context("--arm listed")?;
        }
        let about = BootServing {
            iface: plan.iface.clone(),
            addr: server.address().to_string(),
            dhcp: plan.dhcp_name(),
            kernel,
            stage1_bytes,
            armed: plan.expected,
            machines: plan.expected_machines(is_done),
        };
        Ok(Self {
            server,
            plan,
            machines,
            about,
        })
    }

    /// Shows the boot server, and from now on the events of machines.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn serve(self, monitor: &Arc<Monitor>, server: &Arc<Server>) -> Result<Serving> {
        monitor.emit(&RunEvent::BootServing(self.about));
        for text in &self.plan.notes {
            monitor.emit(&RunEvent::Warning { text: text.clone() });
        }
        let files = vec![KERNEL.to_owned(), STAGE1.to_owned()];
        let machines = self.machines;
        machines.lock().know(&self.plan.nodes, files);
        let teller = tell(
            self.server.events(),
            machines.clone(),
            Arc::clone(monitor),
            Arc::downgrade(server),
        )?;
        Ok(Serving {
            server: self.server,
            machines,
            teller,
            monitor: Arc::clone(monitor),
            gives_addresses: matches!(self.plan.dhcp, DhcpMode::Full(_)),
        })
    }
}

/// A boot server that runs.
pub(crate) struct Serving {
    server: BootServer,
    machines: SharedMachines,
    teller: JoinHandle<()>,
    monitor: Arc<Monitor>,
    gives_addresses: bool,
}

impl Serving {
    /// Marks the node as cloned and compared, so that its machine boots from its own disk from now on. Called
    /// before the node is released. Returns the machine's MAC address, if it is known.
    pub(crate) fn finished(&self, node: &NodeInfo) -> Option<MacAddr> {
        let Some(mac) = self.mac_of(node) else {
            let text = format!(
                "{node}: its hardware address is not known; if it boots from the network again, its menu may still say \
                 kamethod: ka-pxe disarm MAC changes that"
            );
            self.monitor.emit(&RunEvent::Warning { text });
            return None;
        };
        match self.server.finished(mac) {
            Ok(()) => self.monitor.emit(&RunEvent::Machine {
                machine: self.machines.lock().reference(mac),
                news: MachineNews::Finished,
            }),
            Err(error) => self.monitor.emit(&RunEvent::Warning {
                text: format!("{node} would be cloned again at its next network boot: {error}"),
            }),
        }
        Some(mac)
    }

    /// Returns the MAC address that the node gave, or else that of the machine with its address.
    fn mac_of(&self, node: &NodeInfo) -> Option<MacAddr> {
        node.mac.or_else(|| self.machines.lock().mac_of(node.addr.ip()))
    }

    /// True if machines get their addresses from us.
    pub(crate) fn gives_addresses(&self) -> bool {
        self.gives_addresses
    }

    /// Ends all services.
    pub(crate) fn stop(self) {
        self.server.stop();
        // The thread ends with the server's last event. A thread that is stuck in a view must not keep the
        // run from its totals.
        let limit = Instant::now() + LAST_EVENTS_LIMIT;
        while !self.teller.is_finished() && Instant::now() < limit {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn config(plan: &PxePlan, stage1: Stage1, contact: &Contact<'_>) -> BootConfig {
    let mut image = stage1.image;
    ka_initrd::append_join(&mut image, &contact.join.to_string());
    let kernel = Served {
        name: KERNEL.to_owned(),
        source: Source::Path(stage1.kernel),
    };
    let mut config = BootConfig::new(plan.iface.clone(), kernel);
    config.dhcp = plan.dhcp.clone();
    config.state_dir.clone_from(&plan.state_dir);
    config.nodes.clone_from(&plan.nodes);
    config.arm = plan.arm;
    config.programs = Some(plan.programs.clone());
    config.initrds = vec![Served {
        name: STAGE1.to_owned(),
        source: Source::Bytes(image),
    }];
    config.append = command_line(plan, contact);
    config.loaders = stage1.loader.into_iter().collect();
    config
}

fn command_line(plan: &PxePlan, contact: &Contact<'_>) -> String {
    let server = contact
        .listen
        .filter(|addr| !addr.is_unspecified())
        .or_else(|| plan.addrs.first().copied());
    let mut words = METHOD_WORD.to_owned();
    if let Some(server) = server {
        let port = (contact.port != CONTROL_PORT).then(|| format!(":{}", contact.port));
        let server = match (server, &port) {
            (IpAddr::V6(addr), Some(_)) => format!("[{addr}]"),
            (addr, _) => addr.to_string(),
        };
        words += &format!(" ka.server={server}{}", port.unwrap_or_default());
    }
    words += &format!(" ka.session={}", contact.session);
    if !contact.append.trim().is_empty() {
        words += &format!(" {}", contact.append.trim());
    }
    words
}

fn tell(
    events: Receiver<BootEvent>,
    machines: SharedMachines,
    monitor: Arc<Monitor>,
    server: Weak<Server>,
) -> Result<JoinHandle<()>> {
    let tell = move || {
        for event in events {
            // A machine that gets this menu is armed: for the first time, or again after its clone was done.
            if let BootEvent::Menu {
                mac,
                entry: Entry::Kamethod,
            } = &event
                && let Some(server) = server.upgrade()
            {
                server.forget_done(*mac);
            }
            let (left_out, meaning) = {
                let mut machines = machines.lock();
                (machines.left_out(Instant::now()), machines.take(event))
            };
            if let Some(warning) = left_out {
                monitor.emit(&warning);
            }
            match meaning {
                Meaning::Show(event) => monitor.emit(&event),
                Meaning::SystemAsks(mac, name) => {
                    monitor.system_asks(mac, name.as_deref());
                }
                Meaning::Nothing => {}
            }
        }
    };
    std::thread::Builder::new()
        .name("boot-events".into())
        .spawn(tell)
        .context("starting the boot server's thread")
}
