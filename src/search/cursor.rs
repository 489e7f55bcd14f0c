//! Cursors: where a page ended, sealed. A cursor that was changed by one bit, or that belongs to another query, is refused.

use crate::outcome::Outcome;
use aes_gcm_siv::Aes256GcmSiv;
use aes_gcm_siv::Nonce;
use aes_gcm_siv::aead::Aead;
use aes_gcm_siv::aead::KeyInit;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

const NONCE_BYTES: usize = 12;

/// How many earlier pages a cursor leads back to, at most: it stands in an address.
const EARLIER_MAX: usize = 8;

/// The last row of a page, in the terms of the page's order: the next page begins after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The rows with a first sort key are all shown; those without follow.
    pub is_without_key: bool,
    pub keys: Vec<Option<String>>,
    pub rid: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Hash of the query that the cursor continues.
    pub query: i64,
    pub place: Place,
    /// Where the pages before this one begin, the nearest last; `None` is the first page.
    pub earlier: Vec<Option<Place>>,
}

impl Cursor {
    /// A cursor of rows that have no keys: after this row.
    pub fn at(query: i64, rid: i64) -> Cursor {
        let place = Place {
            is_without_key: false,
            keys: Vec::new(),
            rid,
        };
        Cursor {
            query,
            place,
            earlier: Vec::new(),
        }
    }

    /// The cursor of the page that begins at `place` and follows the page of `this`.
    pub fn next(this: Option<&Cursor>, query: i64, place: Place) -> Cursor {
        let mut earlier = this.map(|c| c.earlier.clone()).unwrap_or_default();
        earlier.push(this.map(|c| c.place.clone()));
        earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
        Cursor { query, place, earlier }
    }

    /// The page before this one: `None` when no more of the way is known, `Some(None)` for the first page.
    pub fn previous(&self) -> Option<Option<Cursor>> {
        let (place, earlier) = self.earlier.split_last()?;
        Some(place.clone().map(|place| Cursor {
            query: self.query,
            place,
            earlier: earlier.to_vec(),
        }))
    }
}

/// Seals and opens cursors with the repository's key.
pub struct CursorKey(Aes256GcmSiv);

impl CursorKey {
    /// `key` has 32 bytes. Errors: 500 if it has not.
    pub fn new(key: &[u8]) -> Result<CursorKey, Outcome> {
        Aes256GcmSiv::new_from_slice(key)
            .map(CursorKey)
            .map_err(|_| Outcome::internal("the cursor key has not 32 bytes"))
    }

    pub fn seal(&self, cursor: &Cursor) -> String {
        let plain = postcard::to_stdvec(cursor).expect("plain data serialises");
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let mut sealed = nonce.to_vec();
        sealed.extend(self.0.encrypt(Nonce::from_slice(&nonce), plain.as_slice()).expect("in memory"));
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Errors: 400 if the text is not a cursor of this repository for this query.
    pub fn open(&self, text: &str, query: i64) -> Result<Cursor, Outcome> {
        let error = || Outcome::invalid("The _cursor is not one that this server gave for this search: begin again at the first page");
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| error())?;
        if sealed.len() <= NONCE_BYTES {
            return Err(error());
        }
        let (nonce, sealed) = sealed.split_at(NONCE_BYTES);
        let plain = self.0.decrypt(Nonce::from_slice(nonce), sealed).map_err(|_| error())?;
        let cursor: Cursor = postcard::from_bytes(&plain).map_err(|_| error())?;
        if cursor.query == query { Ok(cursor) } else { Err(error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(rid: i64) -> Place {
        Place {
            is_without_key: false,
            keys: vec![Some("a".into()), None],
            rid,
        }
    }

    #[test]
    fn a_cursor_leads_back_over_a_few_pages() {
        let second = Cursor::next(None, 5, place(2));
        let third = Cursor::next(Some(&second), 5, place(3));
        assert_eq!(third.previous(), Some(Some(second.clone())));
        assert_eq!(second.previous(), Some(None));
        let deep = (4..100).fold(third, |cursor, rid| Cursor::next(Some(&cursor), 5, place(rid)));
        let mut back = deep;
        for rid in (91..99).rev() {
            back = back.previous().expect("known").expect("not the first");
            assert_eq!(back.place, place(rid));
        }
        assert_eq!(back.previous(), None);
    }

    #[test]
    fn a_cursor_opens_only_whole_and_for_its_own_query() {
        let key = CursorKey::new(&[7; 32]).expect("key");
        let cursor = Cursor {
            query: 5,
            place: place(42),
            earlier: vec![None],
        };
        let sealed = key.seal(&cursor);
        assert_eq!(key.open(&sealed, 5), Ok(cursor));
        assert!(key.open(&sealed, 6).is_err());
        for i in 0..sealed.len() {
            let mut edited = sealed.clone().into_bytes();
            edited[i] ^= 1;
            let edited = String::from_utf8(edited).expect("ascii");
            if edited != sealed {
                assert!(key.open(&edited, 5).is_err(), "byte {i}");
            }
        }
        for odd in ["", "x", "é", "AAAA"] {
            assert!(key.open(odd, 5).is_err());
        }
    }
}
