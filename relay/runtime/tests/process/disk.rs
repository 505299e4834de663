//! The disk below a relay: one that stalls, and one that has become read-only. `tests/battery/disk.c` is loaded before
//! the C library to make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{InviteToken, RequestId};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::NewInvite;

use super::{Person, Place, Running, come_in, error_of, greet, relay, watch};

/// One thread: while it waits for answers here, the link's other end acknowledges nothing, and the relay takes a while to end.
#[tokio::test]
async fn health_says_that_a_store_failed_until_the_process_has_ended() {
    let (place, alice) = (watch::place(), Person::new(1));
    place.edit("url = \"sled:\"", "url = \"fjall:\"");
    let disk = Disk::of(&place);
    let running = Running::of(disk.command(&place));
    let address = running.metrics.clone().unwrap();
    let link = come_in(&alice, &running.link, "alice").await;
    assert_eq!(watch::fetch(&address, "/readyz"), (200, "ready\n".to_owned()));
    disk.begin("readonly");
    // Whatever is to be written: the relay that serves is asked for it.
    let asked = relay(&["invite", "new", "--json", "--config", &place.config()]);
    assert!(!asked.status.success(), "{asked:?}");
    let told = (0..10_000).find_map(|_| Some(watch::fetch(&address, "/readyz")).filter(|(status, _)| *status != 200));
    let reasons =
        "draining: no new links are taken\nstore failed: the process ends, a supervisor should start it again\n";
    let (status, said) = told.unwrap();
    assert_eq!(status, 503);
    // Between the two is a moment in which it has failed and does not drain yet.
    assert!(reasons.ends_with(&said) && said.contains("store failed"), "{said}");
    drop(link);
    let (code, said) = running.end();
    assert_eq!(code, Some(1), "{said}");
}

/// How long the disk stalls; a commit may take six times as long.
const STALL: Duration = Duration::from_secs(10);
const SIGABRT: i32 = 6;

struct Disk {
    preload: PathBuf,
    marks: PathBuf,
}

impl Disk {
    /// Builds the preload beside the place's relay.
    fn of(place: &Place) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/battery/disk.c");
        let (preload, marks) = (place.dir.join("disk.so"), place.dir.join("marks"));
        fs::create_dir(&marks).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wno-format-truncation", "-o"])
            .args([&preload, &source])
            .status()
            .expect("a C compiler builds the preload");
        assert!(built.success());
        Self { preload, marks }
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = place.command();
        command
            .env("LD_PRELOAD", &self.preload)
            .env("DISK_ROOT", place.dir.join("data"))
            .env("DISK_MARKS", &self.marks);
        command
    }

    fn begin(&self, trouble: &str) {
        fs::write(self.marks.join(trouble), b"").unwrap();
    }

    fn end(&self, trouble: &str) {
        fs::remove_file(self.marks.join(trouble)).unwrap();
    }
}

fn on(engine: &str) -> Place {
    let place = Place::new("a.example");
    place.edit("url = \"sled:\"", &format!("url = \"{engine}:\""));
    place
}

#[tokio::test]
async fn t59_a_relay_whose_disk_stalls_ten_seconds_acknowledges_nothing_meanwhile_says_so_and_serves_on() {
    for engine in ["sled", "fjall"] {
        let (place, alice, bob) = (on(engine), Person::new(1), Person::new(2));
        let disk = Disk::of(&place);
        let running = Running::of(disk.command(&place));
        let mut link = come_in(&alice, &running.link, "alice").await;
        let mut stranger = bob.connect(&running.link).await;
        disk.begin("stall");
        stranger.sender.send(&bob.register(&stranger, "bob")).unwrap();
        let (token, expires) = (InviteToken::from_bytes([7; 16]).hash(), Wall::from_millis(u64::MAX >> 1));
        link.sender.send(&NewInvite { request: RequestId::new(7), token, uses: 1, expires }.into()).unwrap();
        let early = tokio::time::timeout(STALL, link.receiver.next()).await;
        assert!(early.is_err(), "{engine}: answered while nothing could be written: {early:?}");
        disk.end("stall");
        let answer = link.receiver.next().await.unwrap();
        assert!(matches!(answer, Frame::Done(_)), "{engine}: {answer:?}");
        // A stranger's link does not live so long without being let in; the same once more is.
        assert!(matches!(stranger.receiver.next().await, Err(_) | Ok(Frame::Registered(_))), "{engine}");
        come_in(&bob, &running.link, "bob").await;
        running.signal("KILL");
        let (_, said) = running.end();
        assert!(said.contains("the disk stalls"), "{engine}: {said}");

        let running = place.start();
        for person in [&alice, &bob] {
            greet(person, &mut person.connect(&running.link).await).await;
        }
    }
}

#[tokio::test]
async fn t59_a_relay_whose_store_becomes_read_only_acknowledges_nothing_ends_and_serves_all_of_it_again() {
    for engine in ["sled", "fjall"] {
        let (place, alice, bob) = (on(engine), Person::new(1), Person::new(2));
        let disk = Disk::of(&place);
        let running = Running::of(disk.command(&place));
        come_in(&alice, &running.link, "alice").await;
        let mut link = bob.connect(&running.link).await;
        disk.begin("readonly");
        link.sender.send(&bob.register(&link, "bob")).unwrap();
        let answer = link.receiver.next().await;
        assert!(!matches!(answer, Ok(Frame::Registered(_))), "{engine}: {answer:?}");
        let (status, said) = running.ended();
        let aborted = std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGABRT);
        assert!(status.code() == Some(1) || aborted, "{engine}: {status} {said}");
        assert!(said.contains("Read-only file system") || said.contains("os error 30"), "{engine}: {said}");

        // A start there is refused, and says why.
        let output = disk.command(&place).output().unwrap();
        let (exit, _, error) = error_of(&output);
        assert_eq!(exit, Some(1), "{engine}: {error}");
        assert!(error["message"].as_str().unwrap().contains("os error 30"), "{engine}: {error}");

        disk.end("readonly");
        let running = Running::of(disk.command(&place));
        greet(&alice, &mut alice.connect(&running.link).await).await;
        // Nobody was told that Bob is there, and so he may come in.
        come_in(&bob, &running.link, "bob").await;
    }
}
