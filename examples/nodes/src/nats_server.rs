//! [`NatsServer`]: the process of a NATS server of the program's own, which is killed or shut down, and begins again.

use std::{
    cell::RefCell,
    fmt, fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, private::on_path};

/// The variable that names the program.
const PROGRAM: &str = "ROUNDLOT_NATS_SERVER";

/// The oldest version, major and minor, whose replicated streams keep a conditional write exact.
const OLDEST: (u32, u32) = (2, 14);

/// Where the program is to be had.
const ADVICE: &str = "Take 2.14 or later from https://github.com/nats-io/nats-server/releases onto the path, \
    let ROUNDLOT_NATS_SERVER name it, or name servers by --nats URL --ledger URL";

/// Lines of the log of a server that are shown with an error.
const LOG_LINES: usize = 10;

/// The program of a NATS server.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// As the program says it.
    version: String,
}

impl Program {
    /// The program that the environment names, or the path has. An older one is refused.
    pub(crate) fn find() -> Result<Self, Failure> {
        let named = std::env::var_os(PROGRAM).filter(|name| !name.is_empty()).map(PathBuf::from);
        let path = named.or_else(|| on_path("nats-server"));
        let path = path.ok_or_else(|| format!("nats-server is not installed. {ADVICE}"))?;
        let path = path.canonicalize().map_err(|error| format!("{}: {error}. {ADVICE}", path.display()))?;
        let output = Command::new(&path).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}. {ADVICE}", path.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
        match version(&said) {
            Some(version) if version >= OLDEST => {
                let version = said.rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
                Ok(Self { path, version })
            }
            Some(_) => Err(format!("{} is too old: {said}. {ADVICE}", path.display()).into()),
            None => Err(format!("{} does not tell its version, but {said:?}. {ADVICE}", path.display()).into()),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats-server {}", self.version)
    }
}

/// The major and minor version in a line such as `nats-server: v2.14.0`.
fn version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.rsplit(' ').next()?.trim_start_matches('v').split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(crate) struct NatsServer {
    program: Program,
    pub(crate) name: String,
    /// The port of clients.
    pub(crate) port: u16,
    /// The port that tells how the server is.
    pub(crate) monitoring: u16,
    config: PathBuf,
    log: PathBuf,
    /// None before it has begun.
    process: RefCell<Option<Child>>,
}

impl NatsServer {
    /// A server whose settings and log are in a folder. It has not begun.
    pub(crate) fn new(
        program: &Program,
        folder: &Path,
        name: String,
        [port, monitoring]: [u16; 2],
        settings: &str,
    ) -> io::Result<Self> {
        let (config, log) = (folder.join(format!("{name}.conf")), folder.join(format!("{name}.log")));
        let store = folder.join(&name);
        // The text of a path in JSON is one in a configuration, too.
        let text = format!(
            "server_name: \"{name}\"\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitoring}\"\n\
             jetstream {{ store_dir: {}, sync_interval: always }}\n{settings}\n",
            serde_json::Value::from(store.to_string_lossy())
        );
        fs::write(&config, text)?;
        Ok(Self { program: program.clone(), name, port, monitoring, config, log, process: RefCell::new(None) })
    }

    /// Starts the process, which is not ready yet.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program.path);
        command.arg("-c").arg(&self.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A terminal sends its interrupt to a group: the program stops its servers itself.
        let child = command.process_group(0).spawn();
        *self.process.borrow_mut() = Some(child.map_err(|error| format!("{command:?}: {error}"))?);
        Ok(())
    }

    /// Kills the process, and waits for its end.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let mut process = self.process.borrow_mut();
        let Some(child) = process.as_mut() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Lets the process hand its streams over, send its clients away one by one, and end.
    pub(crate) fn enter_lame_duck_mode(&self) -> Result<(), Failure> {
        let process = self.process.borrow();
        let Some(child) = process.as_ref() else { return Ok(()) };
        Ok(kill_process(Pid::from_child(child), Signal::USR2)?)
    }

    /// Whether the process has ended, or has not begun.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let mut process = self.process.borrow_mut();
        process.as_mut().map_or(Ok(true), |child| Ok(child.try_wait()?.is_some()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.borrow().as_ref().map_or(0, Child::id)
    }

    /// An error with the last lines of the log.
    pub(crate) fn failure(&self, text: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        format!("NATS server {} {text}\nlast lines of its log, the last one first:\n{}", self.name, last.join("\n"))
            .into()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // Harmless if it has ended.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("nats-server: v2.14.0"), Some((2, 14)));
        assert_eq!(version("nats-server: v2.15.0-RC.2"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        assert!(version("nats-server: v2.9.10") < Some(OLDEST));
        assert_eq!(version("something else"), None);
        assert_eq!(version(""), None);
    }
}
