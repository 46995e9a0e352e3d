//! Who sends a postback, as far as its path says: which names count, and how to answer.

use super::mapping::Names;
use crate::catalog::{Advertiser, Catalog};
use crate::model::preset::{AnswerForm, Preset};
use crate::model::reasons::Refusal;

/// Where a postback was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// A path that is there for everybody.
    Shared {
        /// The preset whose path it is; `None` for `/postback`.
        preset: Option<Preset>,
        /// The advertiser whose ID follows, if one does.
        advertiser: Option<&'a str>,
    },
    /// A path that the catalog may give to one advertiser.
    Own(&'a str),
}

impl Address<'static> {
    /// `/postback`.
    pub const POSTBACK: Self = Self::Shared { preset: None, advertiser: None };
}

impl<'a> Address<'a> {
    /// Where a path leads; a slash at its end changes nothing.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        match Preset::at(path) {
            // Ours: the names are those of the advertiser.
            Some((Preset::Standard, advertiser)) => Self::Shared { preset: None, advertiser },
            Some((preset, advertiser)) => Self::Shared { preset: Some(preset), advertiser },
            None => Self::Own(path),
        }
    }
}

/// Who sends a postback.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'c> {
    /// Whose parameter names count.
    pub names: Names<'c>,
    /// The advertiser, if the path says which.
    pub advertiser: Option<&'c Advertiser>,
}

impl<'c> Sender<'c> {
    /// As [`Sender::at`]; a path that leads to nobody says nothing of names.
    #[must_use]
    pub fn at_or_nobody(address: Address<'_>, catalog: &'c Catalog) -> Self {
        let nobody = Self { names: Names::STANDARD, advertiser: None };
        Self::at(address, catalog, &mut { AnswerForm::Json }).unwrap_or(nobody)
    }

    /// Looks the sender up. `form` is set to the one in which to answer, also if that fails.
    ///
    /// # Errors
    /// When the path leads to nobody in the catalog.
    pub fn at(
        address: Address<'_>,
        catalog: &'c Catalog,
        form: &mut AnswerForm,
    ) -> Result<Self, Refusal> {
        let (preset, advertiser) = match address {
            Address::Own(path) => {
                (None, Some(catalog.advertiser_at(path).ok_or(Refusal::UnknownPath)?))
            }
            Address::Shared { preset, advertiser } => {
                if let Some(preset) = preset {
                    *form = preset.dialect().answer;
                }
                let find = |id| catalog.advertiser(id).ok_or(Refusal::UnknownAdvertiser);
                (preset, advertiser.map(find).transpose()?)
            }
        };
        let Some(advertiser) = advertiser.map(|advertiser| &**advertiser) else {
            let names = Names { preset: preset.unwrap_or(Preset::Standard), overrides: &[] };
            return Ok(Self { names, advertiser: None });
        };
        *form = advertiser.answer;
        let preset = preset.unwrap_or(advertiser.preset);
        let names = Names { preset, overrides: &advertiser.params };
        Ok(Self { names, advertiser: Some(advertiser) })
    }
}
