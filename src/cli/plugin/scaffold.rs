//! `witgate plugin new`: a folder with a plugin that builds at once and stands alone.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::args::NewArgs;
use super::project::{Kind, Language, PROJECT_FILE, check_name};
use super::{component, templates};
use crate::cli::Outcome;
use crate::cli::terminal::{Style, Terminal, clean, print};

/// Makes the folder.
///
/// # Errors
/// When the name is no plugin's name, the folder is there already, or it cannot be written.
pub(super) fn run(args: &NewArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    check_name(&args.name)?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    make(&folder)?;
    for (path, content) in files(&args.name, args.lang, args.kind) {
        write(&folder.join(&path), &content)?;
    }
    if args.lang == Language::C {
        // Made by every build as well; here for editors.
        component::write_c_bindings(
            &folder.join(templates::wit_folder(args.lang)),
            args.kind.world(),
            &folder.join("bindings"),
        )?;
    }
    let shown = folder.display().to_string();
    let heading = format!("made {shown}/");
    let text = format!(
        "{}: a {} plugin, {}\n\nNext:\n  cd {shown}\n  witgate plugin build\n  {}\n",
        terminal.out(Style::Good, &heading),
        args.lang.name(),
        templates::purpose(args.kind),
        run_command(&args.name, args.kind),
    );
    print(&clean_unless_styled(&text, terminal))?;
    Ok(Outcome::Done)
}

/// Names on the command line may hold anything; a terminal's colours are ours.
fn clean_unless_styled(text: &str, terminal: Terminal) -> String {
    if terminal.stdout { text.to_owned() } else { clean(text).into_owned() }
}

/// A new folder, and those above it.
fn make(folder: &Path) -> anyhow::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above).with_context(|| format!("cannot make the folder `{}`", above.display()))?;
    }
    match fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "`{}` is there already and stays as it is; choose another name, or another folder with --path",
                folder.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot make the folder `{}`", folder.display())),
    }
}

fn write(file: &Path, content: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    fs::write(file, content).with_context(|| format!("cannot write `{}`", file.display()))
}

/// Everything in the folder: path and content.
fn files(name: &str, language: Language, kind: Kind) -> Vec<(String, String)> {
    let (source, _) = templates::source(language, kind);
    let wit = templates::wit_folder(language);
    let mut files: Vec<(String, String)> = templates::extras(language)
        .iter()
        .chain([
            &templates::source(language, kind),
            &templates::input(kind),
            &("README.md", templates::README),
        ])
        .map(|(path, content)| ((*path).to_owned(), fill(content, name, language, kind)))
        .chain(templates::WIT.iter().map(|(path, content)| (format!("{wit}/{path}"), (*content).to_owned())))
        .collect();
    files.push((PROJECT_FILE.to_owned(), project_file(name, language, kind, source)));
    files.push((format!("{name}.toml"), operators_file(name, kind)));
    files
}

fn fill(text: &str, name: &str, language: Language, kind: Kind) -> String {
    if !text.contains("{{") {
        return text.to_owned();
    }
    let (source, _) = templates::source(language, kind);
    let (input, _) = templates::input(kind);
    text.replace("{{name}}", name)
        .replace("{{Language}}", language.name())
        .replace("{{what}}", templates::purpose(kind))
        .replace("{{source}}", source)
        .replace("{{input}}", input)
        .replace("{{run}}", &run_command(name, kind))
        .replace("{{needs}}", templates::needs(language))
        .replace("{{wit}}", templates::wit_folder(language))
        .replace("{{dependencies}}", templates::rust_dependencies(kind))
}

/// The command that tries the plugin with the sample.
fn run_command(name: &str, kind: Kind) -> String {
    let (hook, (input, _)) = (templates::hook(kind), templates::input(kind));
    format!("witgate plugin run {name}.wasm --hook {hook} --input {input}")
}

fn project_file(name: &str, language: Language, kind: Kind, source: &str) -> String {
    let mut text = format!(
        "# Read by `witgate plugin build`.\nname = \"{name}\"\nversion = \"0.1.0\"\nlanguage = \"{}\"\n",
        language.id()
    );
    if language != Language::Rust {
        text.push_str(&format!("# A world of wit/worlds.wit.\nworld = \"{}\"\n", kind.world()));
    }
    if matches!(language, Language::JavaScript | Language::Python) {
        text.push_str(&format!("source = \"{source}\"\n"));
    }
    text
}

fn operators_file(name: &str, kind: Kind) -> String {
    format!(
        "# The operator's file of the plugin {name}: it lies beside {name}.wasm in the gateway's plugins folder.\n\
         # A plugin without one is enabled, has the default limits and no grants.\n\
         enabled = true\n\
         # Its place among the plugins of its kind, low numbers first.\n\
         order = 100\n\
         \n\
         # What the plugin reads with the interface `config`.\n\
         [config]\n{}",
        templates::config(kind)
    )
}
