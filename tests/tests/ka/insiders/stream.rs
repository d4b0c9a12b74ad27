//! The insider's part of the chain.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ka_proto::block::{BlockHeader, BlockKind, End, HEADER_LEN, Opener, Sealer, SignedEnd, StreamKey};
use ka_proto::control::{OpenStream, Peer};
use ka_proto::link::{
    Accepting, Ack, CHALLENGE_LEN, Connecting, HELLO_LEN, LinkKey, PROOF_LEN, Receipt, UP_LEN, UpFrame,
    UpOpener, UpSealer,
};
use ka_proto::{NodeId, RunId, StreamOffset};
use ka_tests::netns::Namespace;

use super::peer::{Acks, Manners, Serves, lock};
use crate::tls::PATIENCE;

/// Time between two acknowledgements, or looks for more to send.
const PAUSE: Duration = Duration::from_millis(10);
/// Pauses between two signs of life.
const IDLE_EVERY: u32 = 25;

/// Attempts to reach a predecessor.
const TRIES: u32 = 50;

/// A received block, with the offset of its first byte.
type Kept = (u64, Vec<u8>);

/// A stream that is kept completely.
pub(super) struct Stream {
    open: OpenStream,
    manners: Manners,
    inside: Namespace,
    me: NodeId,
    run: RunId,
    key: StreamKey,
    state: Mutex<State>,
}

struct State {
    predecessor: (Peer, [u8; 32]),
    /// Number of the turn to a predecessor; data from an older turn is not taken.
    turn: u32,
    successor: Option<(NodeId, [u8; 32])>,
    blocks: Vec<Arc<Kept>>,
    received: u64,
    end: Option<End>,
    end_told: bool,
    below: Option<Ack>,
    is_cut_off: bool,
}

impl Stream {
    pub(super) fn new(
        open: OpenStream,
        manners: Manners,
        inside: Namespace,
        (me, run): (NodeId, RunId),
    ) -> Self {
        Self {
            key: StreamKey::new(open.key, run, open.stream),
            state: Mutex::new(State {
                predecessor: (open.predecessor, open.predecessor_key),
                turn: 0,
                successor: open.successor.zip(open.successor_key),
                blocks: Vec::new(),
                received: 0,
                end: None,
                end_told: false,
                below: None,
                is_cut_off: false,
            }),
            open,
            manners,
            inside,
            me,
            run,
        }
    }

    pub(super) fn open(&self) -> &OpenStream {
        &self.open
    }

    pub(super) fn received(&self) -> u64 {
        lock(&self.state).received
    }

    /// Returns the whole stream, once it was received.
    pub(super) fn take_end(&self) -> Option<End> {
        let mut state = lock(&self.state);
        let end = state.end.filter(|_| !state.end_told)?;
        state.end_told = true;
        Some(end)
    }

    pub(super) fn expect(&self, successor: Option<(NodeId, [u8; 32])>) {
        let mut state = lock(&self.state);
        (state.successor, state.below) = (successor, None);
    }

    pub(super) fn turn_to(&self, predecessor: Peer, key: [u8; 32]) {
        let mut state = lock(&self.state);
        (state.predecessor, state.turn) = ((predecessor, key), state.turn + 1);
    }

    /// Begins to get the stream from its predecessor, at the point where it stopped.
    pub(super) fn fetch(self: &Arc<Self>) {
        let stream = Arc::clone(self);
        thread::spawn(move || {
            let turn = lock(&stream.state).turn;
            for _ in 0..TRIES {
                if let Ok((mut socket, sealer)) = stream.connect() {
                    let ended = stream.take_blocks(&mut socket, sealer, turn);
                    lock(&stream.state).is_cut_off = ended.is_err();
                    return;
                }
                thread::sleep(PAUSE * 10);
            }
            lock(&stream.state).is_cut_off = true;
        });
    }

    /// Returns true when its link to the predecessor has broken, once for each link.
    pub(super) fn take_cut_off(&self) -> bool {
        std::mem::take(&mut lock(&self.state).is_cut_off)
    }

    fn connect(&self) -> Result<(TcpStream, UpSealer)> {
        let ((peer, key), from) = {
            let state = lock(&self.state);
            (state.predecessor, StreamOffset(state.received))
        };
        let mut socket = self.inside.enter(|| TcpStream::connect(peer.addr))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        let key = LinkKey::new(key, self.run, self.open.stream);
        let (connecting, hello) = Connecting::start(&key, self.me, peer.node, [3; 16], from);
        socket.write_all(&hello)?;
        let mut challenge = [0; CHALLENGE_LEN];
        socket.read_exact(&mut challenge)?;
        let answer = connecting.answer(&challenge)?;
        socket.write_all(&answer.proof)?;
        Ok((socket, answer.sealer))
    }

    /// Receives blocks until the end, or until it is told to turn to another predecessor.
    fn take_blocks(self: &Arc<Self>, from: &mut TcpStream, sealer: UpSealer, turn: u32) -> Result<()> {
        let (acks, stream) = (from.try_clone()?, Arc::clone(self));
        thread::spawn(move || stream.acknowledge(acks, sealer, turn));
        while lock(&self.state).turn == turn && self.take_block(from)? {}
        Ok(())
    }

    /// Reads one block; returns false after the last one.
    fn take_block(&self, from: &mut TcpStream) -> Result<bool> {
        let mut header = [0; HEADER_LEN];
        from.read_exact(&mut header)?;
        let decoded = BlockHeader::decode(&header)?;
        let mut payload = vec![0; decoded.length as usize];
        from.read_exact(&mut payload)?;
        let mut state = lock(&self.state);
        match decoded.kind {
            BlockKind::Idle => return Ok(true),
            BlockKind::Data => state.received = decoded.offset.0 + u64::from(decoded.length),
            BlockKind::End => state.end = Some(SignedEnd::decode(&payload)?.end),
        }
        let bytes = [header.as_slice(), &payload].concat();
        state.blocks.push(Arc::new((decoded.offset.0, bytes)));
        Ok(decoded.kind != BlockKind::End)
    }

    fn acknowledge(&self, mut to: TcpStream, mut sealer: UpSealer, turn: u32) {
        while lock(&self.state).turn == turn {
            let frame = sealer.seal(&UpFrame::Ack(self.ack()));
            if to.write_all(&frame).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    fn ack(&self) -> Ack {
        let state = lock(&self.state);
        let received = match self.manners.acks {
            Acks::True => StreamOffset(state.received),
            Acks::Everything => StreamOffset(state.received.max(1 << 40)),
        };
        let ended = state.end.is_some() || self.manners.acks == Acks::Everything;
        let own = self.open.receipts.above.iter();
        let own = own.map(|key| Receipt::new(self.me, key, received, ended));
        let below = state.below.map(|ack| ack.receipts).unwrap_or_default();
        let others = below.iter().filter(|receipt| receipt.to != self.me).copied();
        let all_below = state.successor.is_none() || state.below.is_some_and(|ack| ack.tail_ended);
        Ack {
            received,
            consumed: received,
            retained_from: match self.manners.acks {
                Acks::True => StreamOffset(0),
                Acks::Everything => received,
            },
            receipts: own.chain(others).collect(),
            ended,
            tail_ended: ended && (all_below || self.manners.acks == Acks::Everything),
            standby: false,
        }
    }

    /// Serves a peer if it is the successor.
    pub(super) fn serve(self: Arc<Self>, mut socket: TcpStream) {
        if let Ok((from, opener)) = self.let_in(&mut socket) {
            if let Ok(ups) = socket.try_clone() {
                let stream = Arc::clone(&self);
                thread::spawn(move || stream.hear(ups, opener));
            }
            self.send(&mut socket, from).ok();
        }
    }

    fn let_in(&self, socket: &mut TcpStream) -> Result<(u64, UpOpener)> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut hello = [0; HELLO_LEN];
        socket.read_exact(&mut hello)?;
        let (_, key) = lock(&self.state).successor.context("nobody is expected")?;
        let key = LinkKey::new(key, self.run, self.open.stream);
        let (accepting, greeting, challenge) =
            Accepting::start(&key, self.me, &hello, [5; 16], StreamOffset(0))?;
        socket.write_all(&challenge)?;
        let mut proof = [0; PROOF_LEN];
        socket.read_exact(&mut proof)?;
        Ok((greeting.resume_offset.0, accepting.finish(&proof)?))
    }

    fn hear(&self, mut from: TcpStream, mut opener: UpOpener) {
        let mut frame = [0; UP_LEN];
        while from.read_exact(&mut frame).is_ok() {
            if let Ok(UpFrame::Ack(ack)) = opener.open(&frame) {
                lock(&self.state).below = Some(ack);
            }
        }
    }

    fn send(&self, to: &mut TcpStream, from: u64) -> Result<()> {
        let (mut next, mut at, mut pauses) = (0, from, 0);
        let mut forger = Forger::new(self)?;
        loop {
            let block = lock(&self.state).blocks.get(next).cloned();
            let serves = self.manners.serves;
            match block.filter(|_| matches!(serves, Serves::All | Serves::Altered)) {
                Some(block) => {
                    next += 1;
                    let altered = (serves == Serves::Altered).then(|| forger.alter(&block.1));
                    let bytes = altered.transpose()?;
                    if block.0 >= from {
                        to.write_all(bytes.as_ref().unwrap_or(&block.1))?;
                        at = block.0 + (block.1.len() - HEADER_LEN) as u64;
                    }
                }
                None => {
                    thread::sleep(PAUSE);
                    pauses += 1;
                    if pauses % IDLE_EVERY == 0 && serves != Serves::Silence {
                        let idle = self.key.authenticate(BlockKind::Idle, StreamOffset(at), &[])?;
                        to.write_all(&idle.encode())?;
                    }
                }
            }
        }
    }
}

/// A maker of blocks that makes them anew, as the server does.
struct Forger {
    opener: Opener,
    sealer: Sealer,
}

impl Forger {
    fn new(stream: &Stream) -> Result<Self> {
        Ok(Self {
            opener: Opener::new(&stream.key, stream.open.cipher)?,
            sealer: Sealer::new(stream.key.clone(), stream.open.cipher)?,
        })
    }

    /// Returns the block with another first byte, but the end unchanged, because only the server can make
    /// one.
    fn alter(&mut self, block: &[u8]) -> Result<Vec<u8>> {
        let (header, sealed) = block.split_first_chunk().context("a block without a header")?;
        let header = BlockHeader::decode(header)?;
        if header.kind != BlockKind::Data {
            return Ok(block.to_vec());
        }
        let mut plain = sealed.to_vec();
        if header.sealed {
            self.opener.open(&header, sealed, &mut plain)?;
        }
        plain[0] ^= 1;
        let header = self.sealer.seal(&mut plain)?;
        Ok([header.encode().as_slice(), &plain].concat())
    }
}
