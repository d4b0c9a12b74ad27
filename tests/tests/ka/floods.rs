//! Ten thousand connections, silent, slow or with nonsense, during a run. The run goes on, no node is kept
//! out, and the strangers cost a bounded number of descriptors and bytes. The test prints the costs;
//! docs/security.md has them.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::netns::{GOLDEN_ADDRESS, Namespace, node_address};

use crate::kit::{finish, payload};

/// Connections made to each port.
const FLOOD: usize = 10_000;
/// Connections that we hold open at a time; the other side may have closed them.
const HELD: usize = 2_000;
/// Most descriptors: places for strangers (control 512, data 512), 64 at each port that are just leaving, and
/// those of the run itself.
const MAX_DESCRIPTORS: usize = 512 + 512 + 2 * 64 + 50;
/// Most memory that strangers may cost, in KiB. Measured: a third of it.
const MAX_GROWTH_KIB: u64 = 64 << 10;

/// The highest costs of a process while it is watched.
#[derive(Debug, Default)]
struct Cost {
    descriptors: usize,
    memory_kib: u64,
}

impl Cost {
    fn look(&mut self, pid: u32) {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.descriptors = self.descriptors.max(open);
        self.memory_kib = self.memory_kib.max(memory_kib(pid));
    }

    fn expect_bounded(&self, before: &Self, what: &str) -> Result<()> {
        let growth = self.memory_kib.saturating_sub(before.memory_kib);
        eprintln!(
            "{what}: {} descriptors before, {} at most; {growth} KiB more memory at most",
            before.descriptors, self.descriptors
        );
        ensure!(
            self.descriptors <= MAX_DESCRIPTORS,
            "{what}: {} descriptors",
            self.descriptors
        );
        ensure!(growth <= MAX_GROWTH_KIB, "{what}: {growth} KiB more");
        Ok(())
    }
}

fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

/// Connects again and again, sends one of the openings of strangers, and holds on.
fn connect_again_and_again(target: SocketAddr, made: &AtomicUsize) {
    let openings: [&[u8]; 5] = [
        b"",
        b"\x16",
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
    ];
    let mut held = VecDeque::new();
    for number in 0..FLOOD {
        if let Ok(mut socket) = TcpStream::connect_timeout(&target, Duration::from_millis(500)) {
            made.fetch_add(1, Ordering::Relaxed);
            // The other side may have closed it already.
            socket.write_all(openings[number % openings.len()]).ok();
            held.push_back(socket);
        }
        if held.len() > HELD {
            held.pop_front();
        }
    }
    // The remaining connections send one byte now and then, as if they had something to send.
    for _ in 0..5 {
        for socket in &mut held {
            socket.write_all(b"\x03").ok();
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn noise_by_datagram(target: SocketAddr) {
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else {
        return;
    };
    for number in 0..FLOOD {
        let datagram = ka_tests::tree::noise(number % 200, number);
        // The queue may be full, which is no error here.
        socket.send_to(&datagram, target).ok();
    }
}

/// Floods these ports from the stranger's machine, and watches the processes meanwhile.
fn flood(stranger: &Namespace, targets: &[SocketAddr], watched: &[u32]) -> Result<Vec<Cost>> {
    let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut costs: Vec<Cost> = watched.iter().map(|_| Cost::default()).collect();
    let flooded = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let done = stranger.enter(|| {
                thread::scope(|ports| {
                    for target in targets {
                        ports.spawn(|| connect_again_and_again(*target, &made));
                    }
                    ports.spawn(|| {
                        targets
                            .iter()
                            .take(1)
                            .for_each(|target| noise_by_datagram(*target))
                    });
                });
            });
            over.store(true, Ordering::Relaxed);
            done
        });
        while !over.load(Ordering::Relaxed) {
            for (cost, pid) in costs.iter_mut().zip(watched) {
                cost.look(*pid);
            }
            thread::sleep(Duration::from_millis(50));
        }
        flooding.join()
    });
    flooded.map_err(|_| anyhow::anyhow!("the flood panicked"))??;
    let made = made.into_inner();
    let wanted = targets.len() * FLOOD;
    ensure!(
        made * 10 >= wanted * 9,
        "only {made} of {wanted} connections were made"
    );
    Ok(costs)
}

fn target(address: &str, port: u16) -> Result<SocketAddr> {
    format!("{address}:{port}").parse().context("an address")
}

fn producer(lab: &Lab) -> Result<(String, PathBuf)> {
    let (content, go_on) = (payload(lab, 20_000_000)?, lab.scratch().path().join("flooded"));
    let wait = format!("while ! test -e {}; do sleep 0.1; done", go_on.display());
    Ok((format!("cat {0}; {wait}; cat {0}", content.display()), go_on))
}

#[test]
fn ten_thousand_strangers_at_each_of_the_servers_ports_keep_no_node_out_and_a_run_goes_on() -> Result<()> {
    let lab = Lab::new("flood-server", 3, None)?;
    let (produce, go_on) = producer(&lab)?;
    let server = lab.server(&["-n", "2", "-e", &produce])?;
    let mut before = Cost::default();
    before.look(server.run.pid());
    let targets = [target(GOLDEN_ADDRESS, 30_765)?, target(GOLDEN_ADDRESS, 30_764)?];
    let pid = server.run.pid();
    let (costs, nodes) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(lab.network().node(3), &targets, &[pid]));
        thread::sleep(Duration::from_millis(500));
        // The nodes come while the flood is at its height: one by broadcast, one by address.
        let nodes = [
            lab.client(1, &server, &["-e", "sha256sum"]),
            lab.client(2, &server, &["-h", GOLDEN_ADDRESS, "-e", "sha256sum"]),
        ];
        (flooding.join(), nodes)
    });
    let costs = costs.map_err(|_| anyhow::anyhow!("the flood panicked"))??;
    fs::write(go_on, "")?;
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    ensure!(
        outcome.nodes[0].stdout == outcome.nodes[1].stdout,
        "two nodes got two streams"
    );
    costs[0].expect_bounded(&before, "ka-server, control and data port")
}

#[test]
fn ten_thousand_strangers_at_each_of_a_nodes_ports_do_not_disturb_its_stream() -> Result<()> {
    let lab = Lab::new("flood-node", 3, None)?;
    let (produce, go_on) = producer(&lab)?;
    let mut server = lab.server(&["-n", "2", "-e", &produce])?;
    let nodes = [1, 2].map(|number| lab.client(number, &server, &["-e", "sha256sum"]));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    server.run.wait_for("kainstall1:")?;
    let (pid, mut before) = (nodes[0].pid(), Cost::default());
    before.look(pid);
    let address = node_address(1);
    let targets = [target(&address, 30_764)?, target(&address, 12_345)?];
    let costs = flood(lab.network().node(3), &targets, &[pid])?;
    // An operator with the key still gets in, and gets an answer.
    let state = lab.server_state();
    let asked = ka_tests::process::Program::new(ka_tests::binaries::path("ka-status")?)
        .arg("--state-dir")
        .arg(state)
        .args([&address, "exec", "hostname"])
        .inside(lab.network().golden())
        .run()?;
    ensure!(asked == "n1\n", "{asked}");
    fs::write(go_on, "")?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    ensure!(
        outcome.nodes[0].stdout == outcome.nodes[1].stdout,
        "two nodes got two streams"
    );
    costs[0].expect_bounded(&before, "ka-client, data and status port")
}
