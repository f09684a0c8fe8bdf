//! What a guest can try with the outside world: hosts it was not granted, peers that keep it waiting, headers that are
//! more than one, files it may only read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::{file, text};
use crate::guests;
use crate::harness::plugins::{ask_model, echo, gateway_with};
use crate::harness::{Gateway, Reply, Upstream, ask, call, eventually};

/// A web server that does as the path says.
struct Site {
    port: u16,
    /// Connections so far.
    reached: Arc<AtomicUsize>,
    /// Connections that are open now.
    open: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (reached, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (all, now) = (Arc::clone(&reached), Arc::clone(&open));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                let now = Arc::clone(&now);
                tokio::spawn(async move {
                    // Clients that hang up are what this is about.
                    let _ = serve(stream).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, reached, open, _accepting: AbortOnDropHandle::new(accepting) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn grant(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    async fn until_open(&self, count: usize) {
        eventually(&format!("{count} connections are open"), async || {
            self.open.load(Ordering::SeqCst) == count
        })
        .await;
    }
}

/// One request: `page` is a page, `to?X` redirects to X, `stall` says nothing, `drip` never comes to an end slowly, and
/// `flood` fast.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    const OPENING: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    match path.split_once('?').unwrap_or((path, "")) {
        ("page", _) => {
            let answer = format!("{OPENING}content-length: 8\r\nconnection: close\r\n\r\nthe page");
            stream.write_all(answer.as_bytes()).await
        }
        ("to", target) => {
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await
        }
        ("drip", _) => {
            stream.write_all(format!("{OPENING}\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b"drip ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        ("flood", _) => {
            stream.write_all(format!("{OPENING}\r\n").as_bytes()).await?;
            loop {
                stream.write_all(&[b'x'; 65536]).await?;
            }
        }
        _ => stream.read_to_end(&mut Vec::new()).await.map(drop),
    }
}

/// A model that has the tool `fetch_page` called with what it is asked, and then says what came of it.
fn fetching() -> Upstream {
    let upstream = Upstream::scripted(|request| {
        let messages = request.messages();
        let last = messages.last().unwrap();
        let said = last["content"].as_str().unwrap_or_default();
        if last["role"] == "tool" || request.json()["model"] == "plain" {
            return Reply::text(said);
        }
        Reply::calls([call("c1", "fetch_page", &json!({ "url": said }))])
    });
    let model = |id: &str| json!({"id": id, "object": "model", "created": 1, "owned_by": "scripted"});
    upstream.set_models(json!({"object": "list", "data": [model("m1"), model("plain")]}));
    upstream
}

/// A gateway with the bundled `fetch-page`.
async fn with_fetch_page(upstream: &Upstream, network: &[String], more: &str) -> Gateway {
    let dist = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/dist/fetch-page.wasm");
    let toml = format!("network = {}\n{more}\n", json!(network));
    let files = [("fetch-page.wasm", std::fs::read(dist).unwrap()), ("fetch-page.toml", toml.into_bytes())];
    let files = files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    let gateway = gateway_with(upstream, files).start().await;
    let plugin = gateway.plugin("fetch-page").await;
    assert_eq!(plugin["state"], "serving", "{plugin}");
    gateway
}

async fn fetch(gateway: &Gateway, url: &str) -> String {
    text(&gateway.complete(&ask(url)).await).to_owned()
}

#[tokio::test]
async fn nothing_is_reached_but_what_is_granted() {
    let (granted, other) = (Site::start().await, Site::start().await);
    let upstream = fetching();
    let gateway = with_fetch_page(&upstream, &[granted.grant()], "").await;
    assert!(fetch(&gateway, &granted.url("page")).await.ends_with("the page"));
    let port = other.port;
    let forbidden = [
        ("another port", format!("http://127.0.0.1:{port}/page")),
        ("a name for loopback", format!("http://localhost:{port}/page")),
        ("a name in capitals", format!("http://LOCALHOST:{port}/page")),
        ("another name for it", format!("http://localhost:{}/page", granted.port)),
        ("loopback as a number", format!("http://2130706433:{port}/page")),
        ("loopback in hexadecimal", format!("http://0x7f.1:{port}/page")),
        ("loopback in octal", format!("http://0177.0.0.1:{port}/page")),
        ("another address of loopback", format!("http://127.0.0.2:{port}/page")),
        ("all addresses", format!("http://0.0.0.0:{port}/page")),
        ("IPv6", format!("http://[::1]:{port}/page")),
        ("a mapped address", format!("http://[::ffff:127.0.0.1]:{port}/page")),
        ("a translated address", format!("http://[64:ff9b::7f00:1]:{port}/page")),
        ("private", "http://10.0.0.1/".to_owned()),
        ("private too", "http://192.168.1.1/".to_owned()),
        ("link-local", "http://169.254.1.1/".to_owned()),
        ("link-local of IPv6", "http://[fe80::1]/".to_owned()),
        ("metadata", "http://169.254.169.254/latest/meta-data/".to_owned()),
        ("metadata over IPv6", "http://[fd00:ec2::254]/".to_owned()),
        ("metadata by name", "http://metadata.google.internal/".to_owned()),
        ("TLS on a plain port", format!("https://127.0.0.1:{}/page", granted.port)),
        ("the gateway itself", gateway.url()),
    ];
    let before = granted.reached();
    for (what, url) in &forbidden {
        let said = fetch(&gateway, url).await;
        assert!(
            said.contains("may not be fetched") || said.contains("could not be fetched"),
            "{what}: {said}"
        );
        assert!(!said.contains("the page"), "{what}: {said}");
        // The long way round.
        let said = fetch(&gateway, &granted.url(&format!("to?{url}"))).await;
        assert!(
            said.contains("may not be fetched") || said.contains("could not be fetched"),
            "{what}: {said}"
        );
    }
    assert_eq!((granted.reached() - before, other.reached()), (forbidden.len(), 0));
    for url in
        ["file:///etc/passwd", "ftp://127.0.0.1/", &format!("http://a:b@127.0.0.1:{}/page", granted.port)]
    {
        let said = fetch(&gateway, url).await;
        assert!(!said.contains("the page") && !said.contains("root:"), "{url}: {said}");
    }
    gateway.until_logged(&["plugin `fetch-page` asked for 169.254.169.254:80; grant it with network"]).await;
    let plugin = gateway.plugin("fetch-page").await;
    assert_eq!((&plugin["errors"], &plugin["running"]), (&json!({}), &json!(0)), "{plugin}");
    // A name for this machine is refused where it is granted.
    gateway.drop_in("fetch-page.toml", format!("network = [\"http://localhost:{port}\"]").as_bytes());
    gateway.reload_plugins().await;
    let plugin = gateway.plugin("fetch-page").await;
    let error = plugin["error"].as_str().unwrap();
    assert!(error.starts_with("fetch-page.toml:1:") && error.contains("granted by address only"), "{error}");
}

#[tokio::test]
async fn slow_peers_keep_only_their_own_call_waiting() {
    let site = Site::start().await;
    let upstream = fetching();
    let gateway =
        with_fetch_page(&upstream, &[site.grant()], "[config]\ntimeout_seconds = 4\nmax_bytes = 100000")
            .await;
    assert!(fetch(&gateway, &site.url("page")).await.ends_with("the page"));
    let files = gateway.open_files();
    for path in ["stall", "drip"] {
        let url = site.url(path);
        let (said, ()) = tokio::join!(fetch(&gateway, &url), gateway.answers_others());
        assert!(said.contains("gave no complete answer within 4 seconds"), "{path}: {said}");
        site.until_open(0).await;
    }
    let said = fetch(&gateway, &site.url("flood")).await;
    assert!(said.contains("read on with start"), "{said}");
    site.until_open(0).await;
    // The gateway's own limit, in words that do not tell the guest's inside.
    let before = gateway.plugin("fetch-page").await["loaded_ms"].clone();
    gateway.drop_in(
        "fetch-page.toml",
        format!("network = {}\nlimits.call_timeout_ms = 300", json!([site.grant()])).as_bytes(),
    );
    for _ in 0..50 {
        gateway.reload_plugins().await;
        if gateway.plugin("fetch-page").await["loaded_ms"] != before {
            break;
        }
    }
    let said = fetch(&gateway, &site.url("stall")).await;
    assert!(said.contains("plugin `fetch-page` took too long"), "{said}");
    site.until_open(0).await;
    let plugin = gateway.plugin("fetch-page").await;
    // A call that changes nothing is tried again.
    assert!(plugin["errors"]["timeout"].as_u64() >= Some(1), "{plugin}");
    // Nobody waits for the answer any more.
    gateway.drop_in("fetch-page.toml", format!("network = {}", json!([site.grant()])).as_bytes());
    gateway.reload_plugins().await;
    for stream in [false, true] {
        let url = site.url("stall");
        let request = gateway.completion(&ask_model("m1", &url, stream)).send_any();
        tokio::select! {
            said = request => panic!("answered: {said}"),
            () = async { site.until_open(1).await; gateway.answers_others().await } => {}
        }
        site.until_open(0).await;
        gateway.until_running("fetch-page", 0).await;
    }
    eventually("their connections are closed", async || gateway.open_files() <= files + 6).await;
}

#[tokio::test]
async fn headers_stay_single() {
    let upstream = echo(&["headers"]);
    let guest = guests::header_setter();
    let toml = file("headers", "");
    let gateway = gateway_with(&upstream, [("headers.wasm", &guest[..]), ("headers.toml", toml.as_bytes())]);
    let gateway = gateway.start().await;
    let long = format!("!x-long={}", "x".repeat(40_000));
    let cases = [
        ("!x-fine=a value; with=more", "ok"),
        ("!x-a=b\r\nX-Evil: 1", "0"),
        ("!x-a=b\nX-Evil: 1", "0"),
        ("!x-a=b\rX-Evil: 1", "0"),
        ("!x-a=b\0", "0"),
        ("!x-a\r\nX-Evil: 1\r\nx-b=c", "0"),
        ("!x a=b", "0"),
        ("!x-a: b\r\n=c", "0"),
        ("!=c", "0"),
        ("!host=evil.test", "1"),
        ("!Connection=keep-alive", "1"),
        ("!transfer-encoding=chunked", "1"),
        ("!Proxy-Authorization=Basic eA==", "1"),
        ("!te=trailers", "1"),
    ];
    for (input, expected) in cases {
        let reply = gateway.complete(&ask_model("headers", input, false)).await;
        assert_eq!(text(&reply), expected, "{input:?}");
    }
    // More than the gateway keeps for a guest.
    let reply: Value = gateway.post("/v1/chat/completions", &ask_model("headers", &long, false)).await.json();
    assert_ne!(reply["choices"][0]["message"]["content"], "ok", "{reply}");
}

#[tokio::test]
async fn a_folder_granted_for_reading_is_read_and_nothing_else() {
    let upstream = echo(&["files"]);
    let guest = guests::file_tool();
    let builder = gateway_with(&upstream, [("files.wasm", &guest[..])]);
    let root = builder.folder().to_owned();
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    };
    write("granted/list.txt", "listed");
    write("granted/inner/deep.txt", "deep");
    write("outside/secret.txt", "the secret");
    std::fs::create_dir(root.join("granted/empty")).unwrap();
    std::os::unix::fs::symlink("../outside/secret.txt", root.join("granted/link.txt")).unwrap();
    std::os::unix::fs::symlink(root.join("outside"), root.join("granted/absolute")).unwrap();
    std::os::unix::fs::symlink("list.txt", root.join("granted/inner.txt")).unwrap();
    let grant = json!([{"host": root.join("granted"), "guest": "/data", "mode": "read"}]);
    let grant = grant[0].as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}"));
    let grant = format!("files = [{{ {} }}]", grant.collect::<Vec<_>>().join(", "));
    std::fs::write(root.join("plugins/files.toml"), file("files", &grant)).unwrap();
    let gateway = builder.start().await;
    let try_to = async |what: &str| {
        let reply = gateway.complete(&ask_model("files", &format!("!{what}"), false)).await;
        text(&reply).to_owned()
    };
    for (path, content) in [("list.txt", "listed"), ("inner/deep.txt", "deep"), ("inner.txt", "listed")] {
        assert_eq!(try_to(&format!("r{path}")).await, content);
    }
    assert_eq!(try_to("rinner/../list.txt").await, "listed");
    let absolute = root.join("outside/secret.txt");
    let beyond = [
        "../outside/secret.txt",
        "inner/../../outside/secret.txt",
        "./../outside/secret.txt",
        "link.txt",
        "absolute/secret.txt",
    ];
    for path in
        beyond.into_iter().chain([absolute.to_str().unwrap(), "/etc/passwd", "..", "../", "/", "inner/../.."])
    {
        let said = try_to(&format!("r{path}")).await;
        assert!(said.starts_with('-'), "{path}: {said}");
    }
    for change in [
        "cnew",
        "c../new",
        "wlist.txt",
        "w../outside/secret.txt",
        "wlink.txt",
        "nnew.txt",
        "n../outside/new.txt",
        "tlist.txt",
        "mlist.txt>moved.txt",
        "mlist.txt>../outside/moved.txt",
        "m../outside/secret.txt>mine.txt",
        "mempty>gone",
        "llist.txt>again.txt",
        "l../outside/secret.txt>mine.txt",
        "slist.txt>again.txt",
        "s../outside>out",
        "s/etc/passwd>out",
        "ulist.txt",
        "ulink.txt",
        "u../outside/secret.txt",
        "xempty",
        "x../outside",
    ] {
        let said = try_to(change).await;
        assert!(said.starts_with('-'), "{change}: {said}");
    }
    let names = |folder: &str| {
        let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("granted"), ["absolute", "empty", "inner", "inner.txt", "link.txt", "list.txt"]);
    assert_eq!(names("outside"), ["secret.txt"]);
    assert_eq!(std::fs::read_to_string(root.join("granted/list.txt")).unwrap(), "listed");
    assert_eq!(std::fs::read_to_string(root.join("outside/secret.txt")).unwrap(), "the secret");
    // The folder is swapped for a link under the running gateway: what was granted is the folder that was there.
    std::fs::rename(root.join("granted"), root.join("moved")).unwrap();
    std::os::unix::fs::symlink(root.join("outside"), root.join("granted")).unwrap();
    let said = try_to("rsecret.txt").await;
    assert!(said.starts_with('-'), "{said}");
    let plugin = gateway.plugin("files").await;
    assert_eq!((&plugin["errors"], &plugin["running"]), (&json!({}), &json!(0)), "{plugin}");
}
