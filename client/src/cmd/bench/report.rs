//! A report: how it was measured, tables, plots. It goes to people as text, to programs as JSON,
//! and to anyone as one page of HTML.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::charts::Chart;
use super::{html, machine};
use crate::cli::CliResult;
use crate::output::print;

/// Where a report goes.
#[derive(clap::Args)]
pub(crate) struct Output {
    /// Write JSON to FILE; without FILE to standard output, in place of the tables.
    // Of the same name and type as the global option, so that it stands in its place.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write a page with plots, complete in itself, to FILE.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What a benchmark has to say.
pub(crate) struct Report {
    pub(crate) title: &'static str,
    /// How it was measured: name, value.
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) tables: Vec<Table>,
    pub(crate) notes: Vec<String>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) json: Value,
}

/// Rows of text under captions. The first column is for names, the others for numbers.
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(str::to_owned).into(), rows: Vec::new() }
    }
}

impl Output {
    /// Whether standard output is for programs.
    fn is_json_only(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// A progress bar, where there is somebody to see it.
    pub(crate) fn bar(&self, total: u64, what: impl Into<String>) -> ProgressBar {
        if self.is_json_only() || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {bar:40} {percent}%, {elapsed}")
            .expect("the template is well formed");
        ProgressBar::new(total).with_style(style).with_message(what.into())
    }

    /// Fails now rather than after a long run.
    pub(crate) fn check(&self) -> CliResult {
        for path in [&self.json, &self.html].into_iter().flatten() {
            if path != Path::new("-") {
                let open = OpenOptions::new().append(true).create(true).open(path);
                open.map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Writes the report to where it was asked for.
    pub(crate) fn publish(&self, report: &Report) -> CliResult {
        let mut json = report.json.clone();
        json["machine"] = machine::describe();
        if let Some(path) = &self.html {
            write(path, &html::page(report))?;
        }
        match &self.json {
            Some(_) if self.is_json_only() => print(&json)?,
            Some(path) => write(path, &format!("{json:#}\n"))?,
            None => {}
        }
        if !self.is_json_only() {
            print(report.text().trim_end())?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "it can be measured again")]
fn write(path: &Path, text: &str) -> CliResult {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

impl Report {
    /// The facts, those about the machine first.
    pub(crate) fn all_facts(&self) -> Vec<(&'static str, String)> {
        machine::facts().into_iter().chain(self.facts.iter().cloned()).collect()
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.title);
        let facts = self.all_facts();
        let widest = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            let _ = writeln!(out, "{name:<widest$}  {value}");
        }
        for table in &self.tables {
            out.push('\n');
            out.push_str(&table.text());
        }
        for note in &self.notes {
            let _ = writeln!(out, "\n{note}");
        }
        out
    }
}

impl Table {
    fn text(&self) -> String {
        let mut out = String::new();
        let width = |n: usize| {
            let cells = self.rows.iter().map(|row| &row[n]);
            cells.chain([&self.columns[n]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match n {
                    0 => write!(out, "{cell:<width$}"),
                    _ => write!(out, "  {cell:>width$}"),
                };
            }
            out.push('\n');
        }
        out
    }
}

/// A number that may be unknown, with so many digits after the point.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["step", "us"]);
        table.rows.push(vec!["blind".to_owned(), "30.83".to_owned()]);
        table.rows.push(vec!["issue".to_owned(), number(None, 2)]);
        assert_eq!(table.text(), "step      us\nblind  30.83\nissue      -\n");
        assert_eq!(number(Some(1.0 / 3.0), 3), "0.333");
    }
}
