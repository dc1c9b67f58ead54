//! Join tokens: what a new node needs to know the cluster, and to be known by it.
//!
//! `lfs1.<SHA-256 of the CA's certificate>.<id>.<secret>`, all in hexadecimal. The hash lets the joiner
//! check that it speaks with the right cluster before it says anything (as k3s does); the secret lets it
//! in, once. The cluster keeps the secret's SHA-256 alone.

use std::fmt;
use std::str::FromStr;

use rand::TryRngCore;
use rand::rngs::OsRng;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::core::hex;

const PREFIX: &str = "lfs1";

/// A token. Whoever has it can become a member: treat it as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the CA's certificate, DER.
    pub ca_sha256: [u8; 32],
    /// Names it where it is listed; no secret.
    pub id: String,
    secret: [u8; 16],
}

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is no token: one begins with \"{PREFIX}.\" (litefs-py token create makes one)")]
    Prefix,
    #[error("the token is cut short or damaged: its {part} has {found} characters, not {expected}")]
    Length { part: &'static str, found: usize, expected: usize },
    #[error("the token is damaged: it has {0} parts, not 4")]
    Parts(usize),
    #[error("the token is damaged: its {0} is not hexadecimal")]
    Digits(&'static str),
}

impl JoinToken {
    /// A new one, for the cluster of this CA.
    ///
    /// # Errors
    /// The certificate is no PEM, or the system gives no random bytes.
    pub fn create(ca_pem: &str) -> Result<Self, String> {
        let (mut id, mut secret) = ([0; 8], [0; 16]);
        for bytes in [&mut id[..], &mut secret[..]] {
            OsRng.try_fill_bytes(bytes).map_err(|error| format!("no random bytes: {error}"))?;
        }
        Ok(Self { ca_sha256: ca_sha256(ca_pem)?, id: hex(&id), secret })
    }

    /// What the joiner proves its token by.
    #[must_use]
    pub fn secret(&self) -> [u8; 16] {
        self.secret
    }
}

/// What is kept of a secret.
#[must_use]
pub fn secret_sha256(secret: &[u8; 16]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The hash of the first certificate of a PEM text.
///
/// # Errors
/// There is none in it.
pub fn ca_sha256(ca_pem: &str) -> Result<[u8; 32], String> {
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| e.to_string())?;
    Ok(der_sha256(&der))
}

pub(super) fn der_sha256(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

fn unhex<const N: usize>(part: &'static str, text: &str) -> Result<[u8; N], TokenError> {
    if text.len() != 2 * N {
        return Err(TokenError::Length { part, found: text.len(), expected: 2 * N });
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| TokenError::Digits(part))?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(TokenError::Digits(part));
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| TokenError::Digits(part))?;
    }
    Ok(bytes)
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", hex(&self.ca_sha256), self.id, hex(&self.secret))
    }
}

/// Not the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.'));
        let rest = rest.ok_or(TokenError::Prefix)?;
        let parts: Vec<&str> = rest.split('.').collect();
        let [ca, id, secret] = parts[..] else { return Err(TokenError::Parts(parts.len() + 1)) };
        let ca_sha256 = unhex("hash of the CA", ca)?;
        let id = hex(&unhex::<8>("id", id)?);
        Ok(Self { ca_sha256, id, secret: unhex("secret", secret)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Ca;

    #[test]
    fn a_token_is_read_back_and_a_cut_one_is_told() {
        let ca = Ca::create("test").unwrap();
        let token = JoinToken::create(ca.certificate_pem()).unwrap();
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token);
        assert_eq!(token.ca_sha256, ca_sha256(ca.certificate_pem()).unwrap());
        assert_ne!(JoinToken::create(ca.certificate_pem()).unwrap(), token);
        for len in 0..text.len() {
            assert!(text[..len].parse::<JoinToken>().is_err(), "cut at {len}");
        }
        for wrong in ["", "hello", "lfs2.a.b.c", "lfs1.a.b.c.d", &text.replace("lfs1.", "lfs1.g")] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
        let plus = text.replacen(&text[5..7], "+1", 1);
        assert_eq!(plus.parse::<JoinToken>(), Err(TokenError::Digits("hash of the CA")));
        assert!(!format!("{token:?}").contains(&hex(&token.secret())), "secrets are not logged");
    }
}
