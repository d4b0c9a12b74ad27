//! All services in a thread of their own with its own tokio runtime, so that the embedding program needs
//! none.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ka_mac::MacAddr;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::catalog::Catalog;
use crate::dhcp::{BootFileFor, Dhcp, DhcpConfig, DhcpEvent, DhcpMode, EventSink, KnownMachine};
use crate::error::PxeError;
use crate::events::{BootEvent, Events};
use crate::http::{self, Http};
use crate::machine::{Arch, Machine};
use crate::nodes::NodeEntry;
use crate::programs::Programs;
use crate::tftp::{self, Tftp};

/// Threads that answer. They only copy to sockets, and the clone needs the golden node's processors.
const WORKERS: usize = 2;
/// Threads that wait for disks. More would wait for the same disk.
const DISK_THREADS: usize = 8;
/// Longest time that a disk may delay the stop.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Largest number of unbootable machines that are remembered, so that each is reported once.
const MAX_TOLD: usize = 1000;

/// The running services, and the means to stop them.
#[derive(Debug)]
pub(crate) struct Services {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Everything that the services need to run.
pub(crate) struct Plan {
    pub(crate) iface: String,
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) tftp_port: u16,
    pub(crate) http_port: u16,
    pub(crate) dhcp: DhcpMode,
    pub(crate) nodes: Vec<NodeEntry>,
    pub(crate) state_dir: PathBuf,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) programs: Programs,
    pub(crate) events: Events,
}

impl Services {
    /// Opens the ports and starts the services. Returns when all of them answer.
    pub(crate) fn start(plan: Plan) -> Result<Self, PxeError> {
        let tftp = plan
            .addresses
            .iter()
            .map(|addr| tftp::bind(*addr, plan.tftp_port));
        let tftp = tftp.collect::<Result<Vec<_>, _>>()?;
        let http = plan
            .addresses
            .iter()
            .map(|addr| http::bind(*addr, plan.http_port));
        let http = http.collect::<Result<Vec<_>, _>>()?;
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let run = move || {
            let built = Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .max_blocking_threads(DISK_THREADS)
                .thread_name("ka-pxe")
                .enable_all()
                .build();
            match built {
                Ok(runtime) => run(runtime, &plan, tftp, http, &ready, stopped),
                Err(source) => drop(ready.send(Err(system("starting the boot server's threads", source)))),
            }
        };
        let thread = thread::Builder::new()
            .name("ka-pxe".into())
            .spawn(run)
            .map_err(|source| system("starting the boot server's thread", source))?;
        let services = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        let died = || {
            system(
                "starting the boot server",
                std::io::Error::other("its thread died"),
            )
        };
        is_ready.recv().unwrap_or_else(|_| Err(died()))?;
        Ok(services)
    }

    /// Stops all services. Running transfers are cut off.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has printed its message already. There is nothing else to do about it.
            let _ = thread.join();
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    runtime: Runtime,
    plan: &Plan,
    tftp: Vec<Tftp>,
    http: Vec<Http>,
    ready: &mpsc::SyncSender<Result<(), PxeError>>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        let mut services = JoinSet::new();
        // TFTP and HTTP start before DHCP, whose search for other servers takes seconds: a machine may know
        // this server from elsewhere.
        for server in tftp {
            let (catalog, events) = (Arc::clone(&plan.catalog), plan.events.clone());
            services.spawn(async move {
                server
                    .serve(catalog, events)
                    .await
                    .map_err(|err| format!("TFTP: {err}"))
            });
        }
        for server in http {
            let (catalog, events) = (Arc::clone(&plan.catalog), plan.events.clone());
            services.spawn(async move {
                server
                    .serve(catalog, events)
                    .await
                    .map_err(|err| format!("HTTP: {err}"))
            });
        }
        match Dhcp::bind(&dhcp_config(plan), boot_file_for(plan), sink(plan)).await {
            Err(err) => return drop(ready.send(Err(err.into()))),
            Ok(None) => (),
            Ok(Some(dhcp)) => drop(services.spawn(async move {
                dhcp.serve(std::future::pending())
                    .await
                    .map_err(|err| err.to_string())
            })),
        }
        // The starting thread waits for this. If it is gone, `stopped` completes too.
        let _ = ready.send(Ok(()));
        let watch = async {
            while let Some(ended) = services.join_next().await {
                if let Ok(Err(text)) = ended {
                    plan.events
                        .warn(format!("a service of the boot server ended: {text}"));
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // An error means that the handle was dropped, which is the request to stop.
            _ = stopped => (),
            () = watch => (),
        }
    });
    runtime.shutdown_timeout(END_LIMIT);
}

fn dhcp_config(plan: &Plan) -> DhcpConfig {
    let known = |node: &NodeEntry| KnownMachine {
        mac: node.mac,
        name: Some(node.name.clone()),
        address: node.address,
    };
    DhcpConfig {
        iface: plan.iface.clone(),
        mode: plan.dhcp.clone(),
        known: plan.nodes.iter().map(known).collect(),
        state_dir: plan.state_dir.clone(),
    }
}

fn boot_file_for(plan: &Plan) -> BootFileFor {
    let (programs, origin) = (plan.programs.clone(), plan.catalog.origin(plan.addresses[0]));
    let (events, told) = (plan.events.clone(), Mutex::new(BTreeSet::<MacAddr>::new()));
    Arc::new(move |machine: &Machine| {
        let file = programs.for_machine(machine, origin).map(|file| file.name);
        if file.is_none() {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() < MAX_TOLD && told.insert(machine.mac) {
                events.warn(without_program(&programs, machine));
            }
        }
        file
    })
}

fn without_program(programs: &Programs, machine: &Machine) -> String {
    let (mac, arch) = (machine.mac, machine.arch);
    let why = programs.missing().find(|(missing, _)| *missing == arch);
    match (why, arch) {
        (Some((_, text)), _) => format!("{mac} cannot boot: {text}"),
        (None, Arch::Other(number)) => {
            format!("{mac} cannot boot: there is no boot program for arch {number}")
        }
        (None, arch) => format!("{mac} cannot boot: there is no boot program for {arch}"),
    }
}

fn sink(plan: &Plan) -> EventSink {
    let events = plan.events.clone();
    Arc::new(move |event| {
        events.tell(match event {
            DhcpEvent::Asked(machine) => BootEvent::Asked {
                mac: machine.mac,
                arch: machine.arch,
                stage: machine.stage(),
            },
            DhcpEvent::Leased { mac, address } => BootEvent::Leased { mac, addr: address },
            DhcpEvent::SeenAgain {
                mac,
                vendor_class,
                host_name,
            } => BootEvent::SeenAgain {
                mac,
                vendor_class,
                host_name,
            },
            DhcpEvent::Warning(text) => BootEvent::Warning { text },
        });
    })
}

fn system(doing: &str, source: std::io::Error) -> PxeError {
    PxeError::System {
        doing: doing.to_owned(),
        source,
    }
}
