//! Options that take one of a few words.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Returns the parser of an option whose values are these words. Each word comes with its help and its value.
pub(super) fn words<T, const N: usize>(
    words: [(&'static str, &'static str, T); N],
) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
{
    let possible = words.each_ref();
    let possible = possible.map(|(word, help, _)| PossibleValue::new(*word).help(*help));
    PossibleValuesParser::new(possible).try_map(move |said| {
        let known = words.iter().find(|(word, ..)| *word == said);
        known.map(|(.., value)| value.clone()).ok_or("unknown word")
    })
}
