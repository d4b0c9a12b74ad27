//! From bare machine to booted clone: the real binaries, a real Debian, real firmware and network boot ROMs, on QEMU.
//!
//! Needs root and the packages of `xtask/packages.txt`: `cargo xtask test` sees to both.

mod bios;
mod extlinux;
mod firmware;
mod golden_machine;
mod judge;
mod kit;
mod lab;
mod power_cut;
mod programs;
mod systemd_boot;
mod uefi;
mod unarmed;
