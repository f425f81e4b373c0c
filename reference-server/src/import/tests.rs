//! The shipped data set, and common mistakes in files.

use std::{path::Path, sync::Arc};

use flashsale_core::{
    catalogue::{AuditRow, Catalogue as _, ImportReport},
    domain::{Activity, Attribution, LateCapture, ManualClock, Per, Strategy, Subject},
    embedded::EmbeddedCatalogue,
    ledger::{Terms, Timing},
};
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const PRODUCTS: &str = "id,name,description,image\n7,杯子,,/images/7.webp\n";
const SKUS: &str = "id,product_id,name,price_minor,currency\n11,7,红色,9900,CNY\n";
const ACTIVITIES: &str = "id,name,starts_at,ends_at,creator,reviewer,status\n\
                          1,sale,2026-11-11T20:00:00+08:00,2026-11-11T22:00:00+08:00,chen,li,published\n";
const OFFERS_HEADER: &str = "activity_id,sku_id,price_minor,currency,units,strategy,hold_seconds,overbook_percent,late_capture,limits\n";
const OFFER: &str = "1,11,8900,CNY,100,pre_deduct,900,,refund,user/offer<=2;device/activity<=1\n";

fn source(name: &str, content: impl Into<Vec<u8>>) -> Source {
    Source { name: name.to_owned(), content: content.into().into() }
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data")
}

fn empty() -> EmbeddedCatalogue {
    EmbeddedCatalogue::in_memory(Arc::new(ManualClock::new(NOW))).unwrap()
}

fn by() -> Attribution {
    Attribution { actor: "chen".parse().unwrap(), reason: "test".parse().unwrap() }
}

/// A small valid set with the file `name` replaced by `content`.
fn with(name: &str, content: impl Into<Vec<u8>>) -> Vec<Source> {
    let offers = format!("{OFFERS_HEADER}{OFFER}");
    let mut sources: Vec<_> = [
        ("products.csv", PRODUCTS),
        ("skus.csv", SKUS),
        ("activities.csv", ACTIVITIES),
        ("offers.csv", &offers),
    ]
    .into_iter()
    .map(|(name, content)| source(name, content))
    .collect();
    match sources.iter_mut().find(|source| source.name == name) {
        Some(replaced) => *replaced = source(name, content),
        None => sources = vec![source(name, content)],
    }
    sources
}

fn faults(sources: &[Source]) -> Vec<String> {
    match parse(sources, NOW) {
        Ok(_) => vec![],
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

fn offers(lines: &str) -> Vec<Source> {
    with("offers.csv", format!("{OFFERS_HEADER}{lines}"))
}

fn activities(line: &str) -> Vec<Source> {
    with("activities.csv", format!("id,name,starts_at,ends_at,creator,reviewer,status,buckets\n{line}\n"))
}

fn products(content: &str) -> Vec<Source> {
    vec![source("products.csv", content)]
}

fn json(content: &str) -> Vec<Source> {
    vec![source("sale.json", content)]
}

#[tokio::test]
async fn the_shipped_set_is_imported_and_a_repeat_changes_nothing() {
    let catalogue = empty();
    let input = read(&[shipped()], NOW).unwrap_or_else(|errors| panic!("{errors}"));
    let report = input.import(&catalogue, &by()).await.unwrap();
    assert_eq!((report.products.created, report.skus.created, report.activities.created), (40, 120, 3));
    let trail = catalogue.audit(0, 1_000).await.unwrap();
    assert_eq!(trail.len(), 163);

    let an_hour_later = Timestamp::from_millis(NOW.as_millis() + 3_600_000);
    for again in [read(&[shipped()], an_hour_later).unwrap(), parse(&demo(), an_hour_later).unwrap()] {
        let report = again.import(&catalogue, &by()).await.unwrap();
        assert!(!report.changed_anything(), "{report}");
    }
    let after: Vec<AuditRow> = catalogue.audit(0, 1_000).await.unwrap();
    assert_eq!(after, trail);
}

#[test]
fn the_shipped_set_covers_all_features() {
    let set = read(&[shipped()], NOW).unwrap().set;
    let activities: Vec<&Activity> = set.activities.iter().map(|imported| &imported.activity).collect();
    let at = |activity: &Activity| (activity.window.starts_at() <= NOW, activity.window.ends_at() <= NOW);
    assert_eq!(
        activities.iter().map(|activity| at(activity)).collect::<Vec<_>>(),
        [(true, false), (false, false), (true, true)]
    );
    assert!(activities[0].offers.len() >= 12);
    for strategy in [Strategy::OrderTime, Strategy::PayTime, Strategy::PreDeduct] {
        for activity in &activities {
            assert!(activity.offers.iter().any(|offer| offer.strategy() == strategy), "{strategy:?}");
        }
    }
    for activity in &activities {
        let (buckets, offers) = (activity.buckets.value(), activity.offers.clone());
        Terms::new(activity.id, activity.window, buckets, Timing::default(), offers).unwrap();
    }
    let live = &activities[0].offers;
    for late in [LateCapture::Refund, LateCapture::Retake] {
        assert!(live.iter().any(|offer| offer.late_capture() == late));
    }
    for rule in [(Subject::User, Per::Offer), (Subject::User, Per::Activity), (Subject::Device, Per::Offer)] {
        assert!(live.iter().flat_map(|offer| offer.limits()).any(|limit| (limit.subject, limit.per) == rule));
    }
    let text = set.products.iter().fold(String::new(), |mut text, product| {
        text.push_str(&product.name);
        text.push_str(product.description.as_deref().unwrap_or_default());
        text
    });
    for awkward in ["\"", ",", "\n", "'", "\\", "<script>", "\u{3000}", "שלום", "🎮", "e\u{323}\u{302}"]
    {
        assert!(text.contains(awkward), "{awkward:?}");
    }
    assert!(set.products.iter().any(|product| product.name.chars().count() == 120));
}

#[test]
fn the_small_json_file_matches_the_csv_files() {
    let small = read(&[shipped().join("small.json")], NOW).unwrap_or_else(|errors| panic!("{errors}")).set;
    let all = read(&[shipped()], NOW).unwrap().set;
    assert_eq!((small.products.len(), small.skus.len(), small.activities.len()), (2, 6, 1));
    assert!(small.products.iter().all(|product| all.products.contains(product)));
    assert!(small.skus.iter().all(|sku| all.skus.contains(sku)));
    assert_eq!(small.activities[0], all.activities[2]);
}

#[test]
fn the_same_set_as_json_is_equal() {
    let tables = read(&[shipped()], NOW).unwrap().set;
    let relative = [("now-10m", "now+2h"), ("now+1h", "now+3h"), ("now-3d", "now-2d")];
    let activities: Vec<Value> = tables
        .activities
        .iter()
        .zip(relative)
        .map(|(imported, (starts_at, ends_at))| {
            let mut value = serde_json::to_value(&imported.activity).unwrap();
            let fields = value.as_object_mut().unwrap();
            fields.remove("window");
            // Imports do not set whether an activity sells; operators do.
            fields.remove("selling");
            fields.insert("starts_at".to_owned(), json!(starts_at));
            fields.insert("ends_at".to_owned(), json!(ends_at));
            value
        })
        .collect();
    let document = json!({"products": tables.products, "skus": tables.skus, "activities": activities});
    for text in [document.to_string(), format!("\u{feff}{document:#}")] {
        let same = parse(&[source("all.json", text)], NOW).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(same.set, tables);
    }
}

#[test]
fn spreadsheet_exports_are_read() {
    let expected =
        parse(&with("products.csv", "id,name,description\n7,\"a, \"\"b\"\"\",\"x\ny\"\n"), NOW).unwrap().set;
    assert_eq!(expected.products[0].name.as_str(), "a, \"b\"");
    assert_eq!(expected.products[0].description.as_deref(), Some("x\ny"));
    for variant in [
        "\u{feff}id,name,description\r\n7,\"a, \"\"b\"\"\",\"x\r\ny\"\r\n",
        "description,id,name\n\"x\ny\", 7 ,\"a, \"\"b\"\"\"",
        "\n\nid , name,description\n\n7,\"a, \"\"b\"\"\",\"x\ny\"\n\n\n",
        "\"id\",\"name\",\"description\",\"image\"\n\"7\",\"a, \"\"b\"\"\",\"x\ny\",\n",
    ] {
        let read = parse(&with("products.csv", variant), NOW)
            .unwrap_or_else(|errors| panic!("{variant:?}: {errors}"));
        assert_eq!(read.set, expected, "{variant:?}");
    }
}

#[test]
fn spreadsheets_leave_traces_that_do_not_count() {
    let header = "id,name,description,image";
    let read = |content: &str| {
        let input = parse(&products(content), NOW).unwrap_or_else(|errors| panic!("{content:?}: {errors}"));
        input.set.products
    };
    let tee = read(&format!("{header}\n1,Tee,,\n"));
    for traces in [
        format!("{header}\n1,Tee,,\n,,,\n,,,\n"),
        format!("{header}\r\n\t,,\u{a0},\r\n1,Tee,,\r\n,,,,,,,\r\n"),
        format!("{header},,\n1,Tee,,,,\n"),
        format!("{header},,\n1,Tee,,\n"),
        format!("{header}\n1,Tee,,,,,\n"),
        ",,\n id,,name\n1, ,\u{a0} Tee\u{a0} \n".to_owned(),
        "id,name\n1,\"Tee\" \n".to_owned(),
        "id,name\n1, \"Tee\"".to_owned(),
    ] {
        assert_eq!(read(&traces), tee, "{traces:?}");
    }

    let described = |content: &str| read(content)[0].description.as_deref().map(str::to_owned);
    let chart = described(&format!("{header}\n1,Tee,\"Size\tChest\nM\t96 cm\",\n"));
    assert_eq!(chart.as_deref(), Some("Size Chest\nM 96 cm"));
    for end in ["\n", "\r\n", "\r"] {
        let two = described(&format!("{header}{end}1,Tee,\"line one{end}line two\",{end}"));
        assert_eq!(two.as_deref(), Some("line one\nline two"), "{end:?}");
    }
    let cotton = described(&format!("{header}\n1,Tee,\"100\u{a0}% cotton\",\n"));
    assert_eq!(cotton.as_deref(), Some("100\u{a0}% cotton"));

    let picture = format!("https://shop.example/{}.jpg?v=1612345678", "long-picture-name-".repeat(110));
    assert_eq!(read(&format!("{header}\n1,Tee,,{picture}\n"))[0].image.as_deref(), Some(&*picture));
    let too_long = "x".repeat(2_049);
    let fault = faults(&products(&format!("{header}\n1,Tee,,{too_long}\n")));
    assert!(
        fault[0].starts_with("products.csv:2: image: has 2049 characters, at most 2048 are allowed"),
        "{fault:?}"
    );
}

#[test]
fn lines_are_counted_by_any_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let lines =
            ["id,name,description", "1,Tee,\"one", "two\"", ",,", "", "x,Mug,", "2,\"Cap\"red,", "y,Cup,"];
        assert_eq!(
            faults(&products(&lines.join(end))),
            [
                "products.csv:6: id: an id is a decimal number from 1 to 2^63-1: \"x\"",
                "products.csv:7: name: text after the closing quote; a quote inside a quoted field must be doubled",
                "products.csv:8: id: an id is a decimal number from 1 to 2^63-1: \"y\"",
            ],
            "{end:?}"
        );
        let mut bytes = ["id,name", "7,a", "8,"].join(end).into_bytes();
        bytes.push(0xb0);
        assert_eq!(
            faults(&[source("products.csv", bytes)]),
            ["products.csv:3: byte 0xB0 is not valid UTF-8; save the file as UTF-8"],
            "{end:?}"
        );
        let document =
            ["{", "  \"products\": [", "    {\"id\": \"0\", \"name\": \"a\"}", "  ]", "}"].join(end);
        assert!(faults(&json(&document))[0].starts_with("sale.json:3:"), "{end:?}");
    }
}

#[test]
fn a_misplaced_quote_is_a_fault_and_never_another_text() {
    let doubled = "a quote inside a quoted field must be doubled";
    let backslash = format!("a backslash does not escape a quote; {doubled}");
    let after = format!("text after the closing quote; {doubled}");
    let unclosed = format!("unclosed quote; {doubled}");
    let unquoted =
        "a quote in a field without quotes; put the field in quotes and double the quote".to_owned();
    for (line, column, reason) in [
        (r#"1,"Tee \"Rock\" black",,"#, "name", &backslash),
        (r#"1,"27\", wide",,"#, "description", &unquoted),
        (r#"1,"Cap"red,,"#, "name", &after),
        (r#"1,"Cap"" red,,"#, "name", &unclosed),
        (r#"1,Cap "red",,"#, "name", &unquoted),
        (r#"1,Cap,red"","#, "description", &unquoted),
        (r#"1,Cap,,,"more"x"#, "column 5", &after),
        (r#""1"2,Cap,,"#, "id", &after),
    ] {
        let file = format!("id,name,description,image\n{line}\n");
        assert_eq!(faults(&products(&file)), [format!("products.csv:2: {column}: {reason}")], "{line}");
    }
    // The line is the one of the quote.
    let file = "id,name,description\n1,Tee,\"one\ntwo \"x\" three\"\n2,Cap,\n";
    assert_eq!(faults(&products(file)), [format!("products.csv:3: description: {after}")]);
    let file = "id,\"na\"me,description\n1,Tee,\n";
    assert_eq!(faults(&products(file)), [format!("products.csv:1: column 2: {after}")]);
    let kept =
        parse(&products("id,name\n1,\"C:\\tees\\\"\n2,\"27\"\" \\\"\"x\"\n"), NOW).unwrap().set.products;
    assert_eq!((kept[0].name.as_str(), kept[1].name.as_str()), ("C:\\tees\\", "27\" \\\"x"));
}

#[test]
fn an_offer_may_cost_nothing() {
    let set = parse(&offers("1,11,0,CNY,5,pre_deduct,900,,,\n"), NOW).unwrap().set;
    assert_eq!(set.activities[0].activity.offers[0].price().amount(), 0);
}

#[test]
fn a_window_may_have_no_end_and_name_its_zone() {
    let window = |starts: &str, ends: &str| {
        let set = parse(&activities(&format!("1,sale,{starts},{ends},chen,li,published,")), NOW).unwrap().set;
        set.activities[0].activity.window
    };
    let plain = window("2026-11-11T20:00:00+08:00", "9999-12-31T23:59:59.999Z");
    assert_eq!(window("2026-11-11T20:00:00+08:00[Asia/Shanghai]", "9999-12-31"), plain);
    assert_eq!(window("2026-11-11 12:00:00Z", "9999-12-31T00:00:00+08:00"), plain);
}

#[test]
fn a_fault_has_its_location_and_reason() {
    let long = "长".repeat(121);
    let cases: Vec<(Vec<Source>, &[&str])> = vec![
        // Files.
        (
            vec![source("goods.csv", "id\n")],
            &[
                "goods.csv: unknown file name; expected products.csv, skus.csv, activities.csv, offers.csv or *.json",
            ],
        ),
        (products(""), &["products.csv:1: the file has no header"]),
        (
            vec![source("products.csv", b"id,name\n7,a\n8,\xb0\n".to_vec())],
            &["products.csv:3: byte 0xB0 is not valid UTF-8; save the file as UTF-8"],
        ),
        (
            vec![source("products.csv", b"\xff\xfei\0d\0".to_vec())],
            &["products.csv:1: the file is UTF-16; save it as UTF-8"],
        ),
        // Headers.
        (
            products("id,title\n"),
            &[
                "products.csv:1: title: unknown column; known columns are id, name, description, image",
                "products.csv:1: name: required column is missing",
            ],
        ),
        (products("id,name,id\n7,a,8\n"), &["products.csv:1: id: duplicate column"]),
        (
            products("id;name\n7;a\n"),
            &[
                "products.csv:1: columns must be separated by commas",
                "products.csv:1: id: required column is missing",
                "products.csv:1: name: required column is missing",
            ],
        ),
        (
            products("sep=,\nid,name\nx,a\n"),
            &[
                "products.csv:1: sep= is a note to spreadsheet programs and not part of the table; remove this line",
                "products.csv:3: id: an id is a decimal number from 1 to 2^63-1: \"x\"",
            ],
        ),
        (
            products("SEP=;\nid;name\n7;a\n"),
            &[
                "products.csv:1: sep= is a note to spreadsheet programs and not part of the table; remove this line",
                "products.csv:2: columns must be separated by commas",
                "products.csv:2: id: required column is missing",
                "products.csv:2: name: required column is missing",
            ],
        ),
        (
            products("id\tname\n7\ta\n"),
            &[
                "products.csv:1: columns must be separated by commas",
                "products.csv:1: id: required column is missing",
                "products.csv:1: name: required column is missing",
            ],
        ),
        (products(",,\n\n"), &["products.csv:1: the file has no header"]),
        // Records.
        (
            products("id,name\n7,a,b\n8\n"),
            &[
                "products.csv:2: field count is 3, but the header has 2",
                "products.csv:3: field count is 1, but the header has 2",
            ],
        ),
        (
            products("id,,name,,\n7,a,b,,c\n8,,b,,\n9,\n"),
            &[
                "products.csv:2: column 2: has content, but its column has no name in the header",
                "products.csv:4: field count is 2, but the header has 3",
            ],
        ),
        (
            products("id,name\n\u{200b}1,Tee\n"),
            &["products.csv:2: id: an id is a decimal number from 1 to 2^63-1: \"\\u{200b}1\""],
        ),
        (
            products("id,name\n7,\"a\n8,b\n"),
            &["products.csv:2: name: unclosed quote; a quote inside a quoted field must be doubled"],
        ),
        (
            products("id,name\n7,27\" display\n"),
            &[
                "products.csv:2: name: a quote in a field without quotes; put the field in quotes and double the quote",
            ],
        ),
        (
            products("id,name,description\n7,a,\"1\n2\n3\"\n\n\n,b,\n"),
            &["products.csv:7: id: must not be empty"],
        ),
        (
            products("id,name\r\n7,a\r\n\r\n0,b\r\n"),
            &["products.csv:4: id: an id is a decimal number from 1 to 2^63-1: \"0\""],
        ),
        // Products and SKUs.
        (
            products("id,name\n007,a\nx,\n"),
            &[
                "products.csv:2: id: an id is a decimal number from 1 to 2^63-1: \"007\"",
                "products.csv:3: id: an id is a decimal number from 1 to 2^63-1: \"x\"",
                "products.csv:3: name: must not be empty",
            ],
        ),
        (
            products("id,name\n7,a\n8,b\n7,c\n"),
            &["products.csv:4: id: duplicate product/7, first at products.csv:2"],
        ),
        (
            products("id,name\n7,a\u{1}b\n8,\u{200b}\u{202e}\n"),
            &[
                "products.csv:2: name: has the control character U+0001: \"a\\u{1}b\"",
                "products.csv:3: name: has no visible character: \"\\u{200b}\\u{202e}\"",
            ],
        ),
        (
            with("skus.csv", "id,product_id,name,price_minor,currency\n11,7,a,99.00,CNY\n"),
            &["skus.csv:2: price_minor: \"99.00\" is not a whole number in plain digits, or is too large"],
        ),
        (
            with("skus.csv", "id,product_id,name,price_minor,currency\n11,7,a,-1,RMB\n"),
            &[
                "skus.csv:2: price_minor: \"-1\" is not a whole number in plain digits, or is too large",
                "skus.csv:2: currency: \"RMB\" is not an ISO 4217 code such as CNY",
            ],
        ),
        (
            with("skus.csv", "id,product_id,name,price_minor,currency\n11,7,a,1000000000000001,CNY\n"),
            &["skus.csv:2: price_minor: 1000000000000001 is above the maximum amount, 10^15"],
        ),
        (
            with("skus.csv", "id,product_id,name,price_minor,currency\n11,7,a,1,XAU\n"),
            &["skus.csv:2: currency: \"XAU\" is not money: use a currency such as CNY"],
        ),
        // Activities.
        (
            activities("1,sale,2026-11-11T20:00:00,2026-11-11T22:00:00Z,chen,li,published,"),
            &[
                "activities.csv:2: starts_at: \"2026-11-11T20:00:00\" is not a time such as 2026-11-11T20:00:00+08:00 or now+2h",
            ],
        ),
        (
            activities(
                "1,sale,2026-11-11T20:00:00+08:00[America/New_York],2026-11-11T22:00:00+08:00[Asia/Shanghai],chen,li,published,",
            ),
            &[
                "activities.csv:2: starts_at: \"2026-11-11T20:00:00+08:00[America/New_York]\" has a time zone that is unknown or has another offset then; write a time such as 2026-11-11T20:00:00+08:00 or now+2h",
            ],
        ),
        (
            activities("1,sale,9999-12-31,9999-12-31,chen,li,published,"),
            &["activities.csv:2: ends_at: must be later than starts_at"],
        ),
        (
            activities("1,sale,now+2w,now+3h,chen,li,published,"),
            &[
                "activities.csv:2: starts_at: \"now+2w\" is not a time such as now-10m or now+2h; units are s, m, h and d",
            ],
        ),
        (
            activities("1,sale,now+2h,now+1h,chen,li,published,"),
            &["activities.csv:2: ends_at: must be later than starts_at"],
        ),
        (
            activities("1,sale,now,2030-01-01T00:00:00Z,chen,li,published,"),
            &["activities.csv:2: ends_at: starts_at and ends_at must both be relative or both absolute"],
        ),
        (
            activities("1,sale,now,now+1h,chen,li,live,"),
            &["activities.csv:2: status: \"live\" is neither draft nor published"],
        ),
        (
            activities("1,sale,now,now+1h,chen,chen,published,"),
            &["activities.csv:2: reviewer: must not be the creator"],
        ),
        (
            activities("1,sale,now,now+1h,chen,,published,"),
            &["activities.csv:2: reviewer: an approved or published activity needs a reviewer"],
        ),
        (
            activities("1,sale,now,now+1h,chen,li,published,0"),
            &["activities.csv:2: buckets: 0 is not between 1 and 64"],
        ),
        (
            activities("1,sale,now,now+1h,chen,li,published,2"),
            &[
                "activities.csv:2: buckets: the offer of SKU 11 has a limit per device or address, which 2 buckets cannot enforce exactly",
            ],
        ),
        (
            activities("2,sale,now,now+1h,chen,li,draft,"),
            &["offers.csv:2: activity_id: activity 1 is in no file; import it together with its offers"],
        ),
        // Offers.
        (offers(""), &["activities.csv:2: offers: an approved or published activity needs an offer"]),
        (
            offers("1,11,8900,CNY,-5,pre_deduct,900,,,\n"),
            &["offers.csv:2: units: \"-5\" is not a whole number in plain digits, or is too large"],
        ),
        (
            offers("1,11,8900,CNY,0,pre_deduct,900,,,\n"),
            &["offers.csv:2: units: 0 is not between 1 and 1000000000"],
        ),
        (
            offers("1,11,8900,CNY,1,pre_deduct,,,,\n"),
            &["offers.csv:2: hold_seconds: pay_time and pre_deduct need a hold time"],
        ),
        (
            offers("1,11,8900,CNY,1,pre_deduct,604801,,,\n"),
            &["offers.csv:2: hold_seconds: a hold lasts from 1 s to 7 days, in whole seconds"],
        ),
        (
            offers("1,11,8900,CNY,1,seckill,900,,,\n"),
            &[
                "offers.csv:2: strategy: unknown value `seckill`, expected one of `order_time`, `pay_time`, `pre_deduct`",
            ],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,150,,\n"),
            &["offers.csv:2: overbook_percent: only pay_time has an overbook percentage"],
        ),
        (
            offers("1,11,8900,CNY,1,pay_time,900,99,,\n"),
            &["offers.csv:2: overbook_percent: 99 is not between 100 and 1000"],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,,keep,\n"),
            &["offers.csv:2: late_capture: unknown value `keep`, expected `refund` or `retake`"],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,,,user/offer=2\n"),
            &["offers.csv:2: limits: \"user/offer=2\" is not a limit such as user/offer<=2"],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,,,user/offer<=2;card/offer<=1\n"),
            &[
                "offers.csv:2: limits: \"card/offer<=1\": unknown value `card`, expected one of `user`, `device`, `address`",
            ],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,,,user/offer<=0\n"),
            &["offers.csv:2: limits: \"user/offer<=0\": a limit allows at least 1 unit"],
        ),
        (
            offers("1,11,8900,CNY,1,order_time,,,,user/offer<=2;user/offer<=1\n"),
            &["offers.csv:2: limits: two rules share a subject and scope"],
        ),
        (
            offers("1,11,8900,USD,1,order_time,,,,\n"),
            &["offers.csv:2: currency: the price is in USD, but the list price of the SKU is in CNY"],
        ),
        (
            offers("1,11,1000000000000000,CNY,2,order_time,,,,user/offer<=2\n"),
            &[
                "offers.csv:2: price_minor: an order of 2 units at 10000000000000.00 CNY each would cost more than 10^15 minor units: lower the price, the units or a limit",
            ],
        ),
        (
            offers(&format!("{OFFER}{OFFER}")),
            &["offers.csv:3: sku_id: duplicate offer/1/11, first at offers.csv:2"],
        ),
        // JSON.
        (json(""), &["sale.json:1:1: EOF while parsing a value"]),
        (
            json("{\n  \"products\": [\n    {\"id\": \"7\"},\n    {\"id\": 8, \"name\": \"a\"}\n  ]\n}"),
            &[
                "sale.json:3:15: products[0]: missing field `name`",
                "sale.json:4:12: products[1]: invalid type: integer `8`, expected a string",
            ],
        ),
        (
            json("{\"products\": [], \"goods\": []}"),
            &["sale.json:1:24: unknown field `goods`, expected one of `products`, `skus`, `activities`"],
        ),
        (
            json("{\"products\": [{\"id\": \"7\", \"name\": \"杯\", \"colour\": 1}]}"),
            &[
                "sale.json:1:47: products[0]: unknown field `colour`, expected one of `id`, `name`, `description`, `image`",
            ],
        ),
        (
            json(
                "{\"activities\": [{\"id\": \"1\", \"name\": \"a\", \"starts_at\": \"now\", \"ends_at\": \"soon\", \"creator\": \"c\", \"status\": \"x\",\n \"offers\": [{\"sku_id\": \"1\", \"price\": {\"amount\": 1, \"currency\": \"CNY\"}, \"units\": 0, \"strategy\": \"order_time\"}]}]}",
            ),
            &[
                "sale.json:1:17: activities[0].ends_at: \"soon\" is not a time such as 2026-11-11T20:00:00+08:00 or now+2h",
                "sale.json:1:17: activities[0].status: \"x\" is neither draft nor published",
                "sale.json:2:13: activities[0].offers[0]: units: 0 is not between 1 and 1000000000",
            ],
        ),
    ];
    assert!(cases.len() >= 30);
    for (sources, expected) in cases {
        assert_eq!(faults(&sources), expected, "{sources:?}");
    }
    let too_long = faults(&products(&format!("id,name\n7,{long}\n")));
    assert!(
        too_long[0].starts_with("products.csv:2: name: has 121 characters, at most 120 are allowed"),
        "{too_long:?}"
    );
    assert!(too_long[0].chars().count() < 260);
}

#[test]
fn all_faults_are_reported_up_to_a_limit() {
    let faulty = vec![
        source("products.csv", "id,name\nx,a\n7,\n"),
        source("skus.csv", "id,product_id,name,price_minor,currency\n11,7,a,1.5,CNY\n"),
        source("sale.json", "{]"),
    ];
    assert_eq!(faults(&faulty).len(), 4);

    let many = format!("id,name\n{}", "x,\n".repeat(150));
    let errors = parse(&products(&many), NOW).unwrap_err();
    assert_eq!((errors.problems().len(), errors.total()), (100, 300));
    let text = errors.to_string();
    assert!(text.ends_with("… and 200 more\n300 faults; nothing was imported"), "{text}");
}

#[test]
fn unreadable_files_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("skus.csv");
    let errors = read(&[missing.clone(), directory.path().to_owned()], NOW).unwrap_err().to_string();
    assert!(errors.contains(&format!("{}: cannot be read: No such file", missing.display())), "{errors}");
    assert!(errors.contains("contains none of products.csv, skus.csv"), "{errors}");
    assert!(read(&[], NOW).unwrap_err().to_string().starts_with("no file was given"));
}

#[tokio::test]
async fn a_refusal_of_the_catalogue_has_its_location() {
    let catalogue = empty();
    let import = |sources: Vec<Source>| {
        let catalogue = catalogue.clone();
        async move { parse(&sources, NOW).unwrap().import(&catalogue, &by()).await }
    };
    let refused = |result: Result<ImportReport, ImportFailure>| match result.unwrap_err() {
        ImportFailure::Input(errors) => errors.problems().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ImportFailure::Catalogue(error) => panic!("{error}"),
    };
    let unknown = vec![source("skus.csv", SKUS)];
    assert_eq!(refused(import(unknown).await), ["skus.csv:2: product_id: the product 7 does not exist"]);
    assert!(catalogue.skus(None, 1).await.unwrap().is_empty());

    import(with("products.csv", PRODUCTS)).await.unwrap();
    let other_sku = "1,12,8900,CNY,100,pre_deduct,900,,,\n";
    let changed = OFFER.replace("8900", "7900");
    assert_eq!(
        refused(import(offers(&changed)).await),
        ["offers.csv:2: price_minor: cannot change while the activity is published"]
    );
    assert_eq!(
        refused(import(offers(other_sku)).await),
        [
            "activities.csv:2: sku_id: offer/1/11: the offer is missing but cannot change while the activity is published"
        ]
    );
    let as_json = r#"{"activities": [{"id": "1", "name": "sale", "starts_at": "now", "ends_at": "now+1h",
        "creator": "chen", "reviewer": "li", "status": "published", "offers": [
        {"sku_id": "11", "price": {"amount": 8900, "currency": "CNY"}, "units": 99, "strategy": "pre_deduct",
         "hold_seconds": 900}]}]}"#;
    assert_eq!(
        refused(import(json(as_json)).await),
        [
            "sale.json:3:9: activities[0].offers[0].units: cannot change while the activity is published; use an adjustment"
        ]
    );
    // SKUs alone, for a product in the catalogue.
    assert!(!import(vec![source("skus.csv", SKUS)]).await.unwrap().changed_anything());
}
