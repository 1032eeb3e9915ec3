//! The guide: from a first program to several nodes. It contains text and examples alone.
//!
//! | chapter | tells |
//! |---|---|
//! | [`getting_started`] | from an empty program to orders that survive it |
//! | [`stages`] | which rule is for what |
//! | [`limits`] | sizes and times, sizes that adapt, quotas |
//! | [`errors`] | what a failure means, retries, dead letters |
//! | [`order`] | what leaves when, flushes, and the end of a program |
//! | [`chains`] | batchers whose sinks send to other batchers |
#![cfg_attr(feature = "durable", doc = "| [`durable`] | ops that survive the process |")]
#![cfg_attr(feature = "durable", doc = "| [`nodes`] | several machines that share a log |")]
//! | [`recipes`] | orders to a venue, prices to browsers, ticks to a database, and from loops by hand |
//! | [`testing_your_app`] | tests on a paused clock |
//! | [`telemetry`](crate::telemetry) | metrics, spans and events, and what to do about them |
//! | [`questions`] | what people ask |
//! | [`inside`] | how it works |

#[doc = include_str!("chains.md")]
pub mod chains {}
#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
#[doc = include_str!("durable.md")]
pub mod durable {}
#[doc = include_str!("errors.md")]
pub mod errors {}
#[doc = include_str!("getting_started.md")]
pub mod getting_started {}
#[doc = include_str!("inside.md")]
pub mod inside {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
#[doc = include_str!("nodes.md")]
pub mod nodes {}
#[doc = include_str!("order.md")]
pub mod order {}
#[doc = include_str!("questions.md")]
pub mod questions {}
#[doc = include_str!("recipes.md")]
pub mod recipes {}
#[doc = include_str!("stages.md")]
pub mod stages {}
#[doc = include_str!("testing_your_app.md")]
pub mod testing_your_app {}
