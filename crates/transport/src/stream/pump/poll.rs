//! poll(2) over the pump's wake event and its two connections.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connection, and the events to wait for on it. Its end is always reported.
pub(super) type Watched<'a> = (BorrowedFd<'a>, PollFlags);

/// The result of poll(2).
#[derive(Debug)]
pub(super) struct Polled {
    /// Another thread has woken the pump.
    pub(super) is_woken: bool,
    pub(super) upstream: PollFlags,
    pub(super) downstream: PollFlags,
    pub(super) group: PollFlags,
    /// Nothing happened until the time was over.
    pub(super) is_due: bool,
}

/// Sleeps until `event` or a connection is ready, at most `limit`. The connections are those to the predecessor,
/// to the successor and to the group.
pub(super) fn poll_links(
    event: BorrowedFd<'_>,
    watched: [Option<Watched<'_>>; 3],
    limit: Duration,
) -> Polled {
    let event = PollFd::from_borrowed_fd(event, PollFlags::IN);
    let (mut fds, mut used) = ([event.clone(), event.clone(), event.clone(), event], 1);
    for (fd, flags) in watched.iter().flatten() {
        fds[used] = PollFd::from_borrowed_fd(*fd, *flags);
        used += 1;
    }
    let limit = Timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // An interrupted poll is a short one.
    let is_due = poll(&mut fds[..used], Some(&limit)) == Ok(0);
    let mut events = fds[..used].iter().map(PollFd::revents);
    let mut next = |is_watched: bool| {
        let flags = is_watched.then(|| events.next()).flatten();
        flags.unwrap_or(PollFlags::empty())
    };
    let is_woken = next(true).contains(PollFlags::IN);
    let [upstream, downstream, group] = watched.map(|watched| next(watched.is_some()));
    Polled {
        is_woken,
        upstream,
        downstream,
        group,
        is_due,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn each_connection_is_told_apart_with_and_without_the_other() {
        let (event, _keep_event) = UnixStream::pair().unwrap();
        let (up, mut above) = UnixStream::pair().unwrap();
        let (down, below) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(1);
        let watch = |up, down| {
            let (up, down): (Option<&UnixStream>, Option<&UnixStream>) = (up, down);
            let watched = |of: Option<_>| of.map(|socket: &UnixStream| socket.as_fd());
            poll_links(
                event.as_fd(),
                [
                    watched(up).map(|fd| (fd, PollFlags::IN)),
                    watched(down).map(|fd| (fd, PollFlags::IN)),
                    None,
                ],
                limit,
            )
        };
        assert!(watch(Some(&up), Some(&down)).is_due);
        above.write_all(b"block").unwrap();
        for down in [None, Some(&down)] {
            let polled = watch(Some(&up), down);
            assert!(!polled.is_due && !polled.is_woken);
            assert_eq!(
                (polled.upstream, polled.downstream),
                (PollFlags::IN, PollFlags::empty())
            );
        }
        drop(below);
        let polled = watch(None, Some(&down));
        assert!(polled.downstream.contains(PollFlags::HUP) && polled.upstream.is_empty());
    }

    #[test]
    fn the_event_wakes() {
        let (event, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"!").unwrap();
        let polled = poll_links(event.as_fd(), [None, None, None], Duration::from_secs(60));
        assert!(polled.is_woken && !polled.is_due);
    }
}
