//! A view and the thread that writes it. The sender of an event never waits for a terminal, a pipe or a disk.
//!
//! Each view has its own queue, which keeps only the newest progress event. If the view takes nothing for
//! long, the queue drops events. It first drops the nodes' single steps, then joins, departures and warnings.
//! They are counted, and the view gets the count as soon as it takes something again. Failures, questions,
//! outcomes and the end are always kept.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ka_report::run::RunEvent;
use ka_view::View;

/// Events in a queue from which on steps are left out. This is some seconds of a room of a thousand nodes.
const MAX_STEPS: usize = 4 << 10;
/// Events in a queue from which on joins and warnings are left out, too. More of them than a run has nodes
/// are a flood.
const MAX_COMINGS: usize = 64 << 10;

/// Interval of the ticks of a view without events. A resized terminal is drawn anew before the operator is
/// disturbed.
const TICK: Duration = Duration::from_millis(250);

/// Text for the operator about an output that is given up.
const GONE: &str = "nothing more of this run is written there";

/// The queue and the thread of one view.
pub(super) struct Outlet {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(Duration, RunEvent)>,
    /// Events left out since the view last got a count of them.
    left_out: u64,
    /// True while the view writes the event that it took last.
    is_writing: bool,
    /// True if no more events will come.
    is_closed: bool,
    /// The reason why the view cannot write any more.
    broken: Option<String>,
}

/// The next piece of work of a view.
enum Next {
    /// An event to show.
    Event(Duration, Box<RunEvent>),
    /// Time has passed.
    Tick,
    /// The end: no more events come.
    End,
}

/// Importance of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Progress, which the next progress event replaces.
    Progress,
    Step,
    Coming,
    Kept,
}

impl Outlet {
    /// Starts the view's thread, for a run that began at `began`. `name` is the output's name in a warning.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn open(name: &str, view: Box<dyn View>, began: Instant) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let (writing, name) = (Arc::clone(&shared), name.to_owned());
        std::thread::Builder::new()
            .name("view".into())
            .spawn(move || writing.write(&name, view, began))?;
        Ok(Self { shared })
    }

    /// Takes an event and never waits. Returns once why the view is gone.
    pub(super) fn push(&self, at: Duration, event: &RunEvent) -> Result<(), String> {
        let mut queue = self.shared.lock();
        if let Some(reason) = queue.broken.take() {
            return Err(reason);
        }
        queue.take(at, event);
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything is written, at most until `limit`. Returns false if something is left.
    pub(super) fn drain(&self, limit: Instant) -> bool {
        let mut queue = self.shared.lock();
        while !queue.is_idle() {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Outlet {
    /// The thread ends after the rest of the queue. If it is stuck in a write, it ends with the process.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: &str, mut view: Box<dyn View>, began: Instant) {
        loop {
            let written = match self.next() {
                Next::Event(at, event) => view.handle(at, &event),
                Next::Tick => view.tick(began.elapsed()),
                Next::End => return,
            };
            let mut queue = self.lock();
            queue.is_writing = false;
            if let Err(error) = written {
                queue.events.clear();
                queue.broken = Some(format!("{name}: {error}; {GONE}"));
                drop(queue);
                return self.changed.notify_all();
            }
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// Waits for the next piece of work of the view. A count of missed events comes first.
    fn next(&self) -> Next {
        let mut queue = self.lock();
        loop {
            if queue.left_out > 0 && !queue.events.is_empty() {
                let text = format!(
                    "{} of this run are missing here: what reads them stood still",
                    ka_report::text::count(usize::try_from(queue.left_out).unwrap_or(usize::MAX), "line")
                );
                queue.left_out = 0;
                queue.is_writing = true;
                let at = queue.events.front().map_or(Duration::ZERO, |(at, _)| *at);
                return Next::Event(at, Box::new(RunEvent::Warning { text }));
            }
            if let Some((at, event)) = queue.events.pop_front() {
                queue.is_writing = true;
                return Next::Event(at, Box::new(event));
            }
            if queue.is_closed {
                return Next::End;
            }
            let waited = self.changed.wait_timeout(queue, TICK);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() && queue.events.is_empty() && !queue.is_closed {
                return Next::Tick;
            }
        }
    }
}

impl Queue {
    fn take(&mut self, at: Duration, event: &RunEvent) {
        let limit = match weight(event) {
            Weight::Progress => {
                // Only the newest progress event tells where the run is.
                if let Some(last) = self.events.back_mut()
                    && weight(&last.1) == Weight::Progress
                {
                    *last = (at, event.clone());
                    return;
                }
                MAX_STEPS / 2
            }
            Weight::Step => MAX_STEPS,
            Weight::Coming => MAX_COMINGS,
            Weight::Kept => usize::MAX,
        };
        if self.events.len() < limit {
            self.events.push_back((at, event.clone()));
        } else if weight(event) != Weight::Progress {
            self.left_out += 1;
        }
    }

    fn is_idle(&self) -> bool {
        self.broken.is_some() || (self.events.is_empty() && !self.is_writing)
    }
}

const fn weight(event: &RunEvent) -> Weight {
    match event {
        RunEvent::Progress { .. } => Weight::Progress,
        RunEvent::NodeStep { .. }
        | RunEvent::OperatorExec { .. }
        | RunEvent::Machine { .. }
        | RunEvent::Detail { .. } => Weight::Step,
        RunEvent::NodeJoined { .. }
        | RunEvent::NodeQueued { .. }
        | RunEvent::NodeDoneAlready { .. }
        | RunEvent::NodeRefused { .. }
        | RunEvent::Warning { .. } => Weight::Coming,
        _ => Weight::Kept,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use ka_report::event::{NodeEvent, Step};
    use ka_report::run::NodeRef;
    use ka_view::event_line;

    use super::*;

    /// A terminal that takes nothing until the test releases it.
    struct Stopped {
        go: Receiver<()>,
        lines: Sender<String>,
    }

    impl View for Stopped {
        fn handle(&mut self, _: Duration, event: &RunEvent) -> io::Result<()> {
            // An error means that the test has dropped its end, and every event may go.
            self.go.recv().ok();
            self.lines.send(event_line(event).unwrap_or_default()).ok();
            Ok(())
        }
    }

    fn node() -> NodeRef {
        NodeRef {
            id: 1,
            name: "n1".into(),
            addr: "10.0.1.1".into(),
            position: 1,
        }
    }

    #[test]
    fn a_view_that_stands_still_stops_nobody_misses_only_steps_and_is_told_how_many() {
        let ((go_on, go), (lines, shown)) = (channel(), channel());
        let outlet = Outlet::open("test", Box::new(Stopped { go, lines }), Instant::now()).unwrap();
        let step = |number: usize| RunEvent::NodeStep {
            node: node(),
            step: NodeEvent::news(Step::Format, format!("{number}")),
        };
        for number in 0..3 * MAX_STEPS {
            outlet.push(Duration::ZERO, &step(number)).unwrap();
            let progress = RunEvent::Progress {
                sent_bytes: 1,
                content_bytes: 1,
                nodes: vec![],
            };
            outlet.push(Duration::ZERO, &progress).unwrap();
        }
        let (stage, reason) = ("formatting".to_owned(), "no room".to_owned());
        let failed = RunEvent::NodeFailed {
            node: node(),
            stage,
            reason,
        };
        outlet.push(Duration::ZERO, &failed).unwrap();
        assert!(!outlet.drain(Instant::now()), "it has taken nothing yet");
        drop(go_on);
        assert!(outlet.drain(Instant::now() + Duration::from_secs(60)));
        let shown: Vec<String> = shown.try_iter().collect();
        assert!(shown.len() < 2 * MAX_STEPS, "{}", shown.len());
        assert!(
            shown
                .iter()
                .any(|line| line.contains("lines of this run are missing here"))
        );
        assert!(shown.last().unwrap().contains("FAILED at formatting: no room"));
    }

    #[test]
    fn an_output_that_cannot_be_written_is_named_once() {
        struct Full;
        impl View for Full {
            fn handle(&mut self, _: Duration, _: &RunEvent) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let outlet = Outlet::open("run.log", Box::new(Full), Instant::now()).unwrap();
        let event = RunEvent::Warning { text: "x".into() };
        outlet.push(Duration::ZERO, &event).unwrap();
        outlet.drain(Instant::now() + Duration::from_secs(60));
        let error = outlet.push(Duration::ZERO, &event).unwrap_err();
        assert!(
            error.starts_with("run.log: ") && error.contains("nothing more"),
            "{error}"
        );
    }
}
