//! Which program a stdio server is, and which environment it gets. Nothing is started here.
//!
//! The gateway's own secrets live in its environment, so a child gets named variables only, never the whole of it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Variables a child inherits: what programs need to find themselves, their caches, certificates and proxies.
const INHERITED: [&str; 40] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_PATH",
    "NVM_DIR",
    "NVM_BIN",
    "FNM_DIR",
    "VOLTA_HOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "UV_CACHE_DIR",
    "UV_INDEX_URL",
    "PIP_INDEX_URL",
    "DOCKER_HOST",
    "SYSTEMROOT",
    "COMSPEC",
    "PATHEXT",
];

/// Prefixes of further inherited variables: locale, base directories, and npm's settings (but see [`SECRET_MARKS`]).
const INHERITED_PREFIXES: [&str; 4] = ["LC_", "XDG_", "npm_config_", "NPM_CONFIG_"];

/// A variable found by its prefix is held back when its name says that it holds a credential.
const SECRET_MARKS: [&str; 5] = ["TOKEN", "AUTH", "PASSWORD", "SECRET", "KEY"];

/// The environment of a child: the harmless part of `own`, then what the configuration says.
pub(super) fn environment(
    own: impl Iterator<Item = (OsString, OsString)>,
    configured: impl Iterator<Item = (String, String)>,
) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> =
        own.filter(|(name, _)| name.to_str().is_some_and(is_inherited)).collect();
    for (name, value) in configured {
        environment.retain(|(present, _)| present != OsStr::new(&name));
        environment.push((name.into(), value.into()));
    }
    environment
}

fn is_inherited(name: &str) -> bool {
    if INHERITED.contains(&name) {
        return true;
    }
    let upper = name.to_ascii_uppercase();
    INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !SECRET_MARKS.iter().any(|mark| upper.contains(mark))
}

/// The program `command` stands for: a path as it is (relative to `cwd`), a bare name beside the gateway's executable
/// first (the bundled servers), then in `path`.
///
/// # Errors
/// A sentence that says what was not found and where it was looked for.
pub(super) fn locate(
    command: &str,
    cwd: &Path,
    executable: Option<&Path>,
    path: Option<&OsStr>,
) -> Result<PathBuf, String> {
    if !cwd.is_dir() {
        return Err(format!("working folder {} does not exist; check `cwd`", cwd.display()));
    }
    if command.contains('/') {
        let file = cwd.join(command);
        return if is_program(&file) {
            Ok(file)
        } else if file.exists() {
            Err(format!("command not found: {} is not an executable file", file.display()))
        } else {
            Err(format!("command not found: {} does not exist", file.display()))
        };
    }
    let bundled = executable.and_then(Path::parent).into_iter().flat_map(|folder| {
        // Test binaries live one folder below the programs they belong to.
        let above = folder.file_name().filter(|name| *name == "deps").and(folder.parent());
        [Some(folder.join(command)), above.map(|folder| folder.join(command))].into_iter().flatten()
    });
    let searched = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    // An empty entry of PATH means the working folder.
    let in_path = searched.iter().map(|folder| cwd.join(folder).join(command));
    bundled.chain(in_path).find(|file| is_program(file)).ok_or_else(|| {
        let path = path.unwrap_or_default().to_string_lossy();
        format!("command not found: `{command}` is in no folder of PATH ({path}); install it or give its full path")
    })
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(own: &[(&str, &str)], configured: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let configured = configured.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        environment(own, configured)
            .into_iter()
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn the_gateways_secrets_stay_here() {
        let own = [
            ("PATH", "/bin"),
            ("OPENAI_API_KEY", "sk-secret"),
            ("WITGATE_API_KEY", "secret"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("npm_config_registry", "https://npm.example"),
            ("npm_config_//registry.example/:_authToken", "secret"),
            ("LC_ALL", "C.UTF-8"),
        ];
        let kept: Vec<String> = names(&own, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["PATH", "npm_config_registry", "LC_ALL"]);
    }

    #[test]
    fn configured_variables_win() {
        let environment =
            names(&[("PATH", "/bin"), ("HOME", "/root")], &[("PATH", "/opt"), ("API_KEY", "k")]);
        assert_eq!(
            environment,
            [("HOME", "/root"), ("PATH", "/opt"), ("API_KEY", "k")].map(|(n, v)| (n.into(), v.into()))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_bare_name_is_looked_for_beside_the_gateway_and_then_in_path() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = |place: &str| {
            let file = folder.path().join(place);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            file
        };
        let (bundled, shadowed, other) = (program("app/tool"), program("bin/tool"), program("bin/other"));
        let path = folder.path().join("bin").into_os_string();
        let find = |command: &str, executable: &str| {
            let executable = folder.path().join(executable);
            locate(command, folder.path(), Some(&executable), Some(&path))
        };
        assert_eq!(find("tool", "app/witgate").unwrap(), bundled);
        assert_eq!(find("tool", "app/deps/it-123").unwrap(), bundled);
        assert_eq!(find("tool", "elsewhere/witgate").unwrap(), shadowed);
        assert_eq!(find("other", "app/witgate").unwrap(), other);
        assert_eq!(find("bin/other", "app/witgate").unwrap(), other);
        let message = find("missing", "app/witgate").unwrap_err();
        assert!(message.contains("`missing`") && message.contains("PATH"), "{message}");
        assert!(find("bin/missing", "app/witgate").unwrap_err().contains("does not exist"));
    }
}
