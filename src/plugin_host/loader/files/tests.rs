//! Tests of the look at the drop folder: what counts as a plugin, and what lies there under the name of one.

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    fs::write(dir.path().join(name), text).unwrap();
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.plugins.keys().map(String::as_str).collect()
}

#[test]
fn only_components_with_their_files_count() {
    let dir = folder();
    for name in [
        "a.wasm",
        "a.toml",
        "b.wasm",
        ".hidden.wasm",
        "c.wasm.tmp",
        "d.wasm.part",
        "README.md",
        "e",
        "a.b.wasm",
    ] {
        write(&dir, name, "x");
    }
    fs::create_dir(dir.path().join("sources")).unwrap();
    write(&dir, "sources/f.wasm", "x");
    let listing = list(dir.path(), &[]).unwrap();
    assert_eq!(names(&listing), ["a", "a.b", "b"]);
    assert!(listing.plugins["a"].manifest.is_some() && listing.plugins["b"].manifest.is_none());
    assert_eq!(listing.warnings, Vec::<String>::new());
}

#[test]
fn a_missing_folder_is_empty_and_a_file_in_its_place_is_a_fault() {
    let dir = folder();
    assert!(list(&dir.path().join("plugins"), &[]).unwrap().plugins.is_empty());
    write(&dir, "plugins", "x");
    assert!(list(&dir.path().join("plugins"), &[]).is_err());
}

#[test]
fn files_that_mean_nothing_are_told_of() {
    let dir = folder();
    for name in ["lost.toml", "fast.cwasm", "text.wat", "LOUD.WASM"] {
        write(&dir, name, "x");
    }
    let listing = list(dir.path(), &[]).unwrap();
    assert!(listing.plugins.is_empty());
    let expected =
        ["LOUD.WASM: the ending", "fast.cwasm: precompiled", "lost.toml: there is no", "text.wat: text form"];
    assert_eq!(listing.warnings.len(), expected.len());
    for (warning, start) in listing.warnings.iter().zip(expected) {
        assert!(warning.starts_with(start), "{warning}");
    }
}

#[test]
fn names_are_plain() {
    for name in ["a", "0", "pii-redactor", "a_b-c9", &"x".repeat(64)] {
        assert!(is_plugin_name(name), "{name}");
    }
    for name in ["", "-a", "_a", "A", "ä", "a b", "a.b", "a/b", &"x".repeat(65)] {
        assert!(!is_plugin_name(name), "{name}");
    }
}

#[test]
fn the_number_of_plugins_is_bounded() {
    let dir = folder();
    for at in 0..MAX_PLUGINS + 3 {
        write(&dir, &format!("p{at:04}.wasm"), "");
    }
    let listing = list(dir.path(), &[]).unwrap();
    assert_eq!((listing.plugins.len(), listing.warnings.len()), (MAX_PLUGINS, 3));
}

#[test]
fn reading_notices_limits_and_changes() {
    let dir = folder();
    write(&dir, "a.wasm", "abc");
    let path = component_path(dir.path(), "a");
    let mark = Mark::of(&path);
    assert!(!mark.is_settled());
    assert!(matches!(read(&path, &mark, 3, String::new), Ok(Content::Bytes(bytes)) if bytes == b"abc"));
    assert_eq!(read(&path, &mark, 2, || "too large".to_owned()).err().as_deref(), Some("too large"));
    write(&dir, "a.wasm", "abcd");
    assert!(matches!(read(&path, &mark, 10, String::new), Ok(Content::Changed)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(read(&path, &mark, 10, String::new), Ok(Content::Changed)));
    assert!(Mark::Problem(String::new()).is_settled());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;

    use super::*;

    fn problem(dir: &tempfile::TempDir, name: &str) -> String {
        let listing = list(dir.path(), &[]).unwrap();
        let mark = listing.plugins[name].component.clone();
        match read_component(&component_path(dir.path(), name), &mark, 1) {
            Err(problem) => problem,
            Ok(_) => panic!("{name} can be read"),
        }
    }

    #[test]
    fn what_is_no_file_is_named_and_never_waited_for() {
        let dir = folder();
        fs::create_dir(dir.path().join("folder.wasm")).unwrap();
        let fifo = dir.path().join("pipe.wasm");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("circle.wasm", dir.path().join("circle.wasm")).unwrap();
        symlink("nowhere", dir.path().join("dangling.wasm")).unwrap();
        symlink("/dev/zero", dir.path().join("device.wasm")).unwrap();
        assert_eq!(problem(&dir, "folder"), "a folder, not a file");
        assert_eq!(problem(&dir, "pipe"), "a pipe, socket or device, not a file");
        assert_eq!(problem(&dir, "device"), "a pipe, socket or device, not a file");
        assert_eq!(problem(&dir, "dangling"), "a link to a file that does not exist");
        assert!(problem(&dir, "circle").starts_with("cannot be read: "));
        // A pipe that takes the place of a file between two looks.
        write(&dir, "swap.wasm", "x");
        let mark = Mark::of(&component_path(dir.path(), "swap"));
        fs::rename(&fifo, component_path(dir.path(), "swap")).unwrap();
        assert!(matches!(
            read_component(&component_path(dir.path(), "swap"), &mark, 1),
            Ok(Content::Changed)
        ));
    }

    #[test]
    fn links_are_followed() {
        let (dir, elsewhere) = (folder(), folder());
        write(&elsewhere, "built.wasm", "abc");
        symlink(elsewhere.path().join("built.wasm"), dir.path().join("a.wasm")).unwrap();
        let before = list(dir.path(), &[]).unwrap().plugins["a"].clone();
        let read = read_component(&component_path(dir.path(), "a"), &before.component, 1);
        assert!(matches!(read, Ok(Content::Bytes(bytes)) if bytes == b"abc"));
        write(&elsewhere, "built.wasm", "abcd");
        assert_ne!(list(dir.path(), &[]).unwrap().plugins["a"], before);
    }
}
