//! Pages: written once when something is published; what changes during a sale is fetched by their script.

use askama::Template;
use flashsale_core::domain::{Activity, Money, PaymentId};
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::{document::Document, shelf::ShownOffer, wire::Rfc3339};

const HTML: &str = "text/html; charset=utf-8";
const CACHE: &str = "public, max-age=5";
/// No inline script or style, nothing from elsewhere, no frames: a name that looks like markup stays a name.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    activities: Vec<Row<'a>>,
    signs_in: bool,
}

struct Row<'a> {
    activity: &'a Activity,
    starts_at: Rfc3339,
    ends_at: Rfc3339,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct ActivityPage<'a> {
    row: Row<'a>,
    offers: &'a [ShownOffer<'a>],
    signs_in: bool,
}

#[derive(Template)]
#[template(path = "pay.html")]
struct PayPage {
    payment: PaymentId,
}

impl<'a> Row<'a> {
    fn of(activity: &'a Activity) -> Self {
        Self {
            activity,
            starts_at: activity.window.starts_at().into(),
            ends_at: activity.window.ends_at().into(),
        }
    }
}

impl ShownOffer<'_> {
    /// The most units that the limits allow one buyer at once, at most ten for the page's list.
    fn most(&self) -> u32 {
        self.limits.iter().map(|rule| rule.max()).min().unwrap_or(10).min(10)
    }

    fn price_text(&self) -> String {
        plain(self.price)
    }

    fn list_price_text(&self) -> Option<String> {
        (self.list_price.amount() > self.price.amount()).then(|| plain(self.list_price))
    }
}

/// `1299.00 CNY`, with the sign that shoppers know where there is one.
fn plain(money: Money) -> String {
    let text = money.to_string();
    let amount = text.split(' ').next().unwrap_or_default();
    match money.currency().code() {
        "CNY" => format!("¥{amount}"),
        "EUR" => format!("€{amount}"),
        "USD" => format!("${amount}"),
        _ => text,
    }
}

/// The home page: all activities, sign-in if `signs_in`, the caller's orders.
///
/// # Errors
/// If the template fails.
pub fn home<'a>(
    activities: impl Iterator<Item = &'a Activity>,
    signs_in: bool,
) -> Result<Document, askama::Error> {
    let mut activities: Vec<_> = activities.map(Row::of).collect();
    activities.sort_by_key(|row| row.starts_at);
    page(&HomePage { activities, signs_in })
}

/// The page of an activity with its offers, and sign-in if `signs_in`.
///
/// # Errors
/// If the template fails.
pub fn activity(
    activity: &Activity,
    offers: &[ShownOffer<'_>],
    signs_in: bool,
) -> Result<Document, askama::Error> {
    page(&ActivityPage { row: Row::of(activity), offers, signs_in })
}

/// Where the sandbox takes a payment.
///
/// # Errors
/// If the template fails.
pub fn pay(payment: PaymentId) -> Result<Document, askama::Error> {
    page(&PayPage { payment })
}

/// Names of the files that all pages share.
pub const ASSETS: [&str; 3] = ["shop.js", "shop.css", "icon.svg"];

/// A file of [`ASSETS`].
pub fn asset(name: &str) -> Option<Document> {
    let headers = [(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    let (content_type, body) = match name {
        "shop.js" => ("text/javascript; charset=utf-8", include_str!("../assets/shop.js")),
        "shop.css" => ("text/css; charset=utf-8", include_str!("../assets/shop.css")),
        "icon.svg" => ("image/svg+xml", include_str!("../assets/icon.svg")),
        _ => return None,
    };
    Some(Document::new(content_type, CACHE, &headers, body))
}

fn page(template: &impl Template) -> Result<Document, askama::Error> {
    Ok(Document::new(HTML, CACHE, &HEADERS, template.render()?))
}
