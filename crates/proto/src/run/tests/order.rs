//! The order of the chain over a run: wiring that comes with a join, later, or too late for this round.

use super::*;
use crate::order::OrderList;
use crate::text::PlaceName;
use crate::wiring::Wiring;

fn at(switch: &str, port: &str) -> Wiring {
    Wiring {
        chassis: PlaceName::new(switch).unwrap(),
        system_name: None,
        port: PlaceName::new(port).unwrap(),
        vlan: None,
        speed_mbit: None,
    }
}

impl Driver {
    fn joins_at(&mut self, conn: u64, wiring: Option<Wiring>) {
        let address = format!("10.0.0.{conn}:30764");
        self.join(
            conn,
            Join {
                wiring,
                ..join(&address)
            },
        );
    }

    /// Returns the numbers of the nodes in the order of the last round that began.
    fn order(&self) -> Vec<u32> {
        let mut gathered = self.results.iter().rev().filter_map(|result| match result {
            RunResult::Gathered(nodes) => Some(nodes.iter().map(|node| node.id.0).collect()),
            _ => None,
        });
        gathered.next().unwrap_or_default()
    }
}

#[test]
fn the_chain_is_ordered_by_the_switches_that_nodes_have_heard_of() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(5),
        ..config()
    });
    driver.run.set_golden_wiring(at("b", "48"));
    driver.joins_at(1, Some(at("a", "10")));
    driver.joins_at(2, None);
    driver.joins_at(3, Some(at("a", "2")));
    driver.joins_at(4, None);
    // Heard after the join, and before the start.
    driver.says(4, ToServer::Wiring(at("b", "7")));
    driver.joins_at(5, Some(at("b", "1")));
    assert_eq!(driver.order(), [5, 4, 3, 1, 2]);
    let wired = driver
        .events
        .iter()
        .filter(|event| matches!(event, RunEvent::NodeWired { .. }));
    assert_eq!(wired.count(), 1);
    let positions: Vec<u32> = driver
        .run
        .nodes()
        .iter()
        .map(|(info, _)| info.position.0)
        .collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    // The stream follows that order.
    driver.open_stream();
    let predecessor = |conn| {
        driver
            .sent_to(conn)
            .into_iter()
            .find_map(|message| match message {
                ToNode::OpenStream(open) => Some(open.predecessor.node.0),
                _ => None,
            })
    };
    assert_eq!([5, 4, 3, 1, 2].map(predecessor), [0, 5, 4, 3, 1].map(Some));
}

#[test]
fn wiring_that_is_heard_after_the_start_counts_in_the_next_round_and_disturbs_nothing() {
    let mut driver = Driver::gathered(
        2,
        RunConfig {
            rounds: 3,
            ..config()
        },
    );
    assert_eq!(driver.order(), [1, 2]);
    driver.joins_at(3, None);
    driver.joins_at(4, None);
    // From a node in the round, and from one that waits for the next one.
    driver.says(1, ToServer::Wiring(at("a", "9")));
    driver.says(4, ToServer::Wiring(at("a", "1")));
    assert_eq!(driver.failures(), []);
    assert!(driver.closed.is_empty());
    let positions: Vec<u32> = driver.run.nodes().iter().map(|(info, _)| info.id.0).collect();
    assert_eq!(positions, [1, 2]);
    let stream = driver.open_stream().stream;
    for conn in [1, 2] {
        driver.done(conn, stream);
        driver.says(conn, ToServer::Report(Payload::default()));
    }
    driver.run.collect_reports(driver.now).unwrap();
    driver.run.release(driver.now, Duration::ZERO).unwrap();
    driver.drain();
    for conn in [1, 2] {
        driver.closes(conn);
    }
    let grace = SECOND * 20;
    let begun = driver.run.next_round(driver.now, RunId([2; 16]), [2; 32], grace);
    begun.unwrap();
    driver.pass(grace, &[3, 4]);
    assert_eq!(driver.order(), [4, 3]);
}

#[test]
fn the_chain_closes_around_a_lost_node_in_an_order_by_wiring() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(3),
        ..config()
    });
    driver.joins_at(1, Some(at("a", "3")));
    driver.joins_at(2, Some(at("a", "2")));
    driver.joins_at(3, Some(at("a", "1")));
    assert_eq!(driver.order(), [3, 2, 1]);
    let stream = driver.open_stream().stream;
    driver.sent.clear();
    driver.closes(2);
    driver.loses_upstream(1, stream);
    let relinked = driver.sent_to(1).into_iter().find_map(|message| match message {
        ToNode::Relink(relink) => relink.predecessor.map(|peer| peer.node.0),
        _ => None,
    });
    assert_eq!(relinked, Some(3));
}

#[test]
fn the_operators_list_is_the_order() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(3),
        order: OrderList::parse("10.0.0.2\n10.0.0.3\n").unwrap(),
        ..config()
    });
    for conn in 1..=3 {
        driver.joins_at(conn, Some(at("a", &conn.to_string())));
    }
    assert_eq!(driver.order(), [2, 3, 1]);
}

#[test]
fn a_node_that_tells_ever_new_wiring_does_not_flood_the_operator() {
    let mut driver = Driver::gathered(2, config());
    for number in 0..10_000 {
        let wiring = at("a", &(number % 7).to_string());
        driver.says(1, ToServer::Wiring(wiring));
    }
    let wired = driver
        .events
        .iter()
        .filter(|event| matches!(event, RunEvent::NodeWired { .. }));
    assert!(wired.count() <= 500);
    assert_eq!(driver.failures(), []);
}
