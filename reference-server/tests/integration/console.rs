//! The console page: public, bilingual, locked down, and only on the operations listener.

use flashsale_testkit::client::Client;
use hyper::{Method, StatusCode};

use crate::shop::{Shop, expect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_page_contains_no_data_and_is_only_on_the_operations_listener() {
    let shop = Shop::open().await;
    for (path, language, title) in
        [("/", "zh-CN", "抢购控制台"), ("/zh/", "zh-CN", "抢购控制台"), ("/en/", "en", "Sale console")]
    {
        let page = shop.call_operations(path).await;
        assert_eq!(page.status, StatusCode::OK, "{page}");
        let html = page.body.as_str().unwrap();
        assert!(html.contains(title), "{html}");
        assert!(!html.contains("双十一"), "no data: {html}");
        assert_eq!(page.header("content-language"), language);
        assert_eq!(page.header("cache-control"), "no-cache");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        let etag = page.header("etag");
        let known = [("if-none-match", etag)];
        let again = Client::new(shop.operations).request(Method::GET, path, &known, None).await.unwrap();
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);

        // Its assets exist on the operations listener, but not on the public one.
        for file in html.split('"').filter(|word| word.starts_with("/assets/")) {
            assert_eq!(shop.call_operations(file).await.status, StatusCode::OK, "{file}");
            let for_buyers = if file.contains("console") { StatusCode::NOT_FOUND } else { StatusCode::OK };
            assert_eq!(shop.read(file).await.status, for_buyers, "{file}");
        }
    }
    let english = [("accept-language", "en-GB,en;q=0.9")];
    let page = Client::new(shop.operations).request(Method::GET, "/", &english, None).await.unwrap();
    assert_eq!(page.header("content-language"), "en");
    expect(&shop.read("/assets/console.js").await, 404, "not_found");
    for path in ["/fr/", "/zh/orders/", "/console"] {
        expect(&shop.call_operations(path).await, 404, "not_found");
    }
    let posted = Client::new(shop.operations).request(Method::POST, "/en/", &[], None).await.unwrap();
    expect(&posted, 405, "method_not_allowed");
    // Calls that return data require a token.
    expect(&shop.call_operations("/v1/kill-switch").await, 401, "unauthorized");
    shop.close().await;
}
