//! What tools and plugins have counted, put into families of metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::http::state::App;
use crate::plugin_host::{PluginReport, PluginState};
use crate::tools::CallOutcome;

/// Every state a plugin can be in: each has its own series, so that an alert can name it.
const STATES: [PluginState; 5] = [
    PluginState::Serving,
    PluginState::Stale,
    PluginState::Failed,
    PluginState::Disabled,
    PluginState::Broken,
];

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;

/// The counters at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    running: usize,
    tools: Vec<ToolCalls>,
    generation: u64,
    plugins: Vec<PluginReport>,
}

/// The calls of one tool.
#[derive(Debug)]
struct ToolCalls {
    name: String,
    server: String,
    ended: Vec<(CallOutcome, u64)>,
    seconds: f64,
}

impl Snapshot {
    pub(super) fn of(app: &App) -> Self {
        let (generation, plugins) = app.plugins().reports();
        let snapshot = app.toolbox().snapshot();
        let tools = snapshot.tools().iter().map(|tool| ToolCalls {
            name: tool.definition.name.clone(),
            server: tool.definition.server.clone().unwrap_or_default(),
            ended: tool.stats().ended().filter(|(_, count)| *count > 0).collect(),
            seconds: tool.stats().total().as_secs_f64(),
        });
        Self { running: app.running(), tools: tools.collect(), generation, plugins }
    }

    /// Values by plugin.
    fn by_plugin<'a, T>(
        &'a self,
        value: impl Fn(&'a PluginReport) -> T + 'a,
    ) -> impl Iterator<Item = (Labels, T)> + 'a {
        self.plugins.iter().map(move |plugin| (plugin_labels(plugin), value(plugin)))
    }

    fn gateway(&self, out: &mut Out<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        out.infos("build", "The gateway", [version])?;
        let running = [(Labels::new(), self.running as f64)];
        out.gauges("http_requests_in_flight", "Requests being worked on, streams included", None, running)
    }

    fn tools(&self, out: &mut Out<'_>) -> fmt::Result {
        let calls = self.tools.iter().flat_map(|tool| {
            tool.ended.iter().map(|(outcome, count)| {
                let mut labels = tool.labels();
                labels.push(("outcome", outcome.as_str().to_owned()));
                (labels, *count)
            })
        });
        out.counters("tool_calls", "Calls of tools by outcome", calls)?;
        let called = self.tools.iter().filter(|tool| !tool.ended.is_empty());
        let seconds = called.map(|tool| (tool.labels(), tool.seconds));
        out.seconds("tool_call", "Time that calls of tools took, with retries and waiting", seconds)
    }

    fn plugins(&self, out: &mut Out<'_>) -> fmt::Result {
        let generation = [(Labels::new(), self.generation as f64)];
        out.gauges(
            "plugins_generation",
            "Number of the generation of plugins that serves",
            None,
            generation,
        )?;
        let infos = self.plugins.iter().map(|plugin| {
            let mut labels = plugin_labels(plugin);
            labels.push(("version", plugin.status.version.clone().unwrap_or_default()));
            labels.push(("sha256", plugin.status.sha256.clone().unwrap_or_default()));
            labels.push(("exports", plugin.status.exports.join(",")));
            labels
        });
        out.infos("plugin", "The plugins in the folder", infos)?;
        let states = self.plugins.iter().flat_map(|plugin| {
            STATES.into_iter().map(|state| {
                let mut labels = plugin_labels(plugin);
                labels.push(("state", state.as_str().to_owned()));
                (labels, if plugin.status.state == state { 1.0 } else { 0.0 })
            })
        });
        out.gauges("plugin_state", "1 for the state that the plugin is in", None, states)?;
        let loaded = self.plugins.iter().filter_map(|plugin| {
            let ms = plugin.status.loaded_ms?;
            Some((plugin_labels(plugin), ms as f64 / 1000.0))
        });
        out.gauges("plugin_loaded_timestamp", "When what serves was loaded", Some(&Unit::Seconds), loaded)
    }

    fn plugin_calls(&self, out: &mut Out<'_>) -> fmt::Result {
        let running = self.by_plugin(|plugin| plugin.stats.running as f64);
        out.gauges("plugin_calls_running", "Calls and open streamed replies", None, running)?;
        out.histograms("plugin_call_duration", "Time of calls of plugins", self)?;
        let calls = self.by_plugin(|plugin| plugin.stats.calls);
        out.counters("plugin_calls", "Calls of plugins that ended, failed ones included", calls)?;
        let errors = self.plugins.iter().flat_map(|plugin| {
            plugin.stats.errors.iter().map(|(kind, count)| {
                let mut labels = plugin_labels(plugin);
                labels.push(("kind", (*kind).to_owned()));
                (labels, *count)
            })
        });
        out.counters("plugin_errors", "Calls of plugins that failed or were refused, by kind", errors)?;
        let memory = self.by_plugin(|plugin| plugin.stats.memory_high_water_bytes as f64);
        let help = "Linear memory of the largest instance so far";
        out.gauges("plugin_memory_high_water", help, Some(&Unit::Bytes), memory)?;
        let open = self.by_plugin(|plugin| if plugin.circuit_open { 1.0 } else { 0.0 });
        out.gauges(
            "plugin_circuit_open",
            "1 while the plugin is not called since it keeps failing",
            None,
            open,
        )
    }
}

impl ToolCalls {
    fn labels(&self) -> Labels {
        vec![("tool", self.name.clone()), ("server", self.server.clone())]
    }
}

fn plugin_labels(plugin: &PluginReport) -> Labels {
    vec![("plugin", plugin.status.name.clone())]
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.gateway(&mut out)?;
        self.tools(&mut out)?;
        self.plugins(&mut out)?;
        self.plugin_calls(&mut out)
    }
}

/// Writes families.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn infos(&mut self, name: &str, help: &str, infos: impl IntoIterator<Item = Labels>) -> fmt::Result {
        self.family(name, help, None, MetricType::Info, |mut family| {
            infos.into_iter().try_for_each(|labels| family.encode_info(&labels))
        })
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |mut family| {
            values.into_iter().try_for_each(|(labels, value)| {
                if labels.is_empty() {
                    return family.encode_gauge(&value);
                }
                family.encode_family(&labels)?.encode_gauge(&value)
            })
        })
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut family| {
            values.into_iter().try_for_each(|(labels, value)| {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)
            })
        })
    }

    /// A counter of seconds.
    fn seconds(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(name, help, Some(&Unit::Seconds), MetricType::Counter, |mut family| {
            values.into_iter().try_for_each(|(labels, value)| {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, f64>(&value, None)
            })
        })
    }

    /// The durations of the calls of plugins, in seconds.
    fn histograms(&mut self, name: &str, help: &str, snapshot: &Snapshot) -> fmt::Result {
        self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram, |mut family| {
            snapshot.plugins.iter().filter(|plugin| !plugin.stats.durations.is_empty()).try_for_each(
                |plugin| {
                    let seconds = |micros: u64| micros as f64 / 1e6;
                    let groups: Vec<(f64, u64)> = plugin
                        .stats
                        .durations
                        .iter()
                        .map(|(bound, calls)| (bound.map_or(f64::INFINITY, seconds), *calls))
                        .collect();
                    // The number of calls is read at another moment; in one family, numbers must agree.
                    let count = groups.iter().map(|(_, calls)| calls).sum();
                    let sum = seconds(plugin.stats.total_us);
                    family
                        .encode_family(&plugin_labels(plugin))?
                        .encode_histogram::<NoLabelSet>(sum, count, &groups, None)
                },
            )
        })
    }
}
