//! The list of nodes for an operator, and the search in it.

use ka_mac::MacAddr;

use super::*;

fn named(name: &str, last: u8) -> Join {
    Join {
        name: NodeName::new(name).unwrap(),
        mac: Some(MacAddr([2, 0, 0, 0, 0xab, last])),
        ..join(&format!("10.0.0.{last}:30764"))
    }
}

fn states(run: &Run) -> Vec<String> {
    run.roll()
        .iter()
        .map(|(_, node)| node.state.to_string())
        .collect()
}

#[test]
fn a_node_is_found_by_its_address_name_or_hardware_address_and_by_nothing_else() {
    let mut driver = Driver::new(config());
    driver.join(1, named("n1", 1));
    driver.join(2, named("n2", 2));
    for wanted in [
        "n2",
        "10.0.0.2",
        "::ffff:10.0.0.2",
        "02:00:00:00:AB:02",
        "02-00-00-00-ab-02",
        "0200.0000.ab02",
        "02000000AB02",
    ] {
        let found = driver.run.find(wanted).map(|(_, conn)| conn);
        assert_eq!(found, Ok(ConnId(2)), "{wanted}");
    }
    for wanted in ["n", "10.0.0", "10.0.0.20", "02:00:00:00:ab", ""] {
        let reason = driver.run.find(wanted).unwrap_err();
        assert!(reason.as_str().contains("no node of this run"), "{reason}");
    }
}

#[test]
fn nodes_of_one_name_are_not_mixed_up() {
    let mut driver = Driver::new(config());
    driver.join(1, named("twin", 1));
    driver.join(2, named("twin", 2));
    let reason = driver.run.find("twin").unwrap_err();
    assert!(reason.as_str().contains("hardware address"), "{reason}");
    assert!(driver.run.find("02:00:00:00:ab:01").is_ok());
    // The node that is left is meant.
    driver.closes(1);
    assert_eq!(driver.run.find("twin").unwrap().1, ConnId(2));
}

#[test]
fn each_node_is_listed_with_what_it_is_at() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(2),
        rounds: 2,
        ..config()
    });
    driver.join(1, named("n1", 1));
    assert_eq!(states(&driver.run), ["waiting for other nodes"]);
    driver.join(2, named("n2", 2));
    driver.join(3, named("late", 3));
    let queued = "waiting for the next round";
    assert_eq!(states(&driver.run), ["ready", "ready", queued]);
    let reason = driver.run.find("late").unwrap_err();
    assert!(reason.as_str().contains("waits for the next round"), "{reason}");
    driver.run.prepare(driver.now, Payload::default()).unwrap();
    driver.says(2, ToServer::Prepared(Payload::default()));
    assert_eq!(states(&driver.run), ["planning", "ready", queued]);
    driver.says(
        1,
        ToServer::StepFailed {
            stage: Stage::Prepare,
            reason: Reason::new("no disk fits"),
        },
    );
    assert_eq!(states(&driver.run)[0], "failed: planning: no disk fits");
    let stream = driver.open_stream().stream;
    let taken = "stream 1: 0 bytes taken";
    assert_eq!(states(&driver.run)[1], taken);
    driver.done(2, stream);
    assert_eq!(driver.run.roll()[1].1.name.as_str(), "n2");
    driver.closes(1);
    let reason = driver.run.find("n1").unwrap_err();
    assert!(reason.as_str().contains("no disk fits"), "{reason}");
}
