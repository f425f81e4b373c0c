//! Public reads that need no token: activities, products, SKUs and pages.

use flashsale_core::domain::ActivityId;
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, HeaderValue, VARY},
    http::request::Parts,
};

use crate::{
    http::{Problem, Query, Response, json},
    routes::{Answer, Public, after, errors, id, limit},
    storefront::{
        pages::{Editions, Language},
        products::Unread,
    },
};

impl Public {
    pub(super) fn activities(&self, head: &Parts) -> Answer {
        let published = self.app.storefront.published();
        if head.uri.query().is_none() {
            return Ok(published.list.respond(&head.headers));
        }
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let page = published.page(after::<ActivityId>(&query)?, limit(&query)?);
        let mut response = json(StatusCode::OK, &page);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=5"));
        Ok(response)
    }

    pub(super) fn activity(&self, head: &Parts, activity: &str) -> Answer {
        let published = self.app.storefront.published();
        let listed = published.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
        Ok(listed.documents().ok_or_else(errors::not_ready)?.document.respond(&head.headers))
    }

    pub(super) fn status(&self, activity: &str) -> Answer {
        let published = self.app.storefront.published();
        let listed = published.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
        let sale = self.app.sales.sale(listed.activity.id).ok_or_else(errors::not_ready)?;
        listed.status(&sale, self.app.clock.now()).ok_or_else(errors::not_ready)
    }

    /// Renders what a page lacks; most pages lack nothing.
    pub(super) async fn rendered(&self, page: &[&str]) -> Result<(), Problem> {
        // What was rendered may have been replaced meanwhile.
        while let Some(unrendered) = self.app.storefront.unrendered(page) {
            Box::pin(self.app.storefront.render(unrendered)).await.map_err(unread)?;
        }
        Ok(())
    }

    pub(super) async fn product(&self, head: &Parts, product: &str) -> Answer {
        let product = self.app.storefront.product(id(product)?).await.map_err(unread)?;
        Ok(product.ok_or_else(Problem::not_found)?.document.respond(&head.headers))
    }

    pub(super) async fn sku(&self, head: &Parts, sku: &str) -> Answer {
        let document = self.app.storefront.sku(id(sku)?).await.map_err(unread)?;
        Ok(document.ok_or_else(Problem::not_found)?.respond(&head.headers))
    }

    /// Serves a page in the language of its path, or else by `Accept-Language` with a `Vary`.
    pub(super) fn page(&self, headers: &HeaderMap, language: Option<Language>, path: &[&str]) -> Answer {
        let published = self.app.storefront.published();
        let editions: &Editions = match path {
            [] => &published.home,
            ["orders"] => &published.orders,
            ["activities", activity] => {
                let listed = published.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
                &listed.documents().ok_or_else(errors::not_ready)?.page
            }
            ["archive", rest @ ..] => {
                let page = published.archive_page(rest).ok_or_else(Problem::not_found)?;
                page.editions().ok_or_else(errors::not_ready)?
            }
            _ => return Err(Problem::not_found()),
        };
        Ok(edition(editions, headers, language))
    }

    /// Serves the page of a product; the language is chosen as in [`page`](Self::page).
    pub(super) async fn product_page(
        &self,
        headers: &HeaderMap,
        language: Option<Language>,
        product: &str,
    ) -> Answer {
        let product = self.app.storefront.product(id(product)?).await.map_err(unread)?;
        Ok(edition(&product.ok_or_else(Problem::not_found)?.page, headers, language))
    }
}

fn edition(editions: &Editions, headers: &HeaderMap, language: Option<Language>) -> Response {
    match language {
        Some(language) => editions.in_language(language).respond(headers),
        None => varying(editions.in_language(Language::of_request(headers)).respond(headers)),
    }
}

fn unread(_: Unread) -> Problem {
    errors::unavailable("The catalogue did not respond; try again.")
}

fn varying(mut response: Response) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-language"));
    response
}
