//! KeyPackages that joining uses up, and the one it does not.

use super::*;
use crate::key_package;

pub(super) fn a_join_tells_whether_it_used_a_package_up(make: fn() -> Box<dyn Engine>) {
    let mut people = people(make, 2, false);
    for (last_resort, byte) in [(false, 1), (true, 2), (false, 3), (true, 4)] {
        let thread = ThreadId::from_bytes([byte; 32]);
        let key_package = people[1].call(|engine, cx, own| engine.key_package(cx, own, last_resort)).unwrap();
        let bob = Invitee { id: people[1].id, device_key: people[1].device.public(), key_package };
        let created =
            people[0].call(|engine, cx, own| engine.create(cx, own, thread, std::slice::from_ref(&bob))).unwrap();
        let (joined, changes) = people[1].dry(|engine, cx, own| engine.join(cx, own, &created.welcome, &created.tree));
        joined.unwrap();
        assert_eq!(key_package::is_used_up(&changes), !last_resort);
    }
}
