//! Layers and errors as an operator meets them: whole files and environments in, values or exact messages out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    host: String,
    port: u16,
    max_body_bytes: u64,
    quiet: bool,
    ratio: f64,
    origins: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Llm {
    default_model: Option<String>,
    api_key: Option<Secret>,
    mode: Mode,
    upstreams: Vec<Upstream>,
    models: BTreeMap<String, Model>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    name: String,
    #[serde(default)]
    retries: Option<u32>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Model {
    mode: Mode,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Native,
    Text,
}

/// A working folder with files, and an environment.
struct Case {
    folder: tempfile::TempDir,
    options: LoadOptions,
}

fn case(files: &[(&str, &str)], env: &[(&str, &str)]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = LoadOptions { env, working_dir: folder.path().to_owned(), ..LoadOptions::default() };
    Case { folder, options }
}

fn load(files: &[(&str, &str)], env: &[(&str, &str)]) -> Settings {
    Settings::load(&case(files, env).options).unwrap()
}

fn toml(text: &str) -> Settings {
    load(&[("gateway.toml", text)], &[])
}

fn server(settings: &Settings) -> Server {
    settings.section("server").unwrap()
}

fn llm(settings: &Settings) -> Llm {
    settings.section("llm").unwrap()
}

fn server_error(settings: &Settings) -> String {
    settings.section::<Server>("server").unwrap_err().to_string()
}

fn llm_error(settings: &Settings) -> String {
    settings.section::<Llm>("llm").unwrap_err().to_string()
}

fn load_error(files: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    format!("{:#}", Settings::load(&case(files, env).options).unwrap_err())
}

#[test]
fn nothing_at_all_means_defaults() {
    let settings = load(&[], &[]);
    assert_eq!((server(&settings), llm(&settings)), (Server::default(), Llm::default()));
    settings.finish().unwrap();
    assert_eq!(settings.provenance(), ["file: gateway.toml (not there)", "file: .env (not there)"]);
}

#[test]
fn every_layer_beats_the_ones_below() {
    let toml = "[server]\nhost = \"toml\"\nport = 1\nmax_body_bytes = 1\nratio = 1";
    let dotenv = "WITGATE_SERVER__HOST=dotenv\nPORT=2\nWITGATE_SERVER__MAX_BODY_BYTES=2\n";
    let env =
        [("WITGATE_SERVER__HOST", "process"), ("HOST", "plain"), ("WITGATE_SERVER__MAX_BODY_BYTES", "3")];
    let mut case = case(&[("gateway.toml", toml), (".env", dotenv)], &env);
    case.options.overrides = vec![("server.host".to_owned(), "flag".into(), "--host".to_owned())];
    let settings = Settings::load(&case.options).unwrap();
    let wanted = Server { host: "flag".into(), port: 2, max_body_bytes: 3, ratio: 1.0, ..Server::default() };
    assert_eq!(server(&settings), wanted);
    let provenance = [
        "file: gateway.toml",
        "file: .env",
        "environment: HOST, WITGATE_SERVER__HOST, WITGATE_SERVER__MAX_BODY_BYTES",
        "flags: --host",
    ];
    assert_eq!(settings.provenance(), provenance);
}

#[test]
fn a_plain_name_is_weaker_than_ours_only_within_its_layer() {
    let env = [("HOST", "plain"), ("WITGATE_SERVER__HOST", "ours")];
    assert_eq!(server(&load(&[], &env)).host, "ours");
    let files = [(".env", "WITGATE_SERVER__HOST=ours")];
    assert_eq!(server(&load(&files, &[("HOST", "plain")])).host, "plain");
}

#[test]
fn text_becomes_what_the_struct_asks_for() {
    let env = [
        ("DEFAULT_MODEL", "4"),
        ("WITGATE_SERVER__HOST", "true"),
        ("WITGATE_SERVER__PORT", "8080"),
        ("WITGATE_SERVER__MAX_BODY_BYTES", "1_000_000"),
        ("WITGATE_SERVER__QUIET", "true"),
        ("WITGATE_SERVER__RATIO", "2"),
        ("WITGATE_SERVER__ORIGINS", r#"["a", "1"]"#),
        ("WITGATE_LLM__MODE", "text"),
        ("WITGATE_LLM__API_KEY", "12"),
    ];
    let settings = load(&[], &env);
    let wanted = Server {
        host: "true".into(),
        port: 8080,
        max_body_bytes: 1_000_000,
        quiet: true,
        ratio: 2.0,
        origins: vec!["a".into(), "1".into()],
    };
    assert_eq!(server(&settings), wanted);
    let llm = llm(&settings);
    assert_eq!((llm.default_model.as_deref(), llm.mode), (Some("4"), Mode::Text));
    assert_eq!(llm.api_key, Some(Secret::new("12")));
}

#[test]
fn variables_reach_into_lists_and_tables() {
    let file = "[[llm.upstreams]]\nname = \"a\"\n[llm.models.\"gpt-4.1\"]\nmode = \"native\"\n";
    let env = [
        ("WITGATE_LLM__UPSTREAMS__0__RETRIES", "4"),
        ("WITGATE_LLM__UPSTREAMS__1__NAME", "b"),
        ("WITGATE_LLM__MODELS__GPT_4_1__MODE", "text"),
    ];
    let from_file = llm(&load(&[("gateway.toml", file)], &env));
    let upstream = |name: &str, retries| Upstream { name: name.into(), retries };
    assert_eq!(from_file.upstreams, [upstream("a", Some(4)), upstream("b", None)]);
    assert_eq!(from_file.models["gpt-4.1"].mode, Mode::Text);
    let env = [
        ("WITGATE_LLM", "{ mode = \"text\" }"),
        ("WITGATE_LLM__UPSTREAMS__0__NAME", "a"),
        ("WITGATE_LLM__MODELS", "{ m = { mode = \"text\" } }"),
    ];
    let from_env = llm(&load(&[], &env));
    assert_eq!((&from_env.mode, &from_env.upstreams[..]), (&Mode::Text, &[upstream("a", None)][..]));
    assert_eq!(from_env.models["m"].mode, Mode::Text);
}

#[test]
fn an_unknown_key_names_place_and_nearest_key() {
    let settings = toml("\n[llm]\n  defualt_model = \"x\"\n");
    assert_eq!(
        llm_error(&settings),
        "gateway.toml:3:3: unknown key llm.defualt_model; did you mean default_model?"
    );
    let settings = toml("[server]\nxyz = 1");
    assert_eq!(
        server_error(&settings),
        "gateway.toml:2:1: unknown key server.xyz; known here: host, port, max_body_bytes, quiet, ratio, origins"
    );
    let settings = toml("[[llm.upstreams]]\nname = \"a\"\n[[llm.upstreams]]\nname = \"b\"\nretires = 1");
    assert_eq!(
        llm_error(&settings),
        "gateway.toml:5:1: unknown key llm.upstreams[1].retires; did you mean retries?"
    );
}

#[test]
fn an_unknown_variable_names_the_right_one() {
    assert_eq!(
        llm_error(&load(&[], &[("WITGATE_LLM__DEFUALT_MODEL", "x")])),
        "environment variable WITGATE_LLM__DEFUALT_MODEL: unknown key llm.defualt_model; did you mean \
         WITGATE_LLM__DEFAULT_MODEL?"
    );
    assert_eq!(
        llm_error(&load(&[(".env", "# keys\nWITGATE_LLM__UPSTREAMS__0__NAM=x")], &[])),
        ".env:2: WITGATE_LLM__UPSTREAMS__0__NAM: unknown key llm.upstreams[0].nam; did you mean \
         WITGATE_LLM__UPSTREAMS__0__NAME?"
    );
    assert_eq!(
        load_error(&[], &[("WITGATE_LLM__", "x")]),
        "environment variable WITGATE_LLM__: not the name of a setting; names are WITGATE_SECTION__KEY"
    );
}

#[test]
fn a_wrong_type_names_key_and_wanted_type() {
    let cases = [
        ("port = \"80\"", "2:8: server.port must be a whole number from 0 to 65535, not the string \"80\""),
        ("port = 70000", "2:8: server.port must be a whole number from 0 to 65535, not 70000"),
        ("port = -1", "2:8: server.port must be a whole number from 0 to 65535, not -1"),
        ("max_body_bytes = 1.5", "2:18: server.max_body_bytes must be a whole number, 0 or more, not 1.5"),
        ("quiet = \"yes\"", "2:9: server.quiet must be true or false, not the string \"yes\""),
        ("host = 1", "2:8: server.host must be a string, not 1"),
        ("host = [1]", "2:8: server.host must be a string, not a list"),
        (
            "origins = \"a\"",
            "2:11: server.origins must be a list, for example [\"a\", \"b\"], not the string \"a\"",
        ),
        ("origins = [\"a\",\n 2]", "3:2: server.origins[1] must be a string, not 2"),
    ];
    for (line, wanted) in cases {
        assert_eq!(server_error(&toml(&format!("[server]\n{line}"))), format!("gateway.toml:{wanted}"));
    }
    assert_eq!(server_error(&toml("server = 3")), "gateway.toml:1:10: server must be a table, not 3");
    assert_eq!(
        server_error(&load(&[], &[("PORT", "eighty")])),
        "environment variable PORT: server.port must be a whole number from 0 to 65535, not the string \"eighty\""
    );
    let mut case = case(&[], &[]);
    case.options.overrides = vec![("server.port".to_owned(), "x".into(), "--port".to_owned())];
    assert_eq!(
        server_error(&Settings::load(&case.options).unwrap()),
        "flag --port: server.port must be a whole number from 0 to 65535, not the string \"x\""
    );
}

#[test]
fn all_faults_of_a_section_are_told() {
    let text = "[llm]\ndefualt_model = \"x\"\nmode = 1\n[[llm.upstreams]]\nname = 1\n[[llm.upstreams]]\nname = \"b\"\nx = 1";
    let error = llm_error(&toml(text));
    let places: Vec<&str> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["gateway.toml:2:1", "gateway.toml:3:8", "gateway.toml:5:8"], "{error}");
    let text = "[server]\norigins = [1, 2]\nport = \"x\"\nnope = 1";
    assert_eq!(server_error(&toml(text)).lines().count(), 3);
}

#[test]
fn words_and_missing_keys_are_named() {
    assert_eq!(
        llm_error(&toml("[llm]\nmode = \"txet\"")),
        "gateway.toml:2:8: llm.mode must be one of native, text, not \"txet\"; did you mean text?"
    );
    assert_eq!(
        llm_error(&toml("[llm]\nmode = 1")),
        "gateway.toml:2:8: llm.mode must be one of native, text, not 1"
    );
    assert_eq!(
        llm_error(&toml("[[llm.upstreams]]\nretries = 1")),
        "gateway.toml:1:1: llm.upstreams[0] lacks the key name"
    );
}

#[test]
fn secrets_are_not_shown() {
    let error = llm_error(&toml("[llm]\napi_key = 1234567"));
    assert_eq!(error, "gateway.toml:2:11: llm.api_key must be a string, not a number");
    let settings = load(&[(".env", "OPENAI_API_KEY=sk-file")], &[("WITGATE_LLM__API_KEY", "sk-env")]);
    let shown = format!("{settings:?} {:?} {:?}", llm(&settings), settings.env("OPENAI_API_KEY"));
    assert!(!shown.contains("sk-"), "{shown}");
    let broken = load_error(&[(".env", "A=1\nOPENAI_API_KEY \"sk-secret\"")], &[]);
    assert_eq!(broken, ".env:2: expected NAME=value");
}

#[test]
fn broken_files_name_line_and_column() {
    let error = load_error(&[("gateway.toml", "[server]\nport = = 1")], &[]);
    assert!(error.starts_with("gateway.toml:2:8: not valid TOML: "), "{error}");
    let error = load_error(&[("gateway.toml", "[server]\nport = 1\nport = 2")], &[]);
    assert!(error.starts_with("gateway.toml:3:1: not valid TOML: duplicate key"), "{error}");
    let error = load_error(&[("gateway.toml", "[server]\nmax_body_bytes = 99999999999999999999")], &[]);
    assert_eq!(error, "gateway.toml:2:18: server.max_body_bytes: the number does not fit in 64 bits");
    let case = case(&[], &[]);
    std::fs::write(case.folder.path().join("gateway.toml"), b"a = 1\nb = \"\xff\"").unwrap();
    let error = Settings::load(&case.options).unwrap_err().to_string();
    assert_eq!(error, "gateway.toml:2: the file is not UTF-8 text");
}

#[test]
fn a_byte_order_mark_is_not_a_key() {
    assert_eq!(server(&toml("\u{feff}[server]\nport = 5")).port, 5);
}

#[test]
fn a_folder_is_no_file() {
    let case = case(&[], &[]);
    std::fs::create_dir(case.folder.path().join(".env")).unwrap();
    let settings = Settings::load(&case.options).unwrap();
    assert!(settings.provenance().contains(&"file: .env (not there)".to_owned()));
}

#[test]
fn a_named_file_must_exist() {
    let mut case = case(&[("other.toml", "[server]\nport = 9"), ("gateway.toml", "[server]\nport = 8")], &[]);
    case.options.config_file = Some("other.toml".into());
    assert_eq!(server(&Settings::load(&case.options).unwrap()).port, 9);
    case.options.config_file = Some("missing.toml".into());
    assert_eq!(Settings::load(&case.options).unwrap_err().to_string(), "missing.toml: no such file");
    case.options.config_file = None;
    case.options.env_file = Some("missing.env".into());
    assert_eq!(Settings::load(&case.options).unwrap_err().to_string(), "missing.env: no such file");
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    let file = "data_dri = \"x\"\n[servr]\nport = 1\n[zzz]\n";
    let env = [("WITGATE_SEVER__PORT", "1"), ("WITGATE_DATADIR", "x")];
    let settings = load(&[("gateway.toml", file)], &env);
    server(&settings);
    settings.value::<String>("data_dir").unwrap();
    let wanted = [
        "gateway.toml:1:1: unknown key data_dri; did you mean data_dir?",
        "gateway.toml:2:2: unknown section servr; did you mean server?",
        "gateway.toml:4:2: unknown section zzz; known here: data_dir, server",
        "environment variable WITGATE_DATADIR: unknown key datadir; did you mean WITGATE_DATA_DIR?",
        "environment variable WITGATE_SEVER__PORT: unknown section sever; did you mean WITGATE_SERVER__..?",
    ];
    assert_eq!(settings.finish().unwrap_err().to_string(), wanted.join("\n"));
}

#[test]
fn reserved_and_foreign_variables_are_no_settings() {
    let env = [
        ("WITGATE_ADMIN_PASSWORD", "x"),
        ("WITGATE_TEST_CLIENTS", "x"),
        ("WITGATE_PORT", "tcp://10.0.0.1:8000"),
        ("WITGATE_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("WITGATE_SERVICE_HOST", "10.0.0.1"),
        ("WITGATE_SERVICE_PORT_HTTP", "8000"),
        ("WITGATE_SERVER__PORT", ""),
        ("PATH", "/bin"),
    ];
    let settings = load(&[("gateway.toml", "[server]\nport = 7")], &env);
    assert_eq!(server(&settings).port, 7);
    settings.finish().unwrap();
    assert_eq!(settings.env("WITGATE_ADMIN_PASSWORD"), Some(Secret::new("x")));
}

#[test]
fn plain_variables_come_from_the_process_first() {
    let files = [(".env", "OPENAI_API_KEY=sk-file\nOPENAI_BASE_URL=https://a/v1\nEMPTY=")];
    let settings = load(&files, &[("OPENAI_API_KEY", "sk-env"), ("OPENAI_BASE_URL", "")]);
    let env = |name| settings.env(name).map(|secret| secret.expose().to_owned());
    assert_eq!(env("OPENAI_API_KEY").as_deref(), Some("sk-env"));
    assert_eq!(env("OPENAI_BASE_URL").as_deref(), Some("https://a/v1"));
    assert_eq!((env("EMPTY"), env("NOPE")), (None, None));
}

#[test]
fn servers_are_found_and_see_settings_as_variables() {
    let servers =
        r#"{"mcpServers": {"a": {"command": "x", "args": ["${WITGATE_DATA_DIR:-./data}/a.db", "${KEY}"]}}}"#;
    let files =
        [("servers_config.json", servers), ("gateway.toml", "data_dir = \"/srv\""), (".env", "KEY=k")];
    let case = case(&files, &[]);
    let settings = Settings::load(&case.options).unwrap();
    let found = settings.mcp_servers(None).unwrap();
    let mcp_servers::McpTransport::Stdio { args, cwd, .. } = &found[0].transport else { panic!("stdio") };
    assert_eq!(args, &["/srv/a.db", "k"]);
    assert_eq!(cwd, case.folder.path());
    let missing = settings.mcp_servers(Some(Path::new("nope.json"))).unwrap_err();
    assert_eq!(missing.to_string(), "nope.json: no such file");
    assert_eq!(load(&[], &[]).mcp_servers(None).unwrap(), []);
}
