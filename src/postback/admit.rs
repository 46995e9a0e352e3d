//! Whether a postback's sender may speak for an advertiser: what it shows against what the
//! catalog asks for.

use super::decide::Asker;
use super::flow::{PostbackRequest, Postbacks};
use super::mapping::{Fields, Names};
use super::reprocess::Again;
use super::sender::Sender;
use super::timestamp;
use crate::auth::{Auth, Came, Canonical, Signatures, Use};
use crate::catalog::Advertiser;
use crate::model::fields::Field;
use crate::model::hex::unhex;
use crate::model::reasons::{AuthCheck, AuthMode, AuthResult, Flag, Refusal};

impl Postbacks {
    /// As [`Postbacks::admit`], for the advertiser that the path names; `None` if it names none.
    #[inline]
    pub(super) fn admit_sender(
        &self,
        sender: &Sender<'_>,
        fields: &Fields<'_>,
        request: &PostbackRequest<'_>,
        asker: &mut Asker,
    ) -> Result<Option<u32>, Refusal> {
        let Some(advertiser) = sender.advertiser else { return Ok(None) };
        self.admit(advertiser, sender, fields, request, asker).map(Some)
    }

    /// Flags of what would be refused, were all checks enforced. What came of them is noted with
    /// the asker.
    ///
    /// # Errors
    /// When a check that is enforced is not passed.
    #[inline]
    pub(super) fn admit(
        &self,
        advertiser: &Advertiser,
        sender: &Sender<'_>,
        fields: &Fields<'_>,
        request: &PostbackRequest<'_>,
        asker: &mut Asker,
    ) -> Result<u32, Refusal> {
        let Some(auth) = &advertiser.auth else { return Ok(0) };
        if let Some(again) = request.again {
            return again.check(auth, advertiser, asker);
        }
        let shown = Shown { names: &sender.names, fields, request };
        self.check(auth, advertiser, &shown, asker)
    }

    fn check(
        &self,
        auth: &Auth,
        advertiser: &Advertiser,
        shown: &Shown<'_>,
        asker: &mut Asker,
    ) -> Result<u32, Refusal> {
        let now_ms = shown.request.now_ms;
        let mut flags = 0;
        let mut note = |check, mode, passed| note(check, mode, passed, &mut flags, asker);
        if let Some(addresses) = &auth.addresses {
            let is_allowed = addresses.allow(shown.request.ip);
            let passed = is_allowed.then_some(()).ok_or(Refusal::IpNotAllowed);
            note(AuthCheck::Ip, addresses.mode, passed)?;
        }
        if let Some(tokens) = &auth.tokens {
            let token = shown.fields.get(Field::Token);
            let is_one = token.is_some_and(|token| tokens.accept(token, now_ms));
            let passed = is_one.then_some(()).ok_or(Refusal::BadToken);
            note(AuthCheck::Token, tokens.mode, passed)?;
        }
        if let Some(signatures) = &auth.signatures {
            let came = self.check_signature(signatures, advertiser, shown);
            note(AuthCheck::Signature, signatures.mode, came.map(|_| ()))?;
            asker.came = came.ok();
        }
        Ok(flags)
    }

    /// When this came. The signature is looked at before all: who cannot sign learns nothing of
    /// times and nonces.
    fn check_signature(
        &self,
        signatures: &Signatures,
        advertiser: &Advertiser,
        shown: &Shown<'_>,
    ) -> Result<Came, Refusal> {
        let Shown { names, fields, request } = *shown;
        let now_ms = request.now_ms;
        // Under other names the same parameters would say something else.
        if !names.are_those_of(advertiser) {
            return Err(Refusal::BadSignature);
        }
        let signature = fields.get(Field::Sig).and_then(unhex).ok_or(Refusal::BadSignature)?;
        if !signatures.accept(&shown.signed_text()?, &signature, now_ms) {
            return Err(Refusal::BadSignature);
        }
        let signed_ms = fields.get(Field::Ts).and_then(|text| timestamp::parse(text, now_ms));
        let signed_ms = signed_ms.ok_or(Refusal::StaleSignature)?;
        let window_ms = signatures.ts_window_ms;
        if signed_ms.abs_diff(now_ms) > window_ms {
            return Err(Refusal::StaleSignature);
        }
        let nonce = match fields.get(Field::Nonce) {
            Some(nonce) => nonce.as_bytes(),
            None if signatures.needs_nonce => return Err(Refusal::BadSignature),
            // A transaction counts once whatever is remembered.
            None if fields.get(Field::TxnId).is_some() => return Ok(Came::at(now_ms)),
            None => &signature,
        };
        // The last moment at which this signature is not stale, and one more.
        let until_ms = signed_ms.saturating_add(window_ms).saturating_add(1);
        let advertiser = &*advertiser.id;
        let used = Use { advertiser, nonce, signature: &signature, signed_ms, until_ms };
        let writes = !request.head && !fields.is_dry_run();
        self.nonces.allow(&used, writes, now_ms).ok_or(Refusal::ReplayedNonce)
    }
}

/// Notes what came of a check with the asker; an error if it refuses.
fn note(
    check: AuthCheck,
    mode: AuthMode,
    passed: Result<(), Refusal>,
    flags: &mut u32,
    asker: &mut Asker,
) -> Result<(), Refusal> {
    let result = match (passed, mode) {
        (Ok(()), _) => AuthResult::Passed,
        (Err(_), AuthMode::Shadow) => AuthResult::Shadowed,
        (Err(_), AuthMode::Enforce) => AuthResult::Refused,
    };
    asker.auth[check.index()] = Some(result);
    *flags |= Flag::Unauthenticated.bit_if(result == AuthResult::Shadowed);
    if result == AuthResult::Refused { passed } else { Ok(()) }
}

impl Again<'_> {
    /// As [`Postbacks::admit`], for one whose credentials were not kept: a check is passed if it
    /// was passed for the same advertiser when the postback came.
    fn check(
        &self,
        auth: &Auth,
        advertiser: &Advertiser,
        asker: &mut Asker,
    ) -> Result<u32, Refusal> {
        let mut flags = 0;
        let is_same = *advertiser.id == *self.advertiser;
        for (check, mode, refusal) in [
            (AuthCheck::Ip, auth.addresses.as_ref().map(|it| it.mode), Refusal::IpNotAllowed),
            (AuthCheck::Token, auth.tokens.as_ref().map(|it| it.mode), Refusal::BadToken),
            (
                AuthCheck::Signature,
                auth.signatures.as_ref().map(|it| it.mode),
                Refusal::BadSignature,
            ),
        ] {
            let Some(mode) = mode else { continue };
            let was_passed = is_same && self.auth[check.index()] == Some(AuthResult::Passed);
            let passed = was_passed.then_some(()).ok_or(refusal);
            note(check, mode, passed, &mut flags, asker)?;
        }
        Ok(flags)
    }
}

/// What a postback shows of its sender.
#[derive(Clone, Copy)]
struct Shown<'a> {
    names: &'a Names<'a>,
    fields: &'a Fields<'a>,
    request: &'a PostbackRequest<'a>,
}

impl Shown<'_> {
    /// What had to be signed: all parameters but the signature, those of the body, too.
    fn signed_text(&self) -> Result<Vec<u8>, Refusal> {
        let mut signed = Canonical::default();
        self.request.each(|name, value| {
            if self.names.meaning(&name) != Some(Field::Sig) {
                signed.add(&name, &value);
            }
            Ok(())
        })?;
        Ok(signed.into_text())
    }
}
