//! Challenges that suspicious buyers solve before they get a ticket.

use crate::{
    browser::{Browser, EN_DESK, ZH_PHONE},
    site::{LIVE, PLENTY, SOON_ON_SALE, Site},
};

/// Requires a short proof of work from everybody.
const WORK: &str =
    "[guard]\nproof_of_work_from = 0\nquiz_from = 101\ndeny_from = 101\n[challenge]\ncost = 256\n";
/// Requires a quiz from everybody, or a proof of work instead.
const QUIZ: &str = "[guard]\nproof_of_work_from = 0\nquiz_from = 0\ndeny_from = 101\n\
                    [challenge]\ncost = 256\ndigits_instead_of_quiz = 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_solves_a_proof_of_work_and_then_buys() {
    Browser::open("work", EN_DESK, async |browser| {
        let site = Site::with(3600, WORK);
        browser.goto(&site.url("/en/activities/2/")).await;
        browser.press("[data-enter]").await;
        browser.sign_in(11).await;
        // An hour before the start the page does not ask for a ticket, but shows when it will.
        browser.press(&format!("[data-offer='{SOON_ON_SALE}'] form button")).await;
        browser.see(".result", "Your ticket will be fetched at").await;

        browser.goto(&site.url(&format!("/en/activities/{LIVE}/"))).await;
        browser.press(&format!("[data-offer='{PLENTY}'] form button")).await;
        browser.see(".result.bought", "Got it!").await;
        assert_eq!(site.buyer(11).await.orders().await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_who_cannot_read_the_quiz_uses_proof_of_work_instead() {
    Browser::open("quiz", ZH_PHONE, async |browser| {
        let site = Site::with(3600, QUIZ);
        browser.goto(&site.url(&format!("/zh/activities/{LIVE}/"))).await;
        browser.press("[data-enter]").await;
        browser.sign_in(12).await;
        let buy = format!("[data-offer='{PLENTY}'] form button");
        browser.press(&buy).await;
        browser.see("dialog[open] h2", "请输入图中的字符").await;
        browser.until("document.querySelector('dialog[open] img').naturalWidth > 0").await;
        browser.inspect("1-picture").await;

        // Closing the dialog shows how to continue; a wrong answer shows another image.
        browser.press("dialog[open] .buttons button[type=button]").await;
        browser.see(".result", "验证未完成，如需购买请重试。").await;
        browser.press(&buy).await;
        // No quiz contains a zero.
        browser.fill("dialog[open] [name=text]", "000000").await;
        browser.press("dialog[open] .buttons button:not([type])").await;
        browser.see("dialog[open] h2", "输入有误，请按新图片重新输入").await;
        browser.press("dialog[open] form > button[type=button]").await;
        browser.see(".result.bought", "抢到了").await;
        assert_eq!(site.buyer(12).await.orders().await.len(), 1);
    })
    .await;
}
