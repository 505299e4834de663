//! The contract, as far as cursors are concerned: what of a log a device is given.
//! Owns: the case. Never: knows a backend.

use super::*;

pub(super) fn a_cursor_has_the_epochs_of_its_leaf(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let mut later = open(1, ALICE, &two());
    if let Command::OpenThread(open) = &mut later {
        Arc::make_mut(&mut open.opening).epoch = Epoch::new(7);
    }
    done(&store, vec![later, open(2, ALICE, &two())]);
    let store = fixture.restart(store);
    for person in [ALICE, BOB] {
        let logs = wait(store.device_logs(mailbox(person), None, 9)).unwrap();
        let first = |id| {
            let known = logs.iter().find(|known| known.log == id).unwrap();
            assert_eq!(known.epochs.last, None);
            known.epochs.first.get()
        };
        assert_eq!((first(log(1)), first(log(2)), first(LogId::from_bytes([person; 16]))), (7, 1, 0));
    }
    // Nobody has a leaf before the thread's epoch, and nothing is taken for one after it.
    for (epoch, taken) in [(6, false), (7, true), (8, false)] {
        let envelope = Envelope { epoch: Epoch::new(epoch), ..envelope(1, &[epoch as u8]) };
        let outcome = run(&store, append_of(ALICE, Origin::Local, envelope, LogBounds::default(), 2_000));
        if taken {
            assert_eq!(placed(outcome), (1, true));
        } else {
            assert_eq!(outcome, Err(Conflict::StaleEpoch), "{epoch}");
        }
    }
}
