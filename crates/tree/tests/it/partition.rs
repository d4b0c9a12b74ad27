//! Whole partitions on real block devices.

use std::io::Write;
use std::thread;

use crossbeam_channel::bounded;
use ka_lab::disk::{Disk, MIB};
use ka_lab::process::Program;
use ka_tree::raw::{RawRestoreOptions, RawSendOptions, restore, send};
use ka_tree::{Compress, Progress};

use crate::copies::require_root;

const BYTES: u64 = 192 * MIB;

#[test]
fn a_file_system_on_a_device_arrives_byte_for_byte_over_old_content() {
    require_root();
    for (sector_size, compress) in [(512, Compress::Never), (4096, Compress::Always)] {
        let golden = Disk::scratch(BYTES, sector_size).unwrap();
        Program::new("mkfs.ext4")
            .args(["-q", "-d", "/etc"])
            .arg(golden.checked().unwrap())
            .run()
            .unwrap();
        let clone = Disk::scratch(BYTES, sector_size).unwrap();
        let old = vec![0xee; 1 << 20];
        let mut target = clone.open().unwrap();
        (0..BYTES >> 20).for_each(|_| target.write_all(&old).unwrap());
        target.sync_all().unwrap();

        let source = golden.open().unwrap();
        let (blocks, received) = bounded::<Vec<u8>>(8);
        let (sent, restored) = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let blocks = blocks;
                let options = RawSendOptions { compress, threads: 0 };
                send(
                    &source,
                    BYTES,
                    &options,
                    |block| blocks.send(block).map_err(std::io::Error::other),
                    &Progress::new(),
                )
            });
            let next = || Ok(received.recv().ok());
            let restored = restore(
                &target,
                BYTES,
                &RawRestoreOptions::default(),
                next,
                &Progress::new(),
            );
            drop(received);
            (sender.join().unwrap(), restored)
        });
        let sent = sent.unwrap();
        assert_eq!(sent, restored.unwrap());
        assert!(
            sent.data_bytes < BYTES / 4,
            "zeros travelled: {} bytes",
            sent.data_bytes
        );
        target.sync_all().unwrap();
        Program::new("cmp")
            .arg(golden.device())
            .arg(clone.device())
            .run()
            .unwrap();
        Program::new("e2fsck")
            .args(["-fn"])
            .arg(clone.device())
            .run()
            .unwrap();
    }
}
