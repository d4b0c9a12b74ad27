//! The outlets of a node's events: standard error as lines (or standard output as JSON lines), the log file,
//! and, once joined, the server.
//!
//! It also keeps what the final report needs: the steps with their durations, and the warnings. Events never
//! fail the run: a full log partition or a closed terminal is no reason to stop cloning.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ka_report::event::{NodeEvent, Step};
use ka_report::exec::OperatorExec;
use ka_report::report::StepReport;

use crate::log_ring::LogRing;

/// Most warnings kept for the report; the log has them all.
const MAX_WARNINGS: usize = 200;

/// Longest log kept in memory, for the clone: a run of a hundred file systems is some ten KiB.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The form in which events are shown on the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One line for people on standard error.
    Lines,
    /// One JSON object a line on standard output.
    Json,
    /// Not shown here, because another program shows the log in memory (on the consoles of a node booted from
    /// the network).
    LogOnly,
}

/// Sends an encoded event to the server; errors are the control connection's own matter.
type ServerSink = Box<dyn Fn(Vec<u8>) + Send + Sync>;

/// The node's log. Shared by reference; every method may be called from any thread.
pub(crate) struct Journal {
    format: Format,
    started: Instant,
    file: Option<Mutex<File>>,
    server: Mutex<Option<ServerSink>>,
    record: Mutex<Record>,
    log: Arc<LogRing>,
    /// Every line so far, for the log in the clone.
    text: Mutex<String>,
    /// Time of the last line.
    last_line: Mutex<Instant>,
}

/// The part of the log that goes into the report.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// Finished steps, in order.
    pub(crate) steps: Vec<StepReport>,
    /// Warnings so far.
    pub(crate) warnings: Vec<String>,
}

impl Journal {
    /// Returns a journal that shows events as `format` and also writes lines to `file` and to the log in
    /// memory.
    pub(crate) fn new(format: Format, file: Option<File>, log: Arc<LogRing>) -> Self {
        Self {
            format,
            started: Instant::now(),
            file: file.map(Mutex::new),
            server: Mutex::new(None),
            record: Mutex::default(),
            log,
            text: Mutex::default(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// Returns the lines so far and to come, for operators who look on.
    pub(crate) fn log(&self) -> Arc<LogRing> {
        Arc::clone(&self.log)
    }

    /// From now on events also go to the server.
    pub(crate) fn connect(&self, sink: ServerSink) {
        *lock(&self.server) = Some(sink);
    }

    /// Events stay on this node again (the control connection is gone).
    pub(crate) fn disconnect(&self) {
        *lock(&self.server) = None;
    }

    /// A step begins.
    pub(crate) fn started(&self, step: Step) {
        self.emit(&NodeEvent::started(step));
    }

    /// Something worth a line inside a step.
    pub(crate) fn news(&self, step: Step, text: impl Into<String>) {
        self.emit(&NodeEvent::news(step, text));
    }

    /// A line for this node's own screen and log, which operators follow with ka-status. The server has its own
    /// counters.
    pub(crate) fn here(&self, step: Step, text: impl Into<String>) {
        let event = NodeEvent::news(step, text);
        self.show(&event.to_string(), event.encode());
        self.log_line(&event.to_string());
    }

    /// True if the log has had no line for this time.
    pub(crate) fn is_quiet_for(&self, time: Duration) -> bool {
        lock(&self.last_line).elapsed() >= time
    }

    /// Something the operator should read, also at the end; the run goes on.
    pub(crate) fn warning(&self, step: Step, text: impl Into<String>) {
        let text = text.into();
        let mut record = lock(&self.record);
        if record.warnings.len() < MAX_WARNINGS {
            record.warnings.push(text.clone());
        }
        drop(record);
        self.emit(&NodeEvent::warning(step, text));
    }

    /// A step ended well.
    pub(crate) fn done(&self, step: Step, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        lock(&self.record).steps.push(StepReport { step, took_ms });
        self.emit(&NodeEvent::done(step, took_ms));
    }

    /// A step failed, and with it the node.
    pub(crate) fn failed(&self, step: Step, reason: &str) {
        self.emit(&NodeEvent::failed(step, reason));
    }

    /// A step failed, and with it the node. People at its screen read the reason in the program's last line.
    pub(crate) fn failed_quietly(&self, step: Step, reason: &str) {
        let event = NodeEvent::failed(step, reason);
        if self.format == Format::Lines {
            self.keep(&event.to_string(), &event.encode());
        } else {
            self.emit(&event);
        }
    }

    /// An operator has a command run here, or it has ended.
    pub(crate) fn exec(&self, exec: &OperatorExec) {
        self.write(&exec.to_string(), &exec.encode());
    }

    /// Forgets the record, because the report of the next try is about that try.
    pub(crate) fn forget_record(&self) {
        *lock(&self.record) = Record::default();
    }

    /// Steps and warnings so far.
    pub(crate) fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Every line so far, with its time since the start in seconds.
    pub(crate) fn text(&self) -> String {
        lock(&self.text).clone()
    }

    fn emit(&self, event: &NodeEvent) {
        self.write(&event.to_string(), &event.encode());
    }

    fn write(&self, said: &str, payload: &[u8]) {
        self.show(said, payload.to_vec());
        self.keep(said, payload);
    }

    /// Writes a line to everything but this node's own screen.
    fn keep(&self, said: &str, payload: &[u8]) {
        self.log_line(said);
        if let Some(sink) = lock(&self.server).as_ref() {
            sink(payload.to_vec());
        }
    }

    fn log_line(&self, said: &str) {
        *lock(&self.last_line) = Instant::now();
        let line = format!("[{:10.3}] {said}", self.started.elapsed().as_secs_f64());
        self.log.push(&line);
        let mut text = lock(&self.text);
        if text.len() + line.len() < MAX_TEXT_BYTES {
            text.push_str(&line);
            text.push('\n');
        }
        drop(text);
        if let Some(file) = &self.file {
            // A full log partition is no reason to stop cloning.
            drop(writeln!(lock(file), "{line}"));
        }
    }

    fn show(&self, said: &str, mut payload: Vec<u8>) {
        match self.format {
            Format::LogOnly => {}
            // Nor is a closed terminal or pipe.
            Format::Lines => drop(writeln!(std::io::stderr(), "{said}")),
            Format::Json => {
                payload.push(b'\n');
                drop(std::io::stdout().write_all(&payload));
            }
        }
    }
}

/// A poisoned lock only means that another thread panicked between two pushes: the data is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn events_reach_the_file_and_the_server_and_the_record() {
        let mut file = tempfile::tempfile().unwrap();
        let journal = Journal::new(Format::Lines, Some(file.try_clone().unwrap()), Arc::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        journal.started(Step::Check);
        journal.connect(Box::new(move |event| sink.lock().unwrap().push(event)));
        journal.warning(Step::Check, "tight");
        journal.done(Step::Check, Duration::from_millis(1500));
        journal.disconnect();
        journal.started(Step::Format);

        let events: Vec<_> = seen
            .lock()
            .unwrap()
            .iter()
            .map(|e| NodeEvent::decode(e).unwrap())
            .collect();
        assert_eq!(
            events,
            [
                NodeEvent::warning(Step::Check, "tight"),
                NodeEvent::done(Step::Check, 1500)
            ]
        );
        let record = journal.record();
        assert_eq!(record.warnings, ["tight"]);
        assert_eq!(
            record.steps,
            [StepReport {
                step: Step::Check,
                took_ms: 1500
            }]
        );
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(text, journal.text());
        assert!(text.contains("checking...OK (1.5 s)"), "{text}");
    }
}
