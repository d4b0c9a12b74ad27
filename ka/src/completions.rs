//! Completion scripts of `ka` itself: verbs, and behind a verb the completions of its own program.

use crate::verbs::VERBS;

/// Returns the script for a shell, or `None` for an unknown shell.
pub(crate) fn script(shell: &str) -> Option<String> {
    let verbs: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let verbs = verbs.join(" ");
    match shell {
        "bash" => Some(bash(&verbs)),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// Returns the script for bash(1), Programmable Completion. The verb's own completion gets a line in which
/// `ka VERB` is one word, `ka-VERB`.
fn bash(verbs: &str) -> String {
    format!(
        r#"_ka() {{
    local verb="${{COMP_WORDS[1]}}"
    if [ "$COMP_CWORD" -le 1 ]; then
        COMPREPLY=( $(compgen -W "{verbs} help --help --version --man --completions" -- "${{COMP_WORDS[COMP_CWORD]}}") )
        return
    fi
    case "$verb" in
        help) COMPREPLY=( $(compgen -W "{verbs}" -- "${{COMP_WORDS[COMP_CWORD]}}") ); return ;;
        --completions) COMPREPLY=( $(compgen -W "bash zsh fish" -- "${{COMP_WORDS[COMP_CWORD]}}") ); return ;;
    esac
    case " {verbs} " in *" $verb "*) ;; *) return ;; esac
    if ! complete -p "ka-$verb" > /dev/null 2>&1; then
        source <("ka-$verb" --completions bash 2> /dev/null)
    fi
    local known func
    known=$(complete -p "ka-$verb" 2> /dev/null) || return
    func=${{known#*-F }}
    func=${{func%% *}}
    COMP_WORDS=("ka-$verb" "${{COMP_WORDS[@]:2}}")
    COMP_CWORD=$((COMP_CWORD - 1))
    "$func" "ka-$verb" "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
}}
complete -F _ka -o bashdefault -o default ka
"#
    )
}

/// Returns the script for zsh, zshcompsys(1). The words are changed as `sudo` and `git` change them for their
/// commands.
fn zsh() -> String {
    let described: String = VERBS
        .iter()
        .map(|verb| {
            format!(
                "        '{}:{}'\n",
                verb.name,
                verb.about.replace(':', "\\:").replace('\'', "")
            )
        })
        .collect();
    format!(
        r#"#compdef ka
_ka() {{
    local -a verbs
    verbs=(
{described}        'help:List the verbs, or explain one'
    )
    if (( CURRENT == 2 )); then
        _describe -t verbs 'verb' verbs
        return
    fi
    local verb=$words[2]
    if [[ $verb == help ]]; then
        (( CURRENT == 3 )) && _describe -t verbs 'verb' verbs
        return
    fi
    (( ${{verbs[(I)$verb:*]}} )) || return
    if (( ! $+functions[_ka-$verb] && ! $+_comps[ka-$verb] )); then
        eval "$(ka-$verb --completions zsh 2> /dev/null)"
    fi
    words=("ka-$verb" "${{(@)words[3,-1]}}")
    (( CURRENT-- ))
    if (( $+functions[_ka-$verb] )); then
        _ka-$verb
    else
        _normal
    fi
}}
if [ "$funcstack[1]" = "_ka" ]; then
    _ka "$@"
else
    compdef _ka ka
fi
"#
    )
}

/// Returns the script for fish, complete(1): `complete -C` asks for the completions of another line.
fn fish() -> String {
    let verbs: String = VERBS
        .iter()
        .map(|verb| {
            format!(
                "complete -c ka -n __fish_is_first_token -f -a {} -d '{}'\n\
                 complete -c ka -n '__fish_seen_subcommand_from {0}' -f -a \
                 '(complete -C (string replace -r \"^\\\\s*ka\\\\s+{0}\" \"ka-{0}\" -- (commandline -cp)))'\n",
                verb.name,
                verb.about.replace('\'', "")
            )
        })
        .collect();
    format!("{verbs}complete -c ka -n __fish_is_first_token -f -a help -d 'List the verbs, or explain one'\n")
}
