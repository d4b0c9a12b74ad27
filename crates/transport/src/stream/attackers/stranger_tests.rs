//! Greetings of peers that are not ends of the link.

use super::*;

fn greet(addr: SocketAddr, key: &LinkKey) -> (TcpStream, Connecting) {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let (connecting, hello) = Connecting::start(key, NodeId(1), NodeId::SERVER, [7; 16], StreamOffset(0));
    socket.write_all(&hello).unwrap();
    (socket, connecting)
}

fn rest_of(mut socket: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    socket.read_to_end(&mut rest).ok();
    rest
}

#[test]
fn a_stranger_with_another_key_or_a_recorded_greeting_is_turned_away() {
    let (mut chain, recording) = intercepted(CIPHER, |_, _, _| ());
    let consumer = chain.consume(1, |_| ());
    // Not the proxy: the head's own listener, which the chain's first connection was made through.
    let listener = chain.head_addr();
    let wrong = LinkKey::new([4; 32], key().run(), STREAM);
    assert_eq!(rest_of(greet(listener, &wrong).0), b"");
    let began = Instant::now();
    while recording.lock().unwrap().1.len() < HELLO_LEN + PROOF_LEN && began.elapsed() < LIMIT {
        sleep(Duration::from_millis(2));
    }
    let recorded = recording.lock().unwrap().1[..HELLO_LEN + PROOF_LEN].to_vec();
    let mut replayer = TcpStream::connect(listener).unwrap();
    replayer.set_read_timeout(Some(LIMIT)).unwrap();
    replayer.write_all(&recorded).unwrap();
    assert_eq!(
        rest_of(replayer).len(),
        CHALLENGE_LEN,
        "a challenge, and nothing after a stale proof"
    );
    let sent = chain.produce([1000, 2000]);
    assert_eq!(consumer.join().unwrap(), Ok((3000, sent)));
    let mut reasons = [(); 2].map(|()| chain.strangers.blocking_recv().unwrap().reason);
    reasons.sort();
    assert!(reasons[0].contains("link greeting"), "{reasons:?}");
    assert!(reasons[1].contains("link proof"), "{reasons:?}");
}

/// A predecessor that only repeats the challenge of another one.
#[test]
fn a_recorded_challenge_opens_no_stream() {
    let (mut chain, recording) = intercepted(CIPHER, |_, _, _| ());
    let consumer = chain.consume(1, |_| ());
    chain.produce([1000]);
    consumer.join().unwrap().unwrap();
    let heard = recording.lock().unwrap().0.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut victim = Chain::empty(CIPHER);
    victim.addrs.push(listener.local_addr().unwrap());
    spawn(move || {
        for socket in listener.incoming() {
            socket.unwrap().write_all(&heard).ok();
        }
    });
    victim.join(1, 1, WINDOW);
    let taken = victim.consume(1, |_| panic!("a recorded block was taken"));
    let reasons = reasons_of(&mut victim, 0);
    assert!(reasons.contains("link challenge"), "{reasons}");
    assert!(taken.join().unwrap().is_err());
}

/// It has no key; it can only pass on, and may then cut, stop, or alter. Here it stands where a node should
/// and answers the way a predecessor would.
#[test]
fn a_stranger_in_the_middle_of_the_chain_gets_no_further_than_its_first_word() {
    let mut chain = chain_with(0, WINDOW, CIPHER);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    chain.addrs.push(listener.local_addr().unwrap());
    let wrong = LinkKey::new([4; 32], key().run(), STREAM);
    let (heard, rest) = mpsc::channel();
    spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut hello = [0; HELLO_LEN];
            socket.read_exact(&mut hello).unwrap();
            assert!(Accepting::start(&wrong, NodeId(1), &hello, [1; 16], StreamOffset(0)).is_err());
            // A challenge of its own making.
            let mut challenge = [0; CHALLENGE_LEN];
            challenge[..4].copy_from_slice(b"KALC");
            socket.write_all(&challenge).unwrap();
            heard.send(rest_of(socket)).ok();
        }
    });
    chain.join(2, 2, WINDOW);
    let taken = chain.consume(1, |_| panic!("something was taken"));
    assert_eq!(
        rest.recv_timeout(LIMIT).unwrap(),
        b"",
        "a proof was given to a stranger"
    );
    assert!(taken.join().unwrap().is_err());
    let reasons = reasons_of(&mut chain, 1);
    assert!(reasons.contains("link challenge"), "{reasons}");
}

/// A member has the stream's key, a key of each of its own links, and its own number.
#[test]
fn a_member_cannot_open_a_link_in_the_name_of_another() {
    let mut chain = chain_with(2, WINDOW, CIPHER);
    let consumers = [chain.consume(1, |_| ()), chain.consume(2, |_| ())];
    let (head, first) = (chain.head_addr(), chain.addrs[1]);
    let stream_key = LinkKey::new([3; 32], key().run(), STREAM);
    let mut refused = 0;
    // Node 2 to the head as node 1, with whatever it has; a node 3 to the first one as node 2.
    for (listener, to, name, wrong) in [
        (head, NodeId::SERVER, 1, stream_key),
        (head, NodeId::SERVER, 1, link_key(2, 1)),
        (head, NodeId::SERVER, 1, link_key(2, 0)),
        (first, NodeId(1), 2, link_key(3, 2)),
        (first, NodeId(1), 2, link_key(1, 0)),
    ] {
        let (_, hello) = Connecting::start(&wrong, NodeId(name), to, [7; 16], StreamOffset(0));
        let mut socket = TcpStream::connect(listener).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(&hello).unwrap();
        assert_eq!(rest_of(socket), b"", "a challenge for a liar");
        refused += 1;
    }
    // In its own name it is let in nowhere but where the server sent it.
    let (_, hello) = Connecting::start(
        &link_key(2, 0),
        NodeId(2),
        NodeId::SERVER,
        [7; 16],
        StreamOffset(0),
    );
    let mut socket = TcpStream::connect(head).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.write_all(&hello).unwrap();
    assert_eq!(rest_of(socket), b"", "a challenge for who is not named");
    let sent = chain.produce([1000, 2000]);
    for consumer in consumers {
        assert_eq!(consumer.join().unwrap(), Ok((3000, sent)));
    }
    for _ in 0..refused {
        let reason = chain.strangers.blocking_recv().unwrap().reason;
        assert!(reason.contains("link greeting"), "{reason}");
    }
    for node in 0..=2 {
        while let Ok(report) = chain.reports[node].try_recv() {
            assert!(!matches!(report.what, PumpEvent::LinkLost { .. }), "{report:?}");
        }
    }
}
