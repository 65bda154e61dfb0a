//! Whether a component was signed by somebody whom the operator trusts: detached ed25519 signatures
//! in minisign's format.

use std::path::{Path, PathBuf};

use minisign_verify::{Error, PublicKey, Signature};
use thiserror::Error;

/// What is read of a signature file: a comment, a signature, a comment and a signature.
pub(crate) const SIGNATURE_MAX_BYTES: u64 = 16 << 10;

/// Why a component is not taken for signed.
#[derive(Debug, Error)]
pub enum SignatureFault {
    /// There is none.
    #[error(
        "{component} has no signature that can be read at {signature}: {source}; \
         [plugins] trusted_keys asks for one (minisign -S -m {component})",
        component = component.display(),
        signature = signature.display()
    )]
    Missing {
        /// The component.
        component: PathBuf,
        /// Where the signature should be.
        signature: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is something else.
    #[error("{} is not a minisign signature", signature.display())]
    Format {
        /// Where the signature should be.
        signature: PathBuf,
    },
    /// By a key that is not in `trusted_keys`.
    #[error(
        "{} was made by a key that is not among [plugins] trusted_keys",
        signature.display()
    )]
    Stranger {
        /// The signature.
        signature: PathBuf,
    },
    /// Of another file, or forged.
    #[error(
        "{signature} is not a signature of {component} as it is now: the file was changed after \
         it was signed, or the signature is of another one",
        component = component.display(),
        signature = signature.display()
    )]
    Mismatch {
        /// The component.
        component: PathBuf,
        /// The signature.
        signature: PathBuf,
    },
}

/// Where the signature of a component is, unless the configuration says otherwise.
pub(crate) fn beside(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".minisig");
    PathBuf::from(path)
}

/// Checks the octets of a component against the text of a signature.
///
/// # Errors
/// [`SignatureFault`], which names the files.
pub(crate) fn verify(
    octets: &[u8],
    text: &str,
    keys: &[PublicKey],
    (component, signature): (&Path, &Path),
) -> Result<(), SignatureFault> {
    let mismatch = || SignatureFault::Mismatch {
        component: component.to_owned(),
        signature: signature.to_owned(),
    };
    let parsed = Signature::decode(text).map_err(|_| SignatureFault::Format {
        signature: signature.to_owned(),
    })?;
    let mut known = false;
    for key in keys {
        // The older form, without a hash before, is as good.
        match key.verify(octets, &parsed, true) {
            Ok(()) => return Ok(()),
            Err(Error::UnexpectedKeyId) => {}
            Err(_) => known = true,
        }
    }
    if known {
        return Err(mismatch());
    }
    Err(SignatureFault::Stranger {
        signature: signature.to_owned(),
    })
}
