//! The state of the bot for the page's own panels. Twice a second [`Sampler`] publishes the portfolio, the latest verdicts and what the bot
//! trades. `page` runs it as a task.

use std::{path::Path, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    equity::{self, Curve},
    event::{Bot, Event, Leads},
    ticker::Ticker,
};
use crate::{
    bot::{portfolio::Portfolio, shards::Shards},
    demo::{format, settings::Settings},
};

const PERIOD: Duration = Duration::from_millis(500);

pub struct Sampler {
    pub ticker: Ticker,
    pub portfolio: Portfolio,
    pub shards: Shards,
    /// Facts that stay the same during a run.
    pub facts: Bot,
    /// Canceled when the app has drained.
    pub done: CancellationToken,
}

/// Facts about the bot that stay the same during a run.
pub fn facts(settings: &Settings, feed: String, database: &str) -> Bot {
    // The page shows no folder, since not every viewer may know it.
    let database = Path::new(database).file_name().map_or_else(String::new, |name| name.display().to_string());
    let shards = settings.orders.log.as_ref().map(|log| log.shards).filter(|shards| *shards > 1);
    let leads = shards.map(|shards| Leads { shards, ..Leads::default() });
    Bot { feed, database, leads, ..Bot::default() }
}

impl Sampler {
    /// Publishes until the app has drained, and then its last state.
    pub async fn run(self) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut curve = Curve::new(PERIOD.as_secs_f64());
        while self.done.run_until_cancelled(clock.tick()).await.is_some() {
            self.publish(&mut curve);
        }
        self.publish(&mut curve);
    }

    fn publish(&self, curve: &mut Curve) {
        self.ticker.publish(&Event::Bot(Box::new(self.bot())));
        self.ticker.publish(&Event::Verdicts(Box::new(self.ticker.verdicts())));
        let statement = self.portfolio.statement();
        if let Some(equity) = curve.add(equity::equity(&statement)) {
            self.ticker.publish(&Event::Equity(equity));
        }
        self.ticker.publish(&Event::Positions(Box::new(equity::positions(&statement))));
    }

    fn bot(&self) -> Bot {
        let taken = self.shards.taken();
        let of_log = |leads: &Leads| Leads { led: taken.leads.clone(), takeovers: taken.takeovers, ..*leads };
        Bot {
            leads: self.facts.leads.as_ref().map(of_log),
            portfolio: format::money(self.portfolio.value()),
            fills: self.portfolio.fills(),
            ..self.facts.clone()
        }
    }
}
