//! Whole partitions on real block devices.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::thread;

use crossbeam_channel::bounded;
use ka_host::loopdev::LoopDevice;
use ka_host::run::Tool;
use ka_image::raw::{RawRestoreOptions, RawSendOptions, restore, send};
use ka_image::{Compress, Progress};

use crate::lab::require_root;

const BYTES: u64 = 192 << 20;

fn open(device: &LoopDevice) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap()
}

#[test]
fn a_file_system_on_a_device_arrives_byte_for_byte_over_old_content() {
    require_root();
    for (sector_size, compress) in [(512, Compress::Never), (4096, Compress::Always)] {
        let golden = LoopDevice::scratch(BYTES, sector_size).unwrap();
        Tool::new("mkfs.ext4")
            .args(["-q", "-d", "/etc"])
            .arg(golden.path())
            .run()
            .unwrap();
        let clone = LoopDevice::scratch(BYTES, sector_size).unwrap();
        let old = vec![0xee; 1 << 20];
        let mut target = open(&clone);
        (0..BYTES >> 20).for_each(|_| target.write_all(&old).unwrap());
        target.sync_all().unwrap();

        let source = open(&golden);
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
        Tool::new("cmp")
            .arg(golden.path())
            .arg(clone.path())
            .run()
            .unwrap();
        Tool::new("e2fsck").args(["-fn"]).arg(clone.path()).run().unwrap();
    }
}
