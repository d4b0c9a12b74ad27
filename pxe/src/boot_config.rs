//! The part of the configuration that menus depend on, from the options that `serve` and `menu` share.

use anyhow::{Result, bail};
use ka_pxe::{Arm, BootConfig, Served, nodes};

use crate::cli::{ArmWhom, BootOptions};

/// Name under which the kernel is served, whatever the file is called.
pub(crate) const KERNEL: &str = "vmlinuz";

/// Name under which an initrd is served. `index` counts from 0.
pub(crate) fn initrd_name(index: usize) -> String {
    match index {
        0 => "initrd.img".to_owned(),
        more => format!("initrd{more}.img"),
    }
}

/// The part of the configuration that menus depend on.
pub(crate) fn boot_config(options: &BootOptions, kernel: Served, initrds: Vec<Served>) -> Result<BootConfig> {
    let mut config = BootConfig::new(&options.iface, kernel);
    config.arm = match (options.arm, options.count) {
        (ArmWhom::None, None) => Arm::None,
        (ArmWhom::All, Some(count)) => Arm::All(count),
        (ArmWhom::All, None) => bail!("--arm all: say for how many machines with -n NUM"),
        (ArmWhom::None, Some(_)) => bail!("-n: it counts the machines of --arm all, which is not given"),
    };
    if let Some(file) = &options.nodes {
        config.nodes = nodes::parse(file)?;
    }
    config.initrds = initrds;
    config.append.clone_from(&options.append);
    config.timeout = options.menu_timeout();
    config.http_port = options.http_port;
    config.state_dir.clone_from(&options.state.state_dir);
    Ok(config)
}
