//! The files of the page, which are in the program, and those of panels. `server` has a route for each.

use std::sync::Arc;

use crate::{
    board::BoardError,
    event::Event,
    panel::{Panel, StopButton},
};

/// A file and its path in a URL.
#[derive(Debug, Clone)]
pub(crate) struct Asset {
    pub(crate) path: String,
    /// Media type of its text.
    pub(crate) kind: &'static str,
    pub(crate) text: &'static str,
}

/// The page, with a gap for the path that it is mounted at, and its files.
#[derive(Debug, Clone)]
pub(crate) struct Assets {
    page: Arc<str>,
    pub(crate) files: Vec<Asset>,
}

pub(crate) const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("assets/page.html");
const STOP: &str = include_str!("assets/stop.html");

/// In the place of the path that the page is mounted at.
const ROOT: &str = "{{root}}";

macro_rules! files {
    ($($file:literal $kind:ident,)*) => {
        [$(($file, $kind, include_str!(concat!("assets/", $file)))),*]
    };
}

const FILES: [(&str, &str, &str); 14] = files![
    "page.css" CSS,
    "chart.css" CSS,
    "page.js" JS,
    "account.js" JS,
    "batcher.js" JS,
    "chart.js" JS,
    "connection.js" JS,
    "controls.js" JS,
    "dom.js" JS,
    "errors.js" JS,
    "figures.js" JS,
    "format.js" JS,
    "histogram.js" JS,
    "scale.js" JS,
];

const STATE: (&str, &str, &str) = ("state.js", JS, include_str!("assets/state.js"));

impl Assets {
    pub(crate) fn new(title: &str, panels: &[Panel], stop: Option<&StopButton>) -> Result<Self, BoardError> {
        let own = FILES.into_iter().chain([STATE]);
        let mut files: Vec<Asset> =
            own.map(|(name, kind, text)| Asset { path: format!("/{name}"), kind, text }).collect();
        for Panel { name, script, style, .. } in panels {
            let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_fit) {
                return Err(BoardError::BadPanel((*name).to_owned()));
            }
            for (end, kind, text) in [("js", JS, script), ("css", CSS, style)] {
                if text.is_empty() {
                    continue;
                }
                let path = format!("/{name}.{end}");
                if files.iter().any(|file| file.path == path) {
                    return Err(BoardError::Taken(format!("{name}.{end}")));
                }
                files.push(Asset { path, kind, text });
            }
        }
        let all = |part: fn(&Panel) -> &str| panels.iter().map(part).collect::<String>();
        let styled = panels.iter().filter(|panel| !panel.style.is_empty());
        let styles = styled.map(|panel| format!("  <link rel=\"stylesheet\" href=\"{ROOT}{}.css\">\n", panel.name));
        let names: Vec<&str> = panels.iter().filter(|panel| !panel.script.is_empty()).map(|panel| panel.name).collect();
        let (button, dialog) = stop.map(stop_parts).unwrap_or_default();
        let gaps = [
            ("{{title}}", escaped(title)),
            ("{{styles}}", styles.collect()),
            ("{{panels}}", names.join(" ")),
            ("{{figures}}", all(|panel| panel.figures)),
            ("{{top}}", all(|panel| panel.top)),
            ("{{bottom}}", all(|panel| panel.bottom)),
            ("{{stop-button}}", button),
            ("{{stop-dialog}}", dialog),
        ];
        let page = gaps.iter().fold(PAGE.to_owned(), |page, (gap, text)| page.replace(gap, text));
        Ok(Self { page: page.into(), files })
    }

    /// The page, as it is mounted at a path.
    pub(crate) fn page(&self, path: &str) -> String {
        let root = escaped(path.trim_end_matches('/'));
        self.page.replace(ROOT, &format!("{root}/"))
    }
}

/// The button that stops the app, and its dialog.
fn stop_parts(stop: &StopButton) -> (String, String) {
    let (button, dialog) = STOP.split_once("\n\n").unwrap_or((STOP, ""));
    let effects: String = stop.effects.iter().map(|effect| format!("      <li>{}</li>\n", escaped(effect))).collect();
    let gaps = [
        ("{{batcher}}", escaped(stop.batcher)),
        ("{{label}}", escaped(stop.label)),
        ("{{question}}", escaped(stop.question)),
        ("{{effects}}", effects),
        ("{{yes}}", escaped(stop.yes)),
        ("{{no}}", escaped(stop.no)),
    ];
    let fill = |text: &str| gaps.iter().fold(text.to_owned(), |text, (gap, words)| text.replace(gap, words));
    (fill(button) + "\n", fill(dialog))
}

/// The text as HTML.
fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        // A gap that a text brings along is none.
        '{' => "&#123;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(letter).collect()
}

/// The topic of an event.
pub(crate) fn topic(event: &Event) -> Arc<str> {
    Arc::clone(&event.topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no script is forgotten in the list of files. Method: each import and each address in the page is a file of it.
    #[test]
    fn the_page_names_only_files_that_are_served() {
        let named = |text: &str, before: &str, after: char| -> Vec<String> {
            let rests = text.split(before).skip(1);
            rests.map(|rest| format!("/{}", rest.split(after).next().unwrap())).collect()
        };
        let assets = Assets::new("", &[], None).unwrap();
        let page = assets.page("/board");
        let mut all = named(&page, "src=\"/board/", '"');
        all.extend(named(&page, "href=\"/board/", '"'));
        assert!(!page.contains("{{"), "{page}");
        for asset in &assets.files {
            all.extend(named(asset.text, " from './", '\''));
        }
        for path in &all {
            assert!(assets.files.iter().any(|asset| asset.path == *path), "{path}");
        }
        for asset in &assets.files {
            assert!(all.contains(&asset.path), "{} is named nowhere", asset.path);
        }
    }

    /// Goal: texts of an app are text on the page. Method: a title and a path with markup.
    #[test]
    fn texts_are_no_markup() {
        let stop = StopButton {
            batcher: "orders",
            label: "<b>Stop</b>",
            question: "Stop?",
            effects: &["a & b"],
            yes: "Yes",
            no: "No",
        };
        let assets = Assets::new("<script>{{root}}", &[], Some(&stop)).unwrap();
        let page = assets.page("/a\"><script>/");
        assert!(page.contains("&lt;script&gt;&#123;&#123;root}}"), "{page}");
        assert!(page.contains("&lt;b&gt;Stop&lt;/b&gt;") && page.contains("<li>a &amp; b</li>"), "{page}");
        assert_eq!(page.matches("<script").count(), 1, "{page}");
    }

    #[test]
    fn a_panel_replaces_no_file() {
        let taken = Assets::new("", &[Panel::new("state").script("x")], None).unwrap_err();
        assert_eq!(taken.to_string(), "the name state.js is taken");
        let bad = Assets::new("", &[Panel::new("a/{b}").script("x")], None).unwrap_err();
        assert!(matches!(bad, BoardError::BadPanel(name) if name == "a/{b}"));
        let panel = Panel::new("money").top("<p>top</p>").figures("<div>lead</div>").script("x").style("y");
        let page = Assets::new("", &[panel], None).unwrap().page("/");
        assert!(page.contains("href=\"/money.css\"") && page.contains("data-panels=\"money\""), "{page}");
        assert!(page.contains("<p>top</p>") && page.contains("<div>lead</div>"));
    }
}
