//! Impatient buyers: double clicks, two tabs, lost responses, cancelled orders.

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, PLENTY, Site},
};

/// Delays the responses to order requests until `window.release()` is called.
const HOLD_ORDERS: &str = r"
    const ask = window.fetch;
    const held = new Promise((resolve) => { window.release = resolve; });
    window.fetch = async (address, how) => {
      const answer = await ask(address, how);
      if (how?.method === 'POST' && String(address).startsWith('/v1/orders/')) await held;
      return answer;
    };";
/// Drops the first response to an order request after the server has placed the order.
const LOSE_AN_ORDER: &str = r"
    const ask = window.fetch;
    let lost = false;
    window.fetch = async (address, how) => {
      const answer = await ask(address, how);
      if (lost || how?.method !== 'POST' || !String(address).startsWith('/v1/orders/')) return answer;
      lost = true;
      throw new TypeError('the connection was lost');
    };";

fn button() -> String {
    format!("[data-offer='{PLENTY}'] form button")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_clicks_and_a_lost_response_create_one_order() {
    Browser::open("clicks", ZH_PHONE, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.url(&format!("/zh/activities/{LIVE}/"))).await;
        browser.press("[data-enter]").await;
        browser.sign_in(5).await;
        browser.until(&format!("usable(\"{}\")", button())).await;
        browser.run(LOSE_AN_ORDER).await;
        let clicks = format!("const button = document.querySelector(\"{}\");", button());
        browser
            .run(&format!(
                "{clicks} for (let n = 0; n < 5; n += 1) button.click(); button.form.requestSubmit();"
            ))
            .await;
        browser.see(".result.bought", "抢到了").await;
        assert_eq!(site.buyer(5).await.orders().await.len(), 1);
        // A second order is within the limit of two; a third is not.
        browser.press(&button()).await;
        let mut buyer = site.buyer(5).await;
        browser.until(&format!("usable(\"{}\")", button())).await;
        assert_eq!(buyer.orders().await.len(), 2);
        browser.press(&button()).await;
        browser.see(".result", "已达到限购数量").await;
        browser.inspect("1-limit").await;
        assert_eq!(buyer.orders().await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_act_as_one_buyer() {
    Browser::open("tabs", EN_DESK, async |browser| {
        let site = Site::open(3600);
        let page = site.url(&format!("/en/activities/{LIVE}/"));
        browser.goto(&page).await;
        let first = browser.client.window().await.unwrap();
        let second = browser.client.new_window(true).await.unwrap().handle;
        browser.client.switch_to_window(second.clone()).await.unwrap();
        browser.goto(&page).await;
        browser.see("[data-enter]", "Sign in").await;

        // Signing in in one tab signs in the other.
        browser.client.switch_to_window(first.clone()).await.unwrap();
        browser.press("[data-enter]").await;
        browser.sign_in(6).await;
        browser.client.switch_to_window(second.clone()).await.unwrap();
        browser.see("[data-who]", "Li Lei 李雷").await;

        // While one tab places an order, the other does not.
        browser.client.switch_to_window(first.clone()).await.unwrap();
        browser.run(HOLD_ORDERS).await;
        browser.press(&button()).await;
        browser.see(".result", "Placing your order").await;
        browser.client.switch_to_window(second.clone()).await.unwrap();
        browser.press(&button()).await;
        browser.see(".result", "This order is being placed in another tab.").await;
        browser.inspect("1-second").await;
        browser.client.switch_to_window(first.clone()).await.unwrap();
        browser.run("window.release()").await;
        browser.see(".result.bought", "Got it!").await;
        assert_eq!(site.buyer(6).await.orders().await.len(), 1);

        // An order cancelled in one tab shows as cancelled in the other.
        browser.press("[data-orders-link]").await;
        browser.see(".order[data-status=pending] .state", "Awaiting payment").await;
        browser.client.switch_to_window(second.clone()).await.unwrap();
        browser.goto(&site.url("/en/orders/")).await;
        browser.see(".order[data-status=pending]", "Awaiting payment").await;
        browser.press(".order [data-cancel]").await;
        browser.see("dialog[open] h2", "Cancel this order?").await;
        browser.inspect("2-cancel").await;
        browser.press("dialog[open] button:not([type])").await;
        browser.see(".order[data-status=cancelled] .state", "Cancelled").await;
        browser.client.switch_to_window(first).await.unwrap();
        browser.see(".order[data-status=cancelled] .state", "Cancelled").await;

        // Signing out in one tab signs out the other.
        browser.press("[data-leave]").await;
        browser.client.switch_to_window(second).await.unwrap();
        browser.see("[data-empty]", "Sign in to see your orders.").await;
    })
    .await;
}
