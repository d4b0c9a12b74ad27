//! Who is slow, who is not, and who is set aside.

use super::*;
use crate::pace::{Bottleneck, Pace};

const TICK: Duration = Duration::from_millis(500);

/// What one node does in half a second in which the chain moves `RATE / 2` bytes.
type Habit = fn() -> Pace;
const RATE: u64 = 10_000_000;

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

/// Above the slow one.
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

/// Above a slow line.
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
        }
    }

    fn healing(tolerance: u8) -> RunConfig {
        RunConfig {
            heal: true,
            tolerance,
            ..config()
        }
    }

    /// Lets the stream run so long, everybody at the same rate.
    fn run(&mut self, time: Duration) {
        let conns: Vec<u64> = (1..=self.nodes.len() as u64).collect();
        let until = self.driver.now + time;
        while self.driver.now < until {
            self.driver.pass(TICK, &conns);
            let at = StreamOffset(
                self.driver.now.as_secs() * RATE + u64::from(self.driver.now.subsec_millis()) * RATE / 1000,
            );
            let stream = self.stream;
            self.driver
                .run
                .handle_head_progress(self.driver.now, stream, at, false);
            self.driver
                .run
                .handle_head_pace(self.driver.now, stream, at, (self.head)());
            for (conn, habit) in conns.iter().zip(&self.nodes.clone()) {
                let progress = Progress {
                    stream,
                    received: at,
                    consumed: at,
                    buffered: 0,
                    pace: habit(),
                };
                self.driver.says(*conn, ToServer::Progress(progress));
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
    let mut room = Room::new(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 30);
    assert_eq!(
        room.named(),
        [(3, Bottleneck::Disk, false), (3, Bottleneck::Disk, true)]
    );
    assert_eq!(
        room.driver.failures(),
        [(
            3,
            "stream 1: too slow: its disk takes 10 MB/s, the others could take 100 (median)".to_owned()
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
    let mut room = Room::new(backed_up, &nodes, Room::healing(2));
    room.run(SECOND * 10);
    assert_eq!(room.named(), [(3, Bottleneck::Link, false)]);
}

#[test]
fn a_slow_disk_that_holds_up_nobody_is_let_be() {
    // Everybody waits for the golden node, the one with the slow disk too.
    let idle: Habit = || Pace {
        upstream_ms: 400,
        consumer_busy_ms: 450,
        ..fast()
    };
    let nodes: [Habit; 3] = [fast, idle, fast];
    let mut room = Room::new(fast, &nodes, Room::healing(2));
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
    let mut room = Room::new(backed_up, &nodes, Room::healing(0));
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
        let mut room = Room::new(backed_up, &nodes, config);
        room.run(SECOND * 30);
        assert_eq!(!room.driver.failures().is_empty(), set_aside, "{min_rate:?}");
    }
}
