//! What is derived from a run's salt: idempotency keys, luck for jitter, placeholders for secrets.

use sha2::{Digest, Sha256};

use super::state::CallIx;
use crate::names::RunKey;
use crate::plan::Plan;

/// Makes the salt of a run: different for every run of every store, and not to be guessed from outside.
#[must_use]
pub fn salt(store: [u8; 16], run: RunKey) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"flowrun run salt 1\0");
    hash.update(store);
    hash.update(run.0.as_bytes());
    hash.finalize().into()
}

/// Returns the idempotency key of a member's forward call: 64 hexadecimal digits, the same on all attempts and after
/// every restart (SPEC 6.7).
#[must_use]
pub fn idempotency_key(salt: &[u8; 32], plan: &Plan, call: CallIx, generation: u32) -> String {
    let id = call.id(plan);
    let member = call.member_in(plan).map_or("finally", |m| m.name.as_str());
    let mut hash = Sha256::new();
    hash.update(salt);
    for part in [id.place.step.as_str(), member] {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(id.place.item.map_or(u64::MAX, u64::from).to_be_bytes());
    hash.update(generation.to_be_bytes());
    hex(&hash.finalize())
}

/// Returns a number that is different for every attempt of every call, and the same after every restart.
#[must_use]
pub fn dice(salt: &[u8; 32], plan: &Plan, call: CallIx, attempt: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(format!("jitter {:?} {attempt}", call.id(plan)));
    let digest = hash.finalize();
    let first: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
    u64::from_be_bytes(first)
}

/// Returns what stands in recorded inputs for the value of a secret. It contains a part that nobody outside can know,
/// so that data which looks like a placeholder is not taken for one.
#[must_use]
pub fn placeholder(salt: &[u8; 32], secret: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"secret\0");
    hash.update(salt);
    format!("<secret {secret} {}>", &hex(&hash.finalize())[..16])
}

/// Writes bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
