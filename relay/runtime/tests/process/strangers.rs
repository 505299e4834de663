//! T29 and T30: strangers who ask everybody, and strangers who watch.

use whimbrel_crypto::signed;
use whimbrel_protocol::friendship::{Act, Befriend, Block, Decline, FRIENDSHIP_CONTEXT, FriendshipWord, Standing};
use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::presence::SetVisible;
use whimbrel_protocol::reception::{Done, Refused};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::user::{CARD_CONTEXT, Card, ClaimKeyPackages, FetchProfile, SetProfile};
use whimbrel_protocol::{canonical, codec, limits};

use super::services::Client;
use super::*;

const DOMAIN: &str = "a.example";
/// Requests of one account.
const ASKED: u64 = 10_000;
/// Accounts that ask one target.
const ACCOUNTS: u64 = 1_000;

fn place() -> Place {
    let place = Place::new(DOMAIN);
    // Only the bounds on friend requests are to be met.
    let rates = [
        "requests = { rate = \"600/min\", burst = 600 }",
        "claims = { rate = \"10/hour\", burst = 10 }",
        "arrivals = { rate = \"600/min\", burst = 1200 }",
    ];
    for rate in rates {
        let (name, _) = rate.split_once(' ').unwrap();
        place.edit(rate, &format!("{name} = \"unbounded\""));
    }
    place.edit("level = \"info\"", "level = \"warn\"");
    place
}

fn asks(of: &Person, name: &str, to: AccountId) -> Signed {
    let (by, address) = (of.id(), format!("{name}@{DOMAIN}").parse().unwrap());
    let word = FriendshipWord { by, address, to, act: Act::Request, at: present(), note: None };
    signed::sign(&of.device, by, FRIENDSHIP_CONTEXT, canonical::encode(&word))
}

#[tokio::test(flavor = "multi_thread")]
async fn t29_ten_thousand_requests_of_one_account_are_twenty_and_of_many_accounts_fifty_which_one_command_clears() {
    let place = place();
    let running = place.start();
    let mut target = Client::join(1, &running.link, "target").await;
    let mut eve = Client::join(2, &running.link, "eve").await;
    let domain = || DOMAIN.parse().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for n in 0..ASKED {
        let mut other = [0; 32];
        other[..8].copy_from_slice(&n.to_be_bytes());
        let word = asks(&eve.person, "eve", AccountId::from_bytes(other));
        match eve.ask(Befriend { request: RequestId::new(1_000 + n), domain: domain(), word }).await {
            Frame::Done(_) => taken += 1,
            Frame::Refused(Refused { code: RefusalCode::TooFast, retry_after_ms: Some(_), .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    println!("{ASKED} requests: {taken} taken, {refused} refused");
    // At midnight a new day begins, and with it another share.
    let days = u64::from(taken > limits::FRIEND_REQUESTS_PER_DAY) + 1;
    assert_eq!(refused, ASKED - days * u64::from(limits::FRIEND_REQUESTS_PER_DAY), "{taken} taken");

    let nobody = AccountId::from_bytes([9; 32]);
    for n in 0..ACCOUNTS {
        let mut seed = [200; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let (stranger, name) = (Person::seeded(seed), format!("s{n}"));
        let mut link = come_in(&stranger, &running.link, &name).await;
        let mut answers = Vec::new();
        for to in [target.person.id().account, nobody] {
            let befriend = Befriend { request: RequestId::new(7), domain: domain(), word: asks(&stranger, &name, to) };
            answers.push(codec::encode(&ask(&mut link, &befriend.into()).await).unwrap());
        }
        let done = codec::encode(&Frame::from(Done { request: RequestId::new(7) })).unwrap();
        assert_eq!(answers, [done.clone(), done], "{n}: whether there was room, or anybody, is not told");
    }
    // Whoever was silent for so long has no link any more.
    target.come_back(&running.link).await;
    let asking = target.friends().await;
    assert_eq!(asking.len(), limits::FRIENDS_ASKING_MAX);
    assert!(asking.iter().all(|friend| friend.standing == Standing::Asking), "{asking:?}");
    let cleared = target.ask(Decline { request: RequestId::new(9), account: None }).await;
    assert!(matches!(cleared, Frame::Done(_)), "{cleared:?}");
    assert!(target.friends().await.is_empty());
}

#[tokio::test]
async fn t30_answers_about_whoever_is_there_offline_invisible_full_keeps_one_away_or_is_nobody_are_the_same_bytes() {
    let place = place();
    let running = place.start();
    let mut watcher = Client::join(1, &running.link, "watcher").await;
    let mut there = Client::join(2, &running.link, "there").await;
    let mut offline = Client::join(3, &running.link, "offline").await;
    let mut invisible = Client::join(4, &running.link, "invisible").await;
    let mut blocker = Client::join(5, &running.link, "blocker").await;
    let mut full = Client::join(6, &running.link, "full").await;
    let hidden = invisible.ask(SetVisible { request: RequestId::new(1), visible: false }).await;
    assert!(matches!(hidden, Frame::Done(_)), "{hidden:?}");
    // There is something not to be shown: each has put up a card.
    for client in [&mut there, &mut offline, &mut invisible, &mut blocker, &mut full] {
        let by = client.person.id();
        let card = Card { account: by.account, revision: 1, display: "one of us".to_owned(), about: None };
        let card = signed::sign(&client.person.device, by, CARD_CONTEXT, canonical::encode(&card));
        let put = client.ask(SetProfile { request: RequestId::new(2), revision: 1, card }).await;
        assert!(matches!(put, Frame::Done(_)), "{put:?}");
    }
    let offline = offline.person;
    for byte in 0..limits::FRIENDS_ASKING_MAX as u8 {
        let mut stranger = Client::join(100 + byte, &running.link, &format!("s{byte}")).await;
        stranger.tell(DOMAIN, Act::Request, &full.person, DOMAIN).await;
    }
    full.come_back(&running.link).await;
    assert_eq!(full.friends().await.len(), limits::FRIENDS_ASKING_MAX);
    let (account, domain) = (watcher.person.id().account, || DOMAIN.parse().unwrap());
    let block = Block { request: RequestId::new(1), account, domain: domain(), blocked: true };
    assert!(matches!(blocker.ask(block).await, Frame::Parted(_)));
    let nobody = Person::new(9).id().account;
    let all =
        [&there.person, &offline, &invisible.person, &blocker.person, &full.person].map(|person| person.id().account);
    let (mut profiles, mut claims, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for account in all.into_iter().chain([nobody]) {
        let request = RequestId::new(7);
        let mut bytes = async |frame: Frame| codec::encode(&watcher.ask(frame).await).unwrap();
        profiles.push(bytes(FetchProfile { request, account, domain: domain() }.into()).await);
        claims.push(bytes(ClaimKeyPackages { request, account, domain: domain(), token: None }.into()).await);
        let word = asks(&watcher.person, "watcher", account);
        words.push(codec::encode(&watcher.ask(Befriend { request, domain: domain(), word }).await).unwrap());
    }
    for answers in [profiles, claims, words] {
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    // Nor is anybody's status told.
    let Frame::HeartbeatAnswer(answer) = watcher.ask(Heartbeat::default()).await else { panic!() };
    assert!(answer.statuses.is_empty(), "{answer:?}");
}
