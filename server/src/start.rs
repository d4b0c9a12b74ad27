//! The start of a run: ports, logs, views, and the line that lets nodes in. Nothing is left behind when one fails.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use indicatif::ProgressDrawTarget;
use ka_cli::say;
use ka_proto::run::Offer;
use ka_status::run::RunEvent;
use ka_status::view::{JsonView, PlainView, TerminalView, Verbosity, View};
use ka_transport::{JoinCode, RunLock, Server, ServerConfig, ServerKey};

use crate::approve::Desk;
use crate::boot::{Contact, Images, Opened, PxePlan, Stage1};
use crate::cli::Options;
use crate::join::{Shown, join_line};
use crate::log_dir::LogDir;
use crate::monitor::Monitor;
use crate::run::{Parts, Run};
use crate::settings::{Job, Settings};
use crate::stop::Stop;
use crate::unfinished::{Before, Unfinished};

/// How long a node waits for the operator's word: a room of machines, and one person who looks at each screen.
const APPROVAL_LIMIT: Duration = Duration::from_secs(1800);

/// Binds the ports, tells the operator how to join, and begins to watch.
///
/// # Errors
/// A port, the key, the log directory or the join file cannot be had.
pub(crate) fn start<'a>(
    options: &Options,
    settings: &'a Settings,
    mut images: Images,
    offer: Offer,
) -> Result<Run<'a>> {
    ka_host::system::raise_nofile().context("preparing for many connections")?;
    // Before the first file of the run: what ends now ends as a run does, and leaves nothing.
    let stop = Stop::on_signals()?;
    let run_lock = RunLock::for_run(&options.state_dir).context("--state-dir")?;
    let (mut unfinished, before) = Unfinished::open(
        &options.state_dir,
        settings.session.as_str(),
        settings.job_digest(),
        options.fresh,
    )?;
    // What cannot be had is no run that somebody would want to take up.
    let stage1 = images.stage1.take();
    let opened = listen(options, settings, &unfinished, offer).and_then(|server| {
        stop.abort_with(&server);
        let opened = Opening::open(options, settings, stage1, &server, &unfinished)?;
        Ok((server, opened))
    });
    let (server, opened) = opened.inspect_err(|_| {
        if before == Before::Nothing {
            unfinished.close().ok();
        }
    })?;
    begin(
        options,
        settings,
        images,
        opened,
        (server, stop, run_lock, unfinished, before),
    )
}

/// Opens the ports of the run itself.
fn listen(
    options: &Options,
    settings: &Settings,
    unfinished: &Unfinished,
    offer: Offer,
) -> Result<Arc<Server>> {
    let beacon = settings.boot.beacon.then_some(unfinished.beacon());
    let config = ServerConfig {
        beacon,
        offer,
        ..server_config(options, settings, unfinished)?
    };
    Ok(Arc::new(Server::start(config)?))
}

/// Everything that is opened beside the run's own ports. The most likely to fail comes first, so that the rest is not made.
struct Opening<'a> {
    boot_server: Option<Opened<'a>>,
    log_dir: Option<LogDir>,
    /// The file with the join code.
    code_file: PathBuf,
}

impl<'a> Opening<'a> {
    fn open(
        options: &Options,
        settings: &'a Settings,
        stage1: Option<Stage1>,
        server: &Server,
        unfinished: &Unfinished,
    ) -> Result<Self> {
        let boot_server = open_boot_server(options, settings, stage1, server, unfinished)?;
        let log_dir = options.log_dir.as_deref();
        let log_dir = log_dir
            .map(|dir| LogDir::make(dir, settings.session.as_str()))
            .transpose()?;
        let kept = JoinCode::file_of_session(&options.state_dir, settings.session.as_str());
        server.join_code().write_file(&kept).context("--state-dir")?;
        if let Some(path) = &options.join_file {
            server.join_code().write_file(path).context("--join-file")?;
        }
        Ok(Self {
            boot_server,
            log_dir,
            code_file: options.join_file.clone().unwrap_or(kept),
        })
    }
}

fn begin<'a>(
    options: &Options,
    settings: &'a Settings,
    images: Images,
    opened: Opening<'a>,
    (server, stop, run_lock, unfinished, before): (Arc<Server>, Stop, RunLock, Unfinished, Before),
) -> Result<Run<'a>> {
    let Opening {
        boot_server,
        log_dir,
        code_file,
    } = opened;
    let beacon = settings.boot.beacon.then_some(unfinished.beacon());
    let log_path = log_dir.as_ref().map(|dir| dir.path.clone());
    let monitor = Monitor::new(
        views(options, log_dir),
        still_wanted(settings, &unfinished),
        server.events(),
    )
    .context("starting the outputs")?;
    announce(options, settings, &server, &code_file);
    listening(options, settings, &server, &monitor, log_path.as_deref());
    tell_before(&monitor, &unfinished, before);
    let serving = boot_server
        .map(|opened| opened.serve(&monitor, &server))
        .transpose()?;
    for text in images.notes {
        monitor.emit(&RunEvent::Warning { text });
    }
    let desk = options
        .approve
        .then(|| {
            Desk::open(
                &options.state_dir,
                settings.session.as_str(),
                server.approvals(),
                monitor.questions(),
            )
        })
        .transpose()?;
    let own_files = own_files(options, log_path.as_deref());
    let parts = Parts {
        settings,
        monitor,
        stop,
        server,
        own_files,
        stage2: images.stage2.map(Arc::new),
        serving,
        beacon,
        run_lock,
        unfinished,
        log_dir: log_path,
        desk,
    };
    Run::new(parts)
}

fn open_boot_server<'a>(
    options: &Options,
    settings: &'a Settings,
    stage1: Option<Stage1>,
    server: &Server,
    unfinished: &Unfinished,
) -> Result<Option<Opened<'a>>> {
    let Some((plan, stage1)) = settings.boot.pxe.as_ref().zip(stage1) else {
        return Ok(None);
    };
    let contact = Contact {
        session: &settings.session,
        join: server.join_code(),
        listen: options.listen,
        port: server.local_addrs().control.port(),
    };
    Opened::new(plan, stage1, &contact, unfinished.done()).map(Some)
}

/// Nodes that are still to come; those that are done count.
fn still_wanted(settings: &Settings, unfinished: &Unfinished) -> Option<u32> {
    let done = u32::try_from(unfinished.done().len()).unwrap_or(u32::MAX);
    settings.wanted.map(|wanted| wanted.saturating_sub(done))
}

/// Says what became of the run before, and shows who of it is done.
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

/// The secret itself is shown to a person at a terminal and to nobody else: what is no terminal is a log (of a unit, of
/// a script) that more people read than may let nodes in. There the line names the file.
fn announce(options: &Options, settings: &Settings, server: &Server, code_file: &Path) {
    let shown = if io::stderr().is_terminal() {
        Shown::Code(server.join_code())
    } else {
        Shown::File(code_file)
    };
    let line = join_line(&settings.session, &shown, server.local_addrs(), options.listen);
    say(&format!("Nodes join with:\n  {line}"));
}

fn listening(
    options: &Options,
    settings: &Settings,
    server: &Server,
    monitor: &Monitor,
    log_dir: Option<&Path>,
) {
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
        wait_secs: options.wait,
    });
}

/// As absolute paths without links, which is how the golden tree is walked. Those that are not there need no care.
fn own_files(options: &Options, log_dir: Option<&Path>) -> Vec<PathBuf> {
    let files = [
        Some(options.state_dir.as_path()),
        options.join_file.as_deref(),
        log_dir,
    ];
    files
        .into_iter()
        .flatten()
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

fn views(options: &Options, log_dir: Option<LogDir>) -> Vec<(String, Box<dyn View>)> {
    let mut views = log_dir.map_or_else(Vec::new, |dir| dir.views);
    let (name, view): (&str, Box<dyn View>) = if options.json {
        (
            "writing events to standard output",
            Box::new(JsonView::new(io::stdout())),
        )
    } else {
        let view: Box<dyn View> = if options.quiet {
            Box::new(PlainView::new(io::stderr(), Verbosity::Quiet))
        } else if can_draw() {
            Box::new(TerminalView::new(ProgressDrawTarget::stderr()))
        } else {
            Box::new(PlainView::new(io::stderr(), Verbosity::Normal))
        };
        ("writing to standard error", view)
    };
    views.push((name.to_owned(), view));
    views
}

/// Whether standing lines can be drawn on standard error. On a terminal that cannot move its cursor (`TERM=dumb`, or no
/// `TERM`: a serial line, `su -`, an editor's shell) nothing would be seen of them: that gets plain lines.
fn can_draw() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    io::stderr().is_terminal() && !matches!(term.as_str(), "" | "dumb" | "unknown")
}

fn server_config(options: &Options, settings: &Settings, unfinished: &Unfinished) -> Result<ServerConfig> {
    let key = ServerKey::load_or_create(&options.state_dir).context("--state-dir")?;
    let mut config = ServerConfig::new(settings.session.clone(), key, unfinished.secret());
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    config.control_port = options.control_port;
    config.approval = options.approve.then_some(APPROVAL_LIMIT);
    config.known_macs = settings.boot.pxe.as_ref().and_then(PxePlan::known_macs);
    config.contradiction = settings.boot.pxe.as_ref().map(PxePlan::contradiction);
    config.data_port = options.data_port;
    // While first boots are awaited, whoever comes late is cloned: how many rounds that makes is seen then.
    config.rounds = if settings.rounds > 1 && !settings.boot.wait_boot.is_zero() {
        u32::MAX
    } else {
        settings.rounds
    };
    config.wanted = still_wanted(settings, unfinished);
    let done = unfinished.done().iter();
    config.done = done.map(|done| done.identity.clone()).collect();
    config.wait = options.wait.map(Duration::from_secs);
    config.window_bytes = options.buffer.0;
    config.encrypt = !options.no_encrypt;
    config.timeouts.link_silence = options.silence;
    config.tolerance = options.tolerate;
    config.spool.clone_from(&settings.spool);
    config.any_address = options.any_address;
    config.min_rate = options.min_rate.unwrap_or_default();
    config.commits = matches!(settings.job, Job::Clone(_));
    if let Job::Clone(survey) = &settings.job
        && !settings.boot.keep_identity
    {
        config.unique_names = Some(names_that_say_nothing(&survey.root));
    }
    // With -d everybody waits for their turn, also those that did not ask to (-w). A machine that we booted must not
    // boot again before its clone was compared and its menu says local.
    config.hold_release = options.release_delay > 0 || settings.boot.pxe.is_some();
    Ok(config)
}

/// Names that a node gives its clone no name from: it makes one of its hardware address instead.
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

/// Bytes that nobody can guess.
///
/// # Errors
/// The kernel has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("making the run's secret: {error}"))?;
    Ok(bytes)
}
