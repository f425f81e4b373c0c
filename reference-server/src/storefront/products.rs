//! Documents of products and SKUs: rendered on demand and cached.
//!
//! A catalogue may have very many products, few of them on sale. Those on sale are rendered when
//! they are published, and at startup before the server reports ready.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread,
};

use flashsale_core::{
    cache::{Cache, CacheOptions},
    catalogue::{Catalogue, CatalogueError, MAX_PAGE, Versioned},
    domain::{Clock, Product, ProductId, Sku, SkuId, Timestamp},
};
use serde::Serialize;
use tokio::sync::{Mutex, watch};

use crate::{
    config::CacheConfig,
    http::document::Document,
    storefront::{
        pages::{Editions, Row, Site},
        published::{self, PublishedCatalogue, PublishedCatalogueError},
    },
    views::ShownOffer,
};

/// A product as JSON and as a page.
#[derive(Debug)]
pub struct ProductDocument {
    /// The product with its SKUs.
    pub document: Document,
    /// Its page.
    pub page: Editions,
}

/// The caches of product and SKU documents.
#[derive(Debug)]
pub struct ProductDocuments {
    pub(super) products: Cache<ProductId, Arc<ProductDocument>>,
    pub(super) skus: Cache<SkuId, Arc<Document>>,
    /// Held while an SKU is changed, so that the product it belonged to before is known.
    pub(super) changing_sku: Mutex<()>,
    pub(super) warm: watch::Sender<bool>,
}

/// The documents of every product and SKU of a catalogue.
#[derive(Debug, Default)]
pub struct AllProductDocuments {
    /// Documents by product.
    pub products: BTreeMap<ProductId, ProductDocument>,
    /// Documents by SKU.
    pub skus: BTreeMap<SkuId, Document>,
}

/// The catalogue could not be read, so the item may or may not exist. The log has the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue did not respond")]
pub struct Unread;

#[derive(Serialize)]
struct ShownProduct<'a> {
    #[serde(flatten)]
    product: &'a Product,
    skus: &'a [Sku],
}

impl ProductDocuments {
    /// Creates empty caches; `seed` is for the jitter of their TTLs.
    pub fn new(config: &CacheConfig, clock: &Arc<dyn Clock>, seed: u64) -> Self {
        let options = CacheOptions {
            values: config.products,
            life: config.life(),
            absences: config.absences,
            absence_life: config.absence_life(),
            loads: loads(config.loads),
            seed,
            ..CacheOptions::default()
        };
        Self {
            products: Cache::new(options, Arc::clone(clock)),
            skus: Cache::new(options, Arc::clone(clock)),
            changing_sku: Mutex::default(),
            warm: watch::Sender::new(false),
        }
    }

    /// Returns the cache of products, including known absences.
    pub fn products(&self) -> &Cache<ProductId, Arc<ProductDocument>> {
        &self.products
    }

    /// Returns the cache of SKUs, including known absences.
    pub fn skus(&self) -> &Cache<SkuId, Arc<Document>> {
        &self.skus
    }

    /// Whether the products that were on sale at startup have been rendered.
    pub fn are_warm(&self) -> bool {
        *self.warm.borrow()
    }

    /// Waits until [`are_warm`](Self::are_warm).
    pub async fn warmed(&self) {
        // Fails only if the sender is dropped; `self` owns it.
        let _ = self.warm.subscribe().wait_for(|warm| *warm).await;
    }

    /// Empties both caches, for example after an import.
    pub fn forget_all(&self) {
        self.products.forget_all();
        self.skus.forget_all();
    }
}

/// Returns the configured number of concurrent loads; 0 means one per core.
fn loads(configured: u32) -> NonZeroU32 {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroU32::new(configured)
        .or_else(|| NonZeroU32::new(u32::try_from(cores()).unwrap_or(u32::MAX)))
        .unwrap_or(NonZeroU32::MIN)
}

impl ProductDocument {
    /// Renders and compresses a product with its SKUs and published offers, as of a time. CPU-bound.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub fn write(
        product: &Product,
        skus: &[Sku],
        (published, now): (&PublishedCatalogue, Timestamp),
        site: &Site,
    ) -> Result<Self, PublishedCatalogueError> {
        let offers: Vec<_> = published
            .offering(product.id, now)
            .into_iter()
            .map(|listed| {
                let terms = listed.activity.offers.iter();
                let offers = terms.filter_map(|terms| {
                    let sku = skus.iter().find(|sku| sku.id == terms.sku())?;
                    Some(ShownOffer::new(terms, product, sku))
                });
                (listed, offers.collect::<Vec<_>>())
            })
            .collect();
        let rows: Vec<_> = offers
            .iter()
            .filter(|(_, offers)| !offers.is_empty())
            .map(|(listed, offers)| Row::new(&listed.activity, offers.iter().collect()))
            .collect();
        Ok(Self {
            page: site.product(product, skus, &rows)?,
            document: Document::json(published::CACHE, &ShownProduct { product, skus })?,
        })
    }
}

impl AllProductDocuments {
    /// Reads the catalogue and renders all documents.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub async fn write(
        catalogue: &dyn Catalogue,
        published: (&PublishedCatalogue, Timestamp),
        site: &Site,
    ) -> Result<Self, PublishedCatalogueError> {
        let mut all = Self::default();
        loop {
            let after = all.products.keys().next_back().copied();
            let page = catalogue.products(after, MAX_PAGE).await?;
            let is_last = page.len() < MAX_PAGE;
            for Versioned { value: product, .. } in page {
                let skus = skus_of(catalogue, product.id).await?;
                let document = ProductDocument::write(&product, &skus, published, site)?;
                all.products.insert(product.id, document);
                for sku in &skus {
                    all.skus.insert(sku.id, Document::json(published::CACHE, sku)?);
                }
            }
            if is_last {
                return Ok(all);
            }
        }
    }
}

pub(super) async fn skus_of(
    catalogue: &dyn Catalogue,
    product: ProductId,
) -> Result<Vec<Sku>, CatalogueError> {
    let mut skus: Vec<Sku> = Vec::new();
    loop {
        let page = catalogue.skus_of(product, skus.last().map(|sku| sku.id), MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        skus.extend(page.into_iter().map(|sku| sku.value));
        if is_last {
            return Ok(skus);
        }
    }
}
