//! The host name: hostname(5), hosts(5), and every file that repeats the machine's own name.
//!
//! Only whole names are replaced, and only in files about their own machine: `golden` inside `goldenrod` or
//! `my-golden` is another name. A golden node called `localhost` has no name that identifies it.

use super::editor::Editor;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, text};
use crate::plan::Plan;

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
/// Longest name that Linux takes (`HOST_NAME_MAX`), bytes.
const MAX_NAME: usize = 64;
/// Longest NetBIOS name, bytes.
const MAX_NETBIOS: usize = 15;

/// Names of the loopback interface: they belong to every machine (RFC 6761 §6.3, Debian's and Red Hat's hosts
/// files).
const EVERYBODYS: [&str; 9] = [
    "localhost",
    "localhost4",
    "localhost6",
    "localdomain",
    "ip6-localhost",
    "ip6-loopback",
    "loopback",
    "broadcasthost",
    "(none)",
];

/// Files that hold nothing but the name.
const WHOLE: [&str; 4] = [HOSTNAME, "/etc/HOSTNAME", "/etc/nodename", "/etc/myname"];

/// Variables of files that a shell reads.
const VARIABLES: [(&str, &str); 4] = [
    ("/etc/sysconfig/network", "HOSTNAME"),
    ("/etc/conf.d/hostname", "hostname"),
    ("/etc/rc.conf", "HOSTNAME"),
    ("/etc/default/hostname", "HOSTNAME"),
];

/// Settings whose value is the golden name, or a list with it: file or directory, how the file's name ends,
/// keys.
const SETTINGS: [(&str, &str, &[&str]); 22] = [
    ("/etc/mailname", "", &[""]),
    ("/etc/salt/minion_id", "", &[""]),
    ("/etc/machine-info", "", &["PRETTY_HOSTNAME"]),
    (
        "/etc/postfix/main.cf",
        "",
        &[
            "myhostname",
            "mydestination",
            "myorigin",
            "smtp_helo_name",
            "smtpd_banner",
        ],
    ),
    (
        "/etc/exim4/update-exim4.conf.conf",
        "",
        &["dc_other_hostnames", "dc_readhost", "dc_visiblename"],
    ),
    ("/etc/ssmtp/ssmtp.conf", "", &["hostname", "Hostname"]),
    ("/etc/nullmailer/me", "", &[""]),
    ("/etc/avahi/avahi-daemon.conf", "", &["host-name"]),
    ("/etc/mdadm.conf", "", &["HOMEHOST"]),
    ("/etc/mdadm/mdadm.conf", "", &["HOMEHOST"]),
    ("/etc/dhcpcd.conf", "", &["hostname"]),
    (
        "/etc/dhcp/dhclient.conf",
        "",
        &["send host-name", "send fqdn.fqdn", "supersede host-name"],
    ),
    (
        "/etc/dhclient.conf",
        "",
        &["send host-name", "send fqdn.fqdn", "supersede host-name"],
    ),
    ("/etc/puppet/puppet.conf", "", &["certname"]),
    ("/etc/puppetlabs/puppet/puppet.conf", "", &["certname"]),
    ("/etc/salt/minion", "", &["id"]),
    ("/etc/network", "interfaces", &["hostname"]),
    (
        "/etc/sysconfig/network-scripts",
        "",
        &["DHCP_HOSTNAME", "DHCP_FQDN"],
    ),
    ("/etc/sysconfig/network", "", &["DHCLIENT_HOSTNAME_OPTION"]),
    (
        "/etc/NetworkManager/system-connections",
        "",
        &["dhcp-hostname", "dhcp-fqdn"],
    ),
    ("/etc/systemd/network", "", &["Hostname"]),
    // Slackware.
    (
        "/etc/rc.d/rc.inet1.conf",
        "",
        &[
            "DHCP_HOSTNAME[0]",
            "DHCP_HOSTNAME[1]",
            "DHCP_HOSTNAME[2]",
            "DHCP_HOSTNAME[3]",
        ],
    ),
];

/// The golden name and the clone's.
struct Names {
    /// None: the golden node has none of its own.
    golden: Option<String>,
    new: String,
}

pub(super) fn plan(plan: &mut Plan, editor: &mut Editor<'_>, facts: &Facts) -> Result<(), PostError> {
    let golden = written(editor.files())?;
    let names = Names::of(
        &golden.unwrap_or_else(|| facts.golden_host.clone()),
        &facts.node_name,
    );
    // Without the file a system gets its name elsewhere (DHCP): then it goes on doing so.
    for path in WHOLE {
        if let Some(old) = editor.text(path)? {
            let old = first_name(&old).unwrap_or("no name").to_owned();
            editor.replace(
                path,
                format!("{}\n", names.new),
                [format!("{old} becomes {}", names.new)],
            );
        }
    }
    for (path, variable) in VARIABLES {
        let line = format!("{variable}={}", quoted(&names.new));
        editor.lines(path, |old| {
            let is_it = old.split_once('=').is_some_and(|(key, _)| key.trim() == variable);
            is_it.then(|| line.clone())
        })?;
    }
    hosts(editor, &names)?;
    for (place, ending, keys) in SETTINGS {
        let files = editor.files();
        let in_dir = files
            .names(place)
            .into_iter()
            .filter(|name| name.ends_with(ending));
        let paths = std::iter::once(place.to_owned()).chain(in_dir.map(|name| format!("{place}/{name}")));
        for path in paths {
            settings(editor, &path, keys, &names)?;
        }
    }
    samba(plan, editor, &names)
}

/// Returns the golden name as its system has it at boot: in a file of its own, else in a variable.
fn written(files: &dyn Files) -> Result<Option<String>, PostError> {
    for path in WHOLE {
        let text = text(files, path).map_err(PostError::reading(path))?;
        if let Some(name) = text.as_deref().and_then(first_name) {
            return Ok(Some(name.to_owned()));
        }
    }
    for (path, variable) in VARIABLES {
        let text = text(files, path)
            .map_err(PostError::reading(path))?
            .unwrap_or_default();
        let values = text.lines().filter_map(|line| line.split_once('='));
        let mut values = values
            .filter(|(key, _)| key.trim() == variable)
            .map(|(_, value)| value);
        if let Some(name) = values
            .next_back()
            .map(|value| value.trim().trim_matches(['"', '\'']))
            && !name.is_empty()
            && !name.contains(['$', '`', ' '])
        {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

impl Names {
    fn of(golden: &str, node: &str) -> Self {
        let is_own = !golden.is_empty() && !is_everybodys(golden);
        let golden = Some(golden).filter(|_| is_own).map(ToOwned::to_owned);
        Self {
            new: with_domain(node, golden.as_deref().unwrap_or_default()),
            golden,
        }
    }

    /// Returns the clone's word for the whole golden name, its first part, or that with another domain.
    fn replacement(&self, word: &str) -> Option<String> {
        let golden = self.golden.as_deref()?;
        if is_everybodys(word) {
            return None;
        }
        if word.eq_ignore_ascii_case(golden) {
            return Some(self.new.clone());
        }
        let (golden_short, new_short) = (short(golden), short(&self.new));
        if word.eq_ignore_ascii_case(golden_short) {
            return Some(new_short.to_owned());
        }
        let (first, domain) = word.split_once('.')?;
        first
            .eq_ignore_ascii_case(golden_short)
            .then(|| format!("{new_short}.{domain}"))
    }
}

/// Comments may come before it.
fn first_name(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
}

fn is_everybodys(name: &str) -> bool {
    EVERYBODYS
        .iter()
        .any(|everybodys| short(name).eq_ignore_ascii_case(everybodys))
}

/// Returns the clone's name with the domain, if the golden node is named with its domain and the whole is not
/// too long for a host name.
fn with_domain(name: &str, golden: &str) -> String {
    match golden.split_once('.') {
        Some((_, domain)) if !name.contains('.') && name.len() + 1 + domain.len() <= MAX_NAME => {
            format!("{name}.{domain}")
        }
        _ => name.to_owned(),
    }
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Returns a word for a shell. A host name needs no more than these quotes; whatever else comes here does.
fn quoted(value: &str) -> String {
    let is_plain = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_plain {
        format!("\"{value}\"")
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

/// The machine's own lines are those of loopback addresses; all others speak of the golden node as another
/// machine.
fn hosts(editor: &mut Editor<'_>, names: &Names) -> Result<(), PostError> {
    let is_own = |address: &str| address.starts_with("127.") || address == "::1";
    editor.lines(HOSTS, |line| {
        let (entry, comment) = line.find('#').map_or((line, ""), |at| line.split_at(at));
        let address = entry.split_whitespace().next().unwrap_or_default();
        is_own(address)
            .then(|| replace_words(entry, char::is_whitespace, |word| names.replacement(word)) + comment)
    })?;
    // No line was removed whose place the new name could have. It gets a line, as Debian writes it.
    let Some(text) = editor.text(HOSTS)? else {
        return Ok(());
    };
    let knows = |name: &str| {
        let entries = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        entries
            .flat_map(str::split_whitespace)
            .any(|word| word.eq_ignore_ascii_case(name))
    };
    if names.golden.is_none() && !knows(&names.new) {
        let line = match short(&names.new) {
            first if first == names.new => format!("127.0.1.1\t{first}"),
            first => format!("127.0.1.1\t{} {first}", names.new),
        };
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        editor.replace(HOSTS, format!("{text}{end}{line}\n"), [format!("{line} added")]);
    }
    Ok(())
}

/// Changes the values of these keys. An empty key stands for the whole line. Indented lines below a key are
/// part of its value (postconf(5)).
fn settings(editor: &mut Editor<'_>, path: &str, keys: &[&str], names: &Names) -> Result<(), PostError> {
    let mut in_value = false;
    editor.lines(path, |line| {
        if line.trim_start().starts_with(['#', ';']) {
            return None;
        }
        let value = value_at(line, keys);
        in_value = value.is_some() || (in_value && path.ends_with(".cf") && line.starts_with([' ', '\t']));
        let at = value.or(in_value.then_some(0))?;
        let is_end = |c: char| c.is_whitespace() || ",;:=\"'()".contains(c);
        Some(line[..at].to_owned() + &replace_words(&line[at..], is_end, |word| names.replacement(word)))
    })
}

/// Returns the beginning of the value in a line with one of these keys: behind `=`, `:` or white space.
fn value_at(line: &str, keys: &[&str]) -> Option<usize> {
    let start = line.len() - line.trim_start().len();
    keys.iter().find_map(|key| {
        if key.is_empty() {
            return Some(start);
        }
        let rest = line[start..].strip_prefix(key)?;
        let is_end = rest.starts_with([' ', '\t', '=', ':']);
        is_end.then_some(start + key.len())
    })
}

/// smb.conf(5): a NetBIOS name is written in capitals and has 15 bytes at most.
fn samba(plan: &mut Plan, editor: &mut Editor<'_>, names: &Names) -> Result<(), PostError> {
    const SMB: &str = "/etc/samba/smb.conf";
    let Some(golden) = names.golden.as_deref().map(short) else {
        return Ok(());
    };
    let new = short(&names.new);
    let mut is_cut = false;
    editor.lines(SMB, |line| {
        let (key, value) = line.split_once('=')?;
        let words: Vec<&str> = key.split_whitespace().collect();
        let is_name = words.join(" ").eq_ignore_ascii_case("netbios name")
            || words.join(" ").eq_ignore_ascii_case("netbios aliases");
        if !is_name {
            return None;
        }
        let same = |word: &str| {
            let cut = golden.get(..MAX_NETBIOS).unwrap_or(golden);
            word.eq_ignore_ascii_case(golden) || word.eq_ignore_ascii_case(cut)
        };
        let replaced = replace_words(value, char::is_whitespace, |word| {
            if !same(word) {
                return None;
            }
            is_cut |= new.len() > MAX_NETBIOS;
            let name = new.get(..MAX_NETBIOS).unwrap_or(new);
            let in_capitals = !word.bytes().any(|byte| byte.is_ascii_lowercase());
            Some(if in_capitals {
                name.to_ascii_uppercase()
            } else {
                name.to_owned()
            })
        });
        Some(format!("{key}={replaced}"))
    })?;
    if is_cut {
        plan.warnings.push(format!(
            "{SMB}: {new} is longer than the {MAX_NETBIOS} bytes of a NetBIOS name and was cut: another clone may have the same"
        ));
    }
    Ok(())
}

/// Replaces whole words and keeps everything between them.
fn replace_words(
    line: &str,
    is_end: impl Fn(char) -> bool,
    replacement: impl FnMut(&str) -> Option<String>,
) -> String {
    let mut replacement = replacement;
    let mut new = String::with_capacity(line.len());
    let mut word = String::new();
    let mut flush = |word: &mut String, new: &mut String| {
        new.push_str(&replacement(word).unwrap_or_else(|| word.clone()));
        word.clear();
    };
    for c in line.chars() {
        if is_end(c) {
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
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;

    /// Returns the file as it is on a clone called n7.
    fn changed(path: &str, text: &str, golden: &str) -> String {
        let files = Texts::new(&[(HOSTNAME, golden), (path, text)]);
        let mut planned = Plan::default();
        let mut editor = Editor::new(&files, &planned);
        plan(&mut planned, &mut editor, &facts()).unwrap();
        editor.text(path).unwrap().unwrap()
    }

    #[test]
    fn only_the_machines_own_lines_of_hosts_change() {
        let old = "127.0.0.1 localhost\n127.0.1.1\tgolden.example.org golden # golden here\n::1 localhost golden\n\
                   10.0.0.5 golden.example.org golden\n# golden\n127.0.0.9 goldenrod my-golden a.golden\n";
        assert_eq!(
            changed(HOSTS, old, "golden\n"),
            "127.0.0.1 localhost\n127.0.1.1\tn7.example.org n7 # golden here\n::1 localhost n7\n\
             10.0.0.5 golden.example.org golden\n# golden\n127.0.0.9 goldenrod my-golden a.golden\n"
        );
    }

    #[test]
    fn the_golden_name_is_found_where_systems_without_etc_hostname_have_it() {
        for (path, text) in [
            ("/etc/HOSTNAME", "golden.example.org\n"),
            (
                "/etc/conf.d/hostname",
                "# mine\nhostname=\"golden.example.org\"\n",
            ),
            (
                "/etc/sysconfig/network",
                "NETWORKING=yes\nHOSTNAME=golden.example.org\n",
            ),
        ] {
            let hosts = "127.0.0.1\tgolden.example.org golden\n";
            let files = Texts::new(&[(path, text), (HOSTS, hosts)]);
            let mut planned = Plan::default();
            let mut editor = Editor::new(&files, &planned);
            let facts = Facts {
                golden_host: "servers-own".to_owned(),
                ..facts()
            };
            plan(&mut planned, &mut editor, &facts).unwrap();
            let own = editor.text(path).unwrap().unwrap();
            assert!(
                own.contains("n7.example.org") && !own.contains("golden"),
                "{path}: {own}"
            );
            let hosts = editor.text(HOSTS).unwrap().unwrap();
            assert!(
                hosts.starts_with("127.0.0.1\tn7.example.org n7\n"),
                "{path}: {hosts}"
            );
        }
        let inet = "DHCP_HOSTNAME[0]=\"golden\"\nUSE_DHCP[0]=\"yes\"\n";
        assert_eq!(
            changed("/etc/rc.d/rc.inet1.conf", inet, "golden\n"),
            "DHCP_HOSTNAME[0]=\"n7\"\nUSE_DHCP[0]=\"yes\"\n"
        );
    }

    #[test]
    fn a_golden_node_without_a_name_takes_localhost_from_nobody() {
        let red_hat = "127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n\
                       ::1         localhost localhost.localdomain localhost6 localhost6.localdomain6\n";
        for golden in [
            "localhost.localdomain\n",
            "localhost\n",
            "localhost4.localdomain4",
            "ip6-localhost",
            "LOCALHOST",
        ] {
            assert_eq!(
                changed(HOSTS, red_hat, golden),
                format!("{red_hat}127.0.1.1\tn7\n"),
                "{golden}"
            );
            assert_eq!(changed("/etc/HOSTNAME", "x", golden), "n7\n", "{golden}");
        }
        let old = "127.0.0.1 localhost localhost.local local\n";
        assert_eq!(
            changed(HOSTS, old, "local\n"),
            "127.0.0.1 localhost localhost.local n7\n"
        );
    }

    #[test]
    fn every_file_with_the_machines_own_name_follows() {
        let golden = "golden.example.org\n";
        for (path, old, new) in [
            ("/etc/mailname", "golden.example.org\n", "n7.example.org\n"),
            ("/etc/HOSTNAME", "golden.example.org\n", "n7.example.org\n"),
            ("/etc/nodename", "golden\n", "n7.example.org\n"),
            (
                "/etc/postfix/main.cf",
                "# golden\nmyhostname = golden.example.org\nmydestination = $myhostname, golden.example.org,\n  golden, localhost\n\
                 relayhost = golden.example.org\n",
                "# golden\nmyhostname = n7.example.org\nmydestination = $myhostname, n7.example.org,\n  n7, localhost\n\
                 relayhost = golden.example.org\n",
            ),
            (
                "/etc/exim4/update-exim4.conf.conf",
                "dc_other_hostnames='golden.example.org:golden'\n",
                "dc_other_hostnames='n7.example.org:n7'\n",
            ),
            (
                "/etc/samba/smb.conf",
                "[global]\n  netbios name = GOLDEN\n  workgroup = GOLDEN\n",
                "[global]\n  netbios name = N7\n  workgroup = GOLDEN\n",
            ),
            (
                "/etc/conf.d/hostname",
                "hostname=golden\n",
                "hostname=\"n7.example.org\"\n",
            ),
            (
                "/etc/dhcp/dhclient.conf",
                "send host-name \"golden\";\n",
                "send host-name \"n7\";\n",
            ),
            (
                "/etc/dhcpcd.conf",
                "hostname golden\nduid\n",
                "hostname n7\nduid\n",
            ),
            ("/etc/salt/minion_id", "golden.example.org", "n7.example.org"),
            (
                "/etc/mdadm/mdadm.conf",
                "HOMEHOST <system>\nHOMEHOST golden\n",
                "HOMEHOST <system>\nHOMEHOST n7\n",
            ),
            (
                "/etc/network/interfaces",
                "iface e inet dhcp\n  hostname golden\n",
                "iface e inet dhcp\n  hostname n7\n",
            ),
            (
                "/etc/machine-info",
                "PRETTY_HOSTNAME=\"golden\"\n",
                "PRETTY_HOSTNAME=\"n7\"\n",
            ),
        ] {
            assert_eq!(changed(path, old, golden), new, "{path}");
        }
        let long = format!("golden.{}", "x".repeat(62));
        assert_eq!(changed("/etc/HOSTNAME", "x", &long), "n7\n");
    }

    #[test]
    fn what_a_shell_reads_is_one_word_for_it() {
        assert_eq!(quoted("n7.lab"), "\"n7.lab\"");
        assert_eq!(quoted("n7$(id)'x"), r"'n7$(id)'\''x'");
    }

    #[test]
    fn a_clone_is_in_the_golden_nodes_domain() {
        assert_eq!(with_domain("n7", "golden.example.org"), "n7.example.org");
        assert_eq!(with_domain("n7.lab", "golden.example.org"), "n7.lab");
        assert_eq!(with_domain("n7", "golden"), "n7");
    }
}
