//! [`Panel`]: a part of the page that an app adds; and [`StopButton`], which the app gives a meaning.

/// A part of the page that an app adds: its HTML, its script and its style, which are served with those of the board.
///
/// The script is an ES module that exports `start()`, and is loaded before the first event comes. It imports what it needs from the files of
/// the board: `keep` and `on` of `./state.js`, to keep events of its kinds and to draw them, and helpers of `./dom.js`, `./format.js` and
/// `./chart.js`.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    pub(crate) name: &'static str,
    pub(crate) figures: &'static str,
    pub(crate) top: &'static str,
    pub(crate) bottom: &'static str,
    pub(crate) script: &'static str,
    pub(crate) style: &'static str,
}

impl Panel {
    /// A panel whose files are `name.js` and `name.css`.
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// HTML before the figures of the run: elements `div` of a definition list.
    #[must_use]
    pub fn figures(self, html: &'static str) -> Self {
        Self { figures: html, ..self }
    }

    /// HTML above the batchers.
    #[must_use]
    pub fn top(self, html: &'static str) -> Self {
        Self { top: html, ..self }
    }

    /// HTML below the batchers and their account.
    #[must_use]
    pub fn bottom(self, html: &'static str) -> Self {
        Self { bottom: html, ..self }
    }

    /// The script.
    #[must_use]
    pub fn script(self, javascript: &'static str) -> Self {
        Self { script: javascript, ..self }
    }

    /// The style, which holds instead of the board's.
    #[must_use]
    pub fn style(self, css: &'static str) -> Self {
        Self { style: css, ..self }
    }
}

/// A button that stops the app, and asks once more. It sends the action [`Withdraw`](crate::Action::Withdraw) to a batcher, and the
/// [`Control`](crate::Control) of the app says what that means. All texts are text, not HTML.
#[derive(Debug, Clone)]
pub struct StopButton {
    /// The batcher that is stopped.
    pub batcher: &'static str,
    /// The words on the button.
    pub label: &'static str,
    /// The question.
    pub question: &'static str,
    /// Effects, a line each.
    pub effects: &'static [&'static str],
    /// The words on the button that does it.
    pub yes: &'static str,
    /// The words on the button that does not.
    pub no: &'static str,
}
