//! The list of what the programs are made of, in CycloneDX 1.5 (ECMA-424), for tools that look for known faults.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context as _, Result};
use ka_tests::binaries;
use serde_json::{Value, json};

use super::licences::{self, Linked};
use super::{Release, date, needs};

/// The document.
///
/// # Errors
/// `Cargo.lock` cannot be read.
pub(super) fn document(release: &Release, linked: &[Linked]) -> Result<String> {
    let checksums = checksums()?;
    let mut components: Vec<Value> = linked
        .iter()
        .map(|one| component(one, checksums.get(&(one.name.clone(), one.version.clone()))))
        .collect();
    let (rust, glibc) = (licences::rust_version()?, needs::glibc_here()?);
    components.push(library(
        "std",
        &rust,
        &format!("pkg:generic/rust-std@{rust}"),
        "MIT OR Apache-2.0",
    ));
    components.push(library(
        "glibc",
        &glibc,
        &format!("pkg:generic/glibc@{glibc}"),
        "LGPL-2.1-or-later",
    ));
    let uses: Vec<Value> = linked
        .iter()
        .map(|one| {
            let uses: Vec<String> = one
                .uses
                .iter()
                .map(|(name, version)| purl(name, version))
                .collect();
            json!({ "ref": purl(&one.name, &one.version), "dependsOn": uses })
        })
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": date(release.epoch, "+%Y-%m-%dT%H:%M:%SZ")?,
            "tools": { "components": [{ "type": "application", "name": "cargo xtask package", "version": release.version }] },
            "component": {
                "type": "application",
                "bom-ref": "ka",
                "name": "ka",
                "version": release.version,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": uses,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}

fn component(one: &Linked, checksum: Option<&String>) -> Value {
    let purl = purl(&one.name, &one.version);
    let mut value = library(&one.name, &one.version, &purl, &one.licence);
    if let Some(checksum) = checksum {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    value
}

fn library(name: &str, version: &str, purl: &str, licence: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{ "expression": licence }],
    })
}

/// A package URL (github.com/package-url/purl-spec, type cargo).
fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// The SHA-256 of each crate's archive, by name and version.
fn checksums() -> Result<HashMap<(String, String), String>> {
    let text = fs::read_to_string(binaries::workspace().join("Cargo.lock")).context("reading Cargo.lock")?;
    let field = |block: &str, name: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = ")))?;
        Some(line.trim_matches('"').to_owned())
    };
    let found = text.split("[[package]]").filter_map(|block| {
        let checksum = field(block, "checksum")?;
        Some(((field(block, "name")?, field(block, "version")?), checksum))
    });
    Ok(found.collect())
}
