//! The division of a line into words, with quotation marks and comments.

use super::Problem;

/// Splits a line into words. A `#` at the start of a word begins a comment. Inside `"…"` only `\"` and `\\`
/// have a meaning of their own.
pub(super) fn split(line: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = take_word(rest)?;
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Takes one word from the start of `text`, which does not begin with white space.
fn take_word(text: &str) -> Result<(String, &str), Problem> {
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => match chars.next() {
                Some((_, next @ ('"' | '\\'))) => word.push(next),
                // Any other backslash stands for itself, so that fstab's own \040 stays as it is.
                Some((_, next)) => word.extend(['\\', next]),
                None => return Err(Problem::OpenQuote),
            },
            _ if c.is_whitespace() && !quoted => return Ok((word, &text[at..])),
            _ if c.is_control() => return Err(Problem::ControlCharacter(u32::from(c))),
            _ => word.push(c),
        }
    }
    if quoted {
        Err(Problem::OpenQuote)
    } else {
        Ok((word, ""))
    }
}

/// Writes a value so that [`split`] reads it back as one word.
pub(super) fn quote(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\\' | '#');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_is_one_word() {
        let words = split("  esp\t512M name=\"EFI \\\"System\\\" #1\" boot # rest").unwrap();
        assert_eq!(words, ["esp", "512M", "name=EFI \"System\" #1", "boot"]);
    }

    #[test]
    fn a_hash_inside_a_word_is_no_comment() {
        assert_eq!(split("label=a#b #c").unwrap(), ["label=a#b"]);
    }

    #[test]
    fn an_open_quote_and_control_characters_are_refused() {
        assert_eq!(split("name=\"x"), Err(Problem::OpenQuote));
        assert_eq!(split("name=\"x\\"), Err(Problem::OpenQuote));
        assert_eq!(split("name=x\u{7}"), Err(Problem::ControlCharacter(7)));
    }

    #[test]
    fn quoting_is_read_back() {
        for value in ["a", "a b", "a\"b", "a\\b", "#a", "a\\", ""] {
            assert_eq!(
                split(&format!("k={}", quote(value))).unwrap(),
                [format!("k={value}")]
            );
        }
    }
}
