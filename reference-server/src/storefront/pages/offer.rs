//! Texts of an offer on a page.

use flashsale_core::domain::{LimitRule, Money, Per, ProductId, Subject};

use super::Language;
use crate::views::ShownOffer;

/// The number of colours for tiles that replace missing pictures.
const HUES: u64 = 6;
/// The most quantities in the selection list.
const MOST: u32 = 10;

impl ShownOffer<'_> {
    /// Returns the largest quantity in the selection list: what the limits allow, at most 10.
    pub(super) fn most(&self) -> u32 {
        self.limits.iter().map(|rule| rule.max()).min().unwrap_or(MOST).min(MOST)
    }

    pub(super) fn product_path(&self) -> String {
        format!("/products/{}/", self.product_id)
    }

    pub(super) fn price_text(&self) -> String {
        plain(self.price)
    }

    pub(super) fn list_price_text(&self) -> Option<String> {
        (self.list_price.amount() > self.price.amount()).then(|| plain(self.list_price))
    }

    /// Returns the discount from the list price, rounded down to whole percents: `−15%` in English,
    /// what is left to pay in Chinese (`8.5 折`). `None` below one percent.
    pub(super) fn discount_text(&self, language: Language) -> Option<String> {
        discount_text(self.list_price.amount(), self.price.amount(), language)
    }

    pub(super) fn limit_texts(&self, language: Language) -> Vec<String> {
        self.limits.iter().map(|rule| limit_text(rule, language)).collect()
    }

    pub(super) fn hold_text(&self, language: Language) -> Option<String> {
        let seconds = self.hold_seconds?;
        let span = match (language, seconds % 60) {
            (Language::Zh, 0) => format!("{} 分钟", seconds / 60),
            (Language::Zh, _) => format!("{seconds} 秒"),
            (Language::En, 0) => format!("{} min", seconds / 60),
            (Language::En, _) => format!("{seconds} s"),
        };
        Some(match language {
            Language::Zh => format!("下单后 {span}内支付"),
            Language::En => format!("Pay within {span}"),
        })
    }

    pub(super) fn hue(&self) -> u64 {
        hue(self.product_id)
    }

    pub(super) fn initial(&self) -> String {
        initial(self.product_name)
    }
}

fn discount_text(before: u64, now: u64, language: Language) -> Option<String> {
    let off = before.saturating_sub(now) * 100 / before.max(1);
    let left = 100 - off;
    match (language, off) {
        (_, 0) => None,
        (Language::En, _) => Some(format!("−{off}%")),
        (Language::Zh, 100) => Some("免费".to_owned()),
        (Language::Zh, _) if left.is_multiple_of(10) => Some(format!("{} 折", left / 10)),
        (Language::Zh, _) => Some(format!("{}.{} 折", left / 10, left % 10)),
    }
}

fn limit_text(rule: &LimitRule, language: Language) -> String {
    let max = rule.max();
    let subject = match rule.subject {
        Subject::User => language.say("每人", "per person"),
        Subject::Device => language.say("每台设备", "per device"),
        Subject::Address => language.say("每个 IP 地址", "per IP address"),
    };
    match (rule.per, language) {
        (Per::Offer, Language::Zh) => format!("{subject}限购 {max} 件"),
        (Per::Offer, Language::En) => format!("Limit {max} {subject}"),
        (Per::Activity, Language::Zh) => format!("全场{subject}限购 {max} 件"),
        (Per::Activity, Language::En) => format!("Limit {max} {subject} across the sale"),
    }
}

/// Returns the colour of the tile of a product without a picture.
pub(super) fn hue(product: ProductId) -> u64 {
    product.value() % HUES
}

/// Returns the text on that tile: the first letter or digit of the name.
pub(super) fn initial(name: &str) -> String {
    let letter = name.chars().find(|character| character.is_alphanumeric());
    letter.map_or_else(|| "·".to_owned(), |letter| letter.to_uppercase().collect())
}

/// Formats a price: `¥1299.00`, or `1299.00 XYZ` for currencies without a well-known sign.
pub(super) fn plain(money: Money) -> String {
    let text = money.to_string();
    let amount = text.split(' ').next().unwrap_or_default();
    match money.currency().code() {
        "CNY" => format!("¥{amount}"),
        "EUR" => format!("€{amount}"),
        "USD" => format!("${amount}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_own_discount() {
        let table = [
            (10_000, 8_000, Some("−20%"), Some("8 折")),
            (10_000, 8_500, Some("−15%"), Some("8.5 折")),
            // Never more than the buyer saves: 12.9 % are 12 %.
            (10_000, 8_710, Some("−12%"), Some("8.8 折")),
            (10_000, 500, Some("−95%"), Some("0.5 折")),
            (10_000, 0, Some("−100%"), Some("免费")),
            (10_000, 9_950, None, None),
            (Money::MAX_AMOUNT, 1, Some("−99%"), Some("0.1 折")),
            (10_000, 10_000, None, None),
            (0, 0, None, None),
        ];
        for (before, now, en, zh) in table {
            assert_eq!(discount_text(before, now, Language::En).as_deref(), en, "{before} {now}");
            assert_eq!(discount_text(before, now, Language::Zh).as_deref(), zh, "{before} {now}");
        }
    }
}
