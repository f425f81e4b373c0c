//! Operators run a sale entirely from the console.

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, PLENTY, Site},
};

/// The button that confirms an open dialog.
const YES: &str = "dialog .buttons button:not([type])";

async fn enter(browser: &Browser, role: &str) {
    browser.fill("[name=token]", &format!("{role}-token-of-the-browser-tests")).await;
    browser.press(".signin button").await;
    browser.until("usable('[data-leave]')").await;
}

/// Signs out and signs in with another role.
async fn change_to(browser: &Browser, role: &str) {
    browser.press("[data-leave]").await;
    enter(browser, role).await;
}

/// Clicks one of the activity's buttons. Scrolls up first, because the header bar may cover it.
async fn act(browser: &Browser, name: &str) {
    browser.run("scrollTo(0, 0)").await;
    browser.press(&format!("[data-act={name}]")).await;
}

/// Clicks a lifecycle button, confirms, and waits for the new state.
async fn step(browser: &Browser, step: &str, state: &str) {
    act(browser, step).await;
    browser.press(YES).await;
    browser.until("!document.querySelector('dialog')").await;
    browser.see(".badge", state).await;
}

/// Waits until the stock bar of an offer shows `count` units in a state.
async fn units(browser: &Browser, sku: u64, state: &str, count: u32) {
    let css = format!("[data-stock='{sku}'] [data-units={state}]");
    browser.until(&format!("document.querySelector(\"{css}\")?.textContent === '{count}'")).await;
}

/// Sets a time field to a number of minutes from now.
async fn set_time(browser: &Browser, field: &str, minutes: i32) {
    browser
        .run(&format!(
            "const at = new Date(Date.now() + {minutes} * 60000);
             const local = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
             document.querySelector('dialog [name={field}]').value = local;"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_take_a_sale_from_draft_to_end() {
    Browser::open("console", EN_DESK, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.console("/en/")).await;
        browser.see("h1", "Sign in to the console").await;
        browser.fill("[name=token]", "a-token-that-nobody-has-given-out").await;
        browser.press(".signin button").await;
        browser.see(".error", "The token is incorrect.").await;
        browser.inspect("01-sign-in").await;

        // A creator writes the draft.
        enter(browser, "creator").await;
        browser.see("tbody tr", "Doors at Ten").await;
        browser.inspect("02-activities").await;
        browser.press("[data-act=new]").await;
        browser.fill("dialog [name=name]", "Midnight <img src=x> 午夜").await;
        set_time(browser, "starts_at", -1).await;
        set_time(browser, "ends_at", 90).await;
        browser.inspect("03-new").await;
        browser.press(YES).await;
        browser.see("h1", "Midnight <img src=x> 午夜").await;
        let hash = browser.run("return location.hash").await;
        let activity = hash.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        for (sku, count) in [(PLENTY, "20"), (12, "5")] {
            act(browser, "attach").await;
            browser.fill("dialog [name=sku_id]", &sku.to_string()).await;
            browser.fill("dialog [name=price]", "88.8").await;
            browser.fill("dialog [name=units]", count).await;
            browser.fill("dialog [name='user offer']", "1").await;
            browser.see("dialog [role=status]", "regular price ¥129.00").await;
            if sku == PLENTY {
                browser.inspect("04-attach").await;
            }
            browser.press(YES).await;
            browser.until("!document.querySelector('dialog')").await;
            browser.see("td", "¥88.80").await;
        }
        step(browser, "submit", "Submitted").await;

        // The creator cannot approve it: the token is rejected, and the dialog says so.
        act(browser, "approve").await;
        browser.press(YES).await;
        browser.see("dialog .error", "This token has no permission to do that.").await;
        browser.press("dialog button.quiet").await;
        change_to(browser, "reviewer").await;
        step(browser, "approve", "Approved").await;
        change_to(browser, "operator").await;
        step(browser, "publish", "Live").await;

        // The page updates while the activity sells.
        units(browser, PLENTY, "available", 20).await;
        for user in 1..=3 {
            assert_eq!(site.buyer(user).await.try_to_order(&activity, PLENTY).await.status, 201);
        }
        assert_eq!(site.buyer(1).await.try_to_order(&activity, PLENTY).await.code(), "limit_reached");
        units(browser, PLENTY, "held", 3).await;
        units(browser, PLENTY, "available", 17).await;
        browser.see("[data-code='201'] td:last-child", "3").await;
        browser.see("[data-code=limit_reached] td:last-child", "1").await;
        browser.see("[data-differences='0']", "No differences").await;
        browser.see("[data-breaker='payment/sandbox']", "closed").await;
        browser.inspect("05-live").await;

        step(browser, "pause", "Paused").await;
        assert_eq!(site.buyer(4).await.try_to_order(&activity, PLENTY).await.code(), "paused");
        browser.press("[data-act=adjust]").await;
        browser.fill("dialog [name=delta]", "-30").await;
        browser.fill("dialog [name=reason]", "damaged in the warehouse").await;
        browser.press(YES).await;
        browser.see("dialog .error", "Not enough units are available").await;
        browser.fill("dialog [name=delta]", "-2").await;
        browser.press(YES).await;
        units(browser, PLENTY, "available", 15).await;
        browser.inspect("06-paused").await;
        step(browser, "resume", "Live").await;

        // Change the limits and the window of a running sale.
        browser.press("[data-act=edit-offer]").await;
        browser.fill("dialog [name='user offer']", "2").await;
        browser.inspect("07-limits").await;
        browser.press(YES).await;
        browser.see("td", "Per user in this offer: 2").await;
        assert_eq!(site.buyer(1).await.try_to_order(&activity, PLENTY).await.status, 201);
        act(browser, "edit").await;
        set_time(browser, "starts_at", 30).await;
        browser.press(YES).await;
        browser.see(".badge", "Upcoming").await;
        act(browser, "edit").await;
        set_time(browser, "starts_at", -1).await;
        browser.press(YES).await;
        browser.see(".badge", "Live").await;
        step(browser, "end", "Ended").await;
        assert_eq!(site.buyer(5).await.try_to_order(&activity, PLENTY).await.code(), "ended");

        // Support cancels an order; the audit trail names who did what.
        browser.press("[href='#/orders']").await;
        browser.fill("[name=user_id]", "1").await;
        browser.press(".search button").await;
        browser.press("[data-act=cancel]").await;
        browser.press(YES).await;
        browser.see("td", "Cancelled").await;
        browser.inspect("08-orders").await;
        browser.press("[href='#/audit']").await;
        browser.see("td", "damaged in the warehouse").await;
        browser.see(".fine", "the hash chain is intact").await;
        browser.inspect("09-audit").await;
        browser.press("[href='#/checks']").await;
        browser.see("[data-differences='0']", "No differences").await;
        browser.inspect("10-checks").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_stops_all_sales_from_a_phone() {
    Browser::open("stop", ZH_PHONE, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.console("/")).await;
        enter(browser, "operator").await;
        browser.see("td a", "双十一狂欢夜").await;
        browser.inspect("1-activities").await;
        let activity = LIVE.to_string();
        browser.press(&format!("[href='#/activities/{activity}']")).await;
        units(browser, PLENTY, "available", 100).await;
        browser.press("[data-kill]").await;
        browser.fill("dialog [name=reason]", "价格错误").await;
        browser.press(YES).await;
        browser.see("[data-stopped]", "全部停售：价格错误（cleo").await;
        assert_eq!(site.buyer(1).await.try_to_order(&activity, PLENTY).await.code(), "paused");
        browser.inspect("2-stopped").await;
        let resume = async || {
            browser.press("[data-kill]").await;
            browser.fill("dialog [name=reason]", "已更正").await;
            browser.press(YES).await;
            browser.until("!document.querySelector('[data-stopped]').checkVisibility()").await;
        };
        resume().await;
        // A reason cannot turn the text after it around.
        browser.press("[data-kill]").await;
        browser.fill("dialog [name=reason]", "价格\u{202e}错误").await;
        browser.press(YES).await;
        browser.see("[data-stopped]", "全部停售：\u{2068}价格错误\u{2069}（cleo").await;
        resume().await;
        assert_eq!(site.buyer(1).await.try_to_order(&activity, PLENTY).await.status, 201);
        units(browser, PLENTY, "held", 1).await;

        // A reload keeps the session, another tab has none, and the URL never contains the token.
        browser.client.refresh().await.unwrap();
        units(browser, PLENTY, "held", 1).await;
        browser.press("[href='#/catalogue']").await;
        browser.see("h2", "紫砂壶 Teapot <b>").await;
        browser.inspect("3-catalogue").await;
        browser.press("[data-language]").await;
        browser.see("h1", "Products").await;
        let address = browser.client.current_url().await.unwrap();
        assert!(address.as_str().ends_with("/en/#/catalogue"), "{address}");
        let tab = browser.client.new_window(true).await.unwrap();
        browser.client.switch_to_window(tab.handle).await.unwrap();
        browser.goto(&site.console("/zh/")).await;
        browser.see("h1", "登录控制台").await;
        assert_eq!(browser.run("return document.cookie + Object.keys(localStorage)").await, "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_create_products_refund_orders_and_resolve_dead_letters() {
    Browser::open("desk", EN_DESK, async |browser| {
        let keys = tempfile::tempdir().unwrap();
        let secret = keys.path().join("secret");
        std::fs::write(&secret, "a webhook secret of the tests").unwrap();
        // No receiver listens on this port, so every order event becomes a dead letter at once.
        let site = Site::with(
            3600,
            &format!(
                "[queue]\nattempts = 1\n[notifications]\nwebhook = \"http://127.0.0.1:9/\"\nsecret_file = {secret:?}"
            ),
        );
        let mut buyer = site.buyer(1).await;
        let order = buyer.order(PLENTY).await;
        buyer.pay(&order).await;
        while site.read("/v1/dead-letters").await["items"].as_array().unwrap().len() < 3 {}

        browser.goto(&site.console("/en/#/catalogue")).await;
        enter(browser, "creator").await;
        browser.press("[data-act=new-product]").await;
        browser.fill("dialog [name=name]", "Inkstone 砚").await;
        browser.press(YES).await;
        browser.until("[...document.querySelectorAll('h2')].some((h) => h.textContent === 'Inkstone 砚')").await;
        browser.press("[data-act=new-sku]").await;
        browser.fill("dialog [name=name]", "Small <b>").await;
        browser.fill("dialog [name=price]", "1.234").await;
        browser.press(YES).await;
        browser.see("dialog .error", "at most 2 decimals").await;
        browser.fill("dialog [name=price]", "12.5").await;
        browser.press(YES).await;
        browser.until("[...document.querySelectorAll('td')].some((td) => td.textContent === 'Small <b>')").await;
        browser.inspect("1-catalogue").await;

        // An offer is attached, detached and attached again; the reviewer rejects the activity.
        browser.press("[href='#/']").await;
        browser.press("[data-act=new]").await;
        browser.fill("dialog [name=name]", "Back and forth").await;
        browser.press(YES).await;
        browser.see("h1", "Back and forth").await;
        for again in [true, false] {
            act(browser, "attach").await;
            browser.fill("dialog [name=sku_id]", &PLENTY.to_string()).await;
            browser.fill("dialog [name=price]", "88").await;
            browser.fill("dialog [name=units]", "7").await;
            browser.see("dialog [role=status]", "regular price").await;
            browser.press(YES).await;
            browser.until("!document.querySelector('dialog')").await;
            browser.see("td", "¥88.00").await;
            if again {
                browser.press("[data-act=detach]").await;
                browser.press(YES).await;
                browser.see(".empty", "No offers yet.").await;
            }
        }
        step(browser, "submit", "Submitted").await;
        change_to(browser, "reviewer").await;
        step(browser, "reject", "Draft").await;

        change_to(browser, "operator").await;
        browser.press("[href='#/orders']").await;
        browser.fill("[name=user_id]", "1").await;
        browser.press(".search button").await;
        browser.press("[data-act=refund]").await;
        browser.fill("dialog [name=reason]", "it arrived broken").await;
        browser.press(YES).await;
        browser.see("td", "Paid, refund").await;

        browser.press("[href='#/checks']").await;
        browser.see("td", "notifications").await;
        browser.inspect("2-dead-letters").await;
        for verb in ["replay", "discard"] {
            browser.press(&format!("[data-act={verb}]")).await;
            browser.fill("dialog [name=reason]", &format!("{verb} it")).await;
            browser.press(YES).await;
            browser.until("!document.querySelector('dialog')").await;
        }
        browser.press("[href='#/audit']").await;
        browser.see("td", "dead_letter.replayed").await;
        browser.see("td", "dead_letter.discarded").await;

        // The running sale is ended and archived.
        browser.press("[href='#/']").await;
        browser.press(&format!("[href='#/activities/{LIVE}']")).await;
        step(browser, "end", "Ended").await;
        step(browser, "archive", "Archived").await;
        browser.inspect("3-archived").await;
    })
    .await;
}
