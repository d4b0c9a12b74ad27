//! Probes in virtual time: one sender, nodes behind lines with their own rates and losses.

mod room;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::group::querier::SegmentQuerier;
use crate::ids::NodeId;
use room::{DATAGRAM, DEAF, GIGABIT, GOOD, Lab, Path, RUN, invitation, name, prober};

fn deaf(outcome: &Outcome) -> Vec<NodeId> {
    let deaf = outcome.nodes().filter(|(_, reach)| **reach == Reach::Deaf);
    deaf.map(|(node, _)| node).collect()
}

#[test]
fn good_room_is_probed_in_less_than_half_a_second_and_gets_a_group() {
    let mut lab = Lab::new(&[GOOD; 16]);
    let outcome = lab.run();
    assert!(lab.now < Duration::from_millis(500), "{:?}", lab.now);
    assert_eq!(
        outcome.describe(name, SegmentQuerier::Other([10, 0, 0, 1].into())),
        "multicast reaches 16 of 16 nodes at 956 Mbit/s without loss (IGMP querier: 10.0.0.1)"
    );
    let choice = outcome.choose(Wanted::Auto);
    assert_eq!(
        choice.describe(name),
        "transport: multicast for 16 nodes at 956 Mbit/s"
    );
    assert!(lab.nodes.values().all(|place| place.listener.is_some()));
}

#[test]
fn nodes_that_come_later_are_only_greeted() {
    let earlier = Lab::new(&[GOOD, GOOD, DEAF]).run();
    let mut lab = Lab::later(&[GOOD; 5], 4, earlier.clone());
    let mut outcome = lab.run();
    assert!(lab.now < Duration::from_millis(20), "{:?}", lab.now);
    assert_eq!(outcome.members().count(), 7);
    assert_eq!((outcome.rate(), outcome.line()), (earlier.rate(), earlier.line()));
    assert_eq!(deaf(&outcome), [NodeId(3)]);
    outcome.keep(&[NodeId(1), NodeId(3), NodeId(8)]);
    assert_eq!(outcome.members().collect::<Vec<_>>(), [NodeId(1), NodeId(8)]);
    assert!(outcome.knows(NodeId(3)) && !outcome.knows(NodeId(2)));
    let mut deaf_too = Lab::later(&[GOOD, DEAF], 4, earlier);
    assert_eq!(deaf(&deaf_too.run()), [NodeId(3), NodeId(5)]);
    assert!(deaf_too.now <= Duration::from_millis(351), "{:?}", deaf_too.now);
}

#[test]
fn node_that_hears_nothing_is_named_and_costs_the_greeting_s_time_only() {
    let mut paths = [GOOD; 16];
    (paths[2], paths[6]) = (DEAF, DEAF);
    let mut lab = Lab::new(&paths);
    let outcome = lab.run();
    assert!(lab.now <= PROBE_TIME, "{:?}", lab.now);
    assert_eq!(deaf(&outcome), [NodeId(3), NodeId(7)]);
    assert_eq!(
        outcome.describe(name, SegmentQuerier::Nobody),
        "multicast reaches 14 of 16 nodes at 956 Mbit/s without loss; n3 and n7 hear nothing (IGMP querier: none heard)"
    );
    assert_eq!(
        outcome.choose(Wanted::Auto).describe(name),
        "transport: multicast for 14 nodes at 956 Mbit/s, chain for n3 and n7"
    );
}

#[test]
fn many_nodes_that_hear_nothing_do_not_decide_on_the_rate() {
    let mut paths = [DEAF; 16];
    paths[..7].fill(GOOD);
    let outcome = Lab::new(&paths).run();
    assert_eq!(outcome.members().count(), 7);
    assert!(outcome.rate() > outcome.line() * 95 / 100, "{outcome:?}");
}

#[test]
fn switch_that_learns_late_is_waited_for() {
    let late = Path {
        opens: Duration::from_millis(200),
        ..GOOD
    };
    let outcome = Lab::new(&[GOOD, GOOD, late]).run();
    assert_eq!(outcome.members().count(), 3);
}

#[test]
fn group_that_reaches_nobody_is_over_after_the_greetings() {
    let mut lab = Lab::new(&[DEAF; 5]);
    let outcome = lab.run();
    assert!(lab.now <= Duration::from_millis(351), "{:?}", lab.now);
    let choice = outcome.choose(Wanted::Multicast);
    assert_eq!(
        choice.describe(name),
        "transport: chain, because multicast reaches no node well"
    );
    assert_eq!(
        outcome.describe(name, SegmentQuerier::Unknown),
        "multicast reaches 0 of 5 nodes; n1, n2, n3, n4 and n5 hear nothing (IGMP querier: not known, because hearing \
         it needs root)"
    );
}

#[test]
fn lossy_node_stays_outside_and_the_others_are_probed_at_the_full_rate() {
    let lossy = Path {
        loses_each: 25,
        ..GOOD
    };
    let outcome = Lab::new(&[GOOD, lossy, GOOD, GOOD]).run();
    let (_, reach) = outcome.nodes().nth(1).unwrap();
    assert!(
        matches!(
            reach,
            Reach::Lossy {
                lost_ppm: 39_000..41_000
            }
        ),
        "{reach:?}"
    );
    assert!(outcome.rate() > outcome.line() * 99 / 100, "{outcome:?}");
    let line = outcome.describe(name, SegmentQuerier::Own);
    assert!(
        line.contains("3 of 4 nodes at 956 Mbit/s without loss; n2 loses 4.0"),
        "{line}"
    );
    assert!(line.ends_with("(IGMP querier: this server)"), "{line}");
}

#[test]
fn little_loss_is_shown_and_allowed() {
    let some = Path {
        loses_each: 200,
        ..GOOD
    };
    let outcome = Lab::new(&[some; 3]).run();
    assert_eq!(outcome.members().count(), 3);
    assert!(outcome.rate() > outcome.line() * 95 / 100, "{outcome:?}");
    let line = outcome.describe(name, SegmentQuerier::Nobody);
    assert!(line.contains("Mbit/s with 0.50 % loss"), "{line}");
    let choice = outcome.choose(Wanted::Auto);
    assert!(
        matches!(choice, Choice::Group { ref members, .. } if members.len() == 3),
        "{choice:?}"
    );
}

#[test]
fn slower_lines_of_the_nodes_make_the_full_rate_too_much() {
    let slow = Path {
        line: 700_000_000,
        ..GOOD
    };
    let outcome = Lab::new(&[slow; 4]).run();
    assert_eq!(outcome.members().count(), 4, "{outcome:?}");
    let choice = outcome.choose(Wanted::Auto);
    assert!(
        matches!(choice, Choice::Chain(ChainReason::Slow { .. })),
        "{choice:?}"
    );
    let slowest = Path {
        line: 100_000_000,
        ..GOOD
    };
    let outcome = Lab::new(&[GOOD, GOOD, GOOD, slowest]).run();
    let (_, reach) = outcome.nodes().nth(3).unwrap();
    assert!(matches!(reach, Reach::Lossy { .. }), "{reach:?}");
    assert_eq!(outcome.members().count(), 3);
}

#[test]
fn sender_s_line_that_is_slower_than_its_card_is_measured() {
    let mut lab = Lab::new(&[GOOD; 4]);
    lab.line = 100_000_000;
    let outcome = lab.run();
    assert_eq!(outcome.members().count(), 4, "{outcome:?}");
    let rate = outcome.rate() * 8;
    assert!((88_000_000..102_000_000).contains(&rate), "{rate}");
    assert!(
        matches!(outcome.choose(Wanted::Auto), Choice::Group { .. }),
        "{outcome:?}"
    );
}

#[test]
fn few_nodes_and_ones_that_do_not_answer_make_no_group() {
    let outcome = Lab::new(&[GOOD; 2]).run();
    assert_eq!(
        outcome.choose(Wanted::Auto).describe(name),
        "transport: chain, because multicast reaches 2 of 2 nodes well, and is of use from 3 on"
    );
    assert!(matches!(outcome.choose(Wanted::Multicast), Choice::Group { .. }));
    assert!(matches!(
        outcome.choose(Wanted::Chain),
        Choice::Chain(ChainReason::Wanted)
    ));
    let mute = Path {
        is_mute: true,
        ..GOOD
    };
    let mut lab = Lab::new(&[GOOD, GOOD, GOOD, mute]);
    let outcome = lab.run();
    assert!(lab.now <= PROBE_TIME, "{:?}", lab.now);
    assert_eq!(deaf(&outcome), [NodeId(4)], "never confirmed");
    assert!(
        matches!(outcome.choose(Wanted::Auto), Choice::Group { .. }),
        "{outcome:?}"
    );
}

#[test]
fn one_node_with_a_little_loss_does_not_decide_for_all() {
    let some = Path {
        loses_each: 80,
        ..GOOD
    };
    let outcome = Lab::new(&[GOOD, some, GOOD, GOOD]).run();
    let Choice::Group { members, rate, .. } = outcome.choose(Wanted::Auto) else {
        panic!("{outcome:?}");
    };
    assert_eq!(members.len(), 4);
    assert!(rate > outcome.line() * 95 / 100, "{outcome:?}");
}

#[test]
fn wish_few_nodes_and_ipv6_need_no_probe() {
    let choose = |wanted, nodes, is_ipv4| {
        let choice = Choice::without_probe(wanted, nodes, is_ipv4)?;
        Some(choice.describe(name))
    };
    assert_eq!(choose(Wanted::Auto, 3, true), None);
    assert_eq!(choose(Wanted::Multicast, 1, true), None);
    let because = |why: &str| Some(format!("transport: chain, because {why}"));
    assert_eq!(
        choose(Wanted::Chain, 9, true),
        because("--transport chain was given")
    );
    assert_eq!(
        choose(Wanted::Auto, 9, false),
        because("this run uses IPv6, and multicast needs IPv4")
    );
    assert_eq!(
        choose(Wanted::Auto, 2, true),
        because("there are 2 nodes, and multicast is of use from 3 on")
    );
    for wanted in [Wanted::Auto, Wanted::Chain, Wanted::Multicast] {
        assert_eq!(wanted.to_string().parse(), Ok(wanted));
    }
    assert!("udp".parse::<Wanted>().is_err());
}

#[test]
fn sender_without_time_for_the_full_rate_says_so_by_the_chain() {
    let mut prober = prober(3, GIGABIT);
    let nodes = [1, 2, 3].map(NodeId);
    for node in nodes {
        prober.handle_answer(
            node,
            ProbeAnswer {
                probe: 3,
                news: ProbeNews::Heard,
            },
        );
    }
    // One burst in 2 ms: a quarter of the rate, and the socket was never full.
    let mut now = Duration::ZERO;
    while prober.outcome().is_none() {
        while let Some((node, order)) = prober.poll_order(now) {
            if let ProbeOrder::Count { probe, train, sent } = order {
                let count = Count {
                    received: sent,
                    rate: 32_000_000,
                    ..Count::default()
                };
                prober.handle_answer(
                    node,
                    ProbeAnswer {
                        probe,
                        news: ProbeNews::Counted { train, count },
                    },
                );
            }
        }
        if let Some(length) = prober.next_burst(now).map(<[u8]>::len) {
            prober.handle_sent(now, length);
        }
        now += Duration::from_millis(2);
    }
    let choice = prober.outcome().unwrap().choose(Wanted::Auto);
    assert!(
        matches!(choice, Choice::Chain(ChainReason::Slow { .. })),
        "{choice:?}"
    );
}

#[test]
fn failure_to_send_ends_the_probe_with_its_reason() {
    let mut prober = prober(3, GIGABIT);
    prober.handle_failure(Reason::new("Network is unreachable"));
    let outcome = prober.outcome().unwrap();
    assert_eq!(
        outcome.describe(name, SegmentQuerier::Nobody),
        "multicast reaches nobody: Network is unreachable"
    );
    let mut ends = 0;
    while let Some((_, order)) = prober.poll_order(Duration::ZERO) {
        ends += u32::from(matches!(order, ProbeOrder::End { .. }));
    }
    assert_eq!(ends, 3);
    assert!(matches!(
        outcome.choose(Wanted::Auto),
        Choice::Chain(ChainReason::Failed(_))
    ));
}

#[test]
fn node_that_cannot_listen_or_leaves_is_not_waited_for() {
    let mut prober = prober(2, GIGABIT);
    let why = Reason::new("No buffer space available");
    prober.handle_answer(
        NodeId(1),
        ProbeAnswer {
            probe: 3,
            news: ProbeNews::Unable { why },
        },
    );
    prober.remove(NodeId(2));
    while prober.poll_order(Duration::ZERO).is_some() {}
    let outcome = prober.outcome().unwrap();
    assert_eq!(
        outcome.describe(name, SegmentQuerier::Nobody),
        "multicast reaches 0 of 1 node; n1 cannot listen: No buffer space available (IGMP querier: none heard)"
    );
}

#[test]
fn listener_takes_only_its_own_probe_and_forgets_a_server_that_is_gone() {
    let mut listener = Listener::new(RUN, invitation(), Duration::ZERO).unwrap();
    let config = ProberConfig {
        run: RUN,
        invitation: Invitation {
            key: [8; 32],
            ..invitation()
        },
        datagram: DATAGRAM,
        line: GIGABIT,
        earlier: None,
    };
    let mut other = Prober::new(config, &[NodeId(1)], Duration::ZERO).unwrap();
    let burst = other.next_burst(Duration::ZERO).unwrap().to_vec();
    listener.handle_datagrams(Duration::ZERO, &burst, DATAGRAM);
    assert_eq!(listener.poll_answer(Duration::ZERO), None);
    listener.handle_order(Duration::ZERO, &ProbeOrder::End { probe: 4 });
    assert!(!listener.is_over(Duration::from_secs(2)));
    assert!(listener.is_over(Duration::from_secs(3)));
    assert_eq!(listener.poll_timeout(), Duration::from_secs(3));
    listener.handle_order(Duration::ZERO, &ProbeOrder::End { probe: 3 });
    assert!(listener.is_over(Duration::ZERO));
}

#[test]
fn orders_and_answers_keep_their_bytes() {
    let orders = [
        ProbeOrder::Listen(invitation()),
        ProbeOrder::Count {
            probe: 3,
            train: Train::Full,
            sent: 9,
        },
        ProbeOrder::End { probe: 3 },
    ];
    for order in orders {
        let bytes = postcard::to_stdvec(&order).unwrap();
        assert_eq!(postcard::from_bytes::<ProbeOrder>(&bytes).unwrap(), order);
    }
    let count = Count {
        received: 1,
        rate: 2,
        drops: 3,
        refused: 4,
    };
    let news = ProbeNews::Counted {
        train: Train::Half,
        count,
    };
    let bytes = postcard::to_stdvec(&ProbeAnswer { probe: 1, news }).unwrap();
    assert_eq!(bytes, [1, 1, 1, 1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn no_datagram_causes_a_panic_and_none_of_a_stranger_counts(
        bytes in prop::collection::vec(any::<u8>(), 0..4000), datagram in 0usize..2000
    ) {
        let mut listener = Listener::new(RUN, invitation(), Duration::ZERO).unwrap();
        listener.handle_datagrams(Duration::ZERO, &bytes, datagram);
        prop_assert_eq!(listener.poll_answer(Duration::ZERO), None);
    }

    #[test]
    fn no_answers_make_a_probe_panic_or_last(
        answers in prop::collection::vec((0u32..5, 0u32..5, any::<(u8, u32, u64)>()), 0..60)
    ) {
        let mut prober = prober(4, GIGABIT);
        let mut now = Duration::ZERO;
        for (node, probe, (kind, received, rate)) in answers {
            let count = Count { received, rate, ..Count::default() };
            let news = match kind % 4 {
                0 => ProbeNews::Heard,
                1 => ProbeNews::Counted { train: Train::Half, count },
                2 => ProbeNews::Counted { train: Train::Full, count },
                _ => ProbeNews::Unable { why: Reason::new("no") },
            };
            prober.handle_answer(NodeId(node), ProbeAnswer { probe, news });
            while prober.poll_order(now).is_some() {}
            if let Some(length) = prober.next_burst(now).map(<[u8]>::len) {
                prober.handle_sent(now, length);
            }
            now += Duration::from_millis(20);
        }
        while prober.poll_order(PROBE_TIME * 2).is_some() {}
        for _ in 0..4 {
            while prober.poll_order(PROBE_TIME * 3).is_some() {}
        }
        let outcome = prober.outcome();
        prop_assert!(outcome.is_some());
        let outcome = outcome.unwrap();
        prop_assert!(!outcome.describe(name, SegmentQuerier::Nobody).is_empty());
        prop_assert!(!outcome.choose(Wanted::Auto).describe(name).is_empty());
    }
}
