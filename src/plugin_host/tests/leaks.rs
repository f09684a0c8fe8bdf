//! Nothing stays behind: not after many calls of every kind, and not after calls that end at any of their await points.

use std::pin::pin;
use std::process::Command;
use std::task::Poll;

use super::*;
use crate::domain::ToolContext;

/// Rounds of [`Guests::round`] before memory is compared: pools and caches are filled by then.
const WARM_UP: usize = 250;

/// Rounds after which nothing may have grown.
const ROUNDS: usize = 2_500;

/// Most that a round may leave behind, in bytes: a leak of one small object a call is more.
const MAX_GROWTH_PER_ROUND: usize = 1_500;

/// One plugin of each kind.
struct Guests {
    replacing: Arc<Plugin>,
    /// Traps at empty replies.
    picky: Arc<Plugin>,
    stream: Arc<Plugin>,
    auth: Arc<Plugin>,
    tools: Arc<Plugin>,
    /// Computes for a while, and then keeps the reply.
    busy: Arc<Plugin>,
}

impl Guests {
    async fn load() -> Self {
        let picky =
            "(if (i32.eqz (i32.load offset=80 (local.get $in))) (then (unreachable))) (i32.const 1024)";
        let busy = "(local $n i32)
            (loop $l
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $n) (i32.const 60000000))))
            (i32.const 1024)";
        let mut patient = quick();
        patient.limits.call_timeout_ms = Some(60_000);
        Self {
            replacing: load(guest::replacing(&"x".repeat(1000))).await,
            picky: load(guest::response(picky)).await,
            stream: load(guest::stream("(i32.const 1024)", "(i32.const 512)")).await,
            auth: load(guest::auth("(i32.store8 (i32.const 1028) (i32.const 2)) (i32.const 1024)")).await,
            tools: load(guest::tools("", "(i32.const 1024)", "(i32.const 1024)")).await,
            busy: load_with(guest::response(busy), patient).await.unwrap(),
        }
    }

    /// Eight calls of all kinds, one of them traps; every tenth round has one that is given up, which takes longer.
    async fn round(&self, number: usize) {
        let (context, text) = (context(), reply("hello"));
        self.replacing.process_reply(&context, &text).await.unwrap();
        let mut stream = self.stream.open_reply(&context, 0).await.unwrap();
        stream.push(&piece()).await.unwrap();
        stream.finish(&ReplyEnd::default()).await.unwrap();
        self.auth.authorize(&access()).await.unwrap();
        self.tools.call_tool(&tool_context(), "x", "{}").await.unwrap();
        assert_eq!(self.picky.process_reply(&context, &reply("")).await.unwrap_err().kind, Kind::Trap);
        self.picky.process_reply(&context, &text).await.unwrap();
        if number.is_multiple_of(10) {
            assert!(!is_done_after(1, Box::pin(self.busy.process_reply(&context, &text))).await);
        }
    }

    fn all(&self) -> [&Arc<Plugin>; 6] {
        [&self.replacing, &self.picky, &self.stream, &self.auth, &self.tools, &self.busy]
    }

    fn assert_idle(&self) {
        for plugin in self.all() {
            assert_eq!(plugin.stats().running, 0);
            assert_eq!(plugin.host.instances.available_permits(), 16);
            assert_eq!(plugin.concurrency.available_permits(), 32);
        }
    }
}

fn piece() -> [TextDelta; 1] {
    [TextDelta { kind: DeltaKind::Text, text: "x".to_owned() }]
}

fn access() -> AccessRequest {
    AccessRequest {
        request_id: RequestId::parse("r1").unwrap(),
        action: AccessAction::Model("m".to_owned()),
        principal: None,
        http: None,
    }
}

fn tool_context() -> ToolContext {
    ToolContext {
        principal: Principal::anonymous(),
        request_id: RequestId::parse("r1").unwrap(),
        session_id: None,
        call_id: "c1".to_owned(),
        progress: Default::default(),
    }
}

/// Polls a future so often and drops it; whether it was done by then.
async fn is_done_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let done = std::future::poll_fn(|task| Poll::Ready(future.as_mut().poll(task).is_ready())).await;
        if done {
            return true;
        }
        // Clocks go on between two polls, as they do for a client.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

#[tokio::test]
async fn a_call_can_be_given_up_at_every_await_point() {
    let guests = Guests::load().await;
    let context = context();
    let text = reply("hello");
    for (name, most) in [("busy", 400), ("stream", 40), ("auth", 40), ("tools", 40)] {
        let mut polls = 0;
        loop {
            let done = match name {
                "busy" => is_done_after(polls, guests.busy.process_reply(&context, &text)).await,
                "stream" => {
                    let whole = async {
                        let mut stream = guests.stream.open_reply(&context, 0).await.unwrap();
                        stream.push(&piece()).await.unwrap();
                        // A reply waits for its model between two pieces.
                        tokio::task::yield_now().await;
                        stream.push(&piece()).await.unwrap();
                        stream.finish(&ReplyEnd::default()).await.unwrap();
                    };
                    is_done_after(polls, whole).await
                }
                "auth" => is_done_after(polls, guests.auth.authorize(&access())).await,
                _ => is_done_after(polls, guests.tools.call_tool(&tool_context(), "x", "{}")).await,
            };
            guests.assert_idle();
            if done {
                break;
            }
            polls += 1;
            assert!(polls < most, "{name} is not done after {polls} polls");
        }
    }
    for plugin in guests.all() {
        assert_eq!(plugin.stats().errors.len(), 0, "{:?}", plugin.stats());
        assert!(!plugin.is_broken());
    }
}

/// Memory that this process holds, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// What other tests do at the same time would be seen in this process's memory, so it is measured in another one.
#[cfg(target_os = "linux")]
#[test]
fn twenty_thousand_calls_leave_no_memory_behind() {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args([
        "--exact",
        "--ignored",
        "--nocapture",
        "plugin_host::tests::leaks::twenty_thousand_calls_alone",
    ]);
    let output = alone.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "run by `twenty_thousand_calls_leave_no_memory_behind`, in a process of its own"]
async fn twenty_thousand_calls_alone() {
    let guests = Guests::load().await;
    for number in 0..WARM_UP {
        guests.round(number).await;
    }
    let before = resident_bytes();
    for number in 0..ROUNDS {
        guests.round(number).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    guests.assert_idle();
    let calls: u64 = guests.all().iter().map(|plugin| plugin.stats().calls).sum();
    assert!(calls >= 20_000, "{calls} calls");
    assert!(grown < ROUNDS * MAX_GROWTH_PER_ROUND, "{calls} calls left {grown} bytes behind");
}
