//! Products and SKUs.

use std::sync::Arc;

use flashsale_core::{
    catalogue::Versioned,
    domain::{Money, Name, PictureUrl, Product, ProductId, Sku, SkuId, Text},
};
use hyper::{
    Method, StatusCode,
    header::{HeaderValue, LOCATION},
    http::request::Parts,
};
use serde::{Deserialize, Serialize};

use super::{
    Operations, Seen, by, method_of,
    precondition::{if_match, versioned},
    request::{present, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, Response, json, no_store},
    routes::{Answer, after, errors, limit},
    views::Page,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductRequest {
    #[serde(default, deserialize_with = "present")]
    id: Option<ProductId>,
    name: Name,
    #[serde(default)]
    description: Option<Text>,
    #[serde(default)]
    image: Option<PictureUrl>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkuRequest {
    #[serde(default, deserialize_with = "present")]
    id: Option<SkuId>,
    product_id: ProductId,
    name: Name,
    list_price: Money,
    #[serde(default, deserialize_with = "present")]
    reason: Option<Text>,
}

/// A product or SKU with its version.
#[derive(Serialize)]
struct Shown<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    version: u64,
}

impl<'a, T> From<&'a Versioned<T>> for Shown<'a, T> {
    fn from(versioned: &'a Versioned<T>) -> Self {
        Self { value: &versioned.value, version: versioned.version }
    }
}

impl Operations {
    pub(super) async fn products(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        if method_of(head, "GET, HEAD, POST")? == Method::POST {
            return self.put_product(operator, head, body).await;
        }
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let products = self.app.catalogue.products(after, limit + 1).await;
        let products = products.map_err(|error| errors::catalogue(&error))?;
        Ok(page(&products, limit, |product| product.id.to_string()))
    }

    pub(super) async fn product(&self, id: ProductId) -> Answer {
        let product = self.app.catalogue.product(id).await.map_err(|error| errors::catalogue(&error))?;
        let product = product.ok_or_else(Problem::not_found)?;
        Ok(versioned(StatusCode::OK, product.version, &Shown::from(&product)))
    }

    async fn put_product(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Creator])?;
        let expected = if_match(&head.headers)?;
        let request: ProductRequest = body.json(&head.headers).await?;
        let by = by(operator, reason(request.reason, "product written"))?;
        let id = match request.id {
            Some(id) => id,
            None => self.app.operations.fresh_id().map_err(|error| errors::operation(&error))?,
        };
        let ProductRequest { name, description, image, .. } = request;
        let product = Product { id, name, description, image };
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work =
            async move { app.storefront.put_product(&app.operations, expected, product, &author).await };
        let written = self.run_and_show(work, |_| Seen::Anywhere).await?;
        Ok(answer(&written, &format!("/v1/products/{id}")))
    }

    pub(super) async fn skus(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        if method_of(head, "GET, HEAD, POST")? == Method::POST {
            return self.put_sku(operator, head, body).await;
        }
        let query = Query::parse(head.uri.query(), &["limit", "after", "product_id"])?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let skus = match query.parsed("product_id", "the id of a product")? {
            Some(product) => self.app.catalogue.skus_of(product, after, limit + 1).await,
            None => self.app.catalogue.skus(after, limit + 1).await,
        };
        let skus = skus.map_err(|error| errors::catalogue(&error))?;
        Ok(page(&skus, limit, |sku| sku.id.to_string()))
    }

    pub(super) async fn sku(&self, id: SkuId) -> Answer {
        let sku = self.app.catalogue.sku(id).await.map_err(|error| errors::catalogue(&error))?;
        let sku = sku.ok_or_else(Problem::not_found)?;
        Ok(versioned(StatusCode::OK, sku.version, &Shown::from(&sku)))
    }

    async fn put_sku(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Creator])?;
        let expected = if_match(&head.headers)?;
        let request: SkuRequest = body.json(&head.headers).await?;
        let by = by(operator, reason(request.reason, "SKU written"))?;
        let id = match request.id {
            Some(id) => id,
            None => self.app.operations.fresh_id().map_err(|error| errors::operation(&error))?,
        };
        let SkuRequest { product_id, name, list_price, .. } = request;
        let sku = Sku { id, product_id, name, list_price };
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.storefront.put_sku(&app.operations, expected, sku, &author).await };
        let written = self.run_and_show(work, |_| Seen::Anywhere).await?;
        Ok(answer(&written, &format!("/v1/skus/{id}")))
    }
}

/// Answers with a created (201) or replaced (200) value and its `Location`.
pub(super) fn created(version: u64, location: &str, body: &impl Serialize) -> Response {
    // Version 1 has not changed since its creation, so repeating an identical creation is 201 again.
    let status = if version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = versioned(status, version, body);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn answer<T: Serialize>(written: &Versioned<T>, location: &str) -> Response {
    created(written.version, location, &Shown::from(written))
}

fn page<T: Serialize>(values: &[Versioned<T>], limit: usize, id: impl Fn(&T) -> String) -> Response {
    let shown = &values[..values.len().min(limit)];
    let next = shown.last().filter(|_| values.len() > limit).map(|last| id(&last.value));
    let items = shown.iter().map(Shown::from).collect();
    no_store(json(StatusCode::OK, &Page { items, next }))
}
