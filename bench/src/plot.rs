//! Line plots side by side as one SVG, with a logarithmic axis of sizes below each.
//!
//! Spec: <https://www.w3.org/TR/SVG11/>. Light background of its own, so that it reads the same on a dark page.

use std::fmt::Write;

const WIDTH: f64 = 1_180.0;
const HEIGHT: f64 = 400.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 340.0;
/// Left end and width of each plot's area; the room behind it is for the names of its lines.
const AREAS: [(f64, f64); 3] = [(62.0, 350.0), (622.0, 180.0), (900.0, 170.0)];
/// Lines whose names stand at their ends are at least so far apart.
const NAME_PIXELS_MIN: f64 = 15.0;
const COLOURS: [&str; 9] = [
    "#0b5fa5", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e", "#92600a", "#be185d", "#475569",
];

/// How heights follow from values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    Logarithmic,
}

/// A line, with its points from left to right; all values are above zero.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One plot.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub unit: String,
    pub scale: Scale,
    pub series: Vec<Series>,
}

/// Draws up to three panels, which share the meaning of their horizontal axis.
pub fn svg(panels: &[Panel], horizontal: &str) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" \
         fill=\"#1f2933\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (panel, (left, width)) in panels.iter().zip(AREAS) {
        draw(&mut text, panel, left, width, horizontal);
    }
    text.push_str("</svg>\n");
    text
}

/// From a value to its place on an axis.
struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Linear {
            let step = step(self.high);
            return (0..)
                .map(|number| f64::from(number) * step)
                .take_while(|value| *value <= self.high)
                .collect();
        }
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let decades = (first..=last).map(|exponent| 10f64.powi(exponent));
        let inside = |value: &f64| (self.low * 0.999..=self.high * 1.001).contains(value);
        decades.filter(inside).collect()
    }
}

/// Steps of 1, 2 or 5 times a power of ten, four to eight up to `high`.
fn step(high: f64) -> f64 {
    let power = 10f64.powf((high / 4.0).log10().floor());
    [5.0, 2.0, 1.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| high / step >= 4.0)
        .unwrap_or(power)
}

fn axes(panel: &Panel, left: f64, width: f64) -> Option<(Axis, Axis)> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let range =
        |values: &mut dyn Iterator<Item = f64>| values.fold((f64::MAX, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let (first, last) = range(&mut points().map(|point| point.0));
    let (lowest, highest) = range(&mut points().map(|point| point.1));
    if highest <= 0.0 || lowest <= 0.0 || first <= 0.0 {
        return None;
    }
    let horizontal = Axis {
        low: first / 1.25,
        high: last * 1.25,
        scale: Scale::Logarithmic,
        from: left,
        to: left + width,
    };
    let (low, high) = match panel.scale {
        Scale::Linear => (0.0, highest * 1.15),
        Scale::Logarithmic => (10f64.powf(lowest.log10().floor()), 10f64.powf((highest * 1.05).log10().ceil())),
    };
    let vertical = Axis {
        low,
        high,
        scale: panel.scale,
        from: BOTTOM,
        to: TOP,
    };
    Some((horizontal, vertical))
}

fn draw(text: &mut String, panel: &Panel, left: f64, width: f64, horizontal: &str) {
    let right = left + width;
    let middle = left + width / 2.0;
    let _ = writeln!(
        text,
        "<text x=\"{left}\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{left}\" y=\"42\" fill=\"#52606d\">{}</text>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" fill=\"#52606d\">{}</text>",
        escape(&panel.title),
        escape(&panel.unit),
        BOTTOM + 42.0,
        escape(horizontal)
    );
    let Some((across, up)) = axes(panel, left, width) else { return };
    for value in up.ticks() {
        let y = up.place(value);
        let _ = writeln!(
            text,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#e4e7eb\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            short(value)
        );
    }
    let mut sizes: Vec<f64> = panel
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.0))
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        let x = across.place(size);
        let _ = writeln!(
            text,
            "<path d=\"M{x:.1} {BOTTOM}v5\" stroke=\"#52606d\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 20.0,
            short(size)
        );
    }
    let _ = writeln!(
        text,
        "<path d=\"M{left} {TOP}V{BOTTOM}H{right}\" fill=\"none\" stroke=\"#52606d\"/>"
    );
    draw_lines(text, panel, &across, &up);
}

/// The lines, and their names at their right ends, moved apart where they would overlap.
fn draw_lines(text: &mut String, panel: &Panel, across: &Axis, up: &Axis) {
    let mut names = Vec::new();
    for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| (across.place(*x), up.place(*y))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(
            text,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join("L")
        );
        for (x, y) in &places {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        if let Some((_, y)) = places.last() {
            names.push((*y, series.name.as_str(), *colour));
        }
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let room = BOTTOM - NAME_PIXELS_MIN * names.len().saturating_sub(1) as f64;
    let mut lowest = f64::MIN;
    for (number, (y, name, colour)) in names.into_iter().enumerate() {
        let y = y.min(room + NAME_PIXELS_MIN * number as f64).max(lowest + NAME_PIXELS_MIN);
        lowest = y;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            across.to + 6.0,
            y + 4.0,
            escape(name)
        );
    }
}

/// 100k, 5M, 0.5.
fn short(value: f64) -> String {
    let rounded = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value {
        value if value >= 995_000.0 => rounded(value / 1e6, "M"),
        value if value >= 1_000.0 => rounded((value / 1e3 * 10.0).round() / 10.0, "k"),
        value => rounded(value, ""),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use crate::plot::Panel;
    use crate::plot::Scale;
    use crate::plot::Series;
    use crate::plot::short;
    use crate::plot::step;
    use crate::plot::svg;

    #[test]
    fn numbers_are_short_and_steps_round() {
        assert_eq!(
            [0.5, 10.0, 99_123.0, 993_548.0, 5_000_000.0].map(short),
            ["0.5", "10", "99.1k", "993.5k", "5M"]
        );
        assert_eq!([9_000.0, 170.0, 5.0].map(step), [2_000.0, 20.0, 1.0]);
    }

    #[test]
    fn names_do_not_overlap_and_stay_on_the_plot() {
        let series = |number: usize| Series {
            name: format!("line {number}"),
            points: vec![(1e5, 5.0), (1e6, 5.0)],
        };
        let panel = Panel {
            title: "a < b".to_owned(),
            unit: "ms".to_owned(),
            scale: Scale::Logarithmic,
            series: (0..9).map(series).collect(),
        };
        let text = svg(&[panel], "size");
        let heights: Vec<f64> = text
            .lines()
            .filter(|line| line.contains(">line "))
            .filter_map(|line| line.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 9);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 14.9), "{heights:?}");
        assert!(heights.iter().all(|height| (0.0..=346.0).contains(height)), "{heights:?}");
        assert!(text.contains("a &lt; b"));
    }
}
