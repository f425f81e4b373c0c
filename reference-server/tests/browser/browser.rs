//! A browser that a test drives.

use std::{
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fantoccini::{ClientBuilder, Locator};
use flashsale_testkit::{client, process::Process};
use futures_util::FutureExt;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::site::SOON;

/// The script timeout. Leaving a page loses its script, so the test then runs it again.
const PATIENCE: Duration = Duration::from_secs(5);
const DRIVER: &str = "chromedriver";

/// The driver that all tests share. It ends with this process.
static DRIVEN: LazyLock<(Process, SocketAddr)> = LazyLock::new(|| {
    let installed = |name: &str| Command::new(name).arg("--version").output().is_ok();
    assert!(
        installed(DRIVER) && (installed("chromium") || installed("google-chrome")),
        "browser tests need Chromium and its driver: apt-get install chromium chromium-driver"
    );
    let mut command = Command::new(DRIVER);
    command.arg("--port=0");
    let process = Process::start(command);
    let line = process.wait_for_line(SOON, |line| line.contains("successfully on port "));
    let port = line.rsplit(' ').next().and_then(|word| word.trim_end_matches('.').parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("no driver port in {line:?}"));
    (process, SocketAddr::from(([127, 0, 0, 1], port)))
});

/// The screen and language of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) language: &'static str,
    pub(crate) is_phone: bool,
}

pub(crate) const ZH_PHONE: Look = Look { language: "zh", is_phone: true };
pub(crate) const ZH_DESK: Look = Look { language: "zh", is_phone: false };
pub(crate) const EN_PHONE: Look = Look { language: "en", is_phone: true };
pub(crate) const EN_DESK: Look = Look { language: "en", is_phone: false };

impl Look {
    /// Selects the text in the language of this user.
    pub(crate) fn say(self, zh: &'static str, en: &'static str) -> &'static str {
        if self.language == "zh" { zh } else { en }
    }

    fn capabilities(self) -> Map<String, Value> {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            // Without animations, nothing moves while it is clicked.
            "--force-prefers-reduced-motion",
            "--window-size=1280,900",
        ];
        let mut options = json!({
            "args": arguments,
            "prefs": { "intl.accept_languages": self.say("zh-CN,zh,en", "en-GB,en,zh") },
        });
        if self.is_phone {
            options["mobileEmulation"] = json!({
                "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2, "touch": true },
            });
        }
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": PATIENCE.as_millis() },
        });
        capabilities.as_object().unwrap().clone()
    }
}

/// A browser with its own profile.
pub(crate) struct Browser {
    pub(crate) look: Look,
    pub(crate) client: fantoccini::Client,
    test: &'static str,
    session: String,
}

impl Browser {
    /// Opens a browser for a test and closes it afterwards. If the test fails, saves a screenshot
    /// and prints the browser console.
    pub(crate) async fn open(test: &'static str, look: Look, work: impl AsyncFnOnce(&Self)) {
        let address = tokio::task::spawn_blocking(|| DRIVEN.1).await.unwrap();
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(look.capabilities())
            .connect(&format!("http://{address}"))
            .await
            .unwrap_or_else(|error| panic!("no browser: {error}\n{}", DRIVEN.0));
        let session = client.session_id().await.unwrap().unwrap();
        let browser = Self { look, client, test, session };
        let outcome = AssertUnwindSafe(work(&browser)).catch_unwind().await;
        let outcome = match outcome {
            Ok(()) => AssertUnwindSafe(browser.assert_no_errors()).catch_unwind().await,
            Err(panic) => {
                eprintln!("{test} failed at {:?}", browser.client.current_url().await);
                eprintln!("browser console: {:?}", browser.console().await);
                browser.picture("FAILED").await;
                Err(panic)
            }
        };
        browser.client.close().await.unwrap();
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    }

    pub(crate) async fn goto(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// Waits until a visible element that matches `css` contains `text`.
    #[track_caller]
    pub(crate) fn see<'a>(&'a self, css: &'a str, text: &'a str) -> impl Future<Output = ()> + 'a {
        let condition = format!("shown({}, {})", json!(css), json!(text));
        async move { self.until(&condition).await }
    }

    /// Waits until a JavaScript condition holds. It may use `shown(css, text)` and `usable(css)`.
    pub(crate) async fn until(&self, condition: &str) {
        let script = format!(
            r#"
            const done = arguments[arguments.length - 1];
            const found = (css) => [...document.querySelectorAll(css)].filter((element) => element.checkVisibility());
            const shown = (css, text = "") => found(css).some((element) => element.textContent.includes(text));
            const usable = (css) => found(css).some((element) => !element.disabled);
            const look = () => {{ if ({condition}) {{ watcher.disconnect(); done(true); }} }};
            const watcher = new MutationObserver(look);
            watcher.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
            look();
            "#
        );
        let end = Instant::now() + SOON;
        loop {
            // Errors mean that the page was left, or that the script timed out.
            match self.client.execute_async(&script, Vec::new()).await {
                Ok(_) => return,
                Err(error) if Instant::now() > end => {
                    let text = self.run("return document.body.innerText").await;
                    panic!(
                        "{}: timed out waiting for {condition}\n{error}\n{}",
                        self.test,
                        text.as_str().unwrap_or_default()
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Clicks the element that `css` selects, once it is enabled.
    pub(crate) async fn press(&self, css: &str) {
        self.until(&format!("usable({})", json!(css))).await;
        self.client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Types text into a field, once it is enabled.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        self.until(&format!("usable({})", json!(css))).await;
        let field = self.client.find(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Completes the sign-in form.
    pub(crate) async fn sign_in(&self, user: u64) {
        self.fill("[data-signin] [name=user_id]", &user.to_string()).await;
        self.fill("[data-signin] [name=user_name]", "Li Lei 李雷").await;
        self.press("[data-signin] form button:not([type])").await;
        self.until("document.querySelector('[data-who]').textContent === 'Li Lei 李雷'").await;
    }

    /// Runs a script in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Saves a screenshot and checks the rules that apply to every page.
    pub(crate) async fn inspect(&self, name: &str) {
        self.picture(name).await;
        let faults = self.run(include_str!("inspect.js")).await;
        assert_eq!(faults, json!([]), "{} {name}", self.test);
    }

    /// Returns the path of the current page.
    pub(crate) async fn path(&self) -> String {
        self.client.current_url().await.unwrap().path().to_owned()
    }

    /// Sends a DevTools command.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// Saves a screenshot of the whole page.
    async fn picture(&self, name: &str) {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.devtools("Page.captureScreenshot", parameters).await;
        let bytes = STANDARD.decode(answer["data"].as_str().unwrap_or_default()).unwrap();
        let device = if self.look.is_phone { "phone" } else { "desk" };
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join(format!("{}-{name}-{}-{device}.png", self.test, self.look.language)), bytes)
            .unwrap();
    }

    /// Checks that the console shows no script error or CSP violation. HTTP errors are normal here.
    async fn assert_no_errors(&self) {
        let errors: Vec<String> = self
            .console()
            .await
            .into_iter()
            .filter(|line| !line.contains("Failed to load resource"))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", self.test);
    }

    async fn console(&self) -> Vec<String> {
        let entries = self.ask("se/log", &json!({ "type": "browser" })).await;
        let severe = entries.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    /// Calls an extension of the driver that WebDriver does not define.
    async fn ask(&self, call: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{call}", self.session);
        let mut driver = client::Client::new(DRIVEN.1);
        let mut answer = driver.request(Method::POST, &path, &[], Some(body)).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {answer}");
        answer.body["value"].take()
    }
}
