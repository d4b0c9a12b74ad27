//! Copies a tree through the stream within one process and shows the cost, for comparison with `tar | tar`.
//!
//! `cargo run --release -p ka-tree --example tree_copy -- /usr/share /mnt/target [threads]
//! [never|auto|always] [MB/s]`

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use ka_tree::tree::{
    RestoreOptions, RestoreSummary, SendOptions, SendSummary, TreeSource, TreeTarget, read_back, restore,
    send,
};
use ka_tree::{Compress, Progress, SendError};

/// The parsed command line.
struct Task {
    from: PathBuf,
    to: PathBuf,
    threads: usize,
    compress: Compress,
    /// Megabytes a second that the channel carries; as fast as it goes without.
    rate: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let task = parse(&env::args_os().skip(1).collect::<Vec<_>>())?;
    let targets = [TreeTarget {
        mount_id: 0,
        root: task.to.clone(),
    }];
    let options = RestoreOptions {
        threads: task.threads,
        keep_ledger: true,
    };
    let (blocks, received) = bounded::<Vec<u8>>(16);
    let began = Instant::now();
    let (sent, restored) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_into(&task, blocks));
        let restored = restore(&targets, &options, || Ok(received.recv().ok()), &Progress::new());
        drop(received);
        (sender.join(), restored)
    });
    let restored = restored?;
    let sent = sent.map_err(|_| "the sender died")??;
    println!(
        "{:?}\nproblems {:?}\nwarnings {:?}",
        sent.totals, sent.problems, restored.warnings
    );
    println!(
        "equal: {}, {:.3} s",
        sent.totals == restored.totals,
        began.elapsed().as_secs_f64()
    );
    print_cost()?;
    read_again(&task, &restored)
}

/// Reads the copy back. It comes from the caches, unless they were dropped in between (`echo 3 >
/// /proc/sys/vm/drop_caches`).
fn read_again(task: &Task, restored: &RestoreSummary) -> Result<(), Box<dyn Error>> {
    let trees = [TreeSource {
        mount_id: 0,
        root: task.to.clone(),
    }];
    let ledger = restored.ledger.as_ref().ok_or("no ledger")?;
    let began = Instant::now();
    let read = read_back(&trees, &task.to, ledger, &[], |_| Ok(()), &Progress::new())?;
    println!(
        "read back: {} files, {} bytes in {:.3} s, {} differ: {}",
        read.files,
        read.bytes,
        began.elapsed().as_secs_f64(),
        read.differences.count(),
        read.differences
    );
    Ok(())
}

fn parse(args: &[OsString]) -> Result<Task, Box<dyn Error>> {
    let [from, to, rest @ ..] = args else {
        return Err("usage: tree_copy FROM TO [THREADS] [never|auto|always] [MB/s]".into());
    };
    let text = |index: usize| rest.get(index).and_then(|arg| arg.to_str());
    Ok(Task {
        from: from.into(),
        to: to.into(),
        threads: text(0).map_or(Ok(0), str::parse)?,
        compress: match text(1) {
            Some("auto") => Compress::Auto,
            Some("always") => Compress::Always,
            _ => Compress::Never,
        },
        rate: text(2).map(str::parse).transpose()?,
    })
}

/// Closes the channel at its end.
#[expect(clippy::needless_pass_by_value, reason = "the receiver must see the end")]
fn send_into(task: &Task, blocks: Sender<Vec<u8>>) -> Result<SendSummary, SendError> {
    let sources = [TreeSource {
        mount_id: 0,
        root: task.from.clone(),
    }];
    let options = SendOptions {
        compress: task.compress,
        threads: task.threads,
        ..SendOptions::default()
    };
    let (mut wire_bytes, mut wire_blocks) = (0, 0);
    let emit = |block: Vec<u8>| {
        wire_bytes += block.len();
        wire_blocks += 1;
        if let Some(rate) = task.rate {
            thread::sleep(Duration::from_secs_f64(block.len() as f64 / rate / 1e6));
        }
        blocks.send(block).map_err(io::Error::other)
    };
    let summary = send(&sources, &options, emit, &Progress::new());
    println!("{wire_blocks} blocks, {wire_bytes} bytes");
    summary
}

/// Processor time and peak memory of this process, from proc(5).
fn print_cost() -> Result<(), Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    println!("user {}0 ms, system {}0 ms", fields[11], fields[12]);
    let status = fs::read_to_string("/proc/self/status")?;
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or("")
    );
    Ok(())
}
