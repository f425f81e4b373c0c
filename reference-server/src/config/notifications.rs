//! `[notifications]`: the webhook for order events.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The webhook for order events; table `[notifications]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationsConfig {
    /// `notifications.webhook`: URL that gets each event, `https://HOST[:PORT]/PATH`. Default none.
    pub webhook: Option<String>,
    /// `notifications.ca_file`: CA certificates (PEM) of the receiver; required with `https`.
    pub ca_file: Option<PathBuf>,
    /// `notifications.secret_file`: file with the signing secret; required with `webhook`.
    pub secret_file: Option<PathBuf>,
}

impl NotificationsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.webhook.is_some() && self.secret_file.is_none() {
            let problem =
                "notifications.secret_file: required with notifications.webhook; it signs the events";
            problems.push(problem.to_owned());
        }
        if self.webhook.is_none() && (self.secret_file.is_some() || self.ca_file.is_some()) {
            let problem =
                "notifications.webhook: required with ca_file or secret_file; set it or remove them";
            problems.push(problem.to_owned());
        }
    }
}
