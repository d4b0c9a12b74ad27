//! Links that are given up: the reports that count, and the cost of a false alarm.

use super::*;

fn healing(nodes: u32) -> (Driver, StreamId) {
    let mut driver = Driver::gathered(nodes, config());
    let stream = driver.open_stream().stream;
    (driver, stream)
}

fn relinks(driver: &Driver, conn: u64) -> usize {
    let sent = driver.sent_to(conn).into_iter();
    sent.filter(|message| matches!(message, ToNode::Relink(_)))
        .count()
}

#[test]
fn a_link_given_up_falsely_is_made_again_as_soon_as_the_other_end_answers() {
    let (mut driver, stream) = healing(3);
    driver.loses_upstream(3, stream);
    assert_eq!(relinks(&driver, 3), 0, "its predecessor is asked first");
    assert!(matches!(driver.sent.last(), Some((ConnId(2), ToNode::Ping(_)))));
    driver.says(2, ToServer::Pong(0));
    assert!(matches!(
        driver.sent_to(3).last(),
        Some(ToNode::Relink(Relink { predecessor: Some(peer), .. })) if peer.node == NodeId(2)
    ));
    assert_eq!(driver.failures(), []);
}

#[test]
fn a_node_that_neither_its_neighbour_nor_the_server_hears_is_lost_when_the_silence_is_over() {
    let (mut driver, stream) = healing(3);
    driver.pass(limits::LINK_SILENCE - SECOND / 4, &[1, 3]);
    driver.loses_upstream(3, stream);
    assert_eq!(driver.failures(), []);
    driver.pass(SECOND / 4, &[1, 3]);
    assert_eq!(
        driver.failures(),
        [(
            2,
            "stream 1: neither n nor the server hears from it: reset".to_owned()
        )]
    );
    assert!(matches!(
        driver.sent_to(3).last(),
        Some(ToNode::Relink(Relink { predecessor: Some(peer), .. })) if peer.node == NodeId(1)
    ));
}

#[test]
fn three_neighbours_that_vanish_at_one_moment_are_all_found_by_the_silence_of_one_link() {
    let (mut driver, stream) = healing(5);
    driver.pass(limits::LINK_SILENCE, &[1, 5]);
    driver.loses_upstream(5, stream);
    driver.pass(SECOND / 2, &[1, 5]);
    let lost: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(lost, [2, 3, 4]);
}

#[test]
fn a_server_that_hears_nobody_blames_nobody() {
    let (mut driver, stream) = healing(3);
    driver.pass(limits::LINK_SILENCE * 2, &[]);
    let (offset, reason) = (StreamOffset(0), Reason::new("nothing heard for 2 s"));
    driver
        .run
        .handle_head_link_lost(driver.now, stream, offset, &reason);
    driver.pass(limits::LINK_SILENCE, &[]);
    assert_eq!(driver.failures(), []);
    assert!(driver.run.poll_timeout().is_some_and(|due| due > driver.now));
}

#[test]
fn a_server_that_was_away_reads_before_it_judges() {
    let (mut driver, stream) = healing(3);
    driver.pass(SECOND, &[1, 2, 3]);
    driver.now += SECOND * 5;
    driver.loses_upstream(3, stream);
    driver.run.handle_timeout(driver.now);
    driver.drain();
    assert_eq!(driver.failures(), []);
}

/// The server is late by less than what counts as being away, but each time: a machine with forty times the
/// work that it can do.
#[test]
fn a_server_that_is_late_again_and_again_does_not_count_its_own_delay_as_silence() {
    let (mut driver, stream) = healing(3);
    driver.pass(SECOND, &[1, 2, 3]);
    driver.loses_upstream(3, stream);
    let begun = driver.now;
    while driver.now < begun + limits::LINK_SILENCE * 2 {
        driver.now = driver.run.poll_timeout().unwrap().max(driver.now) + limits::LINK_SILENCE * 2 / 5;
        driver.run.handle_timeout(driver.now);
        driver.drain();
        [1, 3]
            .into_iter()
            .for_each(|conn| driver.says(conn, ToServer::Pong(0)));
    }
    assert_eq!(driver.failures(), []);
    driver.pass(limits::LINK_SILENCE * 2, &[1, 3]);
    let lost: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(lost, [2], "when it is on time again, silence is silence");
}

#[test]
fn a_link_that_breaks_again_and_again_costs_one_of_the_two_though_data_moves() {
    let (mut driver, stream) = healing(2);
    for round in 1..=100 {
        driver.loses_upstream(2, stream);
        driver.says(1, ToServer::Pong(0));
        driver.says(2, progress(stream, round, round, Pace::default()));
    }
    assert_eq!(driver.failures().len(), 1);
    assert!(relinks(&driver, 2) <= 20, "{}", relinks(&driver, 2));
}

#[test]
fn a_node_that_hangs_while_nobody_waits_for_its_data_has_two_minutes() {
    let mut driver = Driver::gathered(2, config());
    driver.run.prepare(driver.now, Payload::default()).unwrap();
    driver.pass(limits::IDLE_SILENCE - SECOND, &[1]);
    assert_eq!(driver.failures(), []);
    let mut driver = Driver::gathered(2, config());
    driver.open_stream();
    driver.pass(limits::CONTROL_SILENCE + SECOND, &[1]);
    assert_eq!(driver.failures().len(), 1);
}

/// A member reports each of its successors as dead. It costs one of them its place, once, and comes last in
/// the next round. The accused successor does not.
#[test]
fn who_cannot_serve_two_is_accused_and_the_first_of_them_is_not() {
    let (mut driver, stream) = healing(3);
    for _ in 0..40 {
        let reason = Reason::new("it is dead");
        driver.says(
            1,
            ToServer::LinkLost {
                stream,
                side: Side::Downstream,
                offset: StreamOffset(0),
                reason,
            },
        );
        driver.says(2, ToServer::Pong(0));
        driver.says(3, ToServer::Pong(0));
    }
    let failed: Vec<u32> = driver.failures().iter().map(|(node, _)| *node).collect();
    assert_eq!(failed, [1, 2]);
    let accused = [1, 2, 3].map(|last| driver.run.accused.contains([10, 0, 0, last].into()));
    assert_eq!(accused, [true, false, false]);
}
