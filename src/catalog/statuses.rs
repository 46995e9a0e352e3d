// Hot path: a word is looked up for every postback with a status. No allocation, no locks.

//! What status words mean: the one order in which an advertiser's, a postback's, a preset's and ours
//! are asked.

use std::convert::Infallible;

use super::snapshot::Advertiser;
use crate::model::status::Status;

impl Advertiser {
    /// What a status word means, in whatever case: their own words first, then what `listed` says of
    /// it, then the preset's, then the standard ones. `None` within is what is not to be taken.
    ///
    /// # Errors
    /// Those of `listed`, which is asked only where their own words do not say.
    pub fn status_beside<E>(
        &self,
        word: &str,
        listed: impl FnOnce() -> Result<Option<Option<Status>>, E>,
    ) -> Result<Option<Option<Status>>, E> {
        let alike = |known: &str| known.eq_ignore_ascii_case(word);
        // Two of them may differ in nothing but case.
        let own = self.statuses.iter().find(|(known, _)| known == word);
        let own = own.or_else(|| self.statuses.iter().find(|(known, _)| alike(known)));
        if let Some((_, status)) = own {
            return Ok(Some(Some(*status)));
        }
        if let Some(listed) = listed()? {
            return Ok(Some(listed));
        }
        let presets = self.preset.dialect().statuses.iter().copied();
        let standard = Status::ALL.iter().map(|status| (status.as_str(), *status));
        let found = presets.chain(standard).find(|(known, _)| alike(known));
        Ok(found.map(|(_, status)| Some(status)))
    }

    /// As [`Advertiser::status_beside`], where nothing else says what words mean.
    #[must_use]
    pub fn status(&self, word: &str) -> Option<Status> {
        let Ok(found) = self.status_beside(word, || Ok::<_, Infallible>(None));
        found.flatten()
    }
}
