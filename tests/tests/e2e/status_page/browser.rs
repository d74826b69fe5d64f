//! The operator's pages in Chromium. `TOCYN_PICTURES=FOLDER` keeps pictures of them.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tocyn_e2e::bearer::{buy, http_client};
use tocyn_e2e::browser::Browser;
use tocyn_e2e::world::{World, output, succeed};

use super::{Shown, credential, post_and_cheat, vouchers};

/// Markup that would say so if it were not shown as text.
const LABEL: &str = "<img src=/x onerror=alert(1)><script>document.title=1</script> & \"two\"";

async fn wait_for(browser: &Browser, selector: &str, text: &str) {
    let start = Instant::now();
    while !browser.texts(selector).await.iter().any(|shown| shown.contains(text)) {
        assert!(start.elapsed() < Duration::from_secs(60), "{selector} never says {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn wait_for_title(browser: &Browser, title: &str) {
    let start = Instant::now();
    while browser.title().await != title {
        assert!(start.elapsed() < Duration::from_secs(60), "no page is called {title}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The values beside a name, as they are shown.
async fn values(browser: &Browser, name: &str) -> Vec<String> {
    let script = format!(
        "const row = [...document.querySelectorAll('table.live tbody tr')]\
           .find((row) => row.cells[0].textContent === '{name}');\
         return row ? [...row.cells].slice(1).map((cell) => cell.innerText) : [];"
    );
    serde_json::from_value(browser.run(&script).await).unwrap()
}

async fn wait_for_value(browser: &Browser, name: &str, value: &str) {
    let start = Instant::now();
    while values(browser, name).await.last().is_none_or(|shown| shown != value) {
        assert!(start.elapsed() < Duration::from_secs(60), "{name} never becomes {value}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn log_in(browser: &Browser, credential: &str) {
    browser.write("input[name=credential]", credential).await;
    browser.click("form[action='/login'] button").await;
}

/// Pictures as a person would see the page, and whether it fits.
async fn look_at(browser: &Browser, name: &str) {
    for (how, width, dark, print) in [
        ("wide", 1200, false, false),
        ("dark", 1200, true, false),
        ("phone", 360, false, false),
        ("phone-dark", 320, true, false),
        ("print", 800, false, true),
    ] {
        let picture = browser.picture(width, dark, print).await;
        if let Some(folder) = std::env::var_os("TOCYN_PICTURES") {
            std::fs::write(Path::new(&folder).join(format!("{name}-{how}.png")), picture).unwrap();
        }
        let fits = "return [document.documentElement, ...document.querySelectorAll('section, article')]\
                    .every((box) => box.scrollWidth <= box.clientWidth)";
        assert_eq!(
            browser.run(fits).await,
            true,
            "{name} {how}: something is wider than its place"
        );
    }
    browser.look(1200, false, false).await;
}

fn read_qr_code(picture: &[u8]) -> String {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let samples = info.color_type.samples();
    let grey = |x, y| pixels[(y * width + x) * samples];
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
    let codes = image.detect_grids();
    assert_eq!(codes.len(), 1, "one code in {width}x{height}");
    codes[0].decode().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: ./test --browser"]
async fn numbers_change_by_themselves_and_nobody_else_is_asked() {
    let world = World::default();
    let (issuer, relay) = (Shown::issuer(&world), Shown::relay(&world));
    let tokens = buy(&http_client(), issuer.service.url(), &world.voucher(64), 64).await;
    let browser = Browser::start(true).await;
    browser.open(&relay.url).await;
    assert_eq!(browser.title().await, "Relay relay.example");
    assert_eq!(values(&browser, "new messages").await, ["0", "0", "0"]);
    // It would be gone if the page were loaded anew.
    browser.run("window.mark = 1").await;
    for (posts, token) in tokens.iter().take(3).enumerate() {
        assert_eq!(post_and_cheat(relay.service.url(), token).await, (201, 409));
        wait_for_value(&browser, "new messages", &(posts + 1).to_string()).await;
    }
    wait_for_value(&browser, "messages", "3").await;
    // A row that was not there before, with names over its columns.
    wait_for_value(&browser, "token-spent", "3").await;
    let columns = browser.texts("table[aria-label^=Refused] thead th").await;
    assert_eq!(columns, ["last minute", "last hour", "all"]);
    assert_eq!(browser.run("return window.mark").await, 1, "it was loaded anew");
    assert!(browser.texts("#live").await[0].starts_with("live, "));
    look_at(&browser, "relay").await;
    let foreign = |url: &String| !url.starts_with(&relay.url);
    let requests = browser.requests().await;
    assert!(requests.iter().any(|url| url.ends_with("/status.json")), "{requests:?}");
    assert!(!requests.iter().any(foreign), "{requests:?}");
    assert_eq!(browser.complaints().await, [""; 0]);
    // Numbers that are old do not look like new ones.
    assert_eq!(relay.service.stop().code(), Some(0));
    wait_for(&browser, "#live.bad[role=alert]", "does not answer").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: ./test --browser"]
async fn vouchers_are_made_scanned_used_and_revoked() {
    let world = World::default();
    let (issuer, relay) = (Shown::issuer(&world), Shown::relay(&world));
    let browser = Browser::start(true).await;
    browser.open(&issuer.url).await;
    look_at(&browser, "issuer").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    log_in(&browser, &"0".repeat(64)).await;
    wait_for(&browser, ".bad[role=alert]", "This is not the credential").await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|text| text.contains("/login") && text.contains("403")));
    look_at(&browser, "wrong").await;
    log_in(&browser, &credential(&world)).await;
    wait_for(&browser, "h2", "New vouchers").await;
    assert_eq!(browser.run("return document.cookie").await, "", "scripts do not see the session");

    browser.write("input[name=tokens]", "64").await;
    browser.write("input[name=count]", "3").await;
    browser.write("input[name=label]", LABEL).await;
    browser.click("form[action='/vouchers'] button").await;
    wait_for_title(&browser, "3 vouchers of issuer.example").await;
    look_at(&browser, "sheet").await;
    let codes = browser.texts("article code").await;
    assert_eq!(codes.len(), 3);
    browser.look(1200, true, false).await;
    let scanned: Vec<String> =
        browser.pictures("article svg").await.iter().map(|picture| read_qr_code(picture)).collect();
    assert_eq!(scanned, codes);
    let style = "return getComputedStyle(document.querySelector('article')).display";
    assert_eq!(browser.run(style).await, "flex", "the policy lets the page's own style be");

    browser.click(".note a").await;
    wait_for(&browser, "td[data-name=label]", LABEL).await;
    wait_for_title(&browser, "Issuer issuer.example").await;
    let urls = ["request", "--issuer", issuer.service.url(), "--relay", relay.service.url()];
    let voucher = world.path().join("voucher");
    std::fs::write(&voucher, &scanned[0]).unwrap();
    let buy = || {
        let mut command = world.tocyn(&[&urls[..], &["--voucher", "-", "--count", "16"]].concat());
        command.stdin(std::fs::File::open(&voucher).unwrap());
        command
    };
    succeed(&mut buy());
    wait_for_value(&browser, "tokens for vouchers", "16").await;
    assert_eq!(world.balance()["unspent"], 16);

    let id = vouchers(&world).into_iter().find(|row| row["balance"] == 48).unwrap()["id"].clone();
    let button = format!("button[aria-label='Revoke {}']", id.as_str().unwrap());
    browser.click(&button).await;
    assert!(browser.reply(false).await.contains(id.as_str().unwrap()));
    assert!(vouchers(&world).iter().all(|row| row["revoked_at"].is_null()));
    browser.click(&button).await;
    browser.reply(true).await;
    wait_for(&browser, "td[data-name=state]", "revoked").await;
    let revoked = vouchers(&world).into_iter().filter(|row| !row["revoked_at"].is_null());
    assert_eq!(revoked.map(|row| row["id"].clone()).collect::<Vec<_>>(), [id]);
    let refused = output(&mut buy());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("revoked"), "{said}");
    look_at(&browser, "vouchers").await;

    let requests = browser.requests().await;
    assert!(requests.len() > 10 && requests.iter().all(|url| url.starts_with(&issuer.url)));
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.click("form[action='/logout'] button").await;
    wait_for(&browser, "button", "Log in").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: ./test --browser"]
async fn a_browser_without_scripts_can_do_it_all() {
    let world = World::default();
    let issuer = Shown::issuer(&world);
    buy(&http_client(), issuer.service.url(), &world.voucher(16), 16).await;
    let browser = Browser::start(false).await;
    // Scripts of the page do not run, though the driver's do.
    browser.open("data:text/html,<title>off</title><script>document.title='on'</script>").await;
    assert_eq!(browser.title().await, "off");
    browser.open(&issuer.url).await;
    wait_for(&browser, "table[aria-label^=Counted] td", "16").await;
    assert!(browser.texts("#live").await[0].contains("when this page was loaded"));
    log_in(&browser, &credential(&world)).await;
    browser.click("form[action='/vouchers'] button").await;
    wait_for_title(&browser, "1 voucher of issuer.example").await;
    browser.click(".note a").await;
    browser.click("form[action='/revoke'] button").await;
    wait_for(&browser, "td[data-name=state]", "revoked").await;
    assert_eq!(vouchers(&world).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: ./test --browser"]
async fn pages_of_others_do_nothing_in_the_operators_browser() {
    let world = World::default();
    let issuer = Shown::issuer(&world);
    world.voucher(16);
    let id = vouchers(&world)[0]["id"].as_str().unwrap().to_owned();
    let browser = Browser::start(true).await;
    browser.open(&issuer.url).await;
    log_in(&browser, &credential(&world)).await;
    wait_for(&browser, "h2", "New vouchers").await;

    let of_others = |path: &str, fields: &[(&str, &str)]| {
        let inputs = fields.iter().map(|(n, v)| format!("<input name={n} value='{v}'>"));
        let inputs: String = inputs.collect();
        let url = format!("{}{path}", issuer.url);
        Html(format!(
            "<form id=f method=post action='{url}'>{inputs}</form><script>f.submit()</script>"
        ))
    };
    let new = [("tokens", "16"), ("count", "1"), ("days", "1")];
    let guessed = ("csrf", "0000");
    let pages = [
        ("/new", of_others("/vouchers", &new)),
        ("/guess", of_others("/vouchers", &[&new[..], &[guessed]].concat())),
        ("/revoke", of_others("/revoke", &[guessed, ("id", &id)])),
        ("/logout", of_others("/logout", &[guessed])),
        ("/frame", Html(format!("<title>framed</title><iframe src='{}'></iframe>", issuer.url))),
    ];
    let mut router = Router::new();
    for (path, page) in pages.clone() {
        router = router.route(path, get(|| async { page }));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    // The same host at another port is the same site, to which the cookie goes; another name is not.
    for host in ["127.0.0.1", "localhost"] {
        for (path, _) in &pages[..4] {
            browser.complaints().await;
            browser.open(&format!("http://{host}:{port}{path}")).await;
            let start = Instant::now();
            while !browser.url().await.starts_with(&issuer.url) {
                assert!(start.elapsed() < Duration::from_secs(60), "{path} was not sent");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let refused = browser.complaints().await;
            let refused = refused.iter().any(|text| text.contains("403") || text.contains("422"));
            assert!(refused, "{host}{path}");
        }
        browser.open(&format!("http://{host}:{port}/frame")).await;
        let complaints = browser.complaints().await.concat();
        assert!(complaints.contains("frame-ancestors"), "{complaints}");
    }
    server.abort();
    let untouched = vouchers(&world);
    assert!(untouched.len() == 1 && untouched[0]["revoked_at"].is_null(), "{untouched:?}");
    browser.open(&issuer.url).await;
    wait_for(&browser, "button", "Log out").await;
}
