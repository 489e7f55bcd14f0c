//! Bodies at rest: zstd with a dictionary trained per resource type on what the repository itself has received.
//!
//! A type gets its dictionary after [`SAMPLES_MIN`] resources; what was written before stays readable as it is. Dictionaries are rows
//! of the `dictionary` table, never changed; a body names its own. They live for the life of the process, a few dozen at most.

use crate::outcome::Outcome;
use sqlx::PgExecutor;
use sqlx::PgPool;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::RwLock;
use zstd::bulk::Compressor;
use zstd::bulk::Decompressor;
use zstd::dict::DecoderDictionary;
use zstd::dict::EncoderDictionary;

/// Samples that a dictionary is trained on.
pub const SAMPLES_MIN: usize = 400;
/// Bytes of one dictionary: beyond this the gain is small and start-up slower.
const DICTIONARY_BYTES_MAX: usize = 32 << 10;
const LEVEL: i32 = 3;
/// Far above any body we accept: bounds what a damaged row could ask for.
const BODY_BYTES_MAX: usize = 256 << 20;

struct Dictionary {
    id: i16,
    encoder: EncoderDictionary<'static>,
    decoder: DecoderDictionary<'static>,
}

/// Compresses and decompresses; shared by all that read and write.
#[derive(Default)]
pub struct Bodies {
    by_id: RwLock<HashMap<i16, &'static Dictionary>>,
    by_type: RwLock<HashMap<i16, &'static Dictionary>>,
    samples: Mutex<HashMap<i16, Vec<Vec<u8>>>>,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    static PLAIN: RefCell<Option<(Compressor<'static>, Decompressor<'static>)>> = const { RefCell::new(None) };
}

impl Bodies {
    /// Reads the dictionaries of the database.
    pub async fn load(pool: &PgPool) -> Result<Bodies, sqlx::Error> {
        let bodies = Bodies::default();
        for (id, type_number, content) in fetch(pool, &[]).await? {
            bodies.add(id, type_number, &content);
        }
        Ok(bodies)
    }

    fn add(&self, id: i16, type_number: i16, content: &[u8]) {
        // Leaked on purpose: thread-local contexts refer to it until the process ends, and there are few.
        let dictionary: &'static Dictionary = Box::leak(Box::new(Dictionary {
            id,
            encoder: EncoderDictionary::copy(content, LEVEL),
            decoder: DecoderDictionary::copy(content),
        }));
        self.by_id.write().expect("not poisoned").insert(id, dictionary);
        let mut by_type = self.by_type.write().expect("not poisoned");
        if by_type.get(&type_number).is_none_or(|known| known.id < id) {
            by_type.insert(type_number, dictionary);
        }
    }

    /// The body to store, and the id of its dictionary (0 for none).
    pub fn compress(&self, type_number: i16, text: &str) -> (i16, Vec<u8>) {
        let dictionary = self.by_type.read().expect("not poisoned").get(&type_number).copied();
        match dictionary {
            Some(dictionary) => (dictionary.id, compress_with(dictionary, text)),
            None => {
                self.collect(type_number, text);
                (
                    0,
                    with_plain(|(compressor, _)| compressor.compress(text.as_bytes())).expect("memory suffices"),
                )
            }
        }
    }

    /// The kept text of a body. Errors: 500 when the row is damaged.
    pub fn decompress(&self, dictionary: i16, body: &[u8]) -> Result<String, Outcome> {
        let capacity = Decompressor::upper_bound(body).unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
        let bytes = if dictionary == 0 {
            with_plain(|(_, decompressor)| decompressor.decompress(body, capacity))
        } else {
            let known = self.by_id.read().expect("not poisoned").get(&dictionary).copied();
            let known = known.ok_or_else(|| Outcome::internal(format!("dictionary {dictionary} is not loaded")))?;
            decompress_with(known, body, capacity)
        };
        let bytes = bytes.map_err(|e| Outcome::internal(format!("a stored body does not decompress: {e}")))?;
        String::from_utf8(bytes).map_err(|_| Outcome::internal("a stored body is not UTF-8"))
    }

    /// Makes sure that these dictionaries are here: another node may have trained one since.
    pub async fn learn<'e>(&self, executor: impl PgExecutor<'e>, mut wanted: impl Iterator<Item = i16>) -> Result<(), sqlx::Error> {
        let is_unknown = |id| id != 0 && !self.by_id.read().expect("not poisoned").contains_key(&id);
        match wanted.any(is_unknown) {
            true => self.refresh(executor).await,
            false => Ok(()),
        }
    }

    /// Reads the dictionaries that another node has added.
    async fn refresh<'e>(&self, executor: impl PgExecutor<'e>) -> Result<(), sqlx::Error> {
        let known: Vec<i16> = self.by_id.read().expect("not poisoned").keys().copied().collect();
        for (id, type_number, content) in fetch(executor, &known).await? {
            self.add(id, type_number, &content);
        }
        Ok(())
    }

    fn collect(&self, type_number: i16, text: &str) {
        let mut samples = self.samples.lock().expect("not poisoned");
        let of_type = samples.entry(type_number).or_default();
        if of_type.len() < SAMPLES_MIN {
            of_type.push(text.as_bytes()[..text.len().min(8 << 10)].to_vec());
        }
    }

    /// Trains a dictionary for each type that has samples enough, and stores it. Returns how many.
    pub async fn train(&self, pool: &PgPool) -> Result<usize, sqlx::Error> {
        let ready: Vec<(i16, Vec<Vec<u8>>)> = {
            let mut samples = self.samples.lock().expect("not poisoned");
            let full: Vec<i16> = samples.iter().filter(|(_, s)| s.len() >= SAMPLES_MIN).map(|(t, _)| *t).collect();
            full.into_iter().filter_map(|t| samples.remove(&t).map(|s| (t, s))).collect()
        };
        let mut trained = 0;
        for (type_number, samples) in ready {
            let content = tokio::task::spawn_blocking(move || zstd::dict::from_samples(&samples, DICTIONARY_BYTES_MAX)).await;
            // Too uniform or too small samples cannot be trained on: the type stays without, which costs only space.
            let Ok(Ok(content)) = content else { continue };
            let id: Option<i16> = sqlx::query_scalar(
                "with lock as materialized (select pg_advisory_xact_lock(4242001))
                 insert into dictionary (id, type, content)
                 select (select coalesce(max(id), 0) + 1 from dictionary), $1, $2 from lock
                 where not exists (select from dictionary where type = $1)
                 on conflict do nothing
                 returning id",
            )
            .bind(type_number)
            .bind(&content)
            .fetch_optional(pool)
            .await?;
            match id {
                Some(id) => {
                    self.add(id, type_number, &content);
                    trained += 1;
                }
                None => self.refresh(pool).await?,
            }
        }
        Ok(trained)
    }
}

async fn fetch<'e>(executor: impl PgExecutor<'e>, known: &[i16]) -> Result<Vec<(i16, i16, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as("select id, type, content from dictionary where id <> all($1) order by id")
        .bind(known)
        .fetch_all(executor)
        .await
}

fn with_plain<T>(work: impl FnOnce(&mut (Compressor<'static>, Decompressor<'static>)) -> T) -> T {
    PLAIN.with_borrow_mut(|pair| {
        let pair = pair.get_or_insert_with(|| {
            let compressor = Compressor::new(LEVEL).expect("memory suffices");
            (compressor, Decompressor::new().expect("memory suffices"))
        });
        work(pair)
    })
}

fn compress_with(dictionary: &'static Dictionary, text: &str) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = compressor.get_or_insert_with(|| Compressor::new(LEVEL).expect("memory suffices"));
        compressor
            .set_prepared_dictionary(&dictionary.encoder)
            .expect("a prepared dictionary");
        compressor.compress(text.as_bytes()).expect("memory suffices")
    })
}

fn decompress_with(dictionary: &'static Dictionary, body: &[u8], capacity: usize) -> std::io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new()?),
        };
        decompressor.set_prepared_dictionary(&dictionary.decoder)?;
        decompressor.decompress(body, capacity)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_with_and_without_a_dictionary() {
        let bodies = Bodies::default();
        let text = |i: usize| {
            format!(
                "\0\"status\":\"final\",\"code\":{{\"coding\":[{{\"system\":\"http://loinc.org\",\"code\":\"{i}-{}\"}}]}}",
                i % 7
            )
        };
        let samples: Vec<Vec<u8>> = (0..500).map(|i| text(i).into_bytes()).collect();
        let (none, plain) = bodies.compress(3, &text(1));
        assert_eq!(none, 0);
        bodies.add(9, 3, &zstd::dict::from_samples(&samples, 4096).expect("trains"));
        let (id, small) = bodies.compress(3, &text(1));
        assert_eq!(id, 9);
        assert!(small.len() < plain.len());
        assert_eq!(bodies.decompress(0, &plain).expect("reads"), text(1));
        assert_eq!(bodies.decompress(9, &small).expect("reads"), text(1));
        assert!(bodies.decompress(8, &small).is_err());
        assert!(bodies.decompress(9, b"garbage").is_err());
    }
}
