//! The settings about booting nodes: the boot server, and the clones' first boot. Decided and checked before
//! anything starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ka_disk::spec::{DriveSpec, InstallSpec};
use ka_mac::MacAddr;
use ka_proto::SessionName;
use ka_pxe::arming::{self, State};
use ka_pxe::dhcp::DhcpError;
use ka_pxe::{Arm, DhcpMode, FullConfig, Needs, NodeEntry, Programs, PxeError, iface, nodes};
use ka_report::boot::MachineRef;
use ka_transport::KnownMacs;

use crate::cli::{ArmWhich, BootOptions, DhcpOptions, ImageOptions};
use crate::failure::Faults;

/// Default time to wait for clones after the release if we booted them. Firmware of servers needs minutes.
const WAIT_BOOT: Duration = Duration::from_secs(600);
/// Largest stage2 file accepted. It is held in memory here and unpacked into memory on each node.
const MAX_STAGE2_BYTES: u64 = 512 << 20;

/// The checked settings of a run about booting.
#[derive(Debug, Clone)]
pub(crate) struct BootSettings {
    /// The boot server, if there is one.
    pub(crate) pxe: Option<PxePlan>,
    /// The programs and images that machines load.
    pub(crate) images: ImageOptions,
    /// True if the clones keep the golden node's identity.
    pub(crate) keep_identity: bool,
    /// True if the clones use kernel device names in the places where the golden node does.
    pub(crate) kernel_names: bool,
    /// Time to wait for the clones after the release. Zero means no wait.
    pub(crate) wait_boot: Duration,
    /// True if clones report their first boot by a beacon.
    pub(crate) beacon: bool,
}

/// The checked settings of the boot server.
#[derive(Debug, Clone)]
pub(crate) struct PxePlan {
    /// The interface that it serves.
    pub(crate) iface: String,
    /// Our addresses on that interface. Machines are told the first one.
    pub(crate) addrs: Vec<IpAddr>,
    /// The DHCP mode: `full`, `proxy` or `off`.
    pub(crate) dhcp: DhcpMode,
    /// The directory that keeps leases and the armed machines.
    pub(crate) state_dir: PathBuf,
    /// The node list.
    pub(crate) nodes: Vec<NodeEntry>,
    /// Machines of the list that are armed again.
    pub(crate) rearm: Vec<MacAddr>,
    /// Machines of the list that boot from their own disks.
    stay_local: Vec<MacAddr>,
    /// Machines that are armed beside the list.
    pub(crate) arm: Arm,
    /// The boot programs for each firmware.
    pub(crate) programs: Programs,
    /// The static client, `/init` of the boot image.
    pub(crate) client: PathBuf,
    /// Number of machines that will boot into a clone by themselves.
    pub(crate) expected: u32,
    /// Notes for the operator before the run starts.
    pub(crate) notes: Vec<String>,
}

impl BootSettings {
    /// Checks the options. `wanted` is `-n`.
    ///
    /// # Errors
    /// One line that names the option, file or line, and what to do.
    pub(crate) fn check(options: &BootOptions, wanted: Option<u32>, state_dir: &Path) -> Result<Self> {
        let mut faults = Faults::default();
        if let Some(path) = &options.images.stage2 {
            faults.keep(check_stage2(path));
        }
        let default_wait = if options.pxe.is_some() {
            WAIT_BOOT
        } else {
            Duration::ZERO
        };
        let wait_boot = options.first_boot.wait_boot.unwrap_or(default_wait);
        let pxe = options.pxe.as_ref();
        let pxe = pxe.map(|iface| PxePlan::check(iface, options, wanted, state_dir));
        let pxe = faults.keep(pxe.transpose()).flatten();
        if options.pxe.is_none() && options.first_boot.no_beacon && !wait_boot.is_zero() {
            faults.add(anyhow!(
                "--wait-boot waits for the clones' own word, which --no-beacon leaves out: without --pxe nothing else \
                 tells that they booted"
            ));
        }
        faults.check()?;
        Ok(Self {
            pxe,
            images: options.images.clone(),
            keep_identity: options.first_boot.keep_identity,
            kernel_names: options.first_boot.kernel_names,
            beacon: !options.first_boot.no_beacon && !wait_boot.is_zero(),
            wait_boot,
        })
    }
}

impl BootSettings {
    /// Checks the node list's drives and the kernel against the surveyed golden node, before images are made.
    ///
    /// # Errors
    /// One line for each machine or kernel that cannot work.
    pub(crate) fn check_surveyed(&self, root: &Path, spec: &InstallSpec) -> Result<()> {
        let Some(plan) = &self.pxe else {
            return Ok(());
        };
        let mut faults = Faults::default();
        faults.keep(plan.check_drives(&spec.drives));
        let kernel = ka_initrd::kernel_release(root, self.images.kernel.as_deref());
        faults.keep(kernel.context("making the boot image (stage1)"));
        faults.check()
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
            stay_local: Vec::new(),
            arm: Arm::None,
            programs,
            client,
            expected: 0,
            notes: Vec::new(),
            nodes: Vec::new(),
        };
        let by_hand = states
            .iter()
            .filter(|(mac, state)| **state == State::Armed && !nodes.iter().any(|node| node.mac == **mac));
        let mut expected = nodes.len() - off.len() + by_hand.count();
        match options.arm {
            ArmWhich::None => {
                let notes = off.iter().map(|node| still_local(node, states.get(&node.mac)));
                plan.notes.extend(notes);
                plan.stay_local = off.iter().map(|node| node.mac).collect();
            }
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

    /// Checks interface, addresses, pool and boot programs. Returns notes for the operator.
    ///
    /// # Errors
    /// One line that names the option or the interface.
    pub(crate) fn check_needs(&self) -> Result<Vec<String>> {
        self.needs().check().map_err(|faults| several(faults, "--pxe"))
    }

    /// Checks that the drives of the node list are among those that are sent.
    ///
    /// # Errors
    /// One line for each drive that is not sent.
    fn check_drives(&self, sent: &[DriveSpec]) -> Result<()> {
        let mut faults = Faults::default();
        for node in &self.nodes {
            for (drive, _) in &node.disks {
                faults.keep(check_drive(node, drive, sent));
            }
        }
        faults.check()
    }

    /// Binds every port of the boot server for a moment. Returns a fault for each that is in use.
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

    /// Returns the number of nodes to wait for without `-n`: all that are armed by their MAC address.
    ///
    /// # Errors
    /// Fails if no machine of the list is armed.
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

    /// Returns the machines of the list that boot into a clone by themselves, without those that are done.
    pub(crate) fn expected_machines(&self, is_done: impl Fn(MacAddr) -> bool) -> Vec<MachineRef> {
        let nodes = self.nodes.iter();
        let nodes = nodes.filter(|node| !self.stay_local.contains(&node.mac) && !is_done(node.mac));
        let machine = |node: &NodeEntry| MachineRef {
            mac: node.mac.to_string(),
            name: Some(node.name.clone()),
            addr: node.address.map(|addr| addr.to_string()),
        };
        nodes.map(machine).collect()
    }

    /// Returns the MAC addresses that a node may claim. These are the machines of the list that are still
    /// armed, and machines that were armed separately, now or during the run. `None` allows any address,
    /// because there is no list or every machine is armed.
    pub(crate) fn known_macs(&self) -> Option<KnownMacs> {
        if self.nodes.is_empty() || matches!(self.arm, Arm::All(_)) {
            return None;
        }
        let listed: BTreeSet<_> = self.nodes.iter().map(|node| node.mac).collect();
        let state_dir = self.state_dir.clone();
        let is_known = move |mac: MacAddr| {
            // As in the menus: in doubt nothing is erased. If the state cannot be read, no machine is let in.
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

    /// Returns the DHCP mode in the words of the option.
    pub(crate) fn dhcp_name(&self) -> String {
        match &self.dhcp {
            DhcpMode::Full(full) => format!("full:{}", full.pool),
            DhcpMode::Proxy => "proxy".to_owned(),
            DhcpMode::Off => "off".to_owned(),
        }
    }
}

/// The parts of a plan, each checked separately.
struct Parts {
    addrs: Vec<Ipv4Addr>,
    dhcp: DhcpMode,
    programs: Programs,
    nodes: Vec<NodeEntry>,
    client: PathBuf,
    states: BTreeMap<MacAddr, State>,
}

/// Turns each fault into one under the option that caused it.
fn several(faults: ka_pxe::Faults, option: &'static str) -> anyhow::Error {
    let mut all = Faults::default();
    for fault in faults {
        // This fault names its option itself.
        let is_named = matches!(fault, PxeError::Dhcp(DhcpError::Config(_)));
        let fault = anyhow::Error::from(fault.without_option());
        all.add(if is_named { fault } else { fault.context(option) });
    }
    all.into()
}

impl Parts {
    /// Checks all parts of the plan.
    ///
    /// # Errors
    /// All faults together.
    fn check(iface: &str, options: &BootOptions, wanted: Option<u32>, state_dir: &Path) -> Result<Self> {
        let mut faults = Faults::default();
        let addrs = faults.keep(iface::addresses(iface).context("--pxe"));
        // With an interface, the pool is checked against it, together with everything else.
        if let (None, DhcpMode::Full(full)) = (&addrs, &options.dhcp.mode) {
            faults.keep(
                full.pool
                    .check_order()
                    .map_err(DhcpError::Config)
                    .map_err(Into::into),
            );
        }
        let addrs = addrs.unwrap_or_default();
        let dhcp = faults.keep(dhcp(&options.dhcp));
        let programs = faults.keep(programs(options.images.boot_files.as_deref()));
        let nodes = options.node_list.as_deref().map(nodes::parse).transpose();
        let nodes = faults
            .keep(nodes.map_err(|faults| several(faults, "--nodes")))
            .flatten();
        let client = ka_initrd::find_static_client(options.images.client.as_deref());
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

/// Checks the settings that are sent with the addresses. A pool that holds our own address would give it
/// away.
fn dhcp(options: &DhcpOptions) -> Result<DhcpMode> {
    let DhcpMode::Full(full) = &options.mode else {
        let is_told = options.router.is_some() || !options.dns.is_empty() || options.domain.is_some();
        ensure!(
            !is_told,
            "--router, --dns and --domain are for --dhcp full:FIRST-LAST"
        );
        return Ok(options.mode.clone());
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

/// Checks that the session's name is one word on a kernel command line.
///
/// # Errors
/// The name has white space, a quote or a backslash.
pub(super) fn check_session(session: &SessionName) -> Result<()> {
    let is_plain = |c: char| !c.is_whitespace() && !"\"'\\".contains(c);
    ensure!(
        session.as_str().chars().all(is_plain),
        "session name (-s) {session:?} cannot be put on the kernel command line of nodes (--pxe): leave out spaces and \
         quotes"
    );
    Ok(())
}
