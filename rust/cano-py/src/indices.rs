//! Tables keyed by small numbers that we hand out ourselves: hashing them well is a multiplication.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher as StdHasher};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hasher;

impl BuildHasher for Hasher {
    type Hasher = Multiply;

    fn build_hasher(&self) -> Multiply {
        Multiply(0)
    }
}

/// Fibonacci hashing (Knuth, *The Art of Computer Programming* 3, 6.4). Not for keys that strangers choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Multiply(u64);

impl StdHasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// A table keyed by branch index.
pub(crate) type ByIndex<T> = HashMap<u32, T, Hasher>;
