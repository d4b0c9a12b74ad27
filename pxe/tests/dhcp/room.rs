//! A switch with hosts in namespaces, our server on one of them, and DHCP clients of two other projects.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use ka_lab::netns::{GOLDEN_ADDRESS, Namespace, Network};
use ka_lab::process::{Program, Running};
use ka_lab::scratch::Scratch;
use ka_pxe::dhcp::{
    BootFileFor, Dhcp, DhcpConfig, DhcpError, DhcpEvent, DhcpMode, FullConfig, KnownMachine, Pool,
};
use tokio::sync::oneshot;

/// Time limit of each step. A longer one is a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Network of one test. The server runs on the golden host; clients have no address.
pub(crate) struct Room {
    pub(crate) network: Network,
    pub(crate) scratch: Scratch,
}

impl Room {
    pub(crate) fn new(label: &str, clients: usize) -> Result<Self> {
        let room = Self {
            network: Network::new(clients, None)?,
            scratch: Scratch::new(label)?,
        };
        for number in 1..=clients {
            room.client(number).ip("addr flush dev eth0")?;
        }
        Ok(room)
    }

    pub(crate) fn server_host(&self) -> &Namespace {
        self.network.golden()
    }

    pub(crate) fn client(&self, number: usize) -> &Namespace {
        self.network.node(number)
    }

    pub(crate) fn mac(&self, number: usize) -> Result<String> {
        mac_of(self.client(number))
    }

    pub(crate) fn config(&self, mode: DhcpMode) -> DhcpConfig {
        DhcpConfig {
            iface: "eth0".to_owned(),
            mode,
            known: Vec::new(),
            state_dir: self.scratch.path().join("state"),
        }
    }

    /// Full mode with the addresses `10.77.0.50` to `10.77.0.LAST`.
    pub(crate) fn full(&self, last: u8) -> DhcpConfig {
        self.config(DhcpMode::Full(full(last)))
    }

    /// Starts a server of ours and waits until it is ready.
    pub(crate) fn serve(&self, config: &DhcpConfig) -> Result<Served> {
        Served::start(self.server_host(), config)?.map_err(|err| anyhow!("{err}"))
    }

    /// The error of a server of ours that must not start.
    pub(crate) fn refused(&self, config: &DhcpConfig) -> Result<DhcpError> {
        match Served::start(self.server_host(), config)? {
            Ok(_) => Err(anyhow!("it started")),
            Err(err) => Ok(err),
        }
    }

    /// Writes a shell script for a DHCP client to the scratch directory.
    pub(crate) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Adds the server's card to a client's neighbour table. A client sends RELEASE once, without an answer,
    /// and then gives up its address at once; a RELEASE that still waits for ARP would be lost.
    pub(crate) fn introduce_server(&self, number: usize) -> Result<()> {
        let mac = mac_of(self.server_host())?;
        let entry = format!("neigh replace {OURS} lladdr {mac} dev eth0 nud permanent");
        self.client(number).ip(&entry).map(drop)
    }

    pub(crate) fn dhclient(&self, number: usize) -> Result<DhClient<'_>> {
        DhClient::new(self, number)
    }

    pub(crate) fn udhcpc(&self, number: usize, more: &[&str]) -> Result<Udhcpc> {
        Udhcpc::new(self, number, more)
    }
}

/// `10.77.0.50` to `10.77.0.LAST`, with a router, a name server and a domain.
pub(crate) fn full(last: u8) -> FullConfig {
    let pool = Pool {
        first: [10, 77, 0, 50].into(),
        last: [10, 77, 0, last].into(),
    };
    FullConfig {
        router: Some([10, 77, 0, 254].into()),
        dns: vec![[10, 77, 0, 253].into()],
        domain: Some("room.example".to_owned()),
        ..FullConfig::new(pool)
    }
}

pub(crate) fn known(mac: &str, name: Option<&str>, address: Option<&str>) -> Result<KnownMachine> {
    Ok(KnownMachine {
        mac: mac.parse()?,
        name: name.map(str::to_owned),
        address: address.map(str::parse).transpose()?,
    })
}

pub(crate) fn mac_of(host: &Namespace) -> Result<String> {
    let link = host.ip("-br link show dev eth0")?;
    let mac = link.split_whitespace().nth(2).context("no eth0")?;
    Ok(mac.to_owned())
}

/// Addresses of `eth0`, as `ip` lists them.
pub(crate) fn addresses(host: &Namespace) -> Result<Vec<String>> {
    let listed = host.ip("-o -4 addr show dev eth0")?;
    Ok(listed
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .map(str::to_owned)
        .collect())
}

/// A server that runs in a thread inside a namespace. Dropping it stops it.
pub(crate) struct Served {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
    events: Arc<Mutex<Vec<DhcpEvent>>>,
}

impl Served {
    /// Starts a server that names `boot.ARCH` for firmware, a script's URL for iPXE and a program's URL for
    /// HTTP boot.
    pub(crate) fn start(host: &Namespace, config: &DhcpConfig) -> Result<Result<Self, DhcpError>> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let sink = Arc::clone(&events);
        let (host, config) = (host.clone(), config.clone());
        let thread = std::thread::spawn(move || {
            host.enter(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let sink = Arc::new(move |event| {
                        sink.lock().unwrap_or_else(PoisonError::into_inner).push(event)
                    });
                    match Dhcp::bind(&config, boot_files(), sink).await {
                        Ok(Some(dhcp)) => {
                            ready.send(None)?;
                            dhcp.serve(async {
                                let _ = stopped.await;
                            })
                            .await?;
                            Ok(())
                        }
                        Ok(None) => Err(anyhow!("mode off")),
                        Err(err) => Ok(ready.send(Some(err))?),
                    }
                })
            })?
        });
        match started.recv_timeout(LIMIT).context("waiting for the server")? {
            None => Ok(Ok(Self {
                stop: Some(stop),
                thread: Some(thread),
                events,
            })),
            Some(err) => Ok(Err(err)),
        }
    }

    pub(crate) fn events(&self) -> Vec<DhcpEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event.
    pub(crate) fn wait_for(&self, what: &str, is: impl Fn(&DhcpEvent) -> bool) -> Result<DhcpEvent> {
        wait(what, || Ok(self.events().into_iter().find(|event| is(event))))
            .with_context(|| format!("there were {:?}", self.events()))
    }

    pub(crate) fn wait_for_warning(&self, part: &str) -> Result<String> {
        let event = self.wait_for(
            part,
            |event| matches!(event, DhcpEvent::Warning(text) if text.contains(part)),
        )?;
        match event {
            DhcpEvent::Warning(text) => Ok(text),
            _ => Err(anyhow!("no warning")),
        }
    }

    /// Stops the server, and fails if it did not serve well until then.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.stop.take());
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the server panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(err) = self.end() {
            eprintln!("server: {err:#}");
        }
    }
}

fn boot_files() -> BootFileFor {
    Arc::new(|machine| {
        Some(match (machine.ipxe, machine.http) {
            (true, _) => "http://10.77.0.1/script.ipxe".to_owned(),
            (false, true) => "http://10.77.0.1/bootx64.efi".to_owned(),
            (false, false) => format!("boot.{}", machine.arch).replace(' ', "-"),
        })
    })
}

/// Waits until a value exists.
pub(crate) fn wait<T>(what: &str, mut is_there: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(there) = is_there()? {
            return Ok(there);
        }
        ensure!(
            begun.elapsed() < LIMIT,
            "{what}: not within {} s",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// ISC's client with a script of ours: the usual script would write this machine's own `/etc/resolv.conf`.
pub(crate) struct DhClient<'a> {
    room: &'a Room,
    host: Namespace,
    script: PathBuf,
    log: PathBuf,
    stem: PathBuf,
}

impl<'a> DhClient<'a> {
    fn new(room: &'a Room, number: usize) -> Result<Self> {
        let stem = room.scratch.path().join(format!("dhclient-{number}"));
        let log = stem.with_extension("log");
        fs::write(&log, "")?;
        fs::write(
            stem.with_extension("conf"),
            "timeout 15;\nretry 2;\ninitial-interval 1;\nbackoff-cutoff 2;\nrequest subnet-mask, routers, \
             domain-name-servers, domain-name, host-name;\n",
        )?;
        let script = room.script(
            &format!("dhclient-{number}.sh"),
            &format!(
                "#!/bin/sh\necho \"$reason $new_ip_address $new_subnet_mask $new_routers $new_domain_name_servers \
                 $new_domain_name $new_host_name $new_dhcp_server_identifier\" >> {}\ncase $reason in\n\
                 BOUND|RENEW|REBIND|REBOOT) ip addr flush dev $interface; ip addr add $new_ip_address/24 dev \
                 $interface;;\nEXPIRE|FAIL|RELEASE|STOP) ip addr flush dev $interface;;\nesac\n",
                log.display()
            ),
        )?;
        Ok(Self {
            room,
            host: room.client(number).clone(),
            script,
            log,
            stem,
        })
    }

    fn program(&self) -> Program {
        Program::new("dhclient")
            .args(["-v", "-sf"])
            .arg(&self.script)
            .arg("-cf")
            .arg(self.stem.with_extension("conf"))
            .arg("-lf")
            .arg(self.stem.with_extension("leases"))
            .arg("-pf")
            .arg(self.stem.with_extension("pid"))
            .inside(&self.host)
            .limit(LIMIT)
    }

    /// Starts it in the foreground. It keeps its lease as long as the guard lives.
    pub(crate) fn start(&self) -> Result<Running> {
        self.program().args(["-d", "eth0"]).spawn()
    }

    /// Releases the lease and ends the running client.
    pub(crate) fn release(&self) -> Result<()> {
        self.program().args(["-r", "eth0"]).run().map(drop)
    }

    /// Waits for a line that the script wrote for one of these reasons, after the first `skip` lines.
    pub(crate) fn wait_for(&self, reasons: &[&str], skip: usize) -> Result<String> {
        let line = wait(&format!("dhclient's {reasons:?}"), || {
            let log = fs::read_to_string(&self.log)?;
            Ok(log
                .lines()
                .skip(skip)
                .find(|line| {
                    reasons
                        .iter()
                        .any(|reason| line.starts_with(&format!("{reason} ")))
                })
                .map(str::to_owned))
        });
        line.with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            format!("its script saw:\n{log}in {}", self.room.scratch.path().display())
        })
    }

    /// Waits for the lease in dhclient's own file, which it writes only after its script.
    pub(crate) fn wait_for_lease(&self, address: &str) -> Result<()> {
        let line = format!("fixed-address {address};");
        let path = self.stem.with_extension("leases");
        wait(&format!("{line} in dhclient's file"), || {
            let kept = fs::read_to_string(&path).unwrap_or_default();
            Ok(kept.contains(&line).then_some(()))
        })
    }

    pub(crate) fn lines(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.log)?.lines().count())
    }
}

/// Busybox's client, in the foreground.
pub(crate) struct Udhcpc {
    pub(crate) run: Running,
    log: PathBuf,
}

impl Udhcpc {
    fn new(room: &Room, number: usize, more: &[&str]) -> Result<Self> {
        let log = room.scratch.path().join(format!("udhcpc-{number}.log"));
        fs::write(&log, "")?;
        let script = room.script(
            &format!("udhcpc-{number}.sh"),
            &format!(
                "#!/bin/sh\necho \"$1 $ip $subnet $router $dns $domain $hostname $serverid $siaddr $boot_file\" >> {}\ncase $1 in\n\
                 bound|renew) ip addr flush dev $interface; ip addr add $ip/24 dev $interface;;\n\
                 deconfig) ip addr flush dev $interface;;\nesac\n",
                log.display()
            ),
        )?;
        let run = Program::new("udhcpc")
            .args(["-f", "-R", "-i", "eth0", "-t", "8", "-T", "1", "-A", "2", "-s"])
            .arg(&script)
            .args(more)
            .inside(room.client(number))
            .limit(LIMIT)
            .spawn()?;
        Ok(Self { run, log })
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn wait_for(&self, reason: &str, skip: usize) -> Result<String> {
        wait(&format!("udhcpc's {reason}"), || {
            Ok(self
                .log()
                .lines()
                .skip(skip)
                .find(|line| line.starts_with(&format!("{reason} ")))
                .map(str::to_owned))
        })
        .with_context(|| format!("its script saw:\n{}\nit said:\n{}", self.log(), self.run.said()))
    }
}

/// Starts dnsmasq on a client's host, which gets this address.
pub(crate) fn dnsmasq(room: &Room, number: usize, address: &str, more: &[&str]) -> Result<Running> {
    dnsmasq_that_pings(room, number, address, &[more, &["--no-ping"]].concat())
}

/// Starts dnsmasq with its default behaviour: it pings an address for three seconds before it offers it.
pub(crate) fn dnsmasq_that_pings(
    room: &Room,
    number: usize,
    address: &str,
    more: &[&str],
) -> Result<Running> {
    let host = room.client(number);
    host.ip(&format!("addr add {address}/24 brd + dev eth0"))?;
    let leases = room.scratch.path().join(format!("dnsmasq-{number}.leases"));
    let mut running = Program::new("dnsmasq")
        .args([
            "-d",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=eth0",
            "--user=root",
        ])
        .args(["--pid-file=", "--log-dhcp"])
        .arg(format!("--dhcp-leasefile={}", leases.display()))
        .args(more)
        .inside(host)
        .limit(LIMIT)
        .spawn()?;
    running.wait_until("it says that it serves", |said| {
        Ok(said.said().contains("DHCP, IP range"))
    })?;
    Ok(running)
}

/// The lease file of a room's server.
pub(crate) fn lease_file(room: &Room) -> Result<String> {
    let path: &Path = &room.scratch.path().join("state/leases-eth0.json");
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The server's own address in every room.
pub(crate) const OURS: &str = GOLDEN_ADDRESS;

/// Content of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) yiaddr: [u8; 4],
    pub(crate) server: [u8; 4],
    pub(crate) file: String,
}

/// Broadcasts the DISCOVER of a recorded BIOS ROM and collects the answers of two seconds.
pub(crate) fn rom_hears(room: &Room, number: usize) -> Result<Vec<Reply>> {
    let host = room.client(number);
    // A UDP socket sends nothing without an address and a route. The packet itself does not mention them.
    host.ip("addr replace 10.77.0.240/24 dev eth0")?;
    host.ip("route replace default dev eth0")?;
    host.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:68")?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(&rom_packet(1), "255.255.255.255:67")?;
        let (mut replies, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < Duration::from_secs(2) {
            replies.extend(receive(&socket)?);
        }
        Ok(replies)
    })?
}

/// Asks port 4011 as a ROM does that has its address.
pub(crate) fn ask_4011(room: &Room, number: usize) -> Result<Reply> {
    room.client(number).enter(|| {
        let socket = UdpSocket::bind("10.77.0.240:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        wait("an answer from port 4011", || {
            socket.send_to(&rom_packet(3), (OURS, 4011))?;
            receive(&socket)
        })
    })?
}

fn receive(socket: &UdpSocket) -> Result<Option<Reply>> {
    let mut buffer = [0; 1500];
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(Some(reply(&buffer[..length])?)),
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn reply(bytes: &[u8]) -> Result<Reply> {
    ensure!(bytes.len() >= 300 && bytes[0] == 2, "no reply: {bytes:?}");
    let file = bytes[108..236]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let mut at = 240;
    while bytes[at] != 54 {
        ensure!(bytes[at] != 255, "no server identifier: {bytes:?}");
        at += 2 + usize::from(bytes[at + 1]);
    }
    Ok(Reply {
        yiaddr: bytes[16..20].try_into()?,
        server: bytes[at + 2..at + 6].try_into()?,
        file: String::from_utf8(file.to_vec())?,
    })
}

/// The recorded ROM's DISCOVER, with its message type replaced.
fn rom_packet(kind: u8) -> Vec<u8> {
    let mut bytes = ka_lab::dhcp::recorded("bios-rom-discover");
    bytes[242] = kind;
    bytes
}
