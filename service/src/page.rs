//! The status page: rendered here, works without JavaScript, and has live numbers with it.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::metrics::History;

/// A table of the page.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    /// A name, and its value as people read it.
    pub rows: Vec<(String, String)>,
}

/// The page's only style. No file of another host is ever loaded.
pub const STYLE: &str = include_str!("page/style.css");
/// Replaces the numbers every few seconds.
pub const SCRIPT: &str = include_str!("page/live.js");

/// A page with this title and body.
pub fn page(title: &str, body: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/style.css";
                script src="/live.js" defer {}
            }
            body { (body) }
        }
    }
    .into_string()
}

/// All of a service's status, and what it offers beside that.
pub fn status(title: &str, sections: &[Section], more: Markup) -> String {
    let body = html! {
        header { h1 { (title) } p #live { "as of the moment when this page was loaded" } }
        main {
            @for (s, section) in sections.iter().enumerate() {
                section {
                    h2 { (section.title) }
                    table {
                        @for (r, (name, value)) in section.rows.iter().enumerate() {
                            tr { th scope="row" { (name) } td id=(format!("v-{s}-{r}")) { (value) } }
                        }
                        @if section.rows.is_empty() { tr { td { "none" } } }
                    }
                }
            }
            (more)
        }
        footer { a href="/metrics" { "metrics" } }
    };
    page(title, body)
}

/// The values of [`status`] by the ids of their places. Where the rows are others than those of the
/// page, the page is to be loaded anew.
pub fn live(sections: &[Section]) -> serde_json::Value {
    let mut values = serde_json::Map::new();
    for (s, section) in sections.iter().enumerate() {
        for (r, (_, value)) in section.rows.iter().enumerate() {
            values.insert(format!("v-{s}-{r}"), value.clone().into());
        }
    }
    values.into()
}

/// What was counted: in the last minute, the last hour, and in all.
pub fn rates(title: &'static str, totals: &[(&'static str, u64)], history: &History) -> Section {
    let minute = history.growth(totals, Duration::from_secs(60));
    let hour = history.growth(totals, Duration::from_secs(3600));
    let rows = totals.iter().zip(minute).zip(hour).map(|(((name, total), minute), hour)| {
        let text = format!(
            "{} in a minute, {} in an hour, {} in all",
            number(minute),
            number(hour),
            number(*total)
        );
        ((*name).to_owned(), text)
    });
    Section { title, rows: rows.collect() }
}

/// `1 234 567`, with narrow spaces.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1.2 GB`.
pub fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "bytes");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

/// Text that is HTML already.
pub fn raw(html: &str) -> Markup {
    PreEscaped(html.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((bytes(999), bytes(1_234_000)), ("999 bytes".into(), "1.2 MB".into()));
    }

    #[test]
    fn what_is_shown_cannot_be_markup() {
        let rows = vec![("<b>".to_owned(), "\"><script>".to_owned())];
        let sections = [Section { title: "x", rows }];
        let page = status("<i>", &sections, html! {});
        assert!(!page.contains("<b>") && !page.contains("\"><script>") && !page.contains("<i>"));
        assert_eq!(live(&sections)["v-0-0"], "\"><script>");
    }
}
