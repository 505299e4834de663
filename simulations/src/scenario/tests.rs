use super::*;
use crate::engine::Seed;
use crate::world::{Outcome, World};

const FILE: &str = r#"[sim]
duration = "1 min"

[[relay]]
domain = "a.example"

[[relay]]
domain = "b.example"

[[population]]
relay = "a.example"
count = 3
access = ["5 ms", "30 ms"]

[[fault]]
kind = "crash"
at = "30 s"
target = "b.example"
lasts = "2 s"
"#;

fn read(text: &str, sets: &[&str]) -> Result<Scenario, String> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    Scenario::read("test.toml", text, &sets).map_err(|error| error.to_string())
}

fn refused(from: &str, to: &str) -> String {
    assert!(FILE.contains(from));
    read(&FILE.replacen(from, to, 1), &[]).unwrap_err()
}

#[test]
fn a_scenario_is_read_and_its_effective_form_reads_back() {
    let scenario = read(FILE, &[]).unwrap();
    assert_eq!(scenario.nodes(), 3);
    assert_eq!(read(&toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = refused("count = 3", "count = 3\ncuont = 4");
    assert!(error.starts_with("test.toml, line 13: unknown field `cuont`"), "{error}");
    let error = refused("lasts = \"2 s\"", "lasts = \"2 s\"\ntimes = 3");
    assert!(error.starts_with("test.toml, line 20: ") && error.contains("no use for `times`"), "{error}");
}

#[test]
fn a_key_that_nothing_would_use_is_refused_with_its_line() {
    for (from, to, line, what) in [
        ("count = 3", "count = 3\nnat = { open = 0.2 }", 13, "population.0.nat: has no use without `direct = true`"),
        ("count = 3", "count = 3\ndisk = { cached = 0.5 }", 13, "unknown field `cached`"),
        (
            "[[relay]]",
            "[network]\nloss = 0\nburst_loss = 0.2\n[[relay]]",
            6,
            "network.burst_loss: has no use: no packet",
        ),
        ("[[relay]]", "[network]\nloss = 0\nburst = \"1 s\"\n[[relay]]", 6, "network.burst: has no use: no packet"),
        ("[[relay]]", "[network]\nburst = \"0 s\"\nburst_loss = 0.3\n[[relay]]", 6, "has no use where `burst` is zero"),
        ("[[relay]]", "[friends]\ntwins = \"0 %\"\n[[relay]]", 5, "friends.twins: has no use: there are no `groups`"),
        ("[[relay]]", "[friends]\ngroup_size = [3, 8]\n[[relay]]", 5, "friends.group_size: has no use"),
        ("kind = \"crash\"", "kind = \"crash\"\npoint = \"polled 3\"", 17, "`polled N` is for relays"),
        (
            "count = 3",
            "count = 3\ndirect = true\npoll = \"100 %\"",
            13,
            "population.0.direct: has no use: all of them poll",
        ),
        (
            "domain = \"b.example\"",
            "domain = \"b.example\"\nregion = \"eu-central-1\"",
            9,
            "relay.1.region: has no use: nobody else has one",
        ),
        (
            "[[relay]]",
            "[friends]\ndevices = \"50 %\"\nabsence = \"3 d\"\n[[relay]]",
            6,
            "friends.absence: has no use: where people have second devices",
        ),
        (
            "kind = \"crash\"",
            "kind = \"add-device\"\nat = \"1 s\"\ntarget = \"node 1\"\n[[fault]]\nkind = \"remove-device\"\nat = \"0 s\"\n\
             target = \"node 1\"\n[[fault]]\nkind = \"crash\"",
            22,
            "has no second device by then",
        ),
        ("target = \"b.example\"", "target = \"second 1\"", 18, "fault.0.target: names a process that is not there"),
        (
            "[[fault]]",
            "[[fault]]\nkind = \"add-device\"\nat = \"1 s\"\ntarget = \"node 1\"\n[[fault]]\nkind = \"add-device\"\nat = \"2 s\"\n\
             target = \"node 1\"\n[[fault]]",
            22,
            "takes one second device in at most",
        ),
    ] {
        // Faults of a node: the last case needs one.
        let file = FILE.replacen(from, to, 1).replace("target = \"b.example\"", "target = \"node 1\"");
        let error = read(&file, &[]).unwrap_err();
        assert!(error.starts_with(&format!("test.toml, line {line}: ")) && error.contains(what), "{to}: {error}");
    }
}

#[test]
fn a_key_has_its_use_when_another_gives_it_one() {
    for (from, to) in [
        ("count = 3", "count = 3\ndirect = true\nnat = {}"),
        ("count = 3", "count = 3\ndisk = { apply = \"1 ms\" }"),
        ("[[relay]]", "[network]\nburst_loss = 0.3\n[[relay]]"),
        // The access link of a profile loses packets by itself.
        (
            "[[relay]]",
            "[network]\nloss = 0\nburst_loss = 0.3\n[[population]]\nrelay = \"a.example\"\ncount = 1\nprofile = \"home\"\n[[relay]]",
        ),
        ("[[relay]]", "[friends]\ngroups = 1\ngroup_size = [3, 3]\ntwins = 1\n[[relay]]"),
        ("kind = \"crash\"", "kind = \"crash\"\npoint = \"polled 3\""),
        (
            "[[fault]]",
            "[[fault]]\nkind = \"add-device\"\nat = \"1 s\"\ntarget = \"node 1\"\n[[fault]]\nkind = \"remove-device\"\nat = \"9 s\"\n\
             target = \"node 1\"\n[[fault]]\nkind = \"crash\"\npoint = \"synced 3\"\nat = \"2 s\"\nlasts = \"1 s\"\n\
             target = \"second 1\"\n[[fault]]",
        ),
    ] {
        let scenario = read(&FILE.replacen(from, to, 1), &[]).unwrap_or_else(|error| unreachable!("{to}: {error}"));
        assert_eq!(read(&toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
    }
}

#[test]
fn an_override_may_take_the_use_of_a_key_in_the_file_but_has_one_itself() {
    let file = "[network]\nburst = \"1 s\"\nburst_loss = 0.3\n[friends]\ngroups = 1\ngroup_size = [3, 3]\ntwins = 0.5\n"
        .to_owned() + &FILE.replacen("count = 3", "count = 3\ndirect = true\nnat = {}", 1);
    let sets = ["network.loss=0", "friends.groups=0", "population.0.direct=false"];
    let scenario = read(&file, &sets).unwrap();
    assert_eq!(scenario.population.first().unwrap().nat, None);
    assert_eq!(read(&toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario, "it is written as it is read");
    let error = read(&file, &["network.loss=0", "network.burst_loss=0.4"]).unwrap_err();
    assert!(error.starts_with("--set network.burst_loss: network.burst_loss: has no use"), "{error}");
    let error = read(FILE, &["friends={ twins = 0.5 }"]).unwrap_err();
    assert!(error.starts_with("--set friends: friends.twins: has no use"), "{error}");
}

#[test]
fn times_in_which_nothing_would_get_on_are_refused_with_their_line() {
    let flap = "kind = \"flap\"\nbetween = [\"a.example\", \"b.example\"]";
    let flaps = |down: &str, up: &str| {
        let file = FILE.replace("target = \"b.example\"\n", "");
        read(&file.replace("kind = \"crash\"", &format!("{flap}\ndown = \"{down}\"\nup = \"{up}\"")), &[])
    };
    let churn = |online: &str, away: &str| {
        let keys = format!("[population.churn]\nshare = 1\nonline = \"{online}\"\naway = \"{away}\"\n\n[[fault]]");
        read(&FILE.replacen("[[fault]]", &keys, 1), &[])
    };
    let workload =
        |every: &str| read(&FILE.replacen("[[relay]]", &format!("[workload]\nevery = \"{every}\"\n[[relay]]"), 1), &[]);
    for (read, line) in [
        (flaps("999 us", "1 s"), 18),
        (flaps("1 s", "1 ns"), 19),
        (flaps("0 s", "1 s"), 18),
        (churn("1 ns", "1 s"), 17),
        (churn("1 s", "999 us"), 18),
        (workload("10 us"), 5),
    ] {
        let error = read.unwrap_err();
        assert!(error.starts_with(&format!("test.toml, line {line}: ")), "{error}");
        assert!(error.contains("less than 1 ms, in which nothing would get on"), "{error}");
    }
    assert!(flaps("1 ms", "1 ms").is_ok() && churn("1 ms", "1 ms").is_ok() && workload("1 ms").is_ok());
}

#[test]
fn a_burst_of_nobody_or_of_one_text_is_refused_with_its_line() {
    let burst =
        |keys: &str| read(&FILE.replacen("[[relay]]", &format!("[workload]\nburst = {{ {keys} }}\n[[relay]]"), 1), &[]);
    let scenario = burst("share = \"1 %\", texts = [64, 128]").unwrap();
    assert_eq!(scenario.workload.burst.unwrap().texts, [64, 128]);
    assert_eq!(read(&toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
    for (keys, why) in [
        ("share = 0, texts = [64, 128]", "nobody says much at once"),
        ("share = 1, texts = [1, 128]", "two texts to 10000"),
        ("share = 1, texts = [9, 8]", "two texts to 10000"),
        ("share = 1, texts = [2, 10001]", "two texts to 10000"),
    ] {
        let error = burst(keys).unwrap_err();
        assert!(error.starts_with("test.toml, line 5: ") && error.contains(why), "{error}");
    }
}

#[test]
fn a_fault_that_lasts_to_the_end_says_so_and_is_mended_there() {
    let scenario = read(&FILE.replacen("lasts = \"2 s\"", "lasts = \"to the end\"", 1), &[]).unwrap();
    assert!(scenario.fault.first().unwrap().lasts.is_zero());
    let text = toml::to_string(&scenario).unwrap();
    assert!(text.contains("lasts = \"to the end\""), "{text}");
    assert_eq!(read(&text, &[]).unwrap(), scenario);
    let Outcome { verdict, account } = World::run(&scenario, Seed::from(1), &scenario.plan()).unwrap();
    assert_eq!((account.faults.relay_crashes, verdict.violations), (1, 0), "{:?}", verdict.examples);
}

#[test]
fn a_value_that_cannot_be_is_refused_with_its_line() {
    for (from, to, line, what) in [
        ("\"1 min\"", "60", 2, "a length of time in quotes"),
        ("\"1 min\"", "\"60\"", 2, "the unit of"),
        ("[\"5 ms\", \"30 ms\"]", "[\"30 ms\", \"5 ms\"]", 13, "the shorter"),
        ("target = \"b.example\"", "target = \"c.example\"", 18, "fault.0.target: names a process that is not there"),
        ("target = \"b.example\"", "target = \"node x\"", 18, "names no node"),
        ("kind = \"crash\"", "kind = \"crush\"", 16, "no kind of fault"),
        ("lasts = \"2 s\"", "lasts = \"0 s\"", 19, "lasts no time"),
        ("lasts = \"2 s\"", "lasts = \"2\"", 19, "or \"to the end\""),
        ("lasts = \"2 s\"", "", 15, "needs the key `lasts`"),
        ("lasts = \"2 s\"", "lasts = \"2 s\"\nkeep = \"some\"", 20, "is none of drawn"),
        ("lasts = \"2 s\"", "lasts = \"2 s\"\npoint = \"applied 0\"", 20, "applied N"),
        ("at = \"30 s\"", "at = \"61 s\"", 17, "fault.0.at: after the end"),
        ("domain = \"b.example\"", "domain = \"a.example\"", 8, "relay.1.domain: another relay"),
        ("count = 3", "count = 0", 12, "population.0.count"),
        ("relay = \"a.example\"", "relay = \"A.example\"", 11, "a domain has dot-separated labels"),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with(&format!("test.toml, line {line}: ")) && error.contains(what), "{error}");
    }
}

#[test]
fn overrides_reach_every_depth_and_need_no_inner_quotes() {
    let scenario = read(FILE, &["sim.duration=5 min", "population.0.count = 7", "network.loss=\"1 %\""]).unwrap();
    assert_eq!(scenario.sim.duration.0.as_secs(), 300);
    let sooner = read(FILE, &["sim.duration=10 s", "fault.0.at=5 s"]).unwrap();
    assert_eq!(sooner, read(FILE, &["fault.0.at=5 s", "sim.duration=10 s"]).unwrap());
    assert_eq!(scenario.nodes(), 7);
    assert!((scenario.network.loss.0 - 0.01).abs() < 1e-9);
}

#[test]
fn a_wrong_override_is_refused_by_its_key() {
    for (set, error) in [
        ("sim.duraton=5 min", "--set sim.duraton: unknown field `duraton`"),
        ("population.3.count=1", "--set population.3.count: 3: expected a number below 1"),
        ("sim.duration.x=1", "--set sim.duration.x: duration has no keys below it"),
        ("sim.duration", "--set sim.duration: expected KEY=VALUE"),
        ("sim.seed=many", "--set sim.seed: many is no seed: a whole number from 0 to 9223372036854775807"),
        ("sim.duration=10 s", "--set sim.duration: fault.0.at: after the end"),
        ("population.0.relay=c.example", "--set population.0.relay: population.0.relay: no relay serves"),
    ] {
        let found = read(FILE, &[set]).unwrap_err();
        assert!(found.starts_with(error), "{set}: {found}");
    }
}

#[test]
fn a_fault_between_one_process_and_itself_says_so() {
    for kind in ["kind = 'partition'", "kind = 'flap'\ndown = '1 s'\nup = '1 s'"] {
        let between = "between = ['node 1', 'node 1']\n";
        let file = FILE.replacen("kind = \"crash\"", kind, 1).replacen("target = \"b.example\"\n", between, 1);
        let error = read(&file, &[]).unwrap_err();
        assert!(error.contains("fault.0.between: names one process twice"), "{error}");
    }
}

#[test]
fn what_a_relay_keeps_is_said_within_what_an_operator_may_say_and_each_slip_has_its_line() {
    let with =
        |log: &str| FILE.replacen("domain = \"a.example\"", &format!("domain = \"a.example\"\nlog = {{ {log} }}"), 1);
    let text = with("entries = 64, bytes = 1048576, hold = \"10 min\"");
    let scenario = read(&text, &[]).unwrap();
    let hold = Some(Span(std::time::Duration::from_secs(600)));
    assert_eq!(scenario.relay[0].log, Keeps { entries: Some(64), bytes: Some(1 << 20), hold });
    assert!(scenario.relay[1].log.are_usual());
    let written = toml::to_string(&scenario).unwrap();
    assert_eq!((read(&written, &[]).unwrap(), written.matches(".log]").count()), (scenario, 1), "{written}");
    for (log, what) in [
        ("entries = 0", "relay.0.log.entries: a log has one entry"),
        ("entries = 10001", "relay.0.log.entries: a log has one entry"),
        ("bytes = 1048575", "relay.0.log.bytes: a log has 1048576 bytes"),
        ("hold = \"9 s\"", "relay.0.log.hold: what waits is held for 10 s"),
        ("hold = \"31 d\"", "relay.0.log.hold: what waits is held for 10 s"),
        ("entires = 5", "unknown field `entires`"),
    ] {
        let error = read(&with(log), &[]).unwrap_err();
        assert!(error.starts_with("test.toml, line 6: ") && error.contains(what), "{error}");
    }
    assert!(read(FILE, &["relay.1.log.entries=12"]).unwrap().relay[1].log.entries == Some(12));
}
