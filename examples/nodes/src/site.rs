//! [`Sites`]: a new log for each show, in a folder or on a server.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use tempfile::TempDir;

use crate::{Failure, place::Place, server::Server};

/// Where one show takes place.
pub(crate) struct Site {
    pub(crate) log: Place,
    pub(crate) server: Option<Rc<Server>>,
    /// The file of the venue, if the show has one.
    pub(crate) venue: PathBuf,
}

pub(crate) struct Sites {
    folder: TempDir,
    server: Option<Rc<Server>>,
    /// Files or databases of the logs that were made.
    places: Vec<String>,
    made: usize,
}

impl Sites {
    /// Logs in files, or on a server.
    pub(crate) fn new(server: Option<Server>) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        Ok(Self { folder, server: server.map(Rc::new), places: Vec::new(), made: 0 })
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
            return Ok(Site { log: Place::File(log), server: None, venue });
        };
        let name = format!("roundlot_nodes_{}_{}", std::process::id(), self.made);
        let url = server.create(&name)?;
        self.places.push(name);
        Ok(Site { log: Place::Database(url), server: Some(Rc::clone(server)), venue })
    }

    /// Keeps what is there, and returns where.
    pub(crate) fn keep(mut self) -> Vec<String> {
        let server = self.server.take().and_then(|server| Rc::into_inner(server)?.keep());
        let mut kept = std::mem::take(&mut self.places);
        kept.extend(server.map(|folder| folder.display().to_string()));
        self.folder.disable_cleanup(true);
        kept
    }

    /// Removes what was made. An error is what is left.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let server = self.server.as_ref();
        server.into_iter().try_for_each(|server| self.places.iter().try_for_each(|name| server.remove(name)))
    }
}
