//! Pages that `publish --out` exported, served by a plain file host on its own origin.

use std::{fs, path::PathBuf, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    browser::{Browser, EN_PHONE, Look, ZH_DESK},
    site::{PLENTY, Site},
};

/// Serves one file per connection, or the `index.html` of a folder.
async fn answer(stream: TcpStream, folder: Arc<PathBuf>) {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await.unwrap();
    let mut header = String::new();
    while stream.read_line(&mut header).await.unwrap() > 2 {
        header.clear();
    }
    let path =
        request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').split('?').next().unwrap();
    let path =
        if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => "image/svg+xml",
    };
    let (status, body) = fs::read(folder.join(path)).map_or((404, Vec::new()), |body| (200, body));
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Browsers drop some connections early.
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

async fn buys_there(look: Look) {
    Browser::open("elsewhere", look, async |browser| {
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", host.local_addr().unwrap());
        let site = Site::with(3600, &format!("cors_origins = [\"{origin}\"]"));
        let pages = site.publish();
        let folder = Arc::new(pages.path().to_owned());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = host.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&folder)));
            }
        });
        // A file host does not negotiate: it serves the default language, and the buyer switches.
        browser.goto(&format!("{origin}/")).await;
        browser.see("h1", "活动").await;
        if look.language == "en" {
            browser.press("[data-language]").await;
            browser.see("h1", "Sales").await;
        }
        browser.press("li[data-phase=live] .button").await;
        browser.press("[data-enter]").await;
        browser.sign_in(9).await;
        browser.press(&format!("[data-offer='{PLENTY}'] form button")).await;
        browser.see(".result.bought", look.say("抢到了", "Got it!")).await;
        browser.press(".result.bought button").await;
        browser.see("h1", look.say("沙箱支付", "Sandbox payment")).await;
        browser.press("[data-report=capture]").await;
        browser.see(".order[data-status=paid] .state", look.say("已支付", "Paid")).await;
        let address = browser.client.current_url().await.unwrap().to_string();
        assert_eq!(address, format!("{origin}/{}/orders/", look.language));
        browser.inspect("1-orders").await;
        serving.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chinese_desktop_user_buys_from_exported_pages() {
    buys_there(ZH_DESK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_english_phone_user_buys_from_exported_pages() {
    buys_there(EN_PHONE).await;
}
