//! Partitions in files: round trips, sizes that differ, damage.

use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::{RawRestoreOptions, RawSendOptions, RawSummary, restore, send};
use crate::error::RestoreError;
use crate::progress::Progress;

fn file(content: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

fn read(file: &File) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

fn blocks_of(content: &[u8]) -> (Vec<Vec<u8>>, RawSummary) {
    let mut blocks = Vec::new();
    let emit = |block| {
        blocks.push(block);
        Ok(())
    };
    let bytes = content.len() as u64;
    let options = RawSendOptions::default();
    let summary = send(&file(content), bytes, &options, emit, &Progress::new()).unwrap();
    (blocks, summary)
}

fn put(target: &File, blocks: Vec<Vec<u8>>, allow_larger: bool) -> Result<RawSummary, RestoreError> {
    let mut blocks = blocks.into_iter();
    let options = RawRestoreOptions {
        threads: 0,
        allow_larger,
    };
    let bytes = target.metadata().unwrap().len();
    restore(target, bytes, &options, || Ok(blocks.next()), &Progress::new())
}

fn mixed() -> Vec<u8> {
    let mut content = vec![0; 3_000_000 / 512 * 512];
    content[0] = 1;
    content[700_000..1_400_000].fill(0xa5);
    *content.last_mut().unwrap() = 9;
    content
}

#[test]
fn a_partition_arrives_and_old_content_is_zeroed_where_it_was_zero() {
    let content = mixed();
    let (blocks, sent) = blocks_of(&content);
    assert!(
        sent.data_bytes < 720_000,
        "zeros travelled: {} bytes",
        sent.data_bytes
    );
    let target = file(&vec![0xff; content.len()]);
    assert_eq!(put(&target, blocks, false).unwrap(), sent);
    assert!(read(&target) == content);
}

#[test]
fn a_smaller_target_is_refused_before_a_byte_is_written_and_a_larger_one_unless_allowed() {
    let content = mixed();
    let (blocks, _) = blocks_of(&content);
    let small = file(&vec![0xff; content.len() - 512]);
    let error = put(&small, blocks.clone(), true).unwrap_err();
    assert!(matches!(error, RestoreError::SizeMismatch { .. }), "{error}");
    assert!(read(&small).iter().all(|byte| *byte == 0xff));
    let large = file(&vec![0xff; content.len() + 4096]);
    assert!(put(&large, blocks.clone(), false).is_err());
    put(&large, blocks, true).unwrap();
    assert!(read(&large)[..content.len()] == content);
    assert!(read(&large)[content.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_stream_that_ends_early_or_lost_a_block_is_no_copy() {
    let content = mixed();
    let (blocks, _) = blocks_of(&content);
    for lost in 0..blocks.len() {
        let mut fewer = blocks.clone();
        fewer.remove(lost);
        assert!(
            put(&file(&content), fewer, false).is_err(),
            "block {lost} of {}",
            blocks.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_blocks_are_refused_and_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, block in 0usize..9) {
        let content = mixed();
        let (mut blocks, _) = blocks_of(&content);
        let count = blocks.len();
        let damaged = &mut blocks[block % count];
        let index = at.index(damaged.len());
        damaged[index] ^= 1 << bit;
        let target = file(&vec![0; content.len()]);
        prop_assert!(put(&target, blocks, false).is_err());
    }
}
