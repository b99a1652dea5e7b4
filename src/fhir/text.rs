//! Text folded for searching: without case, accents and the accidents of spacing, in every script.

use unicode_normalization::UnicodeNormalization;

/// Letters that are written with an accent in some language, but which Unicode does not take apart,
/// and the two forms of sigma.
const LETTERS: [(char, &str); 9] = [
    ('ß', "ss"),
    ('æ', "ae"),
    ('œ', "oe"),
    ('ø', "o"),
    ('ł', "l"),
    ('đ', "d"),
    ('ð', "d"),
    ('þ', "th"),
    ('ς', "σ"),
];

/// The blocks of marks that sit on letters as accents. Vowel signs and the like of other scripts are
/// marks to Unicode too, but they are letters to their readers and stay.
const ACCENTS: [std::ops::RangeInclusive<char>; 5] = [
    '\u{300}'..='\u{36f}',
    '\u{1ab0}'..='\u{1aff}',
    '\u{1dc0}'..='\u{1dff}',
    '\u{20d0}'..='\u{20ff}',
    '\u{fe20}'..='\u{fe2f}',
];

/// The form in which texts are compared: `"  José  ŁUKASZ"` becomes `"jose lukasz"`.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        let letters = text.chars().map(|it| it.to_ascii_lowercase());
        letters.for_each(|letter| append(letter, &mut folded));
    } else {
        // Lowering can make something that comes apart again, and the other way round: hence twice.
        // Letter by letter, since lowering a whole text treats a last sigma differently.
        let letters = text.nfkd().flat_map(char::to_lowercase).nfkd();
        for letter in letters.flat_map(char::to_lowercase) {
            if !ACCENTS.iter().any(|block| block.contains(&letter)) {
                append(letter, &mut folded);
            }
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// Adds a letter, or one space for any stretch of white space between words.
fn append(letter: char, folded: &mut String) {
    if letter.is_whitespace() {
        if !folded.is_empty() && !folded.ends_with(' ') {
            folded.push(' ');
        }
    } else if let Some((_, to)) = LETTERS.iter().find(|(from, _)| *from == letter) {
        folded.push_str(to);
    } else {
        folded.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_accents_and_spacing_do_not_count() {
        for (text, folded) in [
            ("  José   ŁUKASZ ", "jose lukasz"),
            ("Straße", "strasse"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("Ｆｕｌｌ ﬁ", "full fi"),
            ("İstanbul", "istanbul"),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded);
        }
    }

    #[test]
    fn other_scripts_keep_their_letters() {
        assert_eq!(fold("李小龍"), "李小龍");
        assert_eq!(fold("हिन्दी"), "हिन्दी");
        assert_eq!(fold("Иван"), "иван");
        assert_ne!(fold("が"), fold("か"));
    }

    proptest! {
        #[test]
        fn folding_is_idempotent(text in "\\PC{0,40}|.{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
