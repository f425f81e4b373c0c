//! The storefront: what buyers are shown without asking the ledger, brought up to what the catalogue says.

use std::{fmt, panic::resume_unwind, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use flashsale_core::{
    cache::LoadError,
    catalogue::{Catalogue, ImportReport, Versioned},
    domain::{Attribution, Clock, Product, ProductId, Sku, SkuId},
    service::{OperationError, Operations, Sales},
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use super::{
    pages::Site,
    products::{ProductDocument, ProductDocuments, Unread, skus_of},
    published::{self, PublishedCatalogue, PublishedCatalogueError, Range},
};
use crate::{
    config::CacheConfig,
    http::document::Document,
    import::{ImportFailure, Input},
    runtime::background::Spawner,
};

/// After a load that failed, the products on sale are tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// What buyers are shown: published activities, products and SKUs.
#[derive(Debug)]
pub struct Storefront {
    catalogue: Arc<dyn Catalogue>,
    sales: Arc<Sales>,
    spawner: Spawner,
    site: Site,
    products: ProductDocuments,
    published: ArcSwap<PublishedCatalogue>,
    /// Held while the published catalogue is written, so that a newer one is not replaced by an older one.
    refreshing: Mutex<()>,
}

impl Storefront {
    /// An empty storefront; [`refresh`](Self::refresh) fills it.
    ///
    /// # Errors
    /// If the pages of an empty shop cannot be written.
    pub fn new(
        catalogue: Arc<dyn Catalogue>,
        sales: Arc<Sales>,
        spawner: Spawner,
        site: Site,
        (cache, clock): (&CacheConfig, &Arc<dyn Clock>),
    ) -> Result<Self, PublishedCatalogueError> {
        let published = ArcSwap::from_pointee(PublishedCatalogue::fill(Range::default(), &site, None)?);
        let products = ProductDocuments::new(cache, clock, getrandom::u64().unwrap_or_default());
        Ok(Self { catalogue, sales, spawner, site, products, published, refreshing: Mutex::default() })
    }

    /// What is published now.
    pub fn published(&self) -> Guard<Arc<PublishedCatalogue>> {
        self.published.load()
    }

    /// What is kept of products and SKUs.
    pub fn products(&self) -> &ProductDocuments {
        &self.products
    }

    /// What all pages share.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Brings what is published up to what the catalogue says and the ledger sells. What has not changed since the last
    /// time is not written again.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`]; what was published before stays, repeat it.
    pub async fn refresh(&self) -> Result<(), PublishedCatalogueError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let mut range = Range::read(&*self.catalogue).await?;
        range.retain(|activity| self.sales.sale(activity).is_some());
        let (site, before) = (self.site.clone(), self.published.load_full());
        // Compressing large pages takes seconds; it must not hold up a thread of the runtime.
        let work = tokio::task::spawn_blocking(move || {
            let published = PublishedCatalogue::fill(range, &site, Some(&before))?;
            let changed = published.changed(&before);
            Ok::<_, PublishedCatalogueError>((published, changed))
        });
        let (published, changed) = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        self.published.store(Arc::new(published));
        // Only now, so that what is written from now on is written from what is published now.
        changed.iter().for_each(|product| self.products.products().forget(product));
        Ok(())
    }

    /// Takes an import into the catalogue; publish it then.
    ///
    /// # Errors
    /// [`ImportFailure`].
    pub async fn import(&self, input: &Input, by: &Attribution) -> Result<ImportReport, ImportFailure> {
        let imported = input.import(&*self.catalogue, by).await;
        // Also after an error, which may hide that it was written.
        if !imported.as_ref().is_ok_and(|report| !report.changed_anything()) {
            self.products.forget_all();
        }
        imported
    }

    /// A product, or `None` if there is none.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn product(self: &Arc<Self>, id: ProductId) -> Result<Option<Arc<ProductDocument>>, Unread> {
        if let Some(known) = self.products.products.known(&id) {
            return Ok(known);
        }
        // A client that goes away stops no load, so that the bound of loads holds, and others need not begin again.
        let storefront = Arc::clone(self);
        self.spawner.run(async move { storefront.load_product(id).await }).await.map_err(|_| Unread)?
    }

    /// An SKU, or `None` if there is none.
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

    /// Writes the products that are on sale now, as many as are kept, if they are not known yet.
    ///
    /// # Errors
    /// [`Unread`] if some could not be written; the others are.
    pub(crate) async fn warm(self: &Arc<Self>) -> Result<(), Unread> {
        let options = *self.products.products.options();
        let mut offered: Vec<_> = self.published.load().offered().collect();
        if offered.len() > options.values.get() {
            tracing::warn!(
                on_sale = offered.len(),
                kept = options.values,
                "more products are on sale than are kept written out; raise cache.products"
            );
            offered.truncate(options.values.get());
        }
        let loads = stream::iter(offered).map(|id| async move { self.load_product(id).await.map(drop) });
        let loads = loads.buffer_unordered(options.loads.get() as usize);
        loads.fold(Ok(()), async |all, one| all.and(one)).await
    }

    /// Warms up at the start, until it succeeds.
    pub(crate) async fn warm_up(self: &Arc<Self>) {
        while self.warm().await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
        self.products.warm.send_replace(true);
    }

    /// Creates or replaces a product; who asks for it from then on gets the new one.
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
        // Also after an error, which may hide that it was written.
        self.products.products.forget(&id);
        written
    }

    /// Creates or replaces an SKU; who asks for it or for its product from then on gets the new one.
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
        let _one_at_a_time = self.products.moving.lock().await;
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
        // Read here and not before: a load that begins after a product was forgotten sees what is on the shelf then.
        let (published, site) = (self.published.load_full(), self.site.clone());
        let work = tokio::task::spawn_blocking(move || {
            ProductDocument::write(&product.value, &skus, &published, &site)
        });
        let sheet = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        Ok(Some(Arc::new(sheet)))
    }
}

fn unread(kind: &str, id: &dyn fmt::Display, error: &LoadError<PublishedCatalogueError>) -> Unread {
    if let LoadError::Failed(error) = error {
        tracing::error!(%error, kind, %id, "a document could not be written");
    }
    Unread
}
