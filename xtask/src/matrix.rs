//! `cargo xtask matrix`: clones every golden system of the matrix and prints one table of the results.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use ka_tests::interrupt;
use ka_tests::matrix::{self, Case, Part};
use ka_tests::qemu::logs;
use ka_tests::qemu::seats::SEATS;
use serde::Serialize;

use crate::cli::MatrixOptions;
use crate::root;

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    system: &'static str,
    root: &'static str,
    loader: &'static str,
    initramfs: &'static str,
    /// Result of the clone, or the reason why it is unknown.
    result: String,
    /// True if the result is the expected one.
    right: bool,
    seconds: u64,
}

/// Runs the requested cases. Fails if one has another result than expected.
pub(crate) fn run(options: &MatrixOptions) -> Result<()> {
    let cases = chosen(options)?;
    if options.list {
        println!("{}", listed(&cases));
        return Ok(());
    }
    root::enter_lab("matrix", options.no_setup)?;
    ensure!(
        root::is_root(),
        "matrix needs root (namespaces, loop disks, mounts): run it as root or with sudo"
    );
    let rows = run_all(cases)?;
    println!("\n{}", table(&rows));
    if let Some(path) = &options.json {
        write_json(path, &rows)?;
    }
    interrupt::check()?;
    let wrong: Vec<_> = rows.iter().filter(|row| !row.right).map(|row| row.case).collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} are not what they must be: {}",
        wrong.len(),
        rows.len(),
        wrong.join(", ")
    );
    Ok(())
}

fn chosen(options: &MatrixOptions) -> Result<Vec<Case>> {
    let mut cases = matrix::cases();
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| !cases.iter().any(|case| case.name.starts_with(name.as_str())))
    {
        bail!("--only {unknown}: no case's name begins so; --list shows the names");
    }
    cases.retain(|case| {
        let is_named = options
            .only
            .iter()
            .any(|name| case.name.starts_with(name.as_str()));
        (options.only.is_empty() || is_named) && (!options.fast || case.part == Part::Fast)
    });
    ensure!(!cases.is_empty(), "no case of --only is in the part of --fast");
    Ok(cases)
}

/// Runs the cases, as many at a time as machines may run.
fn run_all(cases: Vec<Case>) -> Result<Vec<Row>> {
    let order: Vec<&'static str> = cases.iter().map(|case| case.name).collect();
    let waiting = Mutex::new(VecDeque::from(cases));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut rows = Vec::new();
        while let Some(case) = next() {
            // The directory of a machine's console logs has the name of its thread.
            let named = thread::Builder::new().name(case.name.to_owned());
            let ended = thread::scope(|scope| {
                let thread = named.spawn_scoped(scope, || row(&case))?;
                thread.join().map_err(|_| anyhow!("{} panicked", case.name))
            });
            rows.push(ended?);
            interrupt::check()?;
        }
        Ok(rows)
    };
    let mut rows: Vec<Row> = thread::scope(|scope| {
        let workers: Vec<_> = (0..SEATS).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        ended.collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    rows.sort_by_key(|row| order.iter().position(|name| *name == row.case));
    Ok(rows)
}

fn row(case: &Case) -> Row {
    println!("{}: {}, {}, {} …", case.name, case.system, case.root, case.loader);
    let began = Instant::now();
    let mut result = String::new();
    let checked = logs::reported(|| {
        let checked = panic::catch_unwind(AssertUnwindSafe(|| case.check()));
        result = checked.map_err(|_| anyhow!("the case panicked"))??.to_string();
        Ok(())
    });
    let right = checked.is_ok();
    if let Err(err) = checked {
        result = format!("WRONG: {}", in_short(&format!("{err:#}")));
    }
    let seconds = began.elapsed().as_secs();
    println!("{}: {result} ({seconds} s)", case.name);
    Row {
        case: case.name,
        system: case.system,
        root: case.root,
        loader: case.loader,
        initramfs: case.initramfs,
        result,
        right,
        seconds,
    }
}

/// First and last line of an error: the step, and the last words of its program.
fn in_short(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first} … {last}"),
        None => first.to_owned(),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = empty(&["system", "root", "loader", "initramfs", "result", "s", "case"]);
    for row in rows {
        table.add_row([
            row.system,
            row.root,
            row.loader,
            row.initramfs,
            &row.result,
            &row.seconds.to_string(),
            row.case,
        ]);
    }
    table
}

fn listed(cases: &[Case]) -> Table {
    let mut table = empty(&["system", "root", "loader", "initramfs", "must be", "part", "case"]);
    for case in cases {
        table.add_row([
            case.system,
            case.root,
            case.loader,
            case.initramfs,
            &case.expected.to_string(),
            if case.part == Part::Fast { "fast" } else { "full" },
            case.name,
        ]);
    }
    table
}

fn empty(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table
}

fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
