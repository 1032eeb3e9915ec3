//! The app, or another program with a board, started for a test, with the address of its page and its token.

use std::{path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

pub struct App {
    /// Ended when this is dropped.
    child: Child,
    folder: TempDir,
    pub address: String,
    pub token: String,
}

/// Returns the path of a program that was built beside the tests.
fn program(name: &str) -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "build it first: cargo build -p trading_app, and the examples of roundlot-board");
    program
}

impl App {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0", tempfile::tempdir().unwrap()).await
    }

    /// The program that has nothing but two batchers and a board.
    pub async fn mounted() -> Self {
        let mut command = Command::new(program("examples/mounted"));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Self::spawn(command, tempfile::tempdir().unwrap()).await
    }

    async fn start_at(address: &str, folder: TempDir) -> Self {
        let mut command = Command::new(program("trading_app"));
        command.args(["--seconds", "0", "--page", address]).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::spawn(command, folder).await
    }

    /// Starts a program that prints its address and its token.
    async fn spawn(mut command: Command, folder: TempDir) -> Self {
        let mut child = command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let output: Box<dyn AsyncRead + Send + Unpin> = match (child.stderr.take(), child.stdout.take()) {
            (Some(stderr), _) => Box::new(stderr),
            (None, stdout) => Box::new(stdout.unwrap()),
        };
        let mut lines = BufReader::new(output).lines();
        let (mut address, mut token) = (None, None);
        while address.is_none() || token.is_none() {
            let line = lines.next_line().await.unwrap().expect("the app ended before it served the page");
            let said = |name: &str| line.strip_prefix(name).map(|rest| rest.trim().to_owned());
            address = address.or(said("page "));
            token = token.or(said("token "));
        }
        // The rest of the app's output is read, so that the app never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, folder, address: address.unwrap(), token: token.unwrap() }
    }

    /// Asks this run to end, as an operator would.
    pub async fn terminate(&self) {
        let id = self.child.id().expect("the app ended before it was asked to").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    /// Kills this run, so that another one can start on the same address.
    pub async fn stop(self) -> Stopped {
        let Self { mut child, folder, address, token } = self;
        child.kill().await.unwrap();
        Stopped { folder, address, token }
    }
}

/// An app that has stopped.
pub struct Stopped {
    folder: TempDir,
    pub address: String,
    pub token: String,
}

impl Stopped {
    pub async fn start_again(self) -> App {
        let address = self.address.trim_start_matches("http://").trim_end_matches('/');
        App::start_at(address, self.folder).await
    }
}
