//! Measures the chain by itself, without disks and without the other crates.
//!
//! ```text
//! chain_bench all NODES MIB                  everything in this process, over loopback
//! chain_bench send NODES FILE CODE_FILE      a server that sends FILE (for bench/lab.sh)
//! chain_bench recv ADDR CODE_FILE OUT        a node that writes to OUT
//! ```
//! The block size is the recommended one, or BLOCK_KIB of the environment.
//! Prints wall time, goodput, and processor seconds per GiB and hop.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ka_proto::{NodeName, SessionName, StreamName};
use ka_transport::{JoinCode, Node, NodeConfig, Order, Server, ServerConfig, ServerKey, join_file};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all", nodes, mib] => all(nodes.parse()?, mib.parse()?),
        ["send", nodes, file, code] => send_file(nodes.parse()?, Path::new(file), Path::new(code)),
        ["recv", addr, code, out] => receive(node_config(join_file::read(Path::new(code))?, addr)?, out),
        _ => Err("usage: chain_bench all NODES MIB | send NODES FILE CODE | recv ADDR CODE OUT".into()),
    }
}

fn block_len() -> Option<usize> {
    let kib = std::env::var("BLOCK_KIB").ok()?.parse::<usize>().ok()?;
    Some(kib << 10)
}

fn start(nodes: u32, listen: IpAddr) -> Result<Server> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
    let mut config = ServerConfig::new(SessionName::new("bench")?, ServerKey::ephemeral()?, secret)?;
    config.listen = listen;
    config.run.wanted = Some(nodes);
    Ok(Server::start(config)?)
}

fn node_config(join: JoinCode, server: &str) -> Result<NodeConfig> {
    let mut config = NodeConfig::new(SessionName::new("bench")?, join, NodeName::new("node")?);
    config.server = Some(server.to_owned());
    Ok(config)
}

fn receive(config: NodeConfig, out: &str) -> Result<()> {
    let node = Node::join(config, |_| ())?;
    let mut sink = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(out)?;
    loop {
        match node.next_order()? {
            Order::Stream(mut reader) => {
                while let Some(block) = reader.recv()? {
                    sink.write_all(block.as_ref())?;
                }
                reader.finish(Ok(()))?;
            }
            Order::Finish => node.report(Vec::new())?,
            Order::Release => return Ok(()),
            Order::Aborted { reason, .. } => return Err(reason.into()),
            Order::Prepare(_) | Order::Go | Order::Commit => return Err("unexpected order".into()),
        }
    }
}

/// Sends `bytes` of blocks that `fill` makes, and prints the figures.
fn feed(server: &Server, nodes: u32, mut fill: impl FnMut(&mut Vec<u8>, usize) -> Result<()>) -> Result<()> {
    server.gather()?;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut writer = server.open_stream(&StreamName::new("bench")?)?;
    loop {
        let len = block_len().unwrap_or_else(|| writer.block_len());
        let mut block = writer.buffer(len);
        fill(&mut block, len)?;
        if block.is_empty() {
            break;
        }
        writer.send(block)?;
    }
    let summary = writer.finish()?;
    let wall = began.elapsed();
    let gib = summary.bytes as f64 / f64::from(1 << 30);
    let cpu = (cpu_time() - cpu).as_secs_f64();
    println!(
        "nodes {nodes} bytes {} wall {:.3} s goodput {:.1} MB/s emptied in {:.3} s; this process: {:.3} CPU s, {:.3} per GiB and hop, peak {} KiB",
        summary.bytes,
        wall.as_secs_f64(),
        summary.bytes as f64 / wall.as_secs_f64() / 1e6,
        summary.emptied_in.as_secs_f64(),
        cpu,
        cpu / gib / f64::from(nodes),
        getrusage(UsageWho::RUSAGE_SELF)?.max_rss(),
    );
    server.collect_reports(|_, _| {})?;
    server.release(Duration::ZERO)?;
    Ok(())
}

fn all(nodes: u32, mib: usize) -> Result<()> {
    let server = start(nodes, IpAddr::from([127, 0, 0, 1]))?;
    let addr = server.local_addrs().control.to_string();
    let mut threads = Vec::new();
    for number in 1..=nodes {
        let mut config = node_config(server.join_code().clone(), &addr)?;
        config.listen = Some(IpAddr::from([127, 0, 3, u8::try_from(number)?]));
        threads.push(std::thread::spawn(move || receive(config, "/dev/null")));
    }
    let pattern: Vec<u8> = (0..1usize << 20)
        .map(|i| (i * 31 % 251).to_le_bytes()[0])
        .collect();
    let mut left = mib << 20;
    feed(&server, nodes, |block, len| {
        let len = len.min(left);
        left -= len;
        block.extend_from_slice(&pattern[..len]);
        Ok(())
    })?;
    for thread in threads {
        thread.join().map_err(|_| "a node panicked")??;
    }
    Ok(())
}

fn send_file(nodes: u32, path: &Path, code: &Path) -> Result<()> {
    let server = start(nodes, IpAddr::from([0, 0, 0, 0]))?;
    join_file::write(code, server.join_code())?;
    let file = File::open(path)?;
    feed(&server, nodes, |block, len| {
        (&file).take(len as u64).read_to_end(block)?;
        Ok(())
    })
}

fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.cast_unsigned())
}
