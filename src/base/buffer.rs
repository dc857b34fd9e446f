//! A byte queue, filled at the tail and consumed at the head. It has no cap: the caller checks `len` before it appends.
//! Invariant: an empty buffer owns no memory. It takes memory from a pool and gives it back the moment it is empty, so
//! an idle connection owns nothing, and a busy server allocates nothing.

/// Buffers larger than this are freed rather than kept.
const KEEP_BYTES: usize = 4096;
/// How many of the others are kept.
const KEEP: usize = 512;

/// Spare memory for buffers: at most 2 MiB.
#[derive(Default)]
pub struct Pool {
    spare: Vec<Buffer>,
}

/// Bytes on their way in or out. It is one word large, because most connections have two of them, both empty.
#[derive(Default)]
pub struct Buffer(Option<Box<Bytes>>);

#[derive(Default)]
struct Bytes {
    /// The bytes before `head` have been consumed.
    all: Vec<u8>,
    head: usize,
}

impl Buffer {
    /// The bytes in the queue, oldest first.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(bytes) => &bytes.all[bytes.head..],
            None => &[],
        }
    }

    /// How many bytes are in the queue.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether no bytes are in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector to append to.
    pub fn tail(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.0.is_none() {
            *self = pool.spare.pop().unwrap_or_default();
        }
        let bytes = self.0.get_or_insert_default();
        // Moving the rest to the front costs less than was consumed once more than half is.
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
        } else if bytes.all.capacity() > KEEP_BYTES {
            bytes.trim();
        }
    }

    /// Drops all bytes.
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

impl Bytes {
    /// Gives memory back if most of a large buffer has been consumed. Three times as much was in and is gone, so the
    /// copy costs less than that did.
    #[cold]
    fn trim(&mut self) {
        let left = self.all.len() - self.head;
        if left < self.all.capacity() / 4 {
            self.all.drain(..self.head);
            self.head = 0;
            self.all.shrink_to(KEEP_BYTES.max(2 * left));
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

    #[test]
    fn a_buffer_that_is_nearly_empty_has_given_memory_back() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        for left in [1, 5000, 100_000] {
            buffer.tail(&mut pool).resize(1 << 20, 7);
            buffer.consume((1 << 20) - left, &mut pool);
            let capacity = buffer.0.as_ref().unwrap().all.capacity();
            assert!(capacity <= (4 * left).max(KEEP_BYTES), "{capacity}");
            assert_eq!(buffer.bytes(), vec![7; left]);
            buffer.consume(left, &mut pool);
        }
    }
}
