//! The status page: rendered here, works without JavaScript, and has live numbers with it.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use crate::metrics::History;

/// A table of the page.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    /// What the columns beside the names are, if there are several.
    pub columns: Vec<&'static str>,
    /// The rows. Where there are none, one says so.
    pub rows: Vec<Row>,
}

/// A row of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// As people read them.
    pub values: Vec<String>,
    /// Whether the operator has to do something about it.
    pub alarm: bool,
}

impl Section {
    /// A table with one column beside the names.
    pub fn new(title: &'static str, rows: Vec<Row>) -> Self {
        let none = || vec![Row { name: "none".to_owned(), values: Vec::new(), alarm: false }];
        Self { title, columns: Vec::new(), rows: if rows.is_empty() { none() } else { rows } }
    }
}

impl Row {
    /// A row with one value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), values: vec![value.into()], alarm: false }
    }

    /// The same, standing out if something is wrong.
    pub fn alarm_if(self, alarm: bool) -> Self {
        Self { alarm, ..self }
    }
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
            @for section in sections {
                section {
                    h2 { (section.title) }
                    (table(section))
                }
            }
            (more)
        }
        footer { a href="/metrics" { "metrics" } " for Prometheus" }
    };
    page(title, body)
}

/// The script changes what is in these, and builds rows just so.
fn table(section: &Section) -> Markup {
    html! {
        table.live aria-label=(section.title) {
            @if !section.columns.is_empty() {
                thead { tr { td {} @for column in &section.columns { th scope="col" { (column) } } } }
            }
            tbody {
                @for row in &section.rows {
                    tr class=[row.alarm.then_some("bad")] {
                        th scope="row" { (row.name) }
                        @for value in &row.values { td { (value) } }
                    }
                }
            }
        }
    }
}

/// The tables of [`status`] for the script.
pub fn live(sections: &[Section]) -> serde_json::Value {
    serde_json::json!({ "sections": sections })
}

/// What was counted: in the last minute, the last hour, and in all.
pub fn rates(title: &'static str, totals: &[(&'static str, u64)], history: &History) -> Section {
    let minute = history.growth(totals, Duration::from_secs(60));
    let hour = history.growth(totals, Duration::from_secs(3600));
    let rows = totals.iter().zip(minute).zip(hour).map(|(((name, total), minute), hour)| {
        let values = [minute, hour, *total].map(number).to_vec();
        Row { name: (*name).to_owned(), values, alarm: false }
    });
    let mut section = Section::new(title, rows.collect());
    if !totals.is_empty() {
        section.columns = vec!["last minute", "last hour", "all"];
    }
    section
}

/// `1 voucher`, `1 234 vouchers`.
pub fn count(of: u64, one: &str) -> String {
    format!("{} {one}{}", number(of), if of == 1 { "" } else { "s" })
}

/// `6 days 23 hours`: the two largest units.
pub fn duration(seconds: u64) -> String {
    let units =
        [("day", 86_400, u64::MAX), ("hour", 3600, 24), ("minute", 60, 60), ("second", 1, 60)];
    let parts = units.map(|(unit, length, of)| (seconds / length % of, unit));
    let first = parts.iter().position(|(many, _)| *many > 0).unwrap_or(parts.len() - 1);
    let shown = parts[first..].iter().take(2).enumerate();
    let shown = shown.filter(|(place, (many, _))| *place == 0 || *many > 0);
    shown.map(|(_, (many, unit))| count(*many, unit)).collect::<Vec<_>>().join(" ")
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
    // The unit stays beside its number.
    if unit == "bytes" { format!("{bytes}\u{a0}bytes") } else { format!("{value:.1}\u{a0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((bytes(999), bytes(1_234_000)), ("999\u{a0}bytes".into(), "1.2\u{a0}MB".into()));
    }

    #[test]
    fn one_is_no_plural_and_times_are_as_long_as_one_cares_for() {
        assert_eq!((count(1, "token"), count(0, "token")), ("1 token".into(), "0 tokens".into()));
        let texts = [0, 61, 3600, 90_061, 604_799, 86_403].map(duration);
        let said = [
            "0 seconds",
            "1 minute 1 second",
            "1 hour",
            "1 day 1 hour",
            "6 days 23 hours",
            "1 day",
        ];
        assert_eq!(texts, said);
    }

    #[test]
    fn what_is_shown_cannot_be_markup() {
        let rows = vec![Row::new("<b>", "\"><script>")];
        let sections = [Section::new("x", rows)];
        let page = status("<i>", &sections, html! {});
        assert!(!page.contains("<b>") && !page.contains("\"><script>") && !page.contains("<i>"));
        assert_eq!(live(&sections)["sections"][0]["rows"][0]["values"][0], "\"><script>");
    }

    #[test]
    fn a_table_without_rows_says_so_and_an_alarm_stands_out() {
        let rows = vec![Row::new("database", "does not answer").alarm_if(true)];
        let sections = [rates("Refused", &[], &History::default()), Section::new("State", rows)];
        let page = status("x", &sections, html! {});
        assert!(page.contains("<tr><th scope=\"row\">none</th></tr>"), "{page}");
        assert!(page.contains("<tr class=\"bad\"><th scope=\"row\">database</th>"), "{page}");
    }
}
