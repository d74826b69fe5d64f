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
use crate::http::ApiError;
use crate::sheet;
use crate::store::{VOUCHER_ID_BYTES, VoucherRow};
use crate::voucher::VoucherCode;

/// The most vouchers at once here; the command makes more.
const MAX_COUNT: u32 = 1000;
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
            let page = page::page("Log in", log_in_form(wrong));
            (StatusCode::FORBIDDEN, Html(page)).into_response()
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
    if form.tokens == 0
        || form.tokens > 1_000_000_000
        || !(1..=MAX_COUNT).contains(&form.count)
        || !(1..=36_500).contains(&form.days)
    {
        let what = format!("At least one token, 1 to {MAX_COUNT} vouchers, 1 to 36500 days.");
        return Ok(refusal(&what));
    }
    let attester = match form.allowance {
        Some(_) => Attester::Allowance,
        None => Attester::Voucher,
    };
    let state = &operator.state;
    let codes: Vec<VoucherCode> =
        (0..form.count).map(|_| VoucherCode::random(&mut UnwrapErr(SysRng))).collect();
    let hashes: Vec<[u8; 32]> = codes.iter().map(VoucherCode::hash).collect();
    let expires_at = state.now().saturating_add(form.days * DAY_SECONDS);
    state.store.create_vouchers(&hashes, attester, form.tokens, expires_at).await?;
    let label = form.label.trim();
    if !label.is_empty() {
        state.store.label_vouchers(&hashes, label).await?;
    }
    // Not redirected: the codes are shown once, and kept nowhere.
    let issuer = state.keyring.pairing().issuer_name();
    let sheet = sheet::Sheet { issuer, attester, tokens: form.tokens, expires_at };
    Ok(Html(sheet.page(&codes)).into_response())
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
    let body = html! { main { section { p.bad { (what) } p { a href="/" { "back" } } } } };
    (StatusCode::FORBIDDEN, Html(page::page("Refused", body))).into_response()
}

fn log_in_form(wrong: &str) -> Markup {
    html! {
        section {
            h2 { "Vouchers" }
            @if !wrong.is_empty() { p.bad { (wrong) } }
            form method="post" action="/login" {
                label { "credential, from admin.credential in the data folder"
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
    let shown = rows.iter().rev().take(200);
    Ok(html! {
        section.wide {
            h2 { "New vouchers" }
            form method="post" action="/vouchers" {
                input type="hidden" name="csrf" value=(csrf);
                label { "tokens on each" input type="number" name="tokens" value="256" min="1" step="1" required; }
                label { "how many" input type="number" name="count" value="1" min="1" max=(MAX_COUNT) required; }
                label { "days to use them" input type="number" name="days" value="30" min="1" required; }
                label { "label, for you only" input type="text" name="label" maxlength="200" autocomplete="off"; }
                label { "filled up every epoch" input type="checkbox" name="allowance"; }
                button { "Make them" }
            }
            p { "The codes are shown once, as a page to print. Only their hashes are kept." }
        }
        section.wide {
            h2 { "Vouchers" }
            table {
                tr { th { "id" } th { "kind" } th { "label" } th { "tokens" } th { "expires" } th { "state" } th {} }
                @for row in shown {
                    tr {
                        td { code { (row.id) } } td { (row.attester.name()) } td { (label(row)) }
                        td { (page::number(row.granted)) } td { (sheet::time_text(row.expires_at)) }
                        td { (row.state(now)) }
                        td { @if row.revoked_at.is_none() {
                            form method="post" action="/revoke" {
                                input type="hidden" name="csrf" value=(csrf);
                                input type="hidden" name="id" value=(row.id);
                                button { "Revoke" }
                            }
                        } }
                    }
                }
            }
            p { (page::number(rows.len() as u64)) " in all; the newest 200 are here." }
            form method="post" action="/logout" {
                input type="hidden" name="csrf" value=(csrf);
                button { "Log out" }
            }
        }
    })
}
