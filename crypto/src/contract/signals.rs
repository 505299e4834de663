//! Signals: what those who are in a thread seal for each other beside its messages.
//! Owns: the rules of their keys, as tests on each engine.

use whimbrel_protocol::limits;
use whimbrel_protocol::signal::{Doing, Said, Signal};

use super::*;
use crate::signal::SignalKey;

fn key(person: &mut Person) -> Result<SignalKey, EngineError> {
    person.call(|engine, cx, _| engine.signal_key(cx, THREAD))
}

fn writing(person: &mut Person) -> (Said, Signal) {
    let key = key(person).unwrap();
    let said = Said { thread: THREAD, epoch: key.epoch(), number: u64::MAX, what: Doing::Writing };
    let Person { id, device, chance, .. } = person;
    let signal = key.seal(*id, device, &said, chance).unwrap();
    (said, signal)
}

pub(super) fn signals_open_for_whoever_is_in_the_epoch_and_under_their_authors_name_alone(
    make: fn() -> Box<dyn Engine>,
) {
    let mut people = thread(make, 3, false);
    let (said, signal) = writing(&mut people[0]);
    assert_eq!(signal.sealed.len(), limits::SIGNAL_BYTES);
    for person in &mut people {
        assert_eq!(key(person).unwrap().open(&signal), Some((signal.by, said)));
    }
    // A relay can neither change it nor show it under another name, in another thread or again in another epoch.
    let (reader, bob) = (key(&mut people[2]).unwrap(), people[1].id);
    for (at, bit) in [(0, 1), (40, 1), (255, 0x80)] {
        let mut changed = signal.clone();
        changed.sealed[at] ^= bit;
        assert_eq!(reader.open(&changed), None, "{at}");
    }
    assert_eq!(reader.open(&Signal { by: bob, ..signal.clone() }), None);
    assert_eq!(reader.open(&Signal { sealed: signal.sealed[..100].to_vec(), ..signal.clone() }), None);
    assert_eq!(reader.open(&Signal { sealed: Vec::new(), ..signal.clone() }), None);
    // A member can: but not in another's name.
    let mallory = KeyPair::from_seed_bytes([66; 32]);
    let forged = key(&mut people[1]).unwrap().seal(people[0].id, &mallory, &said, &mut people[1].chance).unwrap();
    assert_eq!(reader.open(&forged), None);
    // Whoever is out hears no more, and what was of the epoch before is of nobody's.
    let gone = people[2].id;
    let removed = people[0].remove(gone);
    people[0].merge_own().unwrap();
    people[1].apply(&removed.commit).unwrap();
    people[2].apply(&removed.commit).unwrap();
    let (said, fresh) = writing(&mut people[0]);
    assert_eq!(key(&mut people[1]).unwrap().open(&fresh), Some((fresh.by, said)));
    assert_eq!(key(&mut people[1]).unwrap().open(&signal), None);
    assert_eq!(reader.open(&fresh), None);
    assert!(matches!(key(&mut people[2]), Err(EngineError::NotMember)));
    let mut stranger = Person::new(9, make);
    assert!(matches!(key(&mut stranger), Err(EngineError::UnknownThread)));
}
