//! Figures and health, as a scraper asks for them.

use std::io::Write;
use std::net::TcpStream;

use whimbrel_protocol::user::FetchProfile;

use super::*;

/// One request by hand: status and body.
pub(crate) fn fetch(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn place() -> Place {
    let place = Place::new("a.example");
    place.edit("# metrics = \"127.0.0.1:9464\"", "metrics = \"127.0.0.1:0\"");
    place
}

/// What a series says.
pub(crate) fn value(page: &str, series: &str) -> u64 {
    let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{series} is not in\n{page}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_count_what_was_done_and_name_nobody() {
    let place = place();
    let running = place.start();
    let address = running.metrics.clone().unwrap();
    let alice = Person::new(1);
    let mut link = come_in(&alice, &running.link, "alice").await;
    let account = Person::new(9).id().account;
    let nobody = FetchProfile { request: RequestId::new(5), account, domain: "a.example".parse().unwrap() };
    let answer = ask(&mut link, &nobody.into()).await;
    assert!(matches!(answer, Frame::Refused(_)), "{answer:?}");

    let (status, page) = fetch(&address, "/metrics");
    assert_eq!(status, 200);
    assert_eq!(value(&page, &format!("whimbrel_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1);
    assert_eq!(value(&page, "whimbrel_connections{transport=\"quic\"}"), 1);
    assert_eq!(value(&page, "whimbrel_rejections_total{reason=\"not_found\"}"), 1);
    assert_eq!(value(&page, "whimbrel_rejections_total{reason=\"too_fast\"}"), 0);
    assert_eq!(value(&page, "whimbrel_messages_accepted_total"), 0);
    assert_eq!(value(&page, "whimbrel_messages_delivered_total{path=\"push\"}"), 0);
    assert_eq!(value(&page, "whimbrel_losses_untold_total"), 0);
    assert!(value(&page, "whimbrel_store_bytes{kind=\"disk\"}") > 0);
    assert_eq!(value(&page, "whimbrel_wakes_total{outcome=\"sent\"}"), 0);
    for name in ["alice".to_owned(), alice.id().account.to_string(), "127.0.0.1".to_owned()] {
        assert!(!page.contains(&name), "{name} in\n{page}");
    }
    // Every series has its help and type, once, before it.
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        // Those of a histogram have its name and an ending.
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        let types = page.lines().filter(|line| line.starts_with(&format!("# TYPE {family} "))).count();
        assert_eq!(types, 1, "{name}");
    }
    assert_eq!(fetch(&address, "/other").0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_say_what_is_held_for_those_away_what_waits_for_peers_and_how_long_an_envelope_takes() {
    let place = place();
    let running = place.start();
    let address = running.metrics.clone().unwrap();
    let (mut alice, mut bob) = services::friends_here(&running.link).await;
    let before = fetch(&address, "/metrics").1;
    let held = |page: &str| (value(page, "whimbrel_held_messages"), value(page, "whimbrel_held_bytes"));
    assert_eq!(value(&before, "whimbrel_submit_seconds_count"), 0);
    for n in 0..3 {
        alice.say(&[n; 1_000]).await;
    }
    // A count rests twenty times as long as it took: it is looked at until it is made anew.
    let counted = |entries: u64| {
        let pages = std::iter::repeat_with(|| fetch(&address, "/metrics").1).take(100_000);
        pages.into_iter().find(|page| held(page).0 == entries).unwrap_or_else(|| panic!("{entries} are never held"))
    };
    let page = counted(held(&before).0 + 3);
    assert!(held(&page).1 >= held(&before).1 + 3_000);
    assert_eq!(value(&page, "whimbrel_submit_seconds_count"), 3);
    assert_eq!(value(&page, "whimbrel_submit_seconds_bucket{le=\"+Inf\"}"), 3);
    let sum = page.lines().find_map(|line| line.strip_prefix("whimbrel_submit_seconds_sum ")).unwrap();
    assert!(sum.parse::<f64>().unwrap() > 0.0, "{sum}");
    assert_eq!(value(&page, "whimbrel_federation_queue_depth"), 0);
    bob.entries(services::LOG, 3).await;
    bob.acknowledge(services::LOG, 3);
    alice.acknowledge(services::LOG, 3);
    counted(held(&before).0);
    drop((alice, bob));
}

/// One thread: while it waits for an answer here, the link's other end acknowledges nothing, and the relay drains.
#[tokio::test]
async fn health_says_ready_and_while_it_drains_why_not() {
    let place = place();
    let running = place.start();
    let address = running.metrics.clone().unwrap();
    assert_eq!(fetch(&address, "/livez"), (200, "alive\n".to_owned()));
    assert_eq!(fetch(&address, "/readyz"), (200, "ready\n".to_owned()));
    let link = come_in(&Person::new(1), &running.link, "alice").await;
    running.signal("TERM");
    let told = (0..10_000).find_map(|_| Some(fetch(&address, "/readyz")).filter(|(status, _)| *status != 200));
    assert_eq!(told, Some((503, "draining: no new links are taken\n".to_owned())));
    assert_eq!(fetch(&address, "/livez").0, 200);
    drop(link);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn health_says_that_a_full_store_takes_nothing_new_and_once_there_is_room_that_it_is_ready() {
    let place = place();
    // A store is made, and filled, before its bound is set.
    let running = place.start();
    let address = running.metrics.clone().unwrap();
    assert_eq!(fetch(&address, "/readyz"), (200, "ready\n".to_owned()));
    running.kill();
    place.fill(1_800, 80_000);
    place.edit("# max = \"3 GiB\"", "max = \"128 MiB\"");
    let running = place.start();
    let address = running.metrics.clone().unwrap();
    let full = "store full: new messages are refused, held ones are handed out\n";
    assert_eq!(fetch(&address, "/readyz"), (503, full.to_owned()));
    assert_eq!(fetch(&address, "/livez").0, 200, "it serves, so nobody is to start it again");
    running.kill();
    place.edit("max = \"128 MiB\"", "max = \"10 GiB\"");
    let running = place.start();
    assert_eq!(fetch(&running.metrics.clone().unwrap(), "/readyz"), (200, "ready\n".to_owned()));
}

#[test]
fn an_address_that_is_public_is_a_mistake() {
    for address in ["0.0.0.0:9464", "[::]:9464", "8.8.8.8:9464", "nowhere"] {
        let place = Place::new("a.example");
        place.edit("# metrics = \"127.0.0.1:9464\"", &format!("metrics = \"{address}\""));
        let (exit, code, error) = error_of(&relay(&["check", "--json", "--config", &place.config()]));
        assert_eq!((exit, code.as_str()), (Some(2), "config"), "{address}");
        assert!(error["mistakes"][0]["message"].as_str().unwrap().contains("not public"), "{error}");
    }
}
