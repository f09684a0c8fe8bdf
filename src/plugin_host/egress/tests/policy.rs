//! What is refused, and why.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;

#[tokio::test]
async fn what_is_not_granted_is_not_reached() {
    let server = Server::answering(OK).await;
    let mut plugin = Plugin::new(&["api.example.com", "*.example.org"], limits(), Egress::default());
    for url in [
        server.url().as_str(),
        "http://localhost/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
        "https://example.org/",
        "https://api.example.com.evil.test/",
        "https://api.example.com:8443/",
        "http://api.example.com/",
        "https://evil.test/?api.example.com",
    ] {
        let error = plugin.get(url).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{url}: {error}");
    }
    let error = plugin.get("https://api.example.com@evil.test/").await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestUriInvalid), "{error}");
    assert_eq!(plugin.counts(), (0, 20, 0));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_name_leads_to_public_addresses_only() {
    for address in [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "fd00:ec2::254",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "168.63.129.16",
    ] {
        // Alone, after a public address, and before one: nothing is connected to.
        let answers: [&[&str]; 3] = [&[address], &["1.1.1.1", address], &[address, "1.1.1.1"]];
        let egress = Egress::with_resolver(Answers::new(&answers));
        let mut plugin = Plugin::new(&["*.example.org:80"], limits(), egress);
        for _ in answers {
            let error = plugin.get("http://api.example.org/").await.unwrap_err();
            assert!(matches!(error, Error::DestinationIpProhibited), "{address}: {error}");
        }
        assert_eq!(plugin.counts(), (0, 3, 0));
    }
}

#[tokio::test]
async fn an_address_behind_a_name_counts_where_it_is_granted_itself() {
    let server = Server::answering(OK).await;
    let port = server.address.port();
    let answers = Answers::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let grants = [format!("http://api.test:{port}"), format!("http://127.0.0.1:{port}")];
    let grants = [grants[0].as_str(), grants[1].as_str()];
    let mut plugin = Plugin::new(&grants, limits(), Egress::with_resolver(answers.clone()));
    let url = format!("http://API.test.:{port}/");
    assert_eq!(plugin.get(&url).await.unwrap().0, 200);
    assert!(server.seen()[0].contains(&format!("host: api.test:{port}\r\n")), "{}", server.seen()[0]);
    // One look-up per request, and the connection goes to what it gave: a name cannot move in between.
    assert_eq!(*answers.asked.lock().unwrap(), ["api.test"]);
    // The next request looks it up again, and checks again.
    let error = plugin.get(&url).await.unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    assert_eq!((server.seen().len(), plugin.counts()), (1, (1, 1, 0)));
}

#[tokio::test]
async fn a_redirect_is_the_answer_and_where_it_leads_is_checked() {
    let hidden = Server::answering(OK).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", hidden.url());
    let server = Server::answering(&answer).await;
    let mut plugin = Plugin::of(&server, limits());
    let (response, _driver) = plugin.send(get(&server.url())).await.unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(matches!(plugin.get(&location).await.unwrap_err(), Error::HttpRequestDenied));
    assert!(hidden.seen().is_empty());
}

#[tokio::test]
async fn names_that_do_not_resolve_are_told_apart_from_refusals() {
    let egress = Egress::with_resolver(Answers::new(&[&[]]));
    let mut plugin = Plugin::new(&["api.example.com"], limits(), egress);
    for _ in 0..2 {
        let error = plugin.get("https://api.example.com/").await.unwrap_err();
        assert!(matches!(error, Error::DnsError { .. }), "{error}");
    }
    assert_eq!(plugin.counts(), (2, 0, 2));
}

#[test]
fn a_refusal_says_what_to_grant() {
    let target = |url: &str| Target::from_uri(&url.parse().unwrap()).unwrap();
    let refusal = Refusal::NotGranted(target("https://evil.example/x?key=1"));
    assert_eq!(
        refusal.to_string(),
        "asked for evil.example:443; grant it with network = [\"evil.example:443\"]"
    );
    let refusal = Refusal::Prohibited {
        target: target("http://db.corp:8080/"),
        address: "10.0.0.5".parse().unwrap(),
        class: addresses::Class::Private,
    };
    assert_eq!(
        refusal.to_string(),
        "asked for http://db.corp:8080, which leads to 10.0.0.5, a private address; a name may only lead to public \
         addresses, unless the address itself is granted as well: network = [\"http://db.corp:8080\", \
         \"http://10.0.0.5:8080\"]"
    );
}

#[tokio::test]
async fn the_certificate_must_be_for_the_name_that_was_asked_for() {
    let tls = |file: &str| format!("{}/tests/data/tls/{file}", env!("CARGO_MANIFEST_DIR"));
    let certificate = CertificateDer::from_pem_file(tls("api.test.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls("api.test.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(OK.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls("ca.pem")).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let egress = Egress {
        resolver: Box::new(Answers::new(&[&["127.0.0.1"], &["127.0.0.1"]])),
        tls: Tls::with(client),
    };
    let grants = ["api.test", "other.test", "127.0.0.1"].map(|host| format!("https://{host}:{port}"));
    let mut plugin = Plugin::new(&grants.each_ref().map(String::as_str), limits(), egress);
    assert_eq!(plugin.get(&format!("https://api.test:{port}/")).await.unwrap().1, "ok");
    for host in ["other.test", "127.0.0.1"] {
        let error = plugin.get(&format!("https://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(error, Error::TlsCertificateError), "{host}: {error}");
    }
    assert_eq!(plugin.counts(), (3, 0, 2));
}
