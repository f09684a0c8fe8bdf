//! The network as a guest sees it, against real servers on loopback that are granted by address.

mod bounds;
mod policy;
mod requests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::resolver::Lookup;
use super::*;

/// A server that reads one request per connection and then does as its script says.
struct Server {
    address: SocketAddr,
    /// Requests as they came over the wire.
    seen: Arc<Mutex<Vec<String>>>,
    /// Connections that the other side has closed.
    closed: Arc<Semaphore>,
}

/// What a server does with a connection once it has a request's head.
#[derive(Clone)]
enum Script {
    /// Answers, closes its side, and takes down what else comes.
    Answer(Vec<u8>),
    /// Writes the first part, then the second again and again.
    Drip(&'static str, &'static str),
    /// Writes, and never closes.
    Stall(&'static str),
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, closed) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let (all, gone) = (Arc::clone(&seen), closed.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), Arc::clone(&all), gone.clone()));
            }
        });
        Self { address, seen, closed }
    }

    async fn answering(answer: &str) -> Self {
        Self::start(Script::Answer(answer.as_bytes().to_vec())).await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn wait_closed(&self) {
        self.closed.acquire().await.unwrap().forget();
    }
}

async fn serve(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<String>>>, gone: Arc<Semaphore>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(String::from_utf8_lossy(&request).into_owned());
        seen.len() - 1
    };
    match script {
        Script::Answer(answer) => {
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        Script::Stall(start) => {
            let _ = stream.write_all(start.as_bytes()).await;
        }
        Script::Drip(start, again) => {
            let _ = stream.write_all(start.as_bytes()).await;
            while stream.write_all(again.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    seen.lock().unwrap()[number].push_str(&String::from_utf8_lossy(&rest));
    gone.add_permits(1);
}

/// A resolver that gives each answer once and counts.
#[derive(Clone, Default)]
struct Answers {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    fn new(answers: &[&[&str]]) -> Self {
        let parsed = answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Self { answers: Arc::new(Mutex::new(parsed.collect())), asked: Arc::default() }
    }
}

impl Resolver for Answers {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        self.asked.lock().unwrap().push(name.to_owned());
        let next = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { next.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A plugin's way out, with what it has counted.
struct Plugin {
    call: CallEgress,
    counters: Arc<EgressCounters>,
}

impl Plugin {
    fn new(grants: &[&str], limits: EgressLimits, egress: Egress) -> Self {
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let counters = Arc::<EgressCounters>::default();
        let plugin = PluginEgress::new(Arc::new(egress), grants, limits, counters.clone());
        Self { call: plugin.call(PluginLog::new("x".into())), counters }
    }

    /// Granted `server`, and nothing else.
    fn of(server: &Server, limits: EgressLimits) -> Self {
        Self::new(&[&format!("http://{}", server.address)], limits, Egress::default())
    }

    fn counts(&self) -> (u64, u64, u64) {
        let counts = self.counters.read();
        (counts.allowed, counts.denied, counts.failed)
    }

    fn send(&mut self, request: Request<WasiBody>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.send_with(request, None)
    }

    fn send_with(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let sent = self.call.send_request(request, options, Box::new(async { Ok(()) }));
        Box::pin(async move {
            let (response, driver) = Pin::from(sent).await?;
            Ok((response, Running(tokio::spawn(Pin::from(driver)))))
        })
    }

    /// The status and body of an answer.
    async fn fetch(&mut self, request: Request<WasiBody>) -> Result<(u16, Bytes), Error> {
        let (response, _driver) = self.send(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    async fn get(&mut self, url: &str) -> Result<(u16, Bytes), Error> {
        self.fetch(get(url)).await
    }
}

type Answer = Result<(Response<WasiBody>, Running), Error>;

/// Drives a connection until it is dropped, as the WASI implementation does.
struct Running(tokio::task::JoinHandle<Result<(), Error>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn get(url: &str) -> Request<WasiBody> {
    Request::get(url).body(full("")).unwrap()
}

fn full(text: impl Into<Bytes>) -> WasiBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn limits() -> EgressLimits {
    EgressLimits::default()
}
