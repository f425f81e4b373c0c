//! Tickets: signed, short-lived permission for one user to order one offer.
//!
//! The secret part of a purchase URL. Its text holds all claims and a MAC, so checking needs no
//! I/O. The ledger limits a ticket to one order by recording its nonce in the reserve step.
//!
//! ```
//! use std::time::Duration;
//! use flashsale_core::{domain::*, admission::{Claims, TicketKey, TicketKeys}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = TicketKeys::new(TicketKey::new(1, [7; 32])?, [])?;
//! let claims = Claims {
//!     activity: ActivityId::new(1).ok_or("id")?,
//!     sku: SkuId::new(2).ok_or("id")?,
//!     user: UserId::new(3).ok_or("id")?,
//!     user_name: Name::new("李雷")?,
//!     device: None,
//! };
//! let now = SystemClock.now();
//! let issued = keys.issue(claims.clone(), now, now.after(Duration::from_secs(60)))?;
//! let ticket = keys.verify(&issued.text, now, None)?;
//! assert_eq!(ticket.claims, claims);
//! assert!(!ticket.expired);
//! # Ok(()) }
//! ```

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use crate::domain::{ActivityId, Invalid, Name, Nonce, SkuId, SubjectId, Timestamp, UserId, Window};

/// The version of the text that [`TicketKeys::issue`] writes; increase it when fields change.
const VERSION: u8 = 1;
/// Separates these MACs from other uses of the same key.
const CONTEXT: &str = "flashsale ticket v1: MAC of an issued ticket";
const BOUND: u8 = 1;
/// Bytes of the MAC. The at most 9 bytes that it covers after the body temporarily use its space.
const MAC: usize = 16;
/// Bytes before a body that the MAC covers: the body's length.
const PREFIX: usize = 2;
/// Version, key id, flags.
const HEAD: usize = 1 + 4 + 1;
/// Head, activity, SKU, user, nonce, issued, expires, length of the name.
const FIXED: usize = HEAD + 6 * 8 + 2;
/// A name has at most 120 characters of at most 4 bytes.
const LONGEST: usize = FIXED + 4 * 120 + MAC;
const LONGEST_TEXT: usize = LONGEST.div_ceil(3) * 4;

/// The claims of a ticket: what it permits, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The activity of the offer.
    pub activity: ActivityId,
    /// The SKU of the offer.
    pub sku: SkuId,
    /// The buyer.
    pub user: UserId,
    /// The buyer's name, readable by anyone who has the ticket.
    pub user_name: Name,
    /// The device that must present the ticket, or `None` for any. Not contained in the text.
    pub device: Option<SubjectId>,
}

/// An authentic ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its claims.
    pub claims: Claims,
    /// Its number, which may create one order.
    pub nonce: Nonce,
    /// When it was issued, by the issuer's clock.
    pub issued_at: Timestamp,
    /// The first moment at which it creates no new order.
    pub expires_at: Timestamp,
    /// Whether it has expired, so that it may only replay the order it created.
    pub expired: bool,
}

/// A ticket ready to be sent to the buyer.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedTicket {
    /// The text for the URL: 98 to 736 letters, digits, `-` and `_`. A credential: do not log it.
    pub text: String,
    /// Its number.
    pub nonce: Nonce,
    /// The first moment at which it creates no order.
    pub expires_at: Timestamp,
}

impl fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTicket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The reason why a ticket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Not a ticket: wrong length or characters, or trailing bits that are not zero.
    #[error("this is not a ticket; request a new one")]
    Malformed,
    /// Issued by an unknown version of this software.
    #[error("the ticket has version {0}, but this server supports version {VERSION}; request a new one")]
    UnknownVersion(u8),
    /// Signed with a key that is not, or no longer, accepted.
    #[error("the ticket's key {0} is not accepted here; request a new one")]
    UnknownKey(u32),
    /// The MAC does not match: altered, forged, or presented by another device.
    #[error("the ticket is not authentic for this request; request a new one on the ordering device")]
    NotAuthentic,
}

/// A secret key that signs tickets, with a public id.
#[derive(Clone)]
pub struct TicketKey {
    id: u32,
    mac: [u8; 32],
}

impl TicketKey {
    /// Creates a key from 32 secret random bytes. The id is public; a new key needs a new id.
    ///
    /// # Errors
    /// If all bytes are zero, because nobody set the key.
    pub fn new(id: u32, bytes: [u8; 32]) -> Result<Self, Invalid> {
        if bytes == [0; 32] {
            return Err(Invalid::new("ticket_key", format!("key {id} is all zero: use 32 random bytes")));
        }
        Ok(Self { id, mac: blake3::derive_key(CONTEXT, &bytes) })
    }

    /// Generates a random key, for a server whose tickets need not outlive the process.
    ///
    /// # Errors
    /// If the operating system provides no randomness.
    pub fn random(id: u32) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self { id, mac: blake3::derive_key(CONTEXT, &bytes) })
    }

    /// Returns the id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Computes the MAC of `body` bytes at [`PREFIX`] in `frame`, overwriting the bytes around.
    ///
    /// Every variable part is prefixed with its length and all other fields have fixed sizes, so
    /// the input is unambiguous. It is one slice because hashing parts costs twice as much.
    fn mac(&self, frame: &mut [u8], body: usize, device: Option<SubjectId>) -> [u8; MAC] {
        let length = u16::try_from(body).expect("a ticket is shorter than 64 KiB");
        frame[..PREFIX].copy_from_slice(&length.to_be_bytes());
        let suffix = &mut frame[PREFIX + body..];
        let suffix_length = match device {
            None => {
                suffix[0] = 0;
                1
            }
            Some(device) => {
                suffix[0] = 8;
                suffix[1..9].copy_from_slice(&device.0.to_be_bytes());
                9
            }
        };
        let digest = blake3::keyed_hash(&self.mac, &frame[..PREFIX + body + suffix_length]);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&digest.as_bytes()[..MAC]);
        mac
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", self.id)
    }
}

/// The key that signs, and further keys that are accepted.
///
/// To rotate without refusing tickets: accept the new key in every process, then sign with it and
/// accept the old one, and remove the old one once its last ticket has expired.
#[derive(Clone, Debug)]
pub struct TicketKeys {
    signing: TicketKey,
    accepted: Vec<TicketKey>,
}

impl TicketKeys {
    /// Creates a set of keys; the signing key is also accepted.
    ///
    /// # Errors
    /// If two keys share an id.
    pub fn new(signing: TicketKey, accepted: impl IntoIterator<Item = TicketKey>) -> Result<Self, Invalid> {
        let accepted: Vec<_> = accepted.into_iter().collect();
        for (position, key) in accepted.iter().enumerate() {
            if key.id == signing.id || accepted[..position].iter().any(|other| other.id == key.id) {
                return Err(Invalid::new(
                    "ticket_keys",
                    format!("two keys have the id {}: give each its own", key.id),
                ));
            }
        }
        Ok(Self { signing, accepted })
    }

    /// Signs a ticket with a fresh nonce.
    ///
    /// # Errors
    /// If the operating system provides no randomness.
    pub fn issue(
        &self,
        claims: Claims,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<IssuedTicket, getrandom::Error> {
        let nonce = Nonce(getrandom::u64()?);
        let ticket = Ticket { claims, nonce, issued_at: now, expires_at, expired: false };
        Ok(IssuedTicket { text: self.sign(&ticket), nonce, expires_at })
    }

    /// Verifies a ticket presented by `device`; marks an expired ticket instead of refusing it.
    ///
    /// Any device may present a ticket that is not bound to one.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub fn verify(
        &self,
        text: &str,
        now: Timestamp,
        device: Option<SubjectId>,
    ) -> Result<Ticket, TicketError> {
        if text.len() > LONGEST_TEXT {
            return Err(TicketError::Malformed);
        }
        let mut frame = [0; PREFIX + LONGEST + 3];
        // The decoder rejects padding, other alphabets and trailing bits: a ticket has one text.
        let length =
            URL_SAFE_NO_PAD.decode_slice(text, &mut frame[PREFIX..]).map_err(|_| TicketError::Malformed)?;
        let (body, mac) = frame[PREFIX..PREFIX + length].split_last_chunk().ok_or(TicketError::Malformed)?;
        let (body_length, mac) = (body.len(), <[u8; MAC]>::clone(mac));

        let mut fields = Fields(body);
        let [version] = fields.take()?;
        if version != VERSION {
            return Err(TicketError::UnknownVersion(version));
        }
        let key_id = u32::from_be_bytes(fields.take()?);
        let key = self.key(key_id).ok_or(TicketError::UnknownKey(key_id))?;
        let [flags] = fields.take()?;
        let device = device.filter(|_| flags & BOUND != 0);
        let expected = key.mac(&mut frame, body_length, device);
        if !bool::from(expected.ct_eq(&mac)) {
            return Err(TicketError::NotAuthentic);
        }

        let mut fields = Fields(&frame[PREFIX + HEAD..PREFIX + body_length]);
        let activity = ActivityId::new(fields.number()?);
        let sku = SkuId::new(fields.number()?);
        let user = UserId::new(fields.number()?);
        let nonce = Nonce(fields.number()?);
        let issued_at = Timestamp::from_millis(fields.number()?);
        let expires_at = Timestamp::from_millis(fields.number()?);
        let user_name = fields.name()?;
        let (Some(activity), Some(sku), Some(user)) = (activity, sku, user) else {
            return Err(TicketError::Malformed);
        };
        let claims = Claims { activity, sku, user, user_name, device };
        Ok(Ticket { claims, nonce, issued_at, expires_at, expired: now >= expires_at })
    }

    fn key(&self, id: u32) -> Option<&TicketKey> {
        if self.signing.id == id {
            Some(&self.signing)
        } else {
            self.accepted.iter().find(|key| key.id == id)
        }
    }

    fn sign(&self, ticket: &Ticket) -> String {
        let claims = &ticket.claims;
        let name = claims.user_name.as_bytes();
        let mut frame = Vec::with_capacity(PREFIX + FIXED + name.len() + MAC);
        frame.extend([0; PREFIX]);
        frame.push(VERSION);
        frame.extend(self.signing.id.to_be_bytes());
        frame.push(if claims.device.is_some() { BOUND } else { 0 });
        for number in [
            claims.activity.value(),
            claims.sku.value(),
            claims.user.value(),
            ticket.nonce.0,
            ticket.issued_at.as_millis(),
            ticket.expires_at.as_millis(),
        ] {
            frame.extend(number.to_be_bytes());
        }
        let length = u16::try_from(name.len()).expect("a name has at most 480 bytes");
        frame.extend(length.to_be_bytes());
        frame.extend(name);
        let body = frame.len() - PREFIX;
        frame.extend([0; MAC]);
        let mac = self.signing.mac(&mut frame, body, claims.device);
        frame[PREFIX + body..].copy_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(&frame[PREFIX..])
    }
}

/// When tickets are issued, and how long they are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketTerms {
    /// How long before the start of an activity tickets become available. Default 1 minute.
    pub lead: Duration,
    /// How long a ticket is valid, from its issue or the start if that is later. Default 2 minutes.
    pub life: Duration,
}

impl Default for TicketTerms {
    fn default() -> Self {
        Self { lead: Duration::from_secs(60), life: Duration::from_secs(120) }
    }
}

impl TicketTerms {
    /// Returns the first moment at which tickets for `window` are issued.
    pub fn opens_at(&self, window: &Window) -> Timestamp {
        window.starts_at().before(self.lead)
    }

    /// Returns the expiry of a ticket issued `now`, within the window; `None` if too early.
    pub fn expiry(&self, window: &Window, now: Timestamp) -> Option<Timestamp> {
        let begins = window.starts_at().max(now);
        (now >= self.opens_at(window)).then(|| begins.after(self.life).min(window.ends_at()))
    }
}

/// The unread rest of a body.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(TicketError::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    fn number(&mut self) -> Result<u64, TicketError> {
        self.take().map(u64::from_be_bytes)
    }

    /// Reads the name, which is the last field.
    fn name(&mut self) -> Result<Name, TicketError> {
        let length = u16::from_be_bytes(self.take()?);
        if self.0.len() != usize::from(length) {
            return Err(TicketError::Malformed);
        }
        str::from_utf8(self.0).ok().and_then(|name| Name::new(name).ok()).ok_or(TicketError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn keys() -> TicketKeys {
        TicketKeys::new(TicketKey::new(1, [7; 32]).unwrap(), []).unwrap()
    }

    fn claims(device: Option<u64>) -> Claims {
        Claims {
            activity: ActivityId::new(11).unwrap(),
            sku: SkuId::new(22).unwrap(),
            user: UserId::new(33).unwrap(),
            user_name: Name::new("李雷 \u{1F389}").unwrap(),
            device: device.map(SubjectId),
        }
    }

    fn issued(device: Option<u64>) -> String {
        keys().issue(claims(device), at(1_000), at(2_000)).unwrap().text
    }

    fn sealed(body: &[u8], device: Option<SubjectId>) -> String {
        let mut frame = [&[0; PREFIX], body, &[0; MAC]].concat();
        let mac = keys().signing.mac(&mut frame, body.len(), device);
        URL_SAFE_NO_PAD.encode([body, &mac].concat())
    }

    #[test]
    fn a_ticket_says_what_was_claimed() {
        let keys = keys();
        let issued = keys.issue(claims(None), at(1_000), at(2_000)).unwrap();
        let ticket = keys.verify(&issued.text, at(1_999), None).unwrap();
        assert_eq!(ticket.claims, claims(None));
        assert_eq!((ticket.issued_at, ticket.expires_at, ticket.expired), (at(1_000), at(2_000), false));
        assert_eq!(ticket.nonce, issued.nonce);
        assert_ne!(keys.issue(claims(None), at(1_000), at(2_000)).unwrap().nonce, issued.nonce);
        assert!(issued.text.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn an_expired_ticket_is_marked_and_not_refused() {
        let ticket = keys().verify(&issued(None), at(2_000), None).unwrap();
        assert!(ticket.expired);
        assert_eq!(ticket.claims, claims(None));
    }

    #[test]
    fn a_bound_ticket_needs_its_device() {
        let text = issued(Some(5));
        let ticket = keys().verify(&text, at(1_000), Some(SubjectId(5))).unwrap();
        assert_eq!(ticket.claims.device, Some(SubjectId(5)));
        for other in [None, Some(SubjectId(6)), Some(SubjectId(0))] {
            assert_eq!(keys().verify(&text, at(1_000), other), Err(TicketError::NotAuthentic));
        }
        let free = keys().verify(&issued(None), at(1_000), Some(SubjectId(5))).unwrap();
        assert_eq!(free.claims.device, None, "any device can present an unbound ticket");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for device in [None, Some(5)] {
            let text = issued(device);
            let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let altered = URL_SAFE_NO_PAD.encode(bytes);
                for presented in [None, Some(SubjectId(5))] {
                    assert!(keys().verify(&altered, at(1_000), presented).is_err(), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn every_other_character_is_refused_everywhere() {
        let text = issued(None);
        for position in 0..text.len() {
            for other in (0..128_u8).filter(|other| *other != text.as_bytes()[position]) {
                let mut bytes = text.clone().into_bytes();
                bytes[position] = other;
                let altered = String::from_utf8(bytes).unwrap();
                assert!(keys().verify(&altered, at(1_000), None).is_err(), "{other} at {position}");
            }
        }
    }

    #[test]
    fn a_ticket_has_one_text() {
        // Names of three lengths, so that the text ends with 0, 4 and 2 bits that must be zero.
        for name in ["abc", "abcd", "abcde"] {
            let claims = Claims { user_name: Name::new(name).unwrap(), ..claims(None) };
            let text = keys().issue(claims, at(1_000), at(2_000)).unwrap().text;
            assert!(keys().verify(&text, at(1_000), None).is_ok());
            for length in 0..text.len() {
                assert!(keys().verify(&text[..length], at(1_000), None).is_err(), "{length}");
                assert!(keys().verify(&text[length + 1..], at(1_000), None).is_err(), "{length}");
            }
            for longer in ["=", "==", "A", "AA", "AAAA", " ", "\n", "."] {
                assert!(keys().verify(&format!("{text}{longer}"), at(1_000), None).is_err(), "{longer:?}");
            }
            let last = ALPHABET.iter().position(|byte| *byte == text.as_bytes()[text.len() - 1]).unwrap();
            for other in (0..64).filter(|other| *other != last) {
                let altered = format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[other]));
                assert!(keys().verify(&altered, at(1_000), None).is_err());
            }
        }
    }

    #[test]
    fn swapped_fields_are_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(issued(None)).unwrap();
        // The six numbers follow version, key id and flags.
        for first in 0..6 {
            for second in first + 1..6 {
                let mut bytes = bytes.clone();
                for byte in 0..8 {
                    bytes.swap(6 + first * 8 + byte, 6 + second * 8 + byte);
                }
                let altered = URL_SAFE_NO_PAD.encode(bytes);
                assert_eq!(
                    keys().verify(&altered, at(1_000), None),
                    Err(TicketError::NotAuthentic),
                    "{first} {second}"
                );
            }
        }
    }

    #[test]
    fn a_device_cannot_pass_for_the_end_of_a_name() {
        let free = URL_SAFE_NO_PAD.decode(issued(None)).unwrap();
        let bound = URL_SAFE_NO_PAD.decode(issued(Some(5))).unwrap();
        for bytes in [&free, &bound] {
            let (body, mac) = bytes.split_last_chunk::<MAC>().unwrap();
            let moved = [body, &[8], &5_u64.to_be_bytes(), mac].concat();
            let text = URL_SAFE_NO_PAD.encode(moved);
            assert!(keys().verify(&text, at(1_000), None).is_err());
            assert!(keys().verify(&text, at(1_000), Some(SubjectId(5))).is_err());
        }
    }

    #[test]
    fn keys_rotate() {
        let (old, new) = (TicketKey::new(1, [7; 32]).unwrap(), TicketKey::new(2, [8; 32]).unwrap());
        let before = TicketKeys::new(old.clone(), [new.clone()]).unwrap();
        let during = TicketKeys::new(new.clone(), [old.clone()]).unwrap();
        let after = TicketKeys::new(new, []).unwrap();
        let text = issued(None);
        let newer = during.issue(claims(None), at(1_000), at(2_000)).unwrap().text;
        assert!(before.verify(&text, at(1_000), None).is_ok());
        assert!(
            before.verify(&newer, at(1_000), None).is_ok(),
            "a process that still signs with the old key"
        );
        assert!(during.verify(&text, at(1_000), None).is_ok());
        assert_eq!(after.verify(&text, at(1_000), None), Err(TicketError::UnknownKey(1)));
        assert!(after.verify(&newer, at(1_000), None).is_ok());
        let other = TicketKeys::new(TicketKey::new(1, [9; 32]).unwrap(), []).unwrap();
        assert_eq!(other.verify(&text, at(1_000), None), Err(TicketError::NotAuthentic));
        assert!(TicketKeys::new(old.clone(), [old]).is_err(), "one id, one key");
        assert!(TicketKey::new(1, [0; 32]).is_err(), "a key that was not set");
    }

    #[test]
    fn a_signed_body_is_read_strictly() {
        let bytes = URL_SAFE_NO_PAD.decode(issued(None)).unwrap();
        let body = &bytes[..bytes.len() - MAC];
        assert!(keys().verify(&sealed(body, None), at(1_000), None).is_ok());
        for (what, at_byte, value) in [("version", 0, 2), ("length of the name", FIXED - 1, 1)] {
            let mut body = body.to_vec();
            body[at_byte] = value;
            assert!(keys().verify(&sealed(&body, None), at(1_000), None).is_err(), "{what}");
        }
        let mut without_activity = body.to_vec();
        without_activity[6..14].fill(0);
        assert!(keys().verify(&sealed(&without_activity, None), at(1_000), None).is_err());
        assert!(keys().verify(&sealed(&[body, b"x"].concat(), None), at(1_000), None).is_err());
        assert!(keys().verify(&sealed(&body[..FIXED - 1], None), at(1_000), None).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let ring = keys();
        let issued = ring.issue(claims(None), at(1_000), at(2_000)).unwrap();
        assert_eq!(format!("{ring:?}"), "TicketKeys { signing: TicketKey(1), accepted: [] }");
        assert!(!format!("{issued:?}").contains(&issued.text));
    }

    #[test]
    fn the_longest_name_fits() {
        let claims = Claims { user_name: Name::new(&"\u{1F389}".repeat(120)).unwrap(), ..claims(None) };
        let text = keys().issue(claims.clone(), at(1_000), at(2_000)).unwrap().text;
        assert!(text.len() <= 736, "{}", text.len());
        assert_eq!(keys().verify(&text, at(1_000), None).unwrap().claims, claims);
        assert_eq!(keys().verify(&"A".repeat(100_000), at(1_000), None), Err(TicketError::Malformed));
    }

    #[test]
    fn a_hundred_thousand_mutations_are_refused() {
        let mut random = fastrand::Rng::with_seed(0x7169);
        let keys = keys();
        let originals = [issued(None), issued(Some(5))];
        let mut tried = 0;
        while tried < 100_000 {
            let original = &originals[tried % 2];
            let altered = mutate(original, &originals[(tried + 1) % 2], &mut random);
            if originals.contains(&altered) {
                continue;
            }
            tried += 1;
            let device = random.bool().then_some(SubjectId(5));
            let accepted = keys.verify(&altered, at(1_000), device);
            assert!(accepted.is_err(), "{altered} instead of {original}");
        }
    }

    fn mutate(text: &str, other: &str, random: &mut fastrand::Rng) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let position = random.usize(0..bytes.len());
            match random.u8(0..6) {
                0 => bytes[position] = ALPHABET[random.usize(0..64)],
                1 => bytes.insert(position, ALPHABET[random.usize(0..64)]),
                2 if bytes.len() > 1 => drop(bytes.remove(position)),
                3 => bytes.truncate(position.max(1)),
                4 => {
                    let tail = &other.as_bytes()[position.min(other.len())..];
                    bytes.truncate(position.max(1));
                    bytes.extend_from_slice(tail);
                }
                _ => {
                    let second = random.usize(0..bytes.len());
                    bytes.swap(position, second);
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn tickets_open_before_the_start_and_live_into_the_window() {
        let terms = TicketTerms { lead: Duration::from_millis(100), life: Duration::from_millis(50) };
        let window = Window::new(at(1_000), at(2_000)).unwrap();
        assert_eq!(terms.opens_at(&window), at(900));
        assert_eq!(terms.expiry(&window, at(899)), None);
        assert_eq!(terms.expiry(&window, at(900)), Some(at(1_050)), "usable when the sale starts");
        assert_eq!(terms.expiry(&window, at(1_500)), Some(at(1_550)));
        assert_eq!(terms.expiry(&window, at(1_990)), Some(at(2_000)));
    }

    proptest! {
        #[test]
        fn any_claims_round_trip(
            ids in prop::array::uniform3(1..=i64::MAX as u64),
            name in "\\PC{1,120}",
            device: Option<u64>,
            times in prop::array::uniform3(0..=i64::MAX as u64),
        ) {
            prop_assume!(Name::new(&name).is_ok());
            let claims = Claims {
                activity: ActivityId::new(ids[0]).unwrap(),
                sku: SkuId::new(ids[1]).unwrap(),
                user: UserId::new(ids[2]).unwrap(),
                user_name: Name::new(&name).unwrap(),
                device: device.map(SubjectId),
            };
            let [issued_at, expires_at, now] = times.map(Timestamp::from_millis);
            let issued = keys().issue(claims.clone(), issued_at, expires_at).unwrap();
            let ticket = keys().verify(&issued.text, now, claims.device).unwrap();
            prop_assert_eq!(
                ticket,
                Ticket { claims, nonce: issued.nonce, issued_at, expires_at, expired: now >= expires_at }
            );
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            prop_assert!(keys().verify(&text, at(0), None).is_err());
        }
    }
}
