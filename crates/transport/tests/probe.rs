//! Probes of a group between hosts on a switch.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ka_lab::netns::{GOLDEN_ADDRESS, Network, node_address};
use ka_proto::group::address;
use ka_proto::group::probe::{
    ASSUMED_LINE, Choice, Invitation, Outcome, ProbeAnswer, ProbeOrder, ProberConfig, Reach, Wanted,
};
use ka_proto::group::querier::SegmentQuerier;
use ka_proto::{NodeId, RunId};
use ka_transport::group::probe::{listen, probe};
use ka_transport::group::sender::GroupSender;

const RUN: RunId = RunId([11; 16]);
/// Rate of every line of the lab, in bits a second.
const LINE: u64 = 200_000_000;

/// The control connections: a way to each node, and one back.
struct Control {
    orders: Vec<Sender<ProbeOrder>>,
    answers: Receiver<(NodeId, ProbeAnswer)>,
}

/// A node's ends of its control connection.
struct NodeEnd {
    node: NodeId,
    local: Ipv4Addr,
    orders: Receiver<ProbeOrder>,
    answers: Sender<(NodeId, ProbeAnswer)>,
}

fn connect(net: &Network) -> (Control, Vec<NodeEnd>) {
    let (told, answers) = unbounded();
    let (orders, ends) = (1..=net.len())
        .map(|number| {
            let (order, orders) = unbounded();
            let end = NodeEnd {
                node: NodeId(u32::try_from(number).unwrap()),
                local: node_address(number).parse().unwrap(),
                orders,
                answers: told.clone(),
            };
            (order, end)
        })
        .unzip();
    (Control { orders, answers }, ends)
}

impl NodeEnd {
    fn run(&self) {
        let Ok(ProbeOrder::Listen(invitation)) = self.orders.recv() else {
            return;
        };
        let socket = listen(self.local, RUN, invitation, &self.orders, |answer| {
            self.answers.send((self.node, answer)).unwrap();
        });
        assert!(socket.is_some());
    }
}

/// Probes all nodes of a network; the sender takes its line for one of `line` bits a second.
fn run(net: &Network, line: u64) -> Outcome {
    let (control, ends) = connect(net);
    std::thread::scope(|scope| {
        for (number, end) in (1..).zip(&ends) {
            scope.spawn(move || net.node(number).enter(|| end.run()).unwrap());
        }
        let outcome = net.golden().enter(|| from_golden(&control, line)).unwrap();
        drop(control);
        outcome
    })
}

fn from_golden(control: &Control, line: u64) -> Outcome {
    let local: Ipv4Addr = GOLDEN_ADDRESS.parse().unwrap();
    let group = address::of_sender(RUN, NodeId::SERVER);
    let sender = GroupSender::open(local, group).unwrap();
    let config = ProberConfig {
        run: RUN,
        invitation: Invitation {
            probe: 1,
            group,
            sender: NodeId::SERVER,
            from: sender.local_addr().unwrap(),
            key: [5; 32],
        },
        datagram: sender.largest_datagram().unwrap(),
        line,
        earlier: None,
    };
    let nodes: Vec<NodeId> = (1..).take(control.orders.len()).map(NodeId).collect();
    let begin = Instant::now();
    let outcome = probe(&sender, config, &nodes, &control.answers, |node, order| {
        control.orders[node.0 as usize - 1].send(order).unwrap();
    })
    .unwrap();
    assert!(
        begin.elapsed() < Duration::from_millis(1200),
        "{:?}",
        begin.elapsed()
    );
    outcome
}

fn describe(outcome: &Outcome) -> String {
    let name = |node: NodeId| format!("n{node}");
    let line = outcome.describe(name, SegmentQuerier::Nobody);
    format!("{line}\n{}", outcome.choose(Wanted::Auto).describe(name))
}

/// Adds a rule for the group's packets at a node, or at the golden node, which is number 0.
fn block(net: &Network, number: usize, hook: &str, rule: &str) {
    let at = if number == 0 {
        net.golden()
    } else {
        net.node(number)
    };
    at.run("nft add table ip t").unwrap();
    at.run(&format!(
        "nft add chain ip t c {{ type filter hook {hook} priority 0 ; }}"
    ))
    .unwrap();
    at.run(&format!("nft add rule ip t c ip daddr 239.255.0.0/16 {rule}"))
        .unwrap();
}

fn reach(outcome: &Outcome, node: u32) -> &Reach {
    outcome
        .nodes()
        .find(|(known, _)| *known == NodeId(node))
        .unwrap()
        .1
}

#[test]
fn probe_of_a_good_room_finds_the_line_s_rate_and_chooses_a_group() {
    let net = Network::new(4, Some(LINE)).unwrap();
    let outcome = run(&net, LINE);
    let Choice::Group { members, rate, .. } = outcome.choose(Wanted::Auto) else {
        panic!("{}", describe(&outcome));
    };
    assert_eq!(members.len(), 4);
    // 1472 of 1538 bytes.
    assert!(
        (175_000_000..192_000_000).contains(&(rate * 8)),
        "{}",
        describe(&outcome)
    );
}

#[test]
fn line_whose_speed_is_not_known_is_measured() {
    let net = Network::new(3, Some(LINE / 2)).unwrap();
    let outcome = run(&net, ASSUMED_LINE);
    let Choice::Group { rate, .. } = outcome.choose(Wanted::Auto) else {
        panic!("{}", describe(&outcome));
    };
    assert!(
        (80_000_000..105_000_000).contains(&(rate * 8)),
        "{}",
        describe(&outcome)
    );
}

#[test]
fn nodes_that_hear_nothing_or_lose_much_are_named_and_stay_outside() {
    let net = Network::new(5, Some(LINE)).unwrap();
    for (node, rule) in [(2, "drop"), (4, "numgen random mod 10 < 2 drop")] {
        block(&net, node, "input", rule);
    }
    let outcome = run(&net, LINE);
    assert_eq!(reach(&outcome, 2), &Reach::Deaf);
    assert!(
        matches!(reach(&outcome, 4), Reach::Lossy { .. }),
        "{}",
        describe(&outcome)
    );
    let text = describe(&outcome);
    assert!(text.starts_with("multicast reaches 3 of 5 nodes at 1"), "{text}");
    assert!(text.contains("; n2 hears nothing; n4 loses "), "{text}");
    assert!(text.contains("transport: multicast for 3 nodes at 1"), "{text}");
    assert!(text.ends_with(", chain for n2 and n4"), "{text}");
}

#[test]
fn firewall_that_lets_nothing_out_ends_the_probe_with_its_reason() {
    let net = Network::new(1, None).unwrap();
    block(&net, 0, "output", "drop");
    let outcome = run(&net, LINE);
    let text = describe(&outcome);
    assert!(
        text.starts_with("multicast reaches nobody: sending to 239.255."),
        "{text}"
    );
    assert!(
        text.contains("transport: chain, because nothing can be sent to a group"),
        "{text}"
    );
}

/// A server whose round is over drops its end: a train at the line's rate would meet the next round.
#[test]
fn probe_that_nobody_waits_for_sends_nothing_more() {
    let net = Network::new(1, Some(LINE)).unwrap();
    let (mut control, ends) = connect(&net);
    drop(ends);
    let (order, _orders) = unbounded();
    control.orders = vec![order];
    let outcome = net.golden().enter(|| from_golden(&control, LINE)).unwrap();
    assert!(outcome.failure().is_some(), "{outcome:?}");
}
