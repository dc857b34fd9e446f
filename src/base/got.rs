//! What a read from a connection brings, plain or through a layer that has bytes of its own. Invariant: none.

/// What a read has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    /// Bytes for the reader.
    Bytes {
        /// How many; at least one.
        count: usize,
        /// There is nothing more, as far as is known.
        is_drained: bool,
        /// The peer has finished behind them: the next reads bring what is left, and then the end.
        is_last: bool,
    },
    /// None yet: what came was the layer's own. There may be more, so read again.
    Nothing,
    /// The peer has finished.
    End,
}

impl Got {
    /// What a read from a socket has brought into a buffer of this size. A short one has emptied the socket, unless the
    /// peer has finished.
    #[inline(always)]
    pub fn plain(count: usize, size: usize) -> Got {
        match count {
            0 => Got::End,
            count => Got::Bytes {
                count,
                is_drained: count < size,
                is_last: false,
            },
        }
    }
}
