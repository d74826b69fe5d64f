//! Vouchers as a page to print and cut up: a code as text and as a QR code on each card. The page
//! loads nothing from anywhere.

use maud::{DOCTYPE, PreEscaped, html};
use qrcode::QrCode;
use qrcode::render::svg;

use crate::attester::Attester;
use crate::voucher::VoucherCode;

const STYLE: &str = include_str!("sheet/style.css");

/// What is the same on all cards.
pub struct Sheet<'a> {
    /// The issuer's name.
    pub issuer: &'a str,
    /// Voucher or allowance.
    pub attester: Attester,
    /// Tokens on each.
    pub tokens: u64,
    /// Unix seconds.
    pub expires_at: u64,
}

impl Sheet<'_> {
    /// The page, HTML.
    pub fn page(&self, codes: &[VoucherCode]) -> String {
        let what = match self.attester {
            Attester::Allowance => format!("{} tokens in every epoch", self.tokens),
            _ => format!("{} tokens", self.tokens),
        };
        let title = format!("{} vouchers of {}", codes.len(), self.issuer);
        html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (title) } style { (PreEscaped(STYLE)) } }
                body {
                    p.note { "Print this page or save it now: the codes are kept nowhere. Whoever has one can use it." }
                    @for code in codes {
                        article {
                            (PreEscaped(qr_svg(&code.text())))
                            div {
                                h2 { (self.issuer) }
                                p { (what) ", until " (time_text(self.expires_at)) }
                                code { (*code.text()) }
                                p.how { "tocyn request --voucher - --issuer URL --relay URL --count N" }
                            }
                        }
                    }
                }
            }
        }
        .into_string()
    }
}

fn qr_svg(text: &str) -> String {
    let code = QrCode::new(text).expect("31 characters fit");
    let svg = code.render::<svg::Color<'_>>().min_dimensions(150, 150).build();
    // What stands in HTML is no document of its own.
    svg.split_once("?>").map_or(svg.clone(), |(_, rest)| rest.to_owned())
}

/// A time as text, UTC.
pub fn time_text(unix_seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix_seconds));
    // Years beyond 9999 have no text form.
    match time.filter(|_| unix_seconds < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn every_code_is_on_the_page_and_nothing_is_loaded() {
        let codes: Vec<_> = (0..3).map(|_| VoucherCode::random(&mut UnwrapErr(SysRng))).collect();
        let sheet = Sheet {
            issuer: "<issuer>",
            attester: Attester::Allowance,
            tokens: 64,
            expires_at: 86_400,
        };
        let page = sheet.page(&codes);
        for code in &codes {
            assert_eq!(page.matches(code.text().as_str()).count(), 1);
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("64 tokens in every epoch, until 1970-01-02T00:00:00Z"));
        assert!(!page.contains("<issuer>") && !page.contains("src=") && !page.contains("href="));
        assert!(!page.contains("<?xml"));
    }
}
