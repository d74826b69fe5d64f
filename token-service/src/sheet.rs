//! Vouchers as a page to print and cut up: a code as text and as a QR code on each card. The page
//! loads nothing from anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcode::QrCode;
use qrcode::render::svg;
use sha2::{Digest, Sha256};
use tocyn_service::page;
use tocyn_service::time_text;

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

/// What a browser may do with the page: it has its style within, so that it can be saved, and needs
/// nothing else.
pub fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'none'; \
         frame-ancestors 'none'; base-uri 'none'"
    )
}

impl Sheet<'_> {
    /// The page, HTML.
    pub fn page(&self, codes: &[VoucherCode]) -> String {
        self.page_with(codes, html! {})
    }

    /// The page as the status page answers with it.
    pub fn page_with_way_back(&self, codes: &[VoucherCode]) -> String {
        self.page_with(codes, html! { " " a href="/" { "Back to the status page" } })
    }

    fn page_with(&self, codes: &[VoucherCode], way_back: Markup) -> String {
        let tokens = page::count(self.tokens, "token");
        let what = match self.attester {
            Attester::Allowance => format!("{tokens} in every epoch"),
            _ => tokens,
        };
        let title = format!("{} of {}", page::count(codes.len() as u64, "voucher"), self.issuer);
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    p.note {
                        "Print this page or save it now: the codes are kept nowhere. Whoever has one can use it."
                        (way_back)
                    }
                    @for code in codes {
                        article {
                            (PreEscaped(qr_svg(&code.text())))
                            div {
                                h2 { (self.issuer) }
                                p { (what) (until(self.expires_at)) }
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
    let svg = svg.split_once("?>").map_or(svg.as_str(), |(_, rest)| rest);
    svg.replacen("<svg", "<svg role=\"img\" aria-label=\"the code as a QR code\"", 1)
}

fn until(unix_seconds: u64) -> String {
    match short_time_text(unix_seconds).as_str() {
        "never" => String::new(),
        text => format!(", until {text}"),
    }
}

/// `2026-12-25 14:41 UTC`.
pub fn short_time_text(unix_seconds: u64) -> String {
    let text = time_text(unix_seconds);
    match text.split_once('T') {
        Some((day, time)) => format!("{day} {} UTC", &time[..5]),
        None => text,
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
        assert!(page.contains("64 tokens in every epoch, until 1970-01-02 00:00 UTC"));
        assert!(!page.contains("<issuer>") && !page.contains("src=") && !page.contains("href="));
        assert!(!page.contains("<?xml"));
    }

    #[test]
    fn one_voucher_is_not_several_and_its_page_can_lead_back() {
        let code = [VoucherCode::random(&mut UnwrapErr(SysRng))];
        let sheet = Sheet {
            issuer: "issuer",
            attester: Attester::Voucher,
            tokens: 1,
            expires_at: u64::MAX,
        };
        let page = sheet.page_with_way_back(&code);
        assert!(page.contains("<title>1 voucher of issuer</title>"), "{page}");
        assert!(page.contains("<p>1 token</p>"), "{page}");
        assert!(page.contains("<a href=\"/\">"), "{page}");
    }
}
