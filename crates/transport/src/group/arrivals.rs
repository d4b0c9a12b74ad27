//! Buffers for what a member receives. Datagrams stay where they were received until they are no longer needed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::receiver::{RECEIVE_BYTES, Received};

/// Bytes of a buffer: two receives of the largest size, or a moment's single datagrams.
const BUFFER_BYTES: usize = 2 * RECEIVE_BYTES;
/// Fewest bytes for which a whole buffer is kept. Less is copied into memory of its size: a slow stream must not keep
/// a buffer for each datagram.
const FEW_BYTES: usize = BUFFER_BYTES / 4;
/// Most buffers that wait to be used again.
const MAX_BUFFERS: usize = 64;

/// The receives of one turn, and the buffers for more.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    buffer: Arc<Vec<u8>>,
    received: Vec<Received>,
    /// Buffers that were given out, oldest first. Most of them come back in this order.
    used: std::collections::VecDeque<Arc<Vec<u8>>>,
}

impl Arrivals {
    /// Receives until a buffer is full, or `recv` has nothing more. Returns false in the second case. What was received
    /// before is forgotten.
    ///
    /// # Errors
    /// The error of `recv`.
    pub(crate) fn fill(
        &mut self,
        recv: impl Fn(&mut [u8]) -> io::Result<Option<Received>>,
    ) -> io::Result<bool> {
        self.received.clear();
        let mut buffer = self.empty();
        let mut filled = 0;
        let mut is_more = true;
        while is_more
            && let Some(room) = buffer.get_mut(filled..)
            && room.len() >= RECEIVE_BYTES
        {
            match recv(room)? {
                Some(received) => {
                    filled += received.len;
                    self.received.push(received);
                }
                None => is_more = false,
            }
        }
        if filled < FEW_BYTES {
            self.buffer = Arc::new(buffer[..filled].to_vec());
            self.used.push_front(Arc::new(buffer));
        } else {
            self.buffer = Arc::new(buffer);
            self.used.push_back(Arc::clone(&self.buffer));
        }
        if self.used.len() > MAX_BUFFERS {
            self.used.pop_back();
        }
        Ok(is_more)
    }

    /// Returns a buffer that nobody uses.
    fn empty(&mut self) -> Vec<u8> {
        // The last turn's datagrams are with the member.
        self.buffer = Arc::default();
        let oldest = self.used.pop_front().map(Arc::try_unwrap);
        match oldest {
            Some(Ok(free)) if free.len() == BUFFER_BYTES => free,
            Some(Err(shared)) => {
                self.used.push_back(shared);
                vec![0; BUFFER_BYTES]
            }
            _ => vec![0; BUFFER_BYTES],
        }
    }

    /// Returns the buffer that holds what was received.
    pub(crate) const fn buffer(&self) -> &Arc<Vec<u8>> {
        &self.buffer
    }

    /// Returns the places of the receives in the buffer, and the size of the datagrams of each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        self.received.iter().scan(0, |start, received| {
            let place = *start..*start + received.len;
            *start = place.end;
            Some((place, received.datagram))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills an `Arrivals` with these receives.
    fn fill(arrivals: &mut Arrivals, receives: &[(usize, usize)]) -> bool {
        let next = std::cell::Cell::new(0);
        let recv = |room: &mut [u8]| {
            let place = next.replace(next.get() + 1);
            Ok(receives.get(place).map(|(len, datagram)| {
                room[..*len].fill(u8::try_from(place + 1).unwrap());
                Received {
                    len: *len,
                    datagram: *datagram,
                }
            }))
        };
        arrivals.fill(recv).unwrap()
    }

    #[test]
    fn receives_stand_one_after_another_and_stay_until_they_are_dropped() {
        let mut arrivals = Arrivals::default();
        assert!(fill(&mut arrivals, &[(60_000, 1500), (60_000, 1500), (1, 1)]));
        let places: Vec<_> = arrivals.places().collect();
        assert_eq!(places, [(0..60_000, 1500), (60_000..120_000, 1500)]);
        let held = Arc::clone(arrivals.buffer());
        assert!(!fill(&mut arrivals, &[(40_000, 1000)]));
        assert_eq!((held[59_999], held[60_000], arrivals.buffer()[0]), (1, 2, 1));
    }

    #[test]
    fn few_bytes_keep_few_bytes_and_buffers_are_used_again() {
        let mut arrivals = Arrivals::default();
        assert!(!fill(&mut arrivals, &[(1500, 1500)]));
        assert_eq!(arrivals.buffer().capacity(), 1500);
        assert!(!fill(&mut arrivals, &[]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            fill(&mut arrivals, &[(60_000, 1500), (60_000, 1500)]);
            seen.insert(arrivals.buffer().as_ptr());
        }
        assert!(seen.len() <= 2, "{}", seen.len());
        let held: Vec<_> = (0..200)
            .map(|_| {
                fill(&mut arrivals, &[(60_000, 1500)]);
                Arc::clone(arrivals.buffer())
            })
            .collect();
        assert!(arrivals.used.len() <= MAX_BUFFERS);
        assert!(held.iter().all(|buffer| buffer[0] == 1));
    }
}
