//! One run of `ka-server`: from checked settings to an exit code. The stages of a clone are in [`crate::clone`],
//! those of the generic mode in [`crate::generic`]; what both share is [`Run`].

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressDrawTarget;
use ka_status::report::NodeReport;
use ka_status::run::RunEvent;
use ka_status::summary::{GoldenTotals, RunSummary, StreamTotals};
use ka_status::text::error_line;
use ka_status::view::{JsonView, PlainView, TerminalView, Verbosity, View};
use ka_transport::{NodeInfo, Outcome, Server, ServerConfig, ServerKey, StreamSummary, StreamWriter};

use crate::cli::Options;
use crate::failure::{Failure, OrFail};
use crate::join::join_line;
use crate::log_dir::LogDir;
use crate::monitor::Monitor;
use crate::settings::{Job, Settings};
use crate::stop::Stop;
use crate::verdict::{Content, Expected, compare};
use crate::{clone, dry_run, generic};

/// A run whose ports are bound.
pub(crate) struct Run<'a> {
    /// What was asked for.
    pub(crate) settings: &'a Settings,
    /// Where everything is shown and remembered.
    pub(crate) monitor: Arc<Monitor>,
    /// Whether somebody asked for the end.
    pub(crate) stop: Stop,
    /// The nodes.
    pub(crate) server: Arc<Server>,
    log_dir: Option<PathBuf>,
    own_files: Vec<PathBuf>,
    watcher: JoinHandle<()>,
    stage: String,
    expected: Vec<Expected>,
    summary: RunSummary,
}

/// Does everything that `options` ask for and gives the exit code.
///
/// # Errors
/// [`Failure`] when it ends before there is a run.
pub(crate) fn run(options: &Options) -> Result<u8, Failure> {
    let settings = Settings::check(options).or_usage()?;
    match &settings.job {
        Job::Clone(survey) => {
            let spec = clone::survey(survey, &settings)?;
            if options.dry_run {
                dry_run::of_clone(&spec, &settings, options).or_nothing_done()?;
                return Ok(0);
            }
            let run = Run::start(options, &settings).or_nothing_done()?;
            Ok(run.carry_out(options, |run| clone::run(run, &spec)))
        }
        Job::Generic(input) => {
            if options.dry_run {
                dry_run::of_generic(input, &settings, options).or_nothing_done()?;
                return Ok(0);
            }
            let run = Run::start(options, &settings).or_nothing_done()?;
            Ok(run.carry_out(options, |run| generic::run(run, input)))
        }
    }
}

impl<'a> Run<'a> {
    /// Binds the ports, tells the operator how to join, and begins to watch.
    fn start(options: &Options, settings: &'a Settings) -> Result<Self> {
        ka_host::system::raise_nofile().context("preparing for many connections")?;
        let server = Arc::new(Server::start(server_config(options, settings)?)?);
        let stop = Stop::on_signals()?;
        stop.abort_with(&server);
        let log_dir = options.log_dir.as_deref();
        let log_dir = log_dir
            .map(|dir| LogDir::make(dir, settings.session.as_str()))
            .transpose()?;
        let log_path = log_dir.as_ref().map(|dir| dir.path.clone());
        let monitor = Monitor::new(views(options, log_dir), options.nodes, server.events());
        let watcher = monitor.watch().context("starting the monitor")?;
        if let Some(path) = &options.join_file {
            server.join_code().write_file(path).context("--join-file")?;
        }
        let run = Self {
            settings,
            monitor,
            stop,
            server,
            own_files: own_files(options, log_path.as_deref()),
            log_dir: log_path,
            watcher,
            stage: "waiting for the start".to_owned(),
            expected: Vec::new(),
            summary: RunSummary {
                session: settings.session.to_string(),
                ..RunSummary::default()
            },
        };
        run.announce(options);
        Ok(run)
    }

    fn announce(&self, options: &Options) {
        let local = self.server.local_addrs();
        let line = join_line(
            &self.settings.session,
            self.server.join_code(),
            local,
            options.listen,
        );
        // The one line of the run that holds the secret: it goes to the operator, never to a view or a log.
        eprintln!("Nodes join with:\n  {line}");
        if let Some(dir) = &self.log_dir {
            eprintln!("Logs are in {}", dir.display());
        }
        let port = local.control.port();
        let addrs = local
            .reachable
            .iter()
            .map(|addr| std::net::SocketAddr::new(*addr, port).to_string())
            .collect();
        self.monitor.emit(&RunEvent::Listening {
            session: self.settings.session.to_string(),
            addrs,
            wanted: options.nodes,
            wait_secs: options.wait,
        });
    }

    /// Runs the stages, tells everybody how it ended, and gives the exit code.
    fn carry_out(mut self, options: &Options, stages: impl FnOnce(&mut Self) -> Result<()>) -> u8 {
        if let Err(error) = stages(&mut self) {
            self.abort(&error);
        }
        self.conclude(options)
    }

    fn conclude(mut self, options: &Options) -> u8 {
        // The core ends with its last handle, and the watcher with the core: every event has been shown then.
        drop(self.server);
        if self.watcher.join().is_err() {
            tracing::error!("the monitor thread has panicked");
        }
        let reason = self
            .summary
            .ended_by
            .clone()
            .unwrap_or_else(|| "it never reported".to_owned());
        self.summary.nodes = self.monitor.settle_all(&self.stage, &reason);
        self.summary.took_ms = milliseconds(self.monitor.elapsed());
        self.monitor.emit(&RunEvent::Ended {
            summary: self.summary.clone(),
        });
        if !options.json {
            // A closed pipe: whoever wanted the totals has gone.
            write!(io::stdout(), "{}", self.summary).ok();
        }
        self.summary.exit_code()
    }

    /// Ends the run on every node with what went wrong here. The first reason counts.
    pub(crate) fn abort(&mut self, error: &anyhow::Error) {
        if self.summary.ended_by.is_none() {
            let stopped = self.stop.cause().map(|cause| format!("stopped by {cause}"));
            let reason = stopped.unwrap_or_else(|| error_line(error.as_ref()));
            self.server.abort(&reason);
            self.summary.ended_by = Some(reason);
        }
    }

    /// Passes on what a feed says about itself. The nodes are told before their stream breaks off.
    ///
    /// # Errors
    /// Those of the feed.
    pub(crate) fn told<T, E: Into<anyhow::Error>>(&mut self, fed: Result<T, E>) -> Result<T> {
        fed.map_err(|error| {
            let error = error.into();
            self.abort(&error);
            error
        })
    }

    /// What of this machine belongs to the run itself and stays here.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        self.own_files.clone()
    }

    /// Waits for the nodes and orders the chain.
    ///
    /// # Errors
    /// Stopped while waiting.
    pub(crate) fn gather(&mut self) -> Result<()> {
        let nodes = self.server.gather()?;
        self.monitor.lets_go(&nodes);
        Ok(())
    }

    /// Names what the nodes are doing, for those that never come back from it.
    pub(crate) fn enter(&mut self, stage: &str) -> Result<()> {
        stage.clone_into(&mut self.stage);
        self.stop.check()
    }

    /// Names the failed ones of a stage and gives the others.
    ///
    /// # Errors
    /// No node is left.
    pub(crate) fn survivors<T>(&self, outcomes: Vec<(NodeInfo, Outcome<T>)>) -> Result<Vec<(NodeInfo, T)>> {
        let mut good = Vec::new();
        for (node, outcome) in outcomes {
            match outcome {
                Outcome::Done(value) => good.push((node, value)),
                Outcome::Failed(failure) => {
                    self.monitor
                        .node_failed(node.id.0, &failure.stage, &failure.reason);
                }
            }
        }
        ensure!(!good.is_empty(), "no node is left");
        Ok(good)
    }

    /// Ends a stream and keeps its totals and what the nodes must report of it.
    ///
    /// # Errors
    /// No node has it, or the run was stopped.
    pub(crate) fn finish_stream(&mut self, writer: StreamWriter, golden: Option<GoldenTotals>) -> Result<()> {
        let summary = writer.finish()?;
        let totals = totals(&summary, golden);
        let content = golden.map_or(Content::Bytes(totals.bytes), |golden| {
            Content::Digest(golden.digest)
        });
        self.expected.push(Expected {
            name: totals.name.clone(),
            content,
        });
        self.monitor.stream_ended(&totals);
        self.summary.streams.push(totals);
        self.survivors(summary.nodes)?;
        Ok(())
    }

    /// Keeps what the golden node could not give as it was.
    pub(crate) fn note_problems(&mut self, problems: &ka_image::Problems) {
        self.summary.golden_problem_count += problems.count();
        self.summary
            .golden_problems
            .extend(problems.kept().iter().map(ToString::to_string));
    }

    /// Waits for the nodes' reports and compares each with what was sent.
    ///
    /// # Errors
    /// No node is left, or the run was stopped.
    pub(crate) fn collect_reports(&mut self) -> Result<()> {
        self.enter("finishing")?;
        for (node, payload) in self.survivors(self.server.collect_reports()?)? {
            match NodeReport::decode(&payload) {
                Err(error) => self
                    .monitor
                    .node_failed(node.id.0, "reporting", &error.to_string()),
                Ok(report) => match compare(&self.expected, &report) {
                    Ok(()) => self.monitor.node_done(node.id.0, report),
                    Err(reason) => self.monitor.node_failed(node.id.0, "comparing digests", &reason),
                },
            }
        }
        Ok(())
    }

    /// Lets the nodes go. They are done: what goes wrong now is only worth a warning.
    pub(crate) fn release(&self) {
        if let Err(error) = self.server.release(self.settings.release_delay) {
            self.monitor.emit(&RunEvent::Warning {
                text: format!("releasing the nodes: {error}"),
            });
        }
    }
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

fn views(options: &Options, log_dir: Option<LogDir>) -> Vec<Box<dyn View>> {
    let mut views = log_dir.map_or_else(Vec::new, |dir| dir.views);
    views.push(if options.json {
        Box::new(JsonView::new(io::stdout()))
    } else if options.quiet {
        Box::new(PlainView::new(io::stderr(), Verbosity::Quiet))
    } else if io::stderr().is_terminal() {
        Box::new(TerminalView::new(ProgressDrawTarget::stderr()))
    } else {
        Box::new(PlainView::new(io::stderr(), Verbosity::Normal))
    });
    views
}

fn server_config(options: &Options, settings: &Settings) -> Result<ServerConfig> {
    let key = ServerKey::load_or_create(&options.state_dir).context("--state-dir")?;
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| anyhow!("making the run's secret: {error}"))?;
    let mut config = ServerConfig::new(settings.session.clone(), key, secret);
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    config.control_port = options.control_port;
    config.data_port = options.data_port;
    config.wanted = options.nodes;
    config.wait = options.wait.map(Duration::from_secs);
    config.window_bytes = options.buffer.0;
    // With -d everybody waits for their turn, also those that did not ask to (-w).
    config.hold_release = options.release_delay > 0;
    Ok(config)
}

fn totals(summary: &StreamSummary, golden: Option<GoldenTotals>) -> StreamTotals {
    StreamTotals {
        name: summary.name.to_string(),
        bytes: summary.bytes,
        blocks: summary.blocks,
        sending_ms: milliseconds(summary.sending),
        emptied_in_ms: milliseconds(summary.emptied_in),
        golden,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
