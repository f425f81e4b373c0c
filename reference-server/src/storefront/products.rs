//! Documents of products and SKUs: written when somebody asks for them, and kept while they are asked for.
//!
//! A catalogue may have very many products of which few are on sale. Those that are offered are written when they are
//! published, and at the start before the server calls itself ready.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread,
};

use flashsale_core::{
    cache::{Cache, CacheOptions},
    catalogue::{Catalogue, CatalogueError, MAX_PAGE, Versioned},
    domain::{Clock, Product, ProductId, Sku, SkuId},
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

/// What is kept of them in this process.
#[derive(Debug)]
pub struct ProductDocuments {
    pub(super) products: Cache<ProductId, Arc<ProductDocument>>,
    pub(super) skus: Cache<SkuId, Arc<Document>>,
    /// Held while an SKU is written, so that it is known of which product it was a variant before.
    pub(super) moving: Mutex<()>,
    pub(super) warm: watch::Sender<bool>,
}

/// Every product and SKU of a catalogue, written out.
#[derive(Debug, Default)]
pub struct AllProductDocuments {
    /// Products.
    pub products: BTreeMap<ProductId, ProductDocument>,
    /// SKUs.
    pub skus: BTreeMap<SkuId, Document>,
}

/// There is no answer now, and whether there is such a thing is not known; the log has the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue does not answer")]
pub struct Unread;

#[derive(Serialize)]
struct ShownProduct<'a> {
    #[serde(flatten)]
    product: &'a Product,
    skus: &'a [Sku],
}

impl ProductDocuments {
    /// Nothing is written yet; `seed` is for the lives of what will be.
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
            moving: Mutex::default(),
            warm: watch::Sender::new(false),
        }
    }

    /// Products that are known, those included of which is known that there is none.
    pub fn products(&self) -> &Cache<ProductId, Arc<ProductDocument>> {
        &self.products
    }

    /// SKUs that are known, in the same sense.
    pub fn skus(&self) -> &Cache<SkuId, Arc<Document>> {
        &self.skus
    }

    /// Whether the products that were on sale at the start have been written.
    pub fn are_warm(&self) -> bool {
        *self.warm.borrow()
    }

    /// Waits until they are.
    pub async fn warmed(&self) {
        // It ends with `self`, which is borrowed here.
        let _ = self.warm.subscribe().wait_for(|warm| *warm).await;
    }

    /// Forgets everything, after an import changed what it changed.
    pub fn forget_all(&self) {
        self.products.forget_all();
        self.skus.forget_all();
    }
}

/// One for each core if nobody says how many.
fn loads(configured: u32) -> NonZeroU32 {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroU32::new(configured)
        .or_else(|| NonZeroU32::new(u32::try_from(cores()).unwrap_or(u32::MAX)))
        .unwrap_or(NonZeroU32::MIN)
}

impl ProductDocument {
    /// Writes a product with its SKUs and with what `published` offers of them. This takes the time of compressing it.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub fn write(
        product: &Product,
        skus: &[Sku],
        published: &PublishedCatalogue,
        site: &Site,
    ) -> Result<Self, PublishedCatalogueError> {
        let offers: Vec<_> = published
            .offering(product.id)
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
    /// Reads and writes all of them.
    ///
    /// # Errors
    /// [`PublishedCatalogueError`].
    pub async fn write(
        catalogue: &dyn Catalogue,
        published: &PublishedCatalogue,
        site: &Site,
    ) -> Result<Self, PublishedCatalogueError> {
        let mut all = Self::default();
        loop {
            let after = all.products.keys().next_back().copied();
            let page = catalogue.products(after, MAX_PAGE).await?;
            let is_last = page.len() < MAX_PAGE;
            for Versioned { value: product, .. } in page {
                let skus = skus_of(catalogue, product.id).await?;
                let sheet = ProductDocument::write(&product, &skus, published, site)?;
                all.products.insert(product.id, sheet);
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
