//! The boot server's part of `--dry-run`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ka_pxe::NodeEntry;
use serde::Serialize;

use crate::settings::{ImageOptions, PxePlan};

/// The plan as `--dry-run --json` shows it.
#[derive(Debug, Serialize)]
pub(super) struct BootJson {
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

impl BootJson {
    /// Returns the plan of the boot server, with the images that machines load.
    pub(super) fn new(plan: &PxePlan, images: &ImageOptions) -> Self {
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
            kernel: images.kernel.clone(),
            client: plan.client.clone(),
            append: images.append.clone().unwrap_or_default(),
            armed: plan.expected,
            nodes: plan.nodes.iter().map(node).collect(),
            notes: plan.notes.clone(),
        }
    }
}

/// The plan as `--dry-run` shows it.
pub(super) struct BootText<'a> {
    /// The plan of the boot server.
    pub(super) plan: &'a PxePlan,
    /// The programs and images that machines load.
    pub(super) images: &'a ImageOptions,
}

impl fmt::Display for BootText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, images } = self;
        let addrs: Vec<_> = plan.addrs.iter().map(ToString::to_string).collect();
        writeln!(f, "\nBoot server on {} ({}):", plan.iface, addrs.join(", "))?;
        writeln!(f, "  DHCP          {}", plan.dhcp_name())?;
        let kernel = images.kernel.as_deref().unwrap_or("the newest one installed");
        writeln!(f, "  kernel        {kernel}")?;
        writeln!(f, "  /init         {}", plan.client.display())?;
        let drivers = images
            .stage1_drivers
            .as_ref()
            .map_or("all network drivers".to_owned(), |all| all.join(", "));
        writeln!(f, "  drivers       {drivers}")?;
        if let Some(words) = images.append.as_ref().filter(|words| !words.is_empty()) {
            writeln!(f, "  command line  … {words}")?;
        }
        writeln!(f, "  armed         {}", plan.expected)?;
        for node in &plan.nodes {
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
        plan.notes
            .iter()
            .try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
