//! Who may send postbacks for an advertiser: tokens, signatures and addresses, as its catalog
//! entry asks for. `rules` is what the catalog says and judges by it; `canonical` is the text that
//! a signature signs; `nonces` remembers what was signed. The catalog holds no secret itself: it
//! says where they are, as the configuration does.

mod canonical;
mod nonces;
mod rules;

pub use canonical::Canonical;
pub use nonces::{Came, Nonces, Use};
pub use rules::{Addresses, Auth, Dated, Gap, Signatures, SigningKey, Tokens};

pub use crate::config::{SecretError, SecretSource, hash_text};
