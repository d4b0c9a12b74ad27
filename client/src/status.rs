//! The operators' view of this node (`ka-status`): the log as it grows, and commands that they run here.
//!
//! `ka_transport` decides who may connect: the holder of the server's key. Each operator has a thread for the
//! log and one for commands, which run one after the other and end with the operator. Each command is in this
//! node's log and, while it has a server, in the server's, with the operator's address and the exit code.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ka_host::run::{RunError, Shell, ShellChild};
use ka_proto::operator::{Channel, MAX_OUTPUT, ToOperator};
use ka_proto::wire::Payload;
use ka_proto::{NodeName, Reason};
use ka_report::event::Step;
use ka_report::exec::OperatorExec;
use ka_transport::{JoinCode, Operator, OperatorListener, OperatorWriter, TransportError};

use crate::journal::Journal;
use crate::log_ring::LogRing;

/// Lines taken from the log at once.
const BATCH: usize = 64;
/// Interval of the checks that the operator is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval of the checks for the end of a command that has closed its output, and for the operator.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);
/// A command that could not be started, as a shell has it.
const NOT_STARTED: u8 = 127;
/// A command that was killed, because its operator left, as a shell has it: 128 and SIGKILL.
const KILLED: u8 = 137;

/// Opens the door for operators, until the result is dropped. It is for operators through the server, and for
/// those on `port` of `listen` (every address without one). If the port is taken, a warning says so.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn open(
    listen: Option<IpAddr>,
    port: u16,
    code: &JoinCode,
    name: NodeName,
    journal: &Arc<Journal>,
) -> Result<OperatorListener, TransportError> {
    let addr = SocketAddr::new(listen.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port);
    let for_operators = Arc::clone(journal);
    let mut door = OperatorListener::new(code, name, move |operator| serve(operator, &for_operators))?;
    if let Err(error) = door.listen(addr) {
        let text = format!("ka-status will work here only through the server (--via): {error}");
        journal.news(Step::FindServer, text);
    }
    Ok(door)
}

fn serve(operator: Operator, journal: &Journal) {
    let Operator {
        writer,
        mut commands,
        from,
        through_server,
    } = operator;
    std::thread::scope(|scope| {
        let for_log = writer.clone();
        scope.spawn(move || tell_log(&for_log, &journal.log()));
        while let Some(command) = commands.next_command() {
            let exec = OperatorExec::starts(from, through_server, &command);
            journal.exec(&exec);
            let code = run(&command, &writer);
            journal.exec(&exec.ended(code));
            if !writer.send(&ToOperator::Exited(code)) {
                break;
            }
        }
    });
}

fn tell_log(writer: &OperatorWriter, log: &LogRing) {
    let mut next = 0;
    while writer.is_open() {
        let batch = log.read(&mut next, BATCH, LOOK_INTERVAL);
        let missed = (batch.missed > 0).then(|| format!("({} lines of the log are gone)", batch.missed));
        for line in missed.iter().chain(&batch.lines) {
            if !writer.send(&ToOperator::Line(Reason::new(line))) {
                return;
            }
        }
    }
}

/// Runs one command to its end, or to the operator's.
fn run(command: &str, writer: &OperatorWriter) -> u8 {
    let started = Shell::new(command).spawn_captured();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return not_started(&error, writer),
    };
    let (out, err) = (child.take_stdout(), child.take_stderr());
    std::thread::scope(|scope| {
        let pipes = [
            out.map(|pipe| scope.spawn(move || tell_output(Channel::Out, pipe, writer))),
            err.map(|pipe| scope.spawn(move || tell_output(Channel::Err, pipe, writer))),
        ];
        let code = wait(&mut child, writer);
        // Its children in the background may hold the pipes. They belong to its process group and end with
        // it.
        let mut looks = 0;
        while pipes.iter().flatten().any(|pipe| !pipe.is_finished()) && looks < LINGER_LOOKS {
            std::thread::sleep(WAIT_INTERVAL);
            looks += 1;
        }
        child.end_group();
        code
    })
}

/// Looks at the output of background children after the command itself has ended: a second.
const LINGER_LOOKS: u32 = 20;

fn wait(child: &mut ShellChild, writer: &OperatorWriter) -> u8 {
    loop {
        match child.try_exit_code() {
            Ok(Some(code)) => return code,
            Ok(None) if writer.is_open() => std::thread::sleep(WAIT_INTERVAL),
            Ok(None) => {
                child.kill();
                return KILLED;
            }
            Err(error) => return not_started(&error, writer),
        }
    }
}

fn not_started(error: &RunError, writer: &OperatorWriter) -> u8 {
    let text = match error {
        RunError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            "there is no shell on this node yet: it comes with stage2, after the node has joined\n".to_owned()
        }
        error => format!("{error}\n"),
    };
    tell(Channel::Err, text.as_bytes(), writer);
    NOT_STARTED
}

fn tell_output(channel: Channel, mut pipe: impl Read, writer: &OperatorWriter) {
    let mut bytes = vec![0; MAX_OUTPUT];
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) if tell(channel, &bytes[..count], writer) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn tell(channel: Channel, bytes: &[u8], writer: &OperatorWriter) -> bool {
    writer.send(&ToOperator::Output(channel, Payload(bytes.to_vec())))
}
