//! Signatures: only what a trusted key has signed is called.

use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::{Site, all_by, put, version};

/// A key as `minisign -G` makes one.
struct Key {
    pair: KeyPair,
    id: [u8; 8],
}

impl Key {
    fn new(id: u8) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        Self { pair, id: [id; 8] }
    }

    /// As in `trusted_keys`.
    fn public(&self) -> String {
        base64(&[b"Ed", &self.id[..], self.pair.der_bytes()].concat())
    }

    /// A whole signature file of these octets.
    fn sign(&self, octets: &[u8]) -> String {
        let comment = "made for a test";
        let signature = self.pair.sign(octets).expect("it signs");
        let global = [&signature, comment.as_bytes()].concat();
        let global = self.pair.sign(&global).expect("it signs");
        format!(
            "untrusted comment: a signature\n{}\ntrusted comment: {comment}\n{}\n",
            base64(&[b"Ed", &self.id[..], &signature].concat()),
            base64(&global)
        )
    }
}

fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let mut word = [0; 3];
        word[..three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_trusted_key_has_signed_is_taken() {
    let (trusted, stranger) = (Key::new(1), Key::new(2));
    // Somebody else's key under a trusted one's number.
    let forger = Key::new(1);
    let rules = format!("trusted_keys = [\"{}\"]", trusted.public());
    let site = Site::open_with(&version(1), "", &rules, |file| {
        put(
            &file.with_extension("wasm.minisig"),
            trusted.sign(&version(1)).as_bytes(),
        );
    })
    .await;
    let signature = site.file.with_extension("wasm.minisig");
    site.put(&version(2));
    site.refuses("signature", "is not a signature of").await;
    put(&signature, stranger.sign(&version(2)).as_bytes());
    site.refuses("signature", "not among [plugins] trusted_keys")
        .await;
    put(&signature, forger.sign(&version(2)).as_bytes());
    site.refuses("signature", "is not a signature of").await;
    put(&signature, b"nonsense");
    site.refuses("signature", "is not a minisign signature")
        .await;
    std::fs::remove_file(&signature).expect("it is there");
    site.refuses("signature", "has no signature that can be read")
        .await;

    put(&signature, trusted.sign(&version(2)).as_bytes());
    assert_eq!(site.change("reload").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(2));
    // Its signature was kept with the version before.
    assert_eq!(site.change("rollback").await["result"], "ok");
    assert_eq!(site.marks().await, all_by(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_comes_after_the_file_is_noticed() {
    let trusted = Key::new(1);
    let rules = format!(
        "watch_interval = \"10ms\"\ntrusted_keys = [\"{}\"]",
        trusted.public()
    );
    let site = Site::open_with(&version(1), "watch = true", &rules, |file| {
        put(
            &file.with_extension("wasm.minisig"),
            trusted.sign(&version(1)).as_bytes(),
        );
    })
    .await;
    site.put(&version(2));
    site.wait_for("a refusal", |state| {
        state["refused"]["result"] == "signature"
    })
    .await;
    put(
        &site.file.with_extension("wasm.minisig"),
        trusted.sign(&version(2)).as_bytes(),
    );
    site.wait_for("the second", |state| state["by"] == "watch")
        .await;
    assert_eq!(site.marks().await, all_by(2));
}
