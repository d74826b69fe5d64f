//! A report as one page that needs nothing from elsewhere.

use std::fmt::Write;

use super::report::{Report, Table};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;\
padding:0 1rem;color:#222;background:#fff}h1{font-size:1.5rem}table{border-collapse:collapse;\
margin:1rem 0;display:block;overflow-x:auto;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}.facts td{text-align:left;white-space:normal}\
figure{margin:1.5rem 0}figcaption{color:#555}svg{max-width:100%;height:auto}";

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let title = escape(report.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<table class=\"facts\">\n"
    );
    for (name, value) in report.all_facts() {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(&value));
    }
    out.push_str("</table>\n");
    for chart in &report.charts {
        let caption = escape(&chart.caption);
        let _ =
            writeln!(out, "<figure>\n{}\n<figcaption>{caption}</figcaption></figure>", chart.svg());
    }
    for table in &report.tables {
        put_table(&mut out, table);
    }
    for note in &report.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
    out.push_str("</body></html>\n");
    out
}

fn put_table(out: &mut String, table: &Table) {
    out.push_str("<table>\n");
    for (n, row) in std::iter::once(&table.columns).chain(&table.rows).enumerate() {
        let tag = if n == 0 { "th" } else { "td" };
        let cells: String =
            row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        let _ = writeln!(out, "<tr>{cells}</tr>");
    }
    out.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
