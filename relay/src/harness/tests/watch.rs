//! T30: what somebody hears who watches, frame by frame and byte by byte, of one whom they may not see.

use whimbrel_protocol::friendship::{Act, Block, LetSee};
use whimbrel_protocol::presence::{Goodbye, SetVisible};

use super::*;

/// Why nobody is to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hidden {
    /// There is no such account.
    Nobody,
    /// An account, and no friend.
    Stranger,
    Offline,
    Invisible,
    /// A friend who does not let the watcher see.
    NotLetSee,
    Blocking,
    /// A friend who parted.
    Parted,
}

const ALL: [Hidden; 7] = {
    use Hidden::*;
    [Nobody, Stranger, Offline, Invisible, NotLetSee, Blocking, Parted]
};

/// Everything the watcher hears on a new link while the other, at the relay of that number, comes, is heard and goes as far
/// as there is one; as bytes, by step.
fn heard(hidden: Hidden, there: usize, seen: bool) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut world = World::new(there + 1);
    let watcher = world.join("watcher", 0);
    // Two who see each other, so that the relays have a link on which more could be told.
    let (near, far) = (world.join("near", 0), world.join("far", there));
    world.make_friends((near, 0), (far, there));
    let other = match hidden {
        Hidden::Nobody => world.person("other"),
        _ => world.join("other", there),
    };
    if !matches!(hidden, Hidden::Nobody | Hidden::Stranger) {
        world.make_friends((watcher, 0), (other, there));
    }
    let (request, account, domain) = (world.request(), world.account(watcher), domain(0));
    match hidden {
        Hidden::Nobody | Hidden::Stranger => {}
        Hidden::Offline => drop(world.ask(other, Goodbye {})),
        Hidden::Invisible if seen => {}
        Hidden::Invisible => drop(world.ask(other, SetVisible { request, visible: false })),
        Hidden::NotLetSee => drop(world.ask(other, LetSee { request, account, allowed: false })),
        Hidden::Blocking => drop(world.ask(other, Block { request, account, domain, blocked: true })),
        Hidden::Parted => drop(world.tell((other, there), Act::Remove, (watcher, 0))),
    }
    for who in [other, watcher, near, far] {
        world.leave(who);
    }
    // Until nothing of before holds at either relay.
    world.pass(limits::PRESENCE_OFFLINE_AFTER * 3);
    for (who, at) in [(watcher, 0), (near, 0), (far, there)] {
        world.come_back(who, at);
    }
    let acts = !matches!(hidden, Hidden::Nobody | Hidden::Offline);
    let mut steps = Vec::new();
    let mut step = |world: &mut World, name| {
        world.pass(limits::HEARTBEAT_EVERY * 2);
        [near, far, watcher].into_iter().for_each(|who| world.say(who, Heartbeat::default()));
        world.run();
        let frames = std::mem::take(&mut world.devices[watcher].inbox);
        steps.push((name, frames.iter().map(|frame| codec::encode(frame).unwrap()).collect()));
    };
    step(&mut world, "before");
    for name in ["comes", "comes again"] {
        if acts {
            world.come_back(other, there);
        }
        step(&mut world, name);
        if acts {
            world.ask(other, Heartbeat::default());
        }
        step(&mut world, "is heard");
        if acts {
            world.ask(other, Goodbye {});
            world.leave(other);
        }
        step(&mut world, "goes");
    }
    if acts {
        world.come_back(other, there);
        world.leave(other);
    }
    for name in ["is lost", "is missed", "is gone", "has been gone"] {
        step(&mut world, name);
    }
    steps
}

#[test]
fn t30_whoever_watches_hears_the_same_frames_of_all_they_may_not_see_and_of_nobody() {
    for there in [0, 1] {
        let nobody = heard(Hidden::Nobody, there, false);
        assert!(nobody.iter().all(|(_, frames)| frames.len() == 1), "one answer to each heartbeat: {nobody:?}");
        for hidden in ALL {
            assert_eq!(heard(hidden, there, false), nobody, "{hidden:?} at relay {there}");
        }
        // The same steps of somebody who may be seen are told.
        assert_ne!(heard(Hidden::Invisible, there, true), nobody, "nothing that could be told");
    }
}
