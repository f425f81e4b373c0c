//! Operators run a sale from the console, and touch no file.

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, PLENTY, Site},
};

/// What accepts an open box.
const YES: &str = "dialog .buttons button:not([type])";

async fn enter(browser: &Browser, role: &str) {
    browser.fill("[name=token]", &format!("{role}-token-of-the-browser-tests")).await;
    browser.press(".signin button").await;
    browser.until("usable('[data-leave]')").await;
}

/// Somebody else comes to this desk.
async fn change_to(browser: &Browser, role: &str) {
    browser.press("[data-leave]").await;
    enter(browser, role).await;
}

/// Presses one of the activity's buttons, which may be above what is seen, behind the bar.
async fn act(browser: &Browser, name: &str) {
    browser.run("scrollTo(0, 0)").await;
    browser.press(&format!("[data-act={name}]")).await;
}

/// Presses the button of a step and says yes; waits for what the activity is then.
async fn step(browser: &Browser, step: &str, state: &str) {
    act(browser, step).await;
    browser.press(YES).await;
    browser.until("!document.querySelector('dialog')").await;
    browser.see(".badge", state).await;
}

/// Waits until the bar of an offer says so.
async fn units(browser: &Browser, sku: u64, state: &str, count: u32) {
    let css = format!("[data-stock='{sku}'] [data-units={state}]");
    browser.until(&format!("document.querySelector(\"{css}\")?.textContent === '{count}'")).await;
}

/// Sets the time of a field, in minutes from now.
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
async fn operators_take_a_sale_from_its_draft_to_its_end() {
    Browser::open("console", EN_DESK, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.console("/en/")).await;
        browser.see("h1", "Sign in to the console").await;
        browser.fill("[name=token]", "a-token-that-nobody-has-given-out").await;
        browser.press(".signin button").await;
        browser.see(".error", "The token is incorrect.").await;
        browser.inspect("01-sign-in").await;

        // A creator writes it.
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

        // Who wrote it cannot approve it: the token is refused, and the box says so.
        act(browser, "approve").await;
        browser.press(YES).await;
        browser.see("dialog .error", "This token has no permission to do that.").await;
        browser.press("dialog button.quiet").await;
        change_to(browser, "reviewer").await;
        step(browser, "approve", "Approved").await;
        change_to(browser, "operator").await;
        step(browser, "publish", "Live").await;

        // It sells while the operator looks.
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
        browser.fill("dialog [name=reason]", "broken in the store").await;
        browser.press(YES).await;
        browser.see("dialog .error", "Not enough units are available").await;
        browser.fill("dialog [name=delta]", "-2").await;
        browser.press(YES).await;
        units(browser, PLENTY, "available", 15).await;
        browser.inspect("06-paused").await;
        step(browser, "resume", "Live").await;

        // Limits and the window of a sale that runs.
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

        // Support, and who did all that.
        browser.press("[href='#/orders']").await;
        browser.fill("[name=user_id]", "1").await;
        browser.press(".search button").await;
        browser.press("[data-act=cancel]").await;
        browser.press(YES).await;
        browser.see("td", "Cancelled").await;
        browser.inspect("08-orders").await;
        browser.press("[href='#/audit']").await;
        browser.see("td", "broken in the store").await;
        browser.see(".fine", "the hash chain is intact").await;
        browser.inspect("09-audit").await;
        browser.press("[href='#/checks']").await;
        browser.see("[data-differences='0']", "No differences").await;
        browser.inspect("10-checks").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_stops_everything_from_a_phone() {
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
        browser.press("[data-kill]").await;
        browser.fill("dialog [name=reason]", "已更正").await;
        browser.press(YES).await;
        browser.until("!document.querySelector('[data-stopped]').checkVisibility()").await;
        assert_eq!(site.buyer(1).await.try_to_order(&activity, PLENTY).await.status, 201);
        units(browser, PLENTY, "held", 1).await;

        // A reload keeps the operator in, another tab does not; the address never holds the token.
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
async fn operators_write_products_refund_orders_and_end_dead_letters() {
    Browser::open("desk", EN_DESK, async |browser| {
        let keys = tempfile::tempdir().unwrap();
        let secret = keys.path().join("secret");
        std::fs::write(&secret, "what nobody who listens knows").unwrap();
        // Nobody listens there: what happens to orders becomes dead letters at once.
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

        // An offer is attached, detached and attached; the reviewer sends the activity back.
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
        browser.fill("dialog [name=reason]", "it came broken").await;
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

        // The sale that runs is ended, and put away.
        browser.press("[href='#/']").await;
        browser.press(&format!("[href='#/activities/{LIVE}']")).await;
        step(browser, "end", "Ended").await;
        step(browser, "archive", "Archived").await;
        browser.inspect("3-archived").await;
    })
    .await;
}
