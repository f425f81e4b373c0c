//! Sold-out offers and released units.

use crate::{
    browser::{Browser, EN_PHONE, ZH_DESK},
    site::{LAST, LIVE, Site},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_unit_reappears_on_the_page_and_is_bought() {
    Browser::open("stock", ZH_DESK, async |browser| {
        let site = Site::open(3600);
        let mut other = site.buyer(1).await;
        let order = other.order(LAST).await;
        browser.goto(&site.url(&format!("/zh/activities/{LIVE}/"))).await;
        let offer = format!("[data-offer='{LAST}']");
        browser.see(&format!("{offer} [data-state]"), "已抢光").await;
        browser.inspect("1-sold-out").await;
        let button = format!("{offer} form button");
        assert!(browser.run(&format!("return document.querySelector(\"{button}\").disabled")).await == true);
        browser.press("[data-enter]").await;
        browser.sign_in(2).await;

        // The page updates without a click or reload, and announces it to screen readers.
        other.cancel(&order).await;
        browser.see(&format!("{offer} [data-state]"), "有货").await;
        browser.until("document.querySelector('[data-announce]').textContent.includes('又有货了')").await;
        browser.press(&button).await;
        browser.see(&format!("{offer} .result.bought"), "抢到了").await;
        let orders = site.buyer(2).await.orders().await;
        assert_eq!((orders.len(), &orders[0]["sku_id"]), (1, &LAST.to_string().into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_who_is_too_late_is_told_what_to_do() {
    Browser::open("late", EN_PHONE, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.url(&format!("/en/activities/{LIVE}/"))).await;
        browser.press("[data-enter]").await;
        browser.sign_in(3).await;
        let button = format!("[data-offer='{LAST}'] form button");
        browser.until(&format!("usable(\"{button}\")")).await;
        // Status requests hang, as on a bad connection, while another buyer takes the last unit.
        browser.run("const ask = window.fetch; window.fetch = (address, how) => String(address).endsWith('/status') ? new Promise(() => {}) : ask(address, how);").await;
        site.buyer(4).await.order(LAST).await;
        browser.press(&button).await;
        browser.see(&format!("[data-offer='{LAST}'] .result"), "Sold out. Units from unpaid orders may become available again: stay on this page.").await;
        browser.inspect("1-too-late").await;
        assert!(site.buyer(3).await.orders().await.is_empty());
    })
    .await;
}
