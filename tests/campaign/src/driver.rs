//! The driver: starts victims on one log after the other, kills them, and lets the judge decide.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    journal::Journal,
    judge::Judge,
    plan::{Bent, Failpoint, LOG, Plan, Sort},
    report::Report,
    rows,
    said::Said,
    wire::Line,
};

/// Kills on one log, before it is drained and judged.
const KILLS_PER_LOG: u64 = 20;

/// Kills after which the counts are shown.
const SHOWN_EVERY: u64 = 1000;

/// How long a victim may take to come to its failpoint.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long the last life may take between two commits until it has drained the log. A machine that is busy with other things may take a
/// second for each.
const DRAIN: Duration = Duration::from_secs(60);

/// How often that time may be over before the log counts as one that does not drain.
const DRAINS: u32 = 10;

/// A horizon that is over before the next life, and the default.
const HORIZONS: [u64; 2] = [150, 3_600_000];

pub(crate) struct Campaign {
    pub(crate) sorts: Vec<Sort>,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    /// The folder in which each log has its own.
    pub(crate) folder: PathBuf,
    pub(crate) report: Report,
}

impl Campaign {
    /// Kills as often as it is to. An error is a promise that was broken, or a victim that failed.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        let (mut log, mut shown) = (0, 0);
        while self.report.kills() < self.kills {
            let sort = self.sorts[log as usize % self.sorts.len()];
            let kills = KILLS_PER_LOG.min(self.kills - self.report.kills());
            let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(log);
            let folder = self.folder.join(format!("log-{log}"));
            fs::create_dir_all(&folder)?;
            let mut round = Round::new(sort, seed, folder.clone())?;
            round.run(kills, &mut self.report).map_err(|error| -> Failure {
                let seed = round.seed;
                format!("{error}\nlog {log}, {}, seed {seed}, kept in {}", sort.name(), folder.display()).into()
            })?;
            drop(round);
            fs::remove_dir_all(&folder)?;
            log += 1;
            if self.report.kills() / SHOWN_EVERY > shown {
                shown = self.report.kills() / SHOWN_EVERY;
                println!("{}", self.report);
            }
        }
        Ok(())
    }
}

/// A process that ends with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lives on one log.
struct Round {
    sort: Sort,
    seed: u64,
    random: fastrand::Rng,
    folder: PathBuf,
    horizon: u64,
    shards: u16,
    journal: Journal,
    life: u64,
    _destination: Owned,
}

/// How a life ended.
struct Death {
    status: ExitStatus,
    /// Whether the driver has killed it.
    was_killed: bool,
    said: Vec<Said>,
}

impl Round {
    fn new(sort: Sort, seed: u64, folder: PathBuf) -> Result<Self, Failure> {
        let mut random = fastrand::Rng::with_seed(seed);
        let horizon = HORIZONS[usize::from(random.u8(0..4) > 0)];
        let shards = if random.u8(0..3) == 0 { 3 } else { 1 };
        let destination = start_destination(&folder, sort, random.u64(..))?;
        let journal = Journal::default();
        Ok(Self { sort, seed, random, folder, horizon, shards, journal, life: 0, _destination: destination })
    }

    fn run(&mut self, kills: u64, report: &mut Report) -> Result<(), Failure> {
        let mut killed = 0;
        while killed < kills {
            let plan = self.draw(report);
            let limit = match plan.failpoint {
                Some(_) => PATIENCE,
                None if plan.bent == Bent::Leave => Duration::from_secs(10),
                None => Duration::from_millis(self.random.u64(3..500)),
            };
            let death = self.live(&plan, limit)?;
            let facts = self.journal.read(self.life, death.said);
            report.life(self.sort, facts, &plan);
            match death.status.signal() {
                Some(9) => {
                    killed += 1;
                    let hit = plan.failpoint.filter(|_| !death.was_killed).map(|(failpoint, _)| failpoint);
                    report.kill(self.sort, hit);
                }
                None if facts.has_left && death.status.success() => {}
                _ => return Err(self.failed(death.status)),
            }
            self.fail_on(self.journal.contradictions.clone())?;
        }
        self.finish(report)
    }

    /// Drains the log, and judges.
    fn finish(&mut self, report: &mut Report) -> Result<(), Failure> {
        let mut plan = self.draw(report);
        (plan.failpoint, plan.again, plan.ids) = (None, Vec::new(), Some(self.journal.ids()));
        let death = self.live(&plan, DRAIN)?;
        if !death.status.success() {
            return Err(self.failed(death.status));
        }
        let facts = self.journal.read(self.life, death.said);
        report.life(self.sort, facts, &plan);
        let lines = match self.sort {
            Sort::Transactional => rows::read(&self.folder.join(LOG), &self.journal.marks)?,
            _ => arrivals(&self.folder)?,
        };
        report.log(self.sort, &self.journal, &lines);
        let keeps_outcomes = self.horizon > 1_000_000;
        self.fail_on(Judge::new((self.sort, self.shards), &self.journal, keeps_outcomes).judge(&lines))
    }

    fn fail_on(&self, violations: Vec<String>) -> Result<(), Failure> {
        if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
    }

    fn failed(&self, status: ExitStatus) -> Failure {
        let text = fs::read_to_string(self.stderr()).unwrap_or_default();
        format!("life {} ended by itself with {status}: {text}", self.life).into()
    }

    fn stderr(&self) -> PathBuf {
        self.folder.join(format!("life-{}.txt", self.life))
    }

    /// Draws the next life.
    fn draw(&mut self, report: &Report) -> Plan {
        self.life += 1;
        let random = &mut self.random;
        let failpoint = (random.u8(0..3) > 0).then(|| {
            let failpoint = report.rarest(self.sort, random);
            let most: u64 = match &*failpoint.step {
                "append" | "commit" | "mark" | "intent" | "write" | "transaction" | "settlement" | "outcome" => 60,
                "pause" | "withdrawal" | "requeue" | "discard" => 3,
                _ => 1,
            };
            (failpoint, random.u64(1..=most))
        });
        let bent = match failpoint.as_ref().map(|(failpoint, _)| &*failpoint.step) {
            Some("pause") => Bent::Pause,
            Some("withdrawal") => Bent::Withdraw,
            Some("requeue") => Bent::Requeue,
            Some("discard") => Bent::Discard,
            Some("vacuum") => Bent::Idle,
            Some("close") => Bent::Leave,
            None if random.u8(0..6) == 0 => Bent::Leave,
            _ => Bent::Mixed,
        };
        Plan {
            folder: self.folder.clone(),
            sort: self.sort,
            life: self.life,
            seed: random.u64(..),
            bent,
            failpoint,
            horizon: self.horizon,
            shards: self.shards,
            again: self.journal.again(random),
            ids: None,
        }
    }

    /// Starts a victim, and waits until it has ended or is killed.
    fn live(&mut self, plan: &Plan, limit: Duration) -> Result<Death, Failure> {
        let path = self.folder.join("plan.json");
        fs::write(&path, serde_json::to_vec(plan)?)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("victim")
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(File::create(self.stderr())?)
            .spawn()?;
        let out = child.stdout.take().ok_or("the victim has no output")?;
        let reader = thread::spawn(move || read(BufReader::new(out)));
        let mut child = Owned(child);
        let (mut deadline, mut was_killed) = (Instant::now() + limit, false);
        let (mut mark, mut left) = (self.mark(), DRAINS);
        let status = loop {
            if let Some(status) = child.0.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                if plan.ids.is_some() {
                    let now = self.mark();
                    if left > 0 && now != mark {
                        (mark, left, deadline) = (now, left - 1, Instant::now() + limit);
                        continue;
                    }
                    return Err(format!("the last life did not drain the log within {limit:?}").into());
                }
                child.0.kill()?;
                was_killed = true;
                break child.0.wait()?;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let said = reader.join().map_err(|_| "the reader panicked")?;
        self.keep(&said)?;
        Ok(Death { status, was_killed, said })
    }

    /// Changes with each commit.
    fn mark(&self) -> Vec<u8> {
        // Without a file nothing has been committed.
        fs::read(self.folder.join("orders.db-mark")).unwrap_or_default()
    }

    /// Keeps what a life has told, for those who look into a failure.
    fn keep(&self, said: &[Said]) -> Result<(), Failure> {
        let mut file = File::options().create(true).append(true).open(self.folder.join("told"))?;
        let mut lines = format!("life {}\n", self.life).into_bytes();
        for said in said {
            lines.extend(serde_json::to_vec(said)?);
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        Ok(())
    }
}

/// Reads the lines of a victim. The last one is left out if the kill has cut it.
fn read(mut out: impl BufRead) -> Vec<Said> {
    let (mut said, mut line) = (Vec::new(), Vec::new());
    while out.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        said.extend(serde_json::from_slice::<Said>(&line).ok().filter(|_| line.ends_with(b"\n")));
        line.clear();
    }
    said
}

fn start_destination(folder: &Path, sort: Sort, seed: u64) -> Result<Owned, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["destination", "--sort", sort.name(), "--seed", &seed.to_string()])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("the destination has no output")?;
    let child = Owned(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    if line.trim() == "ready" { Ok(child) } else { Err("the destination did not start".into()) }
}

/// The journal of the destination.
fn arrivals(folder: &Path) -> Result<Vec<Line>, Failure> {
    let lines = BufReader::new(File::open(folder.join("arrivals"))?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// Counts by failpoint.
pub(crate) type Hits = BTreeMap<Failpoint, u64>;
