//! A simulated buyer.

use std::time::Duration;

use flashsale_core::domain::{OrderRef, OrderStatus, UserId};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{BuyerScript, ClientLog, Ending, Offer, OrderView, Purchase, Sending, Shop};
use crate::client::{Answer, Client, NoAnswer};

/// How long a buyer keeps asking, or waits for an order to change: 20 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server went away. The outcome of the buyer's last request is unknown.
#[derive(Debug)]
pub struct Interrupted(pub NoAnswer);

impl From<NoAnswer> for Interrupted {
    fn from(reason: NoAnswer) -> Self {
        Self(reason)
    }
}

/// A buyer with a session.
pub struct Buyer<'a> {
    shop: &'a Shop,
    log: &'a ClientLog,
    user: UserId,
    session: String,
}

impl<'a> Buyer<'a> {
    /// Signs in with the demo identity.
    ///
    /// # Errors
    /// If the server does not answer, or returns no token.
    pub async fn sign_in(
        shop: &'a Shop,
        log: &'a ClientLog,
        client: &mut Client,
        user: UserId,
    ) -> Result<Self, Interrupted> {
        let identity = json!({ "user_id": user.to_string(), "user_name": format!("Buyer {user} 买家") });
        let answer = ask(client, Method::POST, "/v1/sessions", &[], Some(&identity)).await?;
        let token = answer.text("token");
        if token.is_empty() {
            log.violation(format!("no session for user {user}: {answer}"));
            return Err(Interrupted(NoAnswer::NotSent("no session".to_owned())));
        }
        Ok(Self { shop, log, user, session: format!("Bearer {token}") })
    }

    /// Runs a script for an offer: gets a ticket, places the order and handles it.
    ///
    /// # Errors
    /// If the server goes away.
    pub async fn play(
        &self,
        client: &mut Client,
        offer: &Offer,
        part: BuyerScript,
    ) -> Result<(), Interrupted> {
        let Some(ticket) = self.ticket(client, offer).await? else { return Ok(()) };
        let key =
            (part.sending != Sending::WithoutKey).then(|| format!("{}-{:x}", self.user, fastrand::u64(..)));
        let purchase =
            Purchase { key, ending: part.ending, ..Purchase::new(*offer, self.user, ticket, part.quantity) };
        let number = self.log.intent(purchase.clone());
        let order = match part.sending {
            Sending::Once | Sending::WithoutKey => self.order(client, number, &purchase).await?,
            Sending::Repeated => {
                let order = self.order(client, number, &purchase).await?;
                if order.is_some() {
                    self.expect_replay(client, number, &purchase).await?;
                }
                order
            }
            Sending::Twice => {
                let mut other = Client::new(self.shop.public);
                let (one, two) = tokio::join!(
                    self.order(client, number, &purchase),
                    self.order(&mut other, number, &purchase)
                );
                one?.or(two?)
            }
            Sending::HangUp => {
                self.hang_up(client, number, &purchase).await;
                return Ok(());
            }
            Sending::HangUpAndRepeat => {
                self.hang_up(client, number, &purchase).await;
                self.order(client, number, &purchase).await?
            }
            Sending::TicketAgain => {
                let order = self.order(client, number, &purchase).await?;
                if order.is_some() {
                    let again = Purchase { key: Some(format!("{}-again", self.user)), ..purchase.clone() };
                    self.expect_declined(client, &again, "ticket_used").await?;
                }
                order
            }
            Sending::KeyAgain => {
                let order = self.order(client, number, &purchase).await?;
                if order.is_some()
                    && let Some(ticket) = self.ticket(client, offer).await?
                {
                    let again = Purchase { ticket, quantity: purchase.quantity + 1, ..purchase.clone() };
                    self.expect_declined(client, &again, "key_reused").await?;
                }
                order
            }
            Sending::SecondOrder => {
                let order = self.order(client, number, &purchase).await?;
                if let Some(ticket) = self.ticket(client, offer).await? {
                    let key = Some(format!("{}-second", self.user));
                    let second = Purchase { ticket, key, ending: Ending::Leave, ..purchase.clone() };
                    let number = self.log.intent(second.clone());
                    self.order(client, number, &second).await?;
                }
                order
            }
        };
        match order {
            Some(order) => self.end(client, number, &order, part.ending).await,
            None => Ok(()),
        }
    }

    /// Requests a ticket; `None` if it is declined.
    ///
    /// # Errors
    /// If the server goes away.
    pub async fn ticket(&self, client: &mut Client, offer: &Offer) -> Result<Option<String>, Interrupted> {
        let path = format!("{}/ticket", offer.path());
        let answer = ask(client, Method::POST, &path, &self.credentials(), Some(&json!({}))).await?;
        match answer.status {
            StatusCode::OK => return Ok(Some(answer.text("ticket").to_owned())),
            StatusCode::CONFLICT => self.log.count(&format!("ticket declined {}", answer.code())),
            _ => self.log.violation(format!("answer to the ticket request of user {}: {answer}", self.user)),
        }
        Ok(None)
    }

    /// Sends the order of a purchase; `None` if it is declined.
    async fn order(
        &self,
        client: &mut Client,
        number: usize,
        purchase: &Purchase,
    ) -> Result<Option<OrderRef>, Interrupted> {
        let answer = match self.send_order(client, purchase).await {
            Ok(answer) => answer,
            Err(reason) => {
                self.log.unanswered(number);
                return Err(reason.into());
            }
        };
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => {
                return Ok(self.view(&answer).map(|view| {
                    self.log.told(number, &view);
                    view.order_id
                }));
            }
            StatusCode::CONFLICT => self.log.count(&format!("declined {}", answer.code())),
            status => {
                if status.is_server_error() {
                    self.log.unanswered(number);
                }
                self.log.violation(format!("answer to an order of user {}: {answer}", self.user));
            }
        }
        Ok(None)
    }

    async fn send_order(&self, client: &mut Client, purchase: &Purchase) -> Result<Answer, NoAnswer> {
        let (path, body) =
            (format!("/v1/orders/{}", purchase.ticket), json!({ "quantity": purchase.quantity }));
        let key = purchase.key.as_ref().map(|key| ("idempotency-key", key.as_str()));
        ask(client, Method::POST, &path, key.as_slice(), Some(&body)).await
    }

    async fn hang_up(&self, client: &Client, number: usize, purchase: &Purchase) {
        self.log.hung_up(number);
        self.log.count("hung up");
        let (path, body) =
            (format!("/v1/orders/{}", purchase.ticket), json!({ "quantity": purchase.quantity }));
        let key = purchase.key.as_ref().map(|key| ("idempotency-key", key.as_str()));
        // Whether the bytes arrived is unknown.
        let _ = client.send_and_hang_up(Method::POST, &path, key.as_slice(), &body).await;
    }

    async fn expect_replay(
        &self,
        client: &mut Client,
        number: usize,
        purchase: &Purchase,
    ) -> Result<(), Interrupted> {
        let answer = self.send_order(client, purchase).await?;
        if answer.status == StatusCode::OK {
            self.log.count("replayed");
            if let Some(view) = self.view(&answer) {
                self.log.told(number, &view);
            }
        } else {
            self.log.violation(format!("answer to a repeated order of user {}: {answer}", self.user));
        }
        Ok(())
    }

    async fn expect_declined(
        &self,
        client: &mut Client,
        purchase: &Purchase,
        code: &str,
    ) -> Result<(), Interrupted> {
        let answer = self.send_order(client, purchase).await?;
        if answer.code() == code {
            self.log.count(&format!("declined {code}"));
        } else {
            self.log.violation(format!("user {} expected {code} but got {answer}", self.user));
        }
        Ok(())
    }

    async fn end(
        &self,
        client: &mut Client,
        number: usize,
        order: &OrderRef,
        ending: Ending,
    ) -> Result<(), Interrupted> {
        match ending {
            Ending::Leave => {}
            Ending::Cancel => {
                for _ in 0..2 {
                    let answer = self.post(client, &format!("/v1/orders/{order}/cancel")).await?;
                    if let Some(view) = self.expect(&answer, StatusCode::OK, "cancel") {
                        self.log.told(number, &view);
                        self.log.count("cancelled");
                    }
                }
            }
            Ending::Pay => self.pay(client, number, order).await?,
            Ending::FailAndPay => {
                if self.fail_payment(client, number, order).await? {
                    self.pay(client, number, order).await?;
                }
            }
            Ending::FailAndLeave => {
                self.fail_payment(client, number, order).await?;
            }
            Ending::OpenAndLeave | Ending::PayLate => {
                self.open_payment(client, number, order).await?;
            }
        }
        Ok(())
    }

    /// Opens a payment twice, expecting the same one; `None` if it is declined.
    async fn open_payment(
        &self,
        client: &mut Client,
        number: usize,
        order: &OrderRef,
    ) -> Result<Option<String>, Interrupted> {
        let path = format!("/v1/orders/{order}/payment");
        let answer = self.post(client, &path).await?;
        if answer.status != StatusCode::CREATED {
            // The units of a pay-time offer may be gone, or the order may have expired meanwhile.
            if matches!(answer.code(), "sold_out" | "wrong_state") {
                self.log.count(&format!("payment declined {}", answer.code()));
            } else {
                self.log.violation(format!("answer to the payment of order {order}: {answer}"));
            }
            return Ok(None);
        }
        let payment = answer.text("payment_id").to_owned();
        self.log.placed(number, |placed| placed.payment = Some(payment.clone()));
        let again = self.post(client, &path).await?;
        if again.status.is_success() && again.text("payment_id") != payment {
            self.log.violation(format!("order {order} has two open payments: {answer} and {again}"));
        }
        Ok(Some(payment))
    }

    async fn fail_payment(
        &self,
        client: &mut Client,
        number: usize,
        order: &OrderRef,
    ) -> Result<bool, Interrupted> {
        let Some(payment) = self.open_payment(client, number, order).await? else { return Ok(false) };
        let answer = self.post(client, &format!("/sandbox/payments/{payment}/fail")).await?;
        if !answer.status.is_success() {
            self.log.violation(format!("the sandbox did not fail payment {payment}: {answer}"));
            return Ok(false);
        }
        let view = self.watch(client, order, |view| view.status != OrderStatus::Paying).await?;
        if let Some(view) = &view {
            self.log.told(number, view);
            self.log.count("payment failed");
        }
        Ok(view.is_some_and(|view| view.status == OrderStatus::Pending))
    }

    async fn pay(&self, client: &mut Client, number: usize, order: &OrderRef) -> Result<(), Interrupted> {
        let Some(payment) = self.open_payment(client, number, order).await? else { return Ok(()) };
        if !self.capture(client, number, &payment).await? {
            return Ok(());
        }
        let view = self.watch(client, order, |view| !view.status.is_open()).await?;
        if let Some(view) = view {
            self.log.told(number, &view);
            match (view.status, &view.refund) {
                (OrderStatus::Paid, _) => self.log.count("paid"),
                (_, Some(_)) => self.log.count("paid too late, refund"),
                _ => self.log.violation(format!("order {order} was captured but is {view:?}")),
            }
        }
        Ok(())
    }

    /// Has the sandbox capture a payment. Once answered, the server must account for it.
    async fn capture(&self, client: &mut Client, number: usize, payment: &str) -> Result<bool, Interrupted> {
        let answer = self.post(client, &format!("/sandbox/payments/{payment}/capture")).await?;
        if !answer.status.is_success() {
            self.log.violation(format!("the sandbox did not capture payment {payment}: {answer}"));
            return Ok(false);
        }
        self.log.placed(number, |placed| {
            let transaction = format!("sandbox-{payment}");
            if !placed.captured.contains(&transaction) {
                placed.captured.push(transaction);
            }
        });
        Ok(true)
    }

    /// Repeats the requests of a purchase; see [`come_again`](super::come_again).
    pub(super) async fn come_again(
        &self,
        client: &mut Client,
        number: usize,
        purchase: &Purchase,
    ) -> Result<(), Interrupted> {
        let Some(placed) = &purchase.placed else {
            if purchase.unanswered {
                let what = match self.order(client, number, purchase).await? {
                    Some(_) => "told when asking again",
                    None => {
                        self.log.declined(number);
                        "declined when asking again"
                    }
                };
                self.log.count(what);
            }
            return Ok(());
        };
        self.expect_replay(client, number, purchase).await?;
        if let (Ending::Pay | Ending::FailAndPay, Some(payment)) = (purchase.ending, &placed.payment) {
            self.capture(client, number, payment).await?;
            self.log.count("captured again");
        }
        Ok(())
    }

    /// Reads an order until it is as `wanted`; `None` and a violation if that takes more than 20 s.
    ///
    /// # Errors
    /// If the server goes away.
    pub async fn watch(
        &self,
        client: &mut Client,
        order: &OrderRef,
        wanted: impl Fn(&OrderView) -> bool,
    ) -> Result<Option<OrderView>, Interrupted> {
        let path = format!("/v1/orders/{order}");
        let end = Instant::now() + PATIENCE;
        // The first read does not wait: an order that is already as wanted may not change again.
        let mut headers = vec![("authorization", self.session.as_str())];
        loop {
            let answer = ask(client, Method::GET, &path, &headers, None).await?;
            let Some(view) = self.expect(&answer, StatusCode::OK, "read") else { return Ok(None) };
            if wanted(&view) {
                return Ok(Some(view));
            }
            if Instant::now() > end {
                self.log.violation(format!("order {order} stays {view:?}"));
                return Ok(None);
            }
            headers.truncate(1);
            headers.push(("prefer", "wait=1"));
        }
    }

    /// Reads all orders of this buyer, page by page.
    ///
    /// # Errors
    /// If the server goes away.
    pub async fn orders(&self, client: &mut Client) -> Result<Vec<OrderView>, Interrupted> {
        let mut orders = Vec::new();
        let mut path = "/v1/orders?limit=100".to_owned();
        loop {
            let answer = ask(client, Method::GET, &path, &self.credentials(), None).await?;
            let Some(items) = answer.body["items"].as_array() else {
                self.log.violation(format!("answer to the order list of user {}: {answer}", self.user));
                return Ok(orders);
            };
            for item in items {
                match serde_json::from_value::<OrderView>(item.clone()) {
                    Ok(view) => orders.push(OrderView { user: Some(self.user), ..view }),
                    Err(error) => self.log.violation(format!("invalid order ({error}): {item}")),
                }
            }
            match answer.body["next"].as_str() {
                Some(next) => path = format!("/v1/orders?limit=100&after={next}"),
                None => return Ok(orders),
            }
        }
    }

    async fn post(&self, client: &mut Client, path: &str) -> Result<Answer, NoAnswer> {
        ask(client, Method::POST, path, &self.credentials(), None).await
    }

    fn credentials(&self) -> [(&str, &str); 1] {
        [("authorization", &self.session)]
    }

    /// Returns the order in an answer of this status. Others are violations, except after expiry.
    fn expect(&self, answer: &Answer, status: StatusCode, what: &str) -> Option<OrderView> {
        if answer.status == status {
            return self.view(answer);
        }
        if answer.code() == "wrong_state" && answer.text("order_status") == "expired" {
            self.log.count(&format!("{what} after expiry"));
        } else {
            self.log.violation(format!("answer to {what} by user {}: {answer}", self.user));
        }
        None
    }

    fn view(&self, answer: &Answer) -> Option<OrderView> {
        match serde_json::from_value::<OrderView>(answer.body.clone()) {
            Ok(view) => Some(OrderView { user: Some(self.user), ..view }),
            Err(error) => {
                self.log.violation(format!("invalid order ({error}): {answer}"));
                None
            }
        }
    }
}

/// Sends a request, and repeats it while the server asks for that, for up to [`PATIENCE`].
async fn ask(
    client: &mut Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer, NoAnswer> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.request(method.clone(), path, headers, body).await?;
        let again = answer.status == StatusCode::TOO_MANY_REQUESTS
            || (answer.status == StatusCode::SERVICE_UNAVAILABLE && !answer.header("retry-after").is_empty());
        if !again || Instant::now() > end {
            return Ok(answer);
        }
        // Shorter than the Retry-After of at least 1 s, to keep up the load.
        sleep(Duration::from_millis(20)).await;
    }
}
