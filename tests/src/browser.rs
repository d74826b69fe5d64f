//! A browser: Debian's `chromium`, driven by its `chromedriver` as W3C WebDriver says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bearer::http_client;

/// The key of an element's id in answers (WebDriver, 11.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one page. Dropping it ends it.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

impl Browser {
    /// A browser that runs the scripts of pages, or does not.
    ///
    /// # Panics
    /// If it does not start, as when it is not installed.
    pub async fn start(scripts: bool) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: the browser's processes are in it too.
        let mut driver = command.process_group(0).spawn().expect("chromedriver is installed");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("stdout is text");
            line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse::<u16>().ok()
        });
        // It must be able to write on.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.expect("it says its port"));
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Self {
            driver,
            address,
            session: String::new(),
            http: http_client(),
            _profile: profile,
        };
        let wanted = browser.capabilities(scripts);
        let answer = browser.command("", wanted).await;
        browser.session = format!("/{}", answer["sessionId"].as_str().expect("a session"));
        // The page that it begins with is made of a hundred files of its own.
        browser.open("about:blank").await;
        browser.requests().await;
        browser
    }

    fn capabilities(&self, scripts: bool) -> Value {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let mut args = vec![
            "--headless=new",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--no-first-run",
            // No name leads anywhere, so nothing can leave this machine.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            &profile,
        ];
        if rustix::process::geteuid().is_root() {
            // Chromium's sandbox does not start as root. All pages here are our own.
            args.push("--no-sandbox");
        }
        let allowed = if scripts { 1 } else { 2 };
        json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "ignore",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": {
                "args": args,
                "prefs": { "profile.managed_default_content_settings.javascript": allowed },
            },
        } } })
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}/session{}{path}", self.address, self.session);
        self.answer(path, self.http.post(url).json(&body)).await
    }

    async fn ask(&self, path: &str) -> Value {
        let url = format!("http://{}/session{}{path}", self.address, self.session);
        self.answer(path, self.http.get(url)).await
    }

    async fn answer(&self, path: &str, request: reqwest::RequestBuilder) -> Value {
        let request = request.timeout(Duration::from_secs(120));
        let answer = request.send().await.expect("chromedriver answers");
        let mut answer: Value = answer.json().await.expect("it is JSON");
        let value = answer["value"].take();
        assert!(value["error"].is_null(), "{path}: {} {}", value["error"], value["message"]);
        value
    }

    /// Goes to a page and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// The address of the page.
    pub async fn url(&self) -> String {
        text(self.ask("/url").await)
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        text(self.ask("/title").await)
    }

    /// The elements that a CSS selector finds.
    pub async fn all(&self, selector: &str) -> Vec<String> {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.command("/elements", query).await;
        let found = found.as_array().expect("a list");
        found.iter().map(|element| text(element[ELEMENT].clone())).collect()
    }

    async fn one(&self, selector: &str) -> String {
        let found = self.all(selector).await;
        found.into_iter().next().unwrap_or_else(|| panic!("nothing is at {selector}"))
    }

    /// The text of each element, as it is shown; all of the same page, even if another one comes.
    pub async fn texts(&self, selector: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])]\
                      .map((element) => element.innerText.trim())";
        let body = json!({ "script": script, "args": [selector] });
        let texts = self.command("/execute/sync", body).await;
        serde_json::from_value(texts).expect("a list of texts")
    }

    /// Types into the first.
    pub async fn write(&self, selector: &str, what: &str) {
        let element = self.one(selector).await;
        self.command(&format!("/element/{element}/clear"), json!({})).await;
        self.command(&format!("/element/{element}/value"), json!({ "text": what })).await;
    }

    /// Clicks on the first, and waits for the page that this leads to.
    pub async fn click(&self, selector: &str) {
        let element = self.one(selector).await;
        self.command(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Says yes or no to the question that the page asks; gives the question.
    pub async fn reply(&self, yes: bool) -> String {
        let question = text(self.ask("/alert/text").await);
        let reply = if yes { "/alert/accept" } else { "/alert/dismiss" };
        self.command(reply, json!({})).await;
        question
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    /// A picture of each element, PNG.
    pub async fn pictures(&self, selector: &str) -> Vec<Vec<u8>> {
        let mut pictures = Vec::new();
        for element in self.all(selector).await {
            pictures.push(png(self.ask(&format!("/element/{element}/screenshot")).await));
        }
        pictures
    }

    /// A picture of the whole page, PNG, at a width in pixels.
    pub async fn picture(&self, width: u32, dark: bool, print: bool) -> Vec<u8> {
        self.look(width, dark, print).await;
        let options = json!({ "captureBeyondViewport": true });
        let mut answer = self.devtools("Page.captureScreenshot", options).await;
        png(answer["data"].take())
    }

    /// From now on the page is so wide, dark or not, on a screen or on paper.
    pub async fn look(&self, width: u32, dark: bool, print: bool) {
        let size =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "media": if print { "print" } else { "" }, "features": features });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// What the browser has complained about since the last call: scripts, policies, answers.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({ "type": "browser" })).await;
        log.as_array().expect("a list").iter().map(|entry| text(entry["message"].clone())).collect()
    }

    /// The addresses of all requests since the last call.
    pub async fn requests(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({ "type": "performance" })).await;
        let urls = log.as_array().expect("a list").iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let sent = event["method"] == "Network.requestWillBeSent";
            sent.then(|| text(event["params"]["request"]["url"].clone()))
        });
        urls.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // First it is told: a browser that is killed leaves files behind.
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let (session, host) = (&self.session, &self.address);
            let _ = write!(
                stream,
                "DELETE /session{session} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn png(value: Value) -> Vec<u8> {
    STANDARD.decode(text(value)).expect("base64")
}
