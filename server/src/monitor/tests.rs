//! The order of the lines shown, and the events that are not shown.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use ka_proto::order::Crossings;
use ka_proto::run::{self, NodeInfo};
use ka_proto::{ChainPosition, NodeId, NodeName};
use ka_report::run::RunEvent;
use ka_transport::{Approvals, ServerEvent};
use ka_view::{View, event_line};

use super::Monitor;
use super::refusals::MAX_REFUSALS_SHOWN;

const LIMIT: Duration = Duration::from_secs(60);

/// A view that keeps its lines. It fails from a given line on, as a closed pipe does.
struct Lines(Arc<Mutex<Vec<String>>>, usize);

impl View for Lines {
    fn handle(&mut self, _: Duration, event: &RunEvent) -> io::Result<()> {
        let mut lines = self.0.lock().unwrap();
        if lines.len() == self.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        lines.extend(event_line(event));
        Ok(())
    }
}

fn shown_by(views: Vec<Lines>, wanted: Option<u32>, events: Receiver<ServerEvent>) -> Arc<Monitor> {
    let named = views
        .into_iter()
        .map(|view| ("a test".to_owned(), Box::new(view) as Box<dyn View>));
    Monitor::new(named.collect(), wanted, events, Approvals::default()).unwrap()
}

fn info(id: u32, position: u32) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        name: NodeName::new(&format!("n{id}")).unwrap(),
        addr: ([10, 0, 1, 9 - u8::try_from(id).unwrap()], 30764).into(),
        mac: None,
        position: ChainPosition(position),
        holds_clone: false,
        wiring: None,
    }
}

#[test]
fn what_a_node_did_before_the_flow_went_on_is_shown_before_it() {
    let (reports, events) = unbounded();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let monitor = shown_by(vec![Lines(Arc::clone(&lines), 99)], Some(2), events);
    for (id, present) in [(1, 1), (2, 2)] {
        reports
            .send(ServerEvent::Run(run::RunEvent::NodeJoined {
                node: info(id, 0),
                present,
                wanted: Some(2),
            }))
            .unwrap();
    }
    monitor.lets_go(&[info(2, 1), info(1, 2)], Crossings::default());
    monitor.node_failed(1, "formatting", "no room");
    monitor.node_failed(1, "formatting", "said by somebody else too");
    monitor.drain(LIMIT);
    assert_eq!(
        *lines.lock().unwrap(),
        [
            "n1 (10.0.1.8) is here, 1 of 2 present",
            "n2 (10.0.1.7) is here, 2 of 2 present",
            "Let's go: 2 nodes, chain: 1 n2 → 2 n1",
            "node 2 n1 (10.0.1.8): FAILED at formatting: no room",
        ]
    );
    assert_eq!(monitor.settle_all("finishing", "it never reported").len(), 2);
}

#[test]
fn a_view_that_cannot_write_any_more_does_not_stop_the_others() {
    let (_reports, events) = unbounded();
    let (closed, open) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let views = vec![Lines(Arc::clone(&closed), 1), Lines(Arc::clone(&open), 99)];
    let monitor = shown_by(views, None, events);
    for text in ["one", "two", "three"] {
        monitor.emit(&RunEvent::Warning { text: text.into() });
        monitor.drain(LIMIT);
    }
    monitor.drain(LIMIT);
    let open = open.lock().unwrap().clone();
    assert_eq!((closed.lock().unwrap().len(), open.len()), (1, 4));
    assert!(
        open.iter()
            .any(|line| line.contains("a test: ") && line.contains("nothing more")),
        "{open:?}"
    );
}

#[test]
fn a_port_scanner_does_not_push_the_nodes_lines_away() {
    let (reports, events) = unbounded();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let monitor = shown_by(vec![Lines(Arc::clone(&lines), 999)], None, events);
    for port in 1..200 {
        let from = ([10, 0, 1, 99], port).into();
        reports
            .send(ServerEvent::ConnectionRefused {
                from,
                name: None,
                reason: "garbage".into(),
            })
            .unwrap();
    }
    monitor.emit(&RunEvent::Warning { text: "end".into() });
    monitor.drain(LIMIT);
    assert_eq!(
        lines.lock().unwrap().len(),
        usize::try_from(MAX_REFUSALS_SHOWN).unwrap() + 2
    );
}
