//! C: clang or zig, with bindings that this program generates itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Builder;
use crate::cli::plugin::component;
use crate::cli::plugin::toolchain::{Tool, find};

const TARGET: &str = "--target=wasm32-wasi";

/// Where the bindings go.
const BINDINGS: &str = "bindings";

/// A compiler, and how to have it compile C.
struct Compiler {
    program: PathBuf,
    arguments: &'static [&'static str],
    /// What only this one understands.
    flags: &'static [&'static str],
}

/// What `plugin build` asks of clang: an overflowing stack must hit the end of memory, not the data.
const CLANG_FLAGS: &[&str] = &["-Wl,--stack-first"];

impl Builder<'_> {
    pub(super) async fn c(&self) -> anyhow::Result<Vec<u8>> {
        let folder = &self.project.folder;
        let world = self.project.world()?;
        let sources = sources(folder)?;
        let compiler = self.c_compiler().await?;
        component::write_c_bindings(&self.project.wit(), world, &folder.join(BINDINGS))?;
        let scratch = self.scratch()?;
        let module = scratch.path().join("plugin.wasm");
        let bindings = Path::new(BINDINGS).join(component::c_name(world));
        let generated = |ending: &str| format!("{}{ending}", bindings.display());
        Tool::new(&compiler.program, folder)
            .args(compiler.arguments)
            .args([TARGET, "-mexec-model=reactor", "-std=c11", "-Os", "-Wall", "-Wextra", "-I", BINDINGS])
            .args(compiler.flags)
            // Names of functions stay, so that a trap's backtrace can be read.
            .args(["-Wl,--strip-debug", "-o"])
            .args([&module])
            .args(sources)
            .args([generated(".c"), generated("_component_type.o")])
            .run(self.terminal)
            .await?;
        let module = fs::read(&module).context("the compiler left no module")?;
        component::from_module(&module)
    }

    /// The first compiler that can make programs for WASI.
    async fn c_compiler(&self) -> anyhow::Result<Compiler> {
        if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").filter(|path| !path.is_empty()) {
            let places = [PathBuf::from(&sdk).join("bin")];
            let Some(program) = find("clang", &places).filter(|program| program.starts_with(&sdk)) else {
                bail!("WASI_SDK_PATH is {}, and there is no bin/clang in it", Path::new(&sdk).display());
            };
            return Ok(Compiler { program, arguments: &[], flags: CLANG_FLAGS });
        }
        if let Some(program) = find("clang", &[])
            && self.has_wasi(&program).await
        {
            return Ok(Compiler { program, arguments: &[], flags: CLANG_FLAGS });
        }
        if let Some(program) = find("zig", &[]) {
            return Ok(Compiler { program, arguments: &["cc"], flags: &[] });
        }
        if let Some(program) = find("python3", &[])
            && self.ask(&program, &["-m", "ziglang", "version"]).await.is_some()
        {
            return Ok(Compiler { program, arguments: &["-m", "ziglang", "cc"], flags: &[] });
        }
        bail!(
            "there is no C compiler for WASI: install clang with its parts for WebAssembly (Debian and Ubuntu: \
             `apt install clang lld wasi-libc libclang-rt-dev-wasm32`), or the WASI SDK and set WASI_SDK_PATH, or zig \
             (`pip install ziglang`)"
        )
    }

    /// Whether a clang has a linker, a C library and its own runtime for WASI: those come as packages of their own.
    async fn has_wasi(&self, clang: &Path) -> bool {
        let questions =
            ["-print-file-name=crt1-reactor.o", "-print-prog-name=wasm-ld", "-print-libgcc-file-name"];
        for question in questions {
            // What it does not have it prints as it was asked for.
            let answer = self.ask(clang, &[TARGET, question]).await;
            if !answer.is_some_and(|path| Path::new(&path).is_absolute() && Path::new(&path).exists()) {
                return false;
            }
        }
        true
    }

    async fn ask(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        Tool::new(program, &self.project.folder).args(arguments).ask().await
    }
}

/// All C files of the folder, in order.
fn sources(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut sources: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".c") && !name.starts_with('.'))
        .collect();
    if sources.is_empty() {
        bail!("there is no .c file in {}", folder.display());
    }
    sources.sort();
    Ok(sources)
}
