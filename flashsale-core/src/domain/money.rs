//! Money in minor units with an ISO 4217 currency.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A currency: an ISO 4217 alphabetic code of money, such as `CNY`.
///
/// Its table is the only one: pages and scripts take the decimal places from it. Codes of metals,
/// tests and units of account (`XAU`, `XTS`, `XDR`) are not money.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Lists every currency by code, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Self> {
        let letters = || b'A'..=b'Z';
        let codes =
            letters().flat_map(move |a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        codes.filter_map(|code| std::str::from_utf8(&code).ok()?.parse().ok())
    }

    /// Returns the code: three capital letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Returns the number of decimal places: 2 for CNY, 0 for JPY.
    pub fn exponent(&self) -> u8 {
        iso_currency::Currency::from_code(self.code())
            .and_then(|currency| currency.exponent())
            .and_then(|exponent| u8::try_from(exponent).ok())
            .unwrap_or(0)
    }
}

impl FromStr for Currency {
    type Err = Invalid;

    fn from_str(code: &str) -> Result<Self, Invalid> {
        let refuse = |reason| Err(Invalid::new("currency", format!("{code:?} {reason} such as CNY")));
        let known = iso_currency::Currency::from_code(code);
        match (<[u8; 3]>::try_from(code.as_bytes()), known) {
            (Ok(_), Some(known)) if known.is_special() => refuse("is not money: use a currency"),
            (Ok(bytes), Some(_)) if bytes.iter().all(u8::is_ascii_uppercase) => Ok(Self(bytes)),
            _ => refuse("is not an ISO 4217 code"),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = Invalid;

    fn try_from(code: String) -> Result<Self, Invalid> {
        code.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of money in minor units (fen, cents), from 0 to [`Money::MAX_AMOUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawMoney")]
pub struct Money {
    amount: u64,
    currency: Currency,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMoney {
    amount: u64,
    currency: Currency,
}

impl TryFrom<RawMoney> for Money {
    type Error = Invalid;

    fn try_from(raw: RawMoney) -> Result<Self, Invalid> {
        Self::new(raw.amount, raw.currency)
    }
}

impl Money {
    /// The largest amount: 10¹⁵ minor units, so that JavaScript numbers stay exact.
    pub const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

    /// Creates an amount in minor units.
    ///
    /// # Errors
    /// If the amount exceeds [`Money::MAX_AMOUNT`].
    pub fn new(amount: u64, currency: Currency) -> Result<Self, Invalid> {
        if amount > Self::MAX_AMOUNT {
            return Err(Invalid::new("amount", format!("{amount} is above the maximum amount, 10^15")));
        }
        Ok(Self { amount, currency })
    }

    /// Returns the amount in minor units.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Returns the currency.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Multiplies this price by `quantity`.
    ///
    /// # Errors
    /// If the amount exceeds [`Money::MAX_AMOUNT`].
    pub fn times(&self, quantity: u32) -> Result<Self, Invalid> {
        let amount = self.amount.saturating_mul(u64::from(quantity));
        Self::new(amount, self.currency)
    }
}

impl fmt::Display for Money {
    /// Formats the amount in major units for people: `1299.00 CNY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.currency.exponent());
        let unit = 10_u64.pow(u32::from(self.currency.exponent()));
        match digits {
            0 => write!(f, "{} {}", self.amount, self.currency),
            _ => write!(f, "{}.{:0digits$} {}", self.amount / unit, self.amount % unit, self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_bounded_and_shown_with_its_digits() {
        let cny: Currency = "CNY".parse().unwrap();
        let jpy: Currency = "JPY".parse().unwrap();
        assert_eq!(Money::new(129_905, cny).unwrap().to_string(), "1299.05 CNY");
        assert_eq!(Money::new(1_200, jpy).unwrap().to_string(), "1200 JPY");
        assert!(Money::new(Money::MAX_AMOUNT, cny).unwrap().times(2).is_err());
        assert!(Money::new(Money::MAX_AMOUNT + 1, cny).is_err());
        for bad in ["cny", "XX", "", "YYY", "CNYX"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_currency_has_decimal_places_and_what_is_no_money_is_refused() {
        let all: Vec<Currency> = Currency::all().collect();
        assert!(all.len() > 150 && all.is_sorted());
        for currency in &all {
            let listed = iso_currency::Currency::from_code(currency.code()).unwrap();
            assert_eq!(Some(currency.exponent().into()), listed.exponent(), "{currency}");
        }
        for (code, digits) in [("IDR", 2), ("COP", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("UYW", 4)] {
            assert_eq!(code.parse::<Currency>().unwrap().exponent(), digits, "{code}");
        }
        for bad in ["XTS", "XXX", "XAU", "XAG", "XPT", "XPD", "XDR", "XBA", "XAD"] {
            let refused = bad.parse::<Currency>().unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("currency: \"{bad}\" is not money: use a currency such as CNY")
            );
        }
    }

    #[test]
    fn money_refuses_unknown_fields_and_large_amounts() {
        assert!(serde_json::from_str::<Money>(r#"{"amount":1,"currency":"CNY"}"#).is_ok());
        assert!(serde_json::from_str::<Money>(r#"{"amount":1,"currency":"CNY","x":1}"#).is_err());
        assert!(serde_json::from_str::<Money>(r#"{"amount":-1,"currency":"CNY"}"#).is_err());
        assert!(serde_json::from_str::<Money>(r#"{"amount":1e30,"currency":"CNY"}"#).is_err());
    }
}
