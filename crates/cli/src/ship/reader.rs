//! The thread that reads the files.

use std::io;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::state::Entry;
use super::tails::{Line, Tails};

/// How many records are read ahead.
const AHEAD: usize = 4_000;
/// How often it is looked which files there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the thread tells.
pub(super) enum Told {
    Line(Line),
    /// It has looked around.
    Looked(Looked),
}

/// What there is to be said after a look.
pub(super) struct Looked {
    pub(super) news: Vec<String>,
    /// What cannot be read just now: a name, and why.
    pub(super) troubles: Vec<(String, String)>,
    pub(super) ignored: usize,
    pub(super) shortened: u64,
    /// Lines whose end has not come.
    pub(super) unfinished: usize,
    /// What an earlier run has left of files that are not there.
    pub(super) earlier: Vec<Entry>,
}

/// The other end of the thread.
pub(super) struct Reading {
    pub(super) told: mpsc::Receiver<Told>,
    /// Dropped, it ends the thread.
    pub(super) stop: std_mpsc::Sender<()>,
}

/// Starts it. With `once` it ends when all is read, and says whether lines without an end are lines, too.
pub(super) fn spawn(tails: Tails, once: Option<bool>, poll: Duration) -> io::Result<Reading> {
    let (teller, told) = mpsc::channel(AHEAD);
    let (stop, stopped) = std_mpsc::channel();
    let reader = Reader {
        tails,
        teller,
        stopped,
        poll,
    };
    let name = "ship-reader".to_owned();
    thread::Builder::new().name(name).spawn(move || {
        // Who does not listen any more has ended it.
        let _ = match once {
            Some(unfinished) => reader.read_once(unfinished),
            None => reader.follow(),
        };
    })?;
    Ok(Reading { told, stop })
}

struct Reader {
    tails: Tails,
    teller: mpsc::Sender<Told>,
    stopped: std_mpsc::Receiver<()>,
    poll: Duration,
}

/// Nobody listens any more.
struct Ended;

impl Reader {
    fn follow(mut self) -> Result<(), Ended> {
        let mut looked: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if looked.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY) {
                self.look(now)?;
                looked = Some(now);
            }
            let has_come = self.read(now)?;
            let wait = match has_come {
                true => Duration::ZERO,
                false => self.poll,
            };
            match self.stopped.recv_timeout(wait) {
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                _ => return Ok(()),
            }
        }
    }

    fn read_once(mut self, unfinished: bool) -> Result<(), Ended> {
        let now = Instant::now();
        self.look(now)?;
        while self.read(now)? {
            if !matches!(self.stopped.try_recv(), Err(std_mpsc::TryRecvError::Empty)) {
                return Ok(());
            }
        }
        let mut lines = Vec::new();
        self.tails.finish(now, unfinished, &mut lines);
        self.tell(lines)?;
        self.tell_looked()
    }

    fn look(&mut self, now: Instant) -> Result<(), Ended> {
        let mut lines = Vec::new();
        self.tails.look(now, &mut lines);
        self.tell(lines)?;
        self.tell_looked()
    }

    fn tell(&self, lines: Vec<Line>) -> Result<(), Ended> {
        lines.into_iter().try_for_each(|line| {
            let told = self.teller.blocking_send(Told::Line(line));
            told.map_err(|_| Ended)
        })
    }

    fn tell_looked(&mut self) -> Result<(), Ended> {
        let notices = &mut self.tails.notices;
        let troubles = notices.troubles.iter();
        let troubles = troubles.map(|(path, why)| (path.display().to_string(), why.clone()));
        let looked = Looked {
            news: std::mem::take(&mut notices.news),
            troubles: troubles.collect(),
            ignored: notices.ignored.len(),
            shortened: notices.shortened,
            unfinished: self.tails.unfinished(),
            earlier: self.tails.earlier(),
        };
        let told = self.teller.blocking_send(Told::Looked(looked));
        told.map_err(|_| Ended)
    }

    fn read(&mut self, now: Instant) -> Result<bool, Ended> {
        let mut is_heard = true;
        let teller = &self.teller;
        let has_come = self.tails.read(now, &mut |line| {
            is_heard = teller.blocking_send(Told::Line(line)).is_ok();
            is_heard
        });
        match is_heard {
            true => Ok(has_come),
            false => Err(Ended),
        }
    }
}
