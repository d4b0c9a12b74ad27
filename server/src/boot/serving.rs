//! The boot server inside a run: started when the join code is known, told which machines are finished, and what it
//! reports brought to the views.

use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ka_proto::SessionName;
use ka_pxe::{BootConfig, BootEvent, BootServer, DhcpMode, Entry, MacAddr, PxeError, Served, Source};
use ka_status::boot::{BootServing, MachineNews};
use ka_status::run::RunEvent;
use ka_transport::{CONTROL_PORT, JoinCode, NodeInfo, Server};

use super::images::Stage1;
use super::machines::{Machines, Meaning};
use super::plan::PxePlan;
use crate::monitor::Monitor;
use crate::unfinished::Done;

/// Names that machines ask for.
const KERNEL: &str = "vmlinuz";
const STAGE1: &str = "stage1.img";

/// How long the boot server's last events may take, and between two looks at that.
const LAST_EVENTS_LIMIT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Where nodes find us and how they prove themselves.
#[derive(Debug)]
pub(crate) struct Contact<'a> {
    /// The session.
    pub(crate) session: &'a SessionName,
    /// What nodes need to join.
    pub(crate) join: &'a JoinCode,
    /// `--listen`, where it is one address.
    pub(crate) listen: Option<IpAddr>,
    /// The control port.
    pub(crate) port: u16,
}

/// A boot server whose ports are open.
pub(crate) struct Opened<'a> {
    server: BootServer,
    plan: &'a PxePlan,
    about: BootServing,
}

impl<'a> Opened<'a> {
    /// Opens the boot server's ports and begins to answer machines.
    ///
    /// # Errors
    /// A port, file or boot program cannot be had, or another DHCP server is on the wire in `full` mode.
    pub(crate) fn new(
        plan: &'a PxePlan,
        stage1: Stage1,
        contact: &Contact<'_>,
        done: &[Done],
    ) -> Result<Self> {
        let (stage1_bytes, kernel) = (stage1.image.len() as u64, stage1.release.clone());
        let server = BootServer::start(config(plan, stage1, contact))
            .map_err(PxeError::without_option)
            .context("--pxe")?;
        // A run that is taken up has armed them before; those that are done since are done.
        let is_done = |mac: &MacAddr| {
            let mac = Some(ka_proto::MacAddr(mac.0));
            done.iter().any(|done| done.identity.mac == mac)
        };
        for mac in plan.rearm.iter().filter(|mac| !is_done(mac)) {
            server.arm(*mac).context("--arm listed")?;
        }
        let about = BootServing {
            iface: plan.iface.clone(),
            addr: server.address().to_string(),
            dhcp: plan.dhcp_name(),
            kernel,
            stage1_bytes,
            armed: plan.expected,
        };
        Ok(Self { server, plan, about })
    }

    /// Shows it, and from now on what machines do.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn serve(self, monitor: &Arc<Monitor>, server: &Arc<Server>) -> Result<Serving> {
        monitor.emit(&RunEvent::BootServing(self.about));
        for text in &self.plan.notes {
            monitor.emit(&RunEvent::Warning { text: text.clone() });
        }
        let files = vec![KERNEL.to_owned(), STAGE1.to_owned()];
        let machines = Arc::clone(&self.plan.machines);
        lock(&machines).know(&self.plan.nodes, files);
        let teller = tell(
            self.server.events(),
            Arc::clone(&machines),
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
    machines: Arc<Mutex<Machines>>,
    teller: JoinHandle<()>,
    monitor: Arc<Monitor>,
    gives_addresses: bool,
}

impl Serving {
    /// The node was cloned and compared: its machine boots from its own disk from now on. Called before it is released. Gives
    /// the machine's hardware address, where it is known.
    pub(crate) fn finished(&self, node: &NodeInfo) -> Option<ka_proto::MacAddr> {
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
                machine: lock(&self.machines).reference(mac),
                news: MachineNews::Finished,
            }),
            Err(error) => self.monitor.emit(&RunEvent::Warning {
                text: format!("{node} would be cloned again at its next network boot: {error}"),
            }),
        }
        Some(ka_proto::MacAddr(mac.0))
    }

    /// What it said itself, else whose address it has.
    fn mac_of(&self, node: &NodeInfo) -> Option<MacAddr> {
        let said = node.mac.map(|mac| MacAddr(mac.0));
        said.or_else(|| lock(&self.machines).mac_of(node.addr))
    }

    /// Whether machines have their addresses from us.
    pub(crate) fn gives_addresses(&self) -> bool {
        self.gives_addresses
    }

    /// Ends all services.
    pub(crate) fn stop(self) {
        self.server.stop();
        // It ends with the server's last event. One that is stuck in a view must not keep the run from its totals.
        let limit = Instant::now() + LAST_EVENTS_LIMIT;
        while !self.teller.is_finished() && Instant::now() < limit {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// A session name with white space would fall apart on a kernel command line.
///
/// # Errors
/// It has some, or a quote.
pub(crate) fn check_session(session: &SessionName) -> Result<()> {
    let is_plain = |c: char| !c.is_whitespace() && !"\"'\\".contains(c);
    ensure!(
        session.as_str().chars().all(is_plain),
        "session name (-s) {session:?} cannot be put on the kernel command line of nodes (--pxe): leave out spaces and \
         quotes"
    );
    Ok(())
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
    let mut words = "kamethod".to_owned();
    if let Some(server) = server {
        let port = (contact.port != CONTROL_PORT).then(|| format!(":{}", contact.port));
        let server = match (server, &port) {
            (IpAddr::V6(addr), Some(_)) => format!("[{addr}]"),
            (addr, _) => addr.to_string(),
        };
        words += &format!(" ka.server={server}{}", port.unwrap_or_default());
    }
    words += &format!(" ka.session={}", contact.session);
    if !plan.append.trim().is_empty() {
        words += &format!(" {}", plan.append.trim());
    }
    words
}

fn tell(
    events: Receiver<BootEvent>,
    machines: Arc<Mutex<Machines>>,
    monitor: Arc<Monitor>,
    server: Weak<Server>,
) -> Result<JoinHandle<()>> {
    let tell = move || {
        for event in events {
            // Whoever is given this menu is armed: for the first time, or again after its clone was done.
            if let BootEvent::Menu {
                mac,
                entry: Entry::Kamethod,
            } = &event
                && let Some(server) = server.upgrade()
            {
                server.forget_done(ka_proto::MacAddr(mac.0));
            }
            let (left_out, meaning) = {
                let mut machines = lock(&machines);
                (machines.left_out(Instant::now()), machines.take(event))
            };
            if let Some(warning) = left_out {
                monitor.emit(&warning);
            }
            match meaning {
                Meaning::Show(event) => monitor.emit(&event),
                Meaning::SystemAsks(mac, name) => {
                    monitor.system_asks(ka_proto::MacAddr(mac.0), name.as_deref());
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
