//! Line plots as SVG, for the pages of reports.

use plotters::coord::ranged1d::{KeyPointHint, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 420);
/// Told apart by people who see few colours, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Equal steps multiply.
    Log,
    /// Shares of all from 0 on: equal steps add a nine.
    Nines,
}

/// An axis.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) scale: Scale,
}

/// One line, in the units of the axes.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) caption: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
            Self::Nines => -(1.0 - value).max(1e-9).log10(),
        }
    }

    /// The text at a place of the axis.
    fn label(self, place: f64) -> String {
        match self {
            Self::Linear => short(place),
            Self::Log => short(10f64.powf(place)),
            Self::Nines => match place.round() as usize {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                nines => format!("99.{} %", "9".repeat(nines - 2)),
            },
        }
    }

    /// From where to where an axis goes that shows all these places, with `room` above them.
    fn range(self, places: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
        let (low, high) =
            places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p), h.max(p)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        match self {
            Self::Linear => (0.0, if high > 0.0 { high * room } else { 1.0 }),
            Self::Nines => (0.0, high.ceil().max(1.0)),
            Self::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
        }
    }
}

/// A range with labels where they say something: whole powers and nines, else round numbers.
struct Places {
    scale: Scale,
    range: (f64, f64),
}

impl Ranged for Places {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.0) / (self.range.1 - self.range.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let (low, high) = self.range;
        match self.scale {
            Scale::Linear => {
                let step = round_step((high - low) / hint.max_num_points().clamp(1, 8) as f64);
                let count = ((high - low) / step).floor() as u32;
                (0..=count).map(|n| low + f64::from(n) * step).collect()
            }
            _ => (low as i32..=high as i32).map(f64::from).collect(),
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Places {
    fn format_ext(&self, place: &f64) -> String {
        self.scale.label(*place)
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power * 10.0)
}

/// 12000 as 12k.
fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (unit, name) =
        UNITS.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    let scaled = value / unit;
    // Three digits that count, without zeros at the end.
    let digits = if scaled == 0.0 { 0 } else { (2 - scaled.abs().log10().floor() as i32).max(0) };
    let text = format!("{scaled:.*}", digits as usize);
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{name}")
}

impl Chart {
    /// The plot.
    pub(crate) fn svg(&self) -> String {
        let mut out = String::new();
        let drawn = self.draw(SVGBackend::with_string(&mut out, SIZE));
        drawn.expect("drawing into a string does not fail");
        out
    }

    fn draw(
        &self,
        backend: SVGBackend<'_>,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'_> as DrawingBackend>::ErrorType>> {
        let lines: Vec<(&str, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|line| {
                let place = |(x, y): &(f64, f64)| (self.x.scale.place(*x), self.y.scale.place(*y));
                (line.name.as_str(), line.points.iter().map(place).collect())
            })
            .collect();
        let places = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        let (x, y) = (self.x.scale, self.y.scale);
        // The names of the lines stand above the lines.
        let room = 1.0 / (1.0 - (0.04 + 0.06 * lines.len() as f64).min(0.6));
        let x = Places { scale: x, range: x.range(places().map(|point| point.0), 1.02) };
        let y = Places { scale: y, range: y.range(places().map(|point| point.1), room) };
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .margin_right(34)
            .caption(self.title, ("sans-serif", 20))
            .x_label_area_size(48)
            .y_label_area_size(68)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .label_style(("sans-serif", 14))
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .draw()?;
        for ((name, points), colour) in lines.into_iter().zip(COLOURS.into_iter().cycle()) {
            let few = points.len() <= 16;
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            if few {
                let dots = points.into_iter().map(|point| Circle::new(point, 4, colour.filled()));
                chart.draw_series(dots)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .label_font(("sans-serif", 14))
            .draw()?;
        area.present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_exact() {
        for (value, text) in [
            (0.0, "0"),
            (12_000.0, "12k"),
            (2.5, "2.5"),
            (0.02, "0.02"),
            (1e9, "1G"),
            (950.0, "950"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(Scale::Nines.label(Scale::Nines.place(0.999)), "99.9 %");
        assert_eq!(Scale::Nines.label(Scale::Nines.place(0.9999)), "99.99 %");
        assert_eq!(Scale::Log.label(3.0), "1k");
        assert_eq!([round_step(0.3), round_step(12.0), round_step(200.0)], [0.5, 20.0, 200.0]);
    }

    #[test]
    fn a_plot_has_its_lines_and_needs_nothing_from_elsewhere() {
        let line =
            |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.into() };
        let chart = Chart {
            title: "over time",
            caption: String::new(),
            x: Axis { name: "seconds", scale: Scale::Linear },
            y: Axis { name: "posts", scale: Scale::Log },
            lines: vec![line("one", &[(0.0, 10.0), (1.0, 100.0)]), line("none", &[])],
        };
        let svg = chart.svg();
        for part in ["<svg", "over time", "seconds", "one", "polyline", "circle", "</svg>"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let elsewhere = svg.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http"), "{svg}");
    }
}
