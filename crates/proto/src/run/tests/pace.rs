//! Slow nodes, nodes that are not slow, and nodes that are set aside. The simulator's `pace_tests` cover the
//! measurements of every hop.

use super::*;
use crate::pace::{Bottleneck, Pace};

const TICK: Duration = Duration::from_millis(500);

/// The use of one node's time in half a second, in which the chain moves half a second's bytes.
type Habit = fn() -> Pace;
/// Rates with the slow node, and before it became slow.
const RATE: u64 = 10_000_000;
const FULL: u64 = 100_000_000;

fn fast() -> Pace {
    Pace {
        elapsed_ms: 500,
        upstream_ms: 450,
        work_ms: 20,
        consumer_busy_ms: 50,
        link_busy_ms: 50,
        link_bytes: RATE / 2,
        ..Pace::default()
    }
}

/// Returns the pace of a node above the slow one.
fn backed_up() -> Pace {
    Pace {
        upstream_ms: 20,
        downstream_ms: 430,
        ..fast()
    }
}

fn slow_disk() -> Pace {
    Pace {
        upstream_ms: 30,
        consumer_ms: 440,
        consumer_busy_ms: 500,
        ..fast()
    }
}

/// Returns the pace of a node above a slow line.
fn before_slow_line() -> Pace {
    Pace {
        link_busy_ms: 490,
        ..backed_up()
    }
}

struct Room {
    driver: Driver,
    stream: StreamId,
    head: Habit,
    nodes: Vec<Habit>,
    at: u64,
}

impl Room {
    fn new(head: Habit, nodes: &[Habit], config: RunConfig) -> Self {
        let count = u32::try_from(nodes.len()).unwrap();
        let mut driver = Driver::gathered(count, config);
        let stream = driver.open_stream().stream;
        let nodes = nodes.to_vec();
        Self {
            driver,
            stream,
            head,
            nodes,
            at: 0,
        }
    }

    /// Returns a stream in which all nodes were fast before.
    fn seen_fast(head: Habit, nodes: &[Habit], config: RunConfig) -> Self {
        let all_fast: Vec<Habit> = nodes.iter().map(|_| fast as Habit).collect();
        let mut room = Self::new(backed_up, &all_fast, config);
        room.pass(SECOND * 5, FULL);
        (room.head, room.nodes) = (head, nodes.to_vec());
        room
    }

    fn healing(tolerance: u8) -> RunConfig {
        RunConfig {
            tolerance,
            ..config()
        }
    }

    /// Lets the stream run so long, with all nodes at the rate of the slowest.
    fn run(&mut self, time: Duration) {
        self.pass(time, RATE);
    }

    fn pass(&mut self, time: Duration, rate: u64) {
        let conns: Vec<u64> = (1..=self.nodes.len() as u64).collect();
        let until = self.driver.now + time;
        while self.driver.now < until {
            self.driver.pass(TICK, &conns);
            self.at += rate / 2;
            let at = StreamOffset(self.at);
            let stream = self.stream;
            self.driver
                .run
                .handle_head_progress(self.driver.now, stream, at, false);
            self.driver
                .run
                .handle_head_pace(self.driver.now, stream, at, (self.head)());
            for (conn, habit) in conns.iter().zip(&self.nodes.clone()) {
                self.driver
                    .says(*conn, progress(stream, self.at, self.at, habit()));
            }
        }
    }

    fn named(&self) -> Vec<(u32, Bottleneck, bool)> {
        let events = self.driver.events.iter();
        events
            .filter_map(|event| match event {
                RunEvent::SlowNode {
                    node,
                    slow,
                    set_aside,
                } => Some((node.0, slow.why, *set_aside)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_slow_disk_is_named_then_set_aside_and_its_neighbours_are_joined() {
    let nodes: [Habit; 4] = [backed_up, backed_up, slow_disk, fast];
    let mut room = Room::seen_fast(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 30);
    assert_eq!(
        room.named(),
        [(3, Bottleneck::Disk, false), (3, Bottleneck::Disk, true)]
    );
    assert_eq!(
        room.driver.failures(),
        [(
            3,
            "stream 1: too slow: its disk takes 10.0 MB/s, the others take 99.7; all 3 other nodes wait for it".to_owned()
        )]
    );
    let relinked = room.driver.sent_to(4).into_iter().any(|message| {
        matches!(message, ToNode::Relink(Relink { predecessor: Some(peer), .. }) if peer.node == NodeId(2))
    });
    assert!(relinked);
}

#[test]
fn a_slow_line_is_blamed_on_the_node_that_it_leads_to() {
    let nodes: [Habit; 4] = [backed_up, before_slow_line, fast, fast];
    let mut room = Room::seen_fast(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 13);
    assert_eq!(room.named(), [(3, Bottleneck::Link, false)]);
}

#[test]
fn a_slow_disk_that_holds_up_nobody_is_let_be() {
    // All nodes wait for the golden node, and so does the one with the slow disk.
    let idle: Habit = || Pace {
        upstream_ms: 400,
        consumer_busy_ms: 450,
        ..fast()
    };
    let nodes: [Habit; 3] = [fast, idle, fast];
    let reads: Habit = || Pace {
        upstream_ms: 480,
        ..fast()
    };
    let mut room = Room::new(reads, &nodes, Room::healing(2));
    room.run(SECOND * 60);
    assert_eq!(room.named(), [(0, Bottleneck::Reading, false)]);
    assert_eq!(room.driver.failures(), []);
}

#[test]
fn equally_slow_nodes_are_not_slow() {
    let nodes: [Habit; 4] = [slow_disk; 4];
    let mut room = Room::new(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 60);
    assert_eq!(room.named(), []);
}

#[test]
fn the_last_node_is_never_set_aside_nor_one_whose_data_others_would_miss() {
    let mut room = Room::new(backed_up, &[slow_disk], Room::healing(2));
    room.run(SECOND * 60);
    assert_eq!(room.driver.failures(), []);
    let nodes: [Habit; 3] = [backed_up, slow_disk, fast];
    let mut room = Room::seen_fast(backed_up, &nodes, Room::healing(0));
    room.run(SECOND * 60);
    assert_eq!(room.named(), [(2, Bottleneck::Disk, false)]);
    assert_eq!(room.driver.failures(), []);
}

#[test]
fn a_floor_of_the_operators_own_counts_and_off_sets_nobody_aside() {
    for (min_rate, set_aside) in [
        (MinRate::Off, false),
        (MinRate::Bytes(9_000_000), false),
        (MinRate::Bytes(11_000_000), true),
    ] {
        let config = RunConfig {
            min_rate,
            ..Room::healing(1)
        };
        let nodes: [Habit; 3] = [backed_up, slow_disk, fast];
        let mut room = Room::seen_fast(backed_up, &nodes, config);
        room.run(SECOND * 30);
        assert_eq!(!room.driver.failures().is_empty(), set_aside, "{min_rate:?}");
    }
}

#[test]
fn the_golden_node_is_not_accused_while_its_producer_waits_for_room() {
    // No node is at fault: the golden node reads at once and waits, and so do the nodes.
    let nodes: [Habit; 3] = [fast; 3];
    let mut room = Room::new(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 60);
    assert_eq!(room.named(), []);
}

#[test]
fn where_nobody_was_seen_to_be_fast_the_node_behind_the_slow_line_is_asked_to_show_it() {
    let before: Habit = before_slow_line;
    let nodes: [Habit; 4] = [fast; 4];
    let mut room = Room::new(before, &nodes, Room::healing(2));
    room.run(SECOND * 60);
    let asked = |conn| {
        let sent = room.driver.sent_to(conn);
        let holds = sent.iter().filter_map(|message| match message {
            ToNode::Hold { millis, .. } => Some(*millis),
            _ => None,
        });
        holds.collect::<Vec<u32>>()
    };
    assert_eq!([1, 2, 3, 4].map(asked), [vec![], vec![822; 3], vec![], vec![]]);
    assert_eq!(room.named(), [], "and what was not shown is held against nobody");
}

#[test]
fn who_has_the_whole_stream_is_let_be() {
    let nodes: [Habit; 3] = [backed_up, slow_disk, fast];
    let mut room = Room::seen_fast(backed_up, &nodes, Room::healing(2));
    let (now, stream, at) = (room.driver.now, room.stream, StreamOffset(room.at));
    room.head = fast;
    room.nodes = vec![fast, slow_disk, fast];
    room.driver.run.handle_head_progress(now, stream, at, true);
    for _ in 0..60 {
        room.driver.pass(TICK, &[1, 2, 3]);
        for (conn, habit) in [1, 2, 3].into_iter().zip(room.nodes.clone()) {
            let report = progress(stream, room.at, 0, habit());
            room.driver.says(conn, report);
        }
    }
    assert_eq!(room.named(), []);
}
