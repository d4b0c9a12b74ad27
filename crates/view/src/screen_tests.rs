//! The screen of rooms of 3, 30 and 300 nodes on terminals of three sizes, as it is read.

use std::time::Duration;

use ka_proto::order::Crossings;
use ka_proto::pace::Bottleneck;
use ka_report::boot::{BootServing, MachineNews, MachineRef};
use ka_report::event::{NodeEvent, Step};
use ka_report::run::{NodeProgress, NodeRef, RunEvent};
use ka_report::slow::Slow;
use ka_report::summary::StreamTotals;

use super::{Now, Screen, Size};
use crate::board::Board;
use crate::styled::Colour;

const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};
const SMALL: Size = Size {
    columns: 40,
    rows: 10,
};
const LARGE: Size = Size {
    columns: 200,
    rows: 50,
};

/// A room that shows events to a board and returns the screen as text. On the operator's clock the run begins
/// at 22:30.
struct Room {
    board: Board,
    at: Duration,
}

impl Room {
    /// Returns a stream of 200 MiB in its tenth second. Half of it is read, and node 3 is behind.
    fn streaming(nodes: u32) -> Self {
        let mut room = Self::gathered(nodes);
        room.happens(&RunEvent::SessionStarted {
            session: "kainstall2".into(),
            what: "sending the tree".into(),
            expected_bytes: Some(200 << 20),
        });
        for number in 1..=nodes {
            room.happens(&step(number, NodeEvent::started(Step::Restore)));
        }
        for (at, mib) in [(5, 50), (10, 100)] {
            room.at = Duration::from_secs(at);
            let each = |number| progress(number, if number == 3 { mib - 20 } else { mib });
            room.happens(&RunEvent::Progress {
                sent_bytes: mib << 20,
                content_bytes: mib << 20,
                nodes: (1..=nodes).map(each).collect(),
            });
        }
        room
    }

    fn gathered(nodes: u32) -> Self {
        let mut room = Self {
            board: Board::default(),
            at: Duration::ZERO,
        };
        room.happens(&RunEvent::LetsGo {
            nodes: (1..=nodes).map(node).collect(),
            wiring: Vec::new(),
            crossings: Crossings::default(),
        });
        room
    }

    fn happens(&mut self, event: &RunEvent) {
        self.board.handle(self.at, event);
    }

    fn text(&self, size: Size) -> String {
        let since_midnight = Some(Duration::from_secs(22 * 3600 + 30 * 60) + self.at);
        let now = Now {
            at: self.at,
            since_midnight,
        };
        let screen = Screen::render(&self.board, now, size);
        assert!(
            screen.lines.len() + 1 < size.rows,
            "no room is left for what happens"
        );
        assert!(
            screen.lines.iter().all(|line| line.width() < size.columns),
            "a line would wrap"
        );
        let mut lines: Vec<String> = screen
            .lines
            .iter()
            .map(|line| line.painted(Colour::Off))
            .collect();
        let text = lines
            .iter()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), screen.lines.len(), "a line stands twice:\n{text}");
        text
    }
}

fn node(number: u32) -> NodeRef {
    NodeRef {
        id: number,
        name: format!("n{number:03}"),
        addr: format!("10.0.1.{number}"),
        position: number,
    }
}

fn step(number: u32, step: NodeEvent) -> RunEvent {
    let node = node(number);
    RunEvent::NodeStep { node, step }
}

fn progress(id: u32, mib: u64) -> NodeProgress {
    NodeProgress {
        id,
        received_bytes: mib << 20,
        consumed_bytes: mib << 20,
        buffered_bytes: 0,
    }
}

fn failed(number: u32) -> RunEvent {
    RunEvent::NodeFailed {
        node: node(number),
        stage: "restoring".into(),
        reason: "writing to /dev/sda2: No space left on device".into(),
    }
}

fn slow(number: u32) -> RunEvent {
    RunEvent::SlowNode {
        node: Some(node(number)),
        slow: Slow {
            why: Bottleneck::Disk,
            rate_bytes: 2_000_000,
            others_bytes: 11_000_000,
            waiting: 2,
            text: "its disk takes 2.0 MB/s, the others take 11.0; all 2 other nodes wait for it".into(),
        },
        set_aside: false,
    }
}

#[test]
fn three_nodes_have_a_row_each_on_any_terminal() {
    let mut room = Room::streaming(3);
    room.happens(&failed(2));
    room.happens(&slow(3));
    let usual = "\
kainstall2: sending the tree
 40%  0:12 left (22:30)  10.0 MiB/s  [======>         ]  80.0 MiB of 200.0 MiB
n003 is slow: its disk takes 2.0 MB/s, the others take 11.0; all 2 other nodes…
3: 1 failed · 1 slow · 1 restoring
FAILED   n002  restoring: writing to /dev/sda2: No space left on device
         n001  restoring  100.0 MiB  10.0 MiB/s
";
    assert_eq!(room.text(USUAL), usual);
    let small = "\
kainstall2: sending the tree
 40%  0:12 left (22:30)  10.0 MiB/s
n003 is slow: its disk takes 2.0 MB/s,…
3: 1 failed · 1 slow · 1 restoring
FAILED   n002  restoring: writing to /…
         n001  restoring  100.0 MiB  1…
";
    assert_eq!(room.text(SMALL), small);
    assert_eq!(
        room.text(LARGE),
        usual.replace("other nodes…", "other nodes wait for it")
    );
}

#[test]
fn thirty_nodes_are_summed_up_and_have_rows_where_all_have_room() {
    let mut room = Room::streaming(30);
    let header = "\
kainstall2: sending the tree
 40%  0:12 left (22:30)  10.0 MiB/s  [======>         ]  80.0 MiB of 200.0 MiB
";
    let usual = "30: 30 restoring\nlast     n003  restoring  80.0 MiB  10.0 MiB/s\n";
    assert_eq!(room.text(USUAL), format!("{header}{usual}"));
    let large = room.text(LARGE);
    assert!(large.starts_with(&format!("{header}{usual}")), "{large}");
    assert_eq!(large.lines().count(), 3 + 30, "{large}");
    assert!(
        large.ends_with("         n030  restoring  100.0 MiB  10.0 MiB/s\n"),
        "{large}"
    );
    room.happens(&failed(23));
    room.happens(&slow(17));
    let trouble = "\
n017 is slow: its disk takes 2.0 MB/s, the others take 11.0; all 2 other nodes…
30: 1 failed · 1 slow · 28 restoring
FAILED   n023  restoring: writing to /dev/sda2: No space left on device
last     n003  restoring  80.0 MiB  10.0 MiB/s
";
    assert_eq!(room.text(USUAL), format!("{header}{trouble}"));
}

#[test]
fn of_three_hundred_nodes_those_in_trouble_come_first_and_what_has_no_room_is_counted() {
    let mut room = Room::streaming(300);
    for number in 100..140 {
        room.happens(&failed(number));
    }
    room.happens(&slow(3));
    room.happens(&RunEvent::NodeAway {
        node: node(7),
        reason: "no sign of life".into(),
        secs: 30,
    });
    let small = "\
kainstall2: sending the tree
 40%  0:12 left (22:30)  10.0 MiB/s
n003 is slow: its disk takes 2.0 MB/s,…
300: 40 failed · 1 silent · 1 slow …
FAILED   n100  restoring: writing to /…
and 40 more of these
";
    assert_eq!(room.text(SMALL), small);
    let usual = room.text(USUAL);
    let lines: Vec<&str> = usual.lines().collect();
    assert_eq!(lines[3], "300: 40 failed · 1 silent · 1 slow · 258 restoring");
    assert_eq!(
        lines[4],
        "FAILED   n100  restoring: writing to /dev/sda2: No space left on device"
    );
    assert_eq!((lines.len(), lines[14]), (15, "and 31 more of these"), "{usual}");
    let large = room.text(LARGE);
    assert!(large.ends_with("and 13 more of these\n"), "{large}");
}

#[test]
fn machines_of_the_node_list_that_are_missing_are_named_with_what_was_seen_of_them() {
    let machine = |number: u32| MachineRef {
        mac: format!("52:54:00:00:00:{number:02x}"),
        name: Some(format!("n{number:03}")),
        addr: None,
    };
    let mut room = Room {
        board: Board::default(),
        at: Duration::ZERO,
    };
    room.happens(&RunEvent::Listening {
        session: "kainstall".into(),
        addrs: vec![],
        wanted: Some(30),
        wait_secs: None,
    });
    room.happens(&RunEvent::BootServing(BootServing {
        iface: "eth0".into(),
        addr: "10.0.1.9".into(),
        dhcp: "proxy".into(),
        kernel: "6.1".into(),
        stage1_bytes: 1,
        armed: 30,
        machines: (1..=30).map(machine).collect(),
    }));
    let join = |present: usize| RunEvent::NodeJoined {
        node: node(u32::try_from(present).unwrap()),
        present,
        wanted: Some(30),
    };
    (1..=20).for_each(|present| room.happens(&join(present)));
    let many = "\
waiting for nodes: 20 of 30 present
30: 10 missing · 20 waiting
MISSING  10 machines  n021 n022 n023 n024 n025 n026 n027 n028 n029 n030
";
    assert_eq!(room.text(USUAL), many);
    (21..=28).for_each(|present| room.happens(&join(present)));
    let news = MachineNews::Fetched {
        file: "stage1".into(),
        bytes: 11 << 20,
        starts: true,
    };
    room.happens(&RunEvent::Machine {
        machine: machine(29),
        news,
    });
    room.at = Duration::from_secs(250);
    let few = "\
waiting for nodes: 28 of 30 present
30: 2 missing · 28 waiting
MISSING  n029  fetched stage1 (11.0 MiB), starting, 4:10 ago
MISSING  n030  has not asked what to boot
";
    assert_eq!(room.text(USUAL), few);
}

#[test]
fn the_question_that_y_answers_stands_first_and_several_have_their_numbers() {
    let mut room = Room::gathered(0);
    room.happens(&RunEvent::Listening {
        session: "kainstall".into(),
        addrs: vec![],
        wanted: Some(3),
        wait_secs: None,
    });
    let ask = |request: u64| RunEvent::ApprovalWanted {
        request,
        name: format!("n{request:03}"),
        addr: format!("10.0.1.{request}"),
        mac: Some("4a:f2:00:00:00:01".into()),
        code: format!("7039-460{request}"),
        limit_secs: 1800,
    };
    room.happens(&ask(2));
    let one = "\
7039-4602 n002 10.0.1.2 4a:f2:00:00:00:01: let in? y, n or a (all)
waiting for nodes: 0 of 3 present
3: 3 missing
";
    assert_eq!(room.text(USUAL), one);
    room.happens(&ask(3));
    let two = "\
2 wait: let in? y NUMBER, n NUMBER or a (all)
  2: 7039-4602 n002 10.0.1.2 4a:f2:00:00:00:01
  3: 7039-4603 n003 10.0.1.3 4a:f2:00:00:00:01
waiting for nodes: 0 of 3 present
";
    assert!(room.text(USUAL).starts_with(two), "{}", room.text(USUAL));
    room.happens(&RunEvent::ApprovalSettled { request: 2 });
    assert!(
        room.text(USUAL).starts_with("7039-4603 n003"),
        "{}",
        room.text(USUAL)
    );
}

#[test]
fn after_the_data_the_steps_are_counted_and_the_time_left_is_learned() {
    let mut room = Room::gathered(4);
    room.happens(&RunEvent::Erasing {
        erasing: ka_report::erasing::Erasing::default(),
    });
    room.happens(&RunEvent::SessionStarted {
        session: "kainstall2".into(),
        what: "sending the tree".into(),
        expected_bytes: Some(100 << 20),
    });
    for (at, mib) in [(5, 25), (10, 50)] {
        room.at = Duration::from_secs(at);
        room.happens(&RunEvent::Progress {
            sent_bytes: mib << 20,
            content_bytes: mib << 20,
            nodes: (1..=4).map(|number| progress(number, mib)).collect(),
        });
    }
    assert!(
        room.text(SMALL)
            .contains(" 50%  data 0:10 left (22:30)  5.0 MiB/s\n"),
        "{}",
        room.text(SMALL)
    );
    room.at = Duration::from_secs(20);
    room.happens(&RunEvent::SessionEnded {
        totals: StreamTotals {
            name: "kainstall2".into(),
            round: 1,
            bytes: 100 << 20,
            blocks: 1,
            sending_ms: 1,
            emptied_in_ms: 1,
            golden: None,
        },
    });
    room.at = Duration::from_secs(50);
    room.happens(&step(1, NodeEvent::done(Step::Initramfs, 90_000)));
    for number in 2..=4 {
        room.happens(&step(number, NodeEvent::started(Step::Initramfs)));
    }
    let first = "\
finishing: 0 of 4 (kainstall2 is through)
0:30 so far
4: 1 waiting · 3 building initramfs (usually 1:30)
";
    assert!(room.text(USUAL).starts_with(first), "{}", room.text(USUAL));
    room.at = Duration::from_secs(140);
    room.happens(&RunEvent::NodeDone {
        node: node(1),
        report: ka_report::report::NodeReport::default(),
    });
    room.at = Duration::from_secs(150);
    assert!(
        room.text(USUAL)
            .starts_with("finishing: 1 of 4 (kainstall2 is through)\n2:10 so far, longer than usual\n"),
        "{}",
        room.text(USUAL)
    );
}

#[test]
fn a_machine_that_comes_again_keeps_its_one_row() {
    let mut room = Room::streaming(3);
    room.happens(&failed(2));
    let again = NodeRef { id: 9, ..node(2) };
    room.happens(&RunEvent::NodeQueued {
        node: again,
        round: 2,
        reason: "late".into(),
    });
    assert!(
        room.text(USUAL)
            .contains("3: 1 for the next round · 2 restoring\n"),
        "{}",
        room.text(USUAL)
    );
    room.happens(&RunEvent::RoundEnded {
        round: 1,
        waiting: 1,
        lost: 1,
        secs: 20,
    });
    room.at += Duration::from_secs(6);
    assert!(
        room.text(USUAL)
            .starts_with("round 2 in 0:14 at most: 1 ready for it, 1 may come back\n"),
        "{}",
        room.text(USUAL)
    );
}
