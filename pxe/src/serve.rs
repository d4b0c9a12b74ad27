//! `ka-pxe serve`: starts the boot server, prints its events, ends at Ctrl-C.

use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context as _, Result};
use ka_cli::EndRequests;
use ka_pxe::dhcp::{DhcpMode, FullConfig};
use ka_pxe::{BootConfig, BootServer, Programs, Served, Source};
use nix::sys::signal::{SigSet, Signal};

use crate::boot_config::{KERNEL, boot_config, initrd_name};
use crate::cli::ServeOptions;

/// Exit code after a second signal, which ends the program at once.
const IMPATIENT_EXIT: i32 = 1;

pub(crate) fn run(options: &ServeOptions) -> Result<()> {
    ka_pxe::privileges::give_up().context("giving up what root may and a boot server need not")?;
    let signalled = catch_signals()?;
    let config = config(options)?;
    let (iface, mode) = (config.iface.clone(), mode_name(&config.dhcp));
    let armed = config.nodes.len();
    let server = BootServer::start(config)?;
    tell(&format!(
        "serving {iface} at {} (dhcp {mode}, {armed} machines listed); Ctrl-C ends it\n",
        server.address()
    ));
    let events = server.events();
    thread::Builder::new()
        .name("events".into())
        .spawn(move || events.iter().for_each(|event| tell(&format!("{event}\n"))))
        .context("starting the thread that says what happens")?;
    let _ = signalled.recv();
    server.stop();
    tell("stopped\n");
    Ok(())
}

fn config(options: &ServeOptions) -> Result<BootConfig> {
    let file = |name: String, path: &std::path::Path| Served {
        name,
        source: Source::Path(path.to_owned()),
    };
    let kernel = file(KERNEL.to_owned(), &options.kernel);
    let initrds = options.initrd.iter().enumerate();
    let initrds = initrds
        .map(|(index, path)| file(initrd_name(index), path))
        .collect();
    let mut config = boot_config(&options.boot, kernel, initrds)?;
    config.tftp_port = options.tftp_port;
    config.programs = Some(Programs::find(options.boot_files.as_deref())?);
    config.dhcp = match &options.dhcp {
        DhcpMode::Full(full) => DhcpMode::Full(told(full, options)),
        other => {
            let is_given = options.router.is_some() || !options.dns.is_empty() || options.domain.is_some();
            anyhow::ensure!(
                !is_given && options.lease_time.is_none(),
                "--router, --dns, --domain and --lease-time are for --dhcp full:FIRST-LAST"
            );
            other.clone()
        }
    };
    Ok(config)
}

fn told(full: &FullConfig, options: &ServeOptions) -> FullConfig {
    let mut full = full.clone();
    full.router = options.router;
    full.dns.clone_from(&options.dns);
    full.domain.clone_from(&options.domain);
    if let Some(time) = options.lease_time {
        full.lease_time = time;
    }
    full
}

fn mode_name(mode: &DhcpMode) -> &'static str {
    match mode {
        DhcpMode::Full(_) => "full",
        DhcpMode::Proxy => "proxy",
        DhcpMode::Off => "off",
    }
}

/// Blocks SIGINT, SIGTERM and SIGHUP in every thread (all are started later) and waits for them in a thread
/// of its own.
fn catch_signals() -> Result<Receiver<()>> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("blocking signals")?;
    let (sender, receiver) = mpsc::channel();
    let wait = move || {
        let mut requests = EndRequests::default();
        let mut first = Some(sender);
        while let Ok(signal) = signals.wait() {
            if !requests.is_new(signal.as_str()) {
                continue;
            }
            match first.take() {
                Some(sender) if sender.send(()).is_ok() => (),
                Some(_) => return,
                None => std::process::exit(IMPATIENT_EXIT),
            }
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .context("starting the signal thread")?;
    Ok(receiver)
}

/// Prints a line for the operator while machines are served. A failing output stops nothing.
fn tell(text: &str) {
    ka_cli::write(text.as_bytes()).ok();
}
