//! The use of a stream's time at this node: counted when the pump falls asleep and wakes, never for each
//! block.
//!
//! The server judges the figures (`ka_proto::run`); `docs/protocol.md`, "Pace".

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ka_proto::pace::Pace;
use nix::libc;

/// Words of `struct tcp_info` up to `tcpi_sndbuf_limited` (linux/tcp.h, since 4.10; fields are only ever
/// appended).
const TCP_INFO_WORDS: usize = 24;
/// `tcpi_bytes_acked`, `tcpi_busy_time` and `tcpi_rwnd_limited` among them; times are in microseconds.
const BYTES_ACKED: usize = 15;
const BUSY_TIME: usize = 21;
const WINDOW_CLOSED: usize = 22;

nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u64; TCP_INFO_WORDS],
    nix::sys::socket::sockopt::GetStruct<[u64; TCP_INFO_WORDS]>
);

/// The kernel's figures of a connection (tcp(7)).
#[derive(Debug, Clone, Copy)]
struct TcpInfo;

/// The use of a link since its connection began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinkUse {
    bytes: u64,
    busy_us: u64,
}

impl LinkUse {
    /// Asks the kernel; nothing where it does not say.
    pub(super) fn of(socket: &std::net::TcpStream) -> Option<Self> {
        let info = nix::sys::socket::getsockopt(socket, TcpInfo).ok()?;
        Some(Self {
            bytes: info[BYTES_ACKED],
            busy_us: info[BUSY_TIME].saturating_sub(info[WINDOW_CLOSED]),
        })
    }

    /// Returns the use since `earlier`.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            busy_us: self.busy_us.saturating_sub(earlier.busy_us),
        }
    }
}

/// The party that the pump waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// A block from the predecessor or the producer.
    Upstream,
    /// Its own consumer.
    Consumer,
    /// Descendants, or room in the socket to the successor.
    Downstream,
    /// Neighbours, orders, the end: nothing that has to do with pace.
    Other,
}

/// Sums since the stream began, in microseconds; written by the pump, read by the control task.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    upstream_us: AtomicU64,
    consumer_us: AtomicU64,
    downstream_us: AtomicU64,
    work_us: AtomicU64,
    line_busy_us: AtomicU64,
    line_bytes: AtomicU64,
    /// For how long the pump's thread was ready while it seemed to wait.
    late_us: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Spent {
    pub(super) fn worked(&self, time: Duration) {
        self.work_us.fetch_add(micros(time), Ordering::Relaxed);
    }

    pub(super) fn waited(&self, what: Waits, time: Duration) {
        let sum = match what {
            Waits::Upstream => &self.upstream_us,
            Waits::Consumer => &self.consumer_us,
            Waits::Downstream => &self.downstream_us,
            Waits::Other => return,
        };
        sum.fetch_add(micros(time), Ordering::Relaxed);
    }

    pub(super) fn line(&self, line: LinkUse) {
        self.line_busy_us.fetch_add(line.busy_us, Ordering::Relaxed);
        self.line_bytes.fetch_add(line.bytes, Ordering::Relaxed);
    }

    /// Takes note of the time for which the pump's thread has run, or has been ready to. The time beyond its
    /// work it was ready and got no processor: poll(2) returned late, and the thread seemed to wait for
    /// another node.
    pub(super) fn wanted(&self, time: Option<Duration>) {
        let work = self.work_us.load(Ordering::Relaxed);
        let late = time.map_or(0, micros).saturating_sub(work);
        self.late_us.fetch_max(late, Ordering::Relaxed);
    }

    /// Returns all of it until now: `elapsed` since the stream began here, of which the consumer had nothing
    /// to do in `idle`.
    pub(super) fn sums(&self, elapsed: Duration, idle: Duration) -> Sums {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Sums {
            elapsed_us: micros(elapsed),
            upstream_us: read(&self.upstream_us),
            consumer_us: read(&self.consumer_us),
            downstream_us: read(&self.downstream_us),
            work_us: read(&self.work_us),
            consumer_busy_us: micros(elapsed.saturating_sub(idle)),
            line_busy_us: read(&self.line_busy_us),
            line_bytes: read(&self.line_bytes),
            late_us: read(&self.late_us),
        }
    }
}

/// [`Spent`] at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    elapsed_us: u64,
    upstream_us: u64,
    consumer_us: u64,
    downstream_us: u64,
    work_us: u64,
    consumer_busy_us: u64,
    line_busy_us: u64,
    line_bytes: u64,
    late_us: u64,
}

impl Sums {
    /// Returns these sums for the head. There the producer, not the pump, reports what the stream waits for.
    pub(super) fn of_head(self, blocked: Duration) -> Self {
        let blocked = micros(blocked);
        Self {
            upstream_us: self.elapsed_us.saturating_sub(blocked),
            downstream_us: blocked,
            late_us: 0,
            ..self
        }
    }

    /// Returns the time since `earlier`, as it is told to the server.
    pub(crate) fn since(&self, earlier: &Self) -> Pace {
        let millis = |now: u64, then: u64| u32::try_from(now.saturating_sub(then) / 1000).unwrap_or(u32::MAX);
        let late_ms = millis(self.late_us, earlier.late_us);
        let waited = |now: u64, then: u64| {
            let all: u64 = [self.upstream_us, self.consumer_us, self.downstream_us]
                .iter()
                .sum();
            let before: u64 = [earlier.upstream_us, earlier.consumer_us, earlier.downstream_us]
                .iter()
                .sum();
            let (all_ms, own_ms) = (millis(all, before), millis(now, then));
            let late = u64::from(late_ms) * u64::from(own_ms) / u64::from(all_ms.max(1));
            own_ms.saturating_sub(u32::try_from(late).unwrap_or(u32::MAX))
        };
        Pace {
            elapsed_ms: millis(self.elapsed_us, earlier.elapsed_us),
            upstream_ms: waited(self.upstream_us, earlier.upstream_us),
            consumer_ms: waited(self.consumer_us, earlier.consumer_us),
            downstream_ms: waited(self.downstream_us, earlier.downstream_us),
            work_ms: millis(self.work_us, earlier.work_us) + late_ms,
            consumer_busy_ms: millis(self.consumer_busy_us, earlier.consumer_busy_us),
            link_busy_ms: millis(self.line_busy_us, earlier.line_busy_us),
            link_bytes: self.line_bytes.saturating_sub(earlier.line_bytes),
            ..Pace::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_line_has_carried() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut out = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let before = LinkUse::of(&out).unwrap();
        out.write_all(&[7; 100_000]).unwrap();
        there.read_exact(&mut [0; 100_000]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let line = LinkUse::of(&out).unwrap().since(before);
        assert_eq!(line.bytes, 100_000);
        assert!(line.busy_us < 1_000_000, "{line:?}");
    }

    #[test]
    fn a_pace_is_what_was_spent_since_the_last_one() {
        let spent = Spent::default();
        spent.waited(Waits::Consumer, Duration::from_millis(70));
        let first = spent.sums(Duration::from_millis(100), Duration::from_millis(30));
        spent.waited(Waits::Consumer, Duration::from_millis(20));
        spent.waited(Waits::Other, Duration::from_millis(5));
        spent.worked(Duration::from_millis(10));
        let pace = spent
            .sums(Duration::from_millis(140), Duration::from_millis(40))
            .since(&first);
        assert_eq!((pace.elapsed_ms, pace.consumer_ms, pace.work_ms), (40, 20, 10));
        assert_eq!(pace.consumer_busy_ms, 30);
    }
}
