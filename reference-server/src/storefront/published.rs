//! The published catalogue: published activities in memory, with their rendered documents.
//!
//! What is on the home page is rendered when it is published; the rest (what is over, and what is far
//! ahead) when somebody asks for it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    ops::Bound,
    panic::resume_unwind,
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
use tokio::sync::{OnceCell, Semaphore};

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
    /// The home page: what is on sale, what comes next, and what ended last.
    pub home: Editions,
    /// The page of a buyer's orders.
    pub orders: Editions,
    /// The pages of the archive: everything that is over, the latest end first. At least one.
    pub archive: Vec<Arc<ArchivePage>>,
    /// The activities of the home page: those that are not over, then the latest of the others.
    shown: Shown,
    /// The activities that an operator ended.
    ended: BTreeSet<ActivityId>,
    /// When the next activity ends by its window, which changes home page and archive.
    turns_at: Timestamp,
    /// The activities that offer a product.
    offering: BTreeMap<ProductId, Vec<ActivityId>>,
}

/// The activities of the home page.
#[derive(Debug, Default)]
struct Shown {
    current: Vec<Arc<PublishedActivity>>,
    /// How many more are ahead.
    more: usize,
    over: Vec<Arc<PublishedActivity>>,
}

/// A published activity.
#[derive(Debug)]
pub struct PublishedActivity {
    /// The activity when it was published; it may have been paused or resumed since.
    pub activity: Activity,
    /// One for each offer.
    items: Vec<OfferedSku>,
    documents: OnceCell<ActivityDocuments>,
    status: ArcSwapOption<(Timestamp, Prepared)>,
}

/// The rendered documents of an activity.
#[derive(Debug)]
pub struct ActivityDocuments {
    /// The activity with its offers as JSON.
    pub document: Document,
    /// Its page.
    pub page: Editions,
}

/// A page of the archive.
#[derive(Debug)]
pub struct ArchivePage {
    /// The number of the page, from 1.
    pub number: usize,
    /// How many pages there are.
    of: usize,
    listed: Vec<Arc<PublishedActivity>>,
    editions: OnceCell<Editions>,
}

/// The product and SKU of an offer.
type OfferedSku = (Arc<Product>, Arc<Sku>);

/// The published activities of a catalogue with their products and SKUs.
#[derive(Debug, Default)]
pub struct Range {
    activities: Vec<RangeItem>,
}

/// An activity with its products and SKUs.
pub(super) type RangeItem = (Activity, Vec<OfferedSku>);

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
    /// The most activities on the home page that are not over, the earliest first.
    pub const CURRENT: usize = 60;
    /// The most activities on the home page that are over, the latest first.
    pub const OVER: usize = 12;
    /// The number of activities on a page of the archive.
    pub const ARCHIVED: usize = 24;

    /// Makes the published catalogue of a range at `now`. Renders what is on the home page, unless
    /// `before`, which must be for the same site, has it. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub fn fill(
        range: Range,
        site: &Site,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, PublishedCatalogueError> {
        let (mut activities, mut ended) = (BTreeMap::new(), BTreeSet::new());
        for item in range.activities {
            note(item, before, &mut activities, &mut ended);
        }
        Self::assemble(activities, ended, site, before, now)
    }

    /// The published catalogue after a change of one activity; `None` if it is not published any
    /// more. Does not read or render the others. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub(super) fn with(
        &self,
        id: ActivityId,
        changed: Option<RangeItem>,
        site: &Site,
        now: Timestamp,
    ) -> Result<Self, PublishedCatalogueError> {
        let (mut activities, mut ended) = (self.activities.clone(), self.ended.clone());
        activities.remove(&id);
        ended.remove(&id);
        if let Some(item) = changed {
            note(item, Some(self), &mut activities, &mut ended);
        }
        Self::assemble(activities, ended, site, Some(self), now)
    }

    /// The published catalogue at a later time: activities have ended meanwhile. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub(super) fn turned(&self, site: &Site, now: Timestamp) -> Result<Self, PublishedCatalogueError> {
        Self::assemble(self.activities.clone(), self.ended.clone(), site, Some(self), now)
    }

    fn assemble(
        activities: BTreeMap<ActivityId, Arc<PublishedActivity>>,
        ended: BTreeSet<ActivityId>,
        site: &Site,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, PublishedCatalogueError> {
        let ends_at = |listed: &Arc<PublishedActivity>| listed.activity.window.ends_at();
        let is_over =
            |listed: &&Arc<PublishedActivity>| ends_at(listed) <= now || ended.contains(&listed.activity.id);
        let (mut over, mut current): (Vec<_>, Vec<_>) = activities.values().partition(is_over);
        let turns_at = current.iter().map(|listed| ends_at(listed)).min().unwrap_or(Timestamp::MAX);
        over.sort_by_key(|listed| Reverse((ends_at(listed), listed.activity.id)));
        current.sort_by_key(|listed| listed.activity.window.starts_at());
        let shown = Shown {
            more: current.len().saturating_sub(Self::CURRENT),
            current: current.into_iter().take(Self::CURRENT).cloned().collect(),
            over: over.iter().take(Self::OVER).copied().cloned().collect(),
        };
        for listed in shown.current.iter().filter(|listed| !listed.documents.initialized()) {
            listed.render_now(site)?;
        }
        let mut offering: BTreeMap<ProductId, Vec<ActivityId>> = BTreeMap::new();
        for listed in activities.values() {
            for (product, _) in &listed.items {
                let activities = offering.entry(product.id).or_default();
                if activities.last() != Some(&listed.activity.id) {
                    activities.push(listed.activity.id);
                }
            }
        }
        let list = match before.filter(|before| same(before.activities.values(), activities.values())) {
            Some(before) => before.list.clone(),
            None => Document::json(CACHE, &page_of(&activities, None, Self::LISTED))?,
        };
        let home = match before.filter(|before| before.shown.is_same(&shown)) {
            Some(before) => before.home.clone(),
            None => shown.render(site)?,
        };
        Ok(Self {
            archive: archive(&over, before),
            orders: before.map_or_else(|| site.orders(), |published| Ok(published.orders.clone()))?,
            list,
            home,
            shown,
            ended,
            turns_at,
            activities,
            offering,
        })
    }

    /// Renders everything that was not rendered yet, for an export. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub fn render_all(&self, site: &Site) -> Result<(), PublishedCatalogueError> {
        for listed in self.activities.values().filter(|listed| !listed.documents.initialized()) {
            listed.render_now(site)?;
        }
        for page in self.archive.iter().filter(|page| !page.editions.initialized()) {
            // Nobody else renders it meanwhile.
            let _ = page.editions.set(page.write(site)?);
        }
        Ok(())
    }

    /// When home page and archive change by themselves: the next activity ends.
    pub(crate) fn turns_at(&self) -> Timestamp {
        self.turns_at
    }

    /// Finds a page of the archive by what follows `archive` in its path: nothing, or its number.
    pub(crate) fn archive_page(&self, rest: &[&str]) -> Option<&Arc<ArchivePage>> {
        let number: usize = match rest {
            [] => 1,
            // No second path for the first page, and none with leading zeros.
            [number] if number.starts_with(|first: char| ('1'..='9').contains(&first)) && *number != "1" => {
                number.parse().ok()?
            }
            _ => return None,
        };
        self.archive.get(number - 1)
    }

    /// Lists the products of the home page that are or will be on sale.
    pub fn offered(&self) -> impl Iterator<Item = ProductId> {
        let items = self.shown.current.iter().flat_map(|listed| &listed.items);
        items.map(|(product, _)| product.id).collect::<BTreeSet<_>>().into_iter()
    }

    /// Lists the activities that a product's page shows: those that are not over, and the latest of
    /// the others.
    pub(crate) fn offering(&self, product: ProductId, now: Timestamp) -> Vec<&Arc<PublishedActivity>> {
        let ids = self.offering.get(&product).into_iter().flatten();
        let (mut over, mut shown): (Vec<_>, Vec<_>) =
            ids.filter_map(|id| self.activities.get(id)).partition(|listed| {
                listed.activity.window.ends_at() <= now || self.ended.contains(&listed.activity.id)
            });
        over.sort_by_key(|listed| Reverse(listed.activity.window.ends_at()));
        shown.truncate(Self::CURRENT);
        shown.extend(over.into_iter().take(Self::OVER));
        shown
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

/// Adds an activity, with the documents that `before` has if its content has not changed.
fn note(
    (activity, items): RangeItem,
    before: Option<&PublishedCatalogue>,
    activities: &mut BTreeMap<ActivityId, Arc<PublishedActivity>>,
    ended: &mut BTreeSet<ActivityId>,
) {
    if activity.selling == Selling::Ended {
        ended.insert(activity.id);
    }
    let written = before.and_then(|published| published.activities.get(&activity.id));
    let listed = match written.filter(|listed| listed.shows(&activity, &items)) {
        Some(listed) => Arc::clone(listed),
        None => Arc::new(PublishedActivity::new(activity, items)),
    };
    activities.insert(listed.activity.id, listed);
}

/// Cuts the archive into pages, and takes over those that have not changed.
fn archive(over: &[&Arc<PublishedActivity>], before: Option<&PublishedCatalogue>) -> Vec<Arc<ArchivePage>> {
    let of = over.len().div_ceil(PublishedCatalogue::ARCHIVED).max(1);
    let page = |number: usize| {
        let skipped = (number - 1) * PublishedCatalogue::ARCHIVED;
        let listed = over.iter().skip(skipped).take(PublishedCatalogue::ARCHIVED).copied();
        let listed: Vec<_> = listed.cloned().collect();
        let known = before.and_then(|before| before.archive.get(number - 1));
        match known.filter(|known| known.of == of && same(known.listed.iter(), listed.iter())) {
            Some(known) => Arc::clone(known),
            None => Arc::new(ArchivePage { number, of, listed, editions: OnceCell::new() }),
        }
    };
    (1..=of).map(page).collect()
}

/// Whether both have the same documents (by pointer).
fn same<'a>(
    left: impl ExactSizeIterator<Item = &'a Arc<PublishedActivity>>,
    right: impl ExactSizeIterator<Item = &'a Arc<PublishedActivity>>,
) -> bool {
    left.len() == right.len() && left.zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
}

impl Shown {
    fn is_same(&self, other: &Self) -> bool {
        self.more == other.more
            && same(self.current.iter(), other.current.iter())
            && same(self.over.iter(), other.over.iter())
    }

    fn render(&self, site: &Site) -> Result<Editions, askama::Error> {
        with_rows(&self.current, |current| with_rows(&self.over, |over| site.home(current, self.more, over)))
    }
}

/// Calls `render` with the rows of these activities.
fn with_rows<T>(listed: &[Arc<PublishedActivity>], render: impl FnOnce(&[Row<'_>]) -> T) -> T {
    let offers: Vec<_> = listed.iter().map(|listed| listed.offers()).collect();
    let rows: Vec<_> = listed
        .iter()
        .zip(&offers)
        .map(|(listed, offers)| Row::new(&listed.activity, offers.iter().collect()))
        .collect();
    render(&rows)
}

impl ArchivePage {
    /// Its editions; `None` if it was not rendered yet.
    pub fn editions(&self) -> Option<&Editions> {
        self.editions.get()
    }

    /// Renders it, once.
    pub(super) async fn render(
        self: &Arc<Self>,
        site: &Site,
        rendering: &Semaphore,
    ) -> Result<(), PublishedCatalogueError> {
        let render = || {
            let (page, site) = (Arc::clone(self), site.clone());
            on_blocking_thread(rendering, move || Ok(page.write(&site)?))
        };
        self.editions.get_or_try_init(render).await.map(drop)
    }

    fn write(&self, site: &Site) -> Result<Editions, askama::Error> {
        with_rows(&self.listed, |rows| site.archive(self.number, self.of, rows))
    }
}

/// Runs CPU-bound rendering, as few at a time as there are permits, so that visitors of old pages
/// leave the processors to buyers.
async fn on_blocking_thread<T: Send + 'static>(
    rendering: &Semaphore,
    render: impl FnOnce() -> Result<T, PublishedCatalogueError> + Send + 'static,
) -> Result<T, PublishedCatalogueError> {
    let _permit = rendering.acquire().await;
    tokio::task::spawn_blocking(render).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
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
    fn new(activity: Activity, items: Vec<OfferedSku>) -> Self {
        Self { activity, items, documents: OnceCell::new(), status: ArcSwapOption::empty() }
    }

    /// Its documents; `None` if they were not rendered yet.
    pub fn documents(&self) -> Option<&ActivityDocuments> {
        self.documents.get()
    }

    /// Renders its documents, once.
    pub(super) async fn render(
        self: &Arc<Self>,
        site: &Site,
        rendering: &Semaphore,
    ) -> Result<(), PublishedCatalogueError> {
        let render = || {
            let (listed, site) = (Arc::clone(self), site.clone());
            on_blocking_thread(rendering, move || listed.write(&site))
        };
        self.documents.get_or_try_init(render).await.map(drop)
    }

    /// Renders its documents on this thread.
    fn render_now(&self, site: &Site) -> Result<(), PublishedCatalogueError> {
        // If somebody else has rendered it meanwhile, their result is the same.
        let _ = self.documents.set(self.write(site)?);
        Ok(())
    }

    fn write(&self, site: &Site) -> Result<ActivityDocuments, PublishedCatalogueError> {
        let offers = self.offers();
        let detail = ShownDetail { activity: ShownActivity::of(&self.activity), offers: &offers };
        let document = Document::json(CACHE, &detail)?;
        let page = site.activity(&Row::new(&self.activity, offers.iter().collect()))?;
        Ok(ActivityDocuments { document, page })
    }

    /// Whether its documents show this content.
    fn shows(&self, activity: &Activity, items: &[OfferedSku]) -> bool {
        shows_same(&self.activity, activity) && self.items == items
    }

    fn offers(&self) -> Vec<ShownOffer<'_>> {
        let offers = self.activity.offers.iter().zip(&self.items);
        offers.map(|(offer, (product, sku))| ShownOffer::new(offer, product, sku)).collect()
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
            _ if now >= view.terms.window().ends_at() => Phase::Ended,
            Selling::Paused => Phase::Paused,
            Selling::On if now < view.terms.window().starts_at() => Phase::Upcoming,
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
        let by_time = u64::from(now >= view.terms.window().starts_at())
            + u64::from(now >= view.terms.window().ends_at());
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
            activities.push(items.of(catalogue, activity).await?);
        }
        Ok(Self { activities })
    }

    /// Reads one activity; `None` if it is not published.
    ///
    /// # Errors
    /// If the catalogue cannot be read.
    pub(super) async fn one(
        catalogue: &dyn Catalogue,
        id: ActivityId,
    ) -> Result<Option<RangeItem>, CatalogueError> {
        let activity = catalogue.activity(id).await?.map(|activity| activity.value);
        match activity.filter(|activity| activity.status == ActivityStatus::Published) {
            Some(activity) => Ok(Some(Items::default().of(catalogue, activity).await?)),
            None => Ok(None),
        }
    }
}

/// Products and SKUs that were read, so that each is read only once.
#[derive(Default)]
struct Items {
    products: HashMap<ProductId, Arc<Product>>,
    skus: HashMap<SkuId, Arc<Sku>>,
}

impl Items {
    async fn of(
        &mut self,
        catalogue: &dyn Catalogue,
        activity: Activity,
    ) -> Result<RangeItem, CatalogueError> {
        let mut offered = Vec::with_capacity(activity.offers.len());
        for offer in &activity.offers {
            offered.push(self.read(catalogue, offer.sku()).await?);
        }
        Ok((activity, offered))
    }

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
