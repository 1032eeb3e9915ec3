//! A private server on a free loopback port, for tests that kill it, restart it or need other settings. Its folder is
//! deleted with it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

pub(crate) struct Server {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Server {
    /// Makes a server and starts it. Each setting is a line of its configuration.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port };
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(server.path()).output().unwrap();
            check("chown", &owned);
        }
        let data = server.data();
        let data = data.to_str().unwrap();
        check(
            "initdb",
            &server.run("initdb", &["-D", data, "-U", "roundlot", "--auth=trust", "-E", "UTF8", "--no-sync"]),
        );
        let folder = server.path().display();
        let mut lines =
            format!("port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n");
        settings.iter().for_each(|setting| lines.push_str(&format!("{setting}\n")));
        let path = server.data().join("postgresql.conf");
        let usual = fs::read_to_string(&path).unwrap();
        fs::write(&path, usual + &lines).unwrap();
        server.up();
        server
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://roundlot@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server, also after a crash, whose last processes may still be ending.
    pub(crate) fn up(&self) {
        let (data, log) = (self.data(), self.path().join("log"));
        let start = ["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "start"];
        let mut last = None;
        for _ in 0..50 {
            let started = self.run("pg_ctl", &start);
            if started.status.success() {
                return;
            }
            last = Some(started);
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{last:?}\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Kills the server: none of its processes can send or write anything.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let all: Vec<&str> = std::iter::once(pid).chain(children.split_whitespace()).collect();
        check("kill", &Command::new("kill").arg("-9").args(all).output().unwrap());
    }

    /// Stops the server at once, as in a crash: its processes are told to quit, and tell their clients.
    pub(crate) fn stop(&self) {
        check("pg_ctl", &self.run("pg_ctl", &["-D", self.data().to_str().unwrap(), "-m", "immediate", "-w", "stop"]));
    }

    /// Runs one of PostgreSQL's programs, as a user that it accepts.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = find(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(self.path()).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A dead server need not be stopped.
        self.run("pg_ctl", &["-D", self.data().to_str().unwrap(), "-m", "immediate", "-w", "stop"]);
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// Finds the program: on the path, or in Debian's folder of the newest version.
fn find(program: &str) -> PathBuf {
    let on_path = std::env::var("PATH").unwrap();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path());
    let mut debian: Vec<PathBuf> = debian.map(|version| version.join("bin")).collect();
    debian.sort();
    let folders = on_path.split(':').map(PathBuf::from).chain(debian.into_iter().rev()).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.exists()).unwrap_or_else(|| panic!("no {program}"))
}

pub(crate) fn check(what: &str, output: &Output) {
    assert!(output.status.success(), "{what}: {output:?}");
}
