//! Pages without a purchase: languages, clocks, dark mode.

use serde_json::json;

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, Site},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_use_the_language_of_the_browser_until_the_buyer_chooses() {
    Browser::open("language", ZH_PHONE, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.url("/orders")).await;
        browser.see("h1", "我的订单").await;
        browser.see("[data-empty]", "登录后可查看您的订单。").await;
        browser.inspect("1-orders").await;
        browser.press("[data-language]").await;
        browser.see("h1", "My orders").await;
        assert_eq!(browser.path().await, "/en/orders/");
        browser.press(".brand").await;
        browser.see("h1", "Sales").await;
        assert_eq!(browser.path().await, "/en/");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_work_with_a_wrong_clock_and_in_dark_mode() {
    Browser::open("clock", EN_DESK, async |browser| {
        let site = Site::open(3600);
        let an_hour_slow = "const right = Date.now; Date.now = () => right() - 3600000;";
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": an_hour_slow })).await;
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        browser.devtools("Emulation.setEmulatedMedia", dark).await;
        browser.goto(&site.url("/en/")).await;
        // About an hour is left by the server's clock; by the device's clock it would be two.
        browser.until("/starts in 00:[3-5]/.test(document.body.textContent)").await;
        browser.see("li:first-child .phase", "Live").await;
        browser.inspect("1-dark-home").await;
        browser.goto(&site.url(&format!("/en/activities/{LIVE}/"))).await;
        browser.see("[data-state]", "In stock").await;
        browser.inspect("2-dark-activity").await;
    })
    .await;
}
