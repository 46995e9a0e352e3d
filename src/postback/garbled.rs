//! What a postback says as far as anybody can tell: one that is refused for how it was put may say
//! all the same whose it is, behind what cannot be read and beside other values.

use super::body::{Body, each_json_member};
use super::flow::PostbackRequest;
use super::mapping::Names;
use super::sender::Sender;
use crate::catalog::Catalog;
use crate::model::fields::Field;
use crate::store::records::InboundRow;

/// Whether a postback of the log says something of a meaning that `is` what is looked for: by the
/// parameter names that its sender has today, by its path or by its advertiser, in any of them.
pub(super) fn says(
    row: &InboundRow<'_>,
    wanted: Field,
    catalog: &Catalog,
    is: impl Fn(&str) -> bool,
) -> bool {
    let request = PostbackRequest::of_the_log(row, None);
    let sender = Sender::at_or_nobody(request.address, catalog);
    let owner = catalog.advertiser(row.head.advertiser);
    let own = owner.and_then(|owner| sender.of_click(owner));
    let names = [Some(sender.names), own.map(|own| own.names)];
    let said = |names| request.pick(names, wanted, |value| is(value).then_some(())).is_some();
    names.iter().flatten().any(said)
}

impl PostbackRequest<'_> {
    /// The first of the values with a meaning that `pick` takes. Each parameter is read by itself,
    /// and as it is written down: lossily. JSON is read as far as it is JSON.
    pub(super) fn pick<T>(
        &self,
        names: &Names<'_>,
        wanted: Field,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let look = |name: &str, value: &str| {
            if names.meaning(name) == Some(wanted) { pick(value) } else { None }
        };
        let mut params = self.encoded();
        let mut picked =
            params.find_map(|it| look(&it.name.decode_lossy(), &it.value.decode_lossy()));
        if let Body::Json(json) = self.body {
            let _ = each_json_member(json, |name, value| {
                picked = picked.take().or_else(|| look(&name, &value));
                Ok(())
            });
        }
        picked
    }
}
