//! The shelf: what is published, in memory, with its documents written out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use flashsale_core::{
    catalogue::{Catalogue, CatalogueError, MAX_PAGE},
    domain::{
        Activity, ActivityId, ActivityStatus, LimitRule, Money, Name, Phase, Product, ProductId, Sku, SkuId,
        Strategy, Text, Timestamp,
    },
    ledger::Selling,
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
    pages,
    wire::Rfc3339,
};

/// What an import changes shows after this time at the latest.
const CACHE: &str = "public, max-age=5";
/// For how long a status document is given out before it is made again.
const STATUS_LIFE: Duration = Duration::from_millis(100);

/// Everything that buyers may see and that does not change during a sale.
#[derive(Debug)]
pub struct Shelf {
    /// Published activities.
    pub activities: BTreeMap<ActivityId, Arc<Listed>>,
    products: HashMap<ProductId, Document>,
    skus: HashMap<SkuId, Document>,
    home: Document,
}

/// A published activity.
#[derive(Debug)]
pub struct Listed {
    /// The activity.
    pub activity: Activity,
    document: Document,
    page: Document,
    status: ArcSwapOption<(Timestamp, Prepared)>,
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
    /// Nothing is published.
    ///
    /// # Errors
    /// If its page cannot be written.
    pub fn empty(signs_in: bool) -> Result<Self, ShelfError> {
        Ok(Self {
            activities: BTreeMap::new(),
            products: HashMap::new(),
            skus: HashMap::new(),
            home: pages::home(std::iter::empty(), signs_in)?,
        })
    }

    /// Reads what is published and writes its documents. `signs_in` says whether its pages offer to sign in.
    ///
    /// # Errors
    /// [`ShelfError`]; the shelf stays as it was.
    pub async fn fill(catalogue: &dyn Catalogue, signs_in: bool) -> Result<Self, ShelfError> {
        let (products, skus, activities) = read(catalogue).await?;
        let mut variants: HashMap<ProductId, Vec<&Sku>> = HashMap::new();
        for sku in skus.values() {
            variants.entry(sku.product_id).or_default().push(sku);
        }
        let mut documents = HashMap::new();
        for product in products.values() {
            let skus = variants.remove(&product.id).unwrap_or_default();
            documents.insert(product.id, Document::json(CACHE, &ShownProduct { product, skus })?);
        }
        let sku_documents = skus
            .values()
            .map(|sku| Ok((sku.id, Document::json(CACHE, sku)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        let mut listed = BTreeMap::new();
        for activity in activities {
            let offers: Vec<ShownOffer<'_>> = activity
                .offers
                .iter()
                .filter_map(|offer| {
                    // The catalogue's references hold: an offer's SKU and its product are there.
                    let sku = skus.get(&offer.sku())?;
                    let product = products.get(&sku.product_id)?;
                    Some(ShownOffer {
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
                })
                .collect();
            let shown = ShownActivity::of(&activity);
            let document = Document::json(CACHE, &ShownDetail { activity: shown, offers: &offers })?;
            let page = pages::activity(&activity, &offers, signs_in)?;
            listed.insert(
                activity.id,
                Arc::new(Listed { document, page, status: ArcSwapOption::empty(), activity }),
            );
        }
        let home = pages::home(listed.values().map(|listed| &listed.activity), signs_in)?;
        Ok(Self { activities: listed, products: documents, skus: sku_documents, home })
    }

    /// A product with its SKUs.
    pub fn product(&self, id: ProductId) -> Option<&Document> {
        self.products.get(&id)
    }

    /// An SKU.
    pub fn sku(&self, id: SkuId) -> Option<&Document> {
        self.skus.get(&id)
    }

    /// The home page.
    pub fn home(&self) -> &Document {
        &self.home
    }
}

impl Listed {
    /// The activity with its offers as JSON.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Its page.
    pub fn page(&self) -> &Document {
        &self.page
    }

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

type Read = (BTreeMap<ProductId, Product>, BTreeMap<SkuId, Sku>, Vec<Activity>);

async fn read(catalogue: &dyn Catalogue) -> Result<Read, CatalogueError> {
    let (mut products, mut skus, mut activities) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    loop {
        let page = catalogue.products(products.keys().next_back().copied(), MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        products.extend(page.into_iter().map(|product| (product.value.id, product.value)));
        if is_last {
            break;
        }
    }
    loop {
        let page = catalogue.skus(skus.keys().next_back().copied(), MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        skus.extend(page.into_iter().map(|sku| (sku.value.id, sku.value)));
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
        activities.extend(published.filter(|activity| activity.status == ActivityStatus::Published));
        if is_last {
            break;
        }
    }
    Ok((products, skus, activities))
}
