//! The subcommands of `ka-pxe`, except `serve`.

use std::path::Path;

use anyhow::Result;
use ka_pxe::arming::{self, State};
use ka_pxe::{Form, Served, Source, nodes};

use crate::boot_config::{KERNEL, boot_config, initrd_name};
use crate::cli::{ArmOptions, Command, MenuOptions};
use crate::serve;

/// Runs the subcommand of the command line.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Serve(options) => serve::run(options),
        Command::Menu(options) => menu(options),
        Command::Arm(options) => set(options, State::Armed),
        Command::Disarm(options) => set(options, State::Disarmed),
        Command::List(options) => list(&options.state_dir),
    }
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
    let mut said = String::new();
    for mac in macs {
        arming::set_state(&options.state.state_dir, mac, state)?;
        said += &format!("{mac} {}\n", state_name(state));
    }
    Ok(ka_cli::write(said.as_bytes())?)
}

fn list(state_dir: &Path) -> Result<()> {
    let states = arming::states(state_dir)?;
    if states.is_empty() {
        let missing = if state_dir.exists() {
            ""
        } else {
            ", which is not there"
        };
        ka_cli::say(&format!(
            "nothing is kept of any machine in {}{missing}",
            state_dir.display()
        ));
    }
    let lines: String = states
        .iter()
        .map(|(mac, state)| format!("{mac} {}\n", state_name(*state)))
        .collect();
    Ok(ka_cli::write(lines.as_bytes())?)
}

/// Returns the state that is kept of a machine, in a word.
const fn state_name(state: State) -> &'static str {
    match state {
        State::Armed => "armed",
        State::Taken => "taken",
        State::Finished => "finished",
        State::Disarmed => "disarmed",
    }
}
