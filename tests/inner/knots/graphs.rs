//! All small graphs of who holds what and who waits for which key, against a judge that knows nothing of searches: who
//! runs may release all that it holds, who waits for a key with a free slot runs, until nothing changes.

use super::*;

const OWNERS: usize = 5;
const KEYS: usize = 3;
const NAMES: [&str; KEYS] = ["k0", "k1", "k2"];

/// One key: its limit, and how many of its slots each owner holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Shape {
    limit: u32,
    held: [u32; OWNERS],
}

impl Shape {
    /// A key that is not there, and all that up to 3 slots can be.
    fn all() -> Vec<Shape> {
        let mut all = vec![Shape {
            limit: 3,
            held: [0; OWNERS],
        }];
        for limit in 1..=3 {
            for first in 0..OWNERS {
                // A slot that is left free makes no difference but for the key: once is enough.
                let fewer = if limit == 3 { 1 } else { limit };
                for count in fewer..=limit {
                    add_holds(limit, [0; OWNERS], first, count, &mut all);
                }
            }
        }
        all.sort();
        all.dedup();
        all
    }

    fn is_full(&self) -> bool {
        self.held.iter().sum::<u32>() == self.limit
    }

    fn renamed(&self, names: [usize; OWNERS]) -> Shape {
        let held = names.map(|name| self.held[name]);
        Shape { held, ..*self }
    }
}

/// Shapes in which owners from `first` on hold `count` slots more.
fn add_holds(limit: u32, held: [u32; OWNERS], first: usize, count: u32, all: &mut Vec<Shape>) {
    if count == 0 {
        return all.push(Shape { limit, held });
    }
    for owner in first..OWNERS {
        let mut more = held;
        more[owner] += 1;
        add_holds(limit, more, owner, count - 1, all);
    }
}

/// All graphs of holds, each once however its owners and its keys are called.
fn graphs() -> Vec<[Shape; KEYS]> {
    let shapes = Shape::all();
    let orders = orders(OWNERS);
    let renamed: Vec<Vec<usize>> = orders
        .iter()
        .map(|order| {
            let names = std::array::from_fn(|at| order[at]);
            let place = |shape: &Shape| shapes.binary_search(&shape.renamed(names));
            let places = shapes.iter().map(|shape| place(shape).expect("all"));
            places.collect()
        })
        .collect();
    let mut graphs = Vec::new();
    for a in 0..shapes.len() {
        for b in a..shapes.len() {
            for c in b..shapes.len() {
                let is_less = |to: &Vec<usize>| {
                    let mut other = [to[a], to[b], to[c]];
                    other.sort();
                    other < [a, b, c]
                };
                if !renamed.iter().any(is_less) {
                    graphs.push([shapes[a], shapes[b], shapes[c]]);
                }
            }
        }
    }
    graphs
}

/// All orders of 0..n.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for order in orders(n - 1) {
        for at in 0..n {
            let mut longer = order.clone();
            longer.insert(at, n - 1);
            all.push(longer);
        }
    }
    all
}

/// Who holds what and who waits for which key, and a table in which it is so.
struct Graph {
    table: Table,
    keys: [Shape; KEYS],
    awaits: [Option<usize>; OWNERS],
    /// Owners are names, and each waits on another connection than those on which it holds.
    named: bool,
    /// Who holds which key by which token.
    tokens: Vec<(usize, usize, Token)>,
    tries: u64,
    refused: u64,
}

impl Graph {
    fn new(keys: [Shape; KEYS], named: bool) -> Graph {
        let mut graph = Graph {
            table: Table::new(),
            keys,
            awaits: [None; OWNERS],
            named,
            tokens: Vec::new(),
            tries: 0,
            refused: 0,
        };
        for owner in 0..if named { OWNERS } else { 0 } {
            let name = format!("owner {owner}");
            graph.table.is(session(owner), &name);
            graph.table.is(session(OWNERS + owner), &name);
        }
        for (key, shape) in keys.iter().enumerate() {
            for owner in 0..OWNERS {
                for _ in 0..shape.held[owner] {
                    let limit = graph.limit(key);
                    let token = graph.table.takes_slot(session(owner), NAMES[key], limit);
                    graph.tokens.push((owner, key, token));
                }
            }
        }
        graph
    }

    /// As `takes_slot` has it: a limit of 1 is a lock.
    fn limit(&self, key: usize) -> u32 {
        match self.keys[key].limit {
            1 => 0,
            limit => limit,
        }
    }

    /// Whether these cannot ever go on, whatever those do who can.
    fn stuck(&self) -> [bool; OWNERS] {
        let mut held = self.keys.map(|shape| shape.held.iter().sum::<u32>());
        let mut stuck = [true; OWNERS];
        loop {
            let runs = |owner: &usize| {
                let has_slot = |key: usize| held[key] < self.keys[key].limit;
                stuck[*owner] && self.awaits[*owner].is_none_or(has_slot)
            };
            let Some(owner) = (0..OWNERS).find(runs) else {
                return stuck;
            };
            stuck[owner] = false;
            for (held, shape) in held.iter_mut().zip(&self.keys) {
                *held -= shape.held[owner];
            }
        }
    }

    /// The owner, who runs, asks for a key that is full: it is refused if and only if it would be stuck, and then
    /// nobody is. Whether it waits.
    fn tries(&mut self, owner: usize, key: usize, span: Us) -> bool {
        self.tries += 1;
        self.awaits[owner] = Some(key);
        let stuck = self.stuck();
        let by = if self.named { OWNERS + owner } else { owner };
        let command = acquire(NAMES[key], self.limit(key), span);
        let reply = self.table.answer(session(by), command);
        let (keys, awaits) = (&self.keys, &self.awaits);
        if stuck[owner] {
            assert_eq!(
                reply,
                Some(DEADLOCK),
                "{owner} is stuck: {keys:?} {awaits:?}"
            );
            self.refused += 1;
            self.awaits[owner] = None;
            return false;
        }
        assert_eq!(reply, None, "{owner} is not stuck: {keys:?} {awaits:?}");
        assert_eq!(stuck, [false; OWNERS], "{keys:?} {awaits:?}");
        true
    }

    /// The wait that began last is over.
    fn gives_up(&mut self, owner: usize, due: Us) {
        self.table.now = due;
        self.table.tick();
        let heard = self.table.out.replies.pop_front();
        assert!(matches!(heard, Some((_, Reply::Timeout))), "{heard:?}");
        assert!(self.table.out.replies.is_empty());
        self.awaits[owner] = None;
    }

    /// All waits that owners from `first` on can begin, and then every one more.
    fn try_all(&mut self, first: usize) {
        let full = |graph: &Graph, key: usize| graph.keys[key].is_full();
        if first == OWNERS {
            for owner in 0..OWNERS {
                for key in 0..KEYS {
                    if self.awaits[owner].is_none() && full(self, key) && self.tries(owner, key, 1)
                    {
                        self.gives_up(owner, self.table.now + 1);
                    }
                }
            }
            return;
        }
        self.try_all(first + 1);
        for key in 0..KEYS {
            // Longer than all that is tried meanwhile.
            let span = 64 << (4 * (OWNERS - first));
            let due = self.table.now + span;
            if full(self, key) && self.tries(first, key, span) {
                self.try_all(first + 1);
                self.gives_up(first, due);
            }
        }
    }

    /// These wait, unless somebody must not; then false.
    fn all_wait(&mut self, awaits: [Option<usize>; OWNERS]) -> bool {
        let mut waits = (0..OWNERS).filter_map(|owner| Some((owner, awaits[owner]?)));
        waits.all(|(owner, key)| self.tries(owner, key, AGES))
    }

    /// `giver`, who runs, releases a slot of the key; `heir`, whose record leads the queue, holds it from then on. If it
    /// waits elsewhere and is stuck with that, its wait is refused, and nobody is stuck then. Whether it was.
    fn promotes(&mut self, giver: usize, key: usize, heir: usize) -> bool {
        let is_it = |hold: &&(usize, usize, Token)| (hold.0, hold.1) == (giver, key);
        let (_, _, token) = *self.tokens.iter().find(is_it).expect("it holds it");
        let limit = self.limit(key);
        self.table
            .ask(session(giver), release(NAMES[key], limit, token));
        self.keys[key].held[giver] -= 1;
        self.keys[key].held[heir] += 1;
        let stuck = self.stuck();
        let mut heard = self.table.heard();
        let (keys, awaits) = (&self.keys, &self.awaits);
        assert_eq!(heard.pop(), Some((session(giver), Reply::Released)));
        let refused = if stuck[heir] {
            vec![(session(heir), DEADLOCK)]
        } else {
            Vec::new()
        };
        assert_eq!(heard, refused, "{giver} {key} {heir}: {keys:?} {awaits:?}");
        if stuck[heir] {
            self.awaits[heir] = None;
        }
        assert_eq!(self.stuck(), [false; OWNERS], "{:?}", self.keys);
        stuck[heir]
    }
}

/// Who waits for which key, in all ways there are for owners that may.
fn all_awaits(may: impl Fn(usize) -> bool, keys: &[Shape; KEYS]) -> Vec<[Option<usize>; OWNERS]> {
    let mut all = vec![[None; OWNERS]];
    for owner in (0..OWNERS).filter(|&owner| may(owner)) {
        for key in (0..KEYS).filter(|&key| keys[key].is_full()) {
            for at in 0..all.len() {
                if all[at][owner].is_none() {
                    let mut more = all[at];
                    more[owner] = Some(key);
                    all.push(more);
                }
            }
        }
    }
    all
}

/// Tries every wait in every graph; returns how many.
fn try_all_graphs(named: bool) -> u64 {
    let (mut tries, mut refused) = (0, 0);
    for keys in graphs() {
        let mut graph = Graph::new(keys, named);
        graph.try_all(0);
        graph.table.locks.check();
        let counts = graph.table.locks.counts();
        assert_eq!((counts.deadlocks, counts.searches_cut), (graph.refused, 0));
        tries += graph.tries;
        refused += graph.refused;
    }
    println!("{tries} waits, {refused} of them refused");
    assert!(refused > tries / 20, "nobody is stuck");
    tries
}

#[test]
fn a_wait_is_refused_if_and_only_if_nobody_could_go_on_in_all_small_graphs() {
    assert!(try_all_graphs(false) > 1_000_000);
}

#[test]
fn owners_with_a_connection_for_each_wait_are_the_same_graphs() {
    assert!(try_all_graphs(true) > 1_000_000);
}

#[test]
fn a_promotion_ends_a_wait_if_and_only_if_nobody_could_go_on() {
    let (mut tries, mut refused) = (0, 0);
    for keys in graphs() {
        let holds = |owner: &usize| keys.iter().any(|shape| shape.held[*owner] > 0);
        // Of all graphs those of one owner less.
        let Some(spare) = (0..OWNERS).find(|owner| !holds(owner)) else {
            continue;
        };
        let others = || (0..OWNERS).filter(|&owner| owner != spare);
        for key in (0..KEYS).filter(|&key| keys[key].is_full()) {
            for giver in others().filter(|&owner| keys[key].held[owner] > 0) {
                for heir in others().filter(|&heir| heir != giver) {
                    let (more, of_them) = try_promotions(keys, [giver, heir, spare], key);
                    tries += more;
                    refused += of_them;
                }
            }
        }
    }
    println!("{tries} promotions, {refused} waits refused");
    assert!(tries > 100_000 && refused > tries / 20);
}

/// Promotes `heir` while the others, but `giver` and `spare`, wait in all ways; returns how often, and how often its
/// own wait was refused.
fn try_promotions(keys: [Shape; KEYS], [giver, heir, spare]: [usize; 3], key: usize) -> (u64, u64) {
    let (mut tries, mut refused) = (0, 0);
    for awaits in all_awaits(|owner| owner != giver && owner != spare, &keys) {
        let mut graph = Graph::new(keys, false);
        let record = enqueue(NAMES[key], graph.limit(key));
        let queued = graph.table.answer(session(heir), record);
        assert_eq!(queued, Some(Reply::Queued));
        if graph.all_wait(awaits) {
            tries += 1;
            refused += u64::from(graph.promotes(giver, key, heir));
        }
    }
    (tries, refused)
}
