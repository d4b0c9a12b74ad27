//! The fast part of the matrix of golden systems; `cargo xtask matrix` runs all of it.
//!
//! It needs root and the packages of `xtask/packages.txt`: `cargo xtask test` sees to both.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use ka_tests::matrix::{self, Case, Part};

/// Cases at once: their tools wait for disks more than for processors.
const AT_ONCE: usize = 3;

/// Runs several cases at a time, and names every one with another result than it must have.
fn check(cases: &[Case]) -> Result<()> {
    ensure!(!cases.is_empty(), "no cases");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            match case.check() {
                Ok(outcome) => println!("{}: {outcome}", case.name),
                Err(err) => wrong.push(format!("{}: {err:?}", case.name)),
            }
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        ended.flatten().collect()
    });
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

#[test]
fn golden_systems_of_the_fast_part_become_what_they_must() -> Result<()> {
    let mut cases = matrix::cases();
    cases.retain(|case| case.part == Part::Fast);
    check(&cases)
}
