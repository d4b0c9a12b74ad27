//! Network configuration that is bound to the golden node's cards by their MAC addresses, or that sets an
//! address.
//!
//! A file that is bound to the golden card has no effect in the clone: no network, no report of the first
//! boot. If the golden node had one card, it stands for the one that booted the clone. With several cards,
//! the match is unknown. Then the address is removed if the file names the card in another way, too.
//! Otherwise it stays and is named. A setting of an address is removed, because it would put the same one on
//! a network twice.

pub(super) mod address;
mod netplan;
mod places;

use std::collections::BTreeSet;
use std::ops::Range;

use self::address::{is_nobodys, plain, written_like};
use super::editor::Editor;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::Files;
use crate::plan::Plan;

/// One place in a file with one or more MAC addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// From the first address to the end of the last one.
    value: Range<usize>,
    /// The role of the address in the file.
    role: Role,
    /// The text that goes with it: the line, or the item of a flow mapping.
    cut: Range<usize>,
}

/// The role of an address in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It means the card that has it.
    Binds,
    /// The same, but the file names the card in another way too, or would do without.
    BindsAsWell,
    /// The place sets the address of a card.
    Sets,
}

/// A place, and where it is.
struct Found {
    path: String,
    line: usize,
    place: Place,
    /// In small letters with colons.
    addresses: BTreeSet<String>,
}

pub(super) fn plan(plan: &mut Plan, editor: &mut Editor<'_>, facts: &Facts) -> Result<(), PostError> {
    let mut all = find(editor)?;
    all.retain(|found| !plan.removes(&found.path));
    let decided = Decided::of(&all, facts);
    // From the end of each file, so that ranges stay right.
    for found in all.iter().rev() {
        decided.carry_out(found, plan, editor)?;
    }
    Ok(())
}

/// Returns the addresses that network configuration names as this machine's own.
pub(super) fn named(files: &dyn Files) -> Result<BTreeSet<String>, PostError> {
    let all = find(&mut Editor::new(files, &Plan::default()))?;
    Ok(all.into_iter().flat_map(|found| found.addresses).collect())
}

fn find(editor: &mut Editor<'_>) -> Result<Vec<Found>, PostError> {
    let mut all = Vec::new();
    for (path, format) in places::files(editor.files()) {
        let Some(text) = editor.text(&path)? else { continue };
        for place in places::find(&text, format) {
            let addresses: BTreeSet<String> = address::addresses(&text[place.value.clone()])
                .into_iter()
                .map(|range| plain(&text[place.value.clone()][range]))
                .filter(|address| !is_nobodys(address))
                .collect();
            if !addresses.is_empty() {
                all.push(Found {
                    line: 1 + text[..place.value.start].matches('\n').count(),
                    path: path.clone(),
                    place,
                    addresses,
                });
            }
        }
    }
    Ok(all)
}

/// The treatment of places that bind.
struct Decided<'a> {
    /// The clone's card, if it stands for the golden one.
    card: Option<&'a str>,
    /// The golden node's own cards, if they are known.
    known: &'a [String],
}

impl<'a> Decided<'a> {
    fn of(all: &[Found], facts: &'a Facts) -> Self {
        let known = &facts.boot.golden_cards;
        let mut bound = all
            .iter()
            .filter(|found| found.place.role != Role::Sets && is_golden(found, known))
            .map(|found| &found.addresses);
        let first = bound.next();
        let is_one =
            first.is_some_and(|first| bound.all(|other| other.is_subset(first) || first.is_subset(other)));
        Self {
            card: facts.mac.as_deref().filter(|_| is_one),
            known,
        }
    }

    fn carry_out(&self, found: &Found, plan: &mut Plan, editor: &mut Editor<'_>) -> Result<(), PostError> {
        let Some(text) = editor.text(&found.path)? else {
            return Ok(());
        };
        let Place { value, role, cut } = &found.place;
        let whole_line = line_of(&text, value.start).trim().to_owned();
        let named = || format!("{}:{}: {whole_line}", found.path, found.line);
        if *role == Role::Sets {
            let change = format!("{whole_line} left out: the address is the golden node's");
            cut_out(editor, &found.path, &text, cut, change);
            return Ok(());
        }
        if !is_golden(found, self.known) {
            plan.warnings.push(format!(
                "{} names a card that the golden node does not have: left as it is",
                named()
            ));
            return Ok(());
        }
        match self.card {
            Some(card) => {
                let mut new = text.clone();
                let card = written_like(card, &text[value.clone()]);
                new.replace_range(value.clone(), &card);
                let changed = line_of(&new, value.start).trim().to_owned();
                editor.replace(&found.path, new, [format!("{whole_line} becomes {changed}")]);
                if self.known.len() > 1 {
                    plan.warnings.push(format!(
                        "{}: the golden node has {} cards; taken for the one that this machine was booted from, {card}",
                        named(),
                        self.known.len()
                    ));
                }
            }
            None if *role == Role::BindsAsWell => {
                let change = format!("{whole_line} left out: it names the golden node's card");
                cut_out(editor, &found.path, &text, cut, change);
            }
            None => plan.warnings.push(format!(
                "{} names a card of the golden node, and nobody can tell which of this machine's is meant: name the card in \
                 another way on the golden node (its name, its path), or set it right in a hook",
                named()
            )),
        }
        Ok(())
    }
}

/// True if a place means one of the golden node's cards, as far as these are known.
fn is_golden(found: &Found, known: &[String]) -> bool {
    known.is_empty() || known.iter().any(|card| found.addresses.contains(&plain(card)))
}

fn cut_out(editor: &mut Editor<'_>, path: &str, text: &str, cut: &Range<usize>, change: String) {
    let mut new = text.to_owned();
    new.replace_range(cut.clone(), "");
    editor.replace(path, new, [change]);
}

fn line_of(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |len| at + len);
    &text[start..end]
}
