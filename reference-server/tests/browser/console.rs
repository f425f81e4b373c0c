//! Operators run a sale entirely from the console.

use serde_json::json;

use crate::{
    browser::{Browser, EN_DESK, ZH_DESK, ZH_PHONE},
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_have_the_decimal_places_of_the_server() {
    Browser::open("currencies", EN_DESK, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.console("/en/#/catalogue")).await;
        enter(browser, "creator").await;
        // Browsers round IDR, COP, PKR and IQD to whole units.
        let table = [
            ("IDR", "1500", 150_000_u64, "1,500.00"),
            ("COP", "109900.5", 10_990_050, "109,900.50"),
            ("PKR", "1500", 150_000, "1,500.00"),
            ("IQD", "1250.125", 1_250_125, "1,250.125"),
            ("KWD", "1.25", 1_250, "1.250"),
            ("JPY", "1200", 1_200, "1,200"),
            ("ISK", "4990", 4_990, "4,990"),
            ("MGA", "10", 1_000, "10.00"),
            ("CLF", "1.2345", 12_345, "1.2345"),
            ("CNY", "1299", 129_900, "1,299.00"),
        ];
        for (currency, typed, amount, shown) in table {
            browser.press("[data-act=new-sku]").await;
            browser.fill("dialog [name=name]", currency).await;
            browser.fill("dialog [name=price]", typed).await;
            browser.fill("dialog [name=currency]", currency).await;
            browser.press(YES).await;
            let row = format!("[...document.querySelectorAll('tr')].find((row) => row.cells[1]?.textContent === '{currency}')");
            browser.until(&format!("!document.querySelector('dialog') && {row}")).await;
            let text = browser.run(&format!("return {row}.cells[2].textContent")).await;
            assert!(text.as_str().unwrap().ends_with(shown), "{currency}: {text}");
            let skus = site.read("/v1/skus?limit=100").await;
            let skus = skus["items"].as_array().unwrap();
            let sku = skus.iter().find(|sku| sku["name"] == currency).unwrap();
            assert_eq!(sku["list_price"], json!({ "amount": amount, "currency": currency }));
            // The form shows what the server has; nothing changes when it is sent back.
            browser.run(&format!("{row}.querySelector('button').click()")).await;
            browser.until("usable('dialog [name=price]')").await;
            browser.press(YES).await;
            browser.until("!document.querySelector('dialog')").await;
            let same = site.read(&format!("/v1/skus/{}", sku["id"].as_str().unwrap())).await;
            assert_eq!(same["list_price"], sku["list_price"]);
        }
        browser.inspect("1-catalogue").await;
        for (currency, digits) in [("IDR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            browser.press("[data-act=new-sku]").await;
            browser.fill("dialog [name=name]", "too fine").await;
            browser.fill("dialog [name=price]", "1.23456").await;
            browser.fill("dialog [name=currency]", currency).await;
            browser.press(YES).await;
            browser.see("dialog .error", &format!("at most {digits} decimals")).await;
            browser.press("dialog button.quiet").await;
        }
        for currency in ["XTS", "XAU", "RMB"] {
            browser.press("[data-act=new-sku]").await;
            browser.fill("dialog [name=name]", "no money").await;
            browser.fill("dialog [name=price]", "1").await;
            browser.fill("dialog [name=currency]", currency).await;
            browser.press(YES).await;
            browser.see("dialog .error", &format!("“{currency}” is not a currency")).await;
            browser.press("dialog button.quiet").await;
        }
    })
    .await;
}

/// Replaces the text of a time field as a person would, so that its events fire.
async fn type_time(browser: &Browser, field: &str, text: &str) {
    browser
        .run(&format!(
            "const field = document.querySelector('dialog [name={field}]');
             field.value = '{text}';
             field.dispatchEvent(new Event('input', {{ bubbles: true }}));"
        ))
        .await;
}

/// Returns the texts of the offsets from which the user chooses.
async fn offsets(browser: &Browser, field: &str) -> serde_json::Value {
    let css = format!("dialog [name={field}_offset] option");
    browser.run(&format!("return [...document.querySelectorAll('{css}')].map((each) => each.text)")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_keep_their_meaning_when_clocks_are_set_back() {
    Browser::open("clocks", EN_DESK, async |browser| {
        let site = Site::open(3600);
        // In New York, clocks are set back from 02:00 to 01:00 on that day.
        let (starts, ends) = ("2030-11-03T06:30:00.250Z", "2030-11-03T12:00:00.000Z");
        let draft = site
            .create("/v1/activities", &json!({ "name": "Twice", "starts_at": starts, "ends_at": ends }))
            .await;
        let path = format!("/v1/activities/{}", draft["id"].as_str().unwrap());
        let window = async || {
            let activity = site.read(&path).await;
            [activity["starts_at"].clone(), activity["ends_at"].clone()]
        };
        browser.devtools("Emulation.setTimezoneOverride", json!({ "timezoneId": "America/New_York" })).await;
        browser.goto(&site.console(&format!("/en/#{}", &path[3..]))).await;
        enter(browser, "creator").await;
        browser.see(".facts dd", "Nov 3, 2030, 01:30:00 GMT-5").await;
        browser
            .run(
                "window.sent = [];
                 const real = window.fetch;
                 window.fetch = (path, options) => {
                   if (options?.method === 'PATCH') window.sent.push(Object.keys(JSON.parse(options.body)));
                   return real(path, options);
                 };",
            )
            .await;

        // An untouched time is not sent.
        act(browser, "edit").await;
        browser.see("dialog label", "Starts (America/New_York)").await;
        assert_eq!(offsets(browser, "starts_at").await, json!(["UTC−04:00", "UTC−05:00"]));
        assert_eq!(offsets(browser, "ends_at").await, json!(["UTC−05:00"]));
        browser.inspect("1-twice").await;
        type_time(browser, "ends_at", "2030-11-03T08:00:00").await;
        browser.press(YES).await;
        browser.until("!document.querySelector('dialog')").await;
        assert_eq!(window().await, [json!(starts), json!("2030-11-03T13:00:00.000Z")]);
        assert_eq!(browser.run("return window.sent").await, json!([["ends_at", "name", "description"]]));

        // Either pass of the repeated hour can be chosen, and the milliseconds stay.
        for (offset, instant) in [(-4, "2030-11-03T05:30:00.250Z"), (-5, "2030-11-03T06:30:00.250Z")] {
            act(browser, "edit").await;
            browser.until("usable('dialog [name=starts_at_offset]')").await;
            browser
                .run(&format!(
                    "const select = document.querySelector('dialog [name=starts_at_offset]');
                     select.value = '{}';
                     select.dispatchEvent(new Event('change'));",
                    offset * 3_600_000
                ))
                .await;
            browser.press(YES).await;
            browser.until("!document.querySelector('dialog')").await;
            assert_eq!(window().await[0], instant);
        }

        // A skipped time does not exist.
        act(browser, "edit").await;
        browser.until("usable('dialog [name=starts_at]')").await;
        type_time(browser, "starts_at", "2030-03-10T02:30:00.000").await;
        assert_eq!(offsets(browser, "starts_at").await, json!([]));
        browser.press(YES).await;
        browser.see("dialog .error", "Clocks are set forward and skip this time.").await;
        type_time(browser, "starts_at", "2030-03-10T03:30:00.000").await;
        assert_eq!(offsets(browser, "starts_at").await, json!(["UTC−04:00"]));
        browser.press(YES).await;
        browser.until("!document.querySelector('dialog')").await;
        assert_eq!(window().await[0], "2030-03-10T07:30:00.000Z");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_chinese_console_are_chinese() {
    Browser::open("errors", ZH_DESK, async |browser| {
        let site = Site::open(3600);
        browser.goto(&site.console("/zh/#/activities/1")).await;
        enter(browser, "reviewer").await;
        act(browser, "pause").await;
        browser.press(YES).await;
        browser.see("dialog .error", "此令牌没有操作权限。请求编号：").await;
        let error = browser.run("return document.querySelector('dialog .error').textContent").await;
        let (_, id) = error.as_str().unwrap().split_once("：").unwrap();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{error}");

        // The largest order of an offer must not exceed what money can hold.
        browser.press("dialog button.quiet").await;
        let window =
            json!({ "name": "贵", "starts_at": "2030-11-03T06:00:00Z", "ends_at": "2030-11-04T06:00:00Z" });
        let draft = site.create("/v1/activities", &window).await;
        change_to(browser, "creator").await;
        browser.run(&format!("location.hash = '#/activities/{}'", draft["id"].as_str().unwrap())).await;
        browser.see("h1", "贵").await;
        act(browser, "attach").await;
        browser.fill("dialog [name=sku_id]", &PLENTY.to_string()).await;
        browser.fill("dialog [name=price]", "10000000000000").await;
        browser.fill("dialog [name=units]", "2").await;
        browser.see("dialog [role=status]", "日常价 ¥129.00").await;
        browser.press(YES).await;
        browser.see("dialog .error", "填写有误（price）。请求编号：").await;
        browser.fill("dialog [name='user offer']", "1").await;
        browser.press(YES).await;
        browser.see("td", "¥10,000,000,000,000.00").await;
    })
    .await;
}
