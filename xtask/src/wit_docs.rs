//! `cargo xtask wit-docs`: the page `docs/plugins/wit.md`, written from the WIT package.
//!
//! What the page says about versions is in `wit_docs_head.md`. `tests/wit.rs` includes this file by path and fails where
//! the page is not current.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, PackageId, Resolve, Type, TypeDef, TypeDefKind, World,
    WorldItem, WorldKey,
};

/// The page, from the repository's root.
pub(crate) const PAGE: &str = "docs/plugins/wit.md";

/// Interfaces in the order a reader wants them; any other comes after these.
const ORDER: [&str; 5] = ["types", "response", "response-stream", "auth", "tools"];

/// Writes the page's text from the package in `wit/`.
///
/// # Errors
/// Where the package does not parse.
pub(crate) fn page(root: &Path) -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit")).context("wit/ does not parse")?;
    let writer = Writer { resolve: &resolve, package };
    let mut page = String::from(include_str!("wit_docs_head.md"));
    writer.worlds(&mut page)?;
    writer.interfaces(&mut page)?;
    Ok(page)
}

struct Writer<'a> {
    resolve: &'a Resolve,
    package: PackageId,
}

impl Writer<'_> {
    fn worlds(&self, page: &mut String) -> Result<()> {
        writeln!(page, "\n## Worlds\n\n| world | exports | imports |\n| --- | --- | --- |")?;
        let mut worlds: Vec<&World> =
            self.resolve.packages[self.package].worlds.values().map(|id| &self.resolve.worlds[*id]).collect();
        worlds.sort_by_key(|world| (world.exports.len(), world.name.clone()));
        for world in &worlds {
            let exports = self.names(world.exports.iter());
            let imports = self.names(world.imports.iter());
            writeln!(page, "| `{}` | {exports} | {imports} |", world.name)?;
        }
        for world in worlds {
            writeln!(page, "\n`{}`: {}", world.name, one_line(&world.docs))?;
        }
        Ok(())
    }

    /// Interfaces by name; those that only have types are left out, they cost nothing.
    fn names<'w>(&self, items: impl Iterator<Item = (&'w WorldKey, &'w WorldItem)>) -> String {
        let names: Vec<String> = items
            .filter_map(|(_, item)| match item {
                WorldItem::Interface { id, .. } => Some(&self.resolve.interfaces[*id]),
                _ => None,
            })
            .filter(|interface| !interface.functions.is_empty())
            .filter_map(|interface| interface.name.as_ref())
            .map(|name| format!("[`{name}`](#interface-{name})"))
            .collect();
        if names.is_empty() { "nothing".into() } else { names.join(", ") }
    }

    fn interfaces(&self, page: &mut String) -> Result<()> {
        let mut interfaces: Vec<&Interface> = self.resolve.packages[self.package]
            .interfaces
            .values()
            .map(|id| &self.resolve.interfaces[*id])
            .collect();
        interfaces.sort_by_key(|interface| {
            let name = interface.name.as_deref().unwrap_or_default();
            ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
        });
        for interface in interfaces {
            writeln!(page, "\n## Interface `{}`\n", interface.name.as_deref().unwrap_or_default())?;
            writeln!(page, "{}", text(&interface.docs))?;
            for function in interface.functions.values() {
                if matches!(function.kind, FunctionKind::Freestanding) {
                    self.function(page, function)?;
                }
            }
            for id in interface.types.values() {
                self.definition(page, interface, &self.resolve.types[*id])?;
            }
        }
        Ok(())
    }

    fn function(&self, page: &mut String, function: &Function) -> Result<()> {
        writeln!(page, "\n### `{}`\n", function.item_name())?;
        self.signature(page, function)
    }

    fn signature(&self, page: &mut String, function: &Function) -> Result<()> {
        let parameters: Vec<String> = function
            .params
            .iter()
            .filter(|parameter| parameter.name != "self")
            .map(|parameter| format!("{}: {}", parameter.name, self.name(&parameter.ty)))
            .collect();
        let result = match (&function.kind, &function.result) {
            (FunctionKind::Constructor(_), _) | (_, None) => String::new(),
            (_, Some(result)) => format!(" -> {}", self.name(result)),
        };
        let code = format!("{}: func({}){result}", function.item_name(), parameters.join(", "));
        writeln!(page, "```wit\n{code}\n```\n\n{}", text(&function.docs))?;
        Ok(())
    }

    fn definition(&self, page: &mut String, interface: &Interface, definition: &TypeDef) -> Result<()> {
        let name = definition.name.as_deref().unwrap_or_default();
        let mut rows: Vec<(String, String, &Docs)> = Vec::new();
        let column = match &definition.kind {
            TypeDefKind::Record(record) => {
                rows.extend(
                    record.fields.iter().map(|field| (field.name.clone(), self.name(&field.ty), &field.docs)),
                );
                "field"
            }
            TypeDefKind::Variant(variant) => {
                let value = |ty: &Option<Type>| ty.as_ref().map(|ty| self.name(ty)).unwrap_or_default();
                rows.extend(
                    variant.cases.iter().map(|case| (case.name.clone(), value(&case.ty), &case.docs)),
                );
                "case"
            }
            TypeDefKind::Enum(cases) => {
                rows.extend(cases.cases.iter().map(|case| (case.name.clone(), String::new(), &case.docs)));
                "case"
            }
            // A name from another interface, which has it in full.
            TypeDefKind::Type(_) => return Ok(()),
            _ => "",
        };
        writeln!(page, "\n### {} `{name}`\n\n{}", definition.kind.as_str(), text(&definition.docs))?;
        if !rows.is_empty() {
            writeln!(page, "\n| {column} | type | |\n| --- | --- | --- |")?;
        }
        for (name, ty, docs) in rows {
            let ty = if ty.is_empty() { String::new() } else { format!("`{ty}`") };
            writeln!(page, "| `{name}` | {ty} | {} |", one_line(docs).replace('|', "\\|"))?;
        }
        if matches!(definition.kind, TypeDefKind::Resource) {
            for function in
                interface.functions.values().filter(|function| belongs_to(self.resolve, function, name))
            {
                writeln!(page)?;
                self.signature(page, function)?;
            }
        }
        Ok(())
    }

    fn name(&self, ty: &Type) -> String {
        let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
        let definition = &self.resolve.types[*id];
        if let Some(name) = &definition.name {
            return name.clone();
        }
        let all = |types: &[Type]| types.iter().map(|ty| self.name(ty)).collect::<Vec<_>>().join(", ");
        let part = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".into(), |ty| self.name(ty));
        match &definition.kind {
            TypeDefKind::Option(inner) => format!("option<{}>", self.name(inner)),
            TypeDefKind::List(inner) => format!("list<{}>", self.name(inner)),
            TypeDefKind::Tuple(tuple) => format!("tuple<{}>", all(&tuple.types)),
            TypeDefKind::Result(result) => format!("result<{}, {}>", part(&result.ok), part(&result.err)),
            TypeDefKind::Handle(Handle::Own(id)) => self.name(&Type::Id(*id)),
            TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", self.name(&Type::Id(*id))),
            other => other.as_str().into(),
        }
    }
}

fn belongs_to(resolve: &Resolve, function: &Function, resource: &str) -> bool {
    match function.kind {
        FunctionKind::Method(id) | FunctionKind::Static(id) | FunctionKind::Constructor(id) => {
            resolve.types[id].name.as_deref() == Some(resource)
        }
        _ => false,
    }
}

fn text(docs: &Docs) -> &str {
    docs.contents.as_deref().unwrap_or_default().trim()
}

fn one_line(docs: &Docs) -> String {
    text(docs).split_whitespace().collect::<Vec<_>>().join(" ")
}
