//! [`Private`]: a PostgreSQL server of the program's own, with a standby that has all that was confirmed. Both are in a temporary folder, on
//! free ports of the loopback interface.

use std::{
    cell::Cell,
    fs,
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Failure,
    network::Network,
    ports,
    server::{execute, number, url_at},
};

/// The user whose server it is, if the program runs as root, for which the server does not run.
const USER: &str = "postgres";

/// How long a standby may take to have all that the server has.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks at a standby.
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// Lines of the log of a server that are shown with an error.
const LOG_LINES: usize = 10;

pub(crate) struct Private {
    folder: TempDir,
    ports: [u16; 2],
    /// Which of the two is the server. The other one is the standby.
    primary: Cell<usize>,
    pub(crate) network: Network,
}

impl Private {
    /// Starts both, with a link to the server for each node and one for the program, the last.
    pub(crate) fn start(nodes: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let ports = ports::free(2)?;
        let ports = [ports[0], ports[1]];
        if is_root() {
            run(Command::new("chown").args([USER.as_ref(), folder.path().as_os_str()]))?;
        }
        let network = Network::start(ports[0], nodes + 1)?;
        let private = Self { folder, ports, primary: Cell::new(0), network };
        let initdb = &["-U", "roundlot", "--auth=trust", "-E", "UTF8", "--no-sync", "-D"];
        run(private.program("initdb")?.args(initdb).arg(private.data(0)))?;
        private.control(0, &["-w", "start"])?;
        private.add_standby()?;
        Ok(private)
    }

    /// Kills the server, and starts it again.
    pub(crate) fn crash(&self) -> Result<(), Failure> {
        self.control(self.primary.get(), &["-m", "immediate", "-w", "restart"])
    }

    /// Kills the server, and lets the standby take its place, which gets a standby of its own.
    pub(crate) fn fail_over(&self) -> Result<(), Failure> {
        // After a crash the server shows what it has not confirmed, until the standby has it, too. A failover may lose that.
        self.wait_for_standby()?;
        let (old, new) = (self.primary.get(), 1 - self.primary.get());
        self.control(old, &["-m", "immediate", "stop"])?;
        self.control(new, &["-w", "promote"])?;
        self.primary.set(new);
        self.reload("ALTER SYSTEM RESET synchronous_standby_names")?;
        self.network.lead_to(self.ports[new]);
        run(self.program("rm")?.arg("-r").arg(self.data(old)))?;
        self.add_standby()
    }

    /// Keeps the folder when the servers have been stopped, and returns its path.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// Copies the server, and lets it wait for the copy before it confirms a commit.
    fn add_standby(&self) -> Result<(), Failure> {
        let (primary, standby) = (self.primary.get(), 1 - self.primary.get());
        let mut copy = self.program("pg_basebackup")?;
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "-d",
            &url_at(self.ports[primary]),
            "-D",
        ]);
        run(copy.arg(self.data(standby)))?;
        self.control(standby, &["-w", "start"])?;
        self.reload("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.wait_for_standby()
    }

    /// Changes a setting of the server.
    fn reload(&self, setting: &str) -> Result<(), Failure> {
        execute(&url_at(self.ports[self.primary.get()]), &[setting, "SELECT pg_reload_conf()"])
    }

    /// Waits until the standby has all that the server has, and the server waits for it.
    fn wait_for_standby(&self) -> Result<(), Failure> {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        let deadline = Instant::now() + PATIENCE;
        while number(&url_at(self.ports[self.primary.get()]), sql)? == 0 {
            if Instant::now() > deadline {
                return Err("the standby does not follow the server".into());
            }
            thread::sleep(POLL_PERIOD);
        }
        Ok(())
    }

    fn data(&self, which: usize) -> PathBuf {
        self.folder.path().join(format!("data-{which}"))
    }

    fn control(&self, which: usize, args: &[&str]) -> Result<(), Failure> {
        // A standby that is cut off looks for its server again at once.
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400 \
             -c wal_retrieve_retry_interval=50",
            self.ports[which]
        );
        let mut command = self.program("pg_ctl")?;
        command.arg("-D").arg(self.data(which)).arg("-l").arg(self.folder.path().join(format!("log-{which}")));
        // A promotion takes no options of the server.
        if !args.contains(&"promote") {
            command.args(["-o", &options]);
        }
        run(command.args(args)).map_err(|error| {
            let log = fs::read_to_string(self.folder.path().join(format!("log-{which}"))).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            format!("{error}\nlast lines of its log, the last one first:\n{}", last.join("\n")).into()
        })
    }

    fn program(&self, name: &str) -> Result<Command, Failure> {
        program(name, self.folder.path())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Harmless if they have not begun.
        let _ = [0, 1].map(|which| self.control(which, &["-m", "immediate", "stop"]));
    }
}

/// A program of PostgreSQL, which Debian keeps off the path.
fn program(name: &str, folder: &Path) -> Result<Command, Failure> {
    let mut found = on_path(name);
    if found.is_none() {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let number = |folder: &Path| folder.file_name().and_then(|name| name.to_str()?.parse::<f64>().ok());
        let programs = versions.map(|version| version.path());
        let programs = programs.map(|folder| (number(&folder), folder.join("bin").join(name)));
        let programs = programs.filter(|(_, path)| path.exists());
        found = programs.max_by(|(a, _), (b, _)| a.unwrap_or(0.0).total_cmp(&b.unwrap_or(0.0))).map(|(_, path)| path);
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

/// The first program of a name on the path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program to its end. What it prints is told if it fails.
fn run(command: &mut Command) -> Result<(), Failure> {
    // A server that is started would keep the pipes of its parent open.
    let mut output = tempfile::tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?).status();
    let status = status.map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    Err(format!("{command:?}: {status}: {text}").into())
}
