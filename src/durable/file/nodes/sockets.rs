//! [`Sockets`]: notices from one process to another, as datagrams to a socket in the folder. A notice that can't be sent at once is
//! dropped: the others look at the file by themselves.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Shards that one notice names. More of them are said by several.
const MAX_KEYS: usize = 256;

/// A word from one process to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The process comes or goes, or has joined or left a log.
    Hello,
    /// The log may hold something new in these shards.
    Changed(Vec<u32>),
    /// All that waits in the shard is to be due.
    Pressed(u32),
    /// The process is the one to lead the shard, and another one does.
    Wanted(u32),
}

impl Notice {
    fn encode(&self) -> Vec<Vec<u8>> {
        let with = |kind: u8, keys: &[u32]| {
            let mut bytes = vec![kind];
            keys.iter().for_each(|key| bytes.extend_from_slice(&key.to_le_bytes()));
            bytes
        };
        match self {
            Self::Hello => vec![with(0, &[])],
            Self::Changed(keys) => keys.chunks(MAX_KEYS).map(|keys| with(1, keys)).collect(),
            Self::Pressed(key) => vec![with(2, &[*key])],
            Self::Wanted(key) => vec![with(3, &[*key])],
        }
    }

    /// `None` if the bytes are no notice, which a newer version may have sent.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, keys) = bytes.split_first()?;
        let keys = keys.chunks(4).map(|key| key.try_into().map(u32::from_le_bytes));
        let keys: Vec<u32> = keys.collect::<Result<_, _>>().ok()?;
        match (kind, &keys[..]) {
            (0, []) => Some(Self::Hello),
            (1, _) => Some(Self::Changed(keys)),
            (2, [key]) => Some(Self::Pressed(*key)),
            (3, [key]) => Some(Self::Wanted(*key)),
            _ => None,
        }
    }
}

/// The result of listening for a while.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Notice(Notice),
    /// Nothing in time, or nothing that can be understood.
    Nothing,
}

pub(super) fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

#[cfg(unix)]
pub(super) use unix::Sockets;

#[cfg(unix)]
mod unix {
    use std::{fs, os::unix::net::UnixDatagram, thread};

    use super::{Duration, Heard, MAX_KEYS, Notice, Path, io, path_of};

    /// Bytes of a notice, at most.
    const MAX_BYTES: usize = 1 + 4 * MAX_KEYS;

    #[derive(Debug)]
    pub(in super::super) struct Sockets {
        /// `None` where there can be none: the path may be too long for the address of a socket.
        ears: Option<UnixDatagram>,
        mouth: Option<UnixDatagram>,
    }

    impl Sockets {
        pub(in super::super) fn bind(folder: &Path, name: &str) -> Self {
            let path = path_of(folder, name);
            let ears = UnixDatagram::bind(&path);
            if let Err(error) = &ears {
                tracing::warn!(path = %path.display(), %error, "other processes are heard once a second: there is no socket");
            }
            let mouth = UnixDatagram::unbound().and_then(|mouth| mouth.set_nonblocking(true).map(|()| mouth));
            Self { ears: ears.ok(), mouth: mouth.ok() }
        }

        pub(in super::super) fn can_hear(&self) -> bool {
            self.ears.is_some()
        }

        pub(in super::super) fn send(&self, folder: &Path, to: &str, notice: &Notice) -> io::Result<()> {
            let Some(mouth) = &self.mouth else { return Ok(()) };
            let path = path_of(folder, to);
            notice.encode().iter().try_for_each(|bytes| mouth.send_to(bytes, &path).map(drop))
        }

        /// Blocks until something is heard, or the time is over.
        pub(in super::super) fn hear(&self, patience: Option<Duration>) -> Heard {
            let Some(ears) = &self.ears else {
                thread::sleep(patience.unwrap_or(Duration::from_secs(1)));
                return Heard::Nothing;
            };
            let mut bytes = [0; MAX_BYTES];
            let heard = ears.set_read_timeout(patience).and_then(|()| ears.recv(&mut bytes));
            match heard.ok().and_then(|count| Notice::decode(&bytes[..count])) {
                Some(notice) => Heard::Notice(notice),
                None => Heard::Nothing,
            }
        }

        /// Wakes the thread that hears, and removes the socket.
        pub(in super::super) fn leave(&self, folder: &Path, name: &str) {
            // The thread looks again in a second at most.
            let _ = self.send(folder, name, &Notice::Hello);
            let _ = fs::remove_file(path_of(folder, name));
        }
    }
}

#[cfg(not(unix))]
pub(super) use elsewhere::Sockets;

/// Where there are no such sockets, processes look at the file each second.
#[cfg(not(unix))]
mod elsewhere {
    use super::{Duration, Heard, Notice, Path, io};

    #[derive(Debug)]
    pub(in super::super) struct Sockets;

    impl Sockets {
        pub(in super::super) fn bind(_folder: &Path, _name: &str) -> Self {
            Self
        }

        pub(in super::super) fn can_hear(&self) -> bool {
            false
        }

        pub(in super::super) fn send(&self, _folder: &Path, _to: &str, _notice: &Notice) -> io::Result<()> {
            Ok(())
        }

        pub(in super::super) fn hear(&self, patience: Option<Duration>) -> Heard {
            std::thread::sleep(patience.unwrap_or(Duration::from_secs(1)));
            Heard::Nothing
        }

        pub(in super::super) fn leave(&self, _folder: &Path, _name: &str) {}
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Goal: notices come as they were sent, and nonsense is not taken for one. Method: each kind, more shards than one datagram
    /// names, a peer that is gone.
    #[test]
    fn notices_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (Sockets::bind(folder.path(), "a"), Sockets::bind(folder.path(), "b"));
        let hear = || b.hear(Some(Duration::from_secs(60)));
        for notice in [Notice::Hello, Notice::Changed(vec![1, u32::MAX]), Notice::Pressed(7), Notice::Wanted(7)] {
            a.send(folder.path(), "b", &notice).unwrap();
            assert_eq!(hear(), Heard::Notice(notice));
        }
        let many: Vec<u32> = (0..300).collect();
        a.send(folder.path(), "b", &Notice::Changed(many.clone())).unwrap();
        assert_eq!(hear(), Heard::Notice(Notice::Changed(many[..256].to_vec())));
        assert_eq!(hear(), Heard::Notice(Notice::Changed(many[256..].to_vec())));
        for nonsense in [&[][..], &[9], &[1, 2], &[2, 0, 0, 0], &[0, 1, 2, 3, 4]] {
            assert_eq!(Notice::decode(nonsense), None);
        }
        b.leave(folder.path(), "b");
        assert_eq!(hear(), Heard::Notice(Notice::Hello), "its own thread is woken");
        assert!(a.send(folder.path(), "b", &Notice::Hello).is_err());
    }
}
