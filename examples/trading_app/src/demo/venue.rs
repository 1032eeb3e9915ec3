//! The venue of a run: inside of the app, another program that is named, or one that the app starts beside its log of orders. `main`
//! opens it at the start and ends it at the end. Apps that share a log name their venue, since no app may end it for the others.
//!
//! The app writes the address of a program that it starts into a file beside the log. A run that is killed leaves program and file
//! behind, and the next one finds both. A run that ends in order ends the program, too; its journal stays.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    bot::{
        Error,
        venue::{PaperVenue, RemoteVenue, Venue},
    },
    demo::{progress::Progress, settings::Settings},
    paper_venue::ADDRESS,
};

/// Time after which a program that is left behind ends by itself. Its journal has all that it knows.
const IDLE: &str = "10m";

/// Maximum time until a program that was started has read its journal and listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// The venue of a run.
pub struct Place {
    pub venue: Venue,
    /// The program beside the log, if the app has started it in this run or an earlier one.
    program: Option<Started>,
}

struct Started {
    /// The file with its address.
    record: PathBuf,
    /// The process; `None` if an earlier run has started it.
    child: Option<Child>,
    /// Whether this run ends it. Another run may have the log, and the program with it.
    owned: bool,
}

impl Place {
    /// Finds or starts the venue that the settings name.
    pub async fn open(settings: &Settings, progress: &Progress) -> Result<Self, Error> {
        let (venue, program) = match (&settings.venue.url, &settings.orders.log) {
            (Some(url), _) => {
                let found = RemoteVenue::find(url).await;
                (found.map_err(|error| format!("cannot ask the venue {url}: {error}"))?, None)
            }
            (None, Some(log)) => {
                let file = log.place.file().ok_or(
                    "a log on servers may have bots on several machines, and none starts the venue for all: name one by --venue",
                )?;
                let (venue, program) = beside(file).await?;
                (venue, Some(program))
            }
            (None, None) => {
                let venue = PaperVenue::new(settings.venue.clone(), settings.seed);
                return Ok(Self { venue: venue.into(), program: None });
            }
        };
        progress.say(&format!("{ADDRESS}{}", venue.url()));
        Ok(Self { venue: Venue::Remote(venue), program })
    }

    /// Makes the program this run's own, once it has the log.
    pub fn own(&mut self) {
        if let Some(program) = &mut self.program {
            program.owned = true;
        }
    }

    /// Ends the program, if it is this run's own.
    pub async fn end(self, progress: &Progress) {
        let (Venue::Remote(venue), Some(Started { record, child, owned: true })) = (self.venue, self.program) else {
            return;
        };
        if let Err(error) = venue.stop().await {
            // The next run finds it, or it ends by itself.
            progress.say(&format!("the venue goes on: {error}"));
            return;
        }
        let _ = fs::remove_file(record);
        if let Some(mut child) = child {
            // The program has answered that it ends.
            let _ = timeout(PATIENCE, child.wait()).await;
        }
    }
}

/// Finds the program beside a log, or starts it.
async fn beside(log: &Path) -> Result<(RemoteVenue, Started), Error> {
    let [record, journal] = ["-venue", "-venue.journal"].map(|end| with_end(log, end));
    let wanted = std::path::absolute(&journal)?.display().to_string();
    if let Some(url) = read(&record)?
        && let Ok(venue) = RemoteVenue::find(&url).await
        // Another program may have got the port meanwhile.
        && venue.health().journal.as_ref() == Some(&wanted)
    {
        return Ok((venue, Started { record, child: None, owned: false }));
    }
    let (url, child) = start(&journal).await?;
    let venue = RemoteVenue::find(&url).await?;
    write(&record, &url)?;
    Ok((venue, Started { record, child: Some(child), owned: true }))
}

/// Starts the program with the settings of this run. Returns its address.
async fn start(journal: &Path) -> Result<(String, Child), Error> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).args(["venue", "--idle", IDLE, "--journal"]).arg(journal);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that the Ctrl-C of a terminal leaves it to the app to end the program.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("cannot start the venue: {error}"))?;
    let said = async {
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        if line.is_empty()
            && let Some(stderr) = &mut child.stderr
        {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await?;
            return Err(io::Error::other(text.trim().trim_start_matches("error: ").to_owned()));
        }
        Ok(line)
    };
    let line = timeout(PATIENCE, said).await.map_err(|_| "the venue does not start")??;
    match line.strip_prefix(ADDRESS) {
        Some(url) => {
            // Later messages have no reader, and must not fill a pipe.
            child.stderr = None;
            Ok((url.trim().to_owned(), child))
        }
        None => Err(format!("the venue has not told its address, but {line:?}").into()),
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn read(record: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(record) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", record.display()).into()),
    }
}

fn write(record: &Path, url: &str) -> Result<(), Error> {
    fs::write(record, format!("{url}\n")).map_err(|error| format!("cannot write {}: {error}", record.display()).into())
}
