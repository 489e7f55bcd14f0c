//! A small fixed map from names to what they stand for: member names of a shape, codes of a value set.
//!
//! Open addressing over one hash of a name's length and ends: FHIR's names differ there, and a lookup costs a few
//! nanoseconds, which matters because validation looks up every member of every object.

/// Names to values, built once.
#[derive(Debug, Clone)]
pub struct NameMap<T> {
    /// Power of two, at most half full; an index into `entries` plus one, 0 for an empty slot.
    slots: Vec<u32>,
    entries: Vec<(Box<str>, T)>,
}

impl<T> NameMap<T> {
    /// A later entry of the same name is dropped.
    pub fn new(entries: impl IntoIterator<Item = (String, T)>) -> NameMap<T> {
        let entries: Vec<(Box<str>, T)> = entries.into_iter().map(|(name, value)| (name.into_boxed_str(), value)).collect();
        let mut slots = vec![0; (entries.len() * 2).next_power_of_two().max(4)];
        for (index, (name, _)) in entries.iter().enumerate() {
            let mut at = slot_of(name, slots.len());
            while slots[at] != 0 {
                if entries[slots[at] as usize - 1].0 == *name {
                    break;
                }
                at = (at + 1) & (slots.len() - 1);
            }
            if slots[at] == 0 {
                slots[at] = index as u32 + 1;
            }
        }
        NameMap { slots, entries }
    }

    pub fn get(&self, name: &str) -> Option<&T> {
        let mut at = slot_of(name, self.slots.len());
        loop {
            let index = self.slots[at];
            if index == 0 {
                return None;
            }
            let (found, value) = &self.entries[index as usize - 1];
            if found.as_ref() == name {
                return Some(value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// In the order given when built.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_ref())
    }
}

fn slot_of(name: &str, slots: usize) -> usize {
    let bytes = name.as_bytes();
    let mut head = [0u8; 8];
    let mut tail = [0u8; 8];
    let n = bytes.len().min(8);
    head[..n].copy_from_slice(&bytes[..n]);
    tail[..n].copy_from_slice(&bytes[bytes.len() - n..]);
    let mixed = u64::from_le_bytes(head) ^ u64::from_le_bytes(tail).rotate_left(23) ^ (bytes.len() as u64);
    let hash = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> 40) as usize & (slots - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let names: Vec<String> = (0..3000).map(|i| format!("name{i}")).collect();
        let map = NameMap::new(names.iter().enumerate().map(|(i, name)| (name.clone(), i)));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(map.get(name), Some(&i));
        }
        for other in ["", "name", "name3000", "name30000000000", "x"] {
            assert_eq!(map.get(other), None, "{other}");
        }
        assert!(!NameMap::<()>::new([]).contains("any"));
    }
}
