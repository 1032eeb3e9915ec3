//! Bar charts of the results as SVG files, readable on light and dark pages. `main` writes them for `--plot`.

use std::path::Path;

use plotters::{
    prelude::{IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text},
    style::{
        Color, IntoFont, RGBColor, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{Error, report::digits};

/// A bar chart in one unit. The longest bar fills the width.
#[derive(Debug)]
pub struct Chart {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// The median of a variant, and the quartiles of its rounds from `low` to `high`.
#[derive(Debug)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The width of the chart, and below it the heights and margins of its parts, in pixels.
const WIDTH: i32 = 900;
const HEAD: i32 = 50;
const LINE: i32 = 30;
const LEFT: i32 = 320;
const RIGHT: i32 = 120;

const PAPER: RGBColor = RGBColor(250, 250, 248);
const INK: RGBColor = RGBColor(40, 40, 40);
const OURS: RGBColor = RGBColor(20, 110, 90);
const THEIRS: RGBColor = RGBColor(160, 165, 170);

impl Chart {
    /// Writes the chart as SVG. Bars whose names begin with roundlot are in colour, all other bars are grey.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let height = HEAD + LINE * self.bars.len() as i32 + 10;
        let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&PAPER)?;
        let text = |size: i32, side: HPos| {
            TextStyle::from(("sans-serif", size).into_font()).color(&INK).pos(Pos::new(side, VPos::Center))
        };
        area.draw(&Text::new(self.title.clone(), (20, HEAD / 2), text(22, HPos::Left)))?;
        let longest = self.bars.iter().map(|bar| bar.high.max(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
        let x = |value: f64| LEFT + (value / longest * f64::from(WIDTH - LEFT - RIGHT)) as i32;
        for (bar, i) in self.bars.iter().zip(0..) {
            let (top, middle) = (HEAD + LINE * i, HEAD + LINE * i + LINE / 2);
            let colour = if bar.name.starts_with("roundlot") { OURS } else { THEIRS };
            area.draw(&Text::new(bar.name.clone(), (LEFT - 10, middle), text(17, HPos::Right)))?;
            area.draw(&Rectangle::new([(LEFT, top + 5), (x(bar.value), top + LINE - 5)], colour.filled()))?;
            area.draw(&PathElement::new([(x(bar.low), middle), (x(bar.high), middle)], INK.stroke_width(2)))?;
            let end = x(bar.value.max(bar.high)) + 10;
            area.draw(&Text::new(readable(bar.value), (end, middle), text(17, HPos::Left)))?;
        }
        Ok(area.present()?)
    }
}

fn readable(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", digits(value / 1e6)),
        value if value >= 1e4 => format!("{} k", digits(value / 1e3)),
        value => digits(value),
    }
}
