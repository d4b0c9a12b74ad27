//! What the boot server is to do, decided and checked before anything starts: the plan that `--dry-run` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ka_disk::spec::DriveSpec;
use ka_proto::MacAddr;
use ka_pxe::arming::{self, State};
use ka_pxe::dhcp::DhcpError;
use ka_pxe::{Arm, DhcpMode, FullConfig, Needs, NodeEntry, Programs, PxeError, iface, nodes};
use ka_transport::{Contradiction, KnownMacs};
use serde::Serialize;

use super::machines::Machines;
use super::options::{ArmWhich, BootOptions};
use crate::failure::Faults;

/// How long clones are waited for after the release by default, when we booted them: firmware of servers needs minutes.
const WAIT_BOOT: Duration = Duration::from_secs(600);
/// Largest stage2 file taken: it is held in memory here and unpacked into memory on each node.
const MAX_STAGE2_BYTES: u64 = 512 << 20;

/// What of a run is about booting, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct BootSettings {
    /// The boot server, if there is to be one.
    pub(crate) pxe: Option<PxePlan>,
    /// A stage2 file made before.
    pub(crate) stage2: Option<PathBuf>,
    /// The clones stay what the golden node is called.
    pub(crate) keep_identity: bool,
    /// The clones name devices as the kernel does, where the golden node does.
    pub(crate) kernel_names: bool,
    /// How long clones are waited for after the release; zero: not at all.
    pub(crate) wait_boot: Duration,
    /// Whether clones say by themselves that they booted.
    pub(crate) beacon: bool,
}

/// The boot server's part.
#[derive(Debug, Clone)]
pub(crate) struct PxePlan {
    /// The interface it serves.
    pub(crate) iface: String,
    /// Our addresses there; the first one is the one that machines are told.
    pub(crate) addrs: Vec<IpAddr>,
    /// Who gives addresses.
    pub(crate) dhcp: DhcpMode,
    /// Where leases and who is armed are kept.
    pub(crate) state_dir: PathBuf,
    /// The node list.
    pub(crate) nodes: Vec<NodeEntry>,
    /// Machines of the list that are armed again.
    pub(crate) rearm: Vec<ka_pxe::MacAddr>,
    /// Who is armed beside the list.
    pub(crate) arm: Arm,
    /// Boot programs.
    pub(crate) programs: Programs,
    /// The kernel's release.
    pub(crate) kernel: Option<String>,
    /// Network drivers of stage1.
    pub(crate) drivers: Option<Vec<String>>,
    /// The static client.
    pub(crate) client: PathBuf,
    /// More words for the command line.
    pub(crate) append: String,
    /// Machines that will boot into a clone by themselves.
    pub(crate) expected: u32,
    /// What the operator should know before it starts.
    pub(crate) notes: Vec<String>,
    /// The machines, as the boot server gets to know them.
    pub(crate) machines: Arc<Mutex<Machines>>,
}

impl BootSettings {
    /// Checks the options; `wanted` is `-n`.
    ///
    /// # Errors
    /// One line that names the option, file or line, and what to do.
    pub(crate) fn check(options: &BootOptions, wanted: Option<u32>, state_dir: &Path) -> Result<Self> {
        let mut faults = Faults::default();
        if let Some(path) = &options.stage2 {
            faults.keep(check_stage2(path));
        }
        let default_wait = if options.pxe.is_some() {
            WAIT_BOOT
        } else {
            Duration::ZERO
        };
        let wait_boot = options.wait_boot.map_or(default_wait, Duration::from_secs);
        let pxe = options.pxe.as_ref();
        let pxe = pxe.map(|iface| PxePlan::check(iface, options, wanted, state_dir));
        let pxe = faults.keep(pxe.transpose()).flatten();
        if options.pxe.is_none() && options.no_beacon && !wait_boot.is_zero() {
            faults.add(anyhow!(
                "--wait-boot waits for the clones' own word, which --no-beacon leaves out: without --pxe nothing else \
                 tells that they booted"
            ));
        }
        faults.check()?;
        Ok(Self {
            pxe,
            stage2: options.stage2.clone(),
            keep_identity: options.keep_identity,
            kernel_names: options.kernel_names,
            beacon: !options.no_beacon && !wait_boot.is_zero(),
            wait_boot,
        })
    }
}

impl PxePlan {
    fn check(iface: &str, options: &BootOptions, wanted: Option<u32>, state_dir: &Path) -> Result<Self> {
        let Parts {
            addrs,
            dhcp,
            programs,
            nodes,
            client,
            states,
        } = Parts::check(iface, options, wanted, state_dir)?;
        let is_off =
            |node: &&NodeEntry| matches!(states.get(&node.mac), Some(State::Finished | State::Disarmed));
        let off: Vec<_> = nodes.iter().filter(is_off).collect();
        let mut plan = Self {
            iface: iface.to_owned(),
            addrs: addrs.into_iter().map(IpAddr::V4).collect(),
            dhcp,
            state_dir: state_dir.to_owned(),
            rearm: Vec::new(),
            arm: Arm::None,
            programs,
            kernel: options.kernel.clone(),
            drivers: options.stage1_drivers.clone(),
            client,
            append: options.append.clone().unwrap_or_default(),
            expected: 0,
            notes: Vec::new(),
            machines: Arc::default(),
            nodes: Vec::new(),
        };
        let by_hand = states
            .iter()
            .filter(|(mac, state)| **state == State::Armed && !nodes.iter().any(|node| node.mac == **mac));
        let mut expected = nodes.len() - off.len() + by_hand.count();
        match options.arm {
            ArmWhich::None => plan
                .notes
                .extend(off.iter().map(|node| still_local(node, states.get(&node.mac)))),
            ArmWhich::Listed => {
                plan.rearm = off.iter().map(|node| node.mac).collect();
                expected += off.len();
            }
            ArmWhich::All => {
                let wanted = wanted.unwrap_or_default();
                plan.arm = Arm::All(wanted);
                expected = expected.max(usize::try_from(wanted).unwrap_or(usize::MAX));
            }
        }
        if let (DhcpMode::Off, Some(addr)) = (&plan.dhcp, plan.addrs.first()) {
            plan.notes.push(format!(
                "--dhcp off: the network's own DHCP server must name {addr} as next-server and a boot program of ours as \
                 filename; --dhcp proxy does without"
            ));
        }
        plan.expected = u32::try_from(expected).unwrap_or(u32::MAX);
        if expected == 0 {
            plan.notes.push(
                "no machine is armed: each boots from its own disk, unless somebody picks kamethod in its menu; ka-pxe \
                 arm MAC, --nodes FILE or --arm change that"
                    .to_owned(),
            );
        }
        plan.nodes = nodes;
        Ok(plan)
    }

    /// Checks interface, addresses, pool and boot programs. Gives what the operator should know.
    ///
    /// # Errors
    /// One line that names the option or the interface.
    pub(crate) fn check_needs(&self) -> Result<Vec<String>> {
        self.needs().check().map_err(|faults| several(faults, "--pxe"))
    }

    /// Checks the drives of the node list against those that are sent.
    ///
    /// # Errors
    /// A line for each that is not.
    pub(crate) fn check_drives(&self, sent: &[DriveSpec]) -> Result<()> {
        let mut faults = Faults::default();
        for node in &self.nodes {
            for (drive, _) in &node.disks {
                faults.keep(check_drive(node, drive, sent));
            }
        }
        faults.check()
    }

    /// Takes every port of the boot server for a moment. Gives a fault for each that is in use.
    pub(crate) fn check_ports(&self) -> Vec<anyhow::Error> {
        let busy = self.needs().check_ports().into_iter();
        busy.map(|error| anyhow::Error::from(error.without_option()).context("--pxe"))
            .collect()
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            iface: &self.iface,
            dhcp: &self.dhcp,
            nodes: &self.nodes,
            programs: &self.programs,
            state_dir: &self.state_dir,
        }
    }

    /// How many nodes to wait for when nobody says: all that are armed by their MAC.
    ///
    /// # Errors
    /// None is.
    pub(crate) fn wanted(&self) -> Result<Option<u32>> {
        if self.nodes.is_empty() {
            return Ok(None);
        }
        ensure!(
            self.expected > 0,
            "every machine of --nodes was cloned before and boots from its own disk; --arm listed makes all of them boot \
             into a clone again, ka-pxe arm MAC one of them"
        );
        Ok(Some(self.expected))
    }

    /// The hardware addresses that a node may say: those of the list that nobody has disarmed, and those that somebody has
    /// armed, now or during the run.
    /// `None`: any, because there is no list or everybody is armed.
    pub(crate) fn known_macs(&self) -> Option<KnownMacs> {
        if self.nodes.is_empty() || matches!(self.arm, Arm::All(_)) {
            return None;
        }
        let listed: BTreeSet<_> = self.nodes.iter().map(|node| node.mac).collect();
        let state_dir = self.state_dir.clone();
        let is_known = move |mac: MacAddr| {
            let mac = ka_pxe::MacAddr(mac.0);
            // As in the menus: in doubt nothing is erased. A state that cannot be read lets nobody in.
            let Ok(states) = arming::states(&state_dir) else {
                return false;
            };
            match states.get(&mac) {
                Some(State::Armed) => true,
                Some(State::Disarmed) => false,
                Some(State::Taken | State::Finished) | None => listed.contains(&mac),
            }
        };
        Some(KnownMacs(Arc::new(is_known)))
    }

    /// What speaks against a node that comes from this address and says this hardware address: the boot server gave them to
    /// different machines.
    pub(crate) fn contradiction(&self) -> Contradiction {
        let machines = Arc::clone(&self.machines);
        Contradiction(Arc::new(move |addr, said| {
            let machines = machines.lock().unwrap_or_else(PoisonError::into_inner);
            machines.contradicts(addr, ka_pxe::MacAddr(said.0))
        }))
    }

    /// Who gives addresses, in the words of the option.
    pub(crate) fn dhcp_name(&self) -> String {
        match &self.dhcp {
            DhcpMode::Full(full) => format!("full:{}", full.pool),
            DhcpMode::Proxy => "proxy".to_owned(),
            DhcpMode::Off => "off".to_owned(),
        }
    }
}

/// The parts of a plan, each checked by itself.
struct Parts {
    addrs: Vec<Ipv4Addr>,
    dhcp: DhcpMode,
    programs: Programs,
    nodes: Vec<NodeEntry>,
    client: PathBuf,
    states: BTreeMap<ka_pxe::MacAddr, State>,
}

/// A fault for each, under the option that brought them.
fn several(faults: ka_pxe::Faults, option: &'static str) -> anyhow::Error {
    let mut all = Faults::default();
    for fault in faults {
        // It names its option itself.
        let is_named = matches!(fault, PxeError::Dhcp(DhcpError::Config(_)));
        let fault = anyhow::Error::from(fault.without_option());
        all.add(if is_named { fault } else { fault.context(option) });
    }
    all.into()
}

impl Parts {
    /// # Errors
    /// Everything that is wrong, in one go.
    fn check(iface: &str, options: &BootOptions, wanted: Option<u32>, state_dir: &Path) -> Result<Self> {
        let mut faults = Faults::default();
        let addrs = faults.keep(iface::addresses(iface).context("--pxe"));
        // With an interface it is held against that, with everything else.
        if let (None, DhcpMode::Full(full)) = (&addrs, &options.dhcp) {
            faults.keep(
                full.pool
                    .check_order()
                    .map_err(DhcpError::Config)
                    .map_err(Into::into),
            );
        }
        let addrs = addrs.unwrap_or_default();
        let dhcp = faults.keep(dhcp(options));
        let programs = faults.keep(programs(options.boot_files.as_deref()));
        let nodes = options.node_list.as_deref().map(nodes::parse).transpose();
        let nodes = faults
            .keep(nodes.map_err(|faults| several(faults, "--nodes")))
            .flatten();
        let client = ka_initrd::find_static_client(options.client.as_deref());
        let client = faults.keep(client.context("--client"));
        let states = faults.keep(arming::states(state_dir).context("--state-dir"));
        let lists_nobody = options.node_list.is_none() || nodes.as_ref().is_some_and(Vec::is_empty);
        if options.arm == ArmWhich::Listed && lists_nobody {
            faults.add(anyhow!(
                "--arm listed arms the machines of --nodes FILE again: give one"
            ));
        }
        if options.arm == ArmWhich::All && wanted.is_none() {
            faults.add(anyhow!("--arm all arms the next -n machines that ask: give -n"));
        }
        let found = dhcp.zip(programs).zip(client.zip(states));
        let ((dhcp, programs), (client, states)) = faults.finish(found)?;
        Ok(Self {
            addrs,
            dhcp,
            programs,
            nodes: nodes.unwrap_or_default(),
            client,
            states,
        })
    }
}

fn check_drive(node: &NodeEntry, drive: &str, sent: &[DriveSpec]) -> Result<()> {
    let names: Vec<&str> = sent.iter().map(|sent| sent.name.as_str()).collect();
    ensure!(
        names.contains(&drive),
        "--nodes: {} has disk={drive}=…, and no drive {drive} is sent; there are {}",
        node.name,
        names.join(", ")
    );
    Ok(())
}

fn check_stage2(path: &Path) -> Result<()> {
    let what = fs::metadata(path).with_context(|| format!("looking at --stage2 {}", path.display()))?;
    ensure!(
        what.is_file() && what.len() <= MAX_STAGE2_BYTES,
        "--stage2 {} is no stage2 image: make one with ka-initrd stage2",
        path.display()
    );
    Ok(())
}

fn programs(boot_files: Option<&Path>) -> Result<Programs> {
    if let Some(dir) = boot_files.filter(|dir| !dir.is_dir()) {
        bail!("--boot-files {} is not a directory", dir.display());
    }
    Programs::find(boot_files).context("--pxe")
}

/// What is told with the addresses; a pool that holds our own address would give it away.
fn dhcp(options: &BootOptions) -> Result<DhcpMode> {
    let DhcpMode::Full(full) = &options.dhcp else {
        let is_told = options.router.is_some() || !options.dns.is_empty() || options.domain.is_some();
        ensure!(
            !is_told,
            "--router, --dns and --domain are for --dhcp full:FIRST-LAST"
        );
        return Ok(options.dhcp.clone());
    };
    Ok(DhcpMode::Full(FullConfig {
        router: options.router,
        dns: options.dns.clone(),
        domain: options.domain.clone(),
        ..full.clone()
    }))
}

fn still_local(node: &NodeEntry, state: Option<&State>) -> String {
    let why = match state {
        Some(State::Disarmed) => "was disarmed",
        _ => "was cloned before",
    };
    format!(
        "{} ({}) {why} and boots from its own disk; ka-pxe arm {} or --arm listed changes that",
        node.name, node.mac, node.mac
    )
}

/// The plan as `--dry-run --json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct BootJson {
    iface: String,
    addr: Option<IpAddr>,
    dhcp: String,
    kernel: Option<String>,
    client: PathBuf,
    append: String,
    armed: u32,
    nodes: Vec<NodeJson>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    mac: String,
    name: String,
    address: Option<IpAddr>,
    disks: Vec<(String, String)>,
}

impl From<&PxePlan> for BootJson {
    fn from(plan: &PxePlan) -> Self {
        let node = |node: &NodeEntry| NodeJson {
            mac: node.mac.to_string(),
            name: node.name.clone(),
            address: node.address.map(IpAddr::V4),
            disks: node.disks.clone(),
        };
        Self {
            iface: plan.iface.clone(),
            addr: plan.addrs.first().copied(),
            dhcp: plan.dhcp_name(),
            kernel: plan.kernel.clone(),
            client: plan.client.clone(),
            append: plan.append.clone(),
            armed: plan.expected,
            nodes: plan.nodes.iter().map(node).collect(),
            notes: plan.notes.clone(),
        }
    }
}

impl fmt::Display for PxePlan {
    /// The boot part of `--dry-run`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.addrs.iter().map(ToString::to_string).collect();
        writeln!(f, "\nBoot server on {} ({}):", self.iface, addrs.join(", "))?;
        writeln!(f, "  DHCP          {}", self.dhcp_name())?;
        let kernel = self.kernel.as_deref().unwrap_or("the newest one installed");
        writeln!(f, "  kernel        {kernel}")?;
        writeln!(f, "  /init         {}", self.client.display())?;
        let drivers = self
            .drivers
            .as_ref()
            .map_or("all network drivers".to_owned(), |all| all.join(", "));
        writeln!(f, "  drivers       {drivers}")?;
        if !self.append.is_empty() {
            writeln!(f, "  command line  … {}", self.append)?;
        }
        writeln!(f, "  armed         {}", self.expected)?;
        for node in &self.nodes {
            let address = node
                .address
                .map_or_else(String::new, |address| format!(" {address}"));
            let disks: String = node
                .disks
                .iter()
                .map(|(drive, disk)| format!(" {drive}={disk}"))
                .collect();
            writeln!(f, "  {} {}{address}{disks}", node.mac, node.name)?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
