//! Those that wait for their turn.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use hashbrown::HashMap;

use crate::buf::slab::{Key, Slab};
use crate::overload::standing::Standing;
use crate::time::Instant;

/// What is known of one that waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Higher goes first, always: what is lower waits for as long as there is something higher.
    pub priority: i8,
    /// Whose it is: those of one priority are served in turn, whatever each of them has waiting.
    pub tenant: u64,
    /// What it needs beside a place: all of a group can go on or none can.
    pub group: u32,
    /// When it is of no use any more.
    pub deadline: Option<Instant>,
    /// Since when it waits.
    pub since: Instant,
}

/// Names one that waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    key: Key,
    /// Which of all there have been it is.
    number: u64,
}

/// Those that wait, and whose turn it is. Bounded by its owner, which asks [`len`](Self::len) before it adds.
///
/// The order: the highest priority; within it tenants in turn, one each (deficit round robin where everything costs one);
/// within a tenant the earliest deadline, then the oldest. Once the queue stands (its oldest has waited longer than `target`
/// for `interval`) the newest of a tenant is next: those that have waited too long have callers that gave up or soon will, and
/// serving them first would make everybody late.
///
/// Costs: logarithmic in what a tenant has waiting, plus a look at the tenants whose group may not go on. Memory is kept from
/// one that waited to the next.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: Slab<Entry<T>>,
    /// In order of age, which stands first; names of those that are gone among them.
    ages: VecDeque<(Instant, Key)>,
    flows: Slab<Flow>,
    names: HashMap<Name, Key>,
    /// In falling order of priority.
    levels: Vec<Level>,
    /// Flows that nobody is in, for their memory.
    spare: Vec<Flow>,
    standing: Standing,
    /// How many there have been.
    count: u64,
}

/// What makes those that wait one flow.
type Name = (i8, u64, u32);

#[derive(Debug)]
struct Entry<T> {
    value: T,
    since: Instant,
    flow: Key,
}

/// What one tenant has waiting with one priority in one group.
#[derive(Debug, Default)]
struct Flow {
    name: Name,
    len: usize,
    /// By deadline, then age; with names of those that are gone.
    urgent: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    /// By number, which stands first; with names of those that are gone.
    newest: VecDeque<(u64, Key)>,
}

#[derive(Debug)]
struct Level {
    priority: i8,
    /// Its flows in the order of their turns; each has somebody waiting.
    turns: VecDeque<Key>,
}

/// Names of those that are gone are struck off a list when they are more than those that are not, and these.
const SLACK: usize = 16;

impl Flow {
    fn add<T>(&mut self, at: (Instant, u64), key: Key, waiting: &Slab<Entry<T>>) {
        self.len += 1;
        if self.newest.len() > 2 * self.len + SLACK {
            self.newest.retain(|(_, key)| waiting.contains(*key));
        }
        if self.urgent.len() > 2 * self.len + SLACK {
            self.urgent.retain(|Reverse((.., key))| waiting.contains(*key));
        }
        insert(&mut self.newest, at.1, key);
        self.urgent.push(Reverse((at.0, at.1, key)));
    }

    fn newest<T>(&mut self, waiting: &Slab<Entry<T>>) -> Option<Key> {
        core::iter::from_fn(|| self.newest.pop_back()).map(|(_, key)| key).find(|key| waiting.contains(*key))
    }

    fn most_urgent<T>(&mut self, waiting: &Slab<Entry<T>>) -> Option<Key> {
        core::iter::from_fn(|| self.urgent.pop()).map(|Reverse((.., key))| key).find(|key| waiting.contains(*key))
    }
}

/// Into a list in order, which is its end as a rule.
fn insert<A: Copy + Ord>(list: &mut VecDeque<(A, Key)>, age: A, key: Key) {
    let at = match list.back() {
        Some((last, _)) if *last > age => list.partition_point(|(before, _)| *before <= age),
        _ => list.len(),
    };
    list.insert(at, (age, key));
}

impl<T: Copy> Queue<T> {
    /// Nobody waits. `target` and `interval` say when the newest go first.
    pub fn new(target: Duration, interval: Duration) -> Self {
        Self {
            waiting: Slab::new(),
            ages: VecDeque::new(),
            flows: Slab::new(),
            names: HashMap::new(),
            levels: Vec::new(),
            spare: Vec::new(),
            standing: Standing::new(target, interval),
            count: 0,
        }
    }

    /// How many wait.
    pub const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting.len() == 0
    }

    /// One more waits.
    pub fn add(&mut self, value: T, wait: Wait) -> Ticket {
        self.count += 1;
        self.enter(value, wait, self.count)
    }

    /// One that was taken in vain waits on, where it was among those of its tenant: `ticket` is the one that it had.
    pub fn put_back(&mut self, value: T, wait: Wait, ticket: Ticket) -> Ticket {
        self.enter(value, wait, ticket.number)
    }

    fn enter(&mut self, value: T, wait: Wait, number: u64) -> Ticket {
        let name = (wait.priority, wait.tenant, wait.group);
        let flow = self.names.get(&name).copied().unwrap_or_else(|| self.open(name));
        let key = self.waiting.insert(Entry { value, since: wait.since, flow });
        if let Some(flow) = self.flows.get_mut(flow) {
            flow.add((wait.deadline.unwrap_or(Instant::FAR), number), key, &self.waiting);
        }
        if self.ages.len() > 2 * self.waiting.len() + SLACK {
            self.ages.retain(|(_, key)| self.waiting.contains(*key));
        }
        insert(&mut self.ages, wait.since, key);
        Ticket { key, number }
    }

    /// One waits no more; what it was, if it did.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.take(ticket.key)
    }

    fn take(&mut self, key: Key) -> Option<T> {
        let entry = self.waiting.remove(key)?;
        self.leave(entry.flow);
        Some(entry.value)
    }

    /// Takes the one whose turn it is, among those whose group may go on.
    pub fn next(&mut self, now: Instant, may: impl Fn(u32) -> bool) -> Option<T> {
        let newest_first = self.stands(now);
        self.next_by_age(newest_first, may)
    }

    /// Looks at the one that has waited longest; whether the newest are next.
    pub fn stands(&mut self, now: Instant) -> bool {
        let oldest = self.oldest().and_then(|key| self.waiting.get(key)).map(|entry| entry.since);
        self.standing.look(oldest, now)
    }

    /// Takes the one whose turn it is as [`next`](Self::next) does, without a look of its own: for several in one go, of which some
    /// are put back after it.
    pub fn next_by_age(&mut self, newest_first: bool, may: impl Fn(u32) -> bool) -> Option<T> {
        let flows = &self.flows;
        let turn = self.levels.iter_mut().find_map(|level| {
            let ready = |key: &Key| flows.get(*key).is_some_and(|flow| may(flow.name.2));
            let at = level.turns.iter().position(ready)?;
            let flow = level.turns.remove(at)?;
            level.turns.push_back(flow);
            Some(flow)
        })?;
        let flow = self.flows.get_mut(turn)?;
        let key = if newest_first { flow.newest(&self.waiting) } else { flow.most_urgent(&self.waiting) }?;
        self.take(key)
    }

    /// Takes the one that has waited longest.
    pub fn pop_oldest(&mut self) -> Option<T> {
        let key = self.oldest()?;
        self.take(key)
    }

    /// Whether one of a full queue has to give way to another that comes now.
    pub fn may_displace(&self, comer: &Wait) -> bool {
        self.rival(comer).is_some()
    }

    /// Takes the one that gives way to another that comes now: the newest of the tenant that has the most waiting with the lowest
    /// priority, if that is lower, or if the other's tenant has less waiting by more than one.
    pub fn displace(&mut self, comer: &Wait) -> Option<T> {
        let flow = self.rival(comer)?;
        let key = self.flows.get_mut(flow)?.newest(&self.waiting)?;
        self.take(key)
    }

    /// The flow that gives way.
    fn rival(&self, comer: &Wait) -> Option<Key> {
        let lowest = self.levels.iter().rev().find(|level| !level.turns.is_empty())?;
        let len = |key: &Key| self.flows.get(*key).map_or(0, |flow| flow.len);
        let longest = lowest.turns.iter().copied().max_by_key(len)?;
        let own = self.names.get(&(comer.priority, comer.tenant, comer.group)).map_or(0, len);
        let gives_way = lowest.priority < comer.priority
            || (lowest.priority == comer.priority && len(&longest) > own.saturating_add(1));
        gives_way.then_some(longest)
    }

    fn oldest(&mut self) -> Option<Key> {
        while let Some((_, key)) = self.ages.front() {
            if self.waiting.contains(*key) {
                return Some(*key);
            }
            self.ages.pop_front();
        }
        None
    }

    /// A flow for those of this name.
    fn open(&mut self, name: Name) -> Key {
        let flow = Flow { name, ..self.spare.pop().unwrap_or_default() };
        let key = self.flows.insert(flow);
        self.names.insert(name, key);
        let at = self.levels.binary_search_by_key(&Reverse(name.0), |level| Reverse(level.priority));
        let at = at.unwrap_or_else(|at| {
            self.levels.insert(at, Level { priority: name.0, turns: VecDeque::new() });
            at
        });
        if let Some(level) = self.levels.get_mut(at) {
            level.turns.push_back(key);
        }
        key
    }

    /// One of a flow waits no more; a flow that nobody is in ends.
    fn leave(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.len -= 1;
        if flow.len > 0 {
            return;
        }
        let Some(mut flow) = self.flows.remove(key) else { return };
        self.names.remove(&flow.name);
        if let Some(level) = self.levels.iter_mut().find(|level| level.priority == flow.name.0) {
            level.turns.retain(|other| *other != key);
        }
        flow.urgent.clear();
        flow.newest.clear();
        if self.spare.len() < SLACK {
            self.spare.push(flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    const T0: Instant = Instant::ZERO;

    fn at(millis: u64) -> Instant {
        T0 + Duration::from_millis(millis)
    }

    fn queue() -> Queue<u32> {
        Queue::new(Duration::from_millis(100), Duration::from_millis(1000))
    }

    fn wait(priority: i8, tenant: u64) -> Wait {
        Wait { priority, tenant, group: 0, deadline: None, since: T0 }
    }

    fn drain(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
        core::iter::from_fn(|| queue.next(now, |_| true)).collect()
    }

    #[test]
    fn the_higher_priority_goes_first_then_the_earlier_deadline_then_the_older() {
        let mut queue = queue();
        let due = |millis| Wait { deadline: Some(at(millis)), ..wait(0, 1) };
        for (value, wait) in
            [(1, wait(0, 1)), (2, due(90)), (3, due(50)), (4, wait(-5, 1)), (5, wait(7, 1)), (6, wait(0, 1))]
        {
            queue.add(value, wait);
        }
        assert_eq!(drain(&mut queue, T0), [5, 3, 2, 1, 6, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn tenants_are_served_in_turn_whatever_each_has_waiting() {
        let mut queue = queue();
        for value in 0..10 {
            queue.add(value, wait(0, 1));
        }
        queue.add(100, wait(0, 2));
        queue.add(101, wait(0, 2));
        queue.add(200, wait(0, 3));
        assert_eq!(drain(&mut queue, T0)[..6], [0, 100, 200, 1, 101, 2]);
    }

    #[test]
    fn the_newest_go_first_while_the_oldest_have_waited_too_long_for_too_long() {
        let mut queue = queue();
        for value in 0..6 {
            queue.add(value, Wait { since: at(value.into()), ..wait(0, 1) });
        }
        assert_eq!(queue.next(at(150), |_| true), Some(0), "late for the first time");
        assert_eq!(queue.next(at(1149), |_| true), Some(1));
        assert_eq!(queue.next(at(1150), |_| true), Some(5), "late for too long");
        queue.add(7, Wait { since: at(1151), ..wait(0, 1) });
        assert_eq!(queue.next(at(1152), |_| true), Some(7));
        assert_eq!(drain(&mut queue, at(1153)), [4, 3, 2]);
        queue.add(8, Wait { since: at(1160), ..wait(0, 1) });
        queue.add(9, Wait { since: at(1161), ..wait(0, 1) });
        assert_eq!(drain(&mut queue, at(1170)), [8, 9], "it flows again");
    }

    #[test]
    fn one_that_is_put_back_has_its_place_and_its_age_as_before() {
        for newest_first in [false, true] {
            let mut queue = queue();
            let tickets: Vec<Ticket> = (0..4).map(|value| queue.add(value, wait(0, 1))).collect();
            assert_eq!(queue.next(at(150), |_| true), Some(0), "late for the first time");
            assert_eq!(queue.next(at(151), |_| true), Some(1));
            let again = queue.put_back(1, wait(0, 1), tickets[1]);
            queue.add(4, Wait { since: at(1149), ..wait(0, 1) });
            queue.put_back(0, wait(0, 1), tickets[0]);
            assert_eq!((queue.remove(tickets[1]), queue.len()), (None, 5), "it has another ticket now");
            let (now, order) = if newest_first { (1150, [4, 3, 2, 1, 0]) } else { (160, [0, 1, 2, 3, 4]) };
            assert_eq!(drain(&mut queue, at(now))[..], order);
            assert_eq!(queue.remove(again), None);
        }
        let mut queue = queue();
        let old = queue.add(0, wait(0, 1));
        queue.add(1, Wait { since: at(50), ..wait(0, 2) });
        queue.remove(old);
        queue.put_back(0, wait(0, 1), old);
        assert_eq!(queue.pop_oldest(), Some(0));
    }

    #[test]
    fn a_group_that_may_not_go_on_delays_no_other() {
        let mut queue = queue();
        queue.add(1, Wait { group: 1, ..wait(5, 1) });
        queue.add(2, Wait { group: 2, ..wait(0, 1) });
        assert_eq!(queue.next(T0, |group| group == 2), Some(2));
        assert_eq!((queue.next(T0, |group| group == 2), queue.len()), (None, 1));
        assert_eq!(queue.next(T0, |_| true), Some(1));
    }

    #[test]
    fn of_a_full_queue_the_lowest_and_then_the_longest_gives_way() {
        let mut queue = queue();
        for value in 0..3 {
            queue.add(value, wait(0, 1));
        }
        queue.add(9, wait(-1, 2));
        assert_eq!(queue.displace(&wait(-2, 3)), None, "nothing is lower");
        assert_eq!(queue.displace(&wait(0, 1)), Some(9), "what is lower gives way to anything");
        assert_eq!(queue.displace(&wait(0, 1)), None, "a tenant gives way to itself never");
        assert_eq!(queue.displace(&wait(0, 2)), Some(2), "the newest of the longest");
        queue.add(10, wait(0, 2));
        assert_eq!(queue.displace(&wait(0, 2)), None, "two and one: taking turns would not end");
    }

    #[test]
    fn those_that_leave_are_not_served_and_leave_nothing_behind() {
        let mut queue = queue();
        let tickets: Vec<Ticket> = (0..4).map(|value| queue.add(value, wait(0, u64::from(value) % 2))).collect();
        assert_eq!(
            (queue.remove(tickets[0]), queue.remove(tickets[0]), queue.remove(tickets[3])),
            (Some(0), None, Some(3))
        );
        assert_eq!(queue.pop_oldest(), Some(1));
        assert_eq!((drain(&mut queue, T0), queue.flows.len(), queue.names.len()), (vec![2], 0, 0));
        for _ in 0..1000 {
            let ticket = queue.add(1, wait(0, 1));
            queue.remove(ticket);
            assert!(queue.ages.len() <= SLACK + 4);
        }
        let stays = queue.add(5, wait(0, 1));
        for _ in 0..1000 {
            let ticket = queue.add(1, wait(0, 1));
            queue.remove(ticket);
        }
        let flow = queue.flows.iter().next().unwrap().1;
        assert!(queue.ages.len() <= 2 * SLACK && flow.newest.len() <= 2 * SLACK && flow.urgent.len() <= 2 * SLACK);
        assert_eq!(queue.remove(stays), Some(5));
    }

    /// A list that is searched: whose turn it is by the words of the documentation.
    struct Model {
        waiting: Vec<(u32, Wait)>,
        turns: Vec<(i8, u64, u32)>,
        standing: Standing,
    }

    impl Model {
        fn name(wait: &Wait) -> (i8, u64, u32) {
            (wait.priority, wait.tenant, wait.group)
        }

        fn add(&mut self, value: u32, wait: Wait) {
            if !self.turns.contains(&Self::name(&wait)) {
                self.turns.push(Self::name(&wait));
            }
            self.waiting.push((value, wait));
        }

        fn take(&mut self, index: usize) -> u32 {
            let (value, wait) = self.waiting.remove(index);
            if !self.waiting.iter().any(|(_, other)| Self::name(other) == Self::name(&wait)) {
                self.turns.retain(|name| *name != Self::name(&wait));
            }
            value
        }

        fn next(&mut self, now: Instant, may: impl Fn(u32) -> bool) -> Option<u32> {
            let newest_first = self.standing.look(self.waiting.iter().map(|(_, wait)| wait.since).min(), now);
            let priority = self.turns.iter().filter(|name| may(name.2)).map(|name| name.0).max()?;
            let at = self.turns.iter().position(|name| name.0 == priority && may(name.2))?;
            let name = self.turns.remove(at);
            self.turns.push(name);
            let own = self.waiting.iter().enumerate().filter(|(_, (_, wait))| Self::name(wait) == name);
            let index = if newest_first {
                own.map(|(index, _)| index).next_back()
            } else {
                let due = |wait: &Wait| wait.deadline.unwrap_or(Instant::FAR);
                own.min_by_key(|(index, (_, wait))| (due(wait), *index)).map(|(index, _)| index)
            };
            Some(self.take(index?))
        }
    }

    #[test]
    fn whatever_comes_and_goes_the_order_is_that_of_a_list_that_is_searched() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let (mut queue, mut now) = (queue(), T0);
            let standing = Standing::new(Duration::from_millis(100), Duration::from_millis(1000));
            let mut model = Model { waiting: vec![], turns: vec![], standing };
            let mut tickets = vec![];
            for step in 0..400 {
                now = now + Duration::from_millis(rng.below(40));
                match rng.below(5) {
                    0..=2 => {
                        let deadline = (rng.below(2) == 0).then(|| now + Duration::from_millis(rng.below(500)));
                        let (priority, tenant) = (rng.below(3) as i8 - 1, rng.below(4));
                        let wait = Wait { priority, tenant, group: rng.below(3) as u32, deadline, since: now };
                        tickets.push((step, queue.add(step, wait)));
                        model.add(step, wait);
                    }
                    3 if !tickets.is_empty() => {
                        let (value, ticket) = tickets.swap_remove(rng.below(tickets.len() as u64) as usize);
                        let index = model.waiting.iter().position(|(other, _)| *other == value);
                        assert_eq!(queue.remove(ticket), index.map(|index| model.take(index)), "seed {seed}");
                    }
                    _ => {
                        let shut = rng.below(4) as u32;
                        let (ours, theirs) =
                            (queue.next(now, |group| group != shut), model.next(now, |group| group != shut));
                        assert_eq!(ours, theirs, "seed {seed}, step {step}");
                    }
                }
                assert_eq!(queue.len(), model.waiting.len(), "seed {seed}");
            }
        }
    }
}
