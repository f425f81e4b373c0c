//! What a change renders again, and what it does not.

use std::sync::{Arc, atomic::Ordering};

use flashsale_core::{
    catalogue::Versioned,
    domain::{ActivityId, Clock, Product, Sku, SkuId, SystemClock},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::products::{AllProductDocuments, ProductDocument};
use crate::{
    app::{App, Jobs, by},
    config::Config,
    http::document::{Document, Encoding},
    import::{self, Source},
    runtime::background::Background,
    storefront::pages::Language,
};

/// A shop in memory with 2·`count` products. Activity 1 offers half of them, activity 2 product 2.
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
        app.storefront.products().warmed().await;
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
        let source = Source { name: "shop.json".to_owned(), content: file.to_string().into_bytes().into() };
        let input = import::parse(&[source], self.app.clock.now()).unwrap();
        let by = by("test", "import");
        self.app.storefront.import(&input, &by).await.unwrap();
        self.app.publish(&by).await.unwrap();
    }

    async fn rename(&self, id: u64, name: &str) {
        let by = by("test", "renamed");
        let id = id.try_into().unwrap();
        let Versioned { version, value } = self.app.catalogue.product(id).await.unwrap().unwrap();
        let product = Product { name: name.parse().unwrap(), ..value };
        self.app.storefront.put_product(&self.app.operations, Some(version), product, &by).await.unwrap();
        self.app.publish(&by).await.unwrap();
    }

    async fn product(&self, id: u64) -> Option<Arc<ProductDocument>> {
        self.app.storefront.product(id.try_into().unwrap()).await.unwrap()
    }

    fn loads(&self) -> u64 {
        self.app.storefront.products().products.metrics().loads.load(Ordering::Relaxed)
    }

    async fn close(self) {
        self.app.close(self.jobs).await.unwrap();
    }
}

fn text(document: &Document) -> String {
    String::from_utf8(document.body(Encoding::Identity).unwrap().to_vec()).unwrap()
}

#[test]
fn a_change_of_one_product_costs_the_same_among_few_and_many() {
    let background = Background::start().unwrap();
    background.block_on(async {
        for count in [3, 40] {
            let shop = Shop::open(&background, count).await;
            assert_eq!(shop.loads(), count, "products on sale are rendered when published");
            let before = Arc::clone(&shop.app.storefront.published());
            let mut product_documents = Vec::new();
            for id in 1..=2 * count {
                product_documents.push(shop.product(id).await.unwrap());
            }
            assert_eq!(shop.loads(), 2 * count);

            shop.rename(1, "tea cup").await;
            assert_eq!(shop.loads(), 2 * count + 1);
            for (id, document) in (1..).zip(&product_documents) {
                assert_eq!(Arc::ptr_eq(document, &shop.product(id).await.unwrap()), id != 1, "product {id}");
            }
            assert_eq!(shop.loads(), 2 * count + 1);
            let after = Arc::clone(&shop.app.storefront.published());
            let [one, two]: [ActivityId; 2] = [1, 2].map(|id| id.try_into().unwrap());
            assert!(!Arc::ptr_eq(&before.activities[&one], &after.activities[&one]));
            assert!(Arc::ptr_eq(&before.activities[&two], &after.activities[&two]));
            for document in [
                &shop.product(1).await.unwrap().document,
                shop.product(1).await.unwrap().page.in_language(Language::En),
                after.activities[&one].documents().unwrap().page.in_language(Language::Zh),
                after.home.in_language(Language::En),
            ] {
                assert!(text(document).contains("tea cup"), "{}", text(document));
            }

            // Nothing on sale has changed, so no published document is rendered again.
            shop.rename(2 * count, "saucer").await;
            assert_eq!(shop.loads(), 2 * count + 1, "it is not on sale, so it is rendered on demand");
            assert!(Arc::ptr_eq(&after.activities[&one], &shop.app.storefront.published().activities[&one]));
            assert!(text(&shop.product(2 * count).await.unwrap().document).contains("saucer"));
            shop.import(count).await;
            assert_eq!(text(&shop.product(1).await.unwrap().document), text(&product_documents[0].document));
            shop.close().await;
        }
    });
}

#[test]
fn a_changed_activity_renders_the_pages_that_show_it() {
    let background = Background::start().unwrap();
    background.block_on(async {
        let shop = Shop::open(&background, 3).await;
        let before = Arc::clone(&shop.app.storefront.published());
        let two: ActivityId = 2.try_into().unwrap();
        let Versioned { version, value } = shop.app.catalogue.activity(two).await.unwrap().unwrap();
        let renamed = flashsale_core::domain::Activity { name: "last call".parse().unwrap(), ..value };
        let by = by("test", "renamed");
        shop.app.catalogue.put_activity(Some(version), renamed, &by).await.unwrap();
        let loads = shop.loads();
        shop.app.publish(&by).await.unwrap();
        let changed = shop.app.storefront.published().changed(&before);
        assert_eq!(changed.iter().map(|id| id.value()).collect::<Vec<_>>(), [2]);
        assert_eq!(shop.loads(), loads + 1);
        let page = text(shop.product(2).await.unwrap().page.in_language(Language::En));
        assert!(page.contains("last call") && page.contains("sale 1"), "{page}");
        shop.close().await;
    });
}

#[test]
fn absence_is_cached_until_the_product_is_created() {
    let background = Background::start().unwrap();
    background.block_on(async {
        let shop = Shop::open(&background, 2).await;
        let loads = shop.loads();
        for _ in 0..3 {
            assert!(shop.product(9).await.is_none());
        }
        assert_eq!(shop.loads(), loads + 1);
        let by = by("test", "made");
        let product = Product {
            id: 9.try_into().unwrap(),
            name: "pot".parse().unwrap(),
            description: None,
            image: None,
        };
        shop.app.storefront.put_product(&shop.app.operations, None, product, &by).await.unwrap();
        assert!(text(&shop.product(9).await.unwrap().document).contains("\"skus\":[]"));

        // An SKU that moves is shown by its new product and no longer by the old one.
        let id: SkuId = 1_001.try_into().unwrap();
        let Versioned { version, value } = shop.app.catalogue.sku(id).await.unwrap().unwrap();
        assert!(text(&shop.product(1).await.unwrap().document).contains("1001"));
        shop.app
            .storefront
            .put_sku(
                &shop.app.operations,
                Some(version),
                Sku { product_id: 9.try_into().unwrap(), ..value },
                &by,
            )
            .await
            .unwrap();
        assert!(!text(&shop.product(1).await.unwrap().document).contains("1001"));
        assert!(text(&shop.product(9).await.unwrap().document).contains("1001"));
        assert!(text(&shop.app.storefront.sku(id).await.unwrap().unwrap()).contains("\"product_id\":\"9\""));
        shop.close().await;
    });
}

#[test]
fn it_is_not_ready_before_the_products_on_sale_are_rendered() {
    let background = Background::start().unwrap();
    background.block_on(async {
        let shop = Shop::open(&background, 3).await;
        let app = &shop.app;
        let waits = || app.obstacles().iter().any(|obstacle| obstacle.starts_with("pages: "));
        app.storefront.products().warm.send_replace(false);
        app.storefront.products().forget_all();
        // The load of the first product blocks until `go`.
        let (go, gone) = oneshot::channel::<()>();
        let (begun, began) = oneshot::channel::<()>();
        let loading = tokio::spawn({
            let app = Arc::clone(app);
            async move {
                let load = async {
                    begun.send(()).unwrap();
                    gone.await.unwrap();
                    app.storefront.write_product(1.try_into().unwrap()).await
                };
                app.storefront.products().products.get(&1.try_into().unwrap(), load).await.unwrap();
            }
        });
        began.await.unwrap();
        let warming = tokio::spawn({
            let app = Arc::clone(app);
            async move { app.storefront.warm_up().await }
        });
        while app.storefront.products().products.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(waits(), "{:?}", app.obstacles());
        go.send(()).unwrap();
        loading.await.unwrap();
        warming.await.unwrap();
        assert!(!waits(), "{:?}", app.obstacles());
        assert_eq!(app.storefront.products().products.len(), 3);
        shop.close().await;
    });
}

#[test]
fn exported_and_served_documents_are_the_same() {
    let background = Background::start().unwrap();
    background.block_on(async {
        let shop = Shop::open(&background, 2).await;
        let (app, published) = (&shop.app, Arc::clone(&shop.app.storefront.published()));
        let all = {
            let at = (&*published, app.clock.now());
            AllProductDocuments::write(&*app.catalogue, at, app.storefront.site()).await.unwrap()
        };
        assert_eq!((all.products.len(), all.skus.len()), (4, 4));
        for (id, product) in &all.products {
            let served = app.storefront.product(*id).await.unwrap().unwrap();
            assert_eq!(text(&product.document), text(&served.document));
            for language in Language::ALL {
                assert_eq!(text(product.page.in_language(language)), text(served.page.in_language(language)));
            }
        }
        for (id, document) in &all.skus {
            assert_eq!(text(document), text(&app.storefront.sku(*id).await.unwrap().unwrap()));
        }
        shop.close().await;
    });
}
