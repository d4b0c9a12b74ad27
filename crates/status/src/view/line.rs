//! One event as one line of text, the same for terminal, log and pipe.

use crate::boot::FirstBoot;
use crate::report::NodePlan;
use crate::run::{NodeRef, RunEvent};
use crate::slow::Slow;
use crate::spool;
use crate::text::{count, mib, seconds, size};

/// The line for an event; none for those that are only counters, or whose text comes elsewhere.
pub fn event_line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Listening {
            session,
            addrs,
            wanted,
            wait_secs,
        } => listening(session, addrs, *wanted, *wait_secs),
        RunEvent::BootServing(serving) => serving.to_string(),
        RunEvent::Machine { machine, news } => format!("{machine} {news}"),
        RunEvent::WaitingForBoots { nodes, secs } => format!(
            "waiting for {} to come back, at most {secs} s (Ctrl-C ends the wait)",
            count(*nodes, "clone")
        ),
        RunEvent::NodeComingUp { node } => format!("{node}: is coming up; its beacon says when it is"),
        RunEvent::NodeBooted {
            node,
            seen_by,
            after_ms,
        } => {
            let (seen_by, after_ms) = (*seen_by, *after_ms);
            format!("{node}: {}", FirstBoot::Booted { seen_by, after_ms })
        }
        RunEvent::NodeJoined {
            node,
            present,
            wanted,
        } => joined(node, *present, *wanted),
        RunEvent::ApprovalWanted { .. } => question(event)?,
        RunEvent::NodeRefused { addr, reason } => format!("{addr} refused: {reason}"),
        RunEvent::TakenUp { .. }
        | RunEvent::NodeQueued { .. }
        | RunEvent::NodeLooked { .. }
        | RunEvent::NodeDoneAlready { .. }
        | RunEvent::RoundEnded { .. }
        | RunEvent::RoundStarted { .. } => return round_line(event),
        RunEvent::LetsGo { nodes } => lets_go(nodes),
        RunEvent::Spooling { .. }
        | RunEvent::NodeAway { .. }
        | RunEvent::NodeRejoined { .. }
        | RunEvent::SpoolOff { .. } => return spool::line(event),
        RunEvent::SessionStarted {
            session,
            what,
            expected_bytes,
        } => match expected_bytes {
            Some(bytes) => format!("{session}: {what}, about {}", size(*bytes)),
            None => format!("{session}: {what}"),
        },
        RunEvent::NodePrepared { node, plan } => format!("{node}: ready to start{}", disks(plan)),
        RunEvent::Erasing { erasing } => erasing.to_string(),
        RunEvent::NodeStep { node, step } => format!("{}> {step}", node.addr),
        RunEvent::OperatorExec { node, exec } => format!("{}> {exec}", node.addr),
        RunEvent::SlowNode {
            node,
            slow,
            set_aside,
        } => slow_line(node.as_ref(), slow, *set_aside),
        RunEvent::SessionEnded { totals } => format!(
            "{}: end of data flow, {} MiB in {}, pipeline emptied in {} s",
            totals.name,
            mib(totals.bytes),
            count(usize::try_from(totals.blocks).unwrap_or(usize::MAX), "block"),
            seconds(std::time::Duration::from_millis(totals.emptied_in_ms))
        ),
        RunEvent::NodeFailed { node, stage, reason } => format!("{node}: FAILED at {stage}: {reason}"),
        RunEvent::NodeDone { node, .. } => format!("{node}: done"),
        RunEvent::Warning { text } => format!("warning: {text}"),
        RunEvent::Progress { .. } | RunEvent::Ended { .. } => return None,
    })
}

/// The line for an event between two rounds.
fn round_line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::TakenUp { nodes } => format!(
            "an earlier run of this session was not ended: it goes on with the same join code, {} {} done already",
            count(nodes.len(), "node"),
            if nodes.len() == 1 { "is" } else { "are" }
        ),
        RunEvent::NodeQueued { node, round, reason } => {
            format!("{} ({}) waits for round {round}: {reason}", node.name, node.addr)
        }
        RunEvent::NodeLooked {
            addr,
            name,
            actions,
            error,
        } => looked(name, addr, actions, error.as_deref()),
        RunEvent::NodeDoneAlready { addr, name } => format!("{name} ({addr}) came again; it is done"),
        RunEvent::RoundEnded {
            round,
            waiting,
            lost,
            secs,
        } => round_ended(*round, *waiting, *lost, *secs),
        RunEvent::RoundStarted { round, rounds } => format!("round {round} of at most {rounds}"),
        _ => return None,
    })
}

/// `n101 (10.0.1.101) looked (dry run): would erase /dev/sda (447 GiB), which is empty; it becomes sda`
fn looked(name: &str, addr: &str, actions: &[String], error: Option<&str>) -> String {
    let erased = actions.iter().filter(|action| action.starts_with("erase "));
    let erased: Vec<&str> = erased.map(String::as_str).collect();
    match error {
        Some(error) => format!("{name} ({addr}) looked (dry run): it could not be cloned: {error}"),
        None => format!(
            "{name} ({addr}) looked (dry run): would {}",
            erased.join("; would ")
        ),
    }
}

fn lets_go(nodes: &[NodeRef]) -> String {
    let chain: Vec<_> = nodes
        .iter()
        .map(|node| format!("{} {}", node.position, node.name))
        .collect();
    let nodes = count(nodes.len(), "node");
    format!("Let's go: {nodes}, chain: {}", chain.join(" → "))
}

fn question(event: &RunEvent) -> Option<String> {
    let RunEvent::ApprovalWanted {
        request,
        name,
        addr,
        mac,
        code,
        ..
    } = event
    else {
        return None;
    };
    let mac = mac.as_deref().unwrap_or("unknown");
    Some(format!(
        "let {name} in? It is at {addr}, hardware address {mac}, and shows {code}: y, n or a (all; y {request} where several \
         wait), or ka-server approve {request}"
    ))
}

/// What a node will do, one line each, with its address in front as the seed's status command has it.
pub fn prepared_lines(node: &NodeRef, plan: &NodePlan) -> Vec<String> {
    let warnings = plan.warnings.iter().map(|text| format!("warning: {text}"));
    plan.actions
        .iter()
        .cloned()
        .chain(warnings)
        .map(|text| format!("{}> {text}", node.addr))
        .collect()
}

fn listening(session: &str, addrs: &[String], wanted: Option<u32>, wait_secs: Option<u64>) -> String {
    let until = match (wanted, wait_secs) {
        (Some(wanted), None) => format!("waiting for {}", nodes(wanted)),
        (Some(wanted), Some(secs)) => format!("waiting for {}, at most {secs} s", nodes(wanted)),
        (None, Some(secs)) => format!("starting in {secs} s with whoever is there"),
        (None, None) => "waiting until a node says go (-g)".into(),
    };
    format!("session {session} on {}: {until}", addrs.join(", "))
}

/// `n103 is slow: its line carries 1.1 MB/s, the lines before it 11.8; the 5 nodes behind it wait for it`
fn slow_line(node: Option<&NodeRef>, slow: &Slow, set_aside: bool) -> String {
    let who = node.map_or("the golden node", |node| &node.name);
    let aside = if set_aside { "; it is set aside" } else { "" };
    format!("{who} is slow: {slow}{aside}")
}

fn round_ended(round: u32, waiting: usize, lost: usize, secs: u64) -> String {
    let next = round + 1;
    let wait = match (waiting, lost) {
        (waiting, 0) => format!("{} for round {next}", waits(waiting)),
        (0, lost) => {
            format!("round {next} begins if one of those that were lost ({lost}) is back in {secs} s")
        }
        (waiting, lost) => format!(
            "{} for round {next}; those that were lost ({lost}) have {secs} s to come back",
            waits(waiting)
        ),
    };
    format!("round {round} is over; {wait}")
}

fn waits(number: usize) -> String {
    let verb = if number == 1 { "waits" } else { "wait" };
    format!("{} {verb}", count(number, "node"))
}

fn nodes(number: u32) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "node")
}

fn joined(node: &NodeRef, present: usize, wanted: Option<u32>) -> String {
    let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
    format!(
        "{} ({}) is here, place {} in the chain, {present}{of} present",
        node.name, node.addr, node.position
    )
}

fn disks(plan: &NodePlan) -> String {
    plan.disks
        .iter()
        .map(|disk| {
            let identity = if disk.identity.is_empty() {
                String::new()
            } else {
                format!(" {}", disk.identity)
            };
            let holds = if disk.holds.is_empty() {
                String::new()
            } else {
                format!(", now: {}", disk.holds)
            };
            format!(
                "; {} to {} ({}{identity}{holds})",
                disk.drive,
                disk.device,
                size(disk.disk_bytes)
            )
        })
        .collect()
}
