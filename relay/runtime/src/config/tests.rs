#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

const LINK: &str =
    "whimbrel-relay:b.example?at=b.example:4433#0101010101010101010101010101010101010101010101010101010101010101";

fn parse(source: &str) -> Result<Settings, Failure> {
    Settings::parse(Path::new("relay.toml"), source)
}

fn told(source: &str) -> String {
    parse(source).unwrap_err().text()
}

#[test]
fn the_file_that_init_writes_has_no_mistake_and_means_the_defaults() {
    let domain: Domain = "a.example".parse().unwrap();
    let written = parse(&template(&domain, LISTEN_DEFAULT, None)).unwrap();
    let least = parse("[relay]\ndomain = \"a.example\"").unwrap();
    let meaning = |settings: Settings| {
        let Settings { registration, listen, advertise, peers, cache_bytes, connections_max, .. } = settings;
        let held = (settings.log_bounds, settings.hold_age);
        (registration, listen, advertise, peers, cache_bytes, connections_max, held, settings.data_dir)
    };
    assert_eq!(meaning(written), meaning(least));
}

#[test]
fn the_file_that_init_writes_names_every_key() {
    let text = template(&"a.example".parse().unwrap(), LISTEN_DEFAULT, Some("a.example:1"));
    for section in ["relay", "listen", "cluster", "store", "limits", "log"] {
        let told = told(&format!("[relay]\ndomain = \"a\"\n[{section}x]\n"));
        assert!(told.contains(&format!("`{section}`")), "{told}");
        // What an unknown key is told are all the keys there are.
        let head = if section == "relay" { String::new() } else { "[relay]\ndomain = \"a\"\n".to_owned() };
        let failure = parse(&format!("{head}[{section}]\nno_such_key = 1\n")).unwrap_err();
        let accepted = failure.mistakes.iter().find(|mistake| mistake.message.contains("no_such_key")).unwrap();
        let keys = accepted.message.split('`').skip(3).step_by(2);
        let mut any = false;
        for key in keys {
            any = true;
            let named = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(text.lines().any(named), "{key} is not in the file");
        }
        assert!(any);
    }
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_keys_there_are() {
    let expected = "\
relay.toml:3:1
  |
3 | registraton = \"open\"
  | ^^^^^^^^^^^
  = unknown field `registraton`, expected one of `domain`, `data_dir`, `registration`

error: 1 mistake in relay.toml
";
    assert_eq!(told("[relay]\ndomain = \"a.example\"\nregistraton = \"open\"\n"), expected);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let source = r#"[relay]
domain = "A.Example"
registration = "friends"

[listen]
public = ["127.0.0.1:4433", "localhost:4433", "127.0.0.1:4433"]
advertise = "a.example"

[logs]
level = "loud"

[store]
url = "postgres:"
cache = "64MB"
"#;
    let expected = r#"relay.toml:2:10
  |
2 | domain = "A.Example"
  |          ^^^^^^^^^^^
  = a domain has dot-separated labels of a-z, 0-9 and '-', at most 253 characters

relay.toml:3:16
  |
3 | registration = "friends"
  |                ^^^^^^^^^
  = unknown variant `friends`, expected one of `open`, `invite`, `closed`

relay.toml:6:29
  |
6 | public = ["127.0.0.1:4433", "localhost:4433", "127.0.0.1:4433"]
  |                             ^^^^^^^^^^^^^^^^
  = expected an address and port such as "0.0.0.0:4433" or "[::]:4433"

relay.toml:6:47
  |
6 | public = ["127.0.0.1:4433", "localhost:4433", "127.0.0.1:4433"]
  |                                               ^^^^^^^^^^^^^^^^
  = listed twice

relay.toml:7:13
  |
7 | advertise = "a.example"
  |             ^^^^^^^^^^^
  = expected a host and port such as "relay.example:4433"

relay.toml:9:2
  |
9 | [logs]
  |  ^^^^
  = unknown field `logs`, expected one of `relay`, `listen`, `cluster`, `peers`, `store`, `wake`, `limits`, `log`

relay.toml:13:7
   |
13 | url = "postgres:"
   |       ^^^^^^^^^^^
   = unknown store, expected `sled:` or `fjall:`

relay.toml:14:9
   |
14 | cache = "64MB"
   |         ^^^^^^
   = expected a size such as "64 MiB" (B, KiB, MiB or GiB)

error: 8 mistakes in relay.toml
"#;
    assert_eq!(told(source), expected);
}

#[test]
fn how_long_mail_is_held_is_between_ten_seconds_and_thirty_days() {
    let with = |hold: &str| parse(&format!("[relay]\ndomain = \"a.example\"\n[limits]\nhold = {hold}\n"));
    let second = Duration::from_secs(1);
    for (hold, seconds) in
        [("10 s", 10), ("90min", 5_400), ("12 hours", 43_200), ("7 days", 604_800), ("30d", 2_592_000)]
    {
        assert_eq!(with(&format!("\"{hold}\"")).unwrap().hold_age, second * seconds, "{hold}");
    }
    assert_eq!(parse("[relay]\ndomain = \"a.example\"").unwrap().hold_age, limits::HOLD_AGE_MAX);
    let expected = "\
relay.toml:4:8
  |
4 | hold = \"31 days\"
  |        ^^^^^^^^^
  = expected a time such as \"7 days\" or \"12 hours\", \"10 s\" to \"30 days\"

error: 1 mistake in relay.toml
";
    assert_eq!(with("\"31 days\"").unwrap_err().text(), expected);
    for hold in ["\"30 days 1s\"", "\"9999ms\"", "\"0 s\"", "\"\"", "\"a month\"", "\"-1 day\"", "\"30\""] {
        assert!(with(hold).unwrap_err().text().contains("expected a time such as"), "{hold}");
    }
    assert!(with("30").unwrap_err().text().contains("expected a text in quotes"));
}

#[test]
fn a_syntax_error_is_told_with_its_place() {
    let expected = "\
relay.toml:2:10
  |
2 | domain = 
  |          ^
  = string values must be quoted, expected literal string

error: 1 mistake in relay.toml
";
    assert_eq!(told("[relay]\ndomain = \n"), expected);
}

#[test]
fn peers_are_checked_against_their_keys_and_this_relay() {
    let with =
        |name: &str, link: &str| parse(&format!("[relay]\ndomain = \"a.example\"\n[peers]\n\"{name}\" = \"{link}\"\n"));
    assert_eq!(with("b.example", LINK).unwrap().peers, [LINK.parse().unwrap()]);
    let message = |name, link| with(name, link).unwrap_err().mistakes.remove(0).message;
    assert_eq!(message("c.example", LINK), "the link is for b.example, the key says c.example");
    assert_eq!(message("a.example", LINK), "a relay is no peer of itself");
    assert!(message("b.example", "b.example:4433").starts_with("the link does not start with whimbrel-relay:"));
    assert!(message("B", LINK).starts_with("a domain has"));
}

#[test]
fn push_addresses_are_as_many_as_those_listened_on_each_once_and_can_be_dialled() {
    let with = |public: &str, push: &str| {
        parse(&format!("[relay]\ndomain = \"a\"\n[listen]\npublic = [{public}]\n[cluster]\npush = [{push}]\n"))
    };
    let two = "\"[::]:1\", \"[::]:2\"";
    assert_eq!(with(two, "\"p.a:1\", \"q.a:2\"").unwrap().push, ["p.a:1", "q.a:2"]);
    assert!(with(two, "").unwrap().push.is_empty());
    let place = |public, push| {
        let mistake = with(public, push).unwrap_err().mistakes.remove(0);
        (mistake.line, mistake.column, mistake.message)
    };
    let one_each = "1 push addresses, and [listen] public has 2: one for each, in its order";
    assert_eq!(place(two, "\"p.a:1\""), (6, 9, one_each.to_owned()));
    assert_eq!(place(two, "\"p.a:1\", \"p.a:1\""), (6, 18, "listed twice".to_owned()));
    let (own, crossed) = ("\"10.0.0.1:1\", \"10.0.0.2:1\"", "\"10.0.0.2:1\", \"p.a:1\"");
    assert_eq!(with(own, own).unwrap().push.len(), 2);
    let other = "this is number 2 of [listen] public: one for each, in its order";
    assert_eq!(place(own, crossed), (6, 9, other.to_owned()));
    let form = "expected a host and port such as \"push1.relay.example:4433\"";
    assert_eq!(place(two, "\"p.a:1\", \"q.a\""), (6, 18, form.to_owned()));
    let long = format!("\"{}.a:1\"", "p".repeat(255));
    assert_eq!(place("\"[::]:1\"", &long), (6, 9, form.to_owned()));
    assert_eq!(place("\"[::]:1\"", "7"), (6, 9, "expected a text in quotes".to_owned()));
    let many = |form: fn(usize) -> String| (1..=65).map(form).collect::<Vec<_>>().join(", ");
    let (listed, named) = (many(|n| format!("\"[::]:{n}\"")), many(|n| format!("\"p{n}.a:1\"")));
    assert_eq!(place(&listed, &named), (6, 9, "65 push addresses, 64 are allowed".to_owned()));
}

#[test]
fn a_missing_domain_is_told_even_in_an_empty_file() {
    assert!(told("").contains("[relay] has no `domain`"));
    assert!(told("[listen]\n").contains("[relay] has no `domain`"));
}

#[test]
fn mistakes_have_a_form_for_programs() {
    let failure = parse("[relay]\ndomain = 7\n").unwrap_err();
    let value: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
    assert_eq!(value["error"]["code"], "config");
    assert_eq!(value["error"]["mistakes"][0]["line"], 2);
    assert_eq!(value["error"]["mistakes"][0]["column"], 10);
    assert_eq!(failure.exit, Exit::Usage);
}

#[test]
fn the_link_names_what_can_be_dialled() {
    let key = |byte| whimbrel_crypto::KeyPair::from_seed_bytes([byte; 32]);
    let domain: Domain = "a.example".parse().unwrap();
    let wall = whimbrel_protocol::time::Wall::from_millis(20_000 * 86_400_000);
    let identity = RelayIdentity::create(&key(1), &key(2), &domain, wall).unwrap();
    let endpoint = |listen: &str| {
        let settings = parse(&format!("[relay]\ndomain = \"a.example\"\n[listen]\n{listen}\n")).unwrap();
        settings.link(&identity, &settings.listen).map(|link| link.endpoint)
    };
    assert_eq!(endpoint("").unwrap(), "a.example:4433");
    assert_eq!(endpoint("public = [\"[::]:9\", \"127.0.0.1:8\"]").unwrap(), "127.0.0.1:8");
    assert_eq!(endpoint("public = [\"127.0.0.1:0\"]"), None);
    assert_eq!(endpoint("public = [\"127.0.0.1:0\"]\nadvertise = \"x:5\"").unwrap(), "x:5");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let source = template(&"a.example".parse().unwrap(), LISTEN_DEFAULT, None);
    for end in (0..source.len()).filter(|end| source.is_char_boundary(*end)) {
        let _either_way = parse(&source[..end]);
    }
    for odd in
        ["\u{feff}", "é = 1", "[é]\né = 1", "[relay]\ndomain = \"é\"", "[peers]\n\"é\" = \"é\"\n\t[x]", "[[relay]]"]
    {
        assert!(parse(odd).is_err());
    }
}

#[test]
fn a_store_in_memory_is_asked_for_by_name_only() {
    let store = |url: &str| parse(&format!("[relay]\ndomain = \"a.example\"\n[store]\nurl = \"{url}\"\n"));
    assert!(store("memory:").unwrap().in_memory);
    assert!(!store("sled:").unwrap().in_memory);
    assert!(!parse("[relay]\ndomain = \"a.example\"\n").unwrap().in_memory);
    assert!(!store("mem:").unwrap_err().text().contains("memory:`"), "it is not offered");
}

#[test]
fn the_store_is_chosen_and_bounded_in_the_file() {
    let store = |lines: &str| parse(&format!("[relay]\ndomain = \"a.example\"\n[store]\n{lines}\n"));
    let least = store("").unwrap();
    assert_eq!((least.engine, least.reserve), Default::default());
    assert_eq!(least.size, SizeBounds { warn_bytes: None, max_bytes: Some(3 << 30) }, "sled has a bound of its own");
    assert_eq!(store("url = \"fjall:\"").unwrap().size, SizeBounds::default());
    assert_eq!(store("max = \"5 GiB\"").unwrap().size.max_bytes, Some(5 << 30));
    let chosen = store("url = \"fjall:\"\nwarn = \"8 GiB\"\nmax = \"10 GiB\"\nreserve = \"5 %\"").unwrap();
    assert_eq!(chosen.engine, EngineKind::Fjall);
    assert_eq!(chosen.size, SizeBounds { warn_bytes: Some(8 << 30), max_bytes: Some(10 << 30) });
    assert_eq!(chosen.reserve.percent, 5);
    for (wrong, message) in [
        ("url = \"fjall\"", "expected `sled:` or `fjall:`"),
        ("max = \"1 MiB\"", "at least \"128 MiB\""),
        ("warn = 7", "expected a text in quotes"),
        ("reserve = \"60 %\"", "at most \"50 %\""),
        ("reserve = \"10\"", "\"10 %\""),
    ] {
        let failure = store(wrong).unwrap_err();
        let mistake = &failure.mistakes[0];
        assert!(mistake.message.contains(message) && mistake.line == 4, "{wrong}: {mistake:?}");
    }
}
