//! The listener and the operator, on the loopback interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ka_proto::operator::{Channel, ToOperator};
use ka_proto::text::{NodeName, Reason};
use ka_proto::wire::Payload;

use super::{Operator, OperatorConnection, OperatorListener};
use crate::code::JoinCode;
use crate::key::ServerKey;

const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

fn code_of(key: &ServerKey, secret: u8) -> JoinCode {
    JoinCode {
        fingerprint: key.fingerprint(),
        secret: [secret; 16],
    }
}

/// Tells one line, then echoes each command and ends it with its length.
fn echo(mut operator: Operator) {
    let say = |message| operator.writer.send(&message);
    assert!(say(ToOperator::Line(Reason::new("Formatting /dev/sda2"))));
    while let Some(command) = operator.commands.next_command() {
        let code = u8::try_from(command.len()).unwrap();
        let out = ToOperator::Output(Channel::Out, Payload(command.into_bytes()));
        if !say(out) || !say(ToOperator::Exited(code)) {
            return;
        }
    }
}

fn listener(code: &JoinCode) -> OperatorListener {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listener = OperatorListener::new(code, NodeName::new("node7").unwrap(), echo).unwrap();
    listener.listen(listen).unwrap();
    listener
}

fn addr_of(listener: &OperatorListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

#[test]
fn the_holder_of_the_servers_key_sees_the_log_and_runs_commands() {
    let key = ServerKey::ephemeral().unwrap();
    let listener = listener(&code_of(&key, 1));
    let mut connection = OperatorConnection::connect(addr_of(&listener), &key, &code_of(&key, 1)).unwrap();
    assert_eq!(connection.name().as_str(), "node7");
    let line = connection.next_message(LIMIT).unwrap();
    assert_eq!(line, Some(ToOperator::Line(Reason::new("Formatting /dev/sda2"))));
    connection.exec("uptime").unwrap();
    let output = connection.next_message(LIMIT).unwrap();
    let expected = ToOperator::Output(Channel::Out, Payload(b"uptime".to_vec()));
    assert_eq!(output, Some(expected));
    assert_eq!(
        connection.next_message(LIMIT).unwrap(),
        Some(ToOperator::Exited(6))
    );
}

#[test]
fn another_key_gets_nothing_and_is_told_so() {
    let key = ServerKey::ephemeral().unwrap();
    let listener = listener(&code_of(&key, 1));
    let stranger = ServerKey::ephemeral().unwrap();
    let error = OperatorConnection::connect(addr_of(&listener), &stranger, &code_of(&key, 1)).unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
}

#[test]
fn a_node_of_another_run_is_not_believed() {
    let key = ServerKey::ephemeral().unwrap();
    let listener = listener(&code_of(&key, 1));
    let error = OperatorConnection::connect(addr_of(&listener), &key, &code_of(&key, 2)).unwrap_err();
    assert!(error.to_string().contains("run of this join code"), "{error}");
}

#[test]
fn garbage_and_silence_are_shown_the_door_while_others_are_served() {
    let key = ServerKey::ephemeral().unwrap();
    let listener = listener(&code_of(&key, 1));
    let mut silent = TcpStream::connect(addr_of(&listener)).unwrap();
    let mut garbage = TcpStream::connect(addr_of(&listener)).unwrap();
    garbage.write_all(b"exec rm -rf /\n").unwrap();
    OperatorConnection::connect(addr_of(&listener), &key, &code_of(&key, 1)).unwrap();
    for socket in [&mut silent, &mut garbage] {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = Vec::new();
        // Ended by them, with an alert at most; a reset is an end too.
        socket.read_to_end(&mut answer).ok();
        assert!(answer.len() < 64, "{answer:?}");
    }
}

#[test]
fn an_operator_who_leaves_is_noticed() {
    let key = ServerKey::ephemeral().unwrap();
    let (left, noticed) = crossbeam_channel::bounded(1);
    let welcome = move |mut operator: Operator| {
        while operator.commands.next_command().is_some() {}
        let until = Instant::now() + Duration::from_secs(10);
        while operator.writer.is_open() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        left.send(operator.writer.is_open()).unwrap();
    };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let name = NodeName::new("node7").unwrap();
    let mut listener = OperatorListener::new(&code_of(&key, 1), name, welcome).unwrap();
    listener.listen(listen).unwrap();
    drop(OperatorConnection::connect(addr_of(&listener), &key, &code_of(&key, 1)).unwrap());
    assert!(!noticed.recv_timeout(Duration::from_secs(20)).unwrap());
}
