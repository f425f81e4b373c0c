//! Purchases from the home page to the paid order.

use crate::{
    browser::{Browser, EN_DESK, EN_PHONE, Look, ZH_DESK, ZH_PHONE},
    site::{LIVE, PLENTY, SOON_ON_SALE, Site},
};

/// A buyer arrives before the start: countdown, ticket, order, payment, order list.
async fn waits_for_the_start(look: Look) {
    Browser::open("countdown", look, async |browser| {
        let site = Site::open(14);
        browser.goto(&site.url("/")).await;
        browser
            .see("li[data-phase=upcoming] [data-countdown]", look.say("距开始 00:00:", "starts in 00:00:"))
            .await;
        browser.inspect("1-home").await;
        browser.press("li[data-phase=upcoming] .button").await;
        browser.see("section[data-phase=upcoming] [data-countdown]", "00:00:").await;
        let buy = format!("[data-offer='{SOON_ON_SALE}'] form button");
        browser.see(&buy, look.say("提前准备", "Get ready")).await;
        browser.press(&buy).await;
        browser.see("[data-signin] h2", look.say("登录", "Sign in")).await;
        browser.inspect("2-sign-in").await;
        browser.sign_in(7).await;
        browser.see("[data-state]", look.say("已准备好", "Ready")).await;
        browser.inspect("3-ready").await;
        assert!(
            browser.run("return document.querySelector('[data-offer] form button').disabled").await == true
        );
        browser.see("section[data-phase=live] [data-countdown]", look.say("距结束", "ends in")).await;
        buys_and_pays(browser, SOON_ON_SALE).await;
    })
    .await;
}

/// A buyer arrives during the sale, through a product page.
async fn arrives_during_the_sale(look: Look) {
    Browser::open("purchase", look, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.url("/")).await;
        browser.see("li:first-child .phase", look.say("进行中", "Live")).await;
        browser.press("li[data-phase=live] .previews a").await;
        browser.see("h1", "紫砂壶 Teapot <b>").await;
        assert_eq!(browser.path().await, format!("/{}/products/1/", look.language));
        browser.see(&format!("[data-offer='{PLENTY}'] [data-state]"), look.say("有货", "In stock")).await;
        browser.inspect("1-product").await;
        browser.press("section h2 a").await;
        browser.until(&format!("usable(\"[data-offer='{PLENTY}'] form button\")")).await;
        assert_eq!(browser.path().await, format!("/{}/activities/{LIVE}/", look.language));
        browser.inspect("2-activity").await;
        browser.press("[data-enter]").await;
        browser.sign_in(8).await;
        buys_and_pays(browser, PLENTY).await;
        let mut buyer = site.buyer(8).await;
        let orders = buyer.orders().await;
        assert_eq!((orders.len(), &orders[0]["status"]), (1, &"paid".into()), "{orders:?}");
    })
    .await;
}

async fn buys_and_pays(browser: &Browser, sku: u64) {
    let look = browser.look;
    browser.press(&format!("[data-offer='{sku}'] form button")).await;
    browser
        .see(".result.bought", look.say("抢到了！请尽快支付。剩余 00:0", "Got it! Please pay in time. 00:0"))
        .await;
    browser.inspect("4-bought").await;
    browser.press(".result.bought button").await;
    browser.see("h1", look.say("沙箱支付", "Sandbox payment")).await;
    browser.inspect("5-pay").await;
    browser.press("[data-report=capture]").await;
    browser.see(".order[data-status=paid] .state", look.say("已支付", "Paid")).await;
    assert_eq!(browser.path().await, format!("/{}/orders/", look.language));
    browser.see(".order", look.say("¥99.00", "¥99.00")).await;
    browser.inspect("6-orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chinese_phone_user_waits_for_the_start() {
    waits_for_the_start(ZH_PHONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_english_desktop_user_waits_for_the_start() {
    waits_for_the_start(EN_DESK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chinese_desktop_user_arrives_during_the_sale() {
    arrives_during_the_sale(ZH_DESK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_english_phone_user_arrives_during_the_sale() {
    arrives_during_the_sale(EN_PHONE).await;
}
