//! One transfer: a socket connected to its client, a file, and the timeouts.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::catalog::Content;
use crate::tftp::packet::{self, DEFAULT_BLOCK, Options, Reply};
use crate::tftp::window::{Progress, Window};

/// First wait for an answer, its growth, and the longest wait. A machine on the same wire answers within a
/// millisecond, one that writes to slow memory within a second. A wait that is too short costs one packet,
/// which the client drops. The longest wait exceeds atftp's own timeout of 5 s: in a window atftp never
/// answers repetitions, each of which restarts its clock, and only in a longer pause does it repeat its
/// acknowledgement.
const FIRST_WAIT: Duration = Duration::from_millis(300);
const WAIT_GROWTH: u32 = 3;
/// First wait for the answer to an OACK. It is longer, because curl takes a repeated OACK that arrives after
/// block 1 for a new beginning and then never goes on.
const FIRST_OACK_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(6);
/// Number of times that the same packets are sent without an answer: about half a minute, longer than any ROM
/// waits itself.
const MAX_TRIES: u32 = 7;
/// Bytes read from the file at once. Each transfer holds one such buffer.
const READ_AHEAD: usize = 256 << 10;
/// Largest answer of a client that is read, in bytes. A longer ERROR message is cut, which does no harm.
const MAX_REPLY: usize = 600;
/// IPv4, UDP and TFTP headers, in bytes. A block plus these headers must fit the path's MTU.
const HEADERS: usize = 20 + 8 + 4;

/// Result of a transfer.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client has everything.
    Done,
    /// The client ended the transfer with an error packet.
    Refused,
    /// The client no longer answers.
    Gone,
    /// The file cannot be read.
    Unreadable(io::Error),
}

/// State of the client that the listener and the transfer share.
#[derive(Debug)]
pub(super) struct Activity {
    /// True once the client has acknowledged a block.
    begun: AtomicBool,
    heard: Mutex<Instant>,
    /// Number of repeated requests that the transfer has not answered.
    repeats: AtomicU32,
    repeated: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            begun: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
            repeats: AtomicU32::new(0),
            repeated: Notify::new(),
        }
    }
}

impl Activity {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Time since the client's last packet.
    pub(super) fn silence(&self) -> Duration {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Records that the request was repeated.
    pub(super) fn repeat(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
        self.repeated.notify_one();
    }

    /// True if the request was repeated since the last call.
    pub(super) fn take_repeats(&self) -> bool {
        self.repeats.swap(0, Ordering::Relaxed) > 0
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A transfer with its granted options.
pub(super) struct Transfer<'a> {
    socket: &'a UdpSocket,
    content: &'a Content,
    activity: &'a Activity,
    block: u16,
    fixed_wait: Option<Duration>,
    window: Window,
    oack: Option<Vec<u8>>,
    ahead: (u64, Bytes),
}

/// Result of one wait for the client.
enum Heard {
    Ack(u16),
    Repeated,
    Refused,
    Gone,
    Nothing,
}

impl<'a> Transfer<'a> {
    /// Creates a transfer and grants its options. A block is no larger than one packet of the path to the
    /// client; the other options are granted as requested.
    pub(super) fn new(
        socket: &'a UdpSocket,
        content: &'a Content,
        activity: &'a Activity,
        options: Options,
        path_mtu: usize,
    ) -> Self {
        let largest = u16::try_from(path_mtu.saturating_sub(HEADERS)).unwrap_or(u16::MAX);
        let block = options.block.map(|block| block.min(largest.max(DEFAULT_BLOCK)));
        let mut granted = Vec::new();
        granted.extend(block.map(|block| ("blksize", u64::from(block))));
        granted.extend(options.timeout_secs.map(|secs| ("timeout", u64::from(secs))));
        granted.extend(options.size.then(|| ("tsize", content.len())));
        granted.extend(options.window.map(|window| ("windowsize", u64::from(window))));
        let block = block.unwrap_or(DEFAULT_BLOCK);
        Self {
            socket,
            content,
            activity,
            block,
            fixed_wait: options.timeout_secs.map(|secs| Duration::from_secs(secs.into())),
            window: Window::new(content.len(), block, options.window.unwrap_or(1)),
            oack: (!granted.is_empty()).then(|| packet::oack(&granted)),
            ahead: (0, Bytes::new()),
        }
    }

    /// Sends the file.
    pub(super) async fn run(mut self) -> Ended {
        if let Some(oack) = self.oack.clone()
            && let Err(ended) = self.greet(&oack).await
        {
            return ended;
        }
        let mut tries = 0;
        loop {
            if let Err(ended) = self.send_window().await {
                return ended;
            }
            match self.wait_for_progress(tries).await {
                Ok(Progress::Done) => return Ended::Done,
                Ok(Progress::Send) => tries = 0,
                Ok(Progress::Nothing) => {
                    tries += 1;
                    if tries == MAX_TRIES {
                        return Ended::Gone;
                    }
                    self.window.rewind();
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Sends the OACK until the client acknowledges it as block 0.
    async fn greet(&mut self, oack: &[u8]) -> Result<(), Ended> {
        for tries in 0..MAX_TRIES {
            self.send(oack).await?;
            let until = Instant::now() + self.wait(FIRST_OACK_WAIT, tries);
            loop {
                match self.hear(until).await {
                    Heard::Ack(0) => return Ok(()),
                    Heard::Ack(_) => (),
                    Heard::Repeated | Heard::Nothing => break,
                    Heard::Refused => return Err(Ended::Refused),
                    Heard::Gone => return Err(Ended::Gone),
                }
            }
        }
        Err(Ended::Gone)
    }

    /// Waits until the client makes progress, or the time is over (`Nothing`).
    async fn wait_for_progress(&mut self, tries: u32) -> Result<Progress, Ended> {
        let until = Instant::now() + self.wait(FIRST_WAIT, tries);
        loop {
            match self.hear(until).await {
                Heard::Ack(number) => {
                    let progress = self.window.acknowledge(number);
                    if self.window.has_begun() {
                        self.activity.begun.store(true, Ordering::Relaxed);
                    }
                    if progress != Progress::Nothing {
                        return Ok(progress);
                    }
                }
                Heard::Repeated if self.window.has_begun() => (),
                Heard::Repeated | Heard::Nothing => return Ok(Progress::Nothing),
                Heard::Refused => return Err(Ended::Refused),
                Heard::Gone => return Err(Ended::Gone),
            }
        }
    }

    async fn hear(&self, until: Instant) -> Heard {
        let mut buffer = [0; MAX_REPLY];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let received = tokio::select! {
                biased;
                received = timeout(left, self.socket.recv(&mut buffer)) => received,
                () = self.activity.repeated.notified() => {
                    // Without a repetition this is a notification for the transfer before, which ended
                    // meanwhile.
                    if self.activity.take_repeats() {
                        return Heard::Repeated;
                    }
                    continue;
                }
            };
            match received {
                Err(_) => return Heard::Nothing,
                // The client's port is closed.
                Ok(Err(_)) => return Heard::Gone,
                Ok(Ok(length)) => {
                    self.activity.hear();
                    match packet::reply(&buffer[..length]) {
                        Reply::Ack(number) => return Heard::Ack(number),
                        Reply::Error => return Heard::Refused,
                        Reply::Stray => (),
                    }
                }
            }
        }
    }

    async fn send_window(&mut self) -> Result<(), Ended> {
        for number in self.window.next_blocks() {
            let payload = self.payload(number).await.map_err(Ended::Unreadable)?;
            self.send(&packet::data(number, &payload)).await?;
        }
        Ok(())
    }

    async fn send(&self, packet: &[u8]) -> Result<(), Ended> {
        match self.socket.send(packet).await {
            Ok(_) => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Err(Ended::Gone),
            // No buffer, or no route for a moment: the same as a packet lost on the way.
            Err(err) => {
                tracing::debug!("tftp: {err}");
                Ok(())
            }
        }
    }

    /// Returns the bytes of a block, from the buffer that was read ahead.
    async fn payload(&mut self, number: u64) -> io::Result<Bytes> {
        let block = usize::from(self.block);
        let offset = (number - 1) * u64::from(self.block);
        let end = (offset + u64::from(self.block)).min(self.content.len());
        let (start, bytes) = &self.ahead;
        if offset < *start || end > start + bytes.len() as u64 {
            self.ahead = (offset, read(self.content, offset, READ_AHEAD.max(block)).await?);
        }
        let (start, bytes) = &self.ahead;
        let first = usize::try_from(offset - start).map_err(io::Error::other)?;
        let last = usize::try_from(end - start).map_err(io::Error::other)?;
        if last > bytes.len() {
            return Err(io::Error::other("the file became shorter while it was sent"));
        }
        Ok(bytes.slice(first..last))
    }

    fn wait(&self, first: Duration, tries: u32) -> Duration {
        let growing = first * WAIT_GROWTH.saturating_pow(tries);
        self.fixed_wait.unwrap_or_else(|| growing.min(LONGEST_WAIT))
    }
}

/// Reads from the file. Does not hold up other transfers while a disk is slow.
pub(crate) async fn read(content: &Content, offset: u64, max: usize) -> io::Result<Bytes> {
    if content.is_in_memory() {
        return content.read_at(offset, max);
    }
    let content = content.clone();
    let read = tokio::task::spawn_blocking(move || content.read_at(offset, max));
    read.await.map_err(io::Error::other)?
}
