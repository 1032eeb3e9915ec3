//! [`Server`]: the PostgreSQL server that nodes share. A private one is killed and cut off now and then, one of the user's is not.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{Failure, destination::connect, network::Network};

/// The user whose server it is, if the program runs as root, for which the server does not run.
const USER: &str = "postgres";

pub(crate) struct Server {
    /// The URL of a database in which others can be made.
    url: String,
    private: Option<Private>,
}

/// A server in a temporary folder.
struct Private {
    folder: TempDir,
    port: u16,
    network: Network,
}

impl Server {
    /// The server of a URL.
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), private: None }
    }

    /// Starts a private server on a free port of the loopback interface. Each node has a way of its own to it.
    pub(crate) fn start(nodes: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        // The free port may be taken by another program before the server takes it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if is_root() {
            run(Command::new("chown").args([USER.as_ref(), folder.path().as_os_str()]))?;
        }
        let data = folder.path().join("data");
        run(program("initdb", folder.path())?
            .args(["-U", "roundlot", "--auth=trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data))?;
        let url = format!("postgres://roundlot@127.0.0.1:{port}/postgres");
        let private = Private { network: Network::start(port, nodes)?, folder, port };
        private.control(&["-w", "start"])?;
        Ok(Self { url, private: Some(private) })
    }

    /// Makes a database, and returns its URL.
    pub(crate) fn create(&self, name: &str) -> Result<String, Failure> {
        execute(&self.url, &[&format!("CREATE DATABASE {name}")])?;
        Ok(with_database(&self.url, name))
    }

    /// Removes a database, and all sessions on it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        execute(&self.url, &[&format!("DROP DATABASE {name} WITH (FORCE)")])
    }

    /// The URL by which a node reaches a database.
    pub(crate) fn url_of(&self, url: &str, slot: usize) -> String {
        match &self.private {
            Some(private) => url.replace(&format!(":{}/", private.port), &format!(":{}/", private.network.port(slot))),
            None => url.to_owned(),
        }
    }

    /// The ways to a private server.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.private.as_ref().map(|private| &private.network)
    }

    /// Kills a private server, and starts it again.
    pub(crate) fn crash(&self) -> Result<(), Failure> {
        self.private.as_ref().map_or(Ok(()), |private| private.control(&["-m", "immediate", "-w", "restart"]))
    }

    /// Keeps the folder of a private server, which is stopped.
    pub(crate) fn keep(mut self) -> Option<PathBuf> {
        self.private.as_mut().map(|private| {
            private.folder.disable_cleanup(true);
            private.folder.path().to_owned()
        })
    }
}

impl Private {
    fn control(&self, args: &[&str]) -> Result<(), Failure> {
        let folder = self.folder.path();
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", self.port);
        let mut command = program("pg_ctl", folder)?;
        command.arg("-D").arg(folder.join("data")).arg("-l").arg(folder.join("log")).args(["-o", &options]);
        run(command.args(args))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Harmless if it has not begun.
        let _ = self.control(&["-m", "immediate", "stop"]);
    }
}

/// A program of PostgreSQL, which Debian keeps off the path.
fn program(name: &str, folder: &Path) -> Result<Command, Failure> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.exists());
    if found.is_none() {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
        found = programs.max();
    }
    let found = found.ok_or_else(|| {
        format!("{name} is not installed. Debian's package is postgresql, or name a server by --postgres URL")
    })?;
    let mut command = Command::new(if is_root() { Path::new("runuser") } else { &found });
    if is_root() {
        command.args(["-u", USER, "--"]).arg(&found);
    }
    command.current_dir(folder);
    Ok(command)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program to its end. What it prints is told if it fails.
fn run(command: &mut Command) -> Result<(), Failure> {
    // A server that is started would keep the pipes of its parent open.
    let output = tempfile::tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?).status();
    let status = status.map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let mut output = output;
    let mut text = String::new();
    std::io::Seek::rewind(&mut output)?;
    std::io::Read::read_to_string(&mut output, &mut text)?;
    Err(format!("{command:?}: {status}: {text}").into())
}

/// Runs statements on a database, each by itself.
pub(crate) fn execute(url: &str, statements: &[&str]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = connect(url).await?;
        for statement in statements {
            client.batch_execute(statement).await?;
        }
        Ok(())
    })
}

/// A URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{name}{query}")
}

/// The name of the database of a URL.
pub(crate) fn database_of(url: &str) -> &str {
    let base = url.split('?').next().unwrap_or_default();
    base.split("://").last().and_then(|rest| rest.split_once('/')).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_another_database() {
        for (url, expected) in [
            ("postgres://bob@db:5432/books?sslmode=disable", "postgres://bob@db:5432/nodes_1?sslmode=disable"),
            ("postgres://bob:secret@db", "postgres://bob:secret@db/nodes_1"),
        ] {
            let url = with_database(url, "nodes_1");
            assert_eq!(url, expected);
            assert_eq!(database_of(&url), "nodes_1");
        }
    }
}
