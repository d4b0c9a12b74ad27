//! Steps as values: a phase of the node's work is a list of named steps, each a function over the phase's
//! bench.
//!
//! The runner times them, tells the journal, says that a long one goes on, and looks for a stop request
//! between two of them.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ka_cli::error_text;
use ka_host::kmsg::KernelLog;
use ka_report::event::Step;
use ka_report::text::clock;
use rustix::io::Errno;
use thiserror::Error;

use crate::journal::Journal;
use crate::stop::Stop;

/// Interval of the lines about a step that goes on. An initramfs takes minutes on a slow machine, and the
/// operator must be able to tell it from a step that hangs.
const STILL_INTERVAL: Duration = Duration::from_secs(10);

/// One named step of a phase whose state is a `B`.
pub(crate) struct StepDef<B> {
    /// Its name, for the server, the operator and the report.
    pub(crate) step: Step,
    /// The work of the step.
    pub(crate) run: fn(&mut B, &Journal) -> anyhow::Result<()>,
}

/// A step that failed, and why.
#[derive(Debug, Error)]
#[error("{step}: {}", error_text(reason.as_ref()))]
pub(crate) struct StepError {
    /// The step.
    pub(crate) step: Step,
    /// The reason, with its causes.
    pub(crate) reason: anyhow::Error,
}

/// Runs `steps` in order on `bench` and ends at the first that fails.
///
/// # Errors
/// The failing step and its reason. A stop request counts as a failure of the next step. It is also the
/// reason for a failure that it caused, because Ctrl-C also reaches a running mkfs.
pub(crate) fn run_steps<B>(
    steps: &[StepDef<B>],
    bench: &mut B,
    journal: &Journal,
    stop: &Stop,
) -> Result<(), StepError> {
    for def in steps {
        run_step(def.step, journal, stop, || (def.run)(bench, journal))?;
    }
    Ok(())
}

/// Runs one step; see [`run_steps`].
pub(crate) fn run_step<T>(
    step: Step,
    journal: &Journal,
    stop: &Stop,
    run: impl FnOnce() -> anyhow::Result<T>,
) -> Result<T, StepError> {
    let started = Instant::now();
    // It is closed to all but root, and missing in containers: there are only fewer lines without it.
    let kernel = KernelLog::from_now().ok();
    journal.started(step);
    let result = stop
        .check()
        .and_then(|()| telling_that_it_goes_on(step, journal, STILL_INTERVAL, run))
        .map_err(|error| stop.check().err().unwrap_or(error))
        .map_err(|error| explain_read_only(step, error));
    match result {
        Ok(value) => {
            journal.done(step, started.elapsed());
            Ok(value)
        }
        Err(reason) => {
            if !stop.is_requested() {
                repeat_kernel(kernel, step, journal);
            }
            journal.failed(step, &error_text(reason.as_ref()));
            Err(StepError { step, reason })
        }
    }
}

/// Runs `work` and says every `interval` that it still runs.
fn telling_that_it_goes_on<T>(
    step: Step,
    journal: &Journal,
    interval: Duration,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (end, ended) = mpsc::channel();
    thread::scope(|scope| {
        let teller = thread::Builder::new().name("still running".into());
        // Without a thread there is a line less.
        let _ = teller.spawn_scoped(scope, move || tell_until(&ended, step, journal, interval));
        let result = work();
        drop(end);
        result
    })
}

fn tell_until(ended: &Receiver<()>, step: Step, journal: &Journal, interval: Duration) {
    let began = Instant::now();
    while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        // A step that tells its own progress needs no second line.
        if journal.is_quiet_for(interval) {
            journal.here(step, format!("still running, {}", clock(began.elapsed())));
        }
    }
}

/// Repeats the kernel's warnings and errors since the step began: a program that meets a failing disk says
/// "Input/output error", and the kernel alone says why.
fn repeat_kernel(kernel: Option<KernelLog>, step: Step, journal: &Journal) {
    for message in kernel.map(KernelLog::warnings).unwrap_or_default() {
        let (seconds, micros) = (message.time_us / 1_000_000, message.time_us % 1_000_000);
        let text = ka_proto::text::printable(&message.text);
        journal.news(step, format!("kernel: [{seconds:5}.{micros:06}] {text}"));
    }
}

/// Explains a file system that became read-only under a step that writes to it. The journal of ext4 or XFS
/// could not be written (ext4(5), `errors=`). The next writer gets an error about that and not about the
/// disk.
fn explain_read_only(step: Step, error: anyhow::Error) -> anyhow::Error {
    let mounts_are_its_own = !matches!(
        step,
        Step::FindServer
            | Step::Stage2
            | Step::Drivers
            | Step::ChooseDisks
            | Step::Check
            | Step::Partition
            | Step::Format
            | Step::Mount
            | Step::Command
    );
    let is_read_only = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        let code = io.and_then(io::Error::raw_os_error);
        code.or_else(|| Some(cause.downcast_ref::<Errno>()?.raw_os_error()))
            == Some(Errno::ROFS.raw_os_error())
    };
    if mounts_are_its_own && error.chain().any(is_read_only) {
        error.context(
            "the kernel made a file system of the clone read-only, as after an Input/output error of its disk (see dmesg)",
        )
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::journal::Format;

    fn note(bench: &mut Vec<&'static str>, text: &'static str) -> anyhow::Result<()> {
        bench.push(text);
        Ok(())
    }

    const STEPS: [StepDef<Vec<&'static str>>; 3] = [
        StepDef {
            step: Step::Partition,
            run: |bench, _| note(bench, "partition"),
        },
        StepDef {
            step: Step::Format,
            run: |_, _| bail!("mkfs.ext4 said no"),
        },
        StepDef {
            step: Step::Mount,
            run: |bench, _| note(bench, "mount"),
        },
    ];

    #[test]
    fn a_failing_step_is_named_and_the_following_ones_do_not_run() {
        let journal = Journal::new(Format::Lines, None, std::sync::Arc::default());
        let mut bench = Vec::new();
        let error = run_steps(&STEPS, &mut bench, &journal, &Stop::never()).unwrap_err();
        assert_eq!(error.step, Step::Format);
        assert_eq!(error.to_string(), "formatting: mkfs.ext4 said no");
        assert_eq!(bench, ["partition"]);
        assert_eq!(journal.record().steps.len(), 1);
    }

    #[test]
    fn a_step_that_lasts_says_so_and_is_not_delayed_by_it() {
        let journal = Journal::new(Format::LogOnly, None, std::sync::Arc::default());
        let interval = Duration::from_millis(20);
        let last = || {
            thread::sleep(Duration::from_millis(110));
            Ok(7)
        };
        assert_eq!(
            telling_that_it_goes_on(Step::Initramfs, &journal, interval, last).unwrap(),
            7
        );
        let told = journal.text();
        assert!(told.lines().count() >= 2, "{told}");
        assert!(
            told.lines().all(|line| line.contains("still running, 0:0")),
            "{told}"
        );
        let began = Instant::now();
        let day = Duration::from_secs(86_400);
        telling_that_it_goes_on(Step::Initramfs, &journal, day, || Ok(())).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the next step waits for the teller"
        );
    }

    #[test]
    fn a_file_system_that_became_read_only_is_explained_and_one_of_the_node_itself_is_not() {
        let read_only = || anyhow::Error::from(io::Error::from(Errno::ROFS)).context("writing /mnt/disk/a");
        let said = |step| error_text(explain_read_only(step, read_only()).as_ref());
        assert!(said(Step::Restore).contains("Input/output error of its disk"));
        assert!(said(Step::Restore).ends_with(&said(Step::Partition)));
        assert!(!said(Step::Partition).contains("Input/output"));
        let full = explain_read_only(Step::Restore, io::Error::from(Errno::NOSPC).into());
        assert_eq!(full.chain().count(), 1);
    }

    #[test]
    fn a_stop_request_ends_the_run_before_the_next_step() {
        let journal = Journal::new(Format::Lines, None, std::sync::Arc::default());
        let stop = Stop::never();
        stop.request("SIGTERM");
        let mut bench = Vec::new();
        let error = run_steps(&STEPS, &mut bench, &journal, &stop).unwrap_err();
        assert_eq!(error.step, Step::Partition);
        assert!(error.to_string().contains("SIGTERM"), "{error}");
        assert!(bench.is_empty());
    }
}
