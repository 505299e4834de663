//! Wake-ups to a push service of our own over TLS, read by another library.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::{hkdf, signature};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ece::{EcKeyComponents, LocalKeyPair, RemotePublicKey};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use whimbrel_crypto::signed;
use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::{Act, Befriend, FRIENDSHIP_CONTEXT, FriendshipWord};
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::wake::{ConfirmWake, SetWake, WakeEndpoint};

use super::*;

const TAKEN: &str = "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
const AUTH: [u8; 16] = [7; 16];

/// What came to the push service.
#[derive(Debug)]
struct Pushed {
    head: String,
    body: Vec<u8>,
}

impl Pushed {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A push service on loopback.
struct Service {
    port: u16,
    root: PathBuf,
    pushed: mpsc::UnboundedReceiver<Pushed>,
}

impl Service {
    /// One that answers with these in turn, `{here}` being its own address, and takes everything after that.
    async fn start(place: &Place, answers: &'static [&'static str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let tls = rustls::ServerConfig::builder_with_provider(whimbrel_transport::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let root = place.dir.join("root.pem");
        let text = BASE64_STANDARD.encode(&certificate);
        std::fs::write(&root, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, pushed) = mpsc::unbounded_channel();
        let mut answers = answers.iter();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers.next().copied().unwrap_or(TAKEN);
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let Some(pushed) = read(&mut stream).await else { continue };
                sender.send(pushed).unwrap();
                let answer = answer.replace("{here}", &format!("localhost:{port}"));
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _gone = stream.shutdown().await;
            }
        });
        Self { port, root, pushed }
    }

    /// The next that comes, at the endpoint it was told and nowhere else.
    async fn next(&mut self) -> Pushed {
        let pushed = tokio::time::timeout(Duration::from_secs(20), self.pushed.recv()).await.unwrap().unwrap();
        assert!(pushed.head.starts_with("POST /push/abc "), "{}", pushed.head);
        pushed
    }

    /// Whether nothing came for so long.
    async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.pushed.recv()).await.is_err()
    }

    fn endpoint(&self, keys: &Keys) -> WakeEndpoint {
        WakeEndpoint { url: format!("https://localhost:{}/push/abc", self.port), key: keys.public.clone(), auth: AUTH }
    }

    fn run(&self, place: &Place) -> Running {
        place.start_with(&[("SSL_CERT_FILE", self.root.to_str().unwrap())])
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Pushed> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let mut pushed = Pushed { head, body: bytes[at + 4..].to_vec() };
            let length: usize = pushed.header("content-length").unwrap().parse().unwrap();
            while pushed.body.len() < length {
                stream.read_buf(&mut pushed.body).await.ok().filter(|read| *read > 0)?;
            }
            return Some(pushed);
        }
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
}

/// A device's keys for wake-ups.
struct Keys {
    public: Vec<u8>,
    components: EcKeyComponents,
}

impl Keys {
    fn new() -> Self {
        let key = PrivateKey::generate(&ECDH_P256).unwrap();
        let secret: EcPrivateKeyBin<'_> = key.as_be_bytes().unwrap();
        let public = key.compute_public_key().unwrap().as_ref().to_vec();
        Self { components: EcKeyComponents::new(secret.as_ref().to_vec(), public.clone()), public }
    }

    /// What was pushed, as another library than the relay's opens it.
    fn open(&self, pushed: &Pushed) -> Value {
        // Whichever test comes first sets it; the others find it.
        let _set_before = ece::crypto::set_cryptographer(&Primitives);
        serde_json::from_slice(&ece::decrypt(&self.components, &AUTH, &pushed.body).unwrap()).unwrap()
    }

    fn challenge(&self, pushed: &Pushed) -> [u8; 16] {
        let said = self.open(pushed);
        assert_eq!(said.as_object().unwrap().len(), 2, "{said}");
        assert_eq!(said["v"], 1);
        let code = said["challenge"].as_str().unwrap();
        std::array::from_fn(|i| u8::from_str_radix(&code[2 * i..2 * i + 2], 16).unwrap())
    }
}

async fn set(link: &mut Link, number: u64, endpoint: Option<WakeEndpoint>) {
    let request = RequestId::new(number);
    assert_eq!(ask(link, &SetWake { request, endpoint }.into()).await, Done { request }.into());
}

/// Names an endpoint and shows to be reached there.
async fn register(service: &mut Service, keys: &Keys, link: &mut Link) {
    set(link, 10, Some(service.endpoint(keys))).await;
    let code = keys.challenge(&service.next().await);
    let request = RequestId::new(11);
    assert_eq!(ask(link, &ConfirmWake { request, code }.into()).await, Done { request }.into());
}

/// What somebody says who asks to be a friend: the relay can read it.
const NOTE: &str = "the heron stands at the third lock";

/// Somebody asks to be Alice's friend: something waits for her.
async fn befriend((bob, name): (&Person, &str), link: &mut Link, alice: &Person) {
    let word = FriendshipWord {
        by: bob.id(),
        address: format!("{name}@a.example").parse().unwrap(),
        to: alice.id().account,
        act: Act::Request,
        at: present(),
        note: Some(NOTE.to_owned()),
    };
    let word = signed::sign(&bob.device, bob.id(), FRIENDSHIP_CONTEXT, canonical::encode(&word));
    let request = RequestId::new(20);
    let answer = ask(link, &Befriend { request, domain: "a.example".parse().unwrap(), word }.into()).await;
    assert_eq!(answer, Done { request }.into());
}

fn private(place: &Place) {
    place.edit("allow_private = false", "allow_private = true");
}

/// Alice's device is away, and Bob, who calls himself so, asks her to be friends.
async fn called(
    place: &Place,
    (alice, bob): (&Person, &Person),
    name: &str,
    keys: &Keys,
) -> (Service, Running, Pushed) {
    private(place);
    let mut service = Service::start(place, &[]).await;
    let running = service.run(place);
    let mut away = come_in(alice, &running.link, "alice").await;
    register(&mut service, keys, &mut away).await;
    away.sender.close(CloseCode::Done);
    away.sender.closed().await;
    let mut link = come_in(bob, &running.link, name).await;
    befriend((bob, name), &mut link, alice).await;
    let pushed = service.next().await;
    (service, running, pushed)
}

#[tokio::test]
async fn row_12_a_device_that_is_away_is_woken_through_its_push_service_and_told_nothing_else() {
    let place = Place::new("a.example");
    let (alice, bob, keys) = (Person::new(1), Person::new(2), Keys::new());
    let (service, _running, pushed) = called(&place, (&alice, &bob), "bob", &keys).await;
    assert!(pushed.head.starts_with("POST /push/abc HTTP/1.1\r\n"), "{}", pushed.head);
    assert_eq!(pushed.header("ttl"), Some("86400"));
    assert_eq!(pushed.header("urgency"), Some("high"));
    assert_eq!(pushed.header("content-encoding"), Some("aes128gcm"));
    assert_eq!(keys.open(&pushed), serde_json::json!({ "v": 1, "wake": true }));

    // RFC 8292: a token for this service, signed by the key that comes with it.
    let word = pushed.header("authorization").unwrap().strip_prefix("vapid t=").unwrap();
    let (token, key) = word.split_once(", k=").unwrap();
    let (said, signed) = token.rsplit_once('.').unwrap();
    let unbase = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, unbase(key));
    key.verify(said.as_bytes(), &unbase(signed)).unwrap();
    let claims: Value = serde_json::from_slice(&unbase(said.split_once('.').unwrap().1)).unwrap();
    assert_eq!(claims["aud"], format!("https://localhost:{}", service.port));
    assert_eq!(claims["sub"], "https://a.example");
    let hours = (claims["exp"].as_u64().unwrap() - present().as_secs()) / 3_600;
    assert!((11..=24).contains(&hours), "{hours}");
    #[cfg(unix)]
    {
        let file = std::fs::metadata(place.dir.join("data/wake.key.der")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
    }
}

#[tokio::test]
async fn t17_what_a_push_service_is_handed_has_nothing_of_what_waits_and_of_whom() {
    let place = Place::new("a.example");
    let (alice, bob, keys) = (Person::new(1), Person::new(2), Keys::new());
    let (_service, _running, pushed) = called(&place, (&alice, &bob), "robert", &keys).await;
    let opened = keys.open(&pushed).to_string();
    let mut secrets: Vec<Vec<u8>> = [NOTE, "alice", "robert"].map(|text| text.as_bytes().to_vec()).into();
    for person in [&alice, &bob] {
        let id = person.id().account;
        secrets.extend([id.as_bytes().to_vec(), id.to_string().into_bytes(), person.log.bytes()]);
        for key in [&person.device, &person.transport] {
            let (secret, public) = (key.secret_bytes(), key.public());
            secrets.extend([secret.to_vec(), public.as_bytes().to_vec(), public.to_string().into_bytes()]);
        }
    }
    for secret in secrets {
        for (place, bytes) in [("head", pushed.head.as_bytes()), ("body", &pushed.body), ("words", opened.as_bytes())] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{:?} in the {place}: {}", String::from_utf8_lossy(&secret), pushed.head);
        }
    }
    assert_eq!(opened, r#"{"v":1,"wake":true}"#);
}

#[tokio::test]
async fn a_push_service_that_asks_to_wait_is_asked_again_at_most_twice() {
    const LATER: &str = "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let place = Place::new("a.example");
    private(&place);
    let mut service = Service::start(&place, &[LATER; 4]).await;
    let running = service.run(&place);
    let keys = Keys::new();
    let mut link = come_in(&Person::new(1), &running.link, "alice").await;
    set(&mut link, 10, Some(service.endpoint(&keys))).await;
    for _ in 0..3 {
        keys.challenge(&service.next().await);
    }
    assert!(service.is_quiet(Duration::from_secs(3)).await);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_forgotten_and_a_redirect_leads_nowhere() {
    const MOVED: &str = "HTTP/1.1 307 Moved\r\nlocation: https://{here}/moved\r\ncontent-length: 0\r\n\r\n";
    const GONE: &str = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
    let place = Place::new("a.example");
    private(&place);
    let mut service = Service::start(&place, &[TAKEN, MOVED, TAKEN, GONE]).await;
    let running = service.run(&place);
    let (alice, keys) = (Person::new(1), Keys::new());
    let mut away = come_in(&alice, &running.link, "alice").await;
    register(&mut service, &keys, &mut away).await;
    // Redirected: not followed, not tried again.
    set(&mut away, 12, Some(service.endpoint(&keys))).await;
    service.next().await;
    // Once more, so that nothing is asked any more when the end comes.
    register(&mut service, &keys, &mut away).await;
    away.sender.close(CloseCode::Done);
    away.sender.closed().await;
    for (byte, name) in [(2, "bob"), (3, "carol")] {
        let person = Person::new(byte);
        let mut link = come_in(&person, &running.link, name).await;
        befriend((&person, name), &mut link, &alice).await;
        if byte == 2 {
            // It is gone; Alice comes in and leaves again, so that she would be woken after 30 s.
            assert_eq!(keys.open(&service.next().await)["wake"], true);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut back = alice.connect(&running.link).await;
            greet(&alice, &mut back).await;
            back.sender.close(CloseCode::Done);
            back.sender.closed().await;
        }
    }
    assert!(service.is_quiet(Duration::from_secs(33)).await);
}

/// Half a minute of the clock that everybody has: there is none in this process that a test could set. Nothing is waited for
/// but what comes, and each request whose wake-up must not come is followed by a challenge, which goes the same way behind it.
#[tokio::test]
async fn row_12_a_device_is_woken_at_most_once_in_half_a_minute_however_much_is_written_for_it() {
    let place = Place::new("a.example");
    private(&place);
    let mut service = Service::start(&place, &[]).await;
    let running = service.run(&place);
    let (alice, keys, fence) = (Person::new(1), Keys::new(), Keys::new());
    let mut away = come_in(&alice, &running.link, "alice").await;
    register(&mut service, &keys, &mut away).await;
    away.sender.close(CloseCode::Done);
    away.sender.closed().await;
    let mut carol = come_in(&Person::new(2), &running.link, "carol").await;
    let mut asked = 0;
    let mut ask = async |count: u8| {
        for _ in 0..count {
            asked += 1;
            let (stranger, name) = (Person::new(100 + asked), format!("s{asked}"));
            let mut link = come_in(&stranger, &running.link, &name).await;
            befriend((&stranger, &name), &mut link, &alice).await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "the relay's half minute is one of the real clock")]
    let begun = std::time::Instant::now();
    ask(1).await;
    assert_eq!(keys.open(&service.next().await)["wake"], true);
    // She does not come: more is written for her, and nothing is said of it.
    ask(5).await;
    register(&mut service, &fence, &mut carol).await;
    // She comes and goes: what is written now wakes her, once, when half a minute is over.
    let mut back = alice.connect(&running.link).await;
    greet(&alice, &mut back).await;
    back.sender.close(CloseCode::Done);
    back.sender.closed().await;
    ask(5).await;
    register(&mut service, &fence, &mut carol).await;
    let woken = tokio::time::timeout(Duration::from_secs(120), service.pushed.recv()).await.unwrap().unwrap();
    assert_eq!(keys.open(&woken)["wake"], true);
    assert!(begun.elapsed() >= whimbrel_protocol::limits::WAKE_EVERY, "{:?}", begun.elapsed());
    // And not again: she has not come since. What was on its way is through when the relay has ended.
    ask(5).await;
    register(&mut service, &fence, &mut carol).await;
    drop(carol);
    running.signal("TERM");
    assert_eq!(running.end().0, Some(0));
    assert!(service.pushed.try_recv().is_err(), "woken again");
}

/// T26: without the operator's word nothing is reached that is not public.
#[tokio::test]
async fn t26_an_endpoint_on_loopback_is_never_connected_to() {
    let place = Place::new("a.example");
    let mut service = Service::start(&place, &[]).await;
    let running = service.run(&place);
    let keys = Keys::new();
    let mut link = come_in(&Person::new(1), &running.link, "alice").await;
    for (number, host) in
        ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"].iter().enumerate()
    {
        let url = format!("https://{host}:{}/push/abc", service.port);
        set(&mut link, 10 + number as u64, Some(WakeEndpoint { url, ..service.endpoint(&keys) })).await;
    }
    assert!(service.is_quiet(Duration::from_secs(4)).await);
}

/// The primitives of one library for the other's construction.
struct Primitives;

struct Local(PrivateKey);
struct Remote(Vec<u8>);
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl LocalKeyPair for Local {
    fn pub_as_raw(&self) -> ece::Result<Vec<u8>> {
        Ok(self.0.compute_public_key().unwrap().as_ref().to_vec())
    }

    fn raw_components(&self) -> ece::Result<EcKeyComponents> {
        unimplemented!()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl RemotePublicKey for Remote {
    fn as_raw(&self) -> ece::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl ece::Cryptographer for Primitives {
    fn generate_ephemeral_keypair(&self) -> ece::Result<Box<dyn LocalKeyPair>> {
        unimplemented!()
    }

    fn import_key_pair(&self, components: &EcKeyComponents) -> ece::Result<Box<dyn LocalKeyPair>> {
        Ok(Box::new(Local(PrivateKey::from_private_key(&ECDH_P256, components.private_key()).unwrap())))
    }

    fn import_public_key(&self, raw: &[u8]) -> ece::Result<Box<dyn RemotePublicKey>> {
        Ok(Box::new(Remote(raw.to_vec())))
    }

    fn compute_ecdh_secret(&self, remote: &dyn RemotePublicKey, local: &dyn LocalKeyPair) -> ece::Result<Vec<u8>> {
        let local: &Local = local.as_any().downcast_ref().unwrap();
        let remote = UnparsedPublicKey::new(&ECDH_P256, remote.as_raw()?);
        Ok(agree(&local.0, &remote, (), |secret| Ok(secret.to_vec())).unwrap())
    }

    fn hkdf_sha256(&self, salt: &[u8], secret: &[u8], info: &[u8], len: usize) -> ece::Result<Vec<u8>> {
        let mut out = vec![0; len];
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
        key.expand(&[info], Length(len)).unwrap().fill(&mut out).unwrap();
        Ok(out)
    }

    fn aes_gcm_128_encrypt(&self, _: &[u8], _: &[u8], _: &[u8]) -> ece::Result<Vec<u8>> {
        unimplemented!()
    }

    fn aes_gcm_128_decrypt(&self, key: &[u8], iv: &[u8], sealed: &[u8]) -> ece::Result<Vec<u8>> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).unwrap());
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(iv).unwrap();
        Ok(key.open_in_place(nonce, Aad::empty(), &mut bytes).unwrap().to_vec())
    }

    fn random_bytes(&self, _: &mut [u8]) -> ece::Result<()> {
        unimplemented!()
    }
}
