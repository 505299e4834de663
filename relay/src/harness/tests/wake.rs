//! Waking a device that is away.

use whimbrel_protocol::thread::{SetThread, ThreadSettings};
use whimbrel_protocol::wake::{ConfirmWake, SetWake, WakeEndpoint};

use super::*;
use crate::{WakeOrder, WakeWord};

impl World {
    pub(super) fn woken(&mut self, at: usize) -> Vec<WakeOrder> {
        std::mem::take(&mut self.sites[at].running.as_ref().unwrap().links.wires.lock().unwrap().woken)
    }
}

pub(super) fn endpoint() -> WakeEndpoint {
    WakeEndpoint { url: "https://push.example/alice".to_owned(), key: [vec![4], vec![1; 64]].concat(), auth: [2; 16] }
}

#[test]
fn a_device_that_is_away_is_woken_without_content_and_not_too_often() {
    let (mut world, alice, bob) = friends(0, 0);
    let request = world.request();
    for url in ["http://push.example/", "https://", "https://user@push.example/", "https://push.example/ x"] {
        let endpoint = Some(WakeEndpoint { url: url.to_owned(), ..endpoint() });
        assert_eq!(refusal(&world.ask(alice, SetWake { request, endpoint })), Some(RefusalCode::Malformed), "{url}");
    }
    assert!(matches!(world.ask(alice, SetWake { request, endpoint: Some(endpoint()) })[..], [Frame::Done(_)]));
    let orders = world.woken(0);
    let [WakeOrder { word: WakeWord::Challenge(code), .. }] = orders[..] else { panic!("{orders:?}") };
    let say = |world: &mut World, n: u8| {
        if world.devices[bob].link.is_none() {
            world.come_back(bob, 0);
        }
        let submit = world.submit(bob, &[n]);
        world.ask(bob, submit);
        world.woken(0).len()
    };
    world.leave(alice);
    assert_eq!(say(&mut world, 1), 0, "nothing goes where the device has not shown to be");
    world.come_back(alice, 0);
    assert_eq!(refusal(&world.ask(alice, ConfirmWake { request, code: [0; 16] })), Some(RefusalCode::NotFound));
    assert!(matches!(world.ask(alice, SetWake { request, endpoint: Some(endpoint()) })[..], [Frame::Done(_)]));
    let orders = world.woken(0);
    let [WakeOrder { word: WakeWord::Challenge(second), .. }] = orders[..] else { panic!("{orders:?}") };
    assert_ne!(code, second);
    assert!(matches!(world.ask(alice, ConfirmWake { request, code: second })[..], [Frame::Done(_)]));
    assert_eq!(say(&mut world, 2), 0, "she is here");
    world.leave(alice);
    assert_eq!([say(&mut world, 3), say(&mut world, 4)], [1, 0], "once, until she has been here");
    // She comes, reads and leaves; the next message wakes her, but not within half a minute of the last time.
    world.come_back(alice, 0);
    world.leave(alice);
    assert_eq!(say(&mut world, 5), 0);
    world.pass(limits::WAKE_EVERY);
    let orders = world.woken(0);
    assert!(matches!(&orders[..], [WakeOrder { word: WakeWord::Something, .. }]), "{orders:?}");
    // She does not come: nothing more for a quarter of an hour, and then again.
    world.pass(Duration::from_secs(60));
    assert_eq!(say(&mut world, 6), 0);
    world.pass(limits::WAKE_UNANSWERED);
    assert_eq!(say(&mut world, 7), 1);
    // Quiet is quiet, and off is off.
    world.come_back(alice, 0);
    let settings = ThreadSettings { sealed: vec![1; 30], quiet_until: Wall::from_millis(u64::MAX) };
    assert!(matches!(world.ask(alice, SetThread { request, thread: THREAD, settings })[..], [Frame::Done(_)]));
    world.pass(limits::WAKE_EVERY);
    world.leave(alice);
    assert_eq!(say(&mut world, 8), 0);
    world.come_back(alice, 0);
    assert!(matches!(world.ask(alice, SetWake { request, endpoint: None })[..], [Frame::Done(_)]));
}

#[test]
fn a_slow_store_does_not_bring_two_wake_ups_close_together() {
    let (mut world, alice, bob) = friends(0, 0);
    let request = world.request();
    world.ask(alice, SetWake { request, endpoint: Some(endpoint()) });
    let WakeWord::Challenge(code) = world.woken(0).remove(0).word else { panic!("a challenge comes first") };
    assert!(matches!(world.ask(alice, ConfirmWake { request, code })[..], [Frame::Done(_)]));
    world.leave(alice);
    // Every step of the store takes four seconds.
    let submit = world.submit(bob, b"slowly");
    world.say(bob, submit);
    let asked = world.now.monotonic;
    while world.woken(0).is_empty() {
        world.set_clock(world.now.monotonic.plus(Duration::from_secs(4)));
        assert!(world.turn(), "nobody is woken");
    }
    let woken = world.now.monotonic;
    assert!(woken.since(asked) >= Duration::from_secs(8), "the store was not slow");
    world.run();
    world.come_back(alice, 0);
    world.leave(alice);
    world.set_clock(asked.plus(limits::WAKE_EVERY).max(woken));
    assert!(world.now.monotonic < woken.plus(limits::WAKE_EVERY));
    if world.devices[bob].link.is_none() {
        world.come_back(bob, 0);
    }
    let submit = world.submit(bob, b"again");
    world.ask(bob, submit);
    assert_eq!(world.woken(0), [], "half a minute is counted from when the first left");
    world.pass(limits::WAKE_EVERY);
    assert_eq!(world.woken(0).len(), 1);
}
