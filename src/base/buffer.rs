//! A byte queue: filled at the tail, consumed at the head. Its memory comes from a pool and goes back there the
//! moment it is empty, so a connection with nothing pending owns nothing, and a busy server allocates nothing.
//! It has no cap of its own: who fills it asks `len` first.

/// Buffers larger than this are freed rather than kept.
const KEEP_BYTES: usize = 4096;
/// How many are kept.
const KEEP: usize = 512;

/// Memory for buffers that is not in use: at most 2 MiB.
#[derive(Default)]
pub struct Pool {
    spare: Vec<Buffer>,
}

/// Bytes on their way in or out. One word, because most connections have two of them and nothing in either.
#[derive(Default)]
pub struct Buffer(Option<Box<Bytes>>);

#[derive(Default)]
struct Bytes {
    /// Those before `head` have been consumed.
    all: Vec<u8>,
    head: usize,
}

impl Buffer {
    /// What is in, oldest first.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(bytes) => &bytes.all[bytes.head..],
            None => &[],
        }
    }

    /// How many bytes are in.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector to append to.
    pub fn tail(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.0.is_none() {
            *self = pool.spare.pop().unwrap_or_default();
        }
        let bytes = self.0.get_or_insert_default();
        // Moving what is left to the front pays for itself once more than half has been consumed.
        if bytes.head > bytes.all.len() / 2 {
            bytes.all.drain(..bytes.head);
            bytes.head = 0;
        }
        &mut bytes.all
    }

    /// Drops the oldest `n` bytes.
    pub fn consume(&mut self, n: usize, pool: &mut Pool) {
        assert!(n <= self.len());
        let Some(bytes) = &mut self.0 else { return };
        bytes.head += n;
        if bytes.head == bytes.all.len() {
            self.clear(pool);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, pool: &mut Pool) {
        let mut buffer = std::mem::take(self);
        let Some(bytes) = &mut buffer.0 else { return };
        if bytes.all.capacity() <= KEEP_BYTES && pool.spare.len() < KEEP {
            bytes.all.clear();
            bytes.head = 0;
            pool.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_an_empty_buffer_owns_nothing() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        let (mut fed, mut eaten) = (0u8, 0u8);
        for round in 1..200usize {
            for _ in 0..round % 7 {
                buffer.tail(&mut pool).push(fed);
                fed = fed.wrapping_add(1);
            }
            let bite = (round % 5).min(buffer.len());
            for &byte in &buffer.bytes()[..bite] {
                assert_eq!(byte, eaten);
                eaten = eaten.wrapping_add(1);
            }
            buffer.consume(bite, &mut pool);
        }
        buffer.consume(buffer.len(), &mut pool);
        assert!(buffer.0.is_none());
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn the_pool_keeps_so_many_buffers_and_no_more() {
        let mut pool = Pool::default();
        let mut crowd: Vec<Buffer> = (0..=KEEP).map(|_| Buffer::default()).collect();
        for buffer in &mut crowd {
            buffer.tail(&mut pool).push(0);
        }
        for buffer in &mut crowd {
            buffer.consume(1, &mut pool);
        }
        assert_eq!(pool.spare.len(), KEEP);
    }

    #[test]
    fn the_pool_keeps_no_large_buffer() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        buffer.tail(&mut pool).resize(KEEP_BYTES + 1, 0);
        buffer.clear(&mut pool);
        assert!(pool.spare.is_empty());
    }
}
