//! T30's times, as a benchmark: what a stranger learns from how long an answer takes. Prints, and judges nothing.
//!
//! cargo test --workspace --all-features --test process -- --ignored --nocapture t30

use std::time::Duration;

use whimbrel_protocol::friendship::Block;
use whimbrel_protocol::user::FetchProfile;

use super::services::Client;
use super::*;

/// So many samples of all kinds together.
const SAMPLES: usize = 10_000;

#[tokio::test]
#[ignore = "a benchmark, which prints times and judges nothing: cargo test --workspace --all-features --test process -- --ignored t30 --nocapture"]
async fn t30_the_time_of_answers_about_nobody_a_stranger_and_whoever_keeps_one_away() {
    let place = Place::new("a.example");
    for rate in ["requests = { rate = \"600/min\", burst = 600 }", "claims = { rate = \"10/hour\", burst = 10 }"] {
        let (name, _) = rate.split_once(' ').unwrap();
        place.edit(rate, &format!("{name} = \"unbounded\""));
    }
    let running = place.start();
    let mut eve = Client::join(1, &running.link, "eve").await;
    let stranger = Client::join(2, &running.link, "stranger").await;
    let mut blocker = Client::join(3, &running.link, "blocker").await;
    let domain = || "a.example".parse().unwrap();
    let block = Block { request: RequestId::new(1), account: eve.person.id().account, domain: domain(), blocked: true };
    assert!(matches!(blocker.ask(block).await, Frame::Parted(_)));
    let kinds = [
        ("nobody", Person::new(9).id().account),
        ("a stranger", stranger.person.id().account),
        ("whoever keeps one away", blocker.person.id().account),
    ];
    let mut times: Vec<Vec<Duration>> = kinds.iter().map(|_| Vec::new()).collect();
    for sample in 0..SAMPLES {
        let kind = sample % kinds.len();
        let fetch = FetchProfile { request: RequestId::new(2), account: kinds[kind].1, domain: domain() };
        #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
        let begin = std::time::Instant::now();
        let answer = eve.ask(fetch).await;
        times[kind].push(begin.elapsed());
        assert!(matches!(&answer, Frame::Refused(refused) if refused.code == RefusalCode::NotFound), "{answer:?}");
    }
    for ((name, _), mut times) in kinds.into_iter().zip(times) {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
        println!("{name}: {} answers, p5 {} us, p50 {} us, p95 {} us", times.len(), at(0.05), at(0.5), at(0.95));
    }
}
