//! Pages by themselves: languages, clocks, dark screens.

use serde_json::json;

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, Site},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_language_is_the_browsers_until_the_buyer_chooses() {
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
async fn a_wrong_clock_and_a_dark_screen_change_nothing() {
    Browser::open("clock", EN_DESK, async |browser| {
        let site = Site::open(3600);
        let an_hour_late = "const right = Date.now; Date.now = () => right() - 3600000;";
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": an_hour_late })).await;
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        browser.devtools("Emulation.setEmulatedMedia", dark).await;
        browser.goto(&site.url("/en/")).await;
        // Half an hour around the truth, where the device's clock would say two hours.
        browser.until("/starts in 00:[3-5]/.test(document.body.textContent)").await;
        browser.see("li:first-child .phase", "Live").await;
        browser.inspect("1-dark-home").await;
        browser.goto(&site.url(&format!("/en/activities/{LIVE}/"))).await;
        browser.see("[data-state]", "In stock").await;
        browser.inspect("2-dark-activity").await;
    })
    .await;
}
