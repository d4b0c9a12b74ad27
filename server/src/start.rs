//! The start of a run: ports, logs, views, and the line that lets nodes in. If one fails, nothing is left
//! behind.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ka_cli::say;
use ka_lldp::Listener;
use ka_proto::run::{Offer, RunConfig};
use ka_proto::text::file_name;
use ka_report::run::RunEvent;
use ka_transport::{RunLock, Server, ServerConfig, ServerKey, join_file};
use ka_view::{JsonView, PlainView, Verbosity, View};

use crate::approve::Desk;
use crate::boot::{Contact, Opened, SharedMachines, Stage1};
use crate::cli::OutputOptions;
use crate::consent::Consent;
use crate::golden_place::GoldenPlace;
use crate::join::{Shown, join_line};
use crate::log_dir::LogDir;
use crate::monitor::Monitor;
use crate::run::{Held, Run};
use crate::screen::{can_draw, terminal_view};
use crate::settings::{Job, Settings};
use crate::stop::Stop;
use crate::unfinished::{Before, Unfinished};

/// Time that a node waits for the operator's answer: one person looks at the screens of a room of machines.
const APPROVAL_LIMIT: Duration = Duration::from_secs(1800);

/// Binds the ports, shows the operator how to join, and begins to watch. `lldp` listens for the place of this
/// machine's line.
///
/// # Errors
/// A port, the key, the log directory or the join file is not available.
pub(crate) fn start<'a>(
    settings: &'a Settings,
    stage1: Option<Stage1>,
    offer: Offer,
    lldp: Listener,
) -> Result<Run<'a>> {
    ka_host::system::raise_nofile().context("preparing for many connections")?;
    // This comes before the first file of the run. A signal from here on ends it as a run, and leaves
    // nothing.
    let stop = Stop::on_signals()?;
    let state_dir = &settings.files.state_dir;
    let run_lock = RunLock::for_run(state_dir).context("--state-dir")?;
    let (mut unfinished, before) = Unfinished::open(
        state_dir,
        settings.session.as_str(),
        settings.job_digest(),
        settings.nodes.fresh,
    )?;
    // A new run that fails here is not kept for a restart.
    let machines = SharedMachines::default();
    let opened = listen(settings, &machines, &unfinished, offer).and_then(|server| {
        stop.abort_with(&server);
        let opened = Opening::open(settings, stage1, machines, &server, &unfinished)?;
        Ok((server, opened))
    });
    let (server, opened) = opened.inspect_err(|_| {
        if before == Before::Nothing {
            unfinished.close().ok();
        }
    })?;
    begin(
        settings,
        opened,
        lldp,
        (server, stop, run_lock, unfinished, before),
    )
}

/// Opens the ports of the run itself.
fn listen(
    settings: &Settings,
    machines: &SharedMachines,
    unfinished: &Unfinished,
    offer: Offer,
) -> Result<Arc<Server>> {
    let mut config = server_config(settings, unfinished)?;
    if let Some(plan) = &settings.boot.pxe {
        config.admission.known_macs = plan.known_macs();
        config.admission.contradiction = Some(machines.contradiction());
    }
    config.run.offer = offer;
    Ok(Arc::new(Server::start(config)?))
}

/// The resources that are opened beside the run's own ports. The most likely to fail comes first, so that the
/// rest is not made.
struct Opening<'a> {
    boot_server: Option<Opened<'a>>,
    log_dir: Option<LogDir>,
    /// The file with the join code.
    code_file: PathBuf,
}

impl<'a> Opening<'a> {
    fn open(
        settings: &'a Settings,
        stage1: Option<Stage1>,
        machines: SharedMachines,
        server: &Server,
        unfinished: &Unfinished,
    ) -> Result<Self> {
        let boot_server = open_boot_server(settings, stage1, machines, server, unfinished)?;
        let files = &settings.files;
        let log_dir = files.log_dir.as_deref();
        let log_dir = log_dir
            .map(|dir| LogDir::make(dir, settings.session.as_str()))
            .transpose()?;
        let kept = join_file::of_session(&files.state_dir, settings.session.as_str());
        join_file::write(&kept, server.join_code()).context("--state-dir")?;
        if let Some(path) = &files.join_file {
            join_file::write(path, server.join_code()).context("--join-file")?;
        }
        keep_names(settings);
        Ok(Self {
            boot_server,
            log_dir,
            code_file: files.join_file.clone().unwrap_or(kept),
        })
    }
}

/// Keeps the names of the node list, from which shells complete nodes for `ka-status`. Nothing else needs
/// them.
fn keep_names(settings: &Settings) {
    let nodes = settings.boot.pxe.iter().flat_map(|plan| &plan.nodes);
    let names: String = nodes.map(|node| format!("{}\n", node.name)).collect();
    let file = format!("nodes-{}", file_name(settings.session.as_str()));
    if !names.is_empty() {
        fs::write(settings.files.state_dir.join(file), names).ok();
    }
}

fn begin<'a>(
    settings: &'a Settings,
    opened: Opening<'a>,
    lldp: Listener,
    (server, stop, run_lock, unfinished, before): (Arc<Server>, Stop, RunLock, Unfinished, Before),
) -> Result<Run<'a>> {
    let Opening {
        boot_server,
        log_dir,
        code_file,
    } = opened;
    let log_path = log_dir.as_ref().map(|dir| dir.path.clone());
    let monitor = Monitor::new(
        views(settings.output, log_dir),
        still_wanted(settings, &unfinished),
        server.events(),
        server.approvals().clone(),
    )
    .context("starting the outputs")?;
    let told_by = Arc::downgrade(&monitor);
    server.tell_works(move |node| told_by.upgrade()?.work_of(node.0));
    announce(settings, &server, &code_file);
    listening(settings, &server, &monitor, log_path.as_deref());
    tell_before(&monitor, &unfinished, before);
    let serving = boot_server
        .map(|opened| opened.serve(&monitor, &server))
        .transpose()?;
    let consent = consent(settings);
    let desk = settings.nodes.approve.then(|| {
        Desk::open(
            &settings.files.state_dir,
            settings.session.as_str(),
            server.approvals(),
            monitor.questions(),
            consent.clone(),
        )
    });
    let desk = desk.transpose()?;
    if desk.is_none() && consent.is_needed() {
        consent.read_terminal()?;
    }
    let place = GoldenPlace::listen(lldp, &server, &monitor);
    let held = Held::new(run_lock, desk, consent, log_path, place);
    Run::new(settings, server, stop, monitor, unfinished, serving, held)
}

/// Returns the consent that the run needs from a person at the terminal. The generic mode erases no disk.
fn consent(settings: &Settings) -> Consent {
    if settings.makes_clones() {
        Consent::of_person(!settings.nodes.yes && !settings.output.json)
    } else {
        Consent::default()
    }
}

fn open_boot_server<'a>(
    settings: &'a Settings,
    stage1: Option<Stage1>,
    machines: SharedMachines,
    server: &Server,
    unfinished: &Unfinished,
) -> Result<Option<Opened<'a>>> {
    let Some((plan, stage1)) = settings.boot.pxe.as_ref().zip(stage1) else {
        return Ok(None);
    };
    let contact = Contact {
        session: &settings.session,
        join: server.join_code(),
        listen: settings.network.listen,
        port: server.local_addrs().control.port(),
        append: settings.boot.images.append.as_deref().unwrap_or_default(),
    };
    Opened::new(plan, stage1, &contact, machines, unfinished.done()).map(Some)
}

/// Returns the number of nodes that are still to come. Nodes that are done count towards the wanted number.
fn still_wanted(settings: &Settings, unfinished: &Unfinished) -> Option<u32> {
    let done = u32::try_from(unfinished.done().len()).unwrap_or(u32::MAX);
    settings.wanted.map(|wanted| wanted.saturating_sub(done))
}

/// Shows what became of the earlier run, and its nodes that are done.
fn tell_before(monitor: &Monitor, unfinished: &Unfinished, before: Before) {
    let text = match before {
        Before::Nothing => return,
        Before::TakenUp => {
            let nodes = monitor.know_done(unfinished.done());
            return monitor.emit(&RunEvent::TakenUp { nodes });
        }
        Before::OtherJob => {
            "another job under this name was not ended; it is given up, and its join code is not good any more"
        }
        Before::Unreadable => {
            "what was kept of an earlier run of this session cannot be read; this is a new run"
        }
        Before::InUse => {
            "another ka-server runs this session with this --state-dir: if this one is killed, it cannot be taken up"
        }
    };
    monitor.emit(&RunEvent::Warning {
        text: text.to_owned(),
    });
}

/// Shows the line that lets nodes in. The secret itself appears only on a terminal. Anything else is a log
/// (of a unit, of a script), and more people may read it than may let nodes in. There the line names the
/// file.
fn announce(settings: &Settings, server: &Server, code_file: &Path) {
    let shown = if io::stderr().is_terminal() {
        Shown::Code(server.join_code())
    } else {
        Shown::File(code_file)
    };
    let line = join_line(
        &settings.session,
        &shown,
        server.local_addrs(),
        settings.network.listen,
    );
    say(&format!("Nodes join with:\n  {line}"));
    if let Shown::Code(code) = shown {
        let [first, second] = code.read_out();
        say(&format!(
            "or, to read out and type (dashes and case do not matter):\n  {first}\n  {second}"
        ));
    }
    if matches!(shown, Shown::File(_)) {
        say("  (the file is on this machine: copy it to each node first, as with scp)");
    }
}

fn listening(settings: &Settings, server: &Server, monitor: &Monitor, log_dir: Option<&Path>) {
    let local = server.local_addrs();
    if let Some(dir) = log_dir {
        say(&format!("Logs are in {}", dir.display()));
    }
    let port = local.control.port();
    let addrs = local
        .reachable
        .iter()
        .map(|addr| SocketAddr::new(*addr, port).to_string())
        .collect();
    monitor.emit(&RunEvent::Listening {
        session: settings.session.to_string(),
        addrs,
        wanted: settings.wanted,
        wait_secs: settings.nodes.wait.map(|wait| wait.as_secs()),
    });
}

fn views(output: OutputOptions, log_dir: Option<LogDir>) -> Vec<(String, Box<dyn View>)> {
    let mut views = log_dir.map_or_else(Vec::new, |dir| dir.views);
    let verbosity = if output.verbose {
        Verbosity::Steps
    } else {
        Verbosity::Normal
    };
    let (name, view): (&str, Box<dyn View>) = if output.json {
        (
            "writing events to standard output",
            Box::new(JsonView::new(io::stdout())),
        )
    } else {
        let view: Box<dyn View> = if output.quiet {
            Box::new(PlainView::new(io::stderr(), Verbosity::Quiet))
        } else if can_draw() {
            Box::new(terminal_view(verbosity))
        } else {
            Box::new(PlainView::new(io::stderr(), verbosity))
        };
        ("writing to standard error", view)
    };
    views.push((name.to_owned(), view));
    views
}

/// Returns the configuration of the server, but for the checks that need the boot server, and the offer.
fn server_config(settings: &Settings, unfinished: &Unfinished) -> Result<ServerConfig> {
    let key = ServerKey::load_or_create(&settings.files.state_dir).context("--state-dir")?;
    let mut config = ServerConfig::new(settings.session.clone(), key, unfinished.secret())?;
    if let Some(listen) = settings.network.listen {
        config.listen = listen;
    }
    config.control_port = settings.network.control_port;
    config.admission.approval = settings.nodes.approve.then_some(APPROVAL_LIMIT);
    config.beacon = settings.boot.beacon.then_some(unfinished.beacon());
    config.window_bytes = settings.stream.buffer.0;
    config.spool.clone_from(&settings.spool);
    config.transport = settings.stream.transport;
    let done = unfinished.done().iter();
    config.done = done.map(|done| done.identity.clone()).collect();
    set_run(&mut config.run, settings);
    config.run.wanted = still_wanted(settings, unfinished);
    Ok(config)
}

/// Sets what the operator says about the run.
fn set_run(run: &mut RunConfig, settings: &Settings) {
    let (nodes, stream) = (&settings.nodes, &settings.stream);
    run.data_port = settings.network.data_port;
    run.any_address = settings.network.any_address;
    // Late nodes are cloned while first boots are awaited, so the number of rounds is open then.
    run.rounds = if nodes.rounds > 1 && !settings.boot.wait_boot.is_zero() {
        u32::MAX
    } else {
        nodes.rounds
    };
    run.wait = nodes.wait;
    run.order = settings.order.clone();
    if stream.no_encrypt {
        run.cipher = None;
    }
    run.link_silence = stream.silence;
    run.tolerance = stream.tolerate;
    run.min_rate = stream.min_rate.unwrap_or_default();
    if let Job::Clone(job) = &settings.job {
        run.commits = true;
        if !settings.boot.keep_identity {
            run.unique_names = Some(names_that_say_nothing(&job.survey.root));
        }
    }
    // With -d all nodes wait for their turn, also those without -w. A machine that we booted must not boot
    // again before its clone was compared and its menu says local.
    run.hold_release = !nodes.release_delay.is_zero() || settings.boot.pxe.is_some();
}

/// Returns the names that a clone does not take from its node. It makes a name of the MAC address instead.
fn names_that_say_nothing(golden_root: &Path) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "localhost.localdomain", "(none)", "node"]
        .map(str::to_owned)
        .into();
    names.push(ka_host::system::hostname());
    if let Ok(text) = std::fs::read_to_string(golden_root.join("etc/hostname")) {
        names.extend(text.lines().map(|line| line.trim().to_owned()));
    }
    names
}
