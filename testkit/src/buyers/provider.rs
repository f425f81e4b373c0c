//! The payment provider's side: signed callbacks, sent whenever a test wants.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hyper::Method;
use serde_json::json;
use sha2::Sha256;

use super::shop::Amount;
use crate::client::{Answer, Client, NoAnswer};

/// A payment provider that shares a secret with the server.
#[derive(Clone)]
pub struct Provider {
    /// The name in the callback path.
    pub name: String,
    /// The secret that signs callbacks.
    pub secret: String,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Provider {
    /// Reports `kind` (captured or failed) for a payment. The event id is derived from kind and
    /// transaction, so repeating both repeats the event.
    ///
    /// # Errors
    /// If no response came.
    ///
    /// # Panics
    /// If the system clock is before 1970.
    pub async fn callback(
        &self,
        client: &mut Client,
        payment: &str,
        kind: &str,
        amount: &Amount,
        transaction: &str,
    ) -> Result<Answer, NoAnswer> {
        let body = json!({
            "event_id": format!("{kind}-{transaction}"),
            "payment_id": payment,
            "kind": kind,
            "amount": amount.amount,
            "currency": amount.currency,
            "transaction_id": transaction,
        })
        .to_string();
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(format!("{now}.{body}").as_bytes());
        let signature: String =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = format!("t={now},v1={signature}");
        let path = format!("/v1/payments/callbacks/{}", self.name);
        client
            .send(Method::POST, &path, &[("flashsale-signature", &signature)], Some(Bytes::from(body)))
            .await
    }
}
