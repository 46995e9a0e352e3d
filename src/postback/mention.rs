//! Which postbacks of the log name a transaction, a customer or a click: by the text that was sent,
//! whether or not anything is known by it, under the parameter names that their sender has today.

use super::flow::PostbackRequest;
use super::mapping::Fields;
use super::sender::Sender;
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
        let fields = fields(row, catalog);
        let is = |field, text: &str| fields.get(field) == Some(text);
        wanted.iter().all(|(field, text)| text.as_deref().is_none_or(|text| is(*field, text)))
    }
}

/// Whether a postback names this as its transaction, reversal, customer or click.
#[must_use]
pub fn mentions(row: &InboundRow<'_>, text: &str, catalog: &Catalog) -> bool {
    const NAMES: [Field; 4] = [Field::TxnId, Field::ReversalId, Field::CustomerId, Field::ClickId];
    let fields = fields(row, catalog);
    NAMES.iter().any(|field| fields.get(*field) == Some(text))
}

fn fields<'r>(row: &InboundRow<'r>, catalog: &Catalog) -> Fields<'r> {
    let request = PostbackRequest::of_the_log(row, None);
    let sender = Sender::at_or_nobody(request.address, catalog);
    let mut fields = Fields::default();
    // One that was refused for how it was put has been read as far as it goes.
    let _ = fields.read(&sender, &request);
    fields
}
