//! Chains of real pumps whose blocks come from a multicast group. A thread for each member plays the group:
//! it hands over the same sealed blocks as the head sends. A wiretap on each link counts what goes over it.

use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use ka_proto::block::{BlockHeader, Cipher, HEADER_LEN};

use super::attackers::{Bytes, Forger, Recording, insider, man_in_the_middle};
use super::handle::PumpHandle;
use super::inbox::{PumpEvent, PumpInput};
use super::tests::{Chain, LIMIT, STREAM, key, server_key};

const CIPHER: Option<Cipher> = Some(Cipher::Aes256Gcm);
const WINDOW: usize = 8 << 20;
const BLOCK: usize = 128 << 10;
const BLOCKS: usize = 160;
/// Bytes of a link that carries only the handshake and signs of life, for as long as a test lasts.
const QUIET: usize = 64 << 10;

/// A chain whose links are tapped, and the stream as the head will send it.
struct Room {
    chain: Chain,
    /// What went over the link to each node, the first node first.
    taps: Vec<Recording>,
    blocks: Arc<Vec<Bytes>>,
}

/// The blocks that a member gets from the group.
#[derive(Clone, Copy)]
struct Gets {
    /// Number of blocks before it leaves the group; the end counts as one.
    blocks: usize,
    /// Pause before each block.
    delay: Duration,
}

impl Gets {
    const ALL: Self = Self::first(BLOCKS + 1);

    const fn first(blocks: usize) -> Self {
        let delay = Duration::ZERO;
        Self { blocks, delay }
    }
}

fn lens() -> impl Iterator<Item = usize> {
    std::iter::repeat_n(BLOCK, BLOCKS)
}

impl Room {
    fn new(nodes: u32) -> Self {
        let mut chain = Chain::empty(CIPHER);
        chain.grouped = true;
        chain.join(0, nodes, WINDOW);
        let mut taps = Vec::new();
        for node in 1..=nodes {
            let last = chain.addrs.len() - 1;
            let (tap, recording) = man_in_the_middle(chain.addrs[last], |_, _, _| ());
            chain.addrs[last] = tap;
            taps.push(recording);
            chain.join(node, nodes, WINDOW);
        }
        let mut server = Forger::new(key(), CIPHER);
        let mut blocks: Vec<Bytes> = lens()
            .enumerate()
            .map(|(number, len)| server.block(&vec![u8::try_from(number % 251).unwrap(); len]))
            .collect();
        blocks.push(server.end(server_key(), key().run(), STREAM));
        let blocks = Arc::new(blocks);
        Self { chain, taps, blocks }
    }

    /// Delivers blocks to a member. It leaves the group if it does not get all of them.
    fn deliver(&self, node: usize, gets: Gets) -> JoinHandle<()> {
        let (member, head) = (
            Arc::clone(&self.chain.shared[node]),
            Arc::clone(&self.chain.shared[0]),
        );
        let blocks = Arc::clone(&self.blocks);
        std::thread::spawn(move || {
            for block in blocks.iter().take(gets.blocks) {
                sleep(gets.delay);
                hand_over(block, &member, &head);
            }
            if gets.blocks < blocks.len() {
                member.post(PumpInput::LeaveGroup("told so".to_owned()));
            }
        })
    }

    /// Sends the stream to all nodes. Returns the bytes that went down each link.
    fn run(mut self, gets: &[Gets]) -> Vec<usize> {
        let consumers: Vec<_> = (1..=gets.len())
            .map(|node| self.chain.consume(node, |_| ()))
            .collect();
        let deliveries: Vec<_> = (1..)
            .zip(gets)
            .map(|(node, gets)| self.deliver(node, *gets))
            .collect();
        let sent = self.chain.produce(lens());
        for consumer in consumers {
            assert_eq!(consumer.join().unwrap(), Ok(((BLOCK * BLOCKS) as u64, sent)));
        }
        deliveries
            .into_iter()
            .for_each(|delivery| delivery.join().unwrap());
        (0..=gets.len())
            .rev()
            .for_each(|node| self.assert_closed_with_its_links(node));
        self.taps.iter().map(|tap| tap.lock().unwrap().0.len()).collect()
    }
}

impl Room {
    /// Waits for the end of a pump that has lost no link.
    fn assert_closed_with_its_links(&mut self, node: usize) {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            match self.chain.reports[node].try_recv().map(|report| report.what) {
                Ok(PumpEvent::Closed) => return,
                Ok(what @ (PumpEvent::LinkLost { .. } | PumpEvent::Failed { .. })) => {
                    panic!("node {node}: {what:?}")
                }
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(2)),
            }
        }
        panic!("node {node} never ended");
    }
}

/// Gives a block to a member as soon as the head has sent it and the member has room. The end needs neither.
fn hand_over(block: &[u8], member: &PumpHandle, head: &PumpHandle) {
    let (header, payload) = block.split_first_chunk::<HEADER_LEN>().unwrap();
    let BlockHeader { offset, length, .. } = BlockHeader::decode(header).unwrap();
    let until = offset.0 + if length as usize == BLOCK { BLOCK as u64 } else { 0 };
    let is_time = || {
        let has_room = member.progress().buffered + (2 << 20) <= WINDOW as u64;
        let (sent, came) = (head.progress().received, member.progress().received);
        sent >= until && came >= offset.0 && has_room
    };
    let began = Instant::now();
    while !is_time() && !member.has_ended() {
        assert!(began.elapsed() < LIMIT, "no room for the block at {offset}");
        sleep(Duration::from_micros(100));
    }
    member.post(PumpInput::GroupBlock {
        header: *header,
        payload: payload.to_vec(),
    });
}

/// It lasts for some heartbeats, so that signs of life come which are behind the group.
#[test]
fn no_data_goes_over_the_links_while_all_are_members() {
    let slow = Gets {
        delay: Duration::from_millis(8),
        ..Gets::ALL
    };
    let down = Room::new(3).run(&[slow; 3]);
    assert!(down.iter().all(|bytes| *bytes < QUIET), "{down:?}");
}

#[test]
fn a_member_that_leaves_in_the_middle_gets_the_rest_once_and_only_over_its_own_link() {
    for leaver in 0..3 {
        let mut gets = [Gets::ALL; 3];
        gets[leaver] = Gets::first(BLOCKS / 4);
        let down = Room::new(3).run(&gets);
        let rest = (BLOCKS - BLOCKS / 4) * BLOCK;
        for (node, bytes) in down.iter().enumerate() {
            let data = if node == leaver { rest } else { 0 };
            assert!((data..data + QUIET).contains(bytes), "{leaver} left: {down:?}");
        }
    }
}

#[test]
fn all_members_leave_at_once_and_the_chain_carries_the_rest() {
    let down = Room::new(3).run(&[Gets::first(BLOCKS / 2); 3]);
    let rest = BLOCKS / 2 * BLOCK;
    assert!(
        down.iter().all(|bytes| (rest..rest + QUIET).contains(bytes)),
        "{down:?}"
    );
}

#[test]
fn a_node_that_the_group_does_not_reach_is_fed_by_the_member_before_it() {
    let down = Room::new(3).run(&[Gets::ALL, Gets::first(0), Gets::ALL]);
    let all = BLOCKS * BLOCK;
    assert!(down[0] < QUIET && down[2] < QUIET, "{down:?}");
    assert!((all..all + QUIET).contains(&down[1]), "{down:?}");
}

/// The first one gets its blocks later than the second one, so that the second is ahead of its predecessor
/// until it leaves.
#[test]
fn a_member_ahead_of_its_predecessor_leaves_and_misses_nothing() {
    let slow = Gets {
        delay: Duration::from_millis(2),
        ..Gets::ALL
    };
    let down = Room::new(2).run(&[slow, Gets::first(BLOCKS / 4)]);
    let rest = (BLOCKS - BLOCKS / 4) * BLOCK;
    assert!((rest..rest + QUIET).contains(&down[1]), "{down:?}");
}

#[test]
fn blocks_that_came_before_are_dropped_and_an_altered_one_ends_the_membership() {
    let room = Room::new(1);
    let (member, head) = (
        Arc::clone(&room.chain.shared[1]),
        Arc::clone(&room.chain.shared[0]),
    );
    let blocks = Arc::clone(&room.blocks);
    let delivery = std::thread::spawn(move || {
        for number in [0, 1, 0, 1, 2] {
            hand_over(&blocks[number], &member, &head);
        }
        let mut altered = blocks[3].clone();
        altered[HEADER_LEN + 9] ^= 1;
        hand_over(&altered, &member, &head);
        hand_over(&blocks[3], &member, &head);
    });
    let mut room = room;
    let consumer = room.chain.consume(1, |_| ());
    let sent = room.chain.produce(lens());
    assert_eq!(consumer.join().unwrap(), Ok(((BLOCK * BLOCKS) as u64, sent)));
    delivery.join().unwrap();
    room.chain.assert_closed(1);
    let rest = (BLOCKS - 3) * BLOCK;
    let down = room.taps[0].lock().unwrap().0.len();
    assert!((rest..rest + QUIET).contains(&down), "{down}");
}

/// A predecessor may send a block again that came from the group before. In a stream without a group that is
/// an error.
#[test]
fn a_block_that_comes_again_over_the_link_is_dropped() {
    for grouped in [true, false] {
        let mut server = Forger::new(key(), CIPHER);
        let (first, second) = (server.block(b"first"), server.block(b"second"));
        let end = server.end(server_key(), key().run(), STREAM);
        let (addr, _told) = insider([first.as_slice(), &first, &second, &first, &end].concat());
        let mut chain = Chain::empty(CIPHER);
        (chain.grouped, chain.establish) = (grouped, Duration::from_millis(300));
        chain.addrs.push(addr);
        chain.join(1, 1, WINDOW);
        let consumed = chain.consume(1, |_| ()).join().unwrap();
        let whole = Ok((11, blake3::hash(b"firstsecond")));
        assert_eq!(consumed == whole, grouped, "{consumed:?}");
    }
}
