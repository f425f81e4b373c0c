//! Pages: rendered once when something is published, in every language. Their script fetches what
//! changes during a sale.
//!
//! A page has one path per language (`/zh/…`, `/en/…`), so that caches need no `Vary`.

mod console;
mod language;
mod offer;
mod site;

use std::borrow::Cow;

use askama::Template;
use bytes::Bytes;
use flashsale_core::{
    domain::{Activity, Product, Sku},
    ledger::PaymentRef,
};
use hyper::{
    StatusCode,
    header::{CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue},
};

pub use self::{console::console, language::Language, site::Site};
use self::{offer::plain, site::Frame};
use crate::{
    bidi::isolate,
    http::{Prepared, document::Document},
    rfc3339::{NO_END, Rfc3339},
    views::ShownOffer,
};

const HTML: &str = "text/html; charset=utf-8";
/// Caches serve a page for 10 s, for 10 s more while they revalidate it, and for a day on errors.
const CACHE: &str = "public, max-age=10, stale-while-revalidate=10, stale-if-error=86400";
/// How many products of each activity the home page shows.
const PREVIEW: usize = 6;

/// A page in every language.
#[derive(Clone, Debug)]
pub struct Editions([Document; Language::ALL.len()]);

impl Editions {
    /// Renders the page in each language.
    fn write<E>(mut page: impl FnMut(Language) -> Result<Document, E>) -> Result<Self, E> {
        Ok(Self([page(Language::ALL[0])?, page(Language::ALL[1])?]))
    }

    /// Returns the page in one language.
    pub fn in_language(&self, language: Language) -> &Document {
        &self.0[language as usize]
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    frame: Frame<'a>,
    current: &'a [Row<'a>],
    /// How many more are ahead.
    more: usize,
    over: &'a [Row<'a>],
}

#[derive(Template)]
#[template(path = "archive.html")]
struct ArchivePage<'a> {
    frame: Frame<'a>,
    number: usize,
    of: usize,
    rows: &'a [Row<'a>],
}

#[derive(Template)]
#[template(path = "activity.html")]
struct ActivityPage<'a> {
    frame: Frame<'a>,
    row: &'a Row<'a>,
    shows_product: bool,
}

#[derive(Template)]
#[template(path = "product.html")]
struct ProductPage<'a> {
    frame: Frame<'a>,
    product: &'a Product,
    title: Cow<'a, str>,
    hue: u64,
    initial: String,
    variants: Vec<(&'a str, String)>,
    rows: &'a [Row<'a>],
    shows_product: bool,
}

#[derive(Template)]
#[template(path = "orders.html")]
struct OrdersPage<'a> {
    frame: Frame<'a>,
}

#[derive(Template)]
#[template(path = "pay.html")]
struct PayPage<'a> {
    frame: Frame<'a>,
    payment: PaymentRef,
    back: &'a str,
}

/// An activity with the offers that a page shows.
#[derive(Debug)]
pub struct Row<'a> {
    activity: &'a Activity,
    starts_at: Rfc3339,
    ends_at: Rfc3339,
    offers: Vec<&'a ShownOffer<'a>>,
}

impl<'a> Row<'a> {
    /// Combines an activity with some of its offers.
    pub fn new(activity: &'a Activity, offers: Vec<&'a ShownOffer<'a>>) -> Self {
        Self {
            activity,
            starts_at: activity.window.starts_at().into(),
            ends_at: activity.window.ends_at().into(),
            offers,
        }
    }

    fn path(&self) -> String {
        format!("/activities/{}/", self.activity.id)
    }

    fn title(&self) -> Cow<'_, str> {
        isolate(&self.activity.name)
    }

    fn has_end(&self) -> bool {
        self.ends_at.0 < NO_END
    }

    /// Returns the first offers of different products.
    fn preview(&self) -> Vec<&'a ShownOffer<'a>> {
        let mut shown: Vec<&ShownOffer<'_>> = Vec::new();
        for offer in &self.offers {
            if shown.len() < PREVIEW && shown.iter().all(|other| other.product_id != offer.product_id) {
                shown.push(offer);
            }
        }
        shown
    }
}

/// The path of a page of the archive, from 1.
pub fn archive_path(number: usize) -> String {
    if number <= 1 { "/archive/".to_owned() } else { format!("/archive/{number}/") }
}

impl ArchivePage<'_> {
    fn newer(&self) -> Option<String> {
        (self.number > 1).then(|| archive_path(self.number - 1))
    }

    fn older(&self) -> Option<String> {
        (self.number < self.of).then(|| archive_path(self.number + 1))
    }
}

impl Site {
    /// Renders the home page: activities that are not over, how many `more` are ahead, and those
    /// that ended last.
    ///
    /// # Errors
    /// If the template fails.
    pub fn home(
        &self,
        current: &[Row<'_>],
        more: usize,
        over: &[Row<'_>],
    ) -> Result<Editions, askama::Error> {
        self.editions("/", |frame| HomePage { frame, current, more, over })
    }

    /// Renders a page of the archive, `number` from 1 `of` all.
    ///
    /// # Errors
    /// If the template fails.
    pub fn archive(&self, number: usize, of: usize, rows: &[Row<'_>]) -> Result<Editions, askama::Error> {
        self.editions(&archive_path(number), |frame| ArchivePage { frame, number, of, rows })
    }

    /// Renders the page of an activity with its offers.
    ///
    /// # Errors
    /// If the template fails.
    pub fn activity(&self, row: &Row<'_>) -> Result<Editions, askama::Error> {
        self.editions(&row.path(), |frame| ActivityPage { frame, row, shows_product: true })
    }

    /// Renders the page of a product: its variants, and its offers in the activities of `rows`.
    ///
    /// # Errors
    /// If the template fails.
    pub fn product(
        &self,
        product: &Product,
        skus: &[Sku],
        rows: &[Row<'_>],
    ) -> Result<Editions, askama::Error> {
        self.editions(&format!("/products/{}/", product.id), |frame| ProductPage {
            frame,
            product,
            title: isolate(&product.name),
            hue: offer::hue(product.id),
            initial: offer::initial(&product.name),
            variants: skus.iter().map(|sku| (sku.name.as_str(), plain(sku.list_price))).collect(),
            rows,
            shows_product: false,
        })
    }

    /// Renders the page of the buyer's orders, which its script loads.
    ///
    /// # Errors
    /// If the template fails.
    pub fn orders(&self) -> Result<Editions, askama::Error> {
        self.editions("/orders/", |frame| OrdersPage { frame })
    }

    /// Renders the payment page of the sandbox, which leads `back` afterwards. It is for one buyer,
    /// so it is neither cached nor compressed.
    ///
    /// # Errors
    /// If the template fails.
    pub fn pay(
        &self,
        language: Language,
        payment: PaymentRef,
        back: &str,
    ) -> Result<Prepared, askama::Error> {
        let path = format!("/sandbox/payments/{payment}");
        let html = PayPage { frame: Frame::new(self, language, &path), payment, back }.render()?;
        let prepared = Prepared::new(StatusCode::OK, HeaderValue::from_static(HTML), html).no_store();
        Ok(self
            .headers(language)
            .into_iter()
            .fold(prepared, |prepared, (name, value)| prepared.with_header(name, value)))
    }

    fn editions<'a, T: Template>(
        &'a self,
        path: &'a str,
        template: impl Fn(Frame<'a>) -> T,
    ) -> Result<Editions, askama::Error> {
        Editions::write(|language| self.page(&template(Frame::new(self, language, path)), language))
    }

    fn page(&self, template: &impl Template, language: Language) -> Result<Document, askama::Error> {
        Ok(Document::new(HTML, CACHE, &self.headers(language), template.render()?))
    }

    fn headers(&self, language: Language) -> Vec<(HeaderName, HeaderValue)> {
        let policy = HeaderValue::from_maybe_shared(Bytes::from(self.policy()))
            .unwrap_or_else(|_| unreachable!("a checked origin is visible ASCII"));
        let mut headers = vec![
            (CONTENT_LANGUAGE, HeaderValue::from_static(language.tag())),
            (CONTENT_SECURITY_POLICY, policy),
        ];
        headers.extend(site::HEADERS);
        headers
    }
}
