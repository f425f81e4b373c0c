//! Orders between the ledger and the table `orders`.

use flashsale_core::{
    domain::{Order, Timestamp, UserId},
    ledger::{Lane, LedgerError, rows::OrderRow, wire},
};
use sqlx::{MySql, mysql::MySqlArguments, query::Query};
use time::{Date, Duration, Month, PrimitiveDateTime, Time};

/// The columns that the ledger reads.
pub(super) type Columns = (u64, u64, Option<PrimitiveDateTime>, Option<bool>, Vec<u8>);

/// Binds the columns of an order, in the order of `orders_write.sql`. All but the last are for people,
/// reports and indexes.
pub(super) fn bind<'q>(
    query: Query<'q, MySql, MySqlArguments>,
    lane: Lane,
    row: &'q OrderRow,
    order: &Order,
) -> Query<'q, MySql, MySqlArguments> {
    query
        .bind(lane.activity.value())
        .bind(lane.bucket)
        .bind(row.number)
        .bind(order.key.id.value())
        .bind(order.key.user.value())
        .bind(order.sku.value())
        .bind(order.quantity.value())
        .bind(order.amount.amount())
        .bind(order.amount.currency().to_string().into_bytes())
        .bind(order.status.as_str())
        .bind(moment(order.placed_at))
        .bind(row.due.map(moment))
        .bind(row.is_owed.then_some(true))
        .bind(order.idempotency.map(|idempotency| idempotency.key.0.to_be_bytes().to_vec()))
        .bind(order.idempotency.map(|idempotency| idempotency.nonce.0))
        .bind(order.replaces.map(|replaces| replaces.value()))
        .bind(&row.value)
}

/// Decodes the order of a row.
pub(super) fn order_of(row: &OrderRow) -> Result<Order, LedgerError> {
    Ok(wire::decode(&row.value)?)
}

/// Reads an order.
pub(super) fn read((user, number, due, is_owed, value): Columns) -> Result<(UserId, OrderRow), LedgerError> {
    let user = UserId::new(user).ok_or_else(|| LedgerError::Stopped("an order has no user".into()))?;
    let row = OrderRow { number, due: due.map(timestamp), is_owed: is_owed == Some(true), value };
    Ok((user, row))
}

const EPOCH: PrimitiveDateTime = PrimitiveDateTime::new(
    match Date::from_calendar_date(1970, Month::January, 1) {
        Ok(date) => date,
        Err(_) => Date::MIN,
    },
    Time::MIDNIGHT,
);

/// The last moment of DATETIME(3). One more microsecond would be rounded to a year that it does not have.
const END: PrimitiveDateTime = PrimitiveDateTime::new(
    Date::MAX,
    match Time::from_hms_milli(23, 59, 59, 999) {
        Ok(time) => time,
        Err(_) => Time::MIDNIGHT,
    },
);

/// A time as DATETIME(3) in UTC. What is later than the year 9999 is its end.
fn moment(at: Timestamp) -> PrimitiveDateTime {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    EPOCH.checked_add(Duration::milliseconds(millis)).unwrap_or(END)
}

fn timestamp(at: PrimitiveDateTime) -> Timestamp {
    let millis = (at - EPOCH).whole_milliseconds();
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_millisecond() {
        for millis in [0, 1, 1_700_000_000_123, 4_102_444_800_999] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(timestamp(moment(at)), at);
        }
        assert_eq!(moment(Timestamp::MAX).to_string(), "9999-12-31 23:59:59.999");
    }
}
