//! What each subcommand does, but `serve`.

use std::path::Path;

use anyhow::{Result, bail};
use ka_pxe::arming::{self, State};
use ka_pxe::{Arm, BootConfig, Form, Served, Source, nodes};

use crate::cli::{ArmOptions, ArmWhom, BootOptions, Command, MenuOptions};
use crate::serve;

/// Names under which kernel and initrds are served, whatever the files are called.
pub(crate) const KERNEL: &str = "vmlinuz";

/// Does what the command line says.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Serve(options) => serve::run(options),
        Command::Menu(options) => menu(options),
        Command::Arm(options) => set(options, State::Armed),
        Command::Disarm(options) => set(options, State::Disarmed),
        Command::List(options) => list(&options.state_dir),
    }
}

/// Name of an initrd, counted from 0.
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

fn menu(options: &MenuOptions) -> Result<()> {
    let empty = |name: String| Served {
        name,
        source: Source::Bytes(Vec::new()),
    };
    let initrds = (0..options.initrds)
        .map(|index| empty(initrd_name(index)))
        .collect();
    let config = boot_config(&options.boot, empty(KERNEL.to_owned()), initrds)?;
    let menu = ka_pxe::preview(config, options.mac)?;
    let forms = match options.form {
        Some(form) => vec![form.into()],
        None => vec![Form::Pxelinux, Form::Ipxe, Form::Grub],
    };
    let texts: Vec<String> = forms.into_iter().map(|form| menu.write(form)).collect();
    Ok(ka_cli::write(texts.join("\n").as_bytes())?)
}

fn set(options: &ArmOptions, state: State) -> Result<()> {
    let mut macs = options.macs.clone();
    if let Some(file) = &options.nodes {
        macs.extend(nodes::parse(file)?.iter().map(|node| node.mac));
    }
    for mac in macs {
        arming::set_state(&options.state.state_dir, mac, state)?;
    }
    Ok(())
}

fn list(state_dir: &Path) -> Result<()> {
    let name = |state| match state {
        State::Armed => "armed",
        State::Taken => "taken",
        State::Finished => "finished",
        State::Disarmed => "disarmed",
    };
    let states = arming::states(state_dir)?;
    let lines: String = states
        .iter()
        .map(|(mac, state)| format!("{mac} {}\n", name(*state)))
        .collect();
    Ok(ka_cli::write(lines.as_bytes())?)
}
