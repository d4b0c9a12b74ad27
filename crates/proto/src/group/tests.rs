//! Properties of the two machines together: any pattern of loss gives the same bytes, and nothing hostile
//! does any harm.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::block::{BlockKind, END_LEN, HEADER_LEN, StreamKey};
use crate::ids::{NodeId, RunId, StreamId, StreamOffset};
use crate::sim::Rng;

const NODE: NodeId = NodeId(1);

fn key() -> DatagramKey {
    DatagramKey::new(&[3; 32], RunId([4; 16]), StreamId(1), NodeId::SERVER).unwrap()
}

const fn config() -> GroupConfig {
    GroupConfig {
        shard_bytes: 48,
        report_every: Duration::from_millis(50),
        start_rate: 10_000_000,
        memory: 1 << 20,
    }
}

fn block(kind: BlockKind, offset: u64, payload: &[u8]) -> [u8; HEADER_LEN] {
    let key = StreamKey::new([1; 32], RunId([4; 16]), StreamId(1));
    let header = key.authenticate(kind, StreamOffset(offset), payload).unwrap();
    header.encode()
}

/// A sender and a member with a line between them that mistreats datagrams.
struct Pair {
    now: Duration,
    sender: Sender,
    reader: BlockReader<Vec<u8>>,
    /// The blocks that were pushed.
    pushed: Vec<Vec<u8>>,
    /// Number of blocks that came out of the group, and of those that were wrong.
    blocks: (usize, usize),
    /// Datagrams of a stranger, in percent.
    forged: u64,
    /// Datagrams that come later.
    held: Vec<Vec<u8>>,
    rng: Rng,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let now = Duration::from_secs(5);
        Self {
            now,
            sender: Sender::new(config(), key(), &[NODE], now),
            reader: BlockReader::new(Member::new(config(), key(), 100_000, now)),
            pushed: Vec::new(),
            blocks: (0, 0),
            forged: 0,
            held: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// Lets time pass up to the next timer, with this loss, reordering and duplication in percent.
    fn step(&mut self, (loss, reordered, duplicated): (u64, u64, u64)) {
        while let Some(burst) = self.sender.next_burst(self.now) {
            let sent = burst
                .bytes
                .len()
                .min(burst.datagram * self.rng.between(1, 44) as usize);
            for datagram in burst.bytes[..sent].chunks(burst.datagram) {
                if self.rng.chance(loss) {
                    continue;
                }
                if self.rng.chance(duplicated) || self.rng.chance(reordered) {
                    self.held.push(datagram.to_vec());
                }
                if self.rng.chance(self.forged) {
                    let mut forged = datagram.to_vec();
                    let place = self.rng.between(0, forged.len() as u64 - 1) as usize;
                    forged[place] ^= 1 << self.rng.between(0, 7);
                    receive(&mut self.reader, self.now, &forged);
                }
                if !self.rng.chance(reordered) {
                    receive(&mut self.reader, self.now, datagram);
                }
                if self.held.len() > 5 {
                    let late = self.held.swap_remove(self.rng.between(0, 5) as usize);
                    receive(&mut self.reader, self.now, &late);
                }
            }
            self.sender.handle_sent(self.now, sent);
        }
        while let Some((header, payload)) = self.reader.next_block(|length| vec![0; length]).unwrap() {
            if self.pushed.get(self.blocks.0) == Some(&[&header[..], &payload].concat()) {
                self.blocks.0 += 1;
                self.reader.accept();
            } else {
                self.blocks.1 += 1;
                assert!(self.reader.reject());
            }
            if self.reader.has_ended() {
                self.reader.member_mut().finish(self.now);
            }
        }
        if let Some(report) = self.reader.member_mut().report(self.now, 60_000, || 0) {
            self.sender.handle_report(self.now, NODE, &report);
        }
        let timers = [self.sender.poll_timeout(), self.reader.member().poll_timeout()];
        let next = timers.into_iter().flatten().min().unwrap();
        self.now = next.max(self.now + Duration::from_micros(1));
    }

    fn push(&mut self, kind: BlockKind, offset: u64, payload: &[u8]) {
        let header = block(kind, offset, payload);
        self.sender.push(&header, payload);
        self.pushed.push([&header[..], payload].concat());
    }
}

fn receive(reader: &mut BlockReader<Vec<u8>>, now: Duration, datagram: &[u8]) {
    let bytes = Arc::new(datagram.to_vec());
    let member = reader.member_mut();
    member.handle_datagrams(now, &bytes, 0..bytes.len(), bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_loss_reordering_duplication_and_forgery_gives_the_same_bytes(
        seed: u64,
        blocks in proptest::collection::vec((1usize..20_000, any::<bool>()), 1..12),
        line in (0u64..40, 0u64..20, 0u64..20),
        forged in prop_oneof![Just(0u64), 1u64..40],
    ) {
        let mut pair = Pair::new(seed);
        pair.forged = forged;
        let mut offset = 0;
        for (length, flush) in blocks {
            while !pair.sender.wants_bytes() {
                pair.sender.flush();
                pair.step(line);
            }
            let payload: Vec<u8> = (0..length).map(|_| pair.rng.next() as u8).collect();
            pair.push(BlockKind::Data, offset, &payload);
            offset += length as u64;
            if flush {
                pair.sender.flush();
                pair.step(line);
            }
        }
        pair.push(BlockKind::End, offset, &[7; END_LEN]);
        pair.sender.finish();
        let mut news = None;
        for _ in 0..200_000 {
            pair.step(line);
            news = pair.sender.poll_output();
            if news.is_some() {
                break;
            }
        }
        prop_assert_eq!(news, Some(SenderOutput::Complete));
        prop_assert_eq!(pair.sender.poll_timeout(), None);
        prop_assert_eq!(pair.blocks.0, pair.pushed.len());
        prop_assert!(forged > 0 || pair.blocks.1 == 0 && !pair.reader.member().is_strict());
        // Once it is strict, nothing forged gets as far as a block.
        prop_assert!(pair.blocks.1 <= 1, "{} blocks were wrong", pair.blocks.1);
    }

    #[test]
    fn no_datagram_makes_a_member_panic_or_grow(
        seed: u64,
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..40),
    ) {
        let mut reader = BlockReader::new(Member::new(config(), key(), 100_000, Duration::ZERO));
        let first = reader.member_mut().report(Duration::ZERO, 1 << 30, || 0).unwrap();
        let mut rng = Rng::new(seed);
        for mut bytes in datagrams {
            if rng.chance(50) && bytes.len() >= OVERHEAD {
                // The MAC is right, because another member made it.
                let header = Header {
                    kind: rng.pick(&[Kind::Data, Kind::Parity, Kind::Mark, Kind::Probe]),
                    index: rng.next() as u8,
                    shards: rng.next() as u8,
                    stream: StreamId(1),
                    number: rng.next() as u32 % 40,
                };
                bytes.resize(rng.pick(&[48, 16, bytes.len()]) + OVERHEAD, 0);
                key().seal(&header, &mut bytes);
            }
            let size = rng.between(0, 80) as usize;
            let bytes = Arc::new(bytes);
            let datagram = size.max(bytes.len() / 2);
            reader.member_mut().handle_datagrams(Duration::from_millis(1), &bytes, 0..bytes.len(), datagram);
            let _ = reader.next_block(|length| vec![0; length]);
        }
        let member = reader.member_mut();
        let report = member.report(Duration::from_secs(1), 1 << 30, || 0).unwrap();
        prop_assert!(report.missing.len() <= MAX_REPORTED && report.limit >= first.limit);
        prop_assert!(member.held() <= 100_000 / (48 * 128) + 2);
    }

    #[test]
    fn no_report_makes_a_sender_panic(
        reports in proptest::collection::vec(
            (0u32..30, 0u32..10, 0u32..10, proptest::collection::vec((0u32..12, 0u8..200), 0..70)),
            1..40,
        ),
    ) {
        let mut sender = Sender::new(config(), key(), &[NODE, NodeId(2)], Duration::ZERO);
        let mut now = Duration::ZERO;
        for (mark, next, room, missing) in reports {
            now += Duration::from_millis(10);
            if sender.wants_bytes() {
                sender.push(&block(BlockKind::Data, 0, &[1; 5000]), &[1; 5000]);
            }
            let mut count = 0;
            while let Some(burst) = sender.next_burst(now) {
                let bytes = burst.bytes.len();
                sender.handle_sent(now, bytes);
                count += 1;
                prop_assert!(count < 100_000);
            }
            let missing = missing.into_iter();
            let report = Report {
                mark,
                next,
                limit: next + room,
                missing: missing.map(|(stripe, shards)| Missing { stripe, shards }).collect(),
                ..Report::default()
            };
            sender.handle_report(now, NodeId(mark % 3), &report);
        }
    }
}

#[test]
fn a_sender_without_members_completes_and_sends_nothing() {
    let now = Duration::ZERO;
    let mut sender = Sender::new(config(), key(), &[], now);
    assert!(sender.wants_bytes());
    sender.push(&[0; 88], &[0; 100]);
    assert_eq!(sender.next_burst(now), None);
    assert_eq!(sender.poll_timeout(), None);
    sender.finish();
    assert_eq!(sender.poll_output(), Some(SenderOutput::Complete));
    assert_eq!(sender.poll_output(), None);
}

#[test]
fn a_blocked_socket_gets_the_same_datagrams_again() {
    let mut pair = Pair::new(1);
    pair.step((0, 0, 0));
    pair.push(BlockKind::Data, 0, &[1; 20_000]);
    pair.now += Duration::from_millis(1);
    let now = pair.now;
    let first = pair.sender.next_burst(now).unwrap().bytes.to_vec();
    pair.sender.handle_blocked(now);
    assert!(pair.sender.poll_timeout().unwrap() > now, "it would spin");
    assert_eq!(pair.sender.next_burst(now).unwrap().bytes, first);
}

#[test]
fn a_member_is_dark_after_a_silence_but_not_because_it_was_away_itself() {
    let at = Duration::from_millis;
    let mut member = Member::new(config(), key(), 100_000, at(0));
    for now in (0..=2990).step_by(10) {
        let _ = member.report(at(now), 0, || 0);
        assert!(!member.is_dark(at(now)), "{now}");
    }
    let _ = member.report(at(3000), 0, || 0);
    assert!(member.is_dark(at(3000)));
    let mut away = Member::new(config(), key(), 100_000, at(0));
    let _ = away.report(at(3500), 0, || 0);
    assert!(!away.is_dark(at(3500)));
}
