//! The storefront: keeps the documents for buyers up to date with the catalogue.

use std::{fmt, panic::resume_unwind, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use flashsale_core::{
    cache::LoadError,
    catalogue::{Catalogue, ImportReport, Versioned},
    domain::{ActivityId, Attribution, Clock, Product, ProductId, Sku, SkuId, Timestamp},
    service::{OperationError, Operations, Sales},
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Mutex, Semaphore};

use super::{
    pages::Site,
    products::{ProductDocument, ProductDocuments, Unread, skus_of},
    published::{self, ArchivePage, PublishedActivity, PublishedCatalogue, PublishedCatalogueError, Range},
};
use crate::{
    config::CacheConfig,
    http::document::Document,
    import::{ImportFailure, Input},
    runtime::background::Spawner,
};

/// How long to wait after a failed warm-up.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many pages that are not on the home page are rendered at once.
const RENDERED_AT_ONCE: usize = 1;

/// The documents for buyers: published activities, products and SKUs.
#[derive(Debug)]
pub struct Storefront {
    catalogue: Arc<dyn Catalogue>,
    sales: Arc<Sales>,
    spawner: Spawner,
    site: Site,
    products: ProductDocuments,
    published: ArcSwap<PublishedCatalogue>,
    clock: Arc<dyn Clock>,
    /// Held during a refresh, so that an older catalogue does not replace a newer one.
    refreshing: Mutex<()>,
    /// Permits to render pages that are not on the home page.
    rendering: Semaphore,
}

/// What a page lacks that was not rendered when it was published.
#[derive(Debug)]
pub enum Unrendered {
    /// The documents of an activity.
    Activity(Arc<PublishedActivity>),
    /// A page of the archive.
    Archive(Arc<ArchivePage>),
    /// An activity has ended, which changes home page and archive.
    Turn,
}

impl Storefront {
    /// Creates an empty storefront; [`refresh`](Self::refresh) fills it.
    ///
    /// # Errors
    /// If the pages of an empty shop cannot be rendered.
    pub fn new(
        catalogue: Arc<dyn Catalogue>,
        sales: Arc<Sales>,
        spawner: Spawner,
        site: Site,
        (cache, clock): (&CacheConfig, &Arc<dyn Clock>),
    ) -> Result<Self, PublishedCatalogueError> {
        let published = PublishedCatalogue::fill(Range::default(), &site, None, clock.now())?;
        let products = ProductDocuments::new(cache, clock, getrandom::u64().unwrap_or_default());
        Ok(Self {
            catalogue,
            sales,
            spawner,
            site,
            products,
            published: ArcSwap::from_pointee(published),
            clock: Arc::clone(clock),
            refreshing: Mutex::default(),
            rendering: Semaphore::new(RENDERED_AT_ONCE),
        })
    }

    /// Returns the published catalogue.
    pub fn published(&self) -> Guard<Arc<PublishedCatalogue>> {
        self.published.load()
    }

    /// Returns the caches of product and SKU documents.
    pub fn products(&self) -> &ProductDocuments {
        &self.products
    }

    /// Returns the settings that all pages share.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Updates the published catalogue from catalogue and ledger. Renders only what changed.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`]. The previous documents stay; retry.
    pub async fn refresh(&self) -> Result<(), PublishedCatalogueError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let mut range = Range::read(&*self.catalogue).await?;
        range.retain(|activity| self.sales.sale(activity).is_some());
        self.replace(move |before, site, now| PublishedCatalogue::fill(range, site, Some(before), now)).await
    }

    /// Updates one activity of the published catalogue. Neither reads nor renders the others.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`]. The previous documents stay; retry.
    pub async fn refresh_activity(&self, id: ActivityId) -> Result<(), PublishedCatalogueError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let changed = Range::one(&*self.catalogue, id).await?.filter(|_| self.sales.sale(id).is_some());
        self.replace(move |before, site, now| before.with(id, changed, site, now)).await
    }

    /// What has to be rendered before a page without its language can be served, if anything.
    pub(crate) fn unrendered(&self, path: &[&str]) -> Option<Unrendered> {
        let published = self.published.load();
        match path {
            ["activities", id] => {
                let listed = published.activities.get(&id.parse().ok()?)?;
                listed.documents().is_none().then(|| Unrendered::Activity(Arc::clone(listed)))
            }
            [] | ["archive", ..] if self.clock.now() >= published.turns_at() => Some(Unrendered::Turn),
            ["archive", number @ ..] => {
                let page = published.archive_page(number)?;
                page.editions().is_none().then(|| Unrendered::Archive(Arc::clone(page)))
            }
            _ => None,
        }
    }

    /// Renders what a page lacks. Goes on if the client leaves.
    ///
    /// # Errors
    /// [`Unread`].
    pub(crate) async fn render(self: &Arc<Self>, unrendered: Unrendered) -> Result<(), Unread> {
        let storefront = Arc::clone(self);
        let work = async move {
            let Self { site, rendering, .. } = &*storefront;
            let rendered = match unrendered {
                Unrendered::Activity(listed) => listed.render(site, rendering).await,
                Unrendered::Archive(page) => page.render(site, rendering).await,
                Unrendered::Turn => storefront.turn().await,
            };
            rendered.map_err(|error| {
                tracing::error!(%error, "a page could not be rendered");
                Unread
            })
        };
        self.spawner.run(work).await.map_err(|_| Unread)?
    }

    /// Moves activities that have ended from the home page to the archive.
    async fn turn(&self) -> Result<(), PublishedCatalogueError> {
        let _one_at_a_time = self.refreshing.lock().await;
        if self.clock.now() < self.published.load().turns_at() {
            return Ok(());
        }
        self.replace(|before, site, now| before.turned(site, now)).await
    }

    async fn replace(
        &self,
        make: impl FnOnce(
            &PublishedCatalogue,
            &Site,
            Timestamp,
        ) -> Result<PublishedCatalogue, PublishedCatalogueError>
        + Send
        + 'static,
    ) -> Result<(), PublishedCatalogueError> {
        let (site, before, now) = (self.site.clone(), self.published.load_full(), self.clock.now());
        // Compression is CPU-bound and takes seconds for large pages; run it off the async threads.
        let work = tokio::task::spawn_blocking(move || {
            let published = make(&before, &site, now)?;
            let changed = published.changed(&before);
            Ok::<_, PublishedCatalogueError>((published, changed))
        });
        let (published, changed) = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        self.published.store(Arc::new(published));
        // Invalidate only after the store, so that reloads see the new catalogue.
        changed.iter().for_each(|product| self.products.products().forget(product));
        Ok(())
    }

    /// Imports into the catalogue. Does not publish.
    ///
    /// # Errors
    /// [`ImportFailure`].
    pub async fn import(&self, input: &Input, by: &Attribution) -> Result<ImportReport, ImportFailure> {
        let imported = input.import(&*self.catalogue, by).await;
        // Also after an error: the change may have been written.
        if !imported.as_ref().is_ok_and(|report| !report.changed_anything()) {
            self.products.forget_all();
        }
        imported
    }

    /// Returns the documents of a product, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn product(self: &Arc<Self>, id: ProductId) -> Result<Option<Arc<ProductDocument>>, Unread> {
        if let Some(known) = self.products.products.known(&id) {
            return Ok(known);
        }
        // Spawned, so that a disconnecting client does not cancel a load that others wait for.
        let storefront = Arc::clone(self);
        self.spawner.run(async move { storefront.load_product(id).await }).await.map_err(|_| Unread)?
    }

    /// Returns the document of an SKU, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn sku(self: &Arc<Self>, id: SkuId) -> Result<Option<Arc<Document>>, Unread> {
        if let Some(known) = self.products.skus.known(&id) {
            return Ok(known);
        }
        let storefront = Arc::clone(self);
        let work = async move {
            let load = async {
                let Some(sku) = storefront.catalogue.sku(id).await? else { return Ok(None) };
                Ok::<_, PublishedCatalogueError>(Some(Arc::new(Document::json(
                    published::CACHE,
                    &sku.value,
                )?)))
            };
            storefront.products.skus.get(&id, load).await.map_err(|error| unread("SKU", &id, &error))
        };
        self.spawner.run(work).await.map_err(|_| Unread)?
    }

    /// Loads the products on sale that are not cached yet, up to the capacity of the cache.
    ///
    /// # Errors
    /// [`Unread`] if any failed to load; the rest are cached.
    pub(crate) async fn warm(self: &Arc<Self>) -> Result<(), Unread> {
        let options = *self.products.products.options();
        let mut offered: Vec<_> = self.published.load().offered().collect();
        if offered.len() > options.values.get() {
            tracing::warn!(
                on_sale = offered.len(),
                kept = options.values,
                "more products on sale than fit in the cache; raise cache.products"
            );
            offered.truncate(options.values.get());
        }
        let loads = stream::iter(offered).map(|id| async move { self.load_product(id).await.map(drop) });
        let loads = loads.buffer_unordered(options.loads.get() as usize);
        loads.fold(Ok(()), async |all, one| all.and(one)).await
    }

    /// Warms the cache at startup; retries until it succeeds.
    pub(crate) async fn warm_up(self: &Arc<Self>) {
        while self.warm().await.is_err() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        self.products.warm.send_replace(true);
    }

    /// Creates or replaces a product; later reads see the change.
    ///
    /// # Errors
    /// As [`flashsale_core::service::Operations::put_product`].
    pub async fn put_product(
        &self,
        operations: &Operations,
        expected: Option<u64>,
        product: Product,
        by: &Attribution,
    ) -> Result<Versioned<Product>, OperationError> {
        let id = product.id;
        let written = operations.put_product(expected, product, by).await;
        // Also after an error: the change may have been written.
        self.products.products.forget(&id);
        written
    }

    /// Creates or replaces an SKU; later reads of it or its product see the change.
    ///
    /// # Errors
    /// As [`flashsale_core::service::Operations::put_sku`].
    pub async fn put_sku(
        &self,
        operations: &Operations,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, OperationError> {
        let _one_at_a_time = self.products.changing_sku.lock().await;
        let before = self.catalogue.sku(sku.id).await?.map(|sku| sku.value.product_id);
        let (id, product) = (sku.id, sku.product_id);
        let written = operations.put_sku(expected, sku, by).await;
        self.products.skus.forget(&id);
        for product in before.into_iter().chain([product]) {
            self.products.products.forget(&product);
        }
        written
    }

    async fn load_product(&self, id: ProductId) -> Result<Option<Arc<ProductDocument>>, Unread> {
        let load = self.write_product(id);
        self.products.products.get(&id, load).await.map_err(|error| unread("product", &id, &error))
    }

    pub(super) async fn write_product(
        &self,
        id: ProductId,
    ) -> Result<Option<Arc<ProductDocument>>, PublishedCatalogueError> {
        let Some(product) = self.catalogue.product(id).await? else { return Ok(None) };
        let skus = skus_of(&*self.catalogue, id).await?;
        // Read the published catalogue last: a load that starts after an invalidation must see the new one.
        let (published, site, now) = (self.published.load_full(), self.site.clone(), self.clock.now());
        let work = tokio::task::spawn_blocking(move || {
            ProductDocument::write(&product.value, &skus, (&published, now), &site)
        });
        let document = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        Ok(Some(Arc::new(document)))
    }
}

fn unread(kind: &str, id: &dyn fmt::Display, error: &LoadError<PublishedCatalogueError>) -> Unread {
    if let LoadError::Failed(error) = error {
        tracing::error!(%error, kind, %id, "a document could not be rendered");
    }
    Unread
}
