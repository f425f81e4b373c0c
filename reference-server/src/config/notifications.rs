//! `[notifications]`: who is told what happens to orders.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who is told what happens to orders; table `[notifications]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationsConfig {
    /// `notifications.webhook`: where each notification is posted, `https://HOST[:PORT]/PATH`. Default none: nobody is told.
    pub webhook: Option<String>,
    /// `notifications.ca_file`: the certificates (PEM) that vouch for the receiver's, needed with `https`.
    pub ca_file: Option<PathBuf>,
    /// `notifications.secret_file`: the file with the secret that signs them, needed with `webhook`.
    pub secret_file: Option<PathBuf>,
}

impl NotificationsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.webhook.is_some() && self.secret_file.is_none() {
            let problem = "notifications.secret_file: name a file, so that the receiver can know who calls";
            problems.push(problem.to_owned());
        }
        if self.webhook.is_none() && (self.secret_file.is_some() || self.ca_file.is_some()) {
            let problem =
                "notifications.webhook: nobody is told without it; take the files out, or say where";
            problems.push(problem.to_owned());
        }
    }
}
