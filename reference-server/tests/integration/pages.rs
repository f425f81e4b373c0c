//! Pages: escaping, caching and security headers; CORS.

use flashsale_core::domain::Currency;
use flashsale_testkit::client::Answer;
use hyper::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderName},
};
use reference_server::config::OperatorRole;
use serde_json::json;

use crate::{
    activities::operate_if,
    metrics::scrape,
    shop::{Shop, catalogue, expect},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_escaped_versioned_and_locked_down() {
    let shop = Shop::open().await;
    let home = shop.read("/").await;
    let html = home.body.as_str().unwrap();
    assert!(html.contains("双十一 &#60;b&#62;") && !html.contains("双十一 <b>"), "{html}");
    assert!(html.contains("href=\"/zh/activities/2/\"") && !html.contains("a draft"));
    let page = shop.read("/activities/1").await;
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("<script>alert") && html.contains("&#60;script&#62;alert"), "{html}");
    assert!(html.contains("data-offer=\"12\"") && html.contains("¥99.00"));
    let product = shop.read("/products/1").await;
    let html = product.body.as_str().unwrap();
    assert!(!html.contains("<script>alert") && html.contains("&#60;script&#62;alert"), "{html}");
    assert!(html.contains("data-activity=\"1\"") && html.contains("data-activity=\"2\""), "{html}");
    let orders = shop.read("/orders").await;
    let pages = [("/", &home), ("/activities/1", &page), ("/products/1", &product), ("/orders", &orders)];
    for (path, page) in pages {
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(page.header("cache-control").contains("max-age"));
        let etag = page.header("etag");
        assert!(etag.starts_with('"'), "strong: {etag}");
        let again = shop.call(Method::GET, path, &[("if-none-match", etag)], None).await;
        assert_eq!((again.status, again.header("etag")), (StatusCode::NOT_MODIFIED, etag));
        assert!(again.body.is_null());
        let head = shop.call(Method::HEAD, path, &[], None).await;
        assert_eq!((head.status, head.header("etag")), (StatusCode::OK, etag));
        assert!(head.body.is_null());
    }
    let nothing = [
        "/assets/secrets.json",
        "/assets/..%2fsecrets.json",
        "/activities/3",
        "/activities/x",
        "/products/9",
        "/fr/",
        "/zh/zh/",
        "/zh//",
        "/zh/v1/time",
        "/orders/1",
    ];
    for path in nothing {
        expect(&shop.read(path).await, 404, "not_found");
    }
    expect(&shop.call(Method::POST, "/zh/orders/", &[], None).await, 405, "method_not_allowed");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_name_currencies_and_discounts() {
    let shop = Shop::open().await;
    let mut document = catalogue();
    for sku in document["skus"].as_array_mut().unwrap() {
        sku["list_price"]["amount"] = json!(12_375);
    }
    assert_eq!(shop.import(&document).await.status, StatusCode::OK);
    let page = async |path: &str| shop.read(path).await.body.as_str().unwrap().to_owned();
    let (zh, en) = (page("/zh/activities/1/").await, page("/en/activities/1/").await);
    assert!(zh.contains(">8 折<") && !zh.contains("−20%"), "{zh}");
    assert!(en.contains(">−20%<") && !en.contains('折'), "{en}");
    let console = shop.call_operations("/en/").await;
    let console = console.body.as_str().unwrap();
    for html in [&zh, &en, &page("/en/orders/").await, console] {
        let (_, table) = html.split_once("data-currencies=\"").unwrap();
        let table: Vec<&str> = table.split_once('"').unwrap().0.split(' ').collect();
        let expected = Currency::all().map(|currency| format!("{currency}{}", currency.exponent()));
        assert_eq!(table, expected.collect::<Vec<_>>());
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn product_pages_are_rendered_once_and_again_after_a_change() {
    let shop = Shop::open().await;
    let loads = async || scrape(&shop).await["flashsale_cache_loads_total{cache=\"products\"}"];
    let before = loads().await;
    for path in ["/v1/products/1", "/zh/products/1/", "/en/products/1/", "/products/1"] {
        assert_eq!(shop.read(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(loads().await, before, "products on sale are rendered at publication");
    for path in ["/v1/products/9", "/v1/products/9", "/en/products/9/"] {
        expect(&shop.read(path).await, 404, "not_found");
    }
    assert_eq!(loads().await, before + 1.0, "a missing product is looked up only once");
    expect(&shop.read("/v1/skus/99").await, 404, "not_found");

    let price = json!({ "amount": 100, "currency": "CNY" });
    let product = |name: &str| json!({ "id": "9", "name": name });
    let sku = json!({ "id": "99", "product_id": "9", "name": "small", "list_price": price });
    for (path, body) in [("/v1/products", &product("a pot")), ("/v1/skus", &sku)] {
        let made = shop.operate(OperatorRole::Creator, Method::POST, path, Some(body)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made}");
    }
    let first = shop.read("/en/products/9/").await;
    let html = first.body.as_str().unwrap();
    assert!(html.contains("a pot") && html.contains("small"), "{html}");
    assert_eq!(shop.read("/v1/skus/99").await.body["name"], "small");
    assert_eq!(shop.read("/v1/products/9").await.body["skus"][0]["id"], "99");

    let renamed = operate_if(
        &shop,
        OperatorRole::Creator,
        Method::POST,
        "/v1/products",
        "\"1\"",
        Some(&product("a jug")),
    )
    .await;
    assert_eq!(renamed.status, StatusCode::OK, "{renamed}");
    let headers = [("if-none-match", first.header("etag"))];
    let second = shop.call(Method::GET, "/en/products/9/", &headers, None).await;
    assert_eq!(second.status, StatusCode::OK);
    assert!(second.body.as_str().unwrap().contains("a jug"));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_turn_nothing_around_and_a_sale_may_have_no_end() {
    let shop = Shop::open().await;
    let turned = "Tee \u{202e}evil שלום";
    let mut sale = catalogue();
    sale["products"][0]["name"] = json!(turned);
    sale["skus"][0]["name"] = json!(turned);
    sale["activities"][0]["name"] = json!(turned);
    sale["activities"][0]["starts_at"] = json!("2020-01-01T00:00:00Z");
    sale["activities"][0]["ends_at"] = json!("9999-12-31");
    assert_eq!(shop.import(&sale).await.status, StatusCode::OK);
    for path in ["/en/", "/en/activities/1/", "/en/products/1/"] {
        let page = shop.read(path).await;
        let html = page.body.as_str().unwrap();
        assert!(html.contains(turned), "{html}");
        assert_eq!(html.matches(turned).count(), html.matches(&format!("{turned}</bdi>")).count(), "{html}");
        assert!(path == "/en/" || html.contains("<title>\u{2068}Tee evil שלום\u{2069}</title>"), "{html}");
        assert!(html.contains("no end date") && !html.contains(">9999-12-31"), "{html}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_a_path_in_each_language() {
    let shop = Shop::open().await;
    for path in ["/", "/activities/1", "/products/1", "/orders"] {
        for (language, tag, accepted) in [("zh", "zh-CN", "zh-TW,en;q=0.5"), ("en", "en", "en-GB,zh;q=0.9")] {
            let own = format!("/{language}{}/", path.trim_end_matches('/'));
            let page = shop.call(Method::GET, &own, &[("accept-language", "xx")], None).await;
            let html = page.body.as_str().unwrap();
            assert!(html.contains(&format!("<html lang=\"{tag}\"")), "{html}");
            assert_eq!((page.header("content-language"), all(&page, "vary")), (tag, vec!["accept-encoding"]));
            let other = if language == "zh" { "en" } else { "zh" };
            let switch = format!("/{other}{}/", path.trim_end_matches('/'));
            assert!(html.contains(&format!("href=\"{switch}\" lang=")), "no switch to {switch}: {html}");
            // Without a language in the path, `Accept-Language` decides, and `Vary` says so.
            let asked = shop.call(Method::GET, path, &[("accept-language", accepted)], None).await;
            assert_eq!((&asked.body, asked.header("etag")), (&page.body, page.header("etag")));
            assert_eq!(all(&asked, "vary"), ["accept-encoding", "accept-language"]);
        }
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_documents_are_compressed_with_one_etag_per_coding() {
    let shop = Shop::open().await;
    let paths = ["/en/", "/en/activities/1/", "/en/products/1/", "/en/orders/", "/v1/activities/1"];
    for path in paths {
        let mut tags = Vec::new();
        for coding in ["identity", "gzip", "br"] {
            let headers = [("accept-encoding", coding)];
            let answer = shop.call(Method::GET, path, &headers, None).await;
            let expected = if coding == "identity" { "" } else { coding };
            assert_eq!(
                (answer.status, answer.header("content-encoding")),
                (StatusCode::OK, expected),
                "{path}"
            );
            assert!(answer.header("cache-control").starts_with("public, max-age="), "{path}");
            let etag = answer.header("etag");
            let again = shop.call(Method::GET, path, &[headers[0], ("if-none-match", etag)], None).await;
            assert_eq!((again.status, again.header("etag")), (StatusCode::NOT_MODIFIED, etag), "{path}");
            assert_eq!(again.header("vary"), "accept-encoding");
            let head = shop.call(Method::HEAD, path, &headers, None).await;
            assert_eq!(head.header("content-length"), answer.header("content-length"), "{path} {coding}");
            tags.push(etag.to_owned());
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3, "{path}: two codings share an ETag");
    }
    for path in ["/v1/activities", "/v1/products/1", "/v1/skus/11"] {
        let answer = shop.read(path).await;
        let again = shop.call(Method::GET, path, &[("if-none-match", answer.header("etag"))], None).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_are_immutable_under_content_hashed_names() {
    let shop = Shop::open().await;
    let home = shop.read("/en/").await;
    let html = home.body.as_str().unwrap();
    for (name, content_type) in
        [("shop.js", "text/javascript; charset=utf-8"), ("shop.css", "text/css; charset=utf-8")]
    {
        let (stem, extension) = name.split_once('.').unwrap();
        let is_it = |text: &&str| text.starts_with(&format!("/assets/{stem}.")) && text.ends_with(extension);
        let path = html.split('"').find(is_it).unwrap_or_else(|| panic!("no {name}: {html}"));
        let answer = shop.read(path).await;
        assert_eq!(answer.header("content-type"), content_type);
        assert!(answer.header("cache-control").contains("immutable"), "{path}");
        // A page of another version gets the current file, which is not cached as immutable.
        let other = shop.read(&format!("/assets/{stem}.0123456789abcdef.{extension}")).await;
        assert_eq!(other.body, answer.body);
        assert!(!other.header("cache-control").contains("immutable"));
        assert_eq!(shop.read(&format!("/assets/{stem}.x.{extension}")).await.status, StatusCode::NOT_FOUND);
    }
    shop.close().await;
}

/// Returns all values of a header.
fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_payment_page_links_back_to_allowed_origins_only() {
    let origin = "https://shop.example";
    let shop = Shop::with(|config| config.http.cors_origins = vec![origin.to_owned()]).await;
    let table = [
        ("?lang=en", "/en/orders/"),
        ("?lang=zh", "/zh/orders/"),
        ("?lang=en&back=https%3A%2F%2Fshop.example%2Fen%2Forders%2F", "https://shop.example/en/orders/"),
        ("?lang=en&back=https%3A%2F%2Fshop.example.evil%2F", "/en/orders/"),
        ("?lang=en&back=javascript%3Aalert(1)", "/en/orders/"),
        ("?lang=en&back=%2F%2Fevil.example%2F", "/en/orders/"),
    ];
    for (query, back) in table {
        let page = shop.read(&format!("/sandbox/payments/1-0-17{query}")).await;
        assert_eq!(page.header("cache-control"), "no-store");
        let html = page.body.as_str().unwrap();
        assert!(html.contains(&format!("data-back=\"{back}\"")), "{query}: {html}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_offer_sign_in_only_with_the_demo_identity() {
    for demo in [true, false] {
        let shop = Shop::with(|config| config.identity.demo = demo).await;
        for path in ["/", "/activities/1"] {
            let page = shop.read(path).await;
            let html = page.body.as_str().unwrap();
            assert_eq!(html.contains("data-signin"), demo, "{html}");
            assert_eq!(html.contains("data-stranger"), !demo, "{html}");
        }
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_origins_may_call_the_api() {
    let origin = "https://shop.example";
    let shop = Shop::with(|config| config.http.cors_origins = vec![origin.to_owned()]).await;
    let ask = async |method: Method, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        shop.call(method, "/v1/time", &headers, None).await
    };
    let preflight = ask(Method::OPTIONS, origin).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    let allowed: Vec<_> = preflight.header("access-control-allow-headers").split(", ").collect();
    for name in ["authorization", "idempotency-key", "if-none-match", "traceparent", "tracestate", "baggage"]
    {
        assert!(allowed.contains(&name), "{name} in {allowed:?}");
    }
    let answer = ask(Method::GET, origin).await;
    assert_eq!(answer.header("access-control-allow-origin"), origin);
    assert_eq!(answer.header("vary"), "origin");
    let other = ask(Method::GET, "https://shop.example.evil").await;
    assert_eq!((other.header("access-control-allow-origin"), other.header("vary")), ("", "origin"));
    assert_eq!(ask(Method::OPTIONS, "https://evil.example").await.status, StatusCode::METHOD_NOT_ALLOWED);
    shop.close().await;

    let shop = Shop::with(|config| {
        config.http.cors_origins = vec![origin.to_owned()];
        config.http.cors_headers = vec![HeaderName::from_static("x-shop"), AUTHORIZATION];
    })
    .await;
    let headers = [("origin", origin), ("access-control-request-method", "POST")];
    let preflight = shop.call(Method::OPTIONS, "/v1/time", &headers, None).await;
    assert_eq!(preflight.header("access-control-allow-headers"), "x-shop, authorization");
    shop.close().await;
}
