//! Twins: second devices of people. Owns: what is on each of them, and what must be.
//! Never: knows how it got there.
//!
//! Whatever stands on one device of somebody is to stand on the other once all is whole, sent texts too; nothing is shown
//! twice; and a device that was taken off its account reads nothing that was said after everybody knew.

use super::*;

/// The second device of somebody.
#[derive(Debug)]
struct Twin {
    owner: ProcessNo,
    device: DeviceId,
    /// Texts that were shown as something new.
    shown: BTreeSet<usize>,
    /// Texts that are there.
    have: BTreeSet<usize>,
    /// From when on everybody knows that it is none of the account's any more.
    out: Option<Time>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Twins {
    twins: BTreeMap<ProcessNo, Twin>,
}

impl Twins {
    pub(super) fn is_one(&self, device: &DeviceId) -> bool {
        self.twins.values().any(|twin| twin.device == *device)
    }

    /// Whether it was taken off its account, and everybody had heard.
    pub(super) fn is_out(&self, device: &DeviceId) -> bool {
        self.twins.values().any(|twin| twin.device == *device && twin.out.is_some())
    }

    /// Whose second device it is; of any other itself.
    pub(super) fn owner(&self, device: ProcessNo) -> ProcessNo {
        self.twins.get(&device).map_or(device, |twin| twin.owner)
    }

    /// On how many of these people's second devices a text is.
    pub(super) fn holders(&self, number: usize, people: &[ProcessNo]) -> usize {
        self.twins.values().filter(|twin| people.contains(&twin.owner) && twin.have.contains(&number)).count()
    }
}

impl Ledger {
    /// Somebody is about to take a second device in.
    pub fn twin(&mut self, device: ProcessNo, owner: ProcessNo, id: DeviceId) {
        let twin = Twin { owner, device: id, shown: BTreeSet::new(), have: BTreeSet::new(), out: None };
        self.twins.twins.insert(device, twin);
    }

    /// It is taken off again, and everybody has heard.
    pub fn twin_is_out(&mut self, device: ProcessNo, at: Time) {
        if let Some(twin) = self.twins.twins.get_mut(&device) {
            twin.out.get_or_insert(at);
        }
    }

    /// A text is said from a second device: in which order it stands to what is said from the first nobody promised.
    pub fn from_second(&mut self, SaidNo(number): SaidNo) {
        if let Some(said) = self.said.get_mut(number) {
            said.second = true;
        }
    }

    /// A second device answered that it has a text on its disk: it is owed to the others, and to the first.
    pub fn queued_on_twin(&mut self, SaidNo(number): SaidNo, message: MessageId) {
        let Some(said) = self.said.get_mut(number) else { return };
        if said.word == Word::Asked {
            said.word = Word::Owed;
            self.owed += said.to.iter().filter(|to| !said.shown.contains_key(to)).count();
        }
        if said.message.is_none() {
            self.name(number, message);
        }
    }

    /// A second device says that a text of its own failed: as a device does that is taken off its account.
    pub fn failed_on_twin(&mut self, message: &MessageId) {
        let said = self.by_message.get(message).and_then(|number| self.said.get_mut(*number));
        if let Some(said) = said.filter(|said| said.word == Word::Owed) {
            said.word = Word::Failed;
            let owed = |to: &&ProcessNo| !said.shown.contains_key(to) && !said.given_up.contains(to);
            self.owed -= said.to.iter().filter(owed).count();
        }
    }

    /// A text appears on a second device, as something new.
    pub fn shown_on_twin(&mut self, device: ProcessNo, message: &Message) {
        let owner = self.twins.owner(device);
        let Some(number) = self.recognise(owner, message) else { return };
        let at = self.said.get(number).map(|said| said.at);
        let Some(twin) = self.twins.twins.get_mut(&device) else { return };
        twin.have.insert(number);
        let twice = !twin.shown.insert(number);
        if twin.out.zip(at).is_some_and(|(out, at)| at > out) {
            self.violate(Violation::ReadOn { message: number, of: device });
        }
        if twice {
            self.duplicates += 1;
            self.violate(Violation::Duplicate { message: number, to: device });
        }
    }

    /// What is found on a second device.
    pub fn twin_history(&mut self, device: ProcessNo, messages: &[Message]) {
        let owner = self.twins.owner(device);
        let (mut there, mut read_on) = (BTreeSet::new(), Vec::new());
        let out = self.twins.twins.get(&device).and_then(|twin| twin.out);
        for message in messages {
            let Some(number) = self.recognise(owner, message) else { continue };
            // By whatever way it came.
            if out.zip(self.said.get(number)).is_some_and(|(out, said)| said.at > out) {
                read_on.push(number);
            }
            if !there.insert(number) {
                self.duplicates += 1;
                self.violate(Violation::Duplicate { message: number, to: device });
            }
        }
        let Some(twin) = self.twins.twins.get_mut(&device) else { return };
        read_on.retain(|number| !twin.have.contains(number));
        let vanished: Vec<usize> = twin.have.difference(&there).copied().collect();
        twin.have = there;
        for message in vanished {
            self.vanished += 1;
            self.violate(Violation::Vanished { message, of: device });
        }
        read_on.into_iter().for_each(|message| self.violate(Violation::ReadOn { message, of: device }));
    }

    /// Whether somebody said a message, or it is for them.
    pub fn concerns(&self, message: &MessageId, one: ProcessNo) -> bool {
        let said = self.by_message.get(message).and_then(|number| self.said.get(*number));
        said.is_some_and(|said| said.author == one || said.to.contains(&one))
    }

    /// A message stands on somebody's first device. It may have come from the second, which is no news.
    pub fn given(&mut self, on: ProcessNo, message: &MessageId, at: Time) {
        let number = self.by_message.get(message).copied();
        let said = number.and_then(|number| Some((number, self.said.get_mut(number)?)));
        if let Some((number, said)) = said
            && said.to.contains(&on)
            && !said.shown.contains_key(&on)
        {
            said.shown.insert(on, at);
            self.kept.entry(on).or_default().insert(number);
            self.owed -= usize::from(said.word == Word::Owed && !said.given_up.contains(&on));
        }
    }

    /// A message is on a second device, whatever brought it.
    pub fn twin_holds(&mut self, device: ProcessNo, message: &MessageId) {
        let number = self.by_message.get(message).copied();
        if let (Some(number), Some(twin)) = (number, self.twins.twins.get_mut(&device)) {
            twin.have.insert(number);
        }
    }

    /// Whether the relay of a person's devices, or they, ever turned on anybody.
    fn betrayed(&self, device: ProcessNo) -> bool {
        let owner = self.twins.owner(device);
        self.excuses.among([Some(owner), self.excuses.home(owner)].into_iter().flatten(), Conduct::Hostile)
    }

    /// There was time enough, and a device is still on its way, or has not all that was said before it came.
    pub fn unfinished(&mut self, device: ProcessNo) {
        if !self.betrayed(device) {
            self.violate(Violation::Unfinished { of: device });
        }
    }

    /// There was time enough, and the two devices of somebody do not hold the same people and names.
    pub fn unlike(&mut self, device: ProcessNo) {
        if !self.betrayed(device) {
            self.violate(Violation::Unlike { of: device });
        }
    }

    /// What stands on the first device of somebody and not on the second, and the other way round. Of what failed, or may
    /// have come to nothing on its way, nobody promised it.
    fn twins_differ(&self, device: ProcessNo, messages: &[Message]) -> Vec<(usize, ProcessNo)> {
        let Some(twin) = self.twins.twins.get(&device) else { return Vec::new() };
        let first: BTreeSet<usize> =
            messages.iter().filter_map(|message| self.by_message.get(&message.message).copied()).collect();
        let promised = |number: &usize| {
            let said = self.said.get(*number);
            said.is_some_and(|said| said.word == Word::Owed && said.given_up.is_empty()) && !self.hindered(*number)
        };
        let lacks = first.difference(&twin.have).copied().map(|number| (number, device));
        let other = twin.have.difference(&first).copied().map(|number| (number, twin.owner));
        lacks.chain(other).filter(|(number, _)| promised(number)).collect()
    }

    /// Whether the two devices of somebody still differ.
    pub fn twin_lacks(&self, device: ProcessNo, messages: &[Message]) -> bool {
        !self.twins_differ(device, messages).is_empty()
    }

    /// There was time enough: they must not.
    pub fn compare_twin(&mut self, device: ProcessNo, messages: &[Message]) {
        for (message, of) in self.twins_differ(device, messages) {
            self.violate(Violation::Missed { message, of });
        }
    }

    /// When all was whole, a device that is none of its account's any more was in a thread on somebody's device.
    pub fn stays(&mut self, device: ProcessNo, at: ProcessNo) {
        if !self.excuses.among([self.twins.owner(device), at], Conduct::Hostile) {
            self.violate(Violation::Stays { of: device, at });
        }
    }
}
