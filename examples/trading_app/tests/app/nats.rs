//! A NATS server of a test's own. Its program is on the path, or named in the environment, as `tests/run.sh` does.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long a server may take to begin: a machine may have much else to do.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// A server that syncs what it confirms, and ends with this.
pub struct Server {
    process: Child,
    /// The URL for clients.
    pub url: String,
    /// The URL for questions of monitoring.
    pub monitoring: String,
    _folder: TempDir,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let config = format!(
            "server_name: test\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\nports_file_dir: \"{path}\"\n\
             jetstream {{ store_dir: \"{path}/streams\", sync_interval: always }}\n"
        );
        let file = folder.path().join("nats.conf");
        fs::write(&file, config).unwrap();
        let program = env::var("ROUNDLOT_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let mut command = Command::new(&program);
        command.arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().expect("nats-server 2.14 or later is on the path, or named by ROUNDLOT_NATS_SERVER");
        // The file of the ports has the name of the program.
        let name = Path::new(&program).file_name().unwrap().display();
        let ports = folder.path().join(format!("{name}_{}.ports", process.id()));
        let mut server = Self { process, url: String::new(), monitoring: String::new(), _folder: folder };
        [server.url, server.monitoring] = urls_in(&ports);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The URLs in the file that a server writes when it has begun.
fn urls_in(path: &Path) -> [String; 2] {
    let until = Instant::now() + BEGINS_WITHIN;
    loop {
        let ports = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let url = |kind: &str| Some(ports.as_ref()?[kind][0].as_str()?.to_owned());
        if let (Some(clients), Some(monitoring)) = (url("nats"), url("monitoring")) {
            return [clients, monitoring];
        }
        assert!(Instant::now() < until, "the server does not begin");
        thread::sleep(Duration::from_millis(10));
    }
}
