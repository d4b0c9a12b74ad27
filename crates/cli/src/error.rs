//! Errors as people read them.

use std::error::Error;
use std::process::ExitCode;

use crate::output;

/// Returns an error with its causes on one line, see [`error_text`].
#[must_use]
pub fn error_line(error: &(dyn Error + 'static)) -> String {
    error_text(error).replace('\n', " / ")
}

/// Returns an error with its causes. A cause that the error before it quotes is left out, and so are the
/// kernel's error numbers. There are several lines only if an error has them itself: a reason, then the
/// choices.
#[must_use]
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut text = without_number(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = without_number(&error.to_string());
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Prints an error as the last act of a program, and returns its exit code.
#[must_use]
pub fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    output::say(&format!("error: {}", error_text(error)));
    ExitCode::from(code)
}

/// Returns the text without `(os error 2)`, which `std` puts behind each message of the kernel.
fn without_number(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => kept += rest,
            _ => kept = format!("{kept} (os error {part}"),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::{fmt, io};

    use super::{error_line, error_text};

    #[derive(Debug)]
    struct Quoting(&'static str, io::Error);

    impl fmt::Display for Quoting {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}: {}", self.0, self.1)
        }
    }

    impl Error for Quoting {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn a_cause_is_named_once_whether_or_not_it_is_quoted() {
        let quoting = || Quoting("writing", io::Error::other("no room\nat all"));
        assert_eq!(error_line(&quoting()), "writing: no room / at all");
        let wrapped = io::Error::other(quoting());
        assert_eq!(error_line(&wrapped), "writing: no room / at all");
        assert_eq!(error_line(&io::Error::other("plain")), "plain");
    }

    #[test]
    fn numbers_of_errors_are_for_programs() {
        let missing = || io::Error::from_raw_os_error(2);
        assert_eq!(error_text(&missing()), "No such file or directory");
        let text = error_text(&Quoting("opening x", missing()));
        assert_eq!(text, "opening x: No such file or directory");
        for text in ["a (os error x) b", "a (os error 2", "(os error 2)"] {
            assert_eq!(error_text(&io::Error::other(text)), text);
        }
        let two = error_text(&io::Error::other("a (os error 2), b (os error 13)."));
        assert_eq!(two, "a, b.");
    }
}
