//! One event as one line of text, the same for terminal, log and pipe.

use std::time::Duration;

use crate::{group, spool};
use ka_proto::order::Crossings;
use ka_report::approval;
use ka_report::boot::{FirstBoot, MachineNews};
use ka_report::event::StepState;
use ka_report::report::NodePlan;
use ka_report::run::{NodeRef, RunEvent};
use ka_report::slow::Slow;
use ka_report::text::{clock, count, mib, seconds, size};

/// The question before the first disk is erased.
pub(crate) const START_QUESTION: &str = "Enter to start, Ctrl-C to stop";

/// Returns the line for an event. `None` for an event that only counts, or that is shown elsewhere.
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
        RunEvent::StartWanted | RunEvent::StartGiven { .. } | RunEvent::NodeRefused { .. } => {
            return answer_line(event);
        }
        RunEvent::TakenUp { .. }
        | RunEvent::NodeQueued { .. }
        | RunEvent::NodeLooked { .. }
        | RunEvent::NodeDoneAlready { .. }
        | RunEvent::RoundEnded { .. }
        | RunEvent::RoundStarted { .. } => return round_line(event),
        RunEvent::LetsGo { nodes, crossings, .. } => lets_go(nodes, crossings),
        RunEvent::Spooling { .. }
        | RunEvent::NodeAway { .. }
        | RunEvent::NodeRejoined { .. }
        | RunEvent::SpoolOff { .. } => return spool::line(event),
        RunEvent::Transport { .. } | RunEvent::LeftGroup { .. } => return group::line(event),
        RunEvent::SessionStarted {
            session,
            what,
            expected_bytes,
        } => session_started(session, what, *expected_bytes),
        RunEvent::NodePrepared { node, plan } => format!("{node}: ready to start{}", disks(plan)),
        RunEvent::Erasing { erasing } => erasing.to_string(),
        RunEvent::NodeStep { node, step } => format!("{}> {step}", node.name),
        RunEvent::OperatorExec { node, exec } => format!("{}> {exec}", node.name),
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
            seconds(Duration::from_millis(totals.emptied_in_ms))
        ),
        RunEvent::NodeFailed { node, stage, reason } => format!("{node}: FAILED at {stage}: {reason}"),
        RunEvent::NodeDone { node, .. } => format!("{node}: done"),
        RunEvent::Warning { text } => format!("warning: {text}"),
        RunEvent::Detail { text } => text.clone(),
        RunEvent::Progress { .. } | RunEvent::Ended { .. } | RunEvent::ApprovalSettled { .. } => return None,
    })
}

/// True if the event is one of the many of each node at work: its single steps, and the earlier downloads of
/// its machine. Items of a summed-up warning belong to them. They are shown on demand (`ka-server -v`), and are always in the log.
pub(crate) fn is_detail(event: &RunEvent) -> bool {
    match event {
        RunEvent::NodeStep { step, .. } => step.state != StepState::Warning,
        RunEvent::Detail { .. } => true,
        RunEvent::Machine { news, .. } => matches!(news, MachineNews::Leased | MachineNews::Fetched { .. }),
        _ => false,
    }
}

fn session_started(session: &str, what: &str, expected_bytes: Option<u64>) -> String {
    let about = expected_bytes.map_or_else(String::new, |bytes| format!(", about {}", size(bytes)));
    format!("{session}: {what}{about}")
}

/// Returns the line for the question before the start, for its answer, and for an answer to a node that asked
/// to join.
fn answer_line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::StartWanted => START_QUESTION.to_owned(),
        RunEvent::StartGiven { waited_ms } => {
            let waited = clock(Duration::from_millis(*waited_ms));
            format!("started by you after {waited}")
        }
        RunEvent::NodeRefused { addr, name, reason } => match name {
            Some(name) => format!("{name} ({addr}) refused: {reason}"),
            None => format!("{addr} refused: {reason}"),
        },
        _ => return None,
    })
}

/// Returns the line for an event between two rounds.
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

/// Returns `n101 (10.0.1.101) looked (dry run): would erase /dev/sda (447 GiB), which is empty; it becomes
/// sda`.
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

/// Most nodes of a chain that are named. Of a longer chain the two ends are named.
const MAX_CHAIN: usize = 12;

fn lets_go(nodes: &[NodeRef], crossings: &Crossings) -> String {
    let mut chain: Vec<_> = nodes
        .iter()
        .map(|node| format!("{} {}", node.position, node.name))
        .collect();
    let nodes = count(nodes.len(), "node");
    if chain.len() > MAX_CHAIN {
        let middle = 3..chain.len() - 2;
        chain.splice(middle, ["…".to_owned()]);
    }
    let crossed = if crossings.is_known() {
        format!("; {crossings}")
    } else {
        String::new()
    };
    format!("Let's go: {nodes}, chain: {}{crossed}", chain.join(" → "))
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
    let question = approval::question(&approval::applicant(code, name, addr, mac.as_deref()));
    Some(format!("{question}; or ka-server approve {request}"))
}

/// Returns the plan of a node, one line for each action, with the node's name in front.
pub fn prepared_lines(node: &NodeRef, plan: &NodePlan) -> Vec<String> {
    let warnings = plan.warnings.iter().map(|text| format!("warning: {text}"));
    plan.actions
        .iter()
        .cloned()
        .chain(warnings)
        .map(|text| format!("{}> {text}", node.name))
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

/// Returns `n103 is slow: its line carries 1.1 MB/s, the lines before it 11.8; the 5 nodes behind it wait for
/// it`.
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
    format!("{} ({}) is here, {present}{of} present", node.name, node.addr)
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
