//! Tests of the summary.

use super::{GoldenTotals, NodeOutcome, NodeSummary, RunSummary, StreamTotals};
use crate::boot::{FirstBoot, SeenBy};
use crate::report::{Digest, NodeReport, StreamReport};
use crate::run::NodeRef;

fn node(position: u32, outcome: NodeOutcome) -> NodeSummary {
    let node = NodeRef {
        id: 10 + position,
        name: format!("n{position}"),
        addr: format!("10.0.1.{position}"),
        position,
    };
    NodeSummary {
        node,
        round: 1,
        mac: None,
        outcome,
        erased: false,
        rejoined: Vec::new(),
        first_boot: None,
    }
}

fn booted(position: u32, first_boot: FirstBoot) -> NodeSummary {
    NodeSummary {
        first_boot: Some(first_boot),
        ..node(position, done())
    }
}

const BOOTED: FirstBoot = FirstBoot::Booted {
    seen_by: SeenBy::Beacon,
    after_ms: 42_000,
};

#[test]
fn a_node_of_a_later_round_says_so() {
    let late = |position, outcome| NodeSummary {
        round: 2,
        ..node(position, outcome)
    };
    let text = summary(vec![node(1, done()), late(2, done()), late(3, failed())]).to_string();
    assert!(text.contains("node 2 n2 (10.0.1.2): done in round 2"), "{text}");
    assert!(
        text.contains("node 1 n1 (10.0.1.1): done;") || text.contains("node 1 n1 (10.0.1.1): done\n"),
        "{text}"
    );
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("failed: node 3 n3") && last.contains(" in round 2: "),
        "{last}"
    );
}

#[test]
fn clones_that_never_came_back_are_named_at_the_end_and_in_the_exit_code() {
    let all = summary(vec![booted(1, BOOTED), booted(2, BOOTED)]);
    assert_eq!(all.exit_code(), 0);
    assert!(
        all.to_string().ends_with("2 nodes done in 1:20, 2 booted\n"),
        "{all}"
    );
    assert!(all.to_string().contains("; booted after 0:42 (beacon)\n"));

    let some = summary(vec![
        booted(1, BOOTED),
        booted(2, FirstBoot::NeverCameBack),
        node(3, failed()),
    ]);
    assert_eq!(some.exit_code(), 3);
    let end = "\
1 of 3 nodes failed, 2 done in 1:20, 1 booted, 1 never came back
never came back: node 2 n2 (10.0.1.2)
failed: node 3 n3 (10.0.1.3) at formatting: mkfs.xfs: no space
";
    assert!(some.to_string().ends_with(end), "{some}");
    let json = serde_json::to_value(&some.nodes[0]).unwrap();
    assert_eq!(
        (&json["first_boot"], &json["after_ms"]),
        (&"booted".into(), &42_000.into())
    );
    assert_eq!(
        serde_json::to_value(&some.nodes[1]).unwrap()["first_boot"],
        "never-came-back"
    );
    assert!(
        serde_json::to_value(&some.nodes[2])
            .unwrap()
            .get("first_boot")
            .is_none()
    );
}

#[test]
fn what_the_golden_node_could_not_read_fails_the_run_unless_it_may() {
    let mut summary = summary(vec![node(1, done())]);
    assert_eq!(summary.exit_code(), 0);
    summary.golden_problem_count = 1;
    summary.golden_problems = vec!["/var/log/syslog: changed while being read".into()];
    assert_eq!(summary.exit_code(), 0, "what lives may change");
    summary.golden_problem_count = 3;
    summary.golden_unreadable_count = 2;
    summary
        .golden_problems
        .insert(0, "/usr/lib/libc.so.6: cannot be read: at byte 0: EIO".into());
    assert_eq!(summary.exit_code(), 3);
    let text = summary.to_string();
    assert!(
            text.contains("2 files of the golden node could not be read, 1 file of the golden node changed or vanished:\n  /usr/"),
            "{text}"
        );
    assert!(
        text.contains("not whole: 2 files") && text.contains("--allow-unreadable"),
        "{text}"
    );
    summary.unreadable_allowed = true;
    assert_eq!(summary.exit_code(), 0);
    let text = summary.to_string();
    assert!(
        text.contains("2 files of the golden node could not be read") && !text.contains("not whole"),
        "{text}"
    );
}

fn done() -> NodeOutcome {
    let stream = StreamReport {
        name: "kainstall2".into(),
        files: 16_800,
        bytes: 925 << 20,
        digest: Some(Digest([0xab; 32])),
        problems: vec![],
        problem_count: 0,
    };
    NodeOutcome::Done {
        report: NodeReport {
            streams: vec![stream],
            ..NodeReport::default()
        },
    }
}

fn failed() -> NodeOutcome {
    NodeOutcome::Failed {
        stage: "formatting".into(),
        reason: "mkfs.xfs: no space".into(),
    }
}

fn summary(nodes: Vec<NodeSummary>) -> RunSummary {
    let golden = GoldenTotals {
        files: 16_800,
        bytes: 925 << 20,
        digest: Digest([0xab; 32]),
    };
    let stream = StreamTotals {
        round: 1,
        name: "kainstall2".into(),
        bytes: 792 << 20,
        blocks: 1445,
        sending_ms: 69_904,
        emptied_in_ms: 4002,
        golden: Some(golden),
    };
    RunSummary {
        session: "kainstall".into(),
        streams: vec![stream],
        nodes,
        took_ms: 80_000,
        ..RunSummary::default()
    }
}

#[test]
fn the_totals_are_the_seeds_and_failed_nodes_come_last() {
    let mut summary = summary(vec![node(1, done()), node(2, failed())]);
    summary.golden_problems = vec!["changed: /var/log/syslog".into()];
    summary.golden_problem_count = 3;
    let expected = "\
kainstall2: golden node: 16800 files, 925.0 MiB, digest abababab
kainstall2: Total data sent = 792 MiB (830472192 bytes), in 1445 blocks
kainstall2: Transfer time = 69.904 seconds, throughput = 11.329 MiB/second
kainstall2: The pipeline was emptied in 4.002 seconds
3 files of the golden node changed or vanished:
  changed: /var/log/syslog
  … and 2 more (--log-dir keeps them)
node 1 n1 (10.0.1.1): done; kainstall2: 16800 files, 925.0 MiB, digest abababab
1 of 2 nodes failed, 1 done in 1:20
failed: node 2 n2 (10.0.1.2) at formatting: mkfs.xfs: no space
";
    assert_eq!(summary.to_string(), expected);
}

#[test]
fn the_exit_code_says_all_some_or_none() {
    assert_eq!(summary(vec![node(1, done()), node(2, done())]).exit_code(), 0);
    assert_eq!(summary(vec![node(1, done()), node(2, failed())]).exit_code(), 3);
    assert_eq!(summary(vec![node(1, failed())]).exit_code(), 1);
    assert_eq!(summary(vec![]).exit_code(), 1);
}

#[test]
fn a_run_that_was_ended_says_by_what() {
    let mut summary = summary(vec![node(1, failed())]);
    summary.ended_by = Some("SIGINT".into());
    assert!(
        summary
            .to_string()
            .contains("The run was ended after 1:20: SIGINT\n")
    );
}

#[test]
fn the_last_lines_say_what_is_on_the_disks_of_those_that_are_not_done() {
    let erased = |position| NodeSummary {
        erased: true,
        ..node(position, failed())
    };
    let stopped = RunSummary {
        clones: true,
        ended_by: Some("stopped by SIGINT".into()),
        ..summary(vec![erased(1), erased(2), node(3, failed())])
    };
    assert_eq!(stopped.exit_code(), 3);
    let text = stopped.to_string();
    let end = "\
nothing written to the disks of n3
disks erased, and nothing boots from them: n1, n2; run the same command again to clone them
";
    assert!(text.ends_with(end), "{text}");
    let early = RunSummary {
        clones: true,
        ..summary(vec![node(1, failed())])
    };
    assert_eq!(early.exit_code(), 1);
    assert!(
        early
            .to_string()
            .ends_with("nothing written to the disks of n1\n"),
        "{early}"
    );
}

#[test]
fn a_room_of_alike_nodes_has_a_line_and_those_that_differ_have_their_own() {
    let mut nodes: Vec<_> = (1..=198).map(|position| node(position, done())).collect();
    nodes.extend((199..=208).map(|position| node(position, failed())));
    nodes[4].round = 2;
    let text = summary(nodes).to_string();
    let all: Vec<&str> = text.lines().collect();
    assert_eq!(all.len(), 4 + 2 + 1 + 1 + 2, "{text}");
    assert_eq!(
        all[4],
        "197 nodes: done; kainstall2: 16800 files, 925.0 MiB, digest abababab"
    );
    assert!(
        all[5].starts_with("  n1, n2, n3, n4, n6, ") && all[5].ends_with(" and 157 more"),
        "{text}"
    );
    assert!(
        all[6].starts_with("node 5 n5 (10.0.1.5): done in round 2; "),
        "{text}"
    );
    let end = "\
10 of 208 nodes failed, 198 done in 1:20
failed: 10 nodes at formatting: mkfs.xfs: no space
  n199, n200, n201, n202, n203, n204, n205, n206, n207, n208
";
    assert!(text.ends_with(end), "{text}");
}
