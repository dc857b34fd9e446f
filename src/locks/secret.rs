//! Keyed hashes: of keys and owners for the tables that find them, of fences for the salts of tokens. Clients choose
//! the names and see the salts, so each hash is keyed with secret bytes. It draws no randomness itself. Invariant: the
//! secret is given once, when the table is made.

use core::hash::Hasher;

use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128::{self, Hasher128};

use crate::command::{Realm, Space};

/// The hash of the three names of an attempt; zero is no name.
pub(super) type Name = [u32; 4];

/// The keyed hash functions.
pub(super) struct Secret {
    table: SipHasher13,
    salt: SipHasher24,
    attempt: sip128::SipHasher24,
}

impl Secret {
    pub fn new(bytes: &[u8; 32], attempts: &[u8; 16]) -> Secret {
        let words = |bytes: &[u8]| {
            let words = bytes.chunks_exact(8);
            let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
            words.collect::<Vec<_>>()
        };
        let (own, shared) = (words(bytes), words(attempts));
        Secret {
            table: SipHasher13::new_with_keys(own[0], own[1]),
            salt: SipHasher24::new_with_keys(own[2], own[3]),
            attempt: sip128::SipHasher24::new_with_keys(shared[0], shared[1]),
        }
    }

    pub fn hash(&self, space: Space, name: &[u8]) -> u32 {
        let hash = self.table.hash(name);
        match space {
            Space::Lock => hash as u32,
            Space::Semaphore => (hash >> 32) as u32,
        }
    }

    pub fn owner(&self, realm: Realm, name: &[u8]) -> u32 {
        let hash = self.table.hash(name);
        match realm {
            Realm::Declared => hash as u32,
            Realm::Distlockd => (hash >> 32) as u32,
        }
    }

    /// Of the three names of an attempt, in 128 bits: nobody can find two with the same.
    pub fn attempt(&self, key: &[u8], owner: &[u8], attempt: &[u8]) -> Name {
        let mut hasher = self.attempt;
        for name in [key, owner, attempt] {
            hasher.write(&(name.len() as u64).to_le_bytes());
            hasher.write(name);
        }
        let hash = hasher.finish128().as_u128();
        [0, 32, 64, 96].map(|shift| (hash >> shift) as u32)
    }

    pub fn place(&self, fence: u64) -> u32 {
        self.table.hash(&fence.to_le_bytes()) as u32
    }

    /// A number for each count that nobody can guess, and that is no salt.
    pub fn unique(&self, count: u64) -> u64 {
        let mut hasher = self.salt;
        hasher.write(b"unique");
        hasher.write(&count.to_le_bytes());
        hasher.finish()
    }

    pub fn salt(&self, fence: u64) -> u64 {
        self.salt.hash(&fence.to_le_bytes())
    }
}
