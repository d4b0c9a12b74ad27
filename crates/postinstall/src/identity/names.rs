//! The host name: hostname(5), hosts(5), and the files of older systems.

use crate::facts::Facts;
use crate::files::{Files, text};
use crate::plan::{Plan, PostError};

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const MAILNAME: &str = "/etc/mailname";

pub(super) fn plan(plan: &mut Plan, files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let old = text(files, HOSTNAME).map_err(PostError::reading(HOSTNAME))?;
    let golden = old.as_deref().and_then(first_name).map(ToOwned::to_owned);
    let golden = golden.unwrap_or_else(|| facts.golden_host.clone());
    let new = with_domain(&facts.node_name, &golden);
    // Without the file a system gets its name elsewhere (DHCP): then it goes on doing so.
    if old.is_some() {
        let change = vec![format!("{golden} becomes {new}")];
        plan.write(HOSTNAME, format!("{new}\n"), change);
    }
    variable(plan, files, "/etc/sysconfig/network", "HOSTNAME", &new)?;
    variable(plan, files, "/etc/conf.d/hostname", "hostname", &new)?;
    if let Some(old) = text(files, HOSTS).map_err(PostError::reading(HOSTS))? {
        let (text, changes) = hosts(&old, &golden, &new);
        if !changes.is_empty() {
            plan.write(HOSTS, text, changes);
        }
    }
    if let Some(old) = text(files, MAILNAME).map_err(PostError::reading(MAILNAME))?
        && old.trim() == golden
    {
        plan.write(
            MAILNAME,
            format!("{new}\n"),
            vec![format!("{golden} becomes {new}")],
        );
    }
    Ok(())
}

/// Comments may come before it.
fn first_name(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A golden node that is named with its domain has clones that are.
fn with_domain(name: &str, golden: &str) -> String {
    match golden.split_once('.') {
        Some((_, domain)) if !name.contains('.') => format!("{name}.{domain}"),
        _ => name.to_owned(),
    }
}

/// Gives `NAME=` of a shell-like file a new value, if it has one.
fn variable(
    plan: &mut Plan,
    files: &dyn Files,
    path: &str,
    name: &str,
    value: &str,
) -> Result<(), PostError> {
    let Some(old) = text(files, path).map_err(PostError::reading(path))? else {
        return Ok(());
    };
    let is_it = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim() == name);
    if !old.lines().any(is_it) {
        return Ok(());
    }
    let line = format!("{name}=\"{value}\"");
    let lines: Vec<&str> = old
        .lines()
        .map(|old| if is_it(old) { line.as_str() } else { old })
        .collect();
    plan.write(path, format!("{}\n", lines.join("\n")), vec![line.clone()]);
    Ok(())
}

/// The machine's own lines are those of loopback addresses; all others speak of the golden node as another machine.
fn hosts(old: &str, golden: &str, new: &str) -> (String, Vec<String>) {
    let (golden_short, new_short) = (short(golden), short(new));
    let mut changes = Vec::new();
    let mut text = String::with_capacity(old.len());
    for line in old.split_inclusive('\n') {
        let (entry, comment) = line.find('#').map_or((line, ""), |at| line.split_at(at));
        let address = entry.split_whitespace().next().unwrap_or_default();
        if !(address.starts_with("127.") || address == "::1") {
            text.push_str(line);
            continue;
        }
        let replaced = replace_words(entry, |word| {
            if word == golden {
                Some(new.to_owned())
            } else if word == golden_short {
                Some(new_short.to_owned())
            } else {
                let domain = word.strip_prefix(golden_short)?.strip_prefix('.')?;
                Some(format!("{new_short}.{domain}"))
            }
        });
        if replaced != entry {
            changes.push(format!("{} becomes {}", entry.trim(), replaced.trim()));
        }
        text.push_str(&replaced);
        text.push_str(comment);
    }
    (text, changes)
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Replaces whole words and keeps the white space between them. The first, the address, is none of the names.
fn replace_words(line: &str, replacement: impl Fn(&str) -> Option<String>) -> String {
    let mut new = String::with_capacity(line.len());
    let mut word = String::new();
    let flush = |word: &mut String, new: &mut String| {
        new.push_str(&replacement(word).unwrap_or_else(|| word.clone()));
        word.clear();
    };
    for c in line.chars() {
        if c.is_whitespace() {
            flush(&mut word, &mut new);
            new.push(c);
        } else {
            word.push(c);
        }
    }
    flush(&mut word, &mut new);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_lines_of_hosts_change() {
        let old = "127.0.0.1 localhost\n127.0.1.1\tgolden.example.org golden # golden here\n::1 localhost golden\n\
                   10.0.0.5 golden.example.org golden\n# golden\n127.0.0.9 goldenrod\n";
        let (text, changes) = hosts(old, "golden", "n7");
        assert_eq!(
            text,
            "127.0.0.1 localhost\n127.0.1.1\tn7.example.org n7 # golden here\n::1 localhost n7\n\
             10.0.0.5 golden.example.org golden\n# golden\n127.0.0.9 goldenrod\n"
        );
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn a_clone_is_in_the_golden_nodes_domain() {
        assert_eq!(with_domain("n7", "golden.example.org"), "n7.example.org");
        assert_eq!(with_domain("n7.lab", "golden.example.org"), "n7.lab");
        assert_eq!(with_domain("n7", "golden"), "n7");
    }
}
