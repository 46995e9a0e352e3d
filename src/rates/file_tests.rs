use super::*;

const EUR: &str = "EUR";

fn shown(days: &Days) -> Vec<String> {
    let rates = |day: &DayRates| {
        let pairs = day.rates().iter().map(|(currency, rate)| format!("{currency} {rate}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    days.iter().map(|(day, it)| format!("{day} {}: {}", it.base(), rates(it))).collect()
}

fn toml(text: &str) -> Result<Vec<String>, String> {
    read_toml(text, "rates.toml").map(|days| shown(&days)).map_err(|report| report.to_string())
}

fn table(text: &str) -> Result<Vec<String>, String> {
    let base = Currency::parse(EUR).expect("a currency");
    read_table(text, "rates.csv", base).map(|days| shown(&days)).map_err(|it| it.to_string())
}

#[test]
fn a_toml_file_names_days_and_their_rates() {
    let text = r#"
        base = "USD"
        [[days]]
        date = 2026-11-25
        rates = { EUR = "0.92", JPY = "149.53", USD = "1" }
        [[days]]
        date = "2026-11-24"
        rates = { EUR = "0.91" }
    "#;
    let expected = ["2026-11-24 USD: EUR 0.91", "2026-11-25 USD: EUR 0.92 JPY 149.53"];
    assert_eq!(toml(text).expect("sound"), expected);
}

#[test]
fn every_mistake_of_a_toml_file_is_named_and_nothing_of_it_counts() {
    let text = r#"base = "EURO"
[[days]]
date = 2026-11-25
rates = { EUR = "0,92", DOLLAR = "1", JPY = 149 }
[[days]]
date = "yesterday"
[[days]]
date = 2026-11-25T10:00:00Z
rates = {}
[[day]]
"#;
    insta::assert_snapshot!(toml(text).expect_err("mistakes"), @r#"
    rates.toml:1: base: not an ISO 4217 currency code such as "USD"
    rates.toml:4: days[0].rates.JPY: must be a string: write it in quotes, not of type integer
    rates.toml:4: days[0].rates.EUR: "0,92" is not a decimal amount such as "15.00"
    rates.toml:4: days[0].rates.DOLLAR: "DOLLAR" is not an ISO 4217 currency code such as "USD"
    rates.toml:5: days[1] "yesterday".rates: is missing
    rates.toml:6: days[1] "yesterday".date: "yesterday" is not a date such as "2027-01-31"
    rates.toml:8: days[2].date: "2026-11-25T10:00:00Z" is not a date such as "2027-01-31"
    rates.toml:10: day: unknown key; did you mean "days"?
    "#);
    let twice = "base = \"EUR\"\n[[days]]\ndate = 2026-11-25\nrates = { USD = \"2\" }\n\
                 [[days]]\ndate = 2026-11-25\nrates = { EUR = \"2\" }\n\
                 [[days]]\ndate = 2026-11-25\nrates = {}\n";
    insta::assert_snapshot!(toml(twice).expect_err("mistakes"), @r"
    rates.toml:7: days[1].rates: EUR is the base, and worth 1 EUR
    rates.toml:9: days[2].date: 2026-11-25 is named by an earlier entry
    ");
    assert!(toml("base = \"EUR\"\n").expect_err("no days").contains("days: has none"));
    assert!(toml("").expect_err("cut off").contains("base: is missing"));
}

#[test]
fn a_banks_table_is_read_as_it_is_published() {
    let text = "Date,USD,JPY,CYP,\n2026-11-24,1.0854,163.2,N/A,\n2026-11-23,1.08,N/A,N/A,\n";
    let expected = ["2026-11-23 EUR: USD 1.08", "2026-11-24 EUR: JPY 163.2 USD 1.0854"];
    assert_eq!(table(text).expect("sound"), expected);
    let edited = "\u{feff}\"date\",\"usd\"\r\n\"2026-11-24\",\"1.0854\"\r\n";
    assert_eq!(table(edited).expect("sound"), ["2026-11-24 EUR: USD 1.0854"]);
}

#[test]
fn a_daily_table_writes_its_day_out() {
    let text = "Date, USD, JPY, ISK, \n27 November 2026, 1.0854, 163.2, N/A, \n";
    assert_eq!(table(text).expect("sound"), ["2026-11-27 EUR: JPY 163.2 USD 1.0854"]);
    let days = "Date,USD\n1 January 2026,1.1\n03 january 2026,1.2\n2026-01-02,1.3\n";
    let expected =
        ["2026-01-01 EUR: USD 1.1", "2026-01-02 EUR: USD 1.3", "2026-01-03 EUR: USD 1.2"];
    assert_eq!(table(days).expect("sound"), expected);
    for wrong in [
        "31 November 2026",
        "27 Novembre 2026",
        "November 27 2026",
        "27 November",
        "27 November 2026 x",
    ] {
        assert!(table(&format!("Date,USD\n{wrong},1\n")).is_err(), "{wrong}");
    }
}

#[test]
fn days_before_a_table_have_the_rates_of_the_newest_known_before_them_but_not_for_long() {
    let day = |text: &str| Day::parse(text).expect("a day");
    let mut known = Rates::default();
    for (date, rate) in [("2026-11-11", "1.0"), ("2026-11-12", "1.1")] {
        let rate = Rate::parse(rate).expect("a rate");
        known.set(
            day(date),
            DayRates::new(Currency::USD, [(currency(EUR).expect("one"), rate)]).expect("sound"),
        );
    }
    let check = |text: &str, count: usize, second: &str| {
        let mut days = read_table(text, "rates.csv", currency(EUR).expect("one")).expect("sound");
        fill_before(&mut days, &known);
        let days = shown(&days);
        assert_eq!((days.len(), days[0].as_str()), (count, second), "{text}");
    };
    check("Date,USD\n2026-11-16,1.2\n", 4, "2026-11-13 USD: EUR 1.1");
    check("Date,USD\n2026-11-13,1.2\n", 1, "2026-11-13 EUR: USD 1.2");
    check("Date,USD\n2026-11-20,1.2\n", 8, "2026-11-13 USD: EUR 1.1");
    check("Date,USD\n2026-11-21,1.2\n", 1, "2026-11-21 EUR: USD 1.2");
    check("Date,USD\n1970-01-02,1.2\n", 1, "1970-01-02 EUR: USD 1.2");
}

#[test]
fn a_day_that_has_rates_hides_no_other_day_before_a_table() {
    let (eur, mut known) = (currency(EUR).expect("one"), Rates::default());
    // The table of the 12th, then a PUT of one rate.
    for (date, text) in [
        ("2026-11-12", "Date,USD,JPY\n2026-11-12,1.1,170\n"),
        ("2026-11-14", "Date,JPY\n2026-11-14,171\n"),
    ] {
        let day = Day::parse(date).expect("a day");
        let rates = read_table(text, "rates.csv", eur).expect("sound").remove(&day);
        known.set(day, rates.expect("its rates"));
    }
    let mut days = read_table("Date,USD\n2026-11-16,1.2\n", "rates.csv", eur).expect("sound");
    fill_before(&mut days, &known);
    let expected =
        ["2026-11-13 EUR: JPY 170 USD 1.1", "2026-11-15 EUR: JPY 171", "2026-11-16 EUR: USD 1.2"];
    assert_eq!(shown(&days), expected, "of a day that has some, others are not made up");
}

#[test]
fn days_between_two_of_a_table_have_the_rates_of_the_one_before_but_not_for_long() {
    let text = "Date,USD\n2026-11-23,1.2\n2026-11-20,1.1\n2026-11-11,1.0\n";
    let expected = [
        "2026-11-11 EUR: USD 1",
        "2026-11-20 EUR: USD 1.1",
        "2026-11-21 EUR: USD 1.1",
        "2026-11-22 EUR: USD 1.1",
        "2026-11-23 EUR: USD 1.2",
    ];
    assert_eq!(table(text).expect("sound"), expected, "a gap of eight days is a mistake of theirs");
    let seven = table("Date,USD\n2026-11-20,1.1\n2026-11-12,1.0\n").expect("sound");
    assert_eq!(seven.len(), 9);
}

#[test]
fn every_mistake_of_a_table_is_named_and_nothing_of_it_counts() {
    let text = "Date,USD,USD,CYP,EUR\n24.11.2026,1,1,,\n2026-11-24,1.08\n\
                2026-11-23,1.08,-1,0.5,\n2026-11-22,1,1,,2\n2026-11-21,,,,1\n2026-11-21,,,,\n";
    insta::assert_snapshot!(table(text).expect_err("mistakes"), @r#"
    rates.csv:1: USD: has an earlier column
    rates.csv:1: CYP: "CYP" is not an ISO 4217 currency code such as "USD"
    rates.csv:2: "24.11.2026" is not a date such as "2027-01-31"
    rates.csv:3: has 1 values for 4 currencies
    rates.csv:4: USD: "-1" is not above zero
    rates.csv:5: EUR: EUR is the base, and worth 1 EUR
    rates.csv:7: 2026-11-21 has an earlier line
    "#);
    let twice = table("Date,USD,usd\n2026-11-24,1,2\n").expect_err("one currency, two columns");
    assert!(twice.contains("rates.csv:1: usd: has an earlier column"), "{twice}");
    assert!(table("Date;USD\n2026-11-24;1,08\n").expect_err("semicolons").contains("no header"));
    let unknown = table("Date,USD,ABC\n2026-11-28,1.10,1\n2026-11-27,1.10,1\n");
    let named = "rates.csv:1: ABC: \"ABC\" is not an ISO 4217 currency code such as \"USD\"\n";
    assert_eq!(unknown.expect_err("no currency"), named, "once, and nothing else");
    assert!(table("").expect_err("empty").contains("is empty"));
    assert!(table("Date,USD\n").expect_err("no day").contains("has no day"));
}

#[test]
fn a_file_has_no_more_days_than_are_kept() {
    let line = |day: u32| format!("{},1\n", Day::new(10_000 + 100 * day));
    let days = |count: u32| format!("Date,USD\n{}", (0..count).map(line).collect::<String>());
    let most = u32::try_from(RATE_DAYS_MAX).expect("a small number");
    assert_eq!(table(&days(most)).expect("so many fit").len(), RATE_DAYS_MAX);
    assert!(table(&days(most + 1)).expect_err("one more").contains("more than 4000 days"));
}
