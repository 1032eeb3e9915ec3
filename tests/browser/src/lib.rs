//! Nothing: what is here are tests, in `tests/`, that need a browser.
