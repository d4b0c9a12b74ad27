//! The spool of a stream, and the blocks that a branch gets from it.

use std::sync::atomic::AtomicBool;

use ka_proto::block::{SignedEnd, StreamDigest, StreamKey};
use ka_proto::{RunId, StreamName, StreamOffset};

use super::*;
use crate::spool_dir::SpoolDir;
use crate::stream::buffer::{Payload, Pool};
use crate::stream::handle::{Ended, PumpHandle};
use crate::stream::inbox::PumpInput;

const STREAM: StreamId = StreamId(3);
const BLOCK: usize = 100_000;
const WINDOW: usize = 8 << 20;

fn key() -> StreamKey {
    StreamKey::new([7; 32], RunId([1; 16]), STREAM)
}

fn block(kind: BlockKind, offset: usize, payload: Vec<u8>) -> Arc<SealedBlock> {
    let header = key()
        .authenticate(kind, StreamOffset(offset as u64), &payload)
        .unwrap();
    Arc::new(SealedBlock {
        header: header.encode(),
        offset: offset as u64,
        payload: Payload::from_producer(payload, &Pool::new(0)),
        consumed: AtomicBool::new(true),
    })
}

fn data(number: usize) -> Arc<SealedBlock> {
    block(
        BlockKind::Data,
        number * BLOCK,
        vec![u8::try_from(number % 256).unwrap(); BLOCK],
    )
}

fn end(offset: usize) -> Arc<SealedBlock> {
    let end = StreamDigest::new().end();
    let payload = SignedEnd {
        end,
        signature: [4; 64],
    }
    .encode();
    block(BlockKind::End, offset, payload.to_vec())
}

struct Kept {
    spool: Arc<Spool>,
    keeper: Option<SpoolWriter>,
    reports: mpsc::UnboundedReceiver<PumpReport>,
    _dir: tempfile::TempDir,
}

fn kept() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let file = SpoolDir::open(dir.path()).unwrap().file().unwrap();
    with_file(file, dir)
}

fn with_file(file: File, dir: tempfile::TempDir) -> Kept {
    let (sender, reports) = mpsc::unbounded_channel();
    let (spool, keeper) = Spool::begin(file, STREAM, sender).unwrap();
    Kept {
        spool,
        keeper: Some(keeper),
        reports,
        _dir: dir,
    }
}

impl Kept {
    fn keep(&self, block: &Arc<SealedBlock>) {
        self.keeper.as_ref().unwrap().keep(block);
    }

    /// Returns a branch from `offset` on, without a bound on its rate.
    fn branch(&self, offset: u64) -> Arc<PumpHandle> {
        let gauge = Arc::new(Gauge::default());
        for _ in 0..64 {
            gauge.adjust(&ka_proto::pace::Pace::default());
        }
        let shared = PumpHandle::new(StreamName::new("s").unwrap(), Pool::new(WINDOW)).unwrap();
        let branch = Branch {
            spool: Arc::clone(&self.spool),
            gauge,
        };
        branch.feed(offset, &shared, WINDOW);
        shared
    }
}

/// Takes blocks until so many are there, as a pump does.
fn take(shared: &PumpHandle, count: usize) -> Vec<Arc<SealedBlock>> {
    let mut taken = std::collections::VecDeque::new();
    while taken.len() < count {
        shared.production().take(&mut taken, 1);
        if let Some(block) = taken.back() {
            shared.production().release(block.cost());
        }
        std::thread::yield_now();
    }
    taken.into()
}

fn abort_reason(shared: &PumpHandle) -> String {
    loop {
        for input in shared.take_inbox() {
            if let PumpInput::Abort(reason) = input {
                return reason;
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_branch_is_given_every_block_from_its_place_on_as_it_was_kept_and_the_end() {
    let mut kept = kept();
    let blocks: Vec<_> = (0..500).map(data).chain([end(500 * BLOCK)]).collect();
    blocks.iter().for_each(|block| kept.keep(block));
    kept.keeper = None;
    // Behind the second mark, and at the end itself.
    for from in [0, 1, 250, 499, 500] {
        let shared = kept.branch((from * BLOCK) as u64);
        let given = take(&shared, blocks.len() - from);
        for (given, sent) in given.iter().zip(&blocks[from..]) {
            assert_eq!(given.header, sent.header);
            assert_eq!(given.payload.as_slice(), sent.payload.as_slice());
        }
    }
    assert!(kept.spool.state().marks.len() > 2);
}

#[test]
fn a_branch_waits_for_what_is_not_kept_yet() {
    let kept = kept();
    kept.keep(&data(0));
    let shared = kept.branch(BLOCK as u64);
    std::thread::sleep(Duration::from_millis(20));
    assert!(shared.production().is_empty());
    kept.keep(&data(1));
    assert_eq!(take(&shared, 1)[0].offset, BLOCK as u64);
}

#[test]
fn a_place_in_the_middle_of_a_block_is_refused() {
    let kept = kept();
    (0..3).for_each(|number| kept.keep(&data(number)));
    let reason = abort_reason(&kept.branch(BLOCK as u64 + 1));
    assert!(reason.contains("begins at byte 100001"), "{reason}");
}

#[test]
fn what_was_damaged_on_the_disk_is_not_given_as_a_block() {
    let kept = kept();
    (0..2).for_each(|number| kept.keep(&data(number)));
    assert_eq!(
        kept.spool.find(BLOCK as u64, || false),
        Ok((HEADER_LEN + BLOCK) as u64)
    );
    kept.spool
        .file
        .write_all_at(b"????", (HEADER_LEN + BLOCK) as u64)
        .unwrap();
    let reason = abort_reason(&kept.branch(BLOCK as u64));
    assert!(reason.contains("damaged"), "{reason}");
}

#[test]
fn a_branch_whose_node_is_gone_ends() {
    let kept = kept();
    kept.keep(&data(0));
    let shared = kept.branch(BLOCK as u64);
    shared.end(&Ended::Failed("gone".to_owned()));
    // Its thread holds the spool.
    while Arc::strong_count(&kept.spool) > 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_disk_that_cannot_be_written_turns_the_spool_off_and_that_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let mut kept = with_file(File::open(path).unwrap(), dir);
    let shared = kept.branch(0);
    (0..9).for_each(|number| kept.keep(&data(number)));
    assert!(abort_reason(&shared).contains("writing what the spool keeps"));
    kept.keeper = None;
    let said: Vec<_> = std::iter::from_fn(|| kept.reports.blocking_recv()).collect();
    assert!(
        matches!(
            &said[..],
            [PumpReport {
                what: PumpEvent::SpoolOff { .. },
                ..
            }]
        ),
        "{said:?}"
    );
}

#[test]
fn a_disk_that_is_too_slow_turns_the_spool_off_and_the_chain_goes_on() {
    let kept = kept();
    // As if the disk stood still with all of that before it.
    kept.spool.queued.store(MAX_QUEUED, Ordering::Release);
    kept.keep(&data(0));
    let reason = abort_reason(&kept.branch(0));
    assert!(reason.contains("256 MiB behind"), "{reason}");
}
