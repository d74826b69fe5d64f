//! Text from others on its way to a terminal.

use std::fmt;

/// Shows text with its control characters, those that turn the direction of the text around them, and
/// those that cannot be seen or begin a line, as `\u{..}`: what strangers write must not move the
/// cursor, colour the screen, begin a line or pass for another name. Tabs stay.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\t' => write!(f, "{c}"),
            c if is_unsafe(c) => write!(f, "{}", c.escape_unicode()),
            c => write!(f, "{c}"),
        })
    }
}

fn is_unsafe(c: char) -> bool {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |c| matches!(c, '\u{2028}' | '\u{2029}');
    // The joiners U+200C and U+200D stay: scripts and emoji need them.
    let hides = |c| {
        matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    c.is_control() || turns(c) || breaks(c) || hides(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_cannot_move_the_cursor() {
        let text = "red \u{1b}[31m, back \u{202e}, c1 \u{9b}, naïve\n\tend";
        let shown = "red \\u{1b}[31m, back \\u{202e}, c1 \\u{9b}, naïve\\u{a}\tend";
        assert_eq!(Printable(text).to_string(), shown);
        for c in "\u{61c}\u{200b}\u{2028}\u{2029}\u{2060}\u{feff}\u{ad}\u{e0041}".chars() {
            assert_eq!(Printable(&c.to_string()).to_string(), c.escape_unicode().to_string());
        }
        assert_eq!(Printable("👩‍👧 می‌خواهم").to_string(), "👩‍👧 می‌خواهم");
    }
}
