//! Copies a tree through the stream within one process and says what it cost: for measuring beside `tar | tar`.
//!
//! `cargo run --release -p ka-image --example tree_copy -- /usr/share /mnt/target [threads] [never|auto|always] [MB/s]`

use std::env;
use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use ka_image::tree::{RestoreOptions, SendOptions, TreeSource, TreeTarget, restore, send};
use ka_image::{Compress, Progress};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: tree_copy FROM TO [THREADS] [never|auto|always] [MB/s]".into());
    };
    let text = |arg: Option<std::ffi::OsString>| arg.and_then(|arg| arg.into_string().ok());
    let threads: usize = text(args.next()).map_or(Ok(0), |arg| arg.parse())?;
    let compress = match text(args.next()).as_deref() {
        Some("auto") => Compress::Auto,
        Some("always") => Compress::Always,
        _ => Compress::Never,
    };
    let rate: Option<f64> = text(args.next()).map(|arg| arg.parse()).transpose()?;
    let sources = [TreeSource {
        mount_id: 0,
        root: from.into(),
    }];
    let targets = [TreeTarget {
        mount_id: 0,
        root: to.into(),
    }];
    let options = SendOptions {
        compress,
        threads,
        ..SendOptions::default()
    };
    let (blocks, received) = bounded::<Vec<u8>>(16);
    let began = Instant::now();
    let (mut wire_bytes, mut wire_blocks) = (0, 0);
    let (sent, restored) = thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let emit = |block: Vec<u8>| {
                wire_bytes += block.len();
                wire_blocks += 1;
                if let Some(rate) = rate {
                    thread::sleep(Duration::from_secs_f64(block.len() as f64 / rate / 1e6));
                }
                blocks.send(block).map_err(std::io::Error::other)
            };
            let summary = send(&sources, &options, emit, &Progress::new());
            println!("{wire_blocks} blocks, {wire_bytes} bytes");
            summary
        });
        let restored = restore(
            &targets,
            &RestoreOptions { threads },
            || Ok(received.recv().ok()),
            &Progress::new(),
        );
        drop(received);
        (sender.join(), restored)
    });
    let sent = sent.map_err(|_| "the sender died")??;
    let restored = restored?;
    println!(
        "{:?}\nproblems {:?}\nwarnings {:?}",
        sent.totals, sent.problems, restored.warnings
    );
    println!(
        "equal: {}, {:.3} s",
        sent.totals == restored.totals,
        began.elapsed().as_secs_f64()
    );
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    println!(
        "user {} ms, system {} ms",
        fields[11].to_owned() + "0",
        fields[12].to_owned() + "0"
    );
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
