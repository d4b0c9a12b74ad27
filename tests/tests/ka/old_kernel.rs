//! Kernels without a feature that KA needs: refused in one line, before anything is written. The kernel here
//! is a new one; a filter (seccomp(2)) answers as an old one does.

use anyhow::{Result, ensure};
use ka_tests::process::Program;

use crate::kit::Kit;

/// A program that starts the next one and makes system call number `$ENV{KA_NO_CALL}` fail with ENOSYS. The
/// filter is classic BPF over `struct seccomp_data`: load the number; if it is that one, the error, else go
/// on.
const WITHOUT_CALL: &str = r#"
    my $filter = pack("(SCCL)4", 0x20, 0, 0, 0, 0x15, 0, 1, $ENV{KA_NO_CALL}, 0x06, 0, 0, 0x00050026, 0x06, 0, 0, 0x7fff0000);
    my $program = pack("Sx6P", 4, $filter);
    my $prctl = `uname -m` =~ /x86_64/ ? 157 : 167;
    syscall($prctl, 38, 1, 0, 0, 0) == 0 && syscall($prctl, 22, 2, $program) == 0 or die "no filter: $!";
    exec @ARGV or die "exec: $!";
"#;
/// Number of openat2(2), the same on every architecture.
const OPENAT2: &str = "437";

fn without_openat2(program: Program) -> Program {
    program
        .wrapped(&["perl", "-e", WITHOUT_CALL])
        .env("KA_NO_CALL", OPENAT2)
}

#[test]
fn without_openat2_neither_side_begins() -> Result<()> {
    let kit = Kit::small("oldkernel", 1)?;
    let disk = kit.same_disk("n1")?;
    let before = disk.fingerprint()?;
    let root = kit.golden.root().display().to_string();
    let server = without_openat2(kit.lab.server_program()?).args(["--root", &root, "-n", "1"]);
    let ended = server.finish()?;
    ended.expect(1)?.says("openat2")?.says("Linux 5.8 or newer")?;

    let server = kit.server(&["-n", "1", "-r", "none"])?;
    let choice = kit.choice(&disk)?;
    let node = without_openat2(kit.lab.client_program(1, &server)?).args(["--disk", &choice]);
    let ended = node.finish()?;
    ended.expect(1)?.says("openat2")?.says("Linux 5.8 or newer")?;
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error:"));
    ensure!(errors.count() == 1, "{}", ended.stderr);
    ensure!(disk.fingerprint()? == before, "something was written");
    Ok(())
}

/// `setarch --uname-2.6` makes the kernel call itself 2.6.
#[test]
fn a_kernel_that_does_not_tell_of_lost_writes_reads_back_or_says_so() -> Result<()> {
    let kit = Kit::small("olduname", 1)?;
    let disk = kit.same_disk("n1")?;
    let server = kit.server(&["-n", "1", "-r", "none", "--verify=never"])?;
    let choice = kit.choice(&disk)?;
    let node = kit.lab.client_program(1, &server)?.args(["--disk", &choice]);
    let node = node.wrapped(&["setarch", "--uname-2.6"]).finish()?;
    node.expect(0)?
        .says("does not tell of writes that its disk lost")?;
    server.run.wait()?.expect(0).map(drop)
}
