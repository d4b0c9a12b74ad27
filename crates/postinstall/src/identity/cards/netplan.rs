//! netplan's YAML, and cloud-init's network configuration: enough of the language to know in which mapping a
//! key stands, in block form and in flow form. Everything else of a file stays byte for byte.

use std::ops::Range;

use super::address::addresses;
use super::{Place, Role};

/// Finds `macaddress:` (netplan) and `mac_address:` (cloud-init) with an address. In a `match:` it binds, as
/// it does for a card of cloud-init's (`type: physical`); beside it, it sets.
pub(super) fn find(text: &str) -> Vec<Place> {
    addresses(text)
        .into_iter()
        .filter_map(|value| place(text, value))
        .collect()
}

fn place(text: &str, value: Range<usize>) -> Option<Place> {
    let line_start = text[..value.start].rfind('\n').map_or(0, |at| at + 1);
    if is_in_comment(&text[line_start..value.start]) {
        return None;
    }
    let item = item_start(&text[..value.start]);
    let (key, _) = text[item..value.start].split_once(':')?;
    let parent = match open_brace(&text[..item]) {
        Some(brace) => key_before(&text[..brace]),
        None => block_parent(text, line_start),
    };
    let role = match (unquoted(key), parent.as_deref()) {
        ("macaddress", Some("match")) => Role::Binds,
        ("macaddress", _) => Role::Sets,
        ("mac_address", _) => Role::Binds,
        _ => return None,
    };
    Some(Place {
        cut: cut(text, line_start, item, value.end),
        value,
        role,
    })
}

/// `#` begins a comment behind white space, outside quotes.
fn is_in_comment(line: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if before.is_whitespace() => return true,
            _ => {}
        }
        before = c;
    }
    false
}

/// Returns the beginning of the item whose value comes next: behind a comma, a brace or the line's
/// indentation and dash.
fn item_start(before: &str) -> usize {
    let at = before.rfind(['\n', ',', '{', '[']).map_or(0, |at| at + 1);
    let rest = &before[at..];
    at + (rest.len() - rest.trim_start_matches([' ', '\t', '-', '?']).len())
}

/// Returns the innermost brace that is still open.
fn open_brace(before: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in before.char_indices().rev() {
        match c {
            '}' => depth += 1,
            '{' if depth == 0 => return Some(at),
            '{' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns the key whose value begins where `before` ends.
fn key_before(before: &str) -> Option<String> {
    let before = before.trim_end().strip_suffix(':')?;
    Some(unquoted(&before[item_start(before)..]).to_owned())
}

/// Returns the key of the mapping that this line's item is in: the nearest line above that is less indented.
fn block_parent(text: &str, line_start: usize) -> Option<String> {
    let width = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let own = width(text[line_start..].lines().next()?);
    let above = text[..line_start].lines().rev();
    let parent = above
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .find(|line| width(line) < own)?;
    let (key, _) = parent.trim().trim_start_matches("- ").split_once(':')?;
    Some(unquoted(key).to_owned())
}

fn unquoted(key: &str) -> &str {
    key.trim().trim_matches(['"', '\''])
}

/// Returns the whole line where the item is alone on it; in a flow mapping the item and one comma.
fn cut(text: &str, line_start: usize, item: usize, value_end: usize) -> Range<usize> {
    let line_end = text[value_end..]
        .find('\n')
        .map_or(text.len(), |len| value_end + len + 1);
    let rest = &text[value_end..line_end];
    let tail = rest.trim_start_matches(['\'', '"', ' ', '\t']);
    let item_end = value_end + rest.len() - tail.len();
    let is_alone = text[line_start..item].trim_matches([' ', '\t']).is_empty()
        && (tail.trim().is_empty() || tail.trim_start().starts_with('#'));
    if is_alone {
        return line_start..line_end;
    }
    if let Some(next) = tail.strip_prefix(',') {
        let spaces = next.len() - next.trim_start_matches(' ').len();
        return item..item_end + 1 + spaces;
    }
    // The last item: the comma before it goes.
    let before = text[..item].trim_end();
    match before.strip_suffix(',') {
        Some(before) => before.len()..item_end,
        None => item..item_end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Vec<Role> {
        find(text).into_iter().map(|place| place.role).collect()
    }

    #[test]
    fn what_a_match_holds_binds_and_what_stands_beside_it_sets() {
        for text in [
            "      match: {macaddress: '52:54:00:aa:bb:01'}\n",
            "      match:\n        macaddress: 52:54:00:aa:bb:01\n      set-name: ens3\n",
            "      match:\n        name: en*\n        # the one card\n        macaddress: \"52:54:00:aa:bb:01\"\n",
            "{\"ethernets\": {\"ens3\": {\"match\": {\"macaddress\": \"52:54:00:aa:bb:01\"}}}}",
            "ens3: {dhcp4: true, match: {name: ens3, macaddress: 52:54:00:aa:bb:01}, set-name: ens3}",
            "      match: {\n        macaddress: 52:54:00:aa:bb:01,\n      }\n",
            "      - type: physical\n        mac_address: '52:54:00:aa:bb:01'\n",
        ] {
            assert_eq!(roles(text), [Role::Binds], "{text}");
        }
        for text in [
            "    br0:\n      macaddress: 52:54:00:aa:bb:01\n      dhcp4: true\n",
            "    br0: {macaddress: 52:54:00:aa:bb:01, dhcp4: true}\n",
            "    br0: {match: {name: x}, macaddress: 52:54:00:aa:bb:01}\n",
        ] {
            assert_eq!(roles(text), [Role::Sets], "{text}");
        }
        for text in [
            "  # macaddress: 52:54:00:aa:bb:01\n",
            "  other: 52:54:00:aa:bb:01\n",
        ] {
            assert_eq!(roles(text), [], "{text}");
        }
    }

    #[test]
    fn what_is_cut_leaves_a_mapping() {
        for (text, left) in [
            (
                "    br0:\n      macaddress: 52:54:00:aa:bb:01 # old\n      dhcp4: true\n",
                "    br0:\n      dhcp4: true\n",
            ),
            (
                "br0: {macaddress: '52:54:00:aa:bb:01', dhcp4: true}\n",
                "br0: {dhcp4: true}\n",
            ),
            (
                "br0: {dhcp4: true, macaddress: 52:54:00:aa:bb:01}\n",
                "br0: {dhcp4: true}\n",
            ),
            ("br0: {macaddress: 52:54:00:aa:bb:01}\n", "br0: {}\n"),
        ] {
            let place = find(text).remove(0);
            let mut new = text.to_owned();
            new.replace_range(place.cut, "");
            assert_eq!(new, left);
        }
    }
}
