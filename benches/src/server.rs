//! A PostgreSQL server of the bench's own. In comes a wish for one, out goes a URL, of a server that ends with the value:
//! also when the bench panics.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::Error;

/// A server that is there already, and is left running.
const GIVEN: &str = "ROUNDLOT_POSTGRES_URL";

/// The table's statistics are nobody's concern here, and whoever is measured while they are taken is out of luck.
const SETTINGS: &str = "-c autovacuum=off -c listen_addresses=127.0.0.1";

#[derive(Debug)]
pub struct Server {
    url: String,
    _own: Option<Own>,
}

/// A cluster in a temporary folder, with the defaults of its version: fsync is on.
#[derive(Debug)]
struct Own {
    folder: TempDir,
    ctl: PathBuf,
}

impl Server {
    /// The server that the environment names, or a private one on a free port of loopback; `None` if PostgreSQL is not
    /// installed.
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

    /// Runs one of PostgreSQL's programs, as a user that it accepts: it refuses root.
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
        // One that never started has nothing to stop.
        let _ = self.run(&self.ctl, &["-D", &self.path("data"), "-m", "immediate", "-w", "stop"]);
    }
}

/// Where a program of PostgreSQL is: where Debian has them, the newest version, or on the path. What Debian has on the path
/// is a script that looks for the program first.
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

/// What a program has to say if it failed.
pub fn said(output: Output) -> Result<String, Error> {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{}: {out}{err}", output.status).into()) }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, panic::catch_unwind};

    use super::*;

    /// Goal: no server outlives the bench. Method: one whose owner panics; without PostgreSQL there is nothing to see.
    #[test]
    fn a_panic_stops_the_server() {
        // A server that was given is not ours to stop.
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
