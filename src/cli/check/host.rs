//! This machine: can the data folder be written, is the port free?

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::report::{Area, Finding, State};
use crate::cli::client::Client;
use crate::http::{BindError, Server, ServerConfig};

/// A folder that the gateway writes to, set by `key`. Nothing is left behind in it, and it is not created here.
pub(super) fn folder(name: &str, key: &str, folder: &Path) -> Finding {
    let shown = folder.display();
    let Some(existing) = folder.ancestors().find(|ancestor| ancestor.exists()) else {
        return Finding::new(
            Area::Host,
            name,
            State::Failed,
            format!("{shown}: no part of this path exists ({key})"),
        );
    };
    if !existing.is_dir() {
        let summary = format!("{}: a file is in the way; name a folder ({key})", existing.display());
        return Finding::new(Area::Host, name, State::Failed, summary);
    }
    match try_to_write(existing) {
        Ok(()) if existing == folder => {
            Finding::new(Area::Host, name, State::Ok, format!("{shown} can be written"))
        }
        Ok(()) => Finding::new(Area::Host, name, State::Ok, format!("{shown} will be created")),
        Err(error) => {
            let summary =
                format!("{}: {error}; make it writable, or name another folder ({key})", existing.display());
            Finding::new(Area::Host, name, State::Failed, summary)
        }
    }
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".witgate-check-{}", std::process::id()));
    let written = File::create_new(&file).and_then(|_| fs::remove_file(&file));
    match written {
        // Left behind by a check that was killed; that it is there says enough.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&file),
        other => other,
    }
}

/// The address to listen on. A gateway that runs there already is worth a word, but no failure.
pub(super) async fn port(config: &ServerConfig) -> Finding {
    let name = "port";
    match Server::bind(config).await {
        Ok(server) => {
            let open = !server.address().ip().is_loopback();
            let reach = if open { " and can be reached from other machines" } else { "" };
            Finding::new(
                Area::Host,
                name,
                State::Ok,
                format!("{}:{} is free{reach}", config.host, config.port),
            )
        }
        Err(error @ BindError::Taken { .. }) => match running_gateway(config).await {
            Some(version) => {
                let summary = format!("witgate {version} is running on {}:{}", config.host, config.port);
                Finding::new(Area::Host, name, State::Warning, summary)
            }
            None => Finding::new(Area::Host, name, State::Failed, error.to_string()),
        },
        Err(error) => Finding::new(Area::Host, name, State::Failed, error.to_string()),
    }
}

/// The version of the gateway that listens there, if it is one.
async fn running_gateway(config: &ServerConfig) -> Option<String> {
    let host = config.host.trim_matches(['[', ']']);
    // Who listens everywhere can be reached on loopback.
    let host = match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Client::new(&format!("http://{host}:{}", config.port), None).ok()?.version().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_folder(path: &Path) -> Finding {
        folder("data folder", "data_dir", path)
    }

    #[test]
    fn a_folder_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let finding = data_folder(folder.path());
        assert_eq!((finding.state, fs::read_dir(folder.path()).unwrap().count()), (State::Ok, 0));
        let missing = folder.path().join("a/b");
        let finding = data_folder(&missing);
        assert_eq!(finding.state, State::Ok);
        assert!(finding.summary.ends_with("will be created"), "{}", finding.summary);
        assert!(!missing.exists());
    }

    #[test]
    fn a_file_in_the_way_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        fs::write(&file, "").unwrap();
        let finding = data_folder(&file.join("inner"));
        assert_eq!(finding.state, State::Failed);
        assert!(finding.summary.contains("a file is in the way"), "{}", finding.summary);
    }

    #[tokio::test]
    async fn a_taken_port_is_a_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port_taken = listener.local_addr().unwrap().port();
        // Answers nobody: not a gateway.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
            }
        });
        let config = |port| ServerConfig { port, ..ServerConfig::default() };
        let finding = port(&config(port_taken)).await;
        assert_eq!(finding.state, State::Failed, "{}", finding.summary);
        assert!(finding.summary.contains("--port"), "{}", finding.summary);
        assert_eq!(port(&config(0)).await.state, State::Ok);
    }
}
