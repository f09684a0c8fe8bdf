//! What a component is, in words and as JSON.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::terminal::{Style, Terminal, clean, print};
use crate::plugin_host::Inspection;

/// The package of the interfaces, as names in components begin.
const PACKAGE: &str = "witgate:plugin/";

/// A component as it was built.
#[derive(Debug, Serialize)]
struct Built {
    file: String,
    size_bytes: usize,
    worlds: Vec<&'static str>,
    exports: Vec<String>,
    imports: Vec<String>,
}

/// Shows what a build made.
///
/// # Errors
/// When it is no plugin.
pub(super) fn built(
    file: &Path,
    component: &[u8],
    json: bool,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let built = Built::read(file, component).with_context(|| format!("`{}`", file.display()))?;
    if json {
        print(&(serde_json::to_string_pretty(&built)? + "\n"))?;
        return Ok(Outcome::Done);
    }
    let heading = format!("built {}", clean(&built.file));
    let imports = if built.imports.is_empty() { "nothing".to_owned() } else { grouped(&built.imports) };
    print(&format!(
        "{}\n  size     {}\n  world    {}\n  imports  {imports}\n",
        terminal.out(Style::Good, &heading),
        size(built.size_bytes),
        built.worlds.join(", "),
    ))?;
    Ok(Outcome::Done)
}

impl Built {
    fn read(file: &Path, component: &[u8]) -> anyhow::Result<Self> {
        let found = Inspection::read(component)?;
        let worlds: Vec<&str> = found.exports.names().into_iter().map(world).collect();
        if worlds.is_empty() {
            bail!("it exports none of the interfaces response, response-stream, auth and tools of {PACKAGE}");
        }
        let exports = found.exported.into_iter().filter(|name| name.starts_with(PACKAGE)).collect();
        let imports = found.imports;
        Ok(Self { file: file.display().to_string(), size_bytes: component.len(), worlds, exports, imports })
    }
}

/// The world that has an interface as its export.
fn world(export: &str) -> &'static str {
    match export {
        "response" => "response-processor",
        "response-stream" => "stream-processor",
        "auth" => "auth-policy",
        _ => "tool-provider",
    }
}

/// A size for people.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Imports of one package together: `wasi:cli/{environment, exit}`. Versions are left out.
pub(super) fn grouped(imports: &[String]) -> String {
    let mut packages: Vec<(&str, Vec<&str>)> = Vec::new();
    for import in imports {
        let name = import.split('@').next().unwrap_or(import);
        let (package, interface) = name.split_once('/').unwrap_or((name, ""));
        match packages.iter_mut().find(|(known, _)| *known == package) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => packages.push((package, vec![interface])),
        }
    }
    let shown = packages.iter().map(|(package, interfaces)| match interfaces.as_slice() {
        [""] => (*package).to_owned(),
        [one] => format!("{package}/{one}"),
        several => format!("{package}/{{{}}}", several.join(", ")),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_grouped_by_package() {
        let imports =
            ["wasi:cli/exit@0.2.9", "wasi:io/poll@0.2.9", "wasi:cli/stdin@0.2.9", "x"].map(str::to_owned);
        assert_eq!(grouped(&imports), "wasi:cli/{exit, stdin}, wasi:io/poll, x");
        assert_eq!(grouped(&[]), "");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(99), size(20_512), size(1_604_760)], ["99 bytes", "20 KB", "1.6 MB"]);
    }
}
