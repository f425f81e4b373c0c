//! What everybody may read: activities, products, SKUs, pages.

use flashsale_core::domain::ActivityId;
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
    http::request::Parts,
};

use super::{Answer, Public, after, answers, id, limit, shown::Page};
use crate::{
    http::{Problem, Query, json},
    shelf::ShownActivity,
};

impl Public {
    pub(super) fn activities(&self, head: &Parts) -> Answer {
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (limit, after) = (limit(&query)?, after::<ActivityId>(&query)?);
        let shelf = self.app.shelf.load();
        let mut listed = shelf.activities.values().filter(|listed| Some(listed.activity.id) > after);
        let items: Vec<_> =
            listed.by_ref().take(limit).map(|listed| ShownActivity::of(&listed.activity)).collect();
        let last = shelf.activities.values().filter(|listed| Some(listed.activity.id) > after).nth(limit - 1);
        let next = listed.next().and(last).map(|last| last.activity.id.to_string());
        let mut response = json(StatusCode::OK, &Page { items, next });
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=5"));
        Ok(response)
    }

    pub(super) fn activity(&self, head: &Parts, activity: &str) -> Answer {
        let shelf = self.app.shelf.load();
        let listed = shelf.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
        Ok(listed.document().respond(&head.headers))
    }

    pub(super) fn activity_page(&self, head: &Parts, activity: &str) -> Answer {
        let shelf = self.app.shelf.load();
        let listed = shelf.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
        Ok(listed.page().respond(&head.headers))
    }

    pub(super) fn status(&self, activity: &str) -> Answer {
        let shelf = self.app.shelf.load();
        let listed = shelf.activities.get(&id(activity)?).ok_or_else(Problem::not_found)?;
        let sale = self.app.sales.sale(listed.activity.id).ok_or_else(answers::not_ready)?;
        listed.status(&sale, self.app.clock.now()).ok_or_else(answers::not_ready)
    }

    pub(super) fn product(&self, head: &Parts, product: &str) -> Answer {
        let shelf = self.app.shelf.load();
        let document = shelf.product(id(product)?).ok_or_else(Problem::not_found)?;
        Ok(document.respond(&head.headers))
    }

    pub(super) fn sku(&self, head: &Parts, sku: &str) -> Answer {
        let shelf = self.app.shelf.load();
        let document = shelf.sku(id(sku)?).ok_or_else(Problem::not_found)?;
        Ok(document.respond(&head.headers))
    }
}
