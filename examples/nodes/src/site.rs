//! [`Sites`]: a new log for each show, in a folder or on a server.

use std::{
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};

use tempfile::TempDir;

use crate::{Failure, nats::Nats, place::Place, server::Server};

/// The name of a log that has its file or database alone.
const NAME: &str = "orders";

/// Where one show takes place.
pub(crate) struct Site {
    /// The log, or its ledger if the log is on NATS servers.
    pub(crate) log: Place,
    /// The name of the log, of which NATS servers have several.
    pub(crate) name: String,
    pub(crate) server: Option<Rc<Server>>,
    pub(crate) nats: Option<Rc<Nats>>,
    /// The file of the venue, if the show has one.
    pub(crate) venue: PathBuf,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nats {
            Some(nats) => write!(f, "{nats}, with the ledger in {}", self.log),
            None => self.log.fmt(f),
        }
    }
}

pub(crate) struct Sites {
    folder: TempDir,
    server: Option<Rc<Server>>,
    nats: Option<Rc<Nats>>,
    /// Files or databases of the logs that were made.
    places: Vec<String>,
    made: usize,
}

impl Sites {
    /// Logs in files, or on a server, or on NATS servers with their ledgers on a server.
    pub(crate) fn new(server: Option<Server>, nats: Option<Nats>) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        Ok(Self { folder, server: server.map(Rc::new), nats: nats.map(Rc::new), places: Vec::new(), made: 0 })
    }

    /// Whether the logs are in files.
    pub(crate) fn are_files(&self) -> bool {
        self.server.is_none()
    }

    /// The next log: in a file of the user's, if one is named.
    pub(crate) fn next(&mut self, named: Option<&Path>) -> Result<Site, Failure> {
        self.made += 1;
        let in_folder = || self.folder.path().join(format!("orders-{}.db", self.made));
        let log = named.map_or_else(in_folder, Path::to_owned);
        let venue = log.with_extension("venue");
        let Some(server) = &self.server else {
            self.places.push(log.display().to_string());
            return Ok(Site { log: Place::File(log), name: NAME.to_owned(), server: None, nats: None, venue });
        };
        let database = format!("roundlot_nodes_{}_{}", std::process::id(), self.made);
        let log = Place::Database(server.create(&database)?);
        let (server, nats) = (Some(Rc::clone(server)), self.nats.clone());
        let name = if nats.is_some() { database.clone() } else { NAME.to_owned() };
        self.places.push(database);
        Ok(Site { log, name, server, nats, venue })
    }

    /// Keeps what is there, and returns where.
    pub(crate) fn keep(mut self) -> Vec<String> {
        let server = self.server.take().and_then(|server| Rc::into_inner(server)?.keep());
        let nats = self.nats.take().and_then(|nats| Rc::into_inner(nats)?.keep());
        let mut kept = std::mem::take(&mut self.places);
        kept.extend(server.into_iter().chain(nats).map(|folder| folder.display().to_string()));
        self.folder.disable_cleanup(true);
        kept
    }

    /// Removes what was made. An error is what is left.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let server = self.server.as_ref();
        server.into_iter().try_for_each(|server| self.places.iter().try_for_each(|name| server.remove(name)))
    }
}
