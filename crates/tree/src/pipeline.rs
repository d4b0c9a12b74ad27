//! Ordered parallel work: one thread makes jobs, several turn each into blocks, and the caller hands the
//! blocks over in the order of the jobs.
//!
//! Memory is limited: [`MAX_JOBS`] jobs with [`BLOCKS_PER_JOB`] finished blocks each. No two threads wait for
//! each other: workers take jobs in order, so the job whose blocks are next always has a worker.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::compress::{Gate, Meter};
use crate::error::SendError;

/// Jobs begun and not yet handed over. Enough to keep readers busy while one of them meets a large file.
const MAX_JOBS: usize = 16;
/// Finished blocks of one job that wait for their turn; with 256 KiB blocks 16 MiB altogether.
const BLOCKS_PER_JOB: usize = 4;

/// The consumer is gone; the thread ends, the reason is known elsewhere.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The queue into which the producing thread puts jobs.
pub(crate) struct Sink<J> {
    tasks: Sender<Task<J>>,
    order: Sender<Receiver<Vec<u8>>>,
}

impl<J> Sink<J> {
    /// Waits while too many jobs are under way.
    pub(crate) fn push(&self, job: J) -> Result<(), Stopped> {
        let (blocks, handed_over) = bounded(BLOCKS_PER_JOB);
        self.order.send(handed_over).map_err(|_| Stopped)?;
        self.tasks
            .send(Task {
                job,
                out: Output { blocks },
            })
            .map_err(|_| Stopped)
    }
}

/// A job and the place for its blocks.
pub(crate) struct Task<J> {
    pub(crate) job: J,
    pub(crate) out: Output,
}

/// Takes the blocks of one job.
pub(crate) struct Output {
    blocks: Sender<Vec<u8>>,
}

impl Output {
    pub(crate) fn put(&self, block: Vec<u8>) -> Result<(), Stopped> {
        self.blocks.send(block).map_err(|_| Stopped)
    }
}

/// Runs `produce` on one thread, `work` on `threads` others, `emit` here. `stop` is set as soon as `emit`
/// fails.
pub(crate) fn run<J: Send>(
    threads: usize,
    stop: &AtomicBool,
    gate: &Gate,
    produce: impl FnOnce(Sink<J>) + Send,
    work: impl Fn(Receiver<Task<J>>) + Sync,
    mut emit: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> Result<(), SendError> {
    let (tasks, todo) = bounded(MAX_JOBS);
    let (order, handed_over) = bounded(MAX_JOBS);
    let spawn_failed = |err: io::Error| SendError::Threads(err.to_string());
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(threads + 1);
        for number in 0..threads {
            let (todo, work) = (todo.clone(), &work);
            let name = format!("ka-read-{number}");
            let thread = thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, move || work(todo));
            running.push(thread.map_err(spawn_failed)?);
        }
        drop(todo);
        let sink = Sink { tasks, order };
        let walker = thread::Builder::new()
            .name("ka-walk".into())
            .spawn_scoped(scope, move || produce(sink));
        running.push(walker.map_err(spawn_failed)?);
        let emitted = hand_over(handed_over, gate, &mut emit);
        if emitted.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        for thread in running {
            thread
                .join()
                .map_err(|_| SendError::Threads("a reader thread died".into()))?;
        }
        emitted
    })
}

/// Dropping `jobs` at the end, also after a failure, is what ends the other threads.
fn hand_over(
    jobs: Receiver<Receiver<Vec<u8>>>,
    gate: &Gate,
    emit: &mut impl FnMut(Vec<u8>) -> io::Result<()>,
) -> Result<(), SendError> {
    let mut meter = Meter::new(gate);
    for blocks in jobs {
        for block in blocks {
            meter.time(|| emit(block)).map_err(SendError::Emit)?;
        }
    }
    Ok(())
}

/// Returns the number of threads: the one asked for, else one a processor between 2 and 8. More only fight
/// over the directory locks and the disk.
pub(crate) fn thread_count(asked: usize) -> usize {
    match asked {
        0 => thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
        asked => asked.min(64),
    }
}
