//! What a postback says as far as anybody can tell: one that is refused for how it was put may say
//! all the same whose it is, behind what cannot be read and beside other values.

use super::body::{Body, each_json_member};
use super::flow::PostbackRequest;
use super::mapping::Names;
use crate::model::fields::Field;
use crate::query::Params;

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
        let encoded = |encoded| {
            let mut params = Params::new(encoded);
            params.find_map(|it| look(&it.name.decode_lossy(), &it.value.decode_lossy()))
        };
        encoded(self.query).or_else(|| match self.body {
            Body::None => None,
            Body::Form(form) => encoded(form),
            Body::Json(json) => {
                let mut picked = None;
                let _ = each_json_member(json, |name, value| {
                    picked = picked.take().or_else(|| look(&name, &value));
                    Ok(())
                });
                picked
            }
        })
    }
}
