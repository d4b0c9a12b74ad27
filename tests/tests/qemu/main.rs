//! From bare machine to booted clone: the real binaries, a real Debian, real firmware and network boot ROMs,
//! on QEMU.
//!
//! The tests need root and the packages of `xtask/packages.txt`: `cargo xtask test` sees to both.

mod bios;
mod boot_server;
mod extlinux;
mod firmware;
mod golden_machine;
mod judge;
mod machines;
mod packaged;
mod power_cut;
mod programs;
mod systemd_boot;
mod uefi;
mod unarmed;
