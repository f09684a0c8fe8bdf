//! Names of tools: single cases, and random histories in which servers come, go and change.

use super::*;

fn canonical(namer: &Namer, server: usize, raw: &str) -> String {
    namer.names(server, raw).unwrap().canonical
}

fn is_allowed(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[test]
fn the_later_of_two_gets_its_servers_name() {
    let mut namer = Namer::new(["a", "b"]);
    namer.assign(&[vec!["search", "x"], vec!["search", "y"]], true);
    assert_eq!(canonical(&namer, 0, "search"), "search");
    assert_eq!(canonical(&namer, 1, "search"), "b__search");
    assert_eq!(canonical(&namer, 1, "y"), "y");
    assert_eq!(namer.names(0, "search").unwrap().aliases[0], "a__search");
}

#[test]
fn the_order_of_configuration_decides_while_servers_start() {
    let mut namer = Namer::new(["slow", "fast"]);
    namer.assign(&[vec![], vec!["search"]], false);
    assert_eq!(canonical(&namer, 1, "search"), "search");
    namer.assign(&[vec!["search"], vec!["search"]], false);
    assert_eq!(canonical(&namer, 0, "search"), "search");
    assert_eq!(canonical(&namer, 1, "search"), "fast__search");
}

#[test]
fn a_server_that_comes_late_renames_nobody() {
    let mut namer = Namer::new(["late", "early"]);
    namer.assign(&[vec![], vec!["search"]], true);
    namer.assign(&[vec!["search"], vec!["search"]], true);
    assert_eq!(canonical(&namer, 1, "search"), "search");
    assert_eq!(canonical(&namer, 0, "search"), "late__search");
}

#[test]
fn a_server_that_is_down_keeps_its_names() {
    let mut namer = Namer::new(["a", "b"]);
    for settled in [false, true] {
        namer.assign(&[vec!["search"], vec![]], settled);
        namer.assign(&[vec![], vec!["search"]], settled);
        assert_eq!(canonical(&namer, 1, "search"), "b__search", "settled: {settled}");
        namer.assign(&[vec!["search"], vec!["search"]], settled);
        assert_eq!(canonical(&namer, 0, "search"), "search", "settled: {settled}");
    }
}

#[test]
fn names_are_brought_to_the_allowed_form() {
    let mut namer = Namer::new(["my.server"]);
    let long = "x".repeat(65);
    namer.assign(&[vec!["a.b", "a_b", "größe", "", &long]], true);
    assert_eq!(canonical(&namer, 0, "a_b"), "a_b", "an allowed name is kept");
    assert_eq!(canonical(&namer, 0, "größe"), "gr__e");
    let dotted = canonical(&namer, 0, "a.b");
    assert!(dotted.starts_with("a_b_") && dotted.len() == 12, "{dotted}");
    let cut = canonical(&namer, 0, &long);
    assert!(cut.len() == 64 && cut.starts_with(&"x".repeat(55)), "{cut}");
    assert_eq!(canonical(&namer, 0, ""), "tool");
    assert_eq!(
        namer.names(0, "größe").unwrap().aliases,
        ["my_server__gr__e".to_owned(), "my.server__größe".to_owned()]
    );
}

#[test]
fn a_tool_is_found_by_its_servers_own_name() {
    let mut namer = Namer::new(["a", "b"]);
    let own = |namer: &Namer, server, raw| namer.names(server, raw).unwrap().own;
    namer.assign(&[vec!["搜索", "plain", "b__größe", ""], vec!["搜索", "größe"]], true);
    assert_eq!(own(&namer, 0, "搜索").as_deref(), Some("搜索"));
    assert_eq!(own(&namer, 1, "搜索"), None, "the earlier server has it");
    assert_eq!(own(&namer, 1, "größe").as_deref(), Some("größe"));
    assert_eq!(own(&namer, 0, "b__größe"), None, "that is how the other server's tool is called");
    assert_eq!((own(&namer, 0, "plain"), own(&namer, 0, "")), (None, None));
    // Its server is down, and nobody else takes it.
    namer.assign(&[vec![], vec!["搜索", "größe"]], true);
    assert_eq!(own(&namer, 1, "搜索"), None);
}

#[test]
fn a_tool_cannot_pose_as_another_servers_tool() {
    let mut namer = Namer::new(["x", "files"]);
    namer.assign(&[vec!["files__read"], vec!["read"]], true);
    assert_eq!(canonical(&namer, 0, "files__read"), "x__files__read");
    assert_eq!(namer.names(1, "read").unwrap().aliases[0], "files__read");
}

#[test]
fn a_qualified_name_is_one_tools_alone() {
    let mut namer = Namer::new(["a", "a__b", "x"]);
    let full = |namer: &Namer, server, raw| namer.names(server, raw).unwrap().aliases[0].clone();
    namer.assign(&[vec!["b__c"], vec!["c"], vec!["new__t"]], true);
    assert_eq!(full(&namer, 0, "b__c"), "a__b__c");
    let other = full(&namer, 1, "c");
    assert!(other.starts_with("a__b__c_") && other.len() == 16, "{other}");
    // A server that comes later cannot be called what another one's tool is called already.
    assert_eq!(canonical(&namer, 2, "new__t"), "new__t");
    namer.add("new");
    namer.assign(&[vec![], vec!["c"], vec!["new__t"], vec!["t"]], true);
    assert!(full(&namer, 3, "t").starts_with("new__t_"), "{}", full(&namer, 3, "t"));
    assert_eq!(full(&namer, 1, "c"), other, "it stays, though the other server is down");
}

#[test]
fn servers_whose_names_look_alike_stay_apart() {
    let mut namer = Namer::new(["s", "my.srv", "my_srv", "my srv"]);
    namer.assign(&[vec!["t"], vec!["t"], vec!["t"], vec!["t"]], true);
    let names: HashSet<String> = (0..4).map(|server| canonical(&namer, server, "t")).collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_server_that_invents_names_without_end_is_forgotten_in_part() {
    let mut namer = Namer::new(["a"]);
    for round in 0..30 {
        let names: Vec<String> = (0..500).map(|n| format!("t{round}_{n}")).collect();
        namer.assign(&[names.iter().map(String::as_str).chain(["kept"]).collect()], true);
        assert_eq!(canonical(&namer, 0, "kept"), "kept");
    }
    assert!(namer.servers[0].tools.len() <= MAX_REMEMBERED);
}

/// Random histories: whatever happens, names are allowed, unique, and stay once they are settled.
#[test]
fn names_hold_through_any_history() {
    const SERVERS: [&str; 5] = ["a", "b", "a__b", "we.ird", "we_ird"];
    let long = "long".repeat(20);
    let pool = [
        "t",
        "b__t",
        "a__b__t",
        "t.1",
        "t_1",
        "t 1",
        "",
        "tool",
        &long,
        "we_ird__t",
        "ünï",
        "a__t",
        "search",
    ];
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut namer = Namer::new(SERVERS);
        let mut settled_names: HashMap<(usize, &str), String> = HashMap::new();
        for step in 0..20 {
            let settled = step >= 5;
            let offered: Vec<Vec<&str>> = SERVERS
                .iter()
                .map(|_| if random.u8(..4) == 0 { vec![] } else { random.choose_multiple(pool, 6) })
                .collect();
            namer.assign(&offered, settled);
            let mut seen = HashMap::new();
            for (server, names) in offered.iter().enumerate() {
                for raw in names {
                    let names = namer.names(server, raw).unwrap();
                    let name = names.canonical;
                    for name in [&name, &names.aliases[0]] {
                        assert!(is_allowed(name), "{name:?}");
                        let owner = seen.insert(name.clone(), (server, *raw));
                        assert!(
                            owner.is_none_or(|owner| owner == (server, *raw)),
                            "seed {seed}: {name} twice"
                        );
                    }
                    if settled {
                        let first = settled_names.entry((server, raw)).or_insert_with(|| name.clone());
                        assert_eq!(*first, name, "seed {seed}: renamed");
                    }
                }
            }
        }
    }
}
