//! Text from others on its way to a terminal.

use std::fmt;

/// Shows text with its control characters, and those that turn the direction of the text
/// around them, as `\u{..}`: what strangers write must not move the cursor, colour the screen or
/// begin a line. Tabs stay.
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
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_cannot_move_the_cursor() {
        let text = "red \u{1b}[31m, back \u{202e}, c1 \u{9b}, naïve\n\tend";
        let shown = "red \\u{1b}[31m, back \\u{202e}, c1 \\u{9b}, naïve\\u{a}\tend";
        assert_eq!(Printable(text).to_string(), shown);
    }
}
