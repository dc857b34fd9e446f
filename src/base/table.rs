//! An index from hashes to places in a slab, by open addressing and linear probing. It knows no keys: the caller hashes
//! them, with a secret because clients choose them, and compares them. While it grows or shrinks a few cells move with
//! every insert and every remove, so that no turn pays for a whole copy. Invariant: no empty cell lies between the home
//! of an entry and the entry.

/// A cell: the hash in the upper half, the place plus one in the lower; 0 if it is empty.
type Cell = u64;

const EMPTY: Cell = 0;
/// A cell of the old array whose entry was removed: a probe goes on behind it.
const TOMBSTONE: Cell = u32::MAX as Cell;
const CELLS_MIN: usize = 64;
/// Old cells that move with every insert, enough to be done long before the next growth.
const MOVES: usize = 8;
/// The same for every remove. The cells of a table that shrinks are done when half of its entries have gone: then it
/// shrinks again.
const MOVES_DOWN: usize = 16;
/// A table with more cells than this for each entry shrinks, unless it is small.
const SPARSE: usize = 8;
const SMALL: usize = 1024;

/// Finds places by hash.
pub struct Table {
    cells: Vec<Cell>,
    entries: usize,
    /// The array from before, while the table grows or shrinks; else empty.
    old: Vec<Cell>,
    /// Cells of `old` below this have moved.
    moved: usize,
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table {
            cells: vec![EMPTY; CELLS_MIN],
            entries: 0,
            old: Vec::new(),
            moved: 0,
        }
    }

    /// The place with this hash for which `is_it` holds. It may be asked about places with an equal hash and another
    /// key.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let same = |cell: Cell| (cell >> 32) as u32 == hash && is_it(place(cell));
        let at = self.probe(hash, same).map(|at| self.cells[at]);
        at.or_else(|| self.probe_old(hash, same).map(|at| self.old[at]))
            .map(place)
    }

    /// Adds a place, which is not in yet.
    pub fn insert(&mut self, hash: u32, place: u32) {
        if !self.old.is_empty() {
            self.move_some(MOVES);
        }
        if (self.entries + 1) * 4 > self.cells.len() * 3 {
            self.resize(self.cells.len() * 2);
        }
        self.put(u64::from(hash) << 32 | u64::from(place + 1));
        self.entries += 1;
    }

    /// Removes a place, which is in.
    pub fn remove(&mut self, hash: u32, place: u32) {
        let cell = u64::from(hash) << 32 | u64::from(place + 1);
        self.entries -= 1;
        if let Some(hole) = self.probe(hash, |c| c == cell) {
            self.close_gap(hole);
        } else {
            let at = self
                .probe_old(hash, |c| c == cell)
                .expect("a place that is removed is in");
            self.old[at] = TOMBSTONE;
        }
        let is_sparse = self.entries * SPARSE < self.cells.len() && self.cells.len() > SMALL;
        if is_sparse || !self.old.is_empty() {
            self.shrink();
        }
    }

    /// How many places are in.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether no place is in.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn probe(&self, hash: u32, is_it: impl Fn(Cell) -> bool) -> Option<usize> {
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        while self.cells[at] != EMPTY {
            if is_it(self.cells[at]) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Searches the old array. Its cells below `moved` are empty, although a run of cells may have begun there: the
    /// probe starts, and wraps around, at `moved`.
    fn probe_old(&self, hash: u32, is_it: impl Fn(Cell) -> bool) -> Option<usize> {
        if self.old.is_empty() {
            return None;
        }
        let mut at = (hash as usize & (self.old.len() - 1)).max(self.moved);
        for _ in self.moved..self.old.len() {
            match self.old[at] {
                EMPTY => return None,
                TOMBSTONE => {}
                cell if is_it(cell) => return Some(at),
                _ => {}
            }
            at = if at + 1 == self.old.len() {
                self.moved
            } else {
                at + 1
            };
        }
        None
    }

    fn put(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = (cell >> 32) as usize & mask;
        while self.cells[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }

    fn resize(&mut self, cells: usize) {
        assert!(
            self.old.is_empty(),
            "a change of size ends before the next one begins"
        );
        self.old = std::mem::replace(&mut self.cells, vec![EMPTY; cells]);
        self.moved = 0;
    }

    /// An entry was removed: goes on with a change of size, or begins to shrink.
    fn shrink(&mut self) {
        if self.entries == 0 {
            *self = Table::new();
            return;
        }
        self.move_some(MOVES_DOWN);
        if self.old.is_empty() && self.entries * SPARSE < self.cells.len() {
            self.resize(self.cells.len() / 2);
        }
    }

    fn move_some(&mut self, most: usize) {
        for _ in 0..most {
            self.move_one();
        }
    }

    fn move_one(&mut self) {
        if self.old.is_empty() {
            return;
        }
        let cell = self.old[self.moved];
        if cell != EMPTY && cell != TOMBSTONE {
            self.put(cell);
        }
        self.moved += 1;
        if self.moved == self.old.len() {
            self.old = Vec::new();
        }
    }

    /// Empties a cell and moves later cells of its run up, so that no probe ends too early.
    fn close_gap(&mut self, mut hole: usize) {
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell == EMPTY {
                break;
            }
            let home = (cell >> 32) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

fn place(cell: Cell) -> u32 {
    cell as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain list, with so few different hashes that runs are long and wrap around.
    #[test]
    fn it_finds_what_is_in_and_nothing_else_at_every_size_and_while_growing() {
        let mut random = 1u64;
        let mut dice = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        for spread in [1, 3, 50, 1 << 32] {
            let mut table = Table::new();
            let mut list: Vec<(u32, u32)> = Vec::new();
            let top = if spread < 50 { 300 } else { 5000 };
            let mut next = 0;
            for step in 0..20_000u64 {
                let grow = if step < 10_000 { 7 } else { 3 };
                if list.is_empty() || (dice(10) < grow && list.len() < top) {
                    let hash = (dice(spread) as u32).wrapping_sub(spread as u32 / 2);
                    table.insert(hash, next);
                    list.push((hash, next));
                    next += 1;
                } else {
                    let (hash, place) = list.swap_remove(dice(list.len() as u64) as usize);
                    table.remove(hash, place);
                    assert_eq!(table.find(hash, |p| p == place), None);
                }
                if let Some(&(hash, place)) = list.get(dice(list.len().max(1) as u64) as usize) {
                    assert_eq!(table.find(hash, |p| p == place), Some(place));
                }
                assert_eq!(table.len(), list.len());
            }
            for &(hash, place) in &list {
                assert_eq!(table.find(hash, |p| p == place), Some(place));
            }
        }
    }

    #[test]
    fn its_memory_follows_its_entries_down() {
        for left in [0, 1, 100, 1000] {
            let mut table = Table::new();
            for place in 0..100_000u32 {
                table.insert(place.wrapping_mul(0x9e37_79b1), place);
            }
            for place in (left..100_000u32).rev() {
                table.remove(place.wrapping_mul(0x9e37_79b1), place);
            }
            let cells = table.cells.len() + table.old.len();
            let most = SMALL.max(3 * SPARSE * left as usize);
            assert!(cells <= most, "{cells} cells for {left}");
            for place in 0..left {
                let found = table.find(place.wrapping_mul(0x9e37_79b1), |p| p == place);
                assert_eq!(found, Some(place));
            }
            assert_eq!(table.len(), left as usize);
        }
    }
}
