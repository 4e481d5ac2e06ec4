//! Charts of lines as SVG, for a page that refers to no other.

use std::fmt::Write;

/// How values become places on an axis.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Scale {
    /// From 0 in equal steps.
    Linear,
    /// Equal factors.
    Log,
    /// Shares below 1, with each further nine as wide as the last.
    Nines,
}

/// What is nearest to 1 on an axis of nines.
const LAST: f64 = 0.999_99;

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(1e-9).log10(),
            Self::Nines => -(1.0 - value.clamp(0.0, LAST)).log10(),
        }
    }
}

/// A line: its name, and its points from left to right.
pub(super) type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Below it.
    pub(super) about: &'a str,
    pub(super) across: Scale,
    /// Marks along the bottom.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) up: Scale,
    /// How a value reads on the left.
    pub(super) reads: fn(f64) -> String,
    pub(super) lines: Vec<Line<'a>>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 250.0;

impl Chart<'_> {
    /// The picture, whose lines have the page's colours `c0`, `c1`, … in their order.
    pub(super) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter().copied());
        let marks = self.marks.iter().map(|(value, _)| self.across.place(*value));
        let (left, right) = range(points().map(|(value, _)| self.across.place(value)).chain(marks));
        let (low, high) = range(points().map(|(_, value)| self.up.place(value)));
        let (low, high) = match self.up {
            Scale::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
            Scale::Linear | Scale::Nines => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
        };
        let x = |value: f64| LEFT + (self.across.place(value) - left) / (right - left).max(1e-9) * (RIGHT - LEFT);
        let y = |place: f64| BOTTOM - (place - low) / (high - low) * (BOTTOM - TOP);
        let title = escape(self.title);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
             <text x=\"{LEFT}\" y=\"18\" class=\"t\">{title}</text>"
        );
        for place in self.steps(low, high) {
            let value = if self.up == Scale::Log { 10f64.powf(place) } else { place };
            let (at, text) = (y(place), (self.reads)(value));
            let _ = write!(svg, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" class=\"g\"/>");
            let _ =
                write!(svg, "<text x=\"{}\" y=\"{:.1}\" class=\"e\">{}</text>", LEFT - 8.0, at + 4.0, escape(&text));
        }
        for (value, text) in &self.marks {
            let text = escape(text);
            let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\" class=\"m\">{text}</text>", x(*value), BOTTOM + 18.0);
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        let _ = write!(svg, "<text x=\"{middle}\" y=\"{}\" class=\"m\">{}</text>", HEIGHT - 12.0, escape(self.about));
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let points: Vec<String> =
                points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(self.up.place(*b)))).collect();
            let (name, points, at) = (escape(name), points.join(" "), RIGHT - 4.0);
            let _ = write!(svg, "<polyline class=\"c{number}\" points=\"{points}\"><title>{name}</title></polyline>");
            let below = TOP + 14.0 + 16.0 * number as f64;
            let _ = write!(svg, "<text x=\"{at}\" y=\"{below}\" class=\"e n{number}\">{name}</text>");
        }
        svg + "</svg>"
    }

    fn steps(&self, low: f64, high: f64) -> Vec<f64> {
        match self.up {
            Scale::Log => (low as i32..=high as i32).map(f64::from).collect(),
            Scale::Linear | Scale::Nines => (0..=4).map(|step| high * f64::from(step) / 4.0).collect(),
        }
    }
}

/// Text that cannot be taken for markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let (across, up) = (Scale::Nines, Scale::Log);
        let (marks, lines) = (vec![(0.99, "99 %".to_owned())], vec![("a <b>", points)]);
        Chart { title: "t", about: "x", across, marks, up, reads: |value| value.to_string(), lines }.draw()
    }

    #[test]
    fn a_chart_keeps_its_lines_inside_and_its_names_harmless() {
        let svg = chart(vec![(0.0, 10.0), (0.99, 1000.0), (1.0, 100_000.0)]);
        assert!(svg.contains("a &lt;b&gt;") && svg.ends_with("</svg>"), "{svg}");
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 3, "{points}");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{point}");
        }
    }

    #[test]
    fn a_chart_of_nothing_or_of_one_point_is_a_chart() {
        for points in [Vec::new(), vec![(0.5, 7.0)]] {
            let svg = chart(points);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
