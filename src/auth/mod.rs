//! Who may send postbacks for an advertiser: tokens, signatures and addresses, as its catalog
//! entry asks for. `rules` is what the catalog says and judges by it; `canonical` is the text that
//! a signature signs; `nonces` remembers what was signed; `secret` finds secrets where the catalog
//! says that they are, since it holds none itself.

mod canonical;
mod nonces;
mod rules;
mod secret;

pub use canonical::Canonical;
pub use nonces::{Nonces, Use};
pub use rules::{Addresses, Auth, Dated, Signatures, SigningKey, Tokens};
pub use secret::{SecretError, SecretSource, hash_text};
