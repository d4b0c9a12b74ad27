//! Orders of small rooms, and properties of every order.

use proptest::prelude::*;

use super::*;

/// A node of a test, which owns its facts.
#[derive(Debug, Clone)]
struct Machine {
    name: String,
    addr: SocketAddr,
    wiring: Option<Wiring>,
}

impl Machine {
    fn new(last: u8, wiring: Option<Wiring>) -> Self {
        Self {
            name: format!("n{last}"),
            addr: SocketAddr::from(([10, 0, 0, last], 30764)),
            wiring,
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: &self.name,
            addr: Some(self.addr),
            mac: None,
            wiring: self.wiring.as_ref(),
        }
    }
}

fn place(text: &str) -> PlaceName {
    PlaceName::new(text).unwrap()
}

fn at(switch: &str, port: &str) -> Option<Wiring> {
    Some(Wiring {
        chassis: place(&format!("id of {switch}")),
        system_name: Some(place(switch)),
        port: place(port),
        vlan: None,
        speed_mbit: None,
    })
}

fn ordered(machines: &[Machine], golden: Option<&Wiring>, list: &OrderList) -> (Vec<String>, Crossings) {
    let rule = OrderRule { list, golden };
    let candidates: Vec<_> = machines.iter().map(Machine::candidate).collect();
    let chain: Vec<_> = rule
        .order(&candidates)
        .into_iter()
        .map(|index| candidates[index])
        .collect();
    let names = chain.iter().map(|node| node.name.to_owned()).collect();
    (names, rule.crossings(&chain))
}

#[test]
fn the_worst_order_by_address_becomes_one_crossing_each_way() {
    let machines: Vec<Machine> = (1..=6)
        .map(|last| Machine::new(last, at(if last % 2 == 0 { "a" } else { "b" }, &last.to_string())))
        .collect();
    let golden = at("b", "48");
    let list = OrderList::default();
    let (names, crossings) = ordered(&machines, golden.as_ref(), &list);
    assert_eq!(names, ["n1", "n3", "n5", "n2", "n4", "n6"]);
    assert_eq!(crossings.hops, 1);
    assert_eq!(crossings.to_string(), "2 switches, crossed once each way");
    let rule = OrderRule {
        list: &list,
        golden: golden.as_ref(),
    };
    let by_address: Vec<_> = machines.iter().map(Machine::candidate).collect();
    let worst = rule.crossings(&by_address);
    assert_eq!(worst.hops, 5);
    assert_eq!(
        worst.to_string(),
        "2 switches, crossed again: b (in 2, out 3), a (in 3, out 2)"
    );
}

#[test]
fn ports_of_one_switch_are_in_their_natural_order_and_nodes_that_heard_nothing_come_last() {
    let machines = [
        Machine::new(1, at("a", "Gi1/0/10")),
        Machine::new(2, None),
        Machine::new(3, at("a", "Gi1/0/2")),
        Machine::new(4, None),
    ];
    let (names, crossings) = ordered(&machines, None, &OrderList::default());
    assert_eq!(names, ["n3", "n1", "n2", "n4"]);
    assert_eq!(
        crossings.to_string(),
        "1 switch, a; the switch of 2 nodes is unknown"
    );
    let (_, crossings) = ordered(&machines[..1], None, &OrderList::default());
    assert_eq!(crossings.to_string(), "all on switch a");
}

#[test]
fn the_golden_nodes_vlan_comes_first() {
    let in_vlan = |last: u8, vlan| {
        let wiring = at("a", &last.to_string());
        Machine::new(
            last,
            wiring.map(|wiring| Wiring {
                vlan: Some(vlan),
                ..wiring
            }),
        )
    };
    let machines = [in_vlan(1, 10), in_vlan(2, 20), in_vlan(3, 10), in_vlan(4, 20)];
    let golden = in_vlan(9, 20).wiring;
    let (names, _) = ordered(&machines, golden.as_ref(), &OrderList::default());
    assert_eq!(names, ["n2", "n4", "n1", "n3"]);
}

#[test]
fn where_nothing_is_heard_the_order_is_by_address_and_no_crossing_is_claimed() {
    let machines = [Machine::new(10, None), Machine::new(9, None)];
    let (names, crossings) = ordered(&machines, at("a", "1").as_ref(), &OrderList::default());
    assert_eq!(names, ["n9", "n10"]);
    assert!(!crossings.is_known());
    assert_eq!(crossings.to_string(), "");
}

#[test]
fn the_operators_list_wins_over_the_wiring() {
    let machines = [
        Machine::new(1, at("a", "1")),
        Machine::new(2, at("b", "1")),
        Machine::new(3, at("a", "2")),
        Machine::new(4, None),
    ];
    let list = OrderList::parse("# by hand\n10.0.0.3\n\n N2  # by the door\n").unwrap();
    let (names, crossings) = ordered(&machines, None, &list);
    assert_eq!(names, ["n3", "n2", "n1", "n4"]);
    assert_eq!(crossings.hops, 2);
}

#[test]
fn groups_stand_for_switches_where_nothing_is_heard() {
    let machines: Vec<Machine> = (1..=4).map(|last| Machine::new(last, None)).collect();
    let list = OrderList::parse("[rack 1]\nn1\nn3\n[rack 2]\nn2\nn4\n").unwrap();
    let (names, crossings) = ordered(&machines, None, &list);
    assert_eq!(names, ["n1", "n3", "n2", "n4"]);
    assert_eq!(crossings.to_string(), "2 groups, crossed once each way");
    assert_eq!(list.handles(), ["n1", "n3", "n2", "n4"]);

    let racks = [place("b"), place("a")];
    let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
    let of_list = [
        (mac(2), "n2", Some(&racks[0])),
        (mac(1), "n1", Some(&racks[1])),
        (mac(4), "n4", Some(&racks[0])),
        (mac(3), "n3", None),
    ];
    let list = OrderList::default().with_groups(of_list);
    let (names, crossings) = ordered(&machines, None, &list);
    assert_eq!(names, ["n2", "n4", "n1", "n3"]);
    assert_eq!(
        crossings.to_string(),
        "2 groups, crossed once each way; the group of 1 node is unknown"
    );
    let list = OrderList::parse("n3").unwrap().with_groups(of_list);
    assert_eq!(ordered(&machines, None, &list).0, ["n3", "n2", "n4", "n1"]);
}

#[test]
fn a_wrong_line_of_a_list_is_named_by_its_number() {
    for (line, part) in [
        ("a b", "more than one word"),
        ("a_b", "no host name"),
        ("N1", "`N1` is already on line 2"),
        ("5254.0000.0001", "is already on line 3"),
        ("[rack 1]", "`[rack 1]` is already on line 1"),
        ("[rack", "no closing bracket"),
        ("[ ]", "the name is empty"),
    ] {
        let text = format!("[rack 1]\nn1\n52:54:00:00:00:01\n{line}\n");
        let faults = OrderList::parse(&text).unwrap_err();
        let [(4, told)] = &faults[..] else {
            panic!("{line}: {faults:?}")
        };
        assert!(told.contains(part), "{line}: {told}");
    }
    assert!(OrderList::parse("# nothing\n").unwrap().is_empty());
}

fn any_wiring() -> impl Strategy<Value = Option<Wiring>> {
    let wiring = (
        0..4u8,
        proptest::option::of("[ab]"),
        "[a1-3/]{1,4}",
        proptest::option::of(1..3u16),
    );
    proptest::option::of(wiring.prop_map(|(chassis, name, port, vlan)| Wiring {
        chassis: place(&format!("chassis {chassis}")),
        system_name: name.map(|name| place(&name)),
        port: place(&port),
        vlan,
        speed_mbit: None,
    }))
}

fn room() -> impl Strategy<Value = Vec<Machine>> {
    proptest::collection::vec(any_wiring(), 0..24).prop_map(|all| {
        let machines = (1..).zip(all);
        machines
            .map(|(last, wiring)| Machine::new(last, wiring))
            .collect()
    })
}

proptest! {
    #[test]
    fn every_order_is_a_permutation_in_which_each_switch_stands_together(machines in room(), golden in any_wiring()) {
        let (names, crossings) = ordered(&machines, golden.as_ref(), &OrderList::default());
        let mut sorted = names.clone();
        sorted.sort();
        let mut all: Vec<_> = machines.iter().map(|machine| machine.name.clone()).collect();
        all.sort();
        prop_assert_eq!(sorted, all);
        prop_assert!(crossings.are_fewest(), "{:?}", crossings);
        prop_assert_eq!(crossings.hops, crossings.places.len().saturating_sub(1));
        let known: usize = crossings.places.iter().map(|place| place.nodes).sum();
        prop_assert!(known + crossings.unknown == machines.len());
        // The golden node's switch comes first.
        let own = |machine: &Machine| {
            let both = machine.wiring.as_ref().zip(golden.as_ref());
            both.is_some_and(|(one, other)| one.is_same_switch(other))
        };
        if machines.iter().any(own) {
            let first = machines.iter().find(|machine| machine.name == names[0]);
            prop_assert!(first.is_some_and(own));
        }
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_arrival(machines in room(), seed in any::<u64>()) {
        let list = OrderList::parse("[x]\nn3\n10.0.0.7\n").unwrap();
        let mut shuffled = machines.clone();
        shuffled.sort_by_key(|machine| machine.name.bytes().map(u64::from).sum::<u64>().wrapping_mul(seed | 1));
        prop_assert_eq!(ordered(&machines, None, &list).0, ordered(&shuffled, None, &list).0);
    }

    #[test]
    fn any_text_is_a_list_or_a_fault(text in "([\\[\\]a-z0-9 .:#-]{0,12}\n){0,8}") {
        match OrderList::parse(&text) {
            Ok(list) => prop_assert!(list.handles().len() <= text.lines().count()),
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }
}
