//! The shelf: what is published, in memory, with its documents written out.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use flashsale_core::{
    catalogue::{Catalogue, CatalogueError, MAX_PAGE},
    domain::{
        Activity, ActivityId, ActivityStatus, LimitRule, Money, Name, Phase, Product, ProductId, Selling,
        Sku, SkuId, Strategy, Text, Timestamp,
    },
    service::Sale,
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use serde::Serialize;

use crate::{
    document::Document,
    http::{Prepared, Response},
    pages::{Editions, Row, Site},
    routes::Page,
    wire::Rfc3339,
};

/// What an import changes shows after this time at the latest; if the server does not answer, caches go on with it.
const CACHE: &str = "public, max-age=5, stale-if-error=86400";
/// For how long a status document is given out before it is made again.
const STATUS_LIFE: Duration = Duration::from_millis(100);

/// Everything that buyers may see and that does not change during a sale.
#[derive(Debug)]
pub struct Shelf {
    /// Published activities.
    pub activities: BTreeMap<ActivityId, Arc<Listed>>,
    /// Products with their SKUs, published or not.
    pub products: BTreeMap<ProductId, Sheet>,
    /// SKUs.
    pub skus: BTreeMap<SkuId, Document>,
    /// The first page of the list of activities.
    pub list: Document,
    /// The home page.
    pub home: Editions,
    /// The page of a buyer's orders.
    pub orders: Editions,
}

/// A product as JSON and as a page.
#[derive(Debug)]
pub struct Sheet {
    /// The product with its SKUs.
    pub document: Document,
    /// Its page.
    pub page: Editions,
}

/// A published activity.
#[derive(Debug)]
pub struct Listed {
    /// The activity.
    pub activity: Activity,
    /// The activity with its offers as JSON.
    pub document: Document,
    /// Its page.
    pub page: Editions,
    status: ArcSwapOption<(Timestamp, Prepared)>,
}

/// What a shelf is filled from: a catalogue's products, SKUs and published activities.
#[derive(Debug, Default)]
pub struct Range {
    products: BTreeMap<ProductId, Product>,
    skus: BTreeMap<SkuId, Sku>,
    activities: Vec<Activity>,
}

/// Why the shelf could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A document cannot be written.
    #[error("a document of the catalogue cannot be written: {0}")]
    Document(#[from] serde_json::Error),
    /// A page cannot be written.
    #[error("a page cannot be written: {0}")]
    Page(#[from] askama::Error),
}

/// An activity in the list of activities.
#[derive(Debug, Serialize)]
pub struct ShownActivity<'a> {
    id: ActivityId,
    name: &'a Name,
    description: Option<&'a Text>,
    starts_at: Rfc3339,
    ends_at: Rfc3339,
}

/// An offer with what its SKU and product are called.
#[derive(Debug, Serialize)]
pub struct ShownOffer<'a> {
    /// The SKU.
    pub sku_id: SkuId,
    /// Its product.
    pub product_id: ProductId,
    /// The product's name.
    pub product_name: &'a Name,
    /// The SKU's name.
    pub sku_name: &'a Name,
    /// Where the product's picture is.
    pub image: Option<&'a Name>,
    /// The price of one unit in the sale.
    pub price: Money,
    /// The price outside of it.
    pub list_price: Money,
    /// Units at the start.
    pub units: u32,
    /// When units are taken.
    pub strategy: Strategy,
    /// How long an unpaid order holds.
    pub hold_seconds: Option<u64>,
    /// Limits, in the order in which they are checked.
    pub limits: &'a [LimitRule],
}

#[derive(Serialize)]
struct ShownDetail<'a> {
    #[serde(flatten)]
    activity: ShownActivity<'a>,
    offers: &'a [ShownOffer<'a>],
}

#[derive(Serialize)]
struct ShownProduct<'a> {
    #[serde(flatten)]
    product: &'a Product,
    skus: Vec<&'a Sku>,
}

#[derive(Serialize)]
struct Status {
    phase: Phase,
    version: u64,
    offers: Vec<OfferStatus>,
}

#[derive(Serialize)]
struct OfferStatus {
    sku_id: SkuId,
    state: OfferState,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum OfferState {
    Upcoming,
    OnSale,
    SoldOut,
    Paused,
    Ended,
}

impl Shelf {
    /// How many activities the list has on a page if nobody says.
    pub const LISTED: usize = 20;

    /// Writes the documents and pages of a range. This takes the time of compressing them all.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn fill(range: Range, site: &Site) -> Result<Self, ShelfError> {
        let Range { products, skus, activities } = range;
        let offers: Vec<Vec<ShownOffer<'_>>> =
            activities.iter().map(|activity| ShownOffer::all(activity, &products, &skus)).collect();
        let mut variants: HashMap<ProductId, Vec<&Sku>> = HashMap::new();
        for sku in skus.values() {
            variants.entry(sku.product_id).or_default().push(sku);
        }
        let of_product = |id: ProductId| -> Vec<Row<'_>> {
            let rows = activities.iter().zip(&offers).filter_map(|(activity, offers)| {
                let offers: Vec<_> = offers.iter().filter(|offer| offer.product_id == id).collect();
                (!offers.is_empty()).then(|| Row::new(activity, offers))
            });
            rows.collect()
        };
        let sheets = products
            .values()
            .map(|product| {
                let skus = variants.remove(&product.id).unwrap_or_default();
                let page = site.product(product, &skus, &of_product(product.id))?;
                let document = Document::json(CACHE, &ShownProduct { product, skus })?;
                Ok((product.id, Sheet { document, page }))
            })
            .collect::<Result<_, ShelfError>>()?;
        let mut rows: Vec<Row<'_>> = activities
            .iter()
            .zip(&offers)
            .map(|(activity, offers)| Row::new(activity, offers.iter().collect()))
            .collect();
        let mut written = Vec::new();
        for ((activity, offers), row) in activities.iter().zip(&offers).zip(&rows) {
            let detail = ShownDetail { activity: ShownActivity::of(activity), offers };
            written.push((Document::json(CACHE, &detail)?, site.activity(row)?));
        }
        let home = site.home(&mut rows)?;
        let sku_documents = skus
            .values()
            .map(|sku| Ok((sku.id, Document::json(CACHE, sku)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        let listed: BTreeMap<_, _> = activities
            .into_iter()
            .zip(written)
            .map(|(activity, (document, page))| {
                let status = ArcSwapOption::empty();
                (activity.id, Arc::new(Listed { activity, document, page, status }))
            })
            .collect();
        Ok(Self {
            list: Document::json(CACHE, &page_of(&listed, None, Self::LISTED))?,
            activities: listed,
            products: sheets,
            skus: sku_documents,
            home,
            orders: site.orders()?,
        })
    }

    /// A page of the list of activities: at most `limit` of those that come after one.
    pub fn page(&self, after: Option<ActivityId>, limit: usize) -> Page<ShownActivity<'_>> {
        page_of(&self.activities, after, limit)
    }
}

fn page_of(
    listed: &BTreeMap<ActivityId, Arc<Listed>>,
    after: Option<ActivityId>,
    limit: usize,
) -> Page<ShownActivity<'_>> {
    let first = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = listed.range((first, Bound::Unbounded)).map(|(_, listed)| &listed.activity);
    let shown: Vec<_> = rest.by_ref().take(limit).collect();
    let next = rest.next().and(shown.last()).map(|last| last.id.to_string());
    Page { items: shown.into_iter().map(ShownActivity::of).collect(), next }
}

impl<'a> ShownOffer<'a> {
    fn all(
        activity: &'a Activity,
        products: &'a BTreeMap<ProductId, Product>,
        skus: &'a BTreeMap<SkuId, Sku>,
    ) -> Vec<Self> {
        let offers = activity.offers.iter().filter_map(|offer| {
            // The catalogue's references hold: an offer's SKU and its product are there.
            let sku = skus.get(&offer.sku())?;
            let product = products.get(&sku.product_id)?;
            Some(Self {
                sku_id: sku.id,
                product_id: product.id,
                product_name: &product.name,
                sku_name: &sku.name,
                image: product.image.as_ref(),
                price: offer.price(),
                list_price: sku.list_price,
                units: offer.units(),
                strategy: offer.strategy(),
                hold_seconds: offer.hold().map(|hold| hold.as_secs()),
                limits: offer.limits(),
            })
        });
        offers.collect()
    }
}

impl Listed {
    /// What changes during the sale, as all of `sale`'s lanes stand; `None` if some lane has no fresh view.
    ///
    /// The document is made at most once in 100 ms and shared by all who ask meanwhile.
    pub fn status(&self, sale: &Sale, now: Timestamp) -> Option<Response> {
        if let Some(made) =
            self.status.load().as_ref().filter(|made| now.since(made.0) < STATUS_LIFE && made.0 <= now)
        {
            return Some(made.1.respond());
        }
        let prepared = Prepared::json(StatusCode::OK, &Status::read(sale, now)?)
            .ok()?
            .with_header(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        let response = prepared.respond();
        self.status.store(Some(Arc::new((now, prepared))));
        Some(response)
    }
}

impl<'a> ShownActivity<'a> {
    /// The activity in the list of activities.
    pub fn of(activity: &'a Activity) -> Self {
        Self {
            id: activity.id,
            name: &activity.name,
            description: activity.description.as_ref(),
            starts_at: activity.window.starts_at().into(),
            ends_at: activity.window.ends_at().into(),
        }
    }
}

impl Status {
    fn read(sale: &Sale, now: Timestamp) -> Option<Self> {
        let view = sale.common_view(now)?;
        let phase = match view.selling {
            Selling::Ended => Phase::Ended,
            _ if now >= view.window.ends_at() => Phase::Ended,
            Selling::Paused => Phase::Paused,
            Selling::On if now < view.window.starts_at() => Phase::Upcoming,
            Selling::On => Phase::Live,
        };
        let offers = view.offers.iter().map(|offer| {
            let state = match phase {
                Phase::Upcoming => OfferState::Upcoming,
                Phase::Paused => OfferState::Paused,
                Phase::Ended => OfferState::Ended,
                Phase::Live if sale.takeable(now, offer.sku) == Some(0) => OfferState::SoldOut,
                Phase::Live => OfferState::OnSale,
            };
            OfferStatus { sku_id: offer.sku, state }
        });
        // Time changes the phase without changing a lane: a later phase has a higher version.
        let by_time = u64::from(now >= view.window.starts_at()) + u64::from(now >= view.window.ends_at());
        Some(Self { phase, version: sale.version(now)? * 4 + by_time, offers: offers.collect() })
    }
}

impl Range {
    /// Reads what buyers may see of a catalogue.
    ///
    /// # Errors
    /// If the catalogue cannot be read.
    pub async fn read(catalogue: &dyn Catalogue) -> Result<Self, CatalogueError> {
        let mut range = Self::default();
        loop {
            let page = catalogue.products(range.products.keys().next_back().copied(), MAX_PAGE).await?;
            let is_last = page.len() < MAX_PAGE;
            range.products.extend(page.into_iter().map(|product| (product.value.id, product.value)));
            if is_last {
                break;
            }
        }
        loop {
            let page = catalogue.skus(range.skus.keys().next_back().copied(), MAX_PAGE).await?;
            let is_last = page.len() < MAX_PAGE;
            range.skus.extend(page.into_iter().map(|sku| (sku.value.id, sku.value)));
            if is_last {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = catalogue.activities(after, MAX_PAGE).await?;
            after = page.last().map(|activity| activity.value.id);
            let is_last = page.len() < MAX_PAGE;
            let published = page.into_iter().map(|activity| activity.value);
            range
                .activities
                .extend(published.filter(|activity| activity.status == ActivityStatus::Published));
            if is_last {
                return Ok(range);
            }
        }
    }
}
