//! Pages: escaped, cacheable, locked down; and calls from the pages of others.

use hyper::{Method, StatusCode};

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_escaped_versioned_and_locked_down() {
    let shop = Shop::open().await;
    let home = shop.read("/").await;
    let html = home.body.as_str().unwrap();
    assert!(html.contains("双十一 &#60;b&#62;") && !html.contains("双十一 <b>"), "{html}");
    assert!(html.contains("href=\"/activities/2\"") && !html.contains("a draft"));
    let page = shop.read("/activities/1").await;
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("<script>alert") && html.contains("&#60;script&#62;alert"), "{html}");
    assert!(html.contains("data-offer=\"12\"") && html.contains("¥99.00"));
    for (path, page) in [("/", &home), ("/activities/1", &page)] {
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
    assert_eq!(shop.read("/assets/shop.js").await.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(shop.read("/assets/shop.css").await.status, StatusCode::OK);
    for path in ["/assets/secrets.json", "/assets/..%2fsecrets.json", "/activities/3", "/activities/x"] {
        assert_eq!(shop.read(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_demo_identity_signs_in_on_the_pages() {
    for demo in [true, false] {
        let shop = Shop::with(|config| config.identity.demo = demo).await;
        for path in ["/", "/activities/1"] {
            let page = shop.read(path).await;
            let html = page.body.as_str().unwrap();
            assert_eq!(html.contains("data-signin"), demo, "{html}");
            assert_eq!(html.contains("You cannot sign in here"), !demo, "{html}");
        }
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_configured_origins_may_call() {
    let origin = "https://shop.example";
    let shop = Shop::with(|config| config.http.cors_origins = vec![origin.to_owned()]).await;
    let ask = async |method: Method, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        shop.call(method, "/v1/time", &headers, None).await
    };
    let preflight = ask(Method::OPTIONS, origin).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert!(preflight.header("access-control-allow-headers").contains("idempotency-key"));
    let answer = ask(Method::GET, origin).await;
    assert_eq!(answer.header("access-control-allow-origin"), origin);
    assert_eq!(answer.header("vary"), "origin");
    let other = ask(Method::GET, "https://shop.example.evil").await;
    assert_eq!((other.header("access-control-allow-origin"), other.header("vary")), ("", "origin"));
    assert_eq!(ask(Method::OPTIONS, "https://evil.example").await.status, StatusCode::METHOD_NOT_ALLOWED);
    shop.close().await;
}
