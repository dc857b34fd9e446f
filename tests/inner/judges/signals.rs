//! The judge of the signals: lists of who listens to what, and what the contract says of who may be given a signal. It
//! decides nothing by itself: it is shown who was offered a signal, and asks whether there is a story in which that was
//! right. Which subscription an offer is for nobody says, so there may be several stories; there must be one. Who has
//! gone keeps its place in a ring until it is swept, and is passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dflockd::command::SessionId;
use dflockd::signals::Signals;

/// A pattern and a group, as indices; the first group is none.
pub type Place = (usize, usize);

/// What became of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Sent,
    /// No room: another of the group is asked.
    PassedOn,
    /// No room, and no group: it is cut off.
    CutOff,
}

/// One subscription.
#[derive(Clone, Debug)]
struct Member {
    id: SessionId,
    /// Rises with every subscription.
    age: u64,
    gone: bool,
}

/// The members of a place, oldest first.
type Ring = Vec<Member>;

/// What may have happened, as far as nobody can see it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Story {
    /// By age, whose turn it is in a group; the oldest's where it does not say.
    turns: BTreeMap<Place, u64>,
    /// What has become of each signal that is on its way.
    ways: BTreeMap<u32, Way>,
}

/// How far a signal is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Way {
    /// Who has the signal without a group.
    served: BTreeSet<SessionId>,
    /// Groups that have had the signal, or whose primary was cut off.
    done: BTreeSet<Place>,
    /// The group that is being asked.
    walk: Option<Walk>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Walk {
    place: Place,
    /// The age of who is asked next.
    at: u64,
    /// The ages of those that had no room.
    refused: Vec<u64>,
}

pub struct Judge {
    pub patterns: Vec<Vec<u8>>,
    pub groups: Vec<Vec<u8>>,
    most: usize,
    rings: BTreeMap<Place, Ring>,
    age: u64,
    /// Who has gone and is not swept, in order.
    pub leaving: VecDeque<SessionId>,
    stories: BTreeSet<Story>,
    /// For each signal on its way: the patterns that match it, and the first age that came too late for it.
    emissions: BTreeMap<u32, (BTreeSet<usize>, u64)>,
}

impl Judge {
    pub fn new(patterns: Vec<Vec<u8>>, groups: Vec<Vec<u8>>, most: usize) -> Judge {
        Judge {
            patterns,
            groups,
            most,
            rings: BTreeMap::new(),
            age: 0,
            leaving: VecDeque::new(),
            stories: [Story::default()].into(),
            emissions: BTreeMap::new(),
        }
    }

    /// The signals on their way.
    pub fn emissions(&self) -> Vec<u32> {
        self.emissions.keys().copied().collect()
    }

    /// Where the session listens.
    pub fn places(&self, id: SessionId) -> Vec<Place> {
        let is_in = |ring: &Ring| ring.iter().any(|member| member.id == id);
        let rings = self.rings.iter().filter(|(_, ring)| is_in(ring));
        rings.map(|(&place, _)| place).collect()
    }

    pub fn listened(&mut self, id: SessionId, place: Place, granted: bool) {
        let places = self.places(id);
        let again = places.contains(&place);
        let room = self.most == 0 || places.len() < self.most;
        assert_eq!(granted, again || room, "{places:?} and now {place:?}");
        if granted && !again {
            self.fork_turns(place);
            let age = self.age;
            self.age += 1;
            self.rings.entry(place).or_default().push(Member {
                id,
                age,
                gone: false,
            });
        }
    }

    pub fn unlistened(&mut self, id: SessionId, place: Place) {
        let ring = self.rings.get(&place);
        let at = ring.and_then(|ring| ring.iter().position(|member| member.id == id));
        if let Some(at) = at {
            self.remove(place, at);
        }
    }

    /// The session has gone; `nothing_left` is what was answered.
    pub fn left(&mut self, id: SessionId, nothing_left: bool) {
        let places = self.places(id);
        assert_eq!(nothing_left, places.is_empty(), "{places:?}");
        for member in self.rings.values_mut().flatten() {
            member.gone |= member.id == id;
        }
        if !nothing_left {
            self.leaving.push_back(id);
        }
    }

    /// Nothing is left of this session now.
    pub fn swept(&mut self, id: SessionId) {
        assert_eq!(self.leaving.pop_front(), Some(id), "in order, each once");
        for place in self.places(id) {
            let at = self.rings[&place].iter().position(|m| m.id == id);
            self.remove(place, at.expect("it is in that ring"));
        }
    }

    /// Compares with what a listing shows. Where that shows fewer, some who have gone were swept, the first first.
    pub fn compare(&mut self, signals: &Signals) {
        let mut shown = BTreeMap::new();
        for view in (0..signals.places()).filter_map(|place| signals.view(place)) {
            let of = |list: &[Vec<u8>], name: &[u8]| list.iter().position(|other| other == name);
            let place = (
                of(&self.patterns, &view.pattern).expect("somebody said it"),
                of(&self.groups, view.group).expect("somebody said it"),
            );
            let twice = shown.insert(place, view.listeners as usize);
            assert_eq!(twice, None, "{place:?} is shown once");
        }
        for id in self.leaving.clone() {
            for place in self.places(id) {
                let ring = &self.rings[&place];
                if ring.len() > shown.get(&place).copied().unwrap_or(0) {
                    let at = ring.iter().position(|member| member.id == id);
                    self.remove(place, at.expect("it is in that ring"));
                }
            }
        }
        let listeners = |(&place, ring): (&Place, &Ring)| (place, ring.len());
        let expected: BTreeMap<Place, usize> = self.rings.iter().map(listeners).collect();
        assert_eq!(shown, expected, "listeners by pattern and group");
        assert_eq!(signals.is_leaving(), !self.leaving.is_empty());
    }

    pub fn emitted(&mut self, emission: u32, channel: &[u8]) {
        let channel = parts(channel);
        let matching = (0..self.patterns.len())
            .filter(|&pattern| is_match(&parts(&self.patterns[pattern]), &channel))
            .collect();
        let twice = self.emissions.insert(emission, (matching, self.age));
        assert_eq!(twice, None, "each has a name of its own");
        let stories = std::mem::take(&mut self.stories).into_iter();
        self.stories = stories
            .map(|mut story| {
                story.ways.insert(emission, Way::default());
                story
            })
            .collect();
    }

    pub fn offered(&mut self, emission: u32, id: SessionId, outcome: Outcome) {
        let places = self.matching(emission, id);
        assert!(!places.is_empty(), "it listens to nothing like this");
        let stories = std::mem::take(&mut self.stories);
        self.stories = stories
            .iter()
            .flat_map(|story| self.go_on(emission, story, &places, id, outcome))
            .collect();
        assert!(
            !self.stories.is_empty(),
            "no story ends with {outcome:?}: {stories:#?} {:?}",
            self.rings
        );
    }

    /// Nobody in a group had room, and this one is cut off for it.
    pub fn cut(&mut self, emission: u32, id: SessionId) {
        let mut stories = std::mem::take(&mut self.stories);
        stories.retain(|story| {
            story.ways[&emission].walk.as_ref().is_some_and(|walk| {
                let primary = self.primary(walk);
                self.is_walked(emission, walk) && primary.is_some_and(|member| member.id == id)
            })
        });
        let walked = |story: Story| story.walked(emission);
        self.stories = stories.into_iter().map(walked).collect();
        assert!(
            !self.stories.is_empty(),
            "it is not its turn: {:?}",
            self.rings
        );
    }

    /// Everybody was asked: whoever was there all the time.
    pub fn done(&mut self, emission: u32) {
        let mut stories = std::mem::take(&mut self.stories);
        stories.retain(|story| {
            let walk = story.ways[&emission].walk.as_ref();
            let walked = walk.is_none_or(|walk| self.is_void(emission, walk));
            walked && self.owed(emission, story).is_none()
        });
        assert!(
            !stories.is_empty(),
            "somebody is left out: {:?}",
            self.rings
        );
        let ended = |mut story: Story| {
            story.ways.remove(&emission);
            story
        };
        self.stories = stories.into_iter().map(ended).collect();
        self.emissions.remove(&emission);
    }

    /// Nobody is there any more, and nothing is left.
    pub fn is_over(&self, signals: &Signals) {
        assert!(self.rings.is_empty() && self.leaving.is_empty());
        assert!((0..signals.places()).all(|place| signals.view(place).is_none()));
    }

    /// How the story can go on after an offer.
    fn go_on(
        &self,
        emission: u32,
        story: &Story,
        places: &[Place],
        id: SessionId,
        outcome: Outcome,
    ) -> Vec<Story> {
        let mut stories = Vec::new();
        let way = &story.ways[&emission];
        if let Some(walk) = &way.walk {
            if self.is_next(emission, &self.rings[&walk.place], walk.at, id) {
                stories.extend(self.ask(emission, story, walk, id, outcome));
            }
            if self.is_void(emission, walk) {
                let story = story.clone().walked(emission);
                stories.extend(self.go_on(emission, &story, places, id, outcome));
            }
            return stories;
        }
        if places.iter().any(|&(_, group)| group == 0) && !way.served.contains(&id) {
            let mut story = story.clone();
            match outcome {
                Outcome::Sent => assert!(story.way(emission).served.insert(id)),
                Outcome::CutOff => {}
                Outcome::PassedOn => {
                    return self.begin_walks(emission, &story, places, id, outcome);
                }
            }
            stories.push(story);
        }
        stories.extend(self.begin_walks(emission, story, places, id, outcome));
        stories
    }

    /// The offer is for one of these groups, and the first to somebody in it.
    fn begin_walks(
        &self,
        emission: u32,
        story: &Story,
        places: &[Place],
        id: SessionId,
        outcome: Outcome,
    ) -> Vec<Story> {
        let groups = places.iter().filter(|place| place.1 > 0);
        let begin = |&place: &Place| {
            let ring = &self.rings[&place];
            let at = story.turns.get(&place).copied().unwrap_or(ring[0].age);
            let walk = Walk {
                place,
                at,
                refused: Vec::new(),
            };
            let is_done = story.ways[&emission].done.contains(&place);
            (self.is_next(emission, ring, at, id) && !is_done)
                .then(|| self.ask(emission, story, &walk, id, outcome))
                .flatten()
        };
        groups.filter_map(begin).collect()
    }

    /// The next in a group is asked.
    fn ask(
        &self,
        emission: u32,
        story: &Story,
        walk: &Walk,
        id: SessionId,
        outcome: Outcome,
    ) -> Option<Story> {
        let ring = &self.rings[&walk.place];
        let at = ring.iter().position(|m| m.id == id).expect("it is in");
        let (mut story, mut walk) = (story.clone(), walk.clone());
        match outcome {
            Outcome::Sent => {
                match ring.get(at + 1) {
                    Some(next) => story.turns.insert(walk.place, next.age),
                    None => story.turns.remove(&walk.place),
                };
                let way = story.way(emission);
                way.done.insert(walk.place);
                way.walk = None;
            }
            Outcome::PassedOn => {
                walk.refused.push(ring[at].age);
                walk.at = ring.get(at + 1).unwrap_or(&ring[0]).age;
                story.way(emission).walk = Some(walk);
            }
            Outcome::CutOff => return None,
        }
        Some(story)
    }

    /// Whether all who were in the group all the time have refused.
    fn is_walked(&self, emission: u32, walk: &Walk) -> bool {
        let mut ring = self.rings[&walk.place].iter();
        ring.all(|member| !self.has_stayed(emission, member) || walk.refused.contains(&member.age))
    }

    /// Of those that refused and are there, the first: it was its turn.
    fn primary(&self, walk: &Walk) -> Option<&Member> {
        let ring = &self.rings[&walk.place];
        let there = |&age: &u64| ring.iter().find(|m| m.age == age && !m.gone);
        walk.refused.iter().find_map(there)
    }

    /// All have refused, and whose turn it was is not there any more: then nobody need be cut off.
    fn is_void(&self, emission: u32, walk: &Walk) -> bool {
        let primary = self.primary(walk).map(|member| member.age);
        self.is_walked(emission, walk) && primary != Some(walk.refused[0])
    }

    /// A session, or a group, that should have had the signal.
    fn owed(&self, emission: u32, story: &Story) -> Option<(Place, SessionId)> {
        let ((matching, _), way) = (&self.emissions[&emission], &story.ways[&emission]);
        let rings = (self.rings.iter()).filter(|(place, _)| matching.contains(&place.0));
        let members = rings.flat_map(|(&place, ring)| ring.iter().map(move |m| (place, m)));
        let is_owed = |&(place, member): &(Place, &Member)| match place.1 {
            0 => !way.served.contains(&member.id),
            _ => !way.done.contains(&place) && way.walk.as_ref().is_none_or(|w| w.place != place),
        };
        let mut stayed = members.filter(|(_, member)| self.has_stayed(emission, member));
        let (place, member) = stayed.find(is_owed)?;
        Some((place, member.id))
    }

    /// Whether the session is the next, around the ring from this age on. Who has gone is passed over, and so may be who
    /// came in between.
    fn is_next(&self, emission: u32, ring: &Ring, at: u64, id: SessionId) -> bool {
        let begin = ring.iter().position(|member| member.age == at);
        let (before, behind) = ring.split_at(begin.expect("it is in the ring"));
        let mut there = behind.iter().chain(before).filter(|member| !member.gone);
        let next = there.find(|member| member.id == id || self.has_stayed(emission, member));
        next.is_some_and(|member| member.id == id)
    }

    /// Whether it was there all the time.
    fn has_stayed(&self, emission: u32, member: &Member) -> bool {
        let since = self.emissions[&emission].1;
        !member.gone && member.age < since
    }

    /// Where a session that is there hears what is being emitted.
    fn matching(&self, emission: u32, id: SessionId) -> Vec<Place> {
        let (matching, _) = &self.emissions[&emission];
        let is_in = |ring: &Ring| ring.iter().any(|member| member.id == id && !member.gone);
        let rings = (self.rings.iter()).filter(|(place, _)| matching.contains(&place.0));
        rings
            .filter(|(_, ring)| is_in(ring))
            .map(|(&p, _)| p)
            .collect()
    }

    /// A group is about to get one member more. Where it is the turn of members that have gone, up to the last, an emission
    /// may have passed over them already: then it is the oldest's.
    fn fork_turns(&mut self, place: Place) {
        let Some(ring) = self.rings.get(&place) else {
            return;
        };
        let is_passed = |story: &&Story| {
            let turn = story.turns.get(&place);
            let at = turn.and_then(|age| ring.iter().position(|member| member.age == *age));
            at.is_some_and(|at| ring[at..].iter().all(|member| member.gone))
        };
        let passed = self.stories.iter().filter(is_passed).cloned();
        let passed: Vec<Story> = passed
            .map(|mut story| {
                story.turns.remove(&place);
                story
            })
            .collect();
        self.stories.extend(passed);
    }

    /// A subscription is over. Where it was its turn it is that of the next.
    fn remove(&mut self, place: Place, at: usize) {
        let ring = self.rings.get_mut(&place).expect("somebody listens");
        let age = ring.remove(at).age;
        let next = ring.get(at).map(|member| member.age);
        let first = ring.first().map(|member| member.age);
        if ring.is_empty() {
            self.rings.remove(&place);
        }
        let stories = std::mem::take(&mut self.stories).into_iter();
        self.stories = stories
            .map(|mut story| {
                if story.turns.get(&place) == Some(&age) {
                    story.turns.remove(&place);
                    story.turns.extend(next.map(|next| (place, next)));
                }
                for way in story.ways.values_mut() {
                    let walk = way.walk.take();
                    way.walk = walk.filter(|walk| walk.place != place || first.is_some());
                    if let Some(walk) = &mut way.walk
                        && (walk.place, walk.at) == (place, age)
                    {
                        walk.at = next.or(first).expect("the ring is not empty");
                    }
                    if first.is_none() {
                        // A session that comes now makes a group of its own.
                        way.done.remove(&place);
                    }
                }
                story
            })
            .collect();
    }
}

impl Story {
    fn way(&mut self, emission: u32) -> &mut Way {
        self.ways.get_mut(&emission).expect("it is on its way")
    }

    /// The group that was being asked is done with.
    fn walked(mut self, emission: u32) -> Story {
        let way = self.way(emission);
        way.done.extend(way.walk.take().map(|walk| walk.place));
        self
    }
}

fn parts(name: &[u8]) -> Vec<&[u8]> {
    name.split(|&byte| byte == b'.').collect()
}

/// `*` is one whole part, `>` one or more, and last.
fn is_match(pattern: &[&[u8]], channel: &[&[u8]]) -> bool {
    match (pattern, channel) {
        ([b">"], [_, ..]) => true,
        ([b"*", pattern @ ..], [_, channel @ ..]) => is_match(pattern, channel),
        ([part, pattern @ ..], [other, channel @ ..]) => {
            part == other && is_match(pattern, channel)
        }
        ([], []) => true,
        _ => false,
    }
}
