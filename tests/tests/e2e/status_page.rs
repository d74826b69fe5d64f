//! The operator's pages, without a browser: what they say, and what they refuse. The browser is in
//! [`browser`].

mod browser;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::World;
use tocyn_protocol::token::Token;

/// A service, and where its operator's pages are.
struct Shown {
    service: Service,
    url: String,
}

impl Shown {
    fn issuer(world: &World) -> Self {
        Self::start("tocyn-issuer", &world.issuer_data(), "TOCYN_ISSUER__ADMIN__LISTEN", &[])
    }

    fn relay(world: &World) -> Self {
        Self::start("tocyn-relay", &world.relay_data(), "TOCYN_RELAY__ADMIN__LISTEN", &[])
    }

    fn start(name: &str, data: &std::path::Path, listen: &str, more: &[(&str, &str)]) -> Self {
        let mut command = serve(name, data, "127.0.0.1:0");
        command.env(listen, "127.0.0.1:0").envs(more.iter().copied());
        let mut service = Service::run(&mut command, data);
        let url = service.read_operator_url();
        Self { service, url }
    }

    async fn get(&self, path: &str, cookie: &str) -> Response {
        let request = client().get(format!("{}{path}", self.url)).header(COOKIE, cookie);
        request.send().await.unwrap()
    }

    async fn page(&self, cookie: &str) -> String {
        self.get("/", cookie).await.error_for_status().unwrap().text().await.unwrap()
    }

    async fn send(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Response {
        let request = client().post(format!("{}{path}", self.url)).header(COOKIE, cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.body(form(fields)).send().await.unwrap()
    }

    /// A session's cookie, and what its forms carry.
    async fn log_in(&self, world: &World) -> (String, String) {
        let answer = self.send("/login", "", &[("credential", &credential(world))]).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[LOCATION]),
            (303, &"/".parse().unwrap())
        );
        let set = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/; Max-Age=3600");
        let page = self.page(cookie).await;
        (cookie.to_owned(), between(&page, "name=\"csrf\" value=\"", "\"").to_owned())
    }
}

fn client() -> reqwest::Client {
    http_client();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    client.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn form(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let fields = fields.iter().map(|(name, value)| format!("{name}={}", escape(value)));
    fields.collect::<Vec<_>>().join("&")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap().0
}

/// The values beside a name on a page.
fn values<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let row = between(page, &format!("<th scope=\"row\">{name}</th>"), "</tr>");
    row.split("<td>").skip(1).map(|cell| cell.strip_suffix("</td>").unwrap()).collect()
}

fn credential(world: &World) -> String {
    let path = world.issuer_data().join("admin.credential");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Ids of all vouchers, and their states.
fn vouchers(world: &World) -> Vec<serde_json::Value> {
    serde_json::from_str(&world.issuer_command(&["voucher", "list", "--json"])).unwrap()
}

/// Posts with a token, and again with the same for other words; gives both answers' statuses.
async fn post_and_cheat(relay: &str, token: &Token) -> (u16, u16) {
    let mut statuses = Vec::new();
    for text in ["paid for", "not paid for"] {
        let cell = cell(text);
        let answer = post(&http_client(), relay, &bound(token, &cell), &cell).await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    (statuses[0], statuses[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_have_the_numbers_without_a_script() {
    let world = World::default();
    let (issuer, relay) = (Shown::issuer(&world), Shown::relay(&world));
    let fresh = relay.page("").await;
    assert_eq!(values(&fresh, "messages"), ["0"]);
    assert!(
        fresh.contains("<h2>Refused since the start</h2>")
            && fresh.contains("<th scope=\"row\">none</th>")
    );
    let voucher = world.voucher(64);
    let tokens = buy(&http_client(), issuer.service.url(), &voucher, 16).await;
    assert_eq!(post_and_cheat(relay.service.url(), &tokens[0]).await, (201, 409));
    let page = relay.page("").await;
    assert!(page.contains("<title>Relay relay.example</title>"), "{page}");
    assert_eq!(values(&page, "messages"), ["1"]);
    assert_eq!(values(&page, "new messages"), ["1", "1", "1"]);
    assert_eq!(values(&page, "token-spent"), ["1", "1", "1"]);
    assert_eq!(values(&page, "database"), ["answers"]);
    let page = issuer.page("").await;
    assert_eq!(values(&page, "tokens for vouchers"), ["16", "16", "16"]);
    assert!(values(&page, "ends in")[0].contains("day"), "{page}");
    // The page for all who reach it has nothing of single vouchers.
    let id = vouchers(&world)[0]["id"].as_str().unwrap().to_owned();
    assert!(!page.contains(&id) && !page.contains(&voucher) && page.contains("Log in"));
    // Nothing on it is of another host, and the script is in a file of its own.
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_the_browser_to_be_strict() {
    let world = World::default();
    let (issuer, relay) = (Shown::issuer(&world), Shown::relay(&world));
    let strict = |headers: &HeaderMap| {
        let said = |name: &str| headers[name].to_str().unwrap().to_owned();
        let policy = said("content-security-policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("form-action 'self'"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(said("x-content-type-options"), "nosniff");
        assert_eq!(said("referrer-policy"), "same-origin");
        assert_eq!(said("cache-control"), "no-store");
        assert!(!headers.contains_key("access-control-allow-origin"));
    };
    for shown in [&issuer, &relay] {
        for path in ["/", "/metrics", "/status.json", "/style.css", "/live.js", "/nothing"] {
            let answer = shown.get(path, "").await;
            assert_eq!(answer.status(), if path == "/nothing" { 404 } else { 200 }, "{path}");
            strict(answer.headers());
        }
    }
    let wrong = issuer.send("/login", "", &[("credential", &"x".repeat(64))]).await;
    assert_eq!(wrong.status(), 403);
    assert!(!wrong.headers().contains_key(SET_COOKIE));
    strict(wrong.headers());
    assert!(wrong.text().await.unwrap().contains("This is not the credential"));
    // The sheet has its style within, by a policy that allows this very style and nothing else.
    let (cookie, csrf) = issuer.log_in(&world).await;
    let sheet = issuer.send("/vouchers", &cookie, &new_voucher(&csrf)).await;
    let policy = sheet.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("form-action 'none'") && !policy.contains("unsafe"));
    assert_eq!(sheet.headers()["cache-control"], "no-store");
    // The relay's operator can do nothing over HTTP.
    assert_eq!(relay.send("/login", "", &[]).await.status(), 404);
}

fn new_voucher(csrf: &str) -> [(&str, &str); 5] {
    [("csrf", csrf), ("tokens", "16"), ("count", "1"), ("days", "1"), ("label", "")]
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_others_do_nothing() {
    let world = World::default();
    let issuer = Shown::issuer(&world);
    world.voucher(16);
    let id = vouchers(&world)[0]["id"].as_str().unwrap().to_owned();
    let (cookie, csrf) = issuer.log_in(&world).await;
    let (other, of_other) = issuer.log_in(&world).await;
    assert!(cookie != other && csrf != of_other);
    let unknown = format!("tocyn_session={}", "0".repeat(64));
    for (cookie, csrf) in [
        (&*cookie, &*of_other),
        (&other, &csrf),
        (&cookie, ""),
        (&cookie, &cookie),
        ("", &csrf),
        (&unknown, &csrf),
    ] {
        for (path, fields) in [
            ("/vouchers", &new_voucher(csrf)[..]),
            ("/revoke", &[("csrf", csrf), ("id", &id)]),
            ("/logout", &[("csrf", csrf)]),
        ] {
            assert_eq!(issuer.send(path, cookie, fields).await.status(), 403, "{path}");
        }
    }
    for (path, fields) in
        [("/vouchers", &new_voucher("")[1..]), ("/revoke", &[("id", &id)]), ("/logout", &[])]
    {
        assert_eq!(issuer.send(path, &cookie, fields).await.status(), 422, "{path}");
        assert_eq!(issuer.get(path, &cookie).await.status(), 405, "{path}");
    }
    let untouched = vouchers(&world);
    assert_eq!(untouched.len(), 1);
    assert!(untouched[0]["revoked_at"].is_null(), "{untouched:?}");
    assert!(issuer.page(&cookie).await.contains("Log out"), "still logged in");
    // The session is ended by its own form, and by no other session's end.
    assert_eq!(issuer.send("/logout", &other, &[("csrf", &of_other)]).await.status(), 303);
    assert!(!issuer.page(&other).await.contains("Log out"));
    assert_eq!(issuer.send("/vouchers", &other, &new_voucher(&of_other)).await.status(), 403);
    assert_eq!(issuer.send("/vouchers", &cookie, &new_voucher(&csrf)).await.status(), 200);
    assert_eq!(vouchers(&world).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_makes_only_what_is_of_use() {
    let world = World::default();
    let data = world.issuer_data();
    let allowed = [("TOCYN_ISSUER__ATTESTERS__ALLOWANCE__ENABLED", "true")];
    let listen = "TOCYN_ISSUER__ADMIN__LISTEN";
    let denied = [("TOCYN_ISSUER__ATTESTERS__ALLOWANCE__ENABLED", "false")];
    for (settings, status) in [(allowed, 200), (denied, 403)] {
        let issuer = Shown::start("tocyn-issuer", &data, listen, &settings);
        let (cookie, csrf) = issuer.log_in(&world).await;
        assert_eq!(issuer.page(&cookie).await.contains("name=\"allowance\""), status == 200);
        let fields = [&new_voucher(&csrf)[..], &[("allowance", "on")]].concat();
        assert_eq!(issuer.send("/vouchers", &cookie, &fields).await.status(), status);
        // Markup in a label is a label; one that is too long is none.
        let labelled = |label| [&new_voucher(&csrf)[..4], &[("label", label)]].concat();
        let answer = issuer.send("/vouchers", &cookie, &labelled("<b>\"&'</b>")).await;
        assert_eq!(answer.status(), 200);
        assert!(issuer.page(&cookie).await.contains(">&lt;b&gt;&quot;&amp;'&lt;/b&gt;<"));
        let long = "\u{fc}".repeat(201);
        assert_eq!(issuer.send("/vouchers", &cookie, &labelled(&long)).await.status(), 403);
        for (place, value) in [(1, "0"), (2, "0"), (2, "1001"), (3, "0"), (3, "36501")] {
            let mut fields = new_voucher(&csrf);
            fields[place].1 = value;
            assert_eq!(issuer.send("/vouchers", &cookie, &fields).await.status(), 403, "{value}");
        }
    }
    assert_eq!(vouchers(&world).len(), 3);
}
