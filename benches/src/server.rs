//! A private PostgreSQL server for the row `postgres`. The server stops when its value is dropped, also after a panic.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::Error;

/// The environment variable with the URL of an existing server, which is used instead and left running.
const GIVEN: &str = "ROUNDLOT_POSTGRES_URL";

/// Settings beside the defaults: no autovacuum, which would slow down the runs it overlaps, and loopback alone.
const SETTINGS: &str = "-c autovacuum=off -c listen_addresses=127.0.0.1";

/// A running PostgreSQL server, either private or given by the environment.
#[derive(Debug)]
pub struct Server {
    url: String,
    /// The private cluster, which stops on drop; `None` if the server was given.
    _own: Option<Own>,
}

/// A private cluster in a temporary folder, with the defaults of its version, so fsync is on.
#[derive(Debug)]
struct Own {
    folder: TempDir,
    /// The path of `pg_ctl`.
    ctl: PathBuf,
}

impl Server {
    /// Returns the server that the environment names, or starts a private one on a free port of loopback.
    ///
    /// Returns `None` if PostgreSQL is not installed.
    pub fn start() -> Result<Option<Self>, Error> {
        if let Ok(url) = env::var(GIVEN) {
            return Ok(Some(Self { url, _own: None }));
        }
        let (Some(initdb), Some(ctl)) = (find("initdb"), find("pg_ctl")) else { return Ok(None) };
        let own = Own { folder: TempDir::new()?, ctl };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (data, log) = (own.path("data"), own.path("log"));
        if is_root() {
            said(Command::new("chown").arg("postgres").arg(own.folder.path()).output()?)?;
        }
        said(own.run(&initdb, &["-D", &data, "-U", "roundlot", "--auth=trust", "-E", "UTF8", "--no-sync"])?)?;
        let options = format!("-p {port} {SETTINGS} -c unix_socket_directories={}", own.folder.path().display());
        said(own.run(&own.ctl, &["-D", &data, "-l", &log, "-o", &options, "-w", "start"])?)?;
        Ok(Some(Self { url: format!("postgres://roundlot@127.0.0.1:{port}/postgres"), _own: Some(own) }))
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Own {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a program of PostgreSQL. Its programs refuse root, so root runs them as the user `postgres`.
    fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output, Error> {
        let mut command = if is_root() { Command::new("runuser") } else { Command::new(program) };
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(program);
        }
        Ok(command.args(arguments).current_dir(self.folder.path()).output()?)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The error of a cluster that never started is ignored: there is nothing to stop.
        let _ = self.run(&self.ctl, &["-D", &self.path("data"), "-m", "immediate", "-w", "stop"]);
    }
}

/// Finds a program of PostgreSQL in Debian's folders, the newest version first, and then on the path.
///
/// Debian's folders come first, since Debian's programs on the path are wrapper scripts, which take longer to start.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let folders = debian.into_iter().rev().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns the standard output of a program, or an error with both outputs if the program failed.
pub fn said(output: Output) -> Result<String, Error> {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{}: {out}{err}", output.status).into()) }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, panic::catch_unwind};

    use super::*;

    /// Goal: no server outlives the bench. Method: the owner of a server panics. Without PostgreSQL it is skipped.
    #[test]
    fn a_panic_stops_the_server() {
        // A given server is never stopped.
        if find("initdb").is_none() || env::var_os(GIVEN).is_some() {
            return;
        }
        let (tell, told) = std::sync::mpsc::channel();
        let panicked = catch_unwind(move || {
            let server = Server::start().unwrap().unwrap();
            let port: u16 = server.url().rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            tell.send(port).unwrap();
            panic!("as the test wants");
        });
        assert!(panicked.is_err());
        TcpStream::connect(("127.0.0.1", told.recv().unwrap())).unwrap_err();
    }
}
