//! What a record is as bytes: version, flags, checksum, body.
//!
//! ```text
//! byte 0      version of the format, now 1
//! byte 1      flags; bit 0: the body is compressed with zstd, after its plain length in 4 bytes
//! bytes 2..6  CRC-32 of bytes 0, 1 and the body, little-endian
//! bytes 6..   body: postcard for events and rows, the bytes themselves for definitions
//! ```
//!
//! Nothing here knows where the bytes are kept. The numbers are those of version 1 for ever: a change of what is
//! written takes a new version, and the old one stays readable.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bundle::Bundle;
use crate::machine::event::Entry;
use crate::scratch;
use crate::teeth::{Bug, awake};

/// The version that is written, and the newest that is read.
pub const VERSION: u8 = 1;

/// Bytes before the body.
pub const HEADER: usize = 6;

/// From this size on a body is compressed.
pub const COMPRESS_FROM: usize = 16 << 10;

const COMPRESSED: u8 = 1;

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There are fewer bytes than a header has.
    #[error("the record is cut off after {0} bytes")]
    Short(usize),
    /// The record was written by a newer flowrun.
    #[error("the record has format {found}, this flowrun knows {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The flags have a bit that version 1 does not know.
    #[error("the record has unknown flags {0:#04x}")]
    Flags(u8),
    /// The bytes are not those that were written.
    #[error("the checksum does not match: the record was changed after it was written")]
    Checksum,
    /// The body does not unpack.
    #[error("the record does not unpack: {0}")]
    Compression(String),
    /// The body is not what is looked for.
    #[error("the record cannot be read: {0}")]
    Body(String),
    /// The body goes on after what is looked for.
    #[error("the record has {0} bytes too many")]
    Trailing(usize),
}

/// Returns an event as a record.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    encode_row(entry)
}

/// Returns events as the records of a commit.
#[must_use]
pub fn encode_all(entries: &[Entry]) -> Bundle {
    Bundle::written(entries, write_row)
}

/// Reads an event from a record.
///
/// # Errors
/// When `bytes` is not a whole, undamaged record of a known version.
pub fn decode(bytes: &[u8]) -> Result<Entry, FormatError> {
    decode_row(bytes)
}

/// Returns any row of the store's tables as a record.
pub(crate) fn encode_row(row: &impl Serialize) -> Vec<u8> {
    scratch::with(|bytes| {
        write_row(row, bytes);
        bytes.clone()
    })
}

/// Writes a row as a record behind `out`.
fn write_row(row: &impl Serialize, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER]);
    postcard::serialize_with_flavor(row, Behind(out))
        .expect("rows are structs, enums and sized lists, and a growing list takes any number of bytes");
    seal(out, begin);
}

/// Takes what postcard writes slice by slice; its own way of extending a list goes byte by byte.
struct Behind<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Behind<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Reads a row from a record.
pub(crate) fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    let body = open(bytes)?;
    let (row, rest) = postcard::take_from_bytes(&body).map_err(|e| FormatError::Body(e.to_string()))?;
    if rest.is_empty() { Ok(row) } else { Err(FormatError::Trailing(rest.len())) }
}

/// Returns bytes as a record.
pub(crate) fn encode_bytes(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&[0; HEADER]);
    bytes.extend_from_slice(body);
    seal(&mut bytes, 0);
    bytes
}

/// Reads bytes from a record.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    open(bytes).map(std::borrow::Cow::into_owned)
}

/// Makes the last of `bytes`, from `begin` on, a record: there are an empty header and the body. Compresses the body where
/// that pays.
fn seal(bytes: &mut Vec<u8>, begin: usize) {
    let body = begin + HEADER;
    if let Some((length, packed)) = compressed(&bytes[body..]) {
        bytes.truncate(body);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&packed);
        bytes[begin + 1] = COMPRESSED;
    }
    let record = &mut bytes[begin..];
    record[0] = VERSION;
    let sum = checksum(record).to_le_bytes();
    record[2..HEADER].copy_from_slice(&sum);
}

/// Returns the length of a body and what it is compressed to, if that pays.
fn compressed(body: &[u8]) -> Option<(u32, Vec<u8>)> {
    let length = u32::try_from(body.len()).ok()?;
    if body.len() < COMPRESS_FROM {
        return None;
    }
    let packed = zstd::bulk::compress(body, 1).ok()?;
    (packed.len() + 4 < body.len()).then_some((length, packed))
}

/// Checks the header of a record and returns its body.
fn open(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, FormatError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(FormatError::Short(bytes.len()));
    };
    let [version, flags, sum @ ..] = *header;
    // A newer version may compute its checksum in another way, so it is told apart first.
    if version != VERSION {
        return Err(FormatError::Version { found: version });
    }
    if checksum(bytes) != u32::from_le_bytes(sum) && !awake(Bug::ChecksumNotChecked) {
        return Err(FormatError::Checksum);
    }
    match flags {
        0 => Ok(body.into()),
        COMPRESSED => {
            let Some((length, packed)) = body.split_first_chunk::<4>() else {
                return Err(FormatError::Short(bytes.len()));
            };
            let length = u32::from_le_bytes(*length) as usize;
            // Room is taken for what the body itself says it unpacks to, and for nothing else.
            let said = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
            if said != Some(length as u64) {
                return Err(FormatError::Compression(format!("it is not {length} bytes")));
            }
            let plain = zstd::bulk::decompress(packed, length).map_err(|e| FormatError::Compression(e.to_string()))?;
            if plain.len() == length {
                Ok(plain.into())
            } else {
                Err(FormatError::Compression(format!("{} bytes instead of {length}", plain.len())))
            }
        }
        unknown => Err(FormatError::Flags(unknown)),
    }
}

/// Returns the checksum of a record over everything but the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&record[..2]);
    sum.update(&record[HEADER..]);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{ErrorKind, Failure};
    use crate::machine::event::{CallId, CallKind, Compensation, Conclusion, Event, Place, RunStarted, Status};
    use crate::payload::Payload;
    use crate::time::Timestamp;
    use serde_json::json;

    fn call() -> CallId {
        CallId { place: Place { step: "charge".into(), item: Some(2) }, member: 1, kind: CallKind::Forward }
    }

    fn samples() -> Vec<Entry> {
        let at = Timestamp(1_764_000_000_000);
        let error = Failure {
            details: Some(Payload::of(json!({ "limit": 5 }))),
            retry_after_ms: Some(1500),
            ..Failure::new("payment.declined", ErrorKind::Permanent, "no funds")
        };
        let started = RunStarted {
            id: "order-1".into(),
            workflow: "ecommerce-order".into(),
            definition: [7; 32],
            input: Payload::of(json!({ "orderId": "A-1", "price": 29.99 })),
            salt: [9; 32],
            deadline: Some(Timestamp(1_764_000_003_600)),
        };
        let conclusion = Conclusion {
            status: Status::Failed,
            compensation: Compensation::Complete,
            output: None,
            error: Some(error.clone()),
        };
        [
            Event::RunStarted(Box::new(started)),
            Event::CallStarted {
                call: call(),
                via: "primary".into(),
                attempt: 1,
                until: at,
                input: Some(Payload::of(json!({ "amount": 10_997 }))),
                probe: false,
            },
            Event::CallFailed { call: call(), attempt: 1, error, retry_at: Some(Timestamp(-1)) },
            Event::RunFinished(Box::new(conclusion)),
        ]
        .map(|event| Entry { at, event })
        .into()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The bytes of version 1. If this fails, journals of released versions cannot be read any more: take a new
    /// version, and keep this one readable.
    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let golden = include_str!("format_v1.hex");
        let now: Vec<String> = samples().iter().map(|entry| hex(&encode(entry))).collect();
        assert_eq!(now, golden.lines().collect::<Vec<_>>(), "\n{}\n", now.join("\n"));
    }

    #[test]
    fn what_was_written_is_read_back() {
        for entry in samples() {
            assert_eq!(decode(&encode(&entry)), Ok(entry));
        }
    }

    #[test]
    fn large_bodies_are_compressed_and_small_or_dense_ones_are_not() {
        let with_text = |text: String| Entry {
            at: Timestamp(0),
            event: Event::CallSucceeded { call: call(), attempt: 1, output: Payload::of(json!(text)) },
        };
        let large = with_text("a".repeat(COMPRESS_FROM));
        let record = encode(&large);
        assert_eq!(record[1], 1);
        assert!(record.len() < 200, "{}", record.len());
        assert_eq!(decode(&record), Ok(large));

        assert_eq!(encode(&with_text("a".repeat(COMPRESS_FROM - 100)))[1], 0);

        let mut state = 1_u64;
        let dense: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(COMPRESS_FROM)
        .collect();
        let record = encode_bytes(&dense);
        assert_eq!(record[1], 0);
        assert_eq!(decode_bytes(&record), Ok(dense));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for entry in samples() {
            let record = encode(&entry);
            for bit in 0..record.len() * 8 {
                let mut damaged = record.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&damaged).is_err(), "bit {bit} of {}", hex(&record));
            }
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed() {
        let record = encode(&samples()[0]);
        for length in 0..record.len() {
            assert!(decode(&record[..length]).is_err());
        }
        assert_eq!(decode(&[]), Err(FormatError::Short(0)));
        let longer = [record, vec![0]].concat();
        assert_eq!(decode(&longer), Err(FormatError::Checksum));
    }

    #[test]
    fn what_is_not_version_1_is_told_apart_from_damage() {
        let mut record = encode(&samples()[0]);
        record[0] = 2;
        assert_eq!(decode(&record), Err(FormatError::Version { found: 2 }));

        let mut flagged = encode(&samples()[0]);
        flagged[1] = 0b10;
        let sum = checksum(&flagged).to_le_bytes();
        flagged[2..HEADER].copy_from_slice(&sum);
        assert_eq!(decode(&flagged), Err(FormatError::Flags(2)));

        let mut too_long = [&[0; HEADER][..], &postcard::to_stdvec(&samples()[0]).expect("it encodes"), &[0]].concat();
        seal(&mut too_long, 0);
        assert_eq!(decode(&too_long), Err(FormatError::Trailing(1)));

        let nonsense = encode_bytes(&[0xff; 3]);
        assert!(matches!(decode(&nonsense), Err(FormatError::Body(_))));
    }

    #[test]
    fn a_false_length_of_a_compressed_body_is_refused() {
        let mut record = encode_bytes(&[0; COMPRESS_FROM]);
        record[HEADER] ^= 1;
        let sum = checksum(&record).to_le_bytes();
        record[2..HEADER].copy_from_slice(&sum);
        assert!(matches!(decode_bytes(&record), Err(FormatError::Compression(_))));
    }
}
