//! Documents of products and SKUs: written when somebody asks for them, and kept while they are asked for.
//!
//! A catalogue may have very many products of which few are on sale. Those that are offered are written when they are
//! published, and at the start before the server calls itself ready.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::Duration,
};

use flashsale_core::{
    cache::{Cache, CacheOptions, LoadError},
    catalogue::{Catalogue, CatalogueError, MAX_PAGE, Versioned},
    domain::{Attribution, Clock, Product, ProductId, Sku, SkuId},
    service::OperationError,
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::{Mutex, watch};

use crate::{
    app::App,
    config::CacheConfig,
    http::document::Document,
    storefront::{
        pages::{Editions, Row, Site},
        published::{self, PublishedCatalogue, PublishedCatalogueError},
    },
    views::ShownOffer,
};

/// After a load that failed, the products on sale are tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

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
    products: Cache<ProductId, Arc<ProductDocument>>,
    skus: Cache<SkuId, Arc<Document>>,
    /// Held while an SKU is written, so that it is known of which product it was a variant before.
    moving: Mutex<()>,
    warm: watch::Sender<bool>,
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

async fn skus_of(catalogue: &dyn Catalogue, product: ProductId) -> Result<Vec<Sku>, CatalogueError> {
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

impl App {
    /// A product, or `None` if there is none.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn sheet(self: &Arc<Self>, id: ProductId) -> Result<Option<Arc<ProductDocument>>, Unread> {
        if let Some(known) = self.product_documents.products.known(&id) {
            return Ok(known);
        }
        // A client that goes away stops no load, so that the bound of loads holds, and others need not begin again.
        let app = Arc::clone(self);
        self.spawner.run(async move { app.load_sheet(id).await }).await.map_err(|_| Unread)?
    }

    /// An SKU, or `None` if there is none.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn sku_document(self: &Arc<Self>, id: SkuId) -> Result<Option<Arc<Document>>, Unread> {
        if let Some(known) = self.product_documents.skus.known(&id) {
            return Ok(known);
        }
        let app = Arc::clone(self);
        let work = async move {
            let load = async {
                let Some(sku) = app.catalogue.sku(id).await? else { return Ok(None) };
                Ok::<_, PublishedCatalogueError>(Some(Arc::new(Document::json(
                    published::CACHE,
                    &sku.value,
                )?)))
            };
            app.product_documents.skus.get(&id, load).await.map_err(|error| unread("SKU", &id, &error))
        };
        self.spawner.run(work).await.map_err(|_| Unread)?
    }

    /// Writes the products that are on sale now, as many as are kept, if they are not known yet.
    ///
    /// # Errors
    /// [`Unread`] if some could not be written; the others are.
    pub(crate) async fn warm(self: &Arc<Self>) -> Result<(), Unread> {
        let options = *self.product_documents.products.options();
        let mut offered: Vec<_> = self.published.load().offered().collect();
        if offered.len() > options.values.get() {
            tracing::warn!(
                on_sale = offered.len(),
                kept = options.values,
                "more products are on sale than are kept written out; raise cache.products"
            );
            offered.truncate(options.values.get());
        }
        let loads = stream::iter(offered).map(|id| async move { self.load_sheet(id).await.map(drop) });
        let loads = loads.buffer_unordered(options.loads.get() as usize);
        loads.fold(Ok(()), async |all, one| all.and(one)).await
    }

    /// Warms up at the start, until it succeeds.
    pub(crate) async fn warm_up(self: &Arc<Self>) {
        while self.warm().await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
        self.product_documents.warm.send_replace(true);
    }

    /// Creates or replaces a product; who asks for it from then on gets the new one.
    ///
    /// # Errors
    /// As [`flashsale_core::service::Operations::put_product`].
    pub async fn put_product(
        &self,
        expected: Option<u64>,
        product: Product,
        by: &Attribution,
    ) -> Result<Versioned<Product>, OperationError> {
        let id = product.id;
        let written = self.operations.put_product(expected, product, by).await;
        // Also after an error, which may hide that it was written.
        self.product_documents.products.forget(&id);
        written
    }

    /// Creates or replaces an SKU; who asks for it or for its product from then on gets the new one.
    ///
    /// # Errors
    /// As [`flashsale_core::service::Operations::put_sku`].
    pub async fn put_sku(
        &self,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, OperationError> {
        let _one_at_a_time = self.product_documents.moving.lock().await;
        let before = self.catalogue.sku(sku.id).await?.map(|sku| sku.value.product_id);
        let (id, product) = (sku.id, sku.product_id);
        let written = self.operations.put_sku(expected, sku, by).await;
        self.product_documents.skus.forget(&id);
        for product in before.into_iter().chain([product]) {
            self.product_documents.products.forget(&product);
        }
        written
    }

    async fn load_sheet(&self, id: ProductId) -> Result<Option<Arc<ProductDocument>>, Unread> {
        let load = self.write_sheet(id);
        self.product_documents.products.get(&id, load).await.map_err(|error| unread("product", &id, &error))
    }

    async fn write_sheet(
        &self,
        id: ProductId,
    ) -> Result<Option<Arc<ProductDocument>>, PublishedCatalogueError> {
        let Some(product) = self.catalogue.product(id).await? else { return Ok(None) };
        let skus = skus_of(&*self.catalogue, id).await?;
        // Read here and not before: a load that begins after a product was forgotten sees what is on the shelf then.
        let (published, site) = (self.published.load_full(), self.site());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use flashsale_core::domain::{ActivityId, SystemClock};
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        app::{Jobs, by},
        config::Config,
        http::document::Encoding,
        import::{self, Source},
        runtime::background::Background,
        storefront::pages::Language,
    };

    /// A shop in memory. Activity 1 offers `count` products, activity 2 the second one; as many are not offered.
    struct Shop {
        app: Arc<App>,
        jobs: Jobs,
    }

    impl Shop {
        async fn open(background: &Background, count: u64) -> Self {
            let mut config = Config::default();
            config.storage.in_memory = true;
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let (app, jobs) = App::open(&config, clock, background.spawner().clone()).await.unwrap();
            app.product_documents.warmed().await;
            let shop = Self { app, jobs };
            shop.import(count).await;
            shop
        }

        async fn import(&self, count: u64) {
            let price = json!({ "amount": 100, "currency": "CNY" });
            let sku = |id: u64| json!({ "id": (1_000 + id).to_string(), "product_id": id.to_string(), "name": "L", "list_price": price });
            let offer = |id: u64| json!({ "sku_id": (1_000 + id).to_string(), "price": price, "units": 5, "strategy": "order_time" });
            let activity = |id: &str, offers: Vec<Value>| {
                json!({
                    "id": id, "name": format!("sale {id}"), "starts_at": "2030-01-01T00:00:00Z",
                    "ends_at": "2030-01-02T00:00:00Z", "creator": "chen", "reviewer": "li", "status": "published",
                    "offers": offers,
                })
            };
            let products = 1..=2 * count;
            let file = json!({
                "products": products.clone().map(|id| json!({ "id": id.to_string(), "name": format!("cup {id}") })).collect::<Vec<_>>(),
                "skus": products.map(sku).collect::<Vec<_>>(),
                "activities": [activity("1", (1..=count).map(offer).collect()), activity("2", vec![offer(2)])],
            });
            let source =
                Source { name: "shop.json".to_owned(), content: file.to_string().into_bytes().into() };
            let input = import::parse(&[source], self.app.clock.now()).unwrap();
            let by = by("test", "import");
            self.app.import(&input, &by).await.unwrap();
            self.app.publish(&by).await.unwrap();
        }

        async fn rename(&self, id: u64, name: &str) {
            let by = by("test", "renamed");
            let id = id.try_into().unwrap();
            let Versioned { version, value } = self.app.catalogue.product(id).await.unwrap().unwrap();
            let product = Product { name: name.parse().unwrap(), ..value };
            self.app.put_product(Some(version), product, &by).await.unwrap();
            self.app.publish(&by).await.unwrap();
        }

        async fn sheet(&self, id: u64) -> Option<Arc<ProductDocument>> {
            self.app.sheet(id.try_into().unwrap()).await.unwrap()
        }

        fn loads(&self) -> u64 {
            self.app.product_documents.products.metrics().loads.load(Ordering::Relaxed)
        }

        async fn close(self) {
            self.app.close(self.jobs).await.unwrap();
        }
    }

    fn text(document: &Document) -> String {
        String::from_utf8(document.body(Encoding::Identity).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_change_of_one_product_writes_as_much_among_few_as_among_many() {
        let background = Background::start().unwrap();
        background.block_on(async {
            for count in [3, 40] {
                let shop = Shop::open(&background, count).await;
                assert_eq!(shop.loads(), count, "those on sale are written when they are published");
                let before = shop.app.published.load_full();
                let mut product_documents = Vec::new();
                for id in 1..=2 * count {
                    product_documents.push(shop.sheet(id).await.unwrap());
                }
                assert_eq!(shop.loads(), 2 * count);

                shop.rename(1, "tea cup").await;
                assert_eq!(shop.loads(), 2 * count + 1);
                for (id, sheet) in (1..).zip(&product_documents) {
                    assert_eq!(Arc::ptr_eq(sheet, &shop.sheet(id).await.unwrap()), id != 1, "product {id}");
                }
                assert_eq!(shop.loads(), 2 * count + 1);
                let after = shop.app.published.load_full();
                let [one, two]: [ActivityId; 2] = [1, 2].map(|id| id.try_into().unwrap());
                assert!(!Arc::ptr_eq(&before.activities[&one], &after.activities[&one]));
                assert!(Arc::ptr_eq(&before.activities[&two], &after.activities[&two]));
                for document in [
                    &shop.sheet(1).await.unwrap().document,
                    shop.sheet(1).await.unwrap().page.in_language(Language::En),
                    after.activities[&one].page.in_language(Language::Zh),
                    after.home.in_language(Language::En),
                ] {
                    assert!(text(document).contains("tea cup"), "{}", text(document));
                }

                // Nothing on sale has changed: nothing on the shelf is written anew.
                shop.rename(2 * count, "saucer").await;
                assert_eq!(shop.loads(), 2 * count + 1, "it is not on sale, and written when somebody asks");
                assert!(Arc::ptr_eq(&after.activities[&one], &shop.app.published.load().activities[&one]));
                assert!(text(&shop.sheet(2 * count).await.unwrap().document).contains("saucer"));
                shop.import(count).await;
                assert_eq!(
                    text(&shop.sheet(1).await.unwrap().document),
                    text(&product_documents[0].document)
                );
                shop.close().await;
            }
        });
    }

    #[test]
    fn what_an_activity_shows_elsewhere_is_written_anew_with_it() {
        let background = Background::start().unwrap();
        background.block_on(async {
            let shop = Shop::open(&background, 3).await;
            let before = shop.app.published.load_full();
            let two: ActivityId = 2.try_into().unwrap();
            let Versioned { version, value } = shop.app.catalogue.activity(two).await.unwrap().unwrap();
            let renamed = flashsale_core::domain::Activity { name: "last call".parse().unwrap(), ..value };
            let by = by("test", "renamed");
            shop.app.catalogue.put_activity(Some(version), renamed, &by).await.unwrap();
            let loads = shop.loads();
            shop.app.publish(&by).await.unwrap();
            let changed = shop.app.published.load().changed(&before);
            assert_eq!(changed.iter().map(|id| id.value()).collect::<Vec<_>>(), [2]);
            assert_eq!(shop.loads(), loads + 1);
            let page = text(shop.sheet(2).await.unwrap().page.in_language(Language::En));
            assert!(page.contains("last call") && page.contains("sale 1"), "{page}");
            shop.close().await;
        });
    }

    #[test]
    fn what_nobody_has_is_known_until_somebody_makes_it() {
        let background = Background::start().unwrap();
        background.block_on(async {
            let shop = Shop::open(&background, 2).await;
            let loads = shop.loads();
            for _ in 0..3 {
                assert!(shop.sheet(9).await.is_none());
            }
            assert_eq!(shop.loads(), loads + 1);
            let by = by("test", "made");
            let product = Product {
                id: 9.try_into().unwrap(),
                name: "pot".parse().unwrap(),
                description: None,
                image: None,
            };
            shop.app.put_product(None, product, &by).await.unwrap();
            assert!(text(&shop.sheet(9).await.unwrap().document).contains("\"skus\":[]"));

            // An SKU that moves is shown by its new product, and by the old one no more.
            let id: SkuId = 1_001.try_into().unwrap();
            let Versioned { version, value } = shop.app.catalogue.sku(id).await.unwrap().unwrap();
            assert!(text(&shop.sheet(1).await.unwrap().document).contains("1001"));
            shop.app
                .put_sku(Some(version), Sku { product_id: 9.try_into().unwrap(), ..value }, &by)
                .await
                .unwrap();
            assert!(!text(&shop.sheet(1).await.unwrap().document).contains("1001"));
            assert!(text(&shop.sheet(9).await.unwrap().document).contains("1001"));
            assert!(
                text(&shop.app.sku_document(id).await.unwrap().unwrap()).contains("\"product_id\":\"9\"")
            );
            shop.close().await;
        });
    }

    #[test]
    fn it_is_not_ready_before_the_products_on_sale_are_written() {
        let background = Background::start().unwrap();
        background.block_on(async {
            let shop = Shop::open(&background, 3).await;
            let app = &shop.app;
            let waits = || app.obstacles().iter().any(|obstacle| obstacle.starts_with("pages: "));
            app.product_documents.warm.send_replace(false);
            app.product_documents.forget_all();
            // The first product is being loaded, until it is let go.
            let (go, gone) = oneshot::channel::<()>();
            let (begun, began) = oneshot::channel::<()>();
            let loading = tokio::spawn({
                let app = Arc::clone(app);
                async move {
                    let load = async {
                        begun.send(()).unwrap();
                        gone.await.unwrap();
                        app.write_sheet(1.try_into().unwrap()).await
                    };
                    app.product_documents.products.get(&1.try_into().unwrap(), load).await.unwrap();
                }
            });
            began.await.unwrap();
            let warming = tokio::spawn({
                let app = Arc::clone(app);
                async move { app.warm_up().await }
            });
            while app.product_documents.products.len() < 2 {
                tokio::task::yield_now().await;
            }
            assert!(waits(), "{:?}", app.obstacles());
            go.send(()).unwrap();
            loading.await.unwrap();
            warming.await.unwrap();
            assert!(!waits(), "{:?}", app.obstacles());
            assert_eq!(app.product_documents.products.len(), 3);
            shop.close().await;
        });
    }

    #[test]
    fn all_of_a_catalogue_is_written_as_it_is_served() {
        let background = Background::start().unwrap();
        background.block_on(async {
            let shop = Shop::open(&background, 2).await;
            let (app, published) = (&shop.app, shop.app.published.load_full());
            let all = AllProductDocuments::write(&*app.catalogue, &published, &app.site()).await.unwrap();
            assert_eq!((all.products.len(), all.skus.len()), (4, 4));
            for (id, sheet) in &all.products {
                let served = app.sheet(*id).await.unwrap().unwrap();
                assert_eq!(text(&sheet.document), text(&served.document));
                for language in Language::ALL {
                    assert_eq!(
                        text(sheet.page.in_language(language)),
                        text(served.page.in_language(language))
                    );
                }
            }
            for (id, document) in &all.skus {
                assert_eq!(text(document), text(&app.sku_document(*id).await.unwrap().unwrap()));
            }
            shop.close().await;
        });
    }
}
