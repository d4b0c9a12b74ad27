//! Layouts on real disks, judged by the tools that everyone else uses: `sfdisk` and `sgdisk`.
//!
//! Each generated layout is planned, written to a sparse disk and looked at by `sfdisk --verify`, `sfdisk
//! --json` and, on GPT, `sgdisk -v` and gptman. `KA_LAYOUT_CASES` is the number of layouts of each kind of
//! table and sector size (default 500 from desc files, half as many copied). Disks with 4096-byte sectors are
//! loop devices and need root; without it those tests say so and pass.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

mod any_desc;
mod any_table;
mod as_is;
mod beside_partitions;
mod disks;
mod examples;
mod from_desc;
mod oracles;
