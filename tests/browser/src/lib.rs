//! An empty library: the crate has only tests, in `tests/`, that need a browser.
