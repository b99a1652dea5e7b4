//! Secrets and their hashes, keyed derivation, sealing. With `jose.rs` (signatures) the only place that names a
//! cryptographic library for anything but random bytes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{aead, digest, hkdf, hmac};

use crate::clock::{Chance, Millis};

/// What went wrong in a cryptographic step. Never says more: the inputs are secrets.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub(crate) &'static str);

/// A secret that is shown once, to whom it is for, and kept only as its [`Hashed`] form.
///
/// It has no `Debug` and no `Display`, so that it cannot slip into a log or a page.
pub struct Secret(String);

impl Secret {
    /// A new secret of 256 random bits, base64url, after `prefix`.
    pub fn new(prefix: &str, chance: &Chance) -> Self {
        Secret(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(chance.bytes::<32>())))
    }

    /// The same for secrets of which there are many: the time, in hexadecimal, stands before the random bits, and
    /// before the hash too. What is made together is so kept together, in few pages of the database.
    pub fn timed(prefix: &str, time: Millis, chance: &Chance) -> Self {
        Secret::new(&format!("{prefix}{time:0TIME$x}"), chance)
    }

    /// The hash to keep.
    pub fn hashed(&self) -> Hashed {
        Hashed::of(&self.0)
    }

    /// The text itself, for the one answer it belongs in.
    pub fn reveal(self) -> String {
        self.0
    }
}

/// How many hexadecimal digits the time of a [`Secret::timed`] has: milliseconds, until 2527 …
pub const TIME: usize = 11;
/// … and how many characters 256 random bits.
const RANDOM: usize = 43;

/// The time that a presented text begins with after its prefix, as it stands there; nothing where it has none.
fn time_of(presented: &str) -> &str {
    let timed = || {
        let (before, after) = presented.split_at_checked(presented.len().checked_sub(TIME + RANDOM)?)?;
        let digits = after.get(..TIME).filter(|_| before.ends_with('_'))?;
        digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(digits)
    };
    timed().unwrap_or_default()
}

/// The SHA-256 of a secret, after its time where it has one: the only form in which one reaches the database.
///
/// A plain hash is enough because every [`Secret`] holds 256 random bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed(String);

impl Hashed {
    /// The hash of a secret that somebody presented.
    pub fn of(presented: &str) -> Self {
        Hashed(format!("{}{}", time_of(presented), sha256_base64url(presented.as_bytes())))
    }

    /// The text that the database keeps.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is the secret that this is the hash of, in constant time.
    pub fn matches(kept: &str, presented: &str) -> bool {
        same(kept.as_bytes(), Hashed::of(presented).0.as_bytes())
    }
}

/// Compares in a time that depends on the lengths alone.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256, base64url without padding: PKCE's S256 (RFC 7636 4.2) and every kept hash.
pub fn sha256_base64url(data: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, data))
}

/// The 32 bytes everything else on this server is protected with; never in the database.
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A new random master key.
    pub fn new(chance: &Chance) -> Self {
        MasterKey(chance.bytes())
    }

    /// Reads the base64url text of [`MasterKey::to_text`].
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim().trim_end_matches('='))
            .map_err(|_| CryptoError("the master key is not base64url"))?;
        let bytes = bytes.try_into().map_err(|_| CryptoError("the master key is not 32 bytes long"))?;
        Ok(MasterKey(bytes))
    }

    /// The text for the key file.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// A short public name for this key, kept with each thing it sealed.
    pub fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.derive("name")[..6])
    }

    /// A key for one purpose (HKDF-SHA256; `label` names the purpose).
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut out = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"hearthgate")
            .extract(&self.0)
            .expand(&[label.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("32 bytes are one block of HKDF-SHA256");
        out
    }

    /// Encrypts (AES-256-GCM) as `<key name>.<nonce and ciphertext>`; `about` is authenticated with it.
    pub fn seal(&self, plain: &[u8], about: &str, chance: &Chance) -> String {
        let nonce = chance.bytes::<12>();
        let mut data = plain.to_vec();
        self.sealing()
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(about),
                &mut data,
            )
            .expect("a short message can be sealed");
        format!("{}.{}", self.name(), URL_SAFE_NO_PAD.encode([&nonce[..], &data].concat()))
    }

    /// Opens what [`MasterKey::seal`] made with the same `about`.
    pub fn open(&self, sealed: &str, about: &str) -> Result<Vec<u8>, CryptoError> {
        let (name, body) = sealed.split_once('.').ok_or(CryptoError("not a sealed value"))?;
        if name != self.name() {
            return Err(CryptoError("sealed with another master key"));
        }
        let mut body = URL_SAFE_NO_PAD.decode(body).map_err(|_| CryptoError("not a sealed value"))?;
        let (nonce, data) = body.split_at_mut_checked(12).ok_or(CryptoError("not a sealed value"))?;
        let nonce =
            aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError("not a sealed value"))?;
        let plain = self
            .sealing()
            .open_in_place(nonce, aead::Aad::from(about), data)
            .map_err(|_| CryptoError("the sealed value was changed"))?;
        Ok(plain.to_vec())
    }

    fn sealing(&self) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &self.derive("seal"));
        aead::LessSafeKey::new(key.expect("32 bytes are an AES-256 key"))
    }
}

/// A keyed hash for one purpose: CSRF tokens, cursors, derived refresh tokens.
#[derive(Clone)]
pub struct Mac(hmac::Key);

impl Mac {
    /// The keyed hash whose key is derived under `label`.
    pub fn new(master: &MasterKey, label: &str) -> Self {
        Mac(hmac::Key::new(hmac::HMAC_SHA256, &master.derive(label)))
    }

    /// The tag of `parts`, base64url. Each part is preceded by its length, so that no two lists agree.
    pub fn tag(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(context.sign())
    }

    /// Whether `tag` is the tag of `parts`, in constant time.
    pub fn verify(&self, parts: &[&str], tag: &str) -> bool {
        same(self.tag(parts).as_bytes(), tag.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_and_purpose() {
        let chance = Chance::seeded(1);
        let (key, other) = (MasterKey::new(&chance), MasterKey::new(&chance));
        let sealed = key.seal(b"private", "signing key a", &chance);
        assert_eq!(key.open(&sealed, "signing key a").unwrap(), b"private");
        assert!(key.open(&sealed, "signing key b").is_err(), "moved to another row");
        assert!(other.open(&sealed, "signing key a").is_err(), "another master key");
        assert!(key.open(&sealed[..sealed.len() - 4], "signing key a").is_err(), "cut short");
        assert!(key.open("nonsense", "signing key a").is_err());
    }

    #[test]
    fn a_secret_matches_its_hash_and_no_other() {
        let secret = Secret::new("hg_at_", &Chance::seeded(2));
        let hashed = secret.hashed();
        let text = secret.reveal();
        assert!(text.starts_with("hg_at_") && text.len() == 6 + 43);
        assert!(Hashed::matches(hashed.as_str(), &text));
        assert!(!Hashed::matches(hashed.as_str(), &text[1..]));
    }

    #[test]
    fn what_is_kept_of_timed_secrets_is_in_the_order_of_their_times() {
        let chance = Chance::seeded(4);
        let times = [0, 9, 10, 1_795_000_000_000, 1_795_000_000_001];
        let texts = times.map(|time| Secret::timed("hg_at_", time, &chance).reveal());
        let kept: Vec<Hashed> = texts.iter().map(|text| Hashed::of(text)).collect();
        assert!(kept.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        assert!(Hashed::matches(kept[3].as_str(), &texts[3]));
        let other = format!("{}A", &texts[3][..texts[3].len() - 1]);
        assert!(!Hashed::matches(kept[3].as_str(), &other), "the time alone is not the secret");
    }

    #[test]
    fn only_a_secret_with_a_time_is_kept_with_one() {
        let long = "é".repeat(60);
        let upper = format!("hg_at_{:0TIME$X}{}", 0xabc, "x".repeat(RANDOM));
        let bare = format!("{:0TIME$x}{}", 1, "x".repeat(RANDOM));
        for text in ["", "a", &"_".repeat(70), &long, &upper, &bare] {
            assert_eq!(Hashed::of(text).as_str(), sha256_base64url(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_tag_tells_lists_apart_that_join_to_the_same_text() {
        let mac = Mac::new(&MasterKey::new(&Chance::seeded(3)), "test");
        assert_ne!(mac.tag(&["ab", "c"]), mac.tag(&["a", "bc"]));
        assert!(mac.verify(&["a"], &mac.tag(&["a"])));
        assert!(!mac.verify(&["a"], ""));
    }
}
