//! The published catalogue: published activities in memory, with their rendered documents.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use flashsale_core::{
    catalogue::{Catalogue, CatalogueError, MAX_PAGE},
    domain::{
        Activity, ActivityId, ActivityStatus, Name, Phase, Product, ProductId, Selling, Sku, SkuId, Text,
        Timestamp,
    },
    service::Sale,
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use serde::Serialize;

use crate::{
    http::{Prepared, Response, document::Document},
    rfc3339::Rfc3339,
    storefront::pages::{Editions, Row, Site},
    views::Page,
    views::ShownOffer,
};

/// Caches serve a document for 5 s, and for a day if the server fails.
pub(crate) const CACHE: &str = "public, max-age=5, stale-if-error=86400";
/// How long a status document is served before it is rebuilt.
const STATUS_LIFE: Duration = Duration::from_millis(100);

/// Published activities, their list, and the pages that do not belong to one product.
#[derive(Debug)]
pub struct PublishedCatalogue {
    /// Published activities by id.
    pub activities: BTreeMap<ActivityId, Arc<PublishedActivity>>,
    /// The first page of the list of activities.
    pub list: Document,
    /// The home page.
    pub home: Editions,
    /// The page of a buyer's orders.
    pub orders: Editions,
    /// The activities that offer a product.
    offering: BTreeMap<ProductId, Vec<ActivityId>>,
}

/// A published activity.
#[derive(Debug)]
pub struct PublishedActivity {
    /// The activity when its page was rendered; it may have been paused or resumed since.
    pub activity: Activity,
    /// The activity with its offers as JSON.
    pub document: Document,
    /// Its page.
    pub page: Editions,
    /// One for each offer.
    items: Vec<OfferedSku>,
    status: ArcSwapOption<(Timestamp, Prepared)>,
}

/// The product and SKU of an offer.
type OfferedSku = (Arc<Product>, Arc<Sku>);

/// The published activities of a catalogue with their products and SKUs.
#[derive(Debug, Default)]
pub struct Range {
    activities: Vec<(Activity, Vec<OfferedSku>)>,
}

/// Why published documents could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PublishedCatalogueError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A document cannot be serialized.
    #[error("a document of the catalogue cannot be serialized: {0}")]
    Document(#[from] serde_json::Error),
    /// A page cannot be rendered.
    #[error("a page cannot be rendered: {0}")]
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

#[derive(Serialize)]
struct ShownDetail<'a> {
    #[serde(flatten)]
    activity: ShownActivity<'a>,
    offers: &'a [ShownOffer<'a>],
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

impl PublishedCatalogue {
    /// The default number of activities on a page of the list.
    pub const LISTED: usize = 20;

    /// Renders and compresses the documents and pages of a range. Reuses those of `before`, which
    /// must be for the same site, if their content has not changed. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub fn fill(range: Range, site: &Site, before: Option<&Self>) -> Result<Self, PublishedCatalogueError> {
        let mut activities = BTreeMap::new();
        let mut offering: BTreeMap<ProductId, Vec<ActivityId>> = BTreeMap::new();
        for (activity, items) in range.activities {
            let written = before.and_then(|published| published.activities.get(&activity.id));
            let listed = match written.filter(|listed| listed.shows(&activity, &items)) {
                Some(listed) => Arc::clone(listed),
                None => Arc::new(PublishedActivity::write(activity, items, site)?),
            };
            for (product, _) in &listed.items {
                let activities = offering.entry(product.id).or_default();
                if activities.last() != Some(&listed.activity.id) {
                    activities.push(listed.activity.id);
                }
            }
            activities.insert(listed.activity.id, listed);
        }
        if let Some(before) = before.filter(|published| same(&published.activities, &activities)) {
            let Self { list, home, orders, .. } = before;
            let (list, home, orders) = (list.clone(), home.clone(), orders.clone());
            return Ok(Self { activities, list, home, orders, offering });
        }
        let offers: Vec<_> = activities.values().map(|listed| listed.offers()).collect();
        let mut rows: Vec<_> = activities
            .values()
            .zip(&offers)
            .map(|(listed, offers)| Row::new(&listed.activity, offers.iter().collect()))
            .collect();
        Ok(Self {
            list: Document::json(CACHE, &page_of(&activities, None, Self::LISTED))?,
            home: site.home(&mut rows)?,
            orders: before.map_or_else(|| site.orders(), |published| Ok(published.orders.clone()))?,
            activities,
            offering,
        })
    }

    /// Lists the products on sale.
    pub fn offered(&self) -> impl Iterator<Item = ProductId> {
        self.offering.keys().copied()
    }

    /// Lists the activities that offer a product.
    pub(crate) fn offering(&self, product: ProductId) -> impl Iterator<Item = &Arc<PublishedActivity>> {
        self.offering.get(&product).into_iter().flatten().filter_map(|id| self.activities.get(id))
    }

    /// Lists the products whose pages differ from those of `before`.
    pub fn changed(&self, before: &Self) -> BTreeSet<ProductId> {
        let mut changed = BTreeSet::new();
        let ids: BTreeSet<_> = self.activities.keys().chain(before.activities.keys()).collect();
        for id in ids {
            match (before.activities.get(id), self.activities.get(id)) {
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
                (Some(old), Some(new)) if shows_same(&old.activity, &new.activity) => {
                    let pairs = old.items.iter().zip(&new.items).filter(|(old, new)| old != new);
                    changed.extend(pairs.flat_map(|(old, new)| [old.0.id, new.0.id]));
                }
                (old, new) => {
                    let items = old.into_iter().chain(new).flat_map(|listed| &listed.items);
                    changed.extend(items.map(|(product, _)| product.id));
                }
            }
        }
        changed
    }

    /// Returns a page of the list: at most `limit` activities, after the given one.
    pub fn page(&self, after: Option<ActivityId>, limit: usize) -> Page<ShownActivity<'_>> {
        page_of(&self.activities, after, limit)
    }
}

/// Whether both have the same documents (by pointer).
fn same(
    left: &BTreeMap<ActivityId, Arc<PublishedActivity>>,
    right: &BTreeMap<ActivityId, Arc<PublishedActivity>>,
) -> bool {
    left.len() == right.len()
        && left.values().zip(right.values()).all(|(left, right)| Arc::ptr_eq(left, right))
}

/// Whether two versions of an activity look the same to buyers, products and SKUs aside.
fn shows_same(left: &Activity, right: &Activity) -> bool {
    (left.id, &left.name, &left.description, left.window)
        == (right.id, &right.name, &right.description, right.window)
        && left.offers == right.offers
}

fn page_of(
    listed: &BTreeMap<ActivityId, Arc<PublishedActivity>>,
    after: Option<ActivityId>,
    limit: usize,
) -> Page<ShownActivity<'_>> {
    let first = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = listed.range((first, Bound::Unbounded)).map(|(_, listed)| &listed.activity);
    let shown: Vec<_> = rest.by_ref().take(limit).collect();
    let next = rest.next().and(shown.last()).map(|last| last.id.to_string());
    Page { items: shown.into_iter().map(ShownActivity::of).collect(), next }
}

impl PublishedActivity {
    fn write(
        activity: Activity,
        items: Vec<OfferedSku>,
        site: &Site,
    ) -> Result<Self, PublishedCatalogueError> {
        let offers = shown(&activity, &items);
        let detail = ShownDetail { activity: ShownActivity::of(&activity), offers: &offers };
        let document = Document::json(CACHE, &detail)?;
        let page = site.activity(&Row::new(&activity, offers.iter().collect()))?;
        Ok(Self { activity, document, page, items, status: ArcSwapOption::empty() })
    }

    /// Whether its documents show this content.
    fn shows(&self, activity: &Activity, items: &[OfferedSku]) -> bool {
        shows_same(&self.activity, activity) && self.items == items
    }

    fn offers(&self) -> Vec<ShownOffer<'_>> {
        shown(&self.activity, &self.items)
    }

    /// Returns the live status of a sale over all lanes, or `None` if a lane has no fresh view.
    ///
    /// The document is rebuilt at most once in 100 ms and shared by all requests in between.
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

fn shown<'a>(activity: &'a Activity, items: &'a [OfferedSku]) -> Vec<ShownOffer<'a>> {
    let offers = activity.offers.iter().zip(items);
    offers.map(|(offer, (product, sku))| ShownOffer::new(offer, product, sku)).collect()
}

impl<'a> ShownActivity<'a> {
    /// Shows an activity in the list of activities.
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
        // As the lane decides.
        let now = now.max(view.at);
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
        // Time changes the phase without changing a lane, so a later phase must raise the version.
        let by_time = u64::from(now >= view.window.starts_at()) + u64::from(now >= view.window.ends_at());
        Some(Self { phase, version: sale.version(now)? * 4 + by_time, offers: offers.collect() })
    }
}

impl Range {
    /// Keeps only the `wanted` activities.
    pub(super) fn retain(&mut self, wanted: impl Fn(ActivityId) -> bool) {
        self.activities.retain(|(activity, _)| wanted(activity.id));
    }

    /// Reads the published activities of a catalogue.
    ///
    /// # Errors
    /// If the catalogue cannot be read.
    pub async fn read(catalogue: &dyn Catalogue) -> Result<Self, CatalogueError> {
        let mut published = Vec::new();
        let mut after = None;
        loop {
            let page = catalogue.activities(after, MAX_PAGE).await?;
            after = page.last().map(|activity| activity.value.id);
            let is_last = page.len() < MAX_PAGE;
            let activities = page.into_iter().map(|activity| activity.value);
            published.extend(activities.filter(|activity| activity.status == ActivityStatus::Published));
            if is_last {
                break;
            }
        }
        let mut items = Items::default();
        let mut activities = Vec::new();
        for activity in published {
            let mut offered = Vec::with_capacity(activity.offers.len());
            for offer in &activity.offers {
                offered.push(items.read(catalogue, offer.sku()).await?);
            }
            activities.push((activity, offered));
        }
        Ok(Self { activities })
    }
}

/// Products and SKUs that were read, so that each is read only once.
#[derive(Default)]
struct Items {
    products: HashMap<ProductId, Arc<Product>>,
    skus: HashMap<SkuId, Arc<Sku>>,
}

impl Items {
    async fn read(&mut self, catalogue: &dyn Catalogue, id: SkuId) -> Result<OfferedSku, CatalogueError> {
        let missing =
            || CatalogueError::Damaged(format!("sku/{id} is offered, but it or its product is missing"));
        let sku = match self.skus.entry(id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(entry) => {
                let sku = catalogue.sku(id).await?.ok_or_else(missing)?.value;
                Arc::clone(entry.insert(Arc::new(sku)))
            }
        };
        let product = match self.products.entry(sku.product_id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(entry) => {
                let product = catalogue.product(sku.product_id).await?.ok_or_else(missing)?.value;
                Arc::clone(entry.insert(Arc::new(product)))
            }
        };
        Ok((product, sku))
    }
}
