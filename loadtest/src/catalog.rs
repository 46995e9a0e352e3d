//! The catalog that requests are spread over, and what its offers pay: a model of its own, so that
//! the server's books are held against something that the server did not compute.

use std::fmt::Write as _;

use crate::cli::{Auth, CatalogArgs};
use crate::text::{Random, push_number};

/// A hundredth of a US cent: all amounts here are whole numbers of millionths.
const CENT: i64 = 10_000;
const DOLLAR: i64 = 100 * CENT;

/// What senders show, and the variable in which the server finds it.
pub const SECRET: &str = "loadtest-secret";
/// See [`SECRET`].
pub const SECRET_VARIABLE: &str = "LOADTEST_SECRET";

/// Offers and affiliates, numbered; each of the first has its turn in what it pays.
#[derive(Clone, Debug)]
pub struct Catalog {
    offer: String,
    affiliate: String,
    offers: u32,
    affiliates: u32,
    auth: Auth,
}

/// Where a click goes, and who sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offer: u32,
    pub affiliate: u32,
}

/// What one sale earns, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub payout: i64,
    pub revenue: i64,
}

/// What an event earns: a fixed part, and a share of the amount in thousandths.
#[derive(Clone, Copy, Debug)]
struct Rule {
    fixed: i64,
    permille: i64,
}

/// Payout and revenue of offers, in turn. The first is what a single offer pays.
const RULES: [(Rule, Rule); 3] = [
    (Rule { fixed: 15 * DOLLAR, permille: 0 }, Rule { fixed: 20 * DOLLAR, permille: 0 }),
    (
        Rule { fixed: 2 * DOLLAR + 50 * CENT, permille: 50 },
        Rule { fixed: 4 * DOLLAR, permille: 75 },
    ),
    (Rule { fixed: 0, permille: 125 }, Rule { fixed: 0, permille: 200 }),
];

impl Rule {
    /// Exact: an amount of cents has a whole number of millionths in a thousandth of it.
    const fn of(self, amount: i64) -> i64 {
        self.fixed + amount / 1000 * self.permille
    }

    fn toml(self) -> String {
        let Self { fixed, permille } = self;
        let (dollars, cents) = (fixed / DOLLAR, fixed % DOLLAR / CENT);
        let (percent, tenths) = (permille / 10, permille % 10);
        format!(
            r#"{{ fixed = "{dollars}.{cents:02}", percent = "{percent}.{tenths}", currency = "USD" }}"#
        )
    }
}

impl Catalog {
    /// The catalog that the command line asks for.
    pub fn new(args: &CatalogArgs) -> Self {
        let CatalogArgs { offer, affiliate, offers, affiliates, auth } = args.clone();
        Self { offer, affiliate, offers: offers.max(1), affiliates: affiliates.max(1), auth }
    }

    /// So many of both, with the usual names.
    #[cfg(test)]
    pub fn of(offers: u32, affiliates: u32) -> Self {
        let (offer, affiliate) = ("spring".to_owned(), "pub-7".to_owned());
        Self::new(&CatalogArgs { offer, affiliate, offers, affiliates, auth: Auth::None })
    }

    /// What the advertiser asks of its senders.
    pub const fn auth(&self) -> Auth {
        self.auth
    }

    /// How many affiliates there are.
    pub const fn affiliates(&self) -> u32 {
        self.affiliates
    }

    /// The offer and the affiliate of click `number`: all pairs are equally likely, and the same
    /// number always has the same.
    pub fn place(&self, number: u64) -> Place {
        let mut random = Random::new(number);
        let offer = random.below(self.offers as usize) as u32;
        Place { offer, affiliate: random.below(self.affiliates as usize) as u32 }
    }

    /// Appends an offer's ID.
    pub fn push_offer(&self, out: &mut Vec<u8>, offer: u32) {
        push_id(out, &self.offer, offer);
    }

    /// Appends an affiliate's ID.
    pub fn push_affiliate(&self, out: &mut Vec<u8>, affiliate: u32) {
        push_id(out, &self.affiliate, affiliate);
    }

    /// An offer's ID.
    pub fn offer_id(&self, offer: u32) -> String {
        id(&self.offer, offer)
    }

    /// An affiliate's ID.
    pub fn affiliate_id(&self, affiliate: u32) -> String {
        id(&self.affiliate, affiliate)
    }

    /// What a sale of `amount` millionths earns.
    pub const fn price(&self, place: Place, amount: i64) -> Price {
        let (payout, revenue) = RULES[place.offer as usize % RULES.len()];
        Price { payout: payout.of(amount), revenue: revenue.of(amount) }
    }

    /// The catalog as the server reads it.
    pub fn toml(&self) -> String {
        let mut out = "[[advertisers]]\nid = \"acme\"\npreset = \"standard\"\n".to_owned();
        let secrets = format!("[{{ secret = \"env:{SECRET_VARIABLE}\" }}]");
        match self.auth {
            Auth::None => {}
            Auth::Token => out += &format!("auth = {{ tokens = {secrets} }}\n"),
            // Signed once, at the start of a run.
            Auth::Hmac => out += &format!("auth = {{ hmac = {secrets}, ts_window = \"1d\" }}\n"),
        }
        for offer in 0..self.offers {
            let (payout, revenue) = RULES[offer as usize % RULES.len()];
            let (id, payout, revenue) = (self.offer_id(offer), payout.toml(), revenue.toml());
            write!(
                out,
                "\n[[offers]]\nid = \"{id}\"\nadvertiser = \"acme\"\nurl = \
                 \"https://shop.example/landing?subid={{click_id}}&src={{sub1}}\"\nstatus = \
                 \"active\"\nwindow = \"30d\"\n\n[[offers.events]]\nid = \"sale\"\ninitial_status \
                 = \"approved\"\npayout = {payout}\nrevenue = {revenue}\n"
            )
            .expect("a String takes everything");
        }
        for affiliate in 0..self.affiliates {
            let id = self.affiliate_id(affiliate);
            write!(out, "\n[[affiliates]]\nid = \"{id}\"\n").expect("a String takes everything");
        }
        out
    }
}

/// The first has the plain name, the others a number behind it.
fn push_id(out: &mut Vec<u8>, name: &str, number: u32) {
    out.extend_from_slice(name.as_bytes());
    if number > 0 {
        out.push(b'-');
        push_number(out, u64::from(number));
    }
}

fn id(name: &str, number: u32) -> String {
    let mut out = Vec::new();
    push_id(&mut out, name, number);
    String::from_utf8(out).expect("a name and digits")
}

/// The amount of sale `number`, in whole dollars; 50 cents come on top.
pub const fn sale_dollars(number: u64) -> u64 {
    10 + number % 90
}

/// The same in millionths.
pub const fn sale_amount(number: u64) -> i64 {
    sale_dollars(number) as i64 * DOLLAR + 50 * CENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_fixed_part_and_a_share_of_the_amount() {
        let check = |offer, number, payout, revenue| {
            let price = Catalog::of(9, 1).price(Place { offer, affiliate: 0 }, sale_amount(number));
            assert_eq!(price, Price { payout, revenue }, "offer {offer}, sale {number}");
        };
        check(0, 0, 15_000_000, 20_000_000);
        check(1, 0, 3_025_000, 4_787_500);
        check(2, 0, 1_312_500, 2_100_000);
        check(5, 89, 12_437_500, 19_900_000);
    }

    #[test]
    fn one_offer_and_one_affiliate_are_all_there_is_unless_asked_for() {
        let text = Catalog::of(1, 1).toml();
        assert_eq!(text.matches("[[offers]]").count(), 1);
        let lines = [
            r#"id = "spring""#,
            r#"id = "pub-7""#,
            r#"payout = { fixed = "15.00", percent = "0.0", currency = "USD" }"#,
        ];
        for line in lines {
            assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
        }
        assert_eq!(Catalog::of(1, 1).place(17), Place::default());
    }

    #[test]
    fn clicks_are_spread_evenly_over_all_offers_and_affiliates_and_always_the_same() {
        let catalog = Catalog::of(10, 7);
        let mut counts = [[0; 7]; 10];
        for number in 0..70_000 {
            let Place { offer, affiliate } = catalog.place(number);
            counts[offer as usize][affiliate as usize] += 1;
            assert_eq!(catalog.place(number), Place { offer, affiliate });
        }
        assert!(counts.iter().flatten().all(|count| (800..1200).contains(count)), "{counts:?}");
        let text = catalog.toml();
        for id in [catalog.offer_id(9), catalog.affiliate_id(6)] {
            assert_eq!(text.matches(&format!("id = \"{id}\"\n")).count(), 1, "{id}");
        }
    }
}
