//! The boot server as the embedding program sees it: blocking calls, with all services in a thread of their
//! own.

use std::net::Ipv4Addr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use ka_dhcp::METHOD_WORD;
use ka_mac::MacAddr;

use crate::arming::Arming;
use crate::catalog::Catalog;
use crate::config::BootConfig;
use crate::error::PxeError;
use crate::events::{BootEvent, Events};
use crate::iface;
use crate::menu::{Entry, Menu, check_command_line};
use crate::menus::{Common, MenuMaker};
use crate::programs::Programs;
use crate::served::Served;
use crate::services::{Plan, Services};

/// A running boot server. Dropping it stops it.
#[derive(Debug)]
pub struct BootServer {
    services: Services,
    catalog: Arc<Catalog>,
    address: Ipv4Addr,
    receiver: Mutex<Option<Receiver<BootEvent>>>,
}

impl BootServer {
    /// Checks the configuration, opens the ports and starts all services. Returns when they answer.
    ///
    /// # Errors
    /// Fails if a setting cannot work, if a file or every boot program is missing, or if the interface or a
    /// port cannot be used. In `full` mode it also fails if another DHCP server is on the wire.
    pub fn start(config: BootConfig) -> Result<Self, PxeError> {
        let (plan, receiver) = prepare(config)?;
        if let Some(text) = plan.programs.missing_line() {
            plan.events.warn(text);
        }
        if let Some(text) = plan.programs.advice() {
            plan.events.warn(text);
        }
        let (catalog, address) = (Arc::clone(&plan.catalog), plan.addresses[0]);
        Ok(Self {
            services: Services::start(plan)?,
            catalog,
            address,
            receiver: Mutex::new(Some(receiver)),
        })
    }

    /// IPv4 address of this server that machines are told.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Receiver of all events from now on. There is one reader: the first call takes the receiver, later
    /// calls get an empty channel.
    pub fn events(&self) -> Receiver<BootEvent> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.take().unwrap_or_else(|| Events::channel().1)
    }

    /// Records that the machine was cloned: it gets `local` from its next boot on, over restarts, until it is
    /// armed again.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn finished(&self, mac: MacAddr) -> Result<(), PxeError> {
        self.catalog.menus().arming().finished(mac)
    }

    /// Arms a machine until it has finished.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn arm(&self, mac: MacAddr) -> Result<(), PxeError> {
        self.catalog.menus().arming().arm(mac)
    }

    /// Disarms a machine.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn disarm(&self, mac: MacAddr) -> Result<(), PxeError> {
        self.catalog.menus().arming().disarm(mac)
    }

    /// Returns the entry that a machine would boot now.
    ///
    /// # Errors
    /// Fails if the arming state cannot be read.
    pub fn entry_for(&self, mac: MacAddr) -> Result<Entry, PxeError> {
        self.catalog.menus().arming().entry_for(mac)
    }

    /// Returns the menu that a machine would get now.
    ///
    /// # Errors
    /// Fails if the arming state cannot be read, or if the machine's kernel command line is too long.
    pub fn menu(&self, mac: MacAddr) -> Result<Menu, PxeError> {
        self.catalog
            .menus()
            .preview(mac, self.catalog.origin(self.address))
    }

    /// Serves one more file, or replaces a file of the same name.
    ///
    /// # Errors
    /// Fails if the file cannot be opened, or if no boot program can ask for its name.
    pub fn add_file(&self, served: Served) -> Result<(), PxeError> {
        self.catalog.add(served)
    }

    /// Ends all services.
    pub fn stop(mut self) {
        self.services.stop();
    }
}

/// Returns the menu that a machine would get from a server with this configuration. No server is started.
///
/// # Errors
/// Fails as [`BootServer::start`] does, except for ports and boot programs.
pub fn preview(config: BootConfig, mac: MacAddr) -> Result<Menu, PxeError> {
    let address = iface::addresses(&config.iface)?[0];
    let (events, _receiver) = Events::channel();
    let catalog = catalog(config, events)?;
    catalog.menus().preview(mac, catalog.origin(address))
}

/// Makes all decisions that do not need an open port.
fn prepare(config: BootConfig) -> Result<(Plan, Receiver<BootEvent>), PxeError> {
    let addresses = iface::addresses(&config.iface)?;
    let programs = match config.programs.clone() {
        Some(programs) => programs,
        None => Programs::find(None)?,
    };
    let programs = programs.under(&config.dhcp);
    let (events, receiver) = Events::channel();
    let (iface, dhcp, nodes) = (config.iface.clone(), config.dhcp.clone(), config.nodes.clone());
    let (tftp_port, http_port, state_dir) = (config.tftp_port, config.http_port, config.state_dir.clone());
    let catalog = catalog(config, events.clone())?;
    for served in programs.served() {
        catalog.add(served)?;
    }
    for mac in catalog.menus().arming().unfinished()? {
        events.warn(format!(
            "{mac} was given kamethod by an earlier run and has not finished; under --arm all it keeps its place \
             (ka-pxe disarm {mac} frees it)"
        ));
    }
    let plan = Plan {
        iface,
        addresses,
        tftp_port,
        http_port,
        dhcp,
        nodes,
        state_dir,
        catalog: Arc::new(catalog),
        programs,
        events,
    };
    Ok((plan, receiver))
}

fn catalog(config: BootConfig, events: Events) -> Result<Catalog, PxeError> {
    let append = with_kamethod(&config.append);
    check_command_line(&append).map_err(|text| PxeError::Setting {
        option: "--append",
        text,
    })?;
    let arming = Arming::open(&config.state_dir, &config.nodes, config.arm)?;
    let common = Common {
        kernel: config.kernel.name.clone(),
        initrds: config.initrds.iter().map(|served| served.name.clone()).collect(),
        append,
        loaders: config.loaders,
        timeout: config.timeout,
    };
    let menus = MenuMaker::new(common, &config.nodes, config.per_machine, arming, events);
    let catalog = Catalog::new(menus, config.http_port);
    for served in std::iter::once(config.kernel).chain(config.initrds) {
        catalog.add(served)?;
    }
    Ok(catalog)
}

fn with_kamethod(append: &str) -> String {
    match append.split_whitespace().any(|word| word == METHOD_WORD) {
        true => append.to_owned(),
        false => format!("{METHOD_WORD} {append}").trim().to_owned(),
    }
}
