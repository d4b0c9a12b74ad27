//! The checks of `cargo deny` without that program: licences, sources and banned crates of everything in the
//! lock file.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;
use ka_tests::binaries::workspace;

#[test]
fn every_dependency_has_an_allowed_licence() -> Result<()> {
    let allowed = list_in_deny("allow")?;
    let metadata = MetadataCommand::new().current_dir(workspace()).exec()?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let licence = package.license.clone().unwrap_or_default().replace('/', " OR ");
        if !is_allowed(&licence, &allowed) {
            wrong.push(format!("{} {}: {licence:?}", package.name, package.version));
        }
    }
    assert!(
        wrong.is_empty(),
        "not in deny.toml's list of licences:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn every_dependency_comes_from_the_registry_or_from_here() -> Result<()> {
    let metadata = MetadataCommand::new().current_dir(workspace()).exec()?;
    let foreign = metadata.packages.iter().filter(|package| {
        package
            .source
            .as_ref()
            .is_some_and(|source| !source.repr.contains("crates.io-index"))
    });
    let names: Vec<_> = foreign.map(|package| package.name.to_string()).collect();
    assert!(
        names.is_empty(),
        "neither from crates.io nor from this workspace: {names:?}"
    );
    Ok(())
}

#[test]
fn every_direct_dependency_is_explained() -> Result<()> {
    let explained = fs::read_to_string(workspace().join("docs/dependencies.md"))
        .context("reading docs/dependencies.md")?;
    let metadata = MetadataCommand::new().current_dir(workspace()).no_deps().exec()?;
    let ours: BTreeSet<_> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let used = metadata
        .packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| &dependency.name);
    let silent: BTreeSet<_> = used
        .filter(|name| !ours.contains(*name) && !explained.contains(&format!("`{name}`")))
        .collect();
    assert!(
        silent.is_empty(),
        "docs/dependencies.md does not say what for: {silent:?}"
    );
    Ok(())
}

/// True if an SPDX expression, as cargo writes it, is allowed: any branch of an OR whose every AND part is
/// allowed.
fn is_allowed(licence: &str, allowed: &BTreeSet<String>) -> bool {
    let flat = licence.replace(['(', ')'], "");
    !flat.trim().is_empty()
        && flat
            .split(" OR ")
            .any(|branch| branch.split(" AND ").all(|part| allowed.contains(part.trim())))
}

/// Returns the strings of `name = [ … ]` in deny.toml: one line each, as we write it.
fn list_in_deny(name: &str) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(workspace().join("deny.toml")).context("reading deny.toml")?;
    let start = text
        .find(&format!("\n{name} = ["))
        .with_context(|| format!("deny.toml has no list {name}"))?;
    let list = text[start..].split(']').next().unwrap_or_default();
    Ok(list
        .lines()
        .skip(2)
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect())
}
