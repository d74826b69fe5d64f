//! Vouchers on the status page.

use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use getrandom::SysRng;
use maud::{Markup, html};
use rand_core::UnwrapErr;
use serde::Deserialize;
use tocyn_service::page;

use super::Operator;
use super::session::Session;
use crate::attester::Attester;
use crate::http::{ApiError, AppState};
use crate::sheet;
use crate::store::{VOUCHER_ID_BYTES, VoucherRow};
use crate::voucher::VoucherCode;

/// The most vouchers at once here; the command makes more.
const MAX_COUNT: u32 = 1000;
const MAX_DAYS: u64 = 36_500;
const MAX_TOKENS: u64 = 1_000_000_000;
const MAX_LABEL: usize = 200;
/// The newest vouchers are shown, and the others not.
const SHOWN: usize = 200;
const DAY_SECONDS: u64 = 86_400;

pub(super) async fn page(
    State(operator): State<Operator>,
    headers: HeaderMap,
) -> Result<Html<String>, ApiError> {
    let more = match operator.sessions.of(&headers) {
        None => log_in_form(""),
        Some(session) => panel(&operator, &session).await?,
    };
    Ok(operator.admin.status(more).await)
}

#[derive(Deserialize)]
pub(super) struct LogIn {
    credential: String,
}

pub(super) async fn login(State(operator): State<Operator>, Form(form): Form<LogIn>) -> Response {
    match operator.sessions.log_in(&form.credential) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => {
            let wrong = "This is not the credential. It is in the file admin.credential of the data folder.";
            let body = html! { main { (log_in_form(wrong)) } footer { a href="/" { "Back to the status page" } } };
            (StatusCode::FORBIDDEN, Html(page::page("Log in", body))).into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct LogOut {
    csrf: String,
}

pub(super) async fn logout(
    State(operator): State<Operator>,
    headers: HeaderMap,
    Form(form): Form<LogOut>,
) -> Response {
    match operator.sessions.of_form(&headers, &form.csrf) {
        None => not_logged_in(),
        Some(session) => {
            operator.sessions.end(&session);
            Redirect::to("/").into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Create {
    csrf: String,
    tokens: u64,
    count: u32,
    days: u64,
    #[serde(default)]
    label: String,
    #[serde(default)]
    allowance: Option<String>,
}

pub(super) async fn create(
    State(operator): State<Operator>,
    headers: HeaderMap,
    Form(form): Form<Create>,
) -> Result<Response, ApiError> {
    if operator.sessions.of_form(&headers, &form.csrf).is_none() {
        return Ok(not_logged_in());
    }
    let label = form.label.trim();
    if !(1..=MAX_TOKENS).contains(&form.tokens)
        || !(1..=MAX_COUNT).contains(&form.count)
        || !(1..=MAX_DAYS).contains(&form.days)
        || label.chars().count() > MAX_LABEL
    {
        let what = format!(
            "1 to {MAX_TOKENS} tokens, 1 to {MAX_COUNT} vouchers, 1 to {MAX_DAYS} days, and at most \
             {MAX_LABEL} characters of a label."
        );
        return Ok(refusal(&what));
    }
    let attester = match form.allowance {
        Some(_) => Attester::Allowance,
        None => Attester::Voucher,
    };
    let state = &operator.state;
    if !is_on(state, attester) {
        let name = attester.name();
        let what = format!("attesters.{name}.enabled is false: such vouchers would not be taken.");
        return Ok(refusal(&what));
    }
    let codes: Vec<VoucherCode> =
        (0..form.count).map(|_| VoucherCode::random(&mut UnwrapErr(SysRng))).collect();
    let hashes: Vec<[u8; 32]> = codes.iter().map(VoucherCode::hash).collect();
    let expires_at = state.now().saturating_add(form.days * DAY_SECONDS);
    state.store.create_vouchers(&hashes, attester, form.tokens, expires_at).await?;
    if !label.is_empty() {
        state.store.label_vouchers(&hashes, label).await?;
    }
    // Not redirected: the codes are shown once, and kept nowhere.
    let issuer = state.keyring.pairing().issuer_name();
    let sheet = sheet::Sheet { issuer, attester, tokens: form.tokens, expires_at };
    let policy = [(header::CONTENT_SECURITY_POLICY, sheet::policy())];
    Ok((policy, Html(sheet.page_with_way_back(&codes))).into_response())
}

fn is_on(state: &AppState, attester: Attester) -> bool {
    state.attesters.budgets().each[attester as usize].is_some()
}

#[derive(Deserialize)]
pub(super) struct Revoke {
    csrf: String,
    id: String,
}

pub(super) async fn revoke(
    State(operator): State<Operator>,
    headers: HeaderMap,
    Form(form): Form<Revoke>,
) -> Result<Response, ApiError> {
    if operator.sessions.of_form(&headers, &form.csrf).is_none() {
        return Ok(not_logged_in());
    }
    let mut id = [0; VOUCHER_ID_BYTES];
    if hex::decode_to_slice(&form.id, &mut id).is_err() {
        return Ok(refusal("This is no id of a voucher."));
    }
    operator.state.store.revoke_voucher(&id, operator.state.now()).await?;
    Ok(Redirect::to("/").into_response())
}

fn not_logged_in() -> Response {
    refusal("You are not logged in, or this form is not of this page. Go back and load it anew.")
}

fn refusal(what: &str) -> Response {
    let body = html! { main { section { p.bad { (what) } p { a href="/" { "Back to the status page" } } } } };
    (StatusCode::FORBIDDEN, Html(page::page("Refused", body))).into_response()
}

fn log_in_form(wrong: &str) -> Markup {
    html! {
        section {
            h2 { "Vouchers" }
            @if !wrong.is_empty() { p.bad role="alert" { (wrong) } }
            form method="post" action="/login" {
                label.long { "credential, from admin.credential in the data folder"
                    input type="password" name="credential" required autocomplete="off"; }
                button { "Log in" }
            }
        }
    }
}

async fn panel(operator: &Operator, session: &Session) -> Result<Markup, ApiError> {
    let (state, csrf) = (&operator.state, session.csrf());
    let (rows, labels) = (state.store.list_vouchers().await?, state.store.labels().await?);
    let now = state.now();
    let label = |row: &VoucherRow| labels.get(&row.id).cloned().unwrap_or_default();
    // The newest first; what was used of each is not shown beside its label.
    let shown = rows.iter().rev().take(SHOWN);
    Ok(html! {
        section.wide.screen {
            h2 { "New vouchers" }
            (create_form(state, &csrf))
        }
        section.wide {
            h2 { "Vouchers" }
            @if !rows.is_empty() {
                table.list {
                    thead { tr {
                        @for column in ["id", "kind", "label", "tokens", "expires", "state"] {
                            th scope="col" { (column) }
                        }
                        td {}
                    } }
                    tbody { @for row in shown { (voucher(row, &label(row), now, &csrf)) } }
                }
            }
            p.note {
                (page::count(rows.len() as u64, "voucher")) " in all"
                @if rows.len() > SHOWN { "; the newest " (SHOWN) " are here" } "."
            }
            form method="post" action="/logout" {
                input type="hidden" name="csrf" value=(csrf);
                button { "Log out" }
            }
        }
    })
}

fn create_form(state: &AppState, csrf: &str) -> Markup {
    let (voucher, allowance) = (is_on(state, Attester::Voucher), is_on(state, Attester::Allowance));
    html! {
        @if !voucher && !allowance {
            p.note { "Neither attesters.voucher.enabled nor attesters.allowance.enabled is true: no codes are taken." }
        } @else {
            form method="post" action="/vouchers" {
                input type="hidden" name="csrf" value=(csrf);
                // The smallest batch that a client asks for is 16.
                label { "tokens on each" input type="number" name="tokens" value="256" min="16" max=(MAX_TOKENS) step="16" required; }
                label { "how many vouchers" input type="number" name="count" value="1" min="1" max=(MAX_COUNT) required; }
                label { "days to use them" input type="number" name="days" value="30" min="1" max=(MAX_DAYS) required; }
                label.long { "label, for you only" input type="text" name="label" maxlength=(MAX_LABEL) autocomplete="off"; }
                @if allowance {
                    label.tick {
                        input type="checkbox" name="allowance" checked[!voucher];
                        "filled up in every epoch"
                    }
                }
                button { "Make vouchers" }
            }
            p.note { "The codes are shown once, as a page to print. Only their hashes are kept, and the label as it is." }
        }
    }
}

fn voucher(row: &VoucherRow, label: &str, now: u64, csrf: &str) -> Markup {
    let question = format!("Revoke the voucher {}? It cannot be made good again.", row.id);
    html! {
        tr {
            td data-name="id" { code { (row.id) } }
            td data-name="kind" { (row.attester.name()) }
            td data-name="label" dir="auto" { (label) }
            td.number data-name="tokens" { (page::number(row.granted)) }
            td.number data-name="expires" { (sheet::short_time_text(row.expires_at)) }
            td data-name="state" { (row.validity(now)) }
            td { @if row.revoked_at.is_none() {
                form method="post" action="/revoke" data-confirm=(question) {
                    input type="hidden" name="csrf" value=(csrf);
                    input type="hidden" name="id" value=(row.id);
                    button aria-label=(format!("Revoke {}", row.id)) { "Revoke" }
                }
            } }
        }
    }
}
