//! Metrics of the identity provider's keys.

use super::{Exposition, Labels};
use crate::app::App;

pub(super) fn read(page: &mut Exposition, app: &App) {
    let failures = app.jwt.as_ref().map_or(0, |jwt| jwt.reload_failures());
    let help =
        "Failed attempts to read or fetch the identity provider's keys; the last good ones stay in use.";
    page.counter("flashsale_jwt_key_reload_failures", help, Labels::new(), failures);
}
