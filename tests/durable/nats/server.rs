//! A NATS server of a test's own. Its program is on the path, or named in the environment, as `tests/run.sh` does.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// How long a server may take to begin: a machine may have much else to do.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// A server with JetStream, which ends with this.
pub(crate) struct Server {
    directory: TempDir,
    /// `None` while it is down.
    process: Option<Child>,
    /// Ports of clients and of monitoring; 0 until it has begun.
    ports: (u16, u16),
    settings: String,
}

impl Server {
    /// A server that syncs what it confirms.
    pub(crate) async fn new() -> Self {
        Self::with("jetstream { store_dir: \"STORE\", sync_interval: always }").await
    }

    /// A server with these settings, in which STORE stands for the folder of its streams.
    pub(crate) async fn with(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings.to_owned();
        let mut server = Self { directory, process: None, ports: (0, 0), settings };
        server.start().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.0)
    }

    pub(crate) fn monitoring(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.1)
    }

    /// The folder of its streams.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("streams")
    }

    /// Is killed, and begins with other settings.
    pub(crate) async fn restart_with(&mut self, settings: &str) {
        self.kill();
        self.settings = settings.to_owned();
        self.start().await;
    }

    fn write_settings(&self) -> PathBuf {
        let port = |port: u16| if port == 0 { "-1".to_owned() } else { port.to_string() };
        let folder = self.directory.path();
        let config = format!(
            "server_name: test\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\nports_file_dir: \"{}\"\n{}\n",
            port(self.ports.0),
            port(self.ports.1),
            folder.display(),
            self.settings.replace("STORE", &self.store().display().to_string())
        );
        let path = folder.join("nats.conf");
        std::fs::write(&path, config).unwrap();
        path
    }

    /// Begins, at the same ports as before.
    pub(crate) async fn start(&mut self) {
        let (path, folder) = (self.write_settings(), self.directory.path());
        let program = std::env::var("ROUNDLOT_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let mut command = Command::new(&program);
        command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().expect("nats-server 2.14 or later is on the path, or named by ROUNDLOT_NATS_SERVER");
        // The file has the name of the program.
        let stem = Path::new(&program).file_name().unwrap().to_string_lossy().into_owned();
        let ports = folder.join(format!("{stem}_{}.ports", process.id()));
        self.process = Some(process);
        self.ports = tokio::time::timeout(BEGINS_WITHIN, ports_in(&ports)).await.expect("the server begins");
    }

    /// Kills it. What it has not synced is not lost, since the machine goes on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The ports in the file that a server writes when it has begun.
async fn ports_in(path: &Path) -> (u16, u16) {
    let port = |ports: &Value, kind: &str| -> Option<u16> {
        ports[kind][0].as_str()?.rsplit(':').next()?.trim_end_matches('/').parse().ok()
    };
    loop {
        let ports = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if let Some(ports) = ports
            && let (Some(clients), Some(monitoring)) = (port(&ports, "nats"), port(&ports, "monitoring"))
        {
            return (clients, monitoring);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
