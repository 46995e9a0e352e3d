//! Which postbacks of the log name a transaction, a customer or a click: by the text that was sent,
//! whether or not anything is known by it, under the parameter names that their sender has today.

use super::garbled::says;
use crate::catalog::Catalog;
use crate::model::fields::Field;
use crate::store::records::InboundRow;

/// What a postback has to name; all that is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Mention {
    /// A transaction.
    pub txn_id: Option<String>,
    /// A customer.
    pub customer_id: Option<String>,
    /// A click, genuine or not.
    pub click_id: Option<String>,
}

impl Mention {
    /// Whether a postback names all of it.
    #[must_use]
    pub fn is_in(&self, row: &InboundRow<'_>, catalog: &Catalog) -> bool {
        let wanted = [
            (Field::TxnId, &self.txn_id),
            (Field::CustomerId, &self.customer_id),
            (Field::ClickId, &self.click_id),
        ];
        if wanted.iter().all(|(_, text)| text.is_none()) {
            return true;
        }
        let named = |(field, text): &(_, &Option<String>)| {
            text.as_deref().is_none_or(|text| says(row, *field, catalog, |value| value == text))
        };
        wanted.iter().all(named)
    }
}

/// Whether a postback names this as its transaction, reversal, customer or click.
#[must_use]
pub fn mentions(row: &InboundRow<'_>, text: &str, catalog: &Catalog) -> bool {
    const NAMES: [Field; 4] = [Field::TxnId, Field::ReversalId, Field::CustomerId, Field::ClickId];
    NAMES.iter().any(|field| says(row, *field, catalog, |value| value == text))
}
