//! Cursors: one that was sealed opens as what it was, for its own query; with any byte changed, added or taken away it is refused, and so is
//! what never was a cursor.

use eds::search::cursor::Cursor;
use eds::search::cursor::CursorKey;
use eds::search::cursor::Place;
use std::sync::LazyLock;

/// Of another repository: nothing is sealed with it. (A fuzzer sees what is compared, and tries the seals of `KEY`.)
static OTHER_KEY: LazyLock<CursorKey> = LazyLock::new(|| CursorKey::new(&[9; 32]).expect("32 bytes"));
static KEY: LazyLock<CursorKey> = LazyLock::new(|| CursorKey::new(&[7; 32]).expect("32 bytes"));

/// The first bytes say what to do with the seal: a query, a place, and what to put there. The rest is the cursor's key.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(OTHER_KEY.open(text, 0).is_err(), "nobody sealed it");
    let [query, how, place, byte, ..] = *data else { return };
    let key = text.get(4..).unwrap_or_default();
    let begins = Place {
        is_without_key: how & 1 == 1,
        keys: key.split('\n').map(|k| (!k.is_empty()).then(|| k.to_owned())).collect(),
        rid: i64::from_le_bytes([place, byte, how, query, 0, 0, 0, place]),
    };
    let cursor = Cursor::next(None, i64::from(query), begins);
    let sealed = KEY.seal(&cursor);
    assert_eq!(KEY.open(&sealed, cursor.query).as_ref(), Ok(&cursor));
    assert!(KEY.open(&sealed, cursor.query + 1).is_err(), "it is of another query");
    let mut bytes = sealed.clone().into_bytes();
    let place = usize::from(place) % bytes.len();
    match how >> 1 & 3 {
        0 => bytes[place] = byte,
        1 => bytes.insert(place, byte),
        2 => drop(bytes.remove(place)),
        _ => bytes.truncate(place),
    }
    if let Ok(changed) = String::from_utf8(bytes)
        && changed != sealed
    {
        assert!(KEY.open(&changed, cursor.query).is_err(), "{changed} was {sealed}");
    }
}
