//! Words of one device for another of its account: passed on, to that one alone, and kept nowhere.

use whimbrel_protocol::id::DeviceIndex;
use whimbrel_protocol::siblings::{SiblingTold, TellSibling};

use super::*;

impl World {
    fn tell_sibling(&mut self, who: usize, to: DeviceIndex, bytes: &[u8]) -> Vec<Frame> {
        let request = self.request();
        self.ask(who, TellSibling { request, to, bytes: bytes.to_vec() })
    }
}

fn told(world: &mut World, who: usize) -> Vec<SiblingTold> {
    let inbox = std::mem::take(&mut world.devices[who].inbox);
    inbox
        .into_iter()
        .filter_map(|frame| if let Frame::SiblingTold(words) = frame { Some(words) } else { None })
        .collect()
}

#[test]
fn words_for_a_sibling_go_to_its_link_alone_and_leave_no_trace() {
    let mut world = World::new(1);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    let phone = world.sibling(alice, 0);
    let bobs = world.sibling(bob, 0);
    let commands = |world: &World| world.sites[0].running.as_ref().unwrap().disk.commands();
    let before = commands(&world);
    let heard = world.tell_sibling(alice, DeviceIndex::new(1), b"a page");
    assert!(matches!(heard[..], [Frame::Done(_)]), "{heard:?}");
    let [SiblingTold { from, bytes }] = &told(&mut world, phone)[..] else { panic!("told once") };
    assert_eq!((*from, bytes.as_slice()), (DeviceIndex::FIRST, b"a page".as_slice()));
    assert_eq!(told(&mut world, bobs).len(), 0, "the same index of another account");
    let heard = world.tell_sibling(phone, DeviceIndex::FIRST, b"the answer");
    assert!(matches!(heard[..], [Frame::Done(_)]), "{heard:?}");
    assert_eq!(told(&mut world, alice).len(), 1);
    assert_eq!(commands(&world), before, "nothing is kept");
    // To oneself, to nobody, and to one that is not there: alike.
    for to in [0, 7] {
        assert_eq!(refusal(&world.tell_sibling(alice, DeviceIndex::new(to), b"?")), Some(RefusalCode::NotFound));
    }
    world.leave(phone);
    world.run();
    assert_eq!(refusal(&world.tell_sibling(alice, DeviceIndex::new(1), b"?")), Some(RefusalCode::NotFound));
}

#[test]
fn words_for_a_sibling_whose_queue_is_full_are_refused_for_now_and_its_link_stands() {
    let mut world = World::new(1);
    world.crash(0, true);
    world.set_room(0, 4);
    world.start(0);
    let alice = world.join("alice", 0);
    let phone = world.sibling(alice, 0);
    world.devices[phone].slow = true;
    let said: Vec<_> = (0..6).map(|_| world.tell_sibling(alice, DeviceIndex::new(1), b"a page")).collect();
    let done = said.iter().filter(|heard| matches!(heard[..], [Frame::Done(_)])).count();
    assert!((1..6).contains(&done), "{said:?}");
    let [Frame::Refused(refused)] = &said[5][..] else { panic!("{said:?}") };
    assert_eq!((refused.code, refused.retry_after_ms.is_some()), (RefusalCode::Busy, true));
    assert!(world.devices[phone].link.is_some());
}
