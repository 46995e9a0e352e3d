//! Currencies: the active codes of ISO 4217 and how many decimals each has.

use std::fmt;

/// A currency in use: three upper-case ASCII letters of the ISO 4217 list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Not an active ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code such as \"USD\"")]
pub struct CurrencyError;

impl Currency {
    /// United States dollar: the default of the configuration.
    pub const USD: Self = Self(*b"USD");

    /// Reads a code in any case.
    ///
    /// # Errors
    /// When the list has no such code.
    pub fn parse(text: &str) -> Result<Self, CurrencyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        Self::from_bytes(code.map(|letter| letter.to_ascii_uppercase())).ok_or(CurrencyError)
    }

    /// Reads a stored code, upper case only.
    #[must_use]
    pub fn from_bytes(code: [u8; 3]) -> Option<Self> {
        decimals(&code).map(|_| Self(code))
    }

    /// The currency as which amounts of a stored code are shown: US dollars, if it is none.
    #[must_use]
    pub fn to_show(code: [u8; 3]) -> Self {
        Self::from_bytes(code).unwrap_or(Self::USD)
    }

    /// The code as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        self.0
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("codes of the list are ASCII")
    }

    /// Decimals of the smallest unit: 0, 2, 3 or 4.
    #[must_use]
    pub fn decimals(self) -> usize {
        decimals(&self.0).expect("only codes of the list are constructed")
    }

    /// All codes, in no particular order.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES_BY_DECIMALS
            .iter()
            .flat_map(|(_, codes)| codes.as_chunks::<3>().0)
            .map(|code| Self(*code))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stored code as text, whatever it is.
#[must_use]
pub fn code_text(code: [u8; 3]) -> String {
    String::from_utf8_lossy(&code).into_owned()
}

fn decimals(code: &[u8; 3]) -> Option<usize> {
    CODES_BY_DECIMALS
        .iter()
        .find(|(_, codes)| codes.as_chunks::<3>().0.binary_search(code).is_ok())
        .map(|(decimals, _)| *decimals)
}

/// ISO 4217, list one, by number of decimals, the most used first; each string is its codes one
/// after the other, sorted. Metals, test codes and units without decimals (`XAU`, `XTS`, `XDR`)
/// are left out: nobody is paid in them.
const CODES_BY_DECIMALS: [(usize, &[u8]); 4] =
    [(2, TWO), (0, ZERO), (3, b"BHDIQDJODKWDLYDOMRTND"), (4, b"CLFUYW")];

const ZERO: &[u8] = b"BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";

const TWO: &[u8] = b"\
    AEDAFNALLAMDAOAARSAUDAWGAZNBAMBBDBDTBMDBNDBOBBOVBRLBSDBTNBWPBYNBZDCADCDFCHECHFCHW\
    CNYCOPCOUCRCCUPCVECZKDKKDOPDZDEGPERNETBEURFJDFKPGBPGELGHSGIPGMDGTQGYDHKDHNLHTGHUF\
    IDRILSINRIRRJMDKESKGSKHRKPWKYDKZTLAKLBPLKRLRDLSLMADMDLMGAMKDMMKMNTMOPMRUMURMVRMWK\
    MXNMXVMYRMZNNADNGNNIONOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUBSARSBDSCRSDGSEKSGDSHP\
    SLESOSSRDSSPSTNSVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSDUSNUYUUZSVEDVESWSTXCDXCGYER\
    ZARZMWZWG";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_in_any_case_and_nothing_else_is() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(Currency::parse(text).ok().map(Currency::decimals), expected, "{text:?}");
        };
        check("USD", Some(2));
        check("eur", Some(2));
        check("jPy", Some(0));
        check("KWD", Some(3));
        check("CLF", Some(4));
        check("", None);
        check("US", None);
        check("USDT", None);
        check("ZZZ", None);
        check("DAE", None); // crosses two neighbours of the list
        check("U\u{e4}", None);
    }

    #[test]
    fn every_code_is_found_again_and_listed_once() {
        let mut all: Vec<Currency> = Currency::all().collect();
        for code in &all {
            assert_eq!(Currency::from_bytes(code.to_bytes()), Some(*code));
            assert_eq!(Currency::parse(&code.as_str().to_lowercase()), Ok(*code));
        }
        let listed = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), listed);
        assert!(all.contains(&Currency::USD));
    }
}
